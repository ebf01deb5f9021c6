"""What it takes to know more of a question: how many seeds, which, and of which arms."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from ablate.config.paths import shipped_groups
from analysis.records.arms import canonical
from analysis.records.study import Study


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
        found.append({key: settings[key] for key in sorted(settings, key=lambda key: place(key, study.factors))})
    return tuple(found)


def contested(arms: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys of which the arms that have them have different values."""
    keys = {key for arm in arms for key in arm}
    return {key for key in keys if len({canonical(arm[key]) for arm in arms if key in arm}) > 1}


def is_identity(key: str) -> bool:
    """What run.json says of data and weights that were found: no key of the config."""
    return key.partition(".")[0] in ("data", "model") and "sha256" in key.split(".")


def place(key: str, factors: Sequence[str]) -> tuple[int, str]:
    """Factors in their order, an option before its settings."""
    factor = key.partition(".")[0]
    return (factors.index(factor) if factor in factors else len(factors), key)


PLAIN = re.compile(r"[A-Za-z0-9_./:+-]+")  # text that Hydra's grammar takes as it is


def command(base: str, study: str, arms: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """Run these arms, each by the settings it needs, on these seeds; arms that share a line make up its product.

    >>> print(command("python -m ablate -m", "paper", [{"clip": "none"}, {"clip": "fixed"}], [10, 11]))
    python -m ablate -m study=paper seed=10,11 clip=none,fixed
    """
    lines = []
    for line in merged(arms):
        words = [f"study={hydra_text(study)}", f"seed={seed_text(seeds)}"]
        words += [f"{override_key(key)}={','.join(map(hydra_text, values))}" for key, values in line.items()]
        lines.append(" ".join([base, *map(shlex.quote, words)]))
    return "\n".join(lines)


def study_name(folder: Path) -> str:
    """What `study=` says of a study in this folder: the path below outputs/, or the folder's name where there is none.

    >>> study_name(Path("/home/me/outputs/reference/paper")), study_name(Path("/tmp/copy"))
    ('reference/paper', 'copy')
    """
    folder = folder.resolve()
    outputs = next((above for above in folder.parents if above.name == "outputs"), folder.parent)
    return folder.relative_to(outputs).as_posix()


def seed_text(seeds: Sequence[int]) -> str:
    """
    >>> seed_text([3, 7]), seed_text(range(10, 16)), seed_text([0, 1, 2, 3, 5])
    ('3,7', 'range(10,16)', '0,1,2,3,5')
    """
    if len(seeds) > 4 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"range({seeds[0]},{seeds[-1] + 1})"
    return ",".join(map(str, seeds))


def merged(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, tuple[Any, ...]]]:
    """Key -> values for each line, so that the products of all lines are exactly these arms."""
    lines = [{key: (value,) for key, value in arm.items()} for arm in arms]
    lines = list({canonical(line): line for line in lines}.values())
    while pair := next(((a, b) for i, a in enumerate(lines) for b in lines[i + 1 :] if one_apart(a, b)), None):
        first, second = pair
        key = one_apart(first, second)
        lines = [line for line in lines if line is not second]
        lines[lines.index(first)] = {**first, key: first[key] + second[key]}
    return lines


def one_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """The one key in which two lines of the same keys differ."""
    if first.keys() != second.keys():
        return None
    differ = [key for key in first if canonical(first[key]) != canonical(second[key])]
    return differ[0] if len(differ) == 1 else None


def override_key(key: str) -> str:
    """The option of a rule inside a rule is chosen by its group: clip.rule by clip@clip.rule."""
    factor, _, rest = key.partition(".")
    if not rest and key not in shipped_groups() and key != "nuisance":
        return f"+{key}"  # a group of the user's own is not in the defaults
    return f"{factor}@{key}" if rest == "rule" or rest.endswith(".rule") else key


def hydra_text(value: Any) -> str:
    """
    >>> [hydra_text(v) for v in ("fixed", "a,b", 2e-4, True, None, (0.9, 0.999))]
    ['fixed', '"a,b"', '0.0002', 'true', 'null', '[0.9,0.999]']
    """
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(hydra_text, value))}]"
    if isinstance(value, str) and PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
