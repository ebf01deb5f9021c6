"""The objects that a config describes, one for each group."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate.build import build, check_targets, conform
from ablate.clip import NormRule
from ablate.data import Data
from ablate.freeze import FreezeRule
from ablate.model import Model
from ablate.optimizer import OptimizerRule
from ablate.scheduler import Scheduler
from ablate.settings import Trainer
from ablate.tracker import Tracker

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
