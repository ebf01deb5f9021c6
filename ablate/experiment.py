"""An experiment: its factors, the objects that a config describes, and the id that makes it this experiment.

`FACTORS` is the one list of what a study can vary. Options, ids, run names, plans and shared starts follow from it. A
config group of the user's own becomes a factor without being listed: it needs options with a `_target_` in
conf/<group>/, and `allow_targets` has to name their module.

Equal ids mean equal experiments. The id is a hash of what decides a run's numbers and of nothing else: an edited option
is another experiment; a new commit, an added key or another output folder leaves existing ids valid. Hydra asks for
the id before anything is loaded, so nothing heavy is imported here.
"""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.adapter import Adapter
from ablate.average import Average
from ablate.clip import GradientRule, NormRule
from ablate.config.build import ALLOWED, MOVED, build, check_targets, conform
from ablate.config.checks import require
from ablate.config.start import enter_folder
from ablate.config.wording import nearest
from ablate.data.sources import Data
from ablate.files.hashing import file_sha256
from ablate.freeze import FreezeRule, FreezeSchedule
from ablate.init import Initialiser
from ablate.model.loading import Model
from ablate.optimizer import OptimizerRule
from ablate.regularizer import LossRule, WeightRule
from ablate.scheduler import Scheduler
from ablate.schema import NO_TECHNIQUES, NONE
from ablate.task import Task
from ablate.techniques import Technique, TechniqueSet
from ablate.tracker import Tracker
from ablate.trainer import Trainer

NUMERICS = 2
"""Raised when the same config gives other numbers in fp32 than before, as the golden losses show."""


@dataclass(frozen=True)
class Factor:
    """What a study can vary: a config group, and what follows for ids, names and shared starts.

    protocol        what each option of the group has to satisfy: a protocol, or a union of them
    default         the option that conf/config.yaml chooses
    as_before       the option that means "as before this factor existed": it is left out of ids and run.json
    uncounted       settings that do not decide a run's numbers, up to rounding
    option_counts   whether the option's name is part of the id, besides its settings
    in_name         whether the readable part of a run's folder name shows it
    shares_starts   whether arms that differ in it may share their first steps (`ablate.run.fork`)
    """

    protocol: type | UnionType
    default: str
    as_before: str | None = None
    uncounted: frozenset[str] = frozenset()
    option_counts: bool = True
    in_name: bool = True
    shares_starts: bool = False


FACTORS: dict[str, Factor] = {
    "freeze": Factor(FreezeRule | FreezeSchedule, "embeddings_attention"),
    "clip": Factor(NormRule | GradientRule, "fixed", shares_starts=True),
    "scheduler": Factor(Scheduler, "warmup_linear", shares_starts=True),
    "adapter": Factor(Adapter, NONE, as_before=NONE),
    "init": Factor(Initialiser, NONE, as_before=NONE),
    "regularizer": Factor(LossRule | WeightRule, NONE, as_before=NONE),
    "average": Factor(Average, NONE, as_before=NONE),
    "task": Factor(Task, "classification", as_before="classification", uncounted=frozenset({"primary"})),
    "optimizer": Factor(OptimizerRule, "adamw"),
    "model": Factor(Model, "minilm", uncounted=frozenset({"lr"})),  # lr counts as optimizer.lr
    "data": Factor(Data, "movie_snippets"),
    "trainer": Factor(
        Trainer, "default", option_counts=False, in_name=False,
        uncounted=frozenset({  # the environment's key covers their rounding
            "device", "threads", "linear", "distributed", "checkpoint_every", "keep_checkpoint", "resume", "fork",
            "frozen_prefix_gb",
        }),
    ),
}  # fmt: skip
"""Config group -> factor, in the order of tables and names. Groups of the user's own come before NO_TECHNIQUES."""

WITHOUT_GROUP = {"task": "ablate.task.Classification"}
"""Group -> class for a user's own primary config without the group; by default the group's `Nothing`."""

OWN = Factor(object, default=NONE, as_before=NONE)
"""A config group of the user's own, whose options are techniques (`ablate.techniques.Technique`).

Its option "none" is what runs without the group have, and may be an object without a hook.
"""

