"""Which tests share a worker under `pytest -n 4 --dist loadgroup`: those of a file, and all that need SLURM."""

import pytest

from tests.tools import ROOT


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        needs_slurm = "launcher=slurm" in item.name or item.path.name == "test_slurm.py"
        group = "slurm" if needs_slurm else str(item.path.relative_to(ROOT))
        item.add_marker(pytest.mark.xdist_group(group))
