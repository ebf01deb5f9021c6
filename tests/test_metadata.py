"""The package's metadata: the Python versions that it names are those for which its pinned dependencies exist."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAMED = [c.split()[-1] for c in PROJECT["project"]["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
DEPENDENCIES = [re.match(r"[\w-]+", each)[0] for each in PROJECT["project"]["dependencies"]]


def test_python_versions_agree():
    minors = [int(version.split(".")[1]) for version in NAMED]
    assert minors == list(range(minors[0], minors[-1] + 1)) and len(minors) > 1
    assert PROJECT["project"]["requires-python"] == f">=3.{minors[0]},<3.{minors[-1] + 1}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py3{minors[0]}"


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_dependencies_exist_for_each_python_version(name):
    """`Requires-Python` of the installed version, which constraints.txt pins."""
    specifiers = pytest.importorskip("packaging.specifiers")
    try:
        allowed = specifiers.SpecifierSet(metadata(name)["Requires-Python"] or "")
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    assert [version for version in NAMED if f"{version}.0" in allowed] == NAMED


def test_the_oldest_version_is_the_oldest_that_works():
    """Control: for the version before, some dependency does not exist."""
    specifiers = pytest.importorskip("packaging.specifiers")
    before = f"3.{int(NAMED[0].split('.')[1]) - 1}.0"
    assert any(before not in specifiers.SpecifierSet(metadata(name)["Requires-Python"] or "") for name in DEPENDENCIES)
