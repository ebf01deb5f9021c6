"""The command that runs more seeds, or further points of a grid: which seeds, and which arms."""

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
    """The next `number` seeds that are not `taken`: first seeds that the study has in other arms, then new ones."""
    begun = {int(seed) for frame in (study.runs, study.left_out) for seed in frame["seed"]}
    candidates = chain(sorted(begun), count(max(begun, default=-1) + 1))
    used = set(taken)
    return tuple(islice((seed for seed in candidates if seed not in used), number))


def to_run(cells: Sequence[Mapping[str, Any]], arms: Sequence[str], study: Study) -> tuple[dict[str, Any], ...]:
    """The settings that the command must give for each cell; the study's command gives those that all arms share.

    `arms`: labels of the cells' arms, for settings that a cell does not give; empty where there are no such arms.
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


def to_extend(
    new: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Any]], arms: Sequence[str], study: Study
) -> tuple[dict[str, Any], ...]:
    """The settings that the command must give for `new` cells; the rest is that of the present cell that is nearest.

    `cells`: the present ones; `arms`: labels of their arms.
    """

    def nearest_label(cell: Mapping[str, Any]) -> str:
        alike = [sum(known.get(key) == value for key, value in cell.items()) for known in cells]
        return arms[alike.index(max(alike))]

    return to_run(new, [nearest_label(cell) for cell in new], study)


def contested(arms: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys with different values in the arms that have them."""
    keys = {key for arm in arms for key in arm}
    return {key for key in keys if len({canonical(arm[key]) for arm in arms if key in arm}) > 1}


def is_identity(key: str) -> bool:
    """Whether a key is a hash of data or weights, which run.json has and the config does not."""
    return key.partition(".")[0] in ("data", "model") and "sha256" in key.split(".")


def place(key: str, factors: Sequence[str]) -> tuple[int, str]:
    """Sort key: factors in their order, an option before its settings."""
    factor = key.partition(".")[0]
    return (factors.index(factor) if factor in factors else len(factors), key)


OUR_COMMAND = "-m ablate"


def command_for(base: str, study: Study, arms: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> str | None:
    """The command that runs these arms on these seeds.

    None where there is nothing to run, and where `base` is our command and others made the study's runs: it would add
    runs of our trainer to theirs.
    """
    is_theirs = study.table is not None or (OUR_COMMAND in base and not study.is_of_command)
    if is_theirs or not (arms and seeds):
        return None
    return sweep_command(base, study_name(study.folder), arms, seeds)


UNQUOTED = re.compile(r"[A-Za-z0-9_./:+-]+")  # text that Hydra's grammar reads without quotes


def sweep_command(base: str, study: str, arms: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """The command that runs these arms, given by their settings, on these seeds.

    It has one line per group of arms that form a product of settings.

    >>> print(sweep_command("python -m ablate -m", "paper", [{"clip": "none"}, {"clip": "fixed"}], [10, 11]))
    python -m ablate -m study=paper seed=10,11 clip=none,fixed
    """
    lines = []
    for line in merged(arms):
        words = [f"study={hydra_text(study)}", f"seed={seed_text(seeds)}"]
        words += [f"{override_key(key)}={','.join(map(hydra_text, values))}" for key, values in line.items()]
        lines.append(" ".join([base, *map(shlex.quote, words)]))
    return "\n".join(lines)


def study_name(folder: Path) -> str:
    """The value of `study=` for a study in this folder: its path below outputs/, or else its name.

    >>> study_name(Path("/home/me/outputs/reference/paper")), study_name(Path("/tmp/copy"))
    ('reference/paper', 'copy')
    """
    folder = folder.resolve()
    outputs = next((above for above in folder.parents if above.name == "outputs"), folder.parent)
    return folder.relative_to(outputs).as_posix()


def seed_text(seeds: Sequence[int]) -> str:
    """Seeds as a value of a Hydra sweep.

    >>> seed_text([3, 7]), seed_text(range(10, 16)), seed_text([0, 1, 2, 3, 5])
    ('3,7', 'range(10,16)', '0,1,2,3,5')
    """
    if len(seeds) > 4 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"range({seeds[0]},{seeds[-1] + 1})"
    return ",".join(map(str, seeds))


def merged(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, tuple[Any, ...]]]:
    """Lines of keys with their values, whose products are together exactly these arms."""
    lines = [{key: (value,) for key, value in arm.items()} for arm in arms]
    lines = list({canonical(line): line for line in lines}.values())
    while pair := next(((a, b) for i, a in enumerate(lines) for b in lines[i + 1 :] if one_apart(a, b)), None):
        first, second = pair
        key = one_apart(first, second)
        lines = [line for line in lines if line is not second]
        lines[lines.index(first)] = {**first, key: first[key] + second[key]}
    return lines


def one_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """The only key in which two lines with the same keys differ; None where the lines differ otherwise."""
    if first.keys() != second.keys():
        return None
    differ = [key for key in first if canonical(first[key]) != canonical(second[key])]
    return differ[0] if len(differ) == 1 else None


def override_key(key: str) -> str:
    """The key of a setting in a command. A rule inside a rule is chosen by its group: clip@clip.rule for clip.rule."""
    factor, _, rest = key.partition(".")
    if not rest and key not in shipped_groups() and key != "nuisance":
        return f"+{key}"  # a group of the user's own is not in the defaults
    return f"{factor}@{key}" if rest == "rule" or rest.endswith(".rule") else key


def hydra_text(value: Any) -> str:
    """A value in Hydra's grammar.

    >>> [hydra_text(v) for v in ("fixed", "a,b", 2e-4, True, None, (0.9, 0.999))]
    ['fixed', '"a,b"', '0.0002', 'true', 'null', '[0.9,0.999]']
    """
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(hydra_text, value))}]"
    if isinstance(value, str) and UNQUOTED.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
