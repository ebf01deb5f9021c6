"""Which tests share a worker under `pytest -n 4 --dist loadgroup`: those of a file, and all that need SLURM.

Examples of hypothesis have no deadline: on a busy machine the first call of a function can take any time.
"""

import hypothesis
import pytest

from tests.tools import ROOT

hypothesis.settings.register_profile("ablate", deadline=None)
hypothesis.settings.load_profile("ablate")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        needs_slurm = "launcher=slurm" in item.name or item.path.name == "test_slurm.py"
        group = "slurm" if needs_slurm else str(item.path.relative_to(ROOT))
        item.add_marker(pytest.mark.xdist_group(group))
