"""Checks of single values in a claims file: each function takes a key and its value, and returns the checked value.

A wrong value raises a ValueError that gives the rule first, then the value; `prefixed` adds where it is.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from math import isfinite
from typing import Any

from ablate.config.checks import refusal
from ablate.config.paths import known_groups
from ablate.config.wording import nearest
from ablate.experiment import SETTINGS
from analysis.records.arms import canonical

NO_FACTORS = ({*SETTINGS} - {"nuisance"}) | {"experiment", "hydra"}
"""Top-level keys and groups of a config in which arms cannot differ."""


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
    """The name of a setting: a factor, a key below one, or nuisance.

    A factor may be a config group of the user's own, which is unknown here, unless its name is nearly a known one's.
    """
    where = f"a setting in {key}"
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name):
        raise refusal(where, name, "a factor (clip), a key below one (clip.start), or nuisance")
    factor, known = name.partition(".")[0], sorted({*known_groups(), "nuisance"} - NO_FACTORS)
    near = [] if factor in known else get_close_matches(factor, known, n=1, cutoff=0.75)
    if near or factor in NO_FACTORS:
        hint = f"; did you mean {near[0]}?" if near else ""
        allowed = f"{', '.join(known)}, a key below one of them, or a factor of your own"
        raise ValueError(f"{refusal(where, name, allowed)}{hint}")
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
