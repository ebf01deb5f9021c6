"""Checks of single values in a claims file: each function takes a key and its value, and returns the checked value.

A wrong value raises a ValueError that gives the rule first, then the value; `prefixed` adds where it is.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any

from ablate.config.checks import refusal
from ablate.config.wording import nearest
from analysis.records.arms import FACTORS, canonical, is_under


@contextmanager
def prefixed(place: str) -> Iterator[None]:
    """Puts `place` before the message of every ValueError that is raised inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def mapping(key: str, value: Any, allowed: Collection[str] | None = None) -> dict[str, Any]:
    """A mapping whose keys are words, and among `allowed` where that is given."""
    if not isinstance(value, Mapping):
        raise refusal(key, value, "a mapping of keys to values")
    if allowed is not None and (unknown := [k for k in value if k not in allowed]):
        raise ValueError(f"{key} has the unknown key {unknown[0]}; {nearest(unknown[0], allowed)}")
    for name in value:
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise ValueError(f"{key} must have words as keys, with on, off, yes and no in quotes (got {name})")
    return {str(k): v for k, v in value.items()}


def list_of(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise refusal(key, value, "a list")
    return value


def sentence(key: str, value: Any) -> str:
    """Text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise refusal(key, value, "text")
    return value.strip()


def one_of(key: str, value: Any, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{refusal(key, value, 'one of the known names')}; {nearest(value, allowed)}")
    return value


def finite_number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise refusal(key, value, "a finite number")
    return float(value)


def positive_number(key: str, value: Any) -> float:
    if finite_number(key, value) <= 0:
        raise refusal(key, value, "a number above 0")
    return float(value)


def whole_number(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise refusal(key, value, "a whole number, at least 1")
    return value


def planned_looks(key: str, value: Any) -> tuple[int, ...]:
    """Numbers of seeds at which the claims are to be judged."""
    numbers = tuple(whole_number(key, n) for n in list_of(key, value))
    if not numbers or list(numbers) != sorted(set(numbers)):
        raise refusal(key, value, "increasing numbers of seeds")
    return numbers


def settings(key: str, value: Any) -> dict[str, Any]:
    """An arm, or a part of one: {clip: fixed, clip.threshold: 1.0}."""
    found = mapping(key, value)
    for name in found:
        setting(key, name)
    return {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}


def setting(key: str, name: Any) -> str:
    """The name of a setting: a factor, a key below one, or nuisance."""
    if not isinstance(name, str) or not is_under(name, (*FACTORS, "nuisance")):
        allowed = f"{', '.join(FACTORS)}, a key below one of them (clip.start), or nuisance"
        raise refusal(f"a setting in {key}", name, allowed)
    return name


def setting_names(key: str, value: Any) -> tuple[str, ...]:
    return tuple(setting(key, name) for name in list_of(key, value))


def grid(key: str, value: Any) -> dict[str, tuple[Any, ...]]:
    """Settings, each with the values that it takes: {optimizer.lr: [1e-4, 2e-4]}."""
    found = settings(key, value)
    for name, points in found.items():
        if not isinstance(points, tuple) or len({canonical(point) for point in points}) < max(2, len(points)):
            raise refusal(f"{key}.{name}", points, "a list of two or more different values")
    if not found:
        raise refusal(key, value, "at least one setting with its values")
    return found
