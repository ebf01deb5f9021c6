"""Values of a claims file, checked: each function takes a key and its value and returns the value in its type.

What is wrong raises a ValueError that names key, value and what is allowed; `within` says where.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from math import isfinite
from typing import Any

from ablate.config.paths import known_groups
from ablate.experiment import SETTINGS
from analysis.records.arms import canonical

NO_FACTORS = ({*SETTINGS} - {"nuisance"}) | {"experiment", "hydra"}
"""Top-level keys and groups of a config in which arms cannot differ."""


@contextmanager
def within(place: str) -> Iterator[None]:
    """Errors inside say where they are."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def refuse(key: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{key} = {value!r}; {allowed}")


def mapping(key: str, value: Any, allowed: Collection[str] | None = None) -> dict[str, Any]:
    """A mapping, of `allowed` keys only where these are given."""
    if not isinstance(value, Mapping):
        raise refuse(key, value, "a mapping of keys to values is allowed")
    if allowed is not None and (unknown := [k for k in value if k not in allowed]):
        near = get_close_matches(str(unknown[0]), allowed, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"{key} has the key {unknown[0]!r}{hint}; {', '.join(allowed)} are allowed")
    for name in value:
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise ValueError(f"{key} has the key {name!r}; words are allowed (on, off, yes, no only in quotes)")
    return {str(k): v for k, v in value.items()}


def sequence(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise refuse(key, value, "a list is allowed")
    return value


def text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise refuse(key, value, "words are allowed")
    return value.strip()


def one_of(key: str, value: Any, allowed: Collection[str]) -> str:
    if value not in allowed:
        near = get_close_matches(str(value), allowed, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise refuse(key, value, f"one of {', '.join(allowed)} is allowed{hint}")
    return value


def number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise refuse(key, value, "a finite number is allowed")
    return float(value)


def size(key: str, value: Any) -> float:
    if number(key, value) <= 0:
        raise refuse(key, value, "a number > 0 is allowed")
    return float(value)


def count(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise refuse(key, value, "a whole number, at least 1, is allowed")
    return value


def looks(key: str, value: Any) -> tuple[int, ...]:
    numbers = tuple(count(key, n) for n in sequence(key, value))
    if not numbers or list(numbers) != sorted(set(numbers)):
        raise refuse(key, value, "rising numbers of seeds are allowed")
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
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name):
        raise refuse(key, name, "a factor (clip), a key below one (clip.start), or nuisance is allowed")
    factor, known = name.partition(".")[0], sorted({*known_groups(), "nuisance"} - NO_FACTORS)
    near = [] if factor in known else get_close_matches(factor, known, n=1, cutoff=0.75)
    if near or factor in NO_FACTORS:
        hint = f" (did you mean {near[0]}?)" if near else ""
        allowed = f"{', '.join(known)}, a key below one of them, or a factor of your own is allowed"
        raise refuse(key, name, allowed + hint)
    return name


def setting_names(key: str, value: Any) -> tuple[str, ...]:
    return tuple(setting(key, name) for name in sequence(key, value))


def grid(key: str, value: Any) -> dict[str, tuple[Any, ...]]:
    """Settings and the values that each of them takes: {optimizer.lr: [1e-4, 2e-4]}."""
    found = settings(key, value)
    for name, points in found.items():
        if not isinstance(points, tuple) or len({canonical(point) for point in points}) < max(2, len(points)):
            raise refuse(f"{key}.{name}", points, "a list of two or more different values is allowed")
    if not found:
        raise refuse(key, value, "at least one setting with its values is allowed")
    return found
