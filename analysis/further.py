"""What it takes to know more of a question: how many seeds, which, and of which arms."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count, islice
from typing import Any

from analysis.arms import FACTORS, canonical
from analysis.load import Study


def new_seeds(number: int, study: Study, taken: Iterable[int] = ()) -> tuple[int, ...]:
    """So many seeds other than those `taken`: first such as the study has elsewhere, then new ones."""
    begun = {int(seed) for frame in (study.runs, study.left_out) for seed in frame["seed"]}
    candidates = chain(sorted(begun), count(max(begun, default=-1) + 1))
    used = set(taken)
    return tuple(islice((seed for seed in candidates if seed not in used), number))


def to_run(cells: Sequence[Mapping[str, Any]], arms: Sequence[str], study: Study) -> tuple[dict[str, Any], ...]:
    """The settings that a command needs for each cell, where the study's own command gives all that its arms share.

    `arms`: the cells' labels, which tell of the settings that a cell leaves open; none where there are no such arms.
    """
    open_keys = {key for key in contested(list(study.arms.values())) if not is_identity(key)}
    known = [study.arms[label] for label in arms] or [{} for _ in cells]
    found = []
    for cell, arm in zip(cells, known, strict=True):
        settings = {key: arm[key] for key in open_keys if key in arm} | dict(cell)
        if settings.get("nuisance") == 0:
            del settings["nuisance"]
        found.append({key: settings[key] for key in sorted(settings, key=place)})
    return tuple(found)


def contested(arms: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys of which the arms that have them have different values."""
    keys = {key for arm in arms for key in arm}
    return {key for key in keys if len({canonical(arm[key]) for arm in arms if key in arm}) > 1}


def is_identity(key: str) -> bool:
    """What run.json says of data and weights that were found: no key of the config."""
    return key.partition(".")[0] in ("data", "model") and "sha256" in key.split(".")


def place(key: str) -> tuple[int, str]:
    """Factors in their order, an option before its settings."""
    factor = key.partition(".")[0]
    return (FACTORS.index(factor) if factor in FACTORS else len(FACTORS), key)
