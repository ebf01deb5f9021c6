"""What a user's own loop declares of a run (`ablate.Recorder`): its factors, its id and the name of its folder."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate.config.checks import refusal, require
from ablate.config.wording import nearest
from ablate.experiment import flatten, normalised
from ablate.files.run_record import RESERVED, flaws_of
from ablate.metrics import METRICS, check_entities, check_metric
from ablate.run.folder_name import LONGEST, text
from ablate.schema import SCHEMA, SETUP, TASKS
from ablate.task import CausalLM, Classification, Regression, Task, TokenClassification

ELSEWHERE = "elsewhere"
"""The option of optimizer, model, data or trainer where a loop does not declare it."""

BY_KIND: dict[str, type[Task]] = {
    each.kind: each for each in (Classification, Regression, TokenClassification, CausalLM)
}


@dataclass(frozen=True)
class Declaration:
    """A run of a user's own loop.

    factors     as in run.json: option and settings by name; those of `SETUP` are among them
    studied     names of the factors that the loop declares
    steps       planned number of updates
    kind, labels, primary   the kind of task, the names of its classes, and its primary metric
    """

    factors: dict[str, dict[str, Any]]
    studied: tuple[str, ...]
    seed: int
    nuisance: int
    steps: int
    kind: str
    labels: tuple[str, ...]
    primary: str

    @property
    def id(self) -> str:
        """Ten hex digits that identify the run: a hash of its factors, their settings, and its seeds."""
        what = {"factors": self.factors, "seed": self.seed, "nuisance": self.nuisance}
        return hashlib.sha256(json.dumps(normalised(what), sort_keys=True).encode()).hexdigest()[:10]

    @property
    def folder_name(self) -> str:
        """The factors with their settings, the seed, and the id: clip=fixed-s0-0a1b2c3d4e."""
        parts: list[str] = []
        for name in self.studied:
            entry = self.factors[name]
            settings = [f"{name}.{key}={text(value)}" for key, value in entry["settings"].items()]
            for part in (f"{name}={text(entry['option'])}", *settings):
                if len("-".join([*parts, part])) <= LONGEST:
                    parts.append(part)
        nuisance = [f"n{self.nuisance}"] if self.nuisance else []
        return "-".join([*parts, *nuisance, f"s{self.seed}", self.id])

    def record(self) -> dict[str, Any]:
        """The entries of run.json that do not depend on the outcome."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "status": "running",
            "factors": self.factors,
            "seed": self.seed,
            "nuisance": self.nuisance,
            "kind": self.kind,
            "labels": list(self.labels),
            "primary": self.primary,
        }


def declare(
    factors: Mapping[str, str],
    settings: Mapping[str, Any],
    seed: int,
    nuisance: int,
    steps: int,
    task: str,
    labels: tuple[str, ...],
    primary: str | None,
) -> Declaration:
    """Check what a loop declares. Raises ValueError, with key, value and what is allowed."""
    for key, number, least in (("seed", seed, 0), ("nuisance", nuisance, 0), ("steps", steps, 1)):
        require(key, number, type(number) is int and number >= least, f"a whole number, at least {least}")
    require("task", task, task in TASKS, f"one of {', '.join(TASKS)}")
    primary = primary or BY_KIND[task]().primary
    check_metric("primary", primary, task)
    words = len(labels) == len({*labels}) and all(isinstance(label, str) for label in labels)
    require("labels", list(labels), words, "the names of the classes, each a text and once")
    require("labels", "none", bool(labels) or primary != "entity_f1", "given with entity_f1, such as O, B-PER, I-PER")
    check_entities("primary", primary, labels)
    if labels and task not in METRICS["accuracy"].kinds:
        raise refusal("labels", list(labels), f"left out in {task}, which has no classes")
    made = entries(factors, settings, steps, task)
    found = Declaration(made, tuple(factors), seed, nuisance, steps, task, labels, primary)
    if flaw := next(flaws_of(found.record()), None):
        raise ValueError(flaw)
    return found


def entries(
    factors: Mapping[str, str], settings: Mapping[str, Any], steps: int, task: str
) -> dict[str, dict[str, Any]]:
    """run.json's `factors`: those declared, the task unless it is the usual one, then `SETUP`."""
    check_factors(factors)
    given = {str(k): v for k, v in flatten(settings).items()}
    options = dict(factors) | {name: given.pop(name) for name in SETUP if name in given and name not in factors}
    check_factors(options)
    names = [*(name for name in factors if name not in SETUP), *(["task"] if task != TASKS[0] else []), *SETUP]
    made = {name: {"option": options.get(name, ELSEWHERE), "settings": {}} for name in names}
    if task != TASKS[0]:
        made["task"]["option"] = task
    for key, value in given.items():
        check_setting(key, value, names)
        factor, _, setting = key.partition(".")
        made[factor]["settings"][setting] = value
    planned = made["trainer"]["settings"].setdefault("steps", steps)
    require("settings: trainer.steps", planned, planned == steps, f"left out, or the planned steps, {steps}")
    return made


def check_factors(factors: Mapping[str, str]) -> None:
    """Raises ValueError unless names and options are such that columns and folders can have them as names."""
    require(
        "factors", factors, isinstance(factors, Mapping) and bool(factors), "a factor's name and option, or several"
    )
    for name, option in factors.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name) or name in (*RESERVED, "task"):
            what = "the name of a factor, such as clip: letters, digits and _; the kind of task is declared as `task`"
            raise refusal("factors", name, what)
        require(
            f"factors: {name}", option, isinstance(option, str) and bool(option.strip()), "an option's name, a text"
        )


def check_setting(key: str, value: Any, names: list[str]) -> None:
    """Raises ValueError unless a setting belongs to one of the run's factors, and JSON can hold its value."""
    factor, _, setting = key.partition(".")
    if factor not in names or not setting:
        what = f"<factor>.<setting>, with a factor of this run ({', '.join(names)}), such as optimizer.lr"
        raise ValueError(f"{refusal('settings', key, what)}; {nearest(factor, names)}")
    each = value if isinstance(value, (list, tuple)) else [value]
    plain = all(v is None or isinstance(v, (str, bool, int)) or (type(v) is float and math.isfinite(v)) for v in each)
    require(f"settings: {key}", value, plain, "a text, a finite number, true, false, null, or a list of these")
