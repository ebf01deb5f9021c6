"""Which tests share a worker under `pytest -n 4 --dist loadgroup`, and which come first.

Tests of a file share a worker where it makes something for all of them (a fixture of scope "module"), and so do all
that need SLURM. All other tests go to whichever worker is free. Two long files come first, so that no worker is left
alone with them at the end.

Examples of hypothesis have no deadline: on a busy machine the first call of a function can take any time.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.tools import ROOT

hypothesis.settings.register_profile("ablate", deadline=None)
hypothesis.settings.load_profile("ablate")

FIRST = ("test_slurm.py", "test_options.py")
"""Files with much to do that wait for processes of their own: they come first, and the rest fills the waits."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """A wrapper: xdist reads the groups in a hook that would otherwise run before this one."""
    for item in items:
        if group := group_of(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.path.name not in FIRST)
    yield


def group_of(item: pytest.Item) -> str | None:
    if "launcher=slurm" in item.name or item.path.name == "test_slurm.py":
        return "slurm"
    return str(item.path.relative_to(ROOT)) if shares_fixtures(item.path) else None


@functools.cache
def shares_fixtures(file: Path) -> bool:
    return 'scope="module"' in file.read_text()
