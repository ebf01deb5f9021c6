"""The package: its metadata, the examples in its docstrings, and the names that version 1 had."""

import doctest
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest

import ablate
import analysis

# --- Metadata ---


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
    """`Requires-Python` of the installed version, which constraints.txt pins; hydra-core has none.

    `get`, because `metadata(name)[key]` raises KeyError once a package has imported `importlib_metadata`.
    """
    specifiers = pytest.importorskip("packaging.specifiers")
    try:
        allowed = specifiers.SpecifierSet(metadata(name).get("Requires-Python") or "")
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    assert [version for version in NAMED if f"{version}.0" in allowed] == NAMED


def test_the_oldest_version_is_the_oldest_that_works():
    """Control: for the version before, some dependency does not exist."""
    specifiers = pytest.importorskip("packaging.specifiers")
    before = f"3.{int(NAMED[0].split('.')[1]) - 1}.0"
    assert any(
        before not in specifiers.SpecifierSet(metadata(name).get("Requires-Python") or "") for name in DEPENDENCIES
    )


# --- Docstrings ---


MODULES = [
    module.name
    for package in (ablate, analysis)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]


NEEDS = {"ablate.integrations.lightning": "lightning"}
"""Modules of an extra, and what it installs."""


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    assert doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_a_wrong_example_fails() -> None:
    """The control: `testmod` counts what an example gets wrong."""
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(verbose=False).run(wrong, out=lambda text: None).failed == 1


# --- Names of version 1 ---


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ablate.synthetic.generate", "ablate.data.synthetic.generate"),
        ("ablate.files.read_files", "ablate.data.readers.read_files"),
        ("ablate.paths.claims_file", "ablate.config.paths.claims_file"),
        ("ablate.paths.conf", "ablate.config.paths.conf"),
    ],
)
def test_a_moved_function_has_its_old_name(old: str, new: str) -> None:
    (a, f), (b, g) = (path.rsplit(".", 1) for path in (old, new))
    code = f"from {a} import {f} as old; from {b} import {g} as new; assert old is new"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_names_are_errors() -> None:
    with pytest.raises(ImportError):
        from ablate.files import readfiles  # noqa: F401
