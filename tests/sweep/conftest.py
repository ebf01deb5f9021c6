"""What tests of several launchers compare with."""

from pathlib import Path

import pytest

from tests.engines import FORKING
from tests.faults.harness import ablate


@pytest.fixture(scope="session")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a sweep whose runs ran one after the other in the command itself."""
    cwd = tmp_path_factory.mktemp("one_by_one")
    assert ablate(cwd, *FORKING) == 0
    return cwd