DESIGNS = ("arms", "leave_one_out", "add_one_in")
"""Keys that list the arms of a sweep (`ablate.sweep.arms`). In the config of a run they are null."""

SETTINGS = (
    "study",
    "claims",
    "reference",
    "seed",
    "nuisance",
    "plan",
    "rerun",
    "report",
    "allow_targets",
    "tracker",
    *DESIGNS,
)
"""The other top-level keys of conf/config.yaml. None of them is a factor."""

KEYS = (*FACTORS, *SETTINGS)

LOCATORS = {"path", "revision", "files", "name"}
"""Settings that say where a model or data set lies. Its content counts in their place."""

ADDED: dict[str, Any] = {
    "optimizer.layer_decay": 1.0,
    "optimizer.head_lr": None,
    "optimizer.decay_norms_and_biases": True,
    "model.dropout": None,
    "data.group_by_length": False,
    "data.cluster": None,
    "trainer.compile": False,
    "trainer.gradient_checkpointing": False,
    "trainer.skip_unread": False,
    "trainer.frozen_dropout": True,
    "trainer.frozen_prefix": True,
    "trainer.piece_multiple": 1,
    "trainer.track.updates_every": 20,
    "trainer.track.noise_every": None,
}
"""Keys that were added after the first version, each with the value that means "as before".

A key with this value is left out of the id and of run.json, so that older and newer runs form one study.
"""


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed config without `hydra`, resolved, as plain data. Raises OmegaConf's error for a missing value."""
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])  # hydra.run.dir asks for this
    return OmegaConf.to_container(own, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


def check_complete(settings: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Raises ValueError unless a config has every key that has no default, and one option in each config group.

    A user's own primary config may lack a key, and `clip=[none,fixed]` merges two options into one. A design's key and
    a group that may be "as before" count as absent.
    """
    optional = {*DESIGNS, *(name for name, factor in FACTORS.items() if factor.as_before)}
    for key in KEYS:
        if key not in settings and key not in optional:
            raise ValueError(f"{key} is missing from the config; set it: {key}=<value>")
    for group in (*(name for name in FACTORS if name in settings), "tracker"):
        require(group, settings[group], isinstance(settings[group], Mapping), "the name of an option")
        if not isinstance(choices.get(group), str):
            raise ValueError(f"{group} must be the name of one option (got a list); to compare several: -m {group}=a,b")


# --- The factors of a config ---


def present(settings: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Factor]:
    """The factors that count in a config: those of FACTORS and the user's own, except options that mean "as before".

    Args:
        settings: `plain(config)`.
        choices: option by group, as `hydra.runtime.choices` has them ("clip@clip.rule": "fixed").

    Raises ValueError for a top-level key that is neither a setting nor a config group of rules.
    """
    own = [key for key in settings if key not in KEYS]
    for key in own:
        check_own_group(key, settings[key], choices)
    techniques = [name for name in FACTORS if name not in NO_TECHNIQUES]
    known = {name: FACTORS.get(name, OWN) for name in (*techniques, *own, *NO_TECHNIQUES)}
    return {
        name: f for name, f in known.items() if f.as_before is None or choices.get(name, f.as_before) != f.as_before
    }


def check_own_group(key: str, value: object, choices: Mapping[str, str]) -> None:
    """Raises ValueError unless a top-level key is a config group whose chosen option can be a factor."""
    if key not in choices or not isinstance(value, Mapping) or "_target_" not in value:
        group = f"a config group of your own, with a `_target_` in conf/{key}/<option>.yaml"
        raise ValueError(f"{key} is neither a key of the config nor {group} (got {value}); {nearest(key, KEYS)}")
    if choices[key] == NONE and (extra := [name for name in value if name != "_target_"]):
        raise ValueError(f"{key}=none must have no settings, as runs without {key} have none (got {', '.join(extra)})")


def factors(settings: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """run.json's `factors`: the option of each factor and its settings that count, flat."""
    return {
        name: {"option": choices[name], "settings": counted(name, factor, settings, choices)}
        for name, factor in present(settings, choices).items()
    }


def counted(name: str, factor: Factor, settings: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a factor that decide a run's numbers, flat; a nested rule by its option's name."""
    flat = {k: v for k, v in flatten(settings[name]).items() if k.partition(".")[0] not in factor.uncounted}
    flat |= nested_options(name, choices)
    if name in ("model", "data"):
        found = build_option(name, settings).identity()
        flat = {k: v for k, v in flat.items() if k.partition(".")[0] not in LOCATORS} | flatten(found)
    return {k: v for k, v in flat.items() if k.rpartition(".")[2] != "_target_" and not as_before(f"{name}.{k}", v)}


def nested_options(group: str, choices: Mapping[str, str]) -> dict[str, str]:
    """The options of rules inside a group's rule, by their place in it.

    >>> nested_options("clip", {"clip": "delayed", "clip@clip.rule": "fixed"})
    {'rule': 'fixed'}
    """
    prefix = f"{group}@{group}."
    return {key.removeprefix(prefix): option for key, option in choices.items() if key.startswith(prefix)}


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


# --- Ids ---


def run_id(settings: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """Ten hex digits that identify an experiment. Raises ValueError for a class that may not be imported."""
    return fingerprint(settings, choices, present(settings, choices))


def stem_id(settings: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """The id of what runs need in common to share a start: every factor that does not allow sharing."""
    found = present(settings, choices)
    return fingerprint(settings, choices, {name: f for name, f in found.items() if not f.shares_starts})


def fingerprint(settings: Mapping[str, Any], choices: Mapping[str, str], of: Mapping[str, Factor]) -> str:
    for name in of:
        check_targets(settings[name], name, settings["allow_targets"])
    targets = {k: v for name in of for k, v in flatten({name: settings[name]}).items() if k.endswith("_target_")}
    former = {now: before for before, now in MOVED.items()}
    what = {
        "options": {name: choices[name] for name, factor in of.items() if factor.option_counts},
        "settings": {f"{n}.{k}": v for n, f in of.items() for k, v in counted(n, f, settings, choices).items()},
        "targets": {key: former.get(target, target) for key, target in targets.items()},
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
    enter_folder()
    spec = importlib.util.find_spec(target.rpartition(".")[0])
    if spec is None or spec.origin is None:
        raise ValueError(f"_target_={target}: no such module")
    return file_sha256(Path(spec.origin))


# --- Objects ---


@dataclass(frozen=True)
class Options:
    """The objects of one arm, built and so checked. `own`: those of the user's own groups."""

    freeze: FreezeRule | FreezeSchedule
    clip: NormRule | GradientRule
    scheduler: Scheduler
    adapter: Adapter
    init: Initialiser
    regularizer: LossRule | WeightRule
    average: Average
    task: Task
    optimizer: OptimizerRule
    model: Model
    data: Data
    trainer: Trainer
    tracker: Tracker
    own: Mapping[str, Technique]

    @property
    def techniques(self) -> TechniqueSet:
        """The techniques of the arm, those of the user's own groups last."""
        ours = ("freeze", "clip", "adapter", "init", "regularizer", "average")
        return TechniqueSet({group: getattr(self, group) for group in ours} | dict(self.own))


def build_options(settings: Mapping[str, Any]) -> Options:
    """All objects of a resolved config; nothing is loaded. Raises ValueError with key, value and what is allowed."""
    conform(settings["allow_targets"], list[str], "allow_targets")
    groups = (*FACTORS, "tracker")
    own = [key for key in settings if key not in KEYS]
    for group in (*(name for name in groups if name in settings), *own):
        check_targets(settings[group], group, settings["allow_targets"])
    return Options(
        **{group: build_option(group, settings) for group in groups},
        own={group: build_option(group, settings) for group in own},
    )


def build_option(group: str, settings: Mapping[str, Any]) -> Any:
    factor = FACTORS.get(group, OWN)
    protocol = Tracker if group == "tracker" else factor.protocol
    absent = {"_target_": WITHOUT_GROUP.get(group, f"ablate.{group}.Nothing")} if factor.as_before else None
    return build(settings.get(group, absent), protocol, group, settings["allow_targets"])
