"""Which experiment a config is: the same id = the same experiment.

The id is a hash over what decides a run's numbers and nothing else, so that an edited option file is another run,
while neither a commit, nor a new key, nor another folder for the results voids a study. It is part of the name
of a run's folder, which Hydra asks for (as the resolver `run_name`) before anything is loaded: nothing heavy is
imported here.
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.clip import NormRule
from ablate.config.build import ALLOWED, MOVED, build, check_targets, conform
from ablate.data.sources import Data
from ablate.files.hashing import file_sha256
from ablate.freeze import FreezeRule
from ablate.model.loading import Model
from ablate.optimizer import OptimizerRule
from ablate.scheduler import Scheduler
from ablate.tracker import Tracker
from ablate.trainer import Trainer

GROUPS = {
    "freeze": FreezeRule,
    "clip": NormRule,
    "scheduler": Scheduler,
    "optimizer": OptimizerRule,
    "model": Model,
    "data": Data,
}
BESIDE = {"trainer": Trainer, "tracker": Tracker}  # what is no factor of a study


@dataclass(frozen=True)
class Options:
    """One arm, built and so checked."""

    freeze: FreezeRule
    clip: NormRule
    scheduler: Scheduler
    optimizer: OptimizerRule
    model: Model
    data: Data
    trainer: Trainer
    tracker: Tracker


def build_options(settings: Mapping[str, Any]) -> Options:
    """All options of a resolved config. ValueError names key, value and what is allowed; nothing is loaded."""
    conform(settings["allow_targets"], list[str], "allow_targets")
    for group in (*GROUPS, *BESIDE):
        check_targets(settings[group], group, settings["allow_targets"])
    return Options(**{group: build_option(group, settings) for group in (*GROUPS, *BESIDE)})


def build_option(group: str, settings: Mapping[str, Any]) -> Any:
    return build(settings[group], {**GROUPS, **BESIDE}[group], group, settings["allow_targets"])


NUMERICS = 2
"""Raised when the same config now gives other numbers, as the golden losses say of fp32."""

FACTORS = (*GROUPS, "trainer")
UNCOUNTED = {
    "model": {"lr"},  # counts as optimizer.lr
    "trainer": {  # numbers stay the same, but for rounding, which the environment's key minds
        "device", "threads", "linear", "distributed", "checkpoint_every", "keep_checkpoint", "resume", "fork",
    },
}  # fmt: skip
LOCATORS = {"path", "revision", "files", "name"}
"""Where a model or data set is to be found; its identity (what is found there) counts in their place."""

ADDED: dict[str, Any] = {
    "data.group_by_length": False,
    "trainer.compile": False,
    "trainer.gradient_checkpointing": False,
    "trainer.skip_unread": False,
    "trainer.piece_multiple": 1,
}
"""Keys added since the first version, with the value that means "as before".

With that value they are left out of the id and of run.json, so that runs from before and after are one study.
"""


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed config, less `hydra`, resolved, as plain data. Raises OmegaConf's error where a value is missing."""
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])  # hydra.run.dir asks for this
    return OmegaConf.to_container(own, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


def factors(
    settings: Mapping[str, Any], choices: Mapping[str, str], of: Sequence[str] = FACTORS
) -> dict[str, dict[str, Any]]:
    """Each factor's option and the settings that count, flat: run.json's `factors`.

    Args:
        settings: `plain(config)`.
        choices: option by group, as `hydra.runtime.choices` has them ("clip@clip.rule": "fixed").
    """
    return {f: {"option": choices[f], "settings": counted(f, settings, choices)} for f in of}


def counted(factor: str, settings: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    flat = {k: v for k, v in flatten(settings[factor]).items() if k.partition(".")[0] not in UNCOUNTED.get(factor, ())}
    for group, option in choices.items():  # a nested rule by its option's name
        if group.startswith(f"{factor}@{factor}."):
            flat[group.removeprefix(f"{factor}@{factor}.")] = option
    if factor in ("model", "data"):
        found = build_option(factor, settings).identity()
        flat = {k: v for k, v in flat.items() if k.partition(".")[0] not in LOCATORS} | flatten(found)
    return {k: v for k, v in flat.items() if k.rpartition(".")[2] != "_target_" and not as_before(f"{factor}.{k}", v)}


def as_before(key: str, value: Any) -> bool:
    return key in ADDED and value == ADDED[key]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """
    >>> flatten({"start": 100, "rule": {"threshold": 1.0}})
    {'start': 100, 'rule.threshold': 1.0}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{k}": v for k, v in flatten(value).items()}
        else:
            flat[key] = value
    return flat


def run_id(settings: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """Ten hex digits that tell this experiment from others. ValueError for a class that may not be imported."""
    return fingerprint(settings, choices, FACTORS)


def stem_id(settings: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """What runs have to have in common to share a start: everything but what acts on a step's gradient and lr."""
    return fingerprint(settings, choices, [factor for factor in FACTORS if factor not in ("clip", "scheduler")])


def fingerprint(settings: Mapping[str, Any], choices: Mapping[str, str], of: Sequence[str]) -> str:
    for factor in of:
        check_targets(settings[factor], factor, settings["allow_targets"])
    found = factors(settings, choices, of)
    counts = {f"{factor}.{k}": v for factor in of for k, v in found[factor]["settings"].items()}
    former = {now: before for before, now in MOVED.items()}
    found_targets = {k: v for f in of for k, v in flatten({f: settings[f]}).items() if k.endswith("_target_")}
    targets = {k: former.get(v, v) for k, v in found_targets.items()}
    what = {
        "options": {factor: found[factor]["option"] for factor in of if factor in GROUPS},
        "settings": counts,
        "targets": targets,
        "sources": {t: source_sha256(t) for t in sorted(set(targets.values())) if not is_ours(t)},
        "seed": settings["seed"],
        "nuisance": settings["nuisance"],
        "numerics": NUMERICS,
    }
    return hashlib.sha256(json.dumps(normalised(what), sort_keys=True).encode()).hexdigest()[:10]


def normalised(value: Any) -> Any:
    """Numbers by value: 1 and 1.0 are the same setting."""
    if isinstance(value, Mapping):
        return {str(k): normalised(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [normalised(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_ours(target: str) -> bool:
    return any(target.startswith(f"{prefix}.") for prefix in ALLOWED)


def source_sha256(target: str) -> str:
    """Hash of the source file of a user's own class."""
    spec = importlib.util.find_spec(target.rpartition(".")[0])
    if spec is None or spec.origin is None:
        raise ValueError(f"_target_={target}: no such module")
    return file_sha256(Path(spec.origin))


def run_name(settings: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """The folder's name: for people to read; programs read run.json."""
    words = [choices[group] for group in ("freeze", "clip", "scheduler")] + [f"s{settings['seed']}"]
    return "-".join([re.sub(r"[^A-Za-z0-9_.]", ".", word) for word in words] + [run_id(settings, choices)])


def resolve_run_name(*, _root_: DictConfig) -> str:
    return run_name(plain(_root_), OmegaConf.to_container(_root_.hydra.runtime.choices))  # type: ignore[arg-type]


OmegaConf.register_new_resolver("run_name", resolve_run_name, replace=True)
