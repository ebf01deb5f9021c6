"""The jobs of a sweep, composed as Hydra will compose them, before the first one runs."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, open_dict

from ablate.config.checks import refusal
from ablate.run.job import Job, job

NOT_SWEPT = ("study", "experiment", "hydra.sweep.dir", "hydra.run.dir")


def compose_jobs(config: DictConfig) -> list[Job]:
    """Return all jobs of the sweep that `config` describes, seed by seed, and reorder the sweep in `config` likewise.

    Complete comparisons come early in this order, whatever order the user typed. Each arm is composed once, and its
    seeds are set in copies: a composition takes 70 ms. Raises ValueError for keys that cannot be swept.
    """
    loader = GlobalHydra.instance().config_loader()
    put_seeds_first(config, parse(loader, config))
    arms: dict[tuple[str, ...], Job] = {}
    jobs = []
    for overrides in BasicSweeper.split_arguments(parse(loader, config), None)[0]:
        arm = tuple(override for override in overrides if not override.startswith("seed="))
        if arm not in arms:
            composed = loader.load_sweep_config(config, overrides)
            arms[arm] = job(composed, dict(composed.hydra.runtime.choices))
        seeds = [value_of(override) for override in overrides if override not in arm]
        work = arms[arm].with_seed(seeds[0]) if seeds else arms[arm]
        if work.config["study"] != config.study:
            raise refusal("study", work.config["study"], f"the study of the sweep, {config.study}")
        jobs.append(work)
    return jobs


def parse(loader: ConfigLoader, config: DictConfig) -> list[Override]:
    """Return the sweep's overrides: those of its experiment, then those typed, which replace them."""
    params = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*params, *config.hydra.overrides.task])
    for override in overrides:
        if override.is_sweep_override() and override.get_key_element() in NOT_SWEPT:
            key = override.get_key_element()
            raise refusal(key, override.input_line, "one value, as a sweep belongs to one study")
    return overrides


def put_seeds_first(config: DictConfig, overrides: list[Override]) -> None:
    """Make the seed the first parameter, which Hydra's sweeper varies slowest."""
    seeds = [o.input_line.partition("=")[2] for o in overrides if o.get_key_element() == "seed"]
    if seeds:
        rest = {key: value for key, value in config.hydra.sweeper.params.items() if key != "seed"}
        with open_dict(config):
            config.hydra.sweeper.params = {"seed": seeds[-1], **rest}


def value_of(override: str) -> Any:
    return OverridesParser.create().parse_override(override).value()
