"""Which tests share a worker under `pytest -n 4 --dist loadgroup`.

Tests of a file do where it makes something for all of them (a fixture of scope "module"), and so do all that need
SLURM. All other tests go to whichever worker is free.

Examples of hypothesis have no deadline: on a busy machine the first call of a function can take any time.
"""

import functools
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.tools import ROOT

hypothesis.settings.register_profile("ablate", deadline=None)
hypothesis.settings.load_profile("ablate")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Groups by our own rule: under pytest 9.2, xdist 3.8 does not see its marker xdist_group."""
    return Grouped(config, log)


class Grouped(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.endswith("test_slurm.py"):
            return "slurm"
        return file if shares_fixtures(file) else nodeid


@functools.cache
def shares_fixtures(file: str) -> bool:
    return 'scope="module"' in (ROOT / file).read_text()
