"""Errors for settings out of range: the rule first, then the value; and for packages that only some options need."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def require(key: str, value: object, allowed: bool, what: str) -> None:
    """Raise ValueError unless `allowed`; `what` describes the values that are.

    >>> require("start", 0, 0 >= 1, "a step, at least 1")
    Traceback (most recent call last):
    ValueError: start must be a step, at least 1 (got 0)
    """
    if not allowed:
        raise refusal(key, value, what)


def refusal(key: str, value: object, what: str) -> ValueError:
    """The error for a value that is not what its key allows.

    >>> refusal("clip.threshold", None, "a finite number above 0")
    ValueError('clip.threshold must be a finite number above 0 (got null)')
    """
    return ValueError(f"{key} must be {what} (got {'null' if value is None else value})")


class NotInstalled(ValueError):
    """A setting needs a package that comes with an extra; the message says what to type."""


def check_extra(package: str, extra: str) -> None:
    """Raise NotInstalled unless a package that comes with an extra is installed.

    >>> check_extra("no_such_package", "metrics")
    Traceback (most recent call last):
    ablate.config.checks.NotInstalled: the package no_such_package is needed: pip install "ablate-finetuning[metrics]"
    """
    if find_spec(package) is None:
        raise NotInstalled(f'the package {package} is needed: pip install "ablate-finetuning[{extra}]"')


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of a package that comes with an extra. Raises NotInstalled."""
    check_extra(module.partition(".")[0], extra)
    return import_module(module)
