"""The examples in docstrings do what they say."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import ablate
import analysis

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
