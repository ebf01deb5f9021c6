"""Hydra's overrides as text: their keys, their values, and the options of a group."""

import re
from collections.abc import Iterable
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig

from ablate.experiment import FACTORS, KEYS
from ablate.schema import NONE


def as_override(value: object) -> str:
    """A value of YAML in the syntax of Hydra's overrides.

    >>> as_override(["none", 0.5, True, None])
    "['none',0.5,True,null]"
    """
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(as_override, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{as_override(item)}" for key, item in value.items()) + "}"
    return "null" if value is None else str(value)


def value_of(override: str) -> Any:
    return OverridesParser.create().parse_override(override).value()


def key_of(override: str) -> str:
    """
    >>> key_of("+mixout.p=0.5"), key_of("~clip.start")
    ('mixout.p', 'clip.start')
    """
    return override.lstrip("+~").partition("=")[0]


def group_of(key: str) -> str:
    """The top-level key that an override's key belongs to.

    >>> group_of("clip.start"), group_of("clip@clip.rule"), group_of("clip")
    ('clip', 'clip', 'clip')
    """
    return re.split("[.@]", key, maxsplit=1)[0]


def group_options(config: DictConfig, group: str) -> list[str]:
    """The options of a config group, also those in `hydra.searchpath`; an empty list if there is no such group."""
    name, hydra_overrides = config.hydra.job.config_name, list(config.hydra.overrides.hydra)
    loader = GlobalHydra.instance().config_loader()
    return loader.get_group_options(group, config_name=name, overrides=hydra_overrides)


def refuse_removals(overrides: Iterable[Override], config: DictConfig) -> None:
    """Raise ValueError if an override removes one of the config's keys."""
    for override in overrides:
        key = override.get_key_element().removeprefix("~")
        if override.is_delete() and group_of(key) in KEYS:
            raise ValueError(f"{key} must not be removed (got ~{key}); {instead_of_removal(key, config)}")


def instead_of_removal(key: str, config: DictConfig) -> str:
    options = group_options(config, key) if key in (*FACTORS, "tracker") else []
    if NONE in options:
        return f"the option that does nothing is called none: {key}={NONE}"
    return f"choose one of its options: {', '.join(options)}" if options else f"set it: {key}=<value>"
