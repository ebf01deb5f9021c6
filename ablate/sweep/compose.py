"""The jobs of a sweep, composed as Hydra will compose them, before the first one runs."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, open_dict

from ablate.config.checks import refusal, require
from ablate.experiment import FACTORS, KEYS, check_complete
from ablate.run.job import Job, job
from ablate.schema import NONE

NOT_SWEPT = ("study", "experiment", "hydra.sweep.dir", "hydra.run.dir")


def compose_jobs(config: DictConfig) -> list[Job]:
    """Return all jobs of the sweep that `config` describes, seed by seed, and reorder the sweep in `config` likewise.

    Complete comparisons come early in this order, whatever order the user typed. Each arm is composed once, and its
    seeds are set in copies: a composition takes 70 ms. Raises ValueError for keys that cannot be swept.
    """
    loader = GlobalHydra.instance().config_loader()
    write_lists_as_sweeps(config)
    write_globs_as_names(config, loader)
    put_seeds_first(config, parse(loader, config))
    arms: dict[tuple[str, ...], Job] = {}
    jobs = []
    for overrides in BasicSweeper.split_arguments(parse(loader, config), None)[0]:
        arm = tuple(override for override in overrides if not override.startswith("seed="))
        if arm not in arms:
            composed = loader.load_sweep_config(config, overrides)
            arms[arm] = composed_job(composed)
        seeds = [value_of(override) for override in overrides if override not in arm]
        work = arms[arm].with_seed(seeds[0]) if seeds else arms[arm]
        if work.config["study"] != config.study:
            raise refusal("study", work.config["study"], f"the study of the sweep, {config.study}")
        jobs.append(work)
    return jobs


def composed_job(config: DictConfig) -> Job:
    """Return the job that a composed config with `hydra` describes; ValueError for a key that is removed or missing."""
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        key = override.get_key_element().removeprefix("~")
        if override.is_delete() and key.partition(".")[0] in KEYS:
            raise ValueError(f"{key} must not be removed (got ~{key}); {instead_of_removal(key)}")
    work = job(config, OmegaConf.to_container(config.hydra.runtime.choices))  # type: ignore[arg-type]
    check_complete(work.config, work.choices)
    return work


def instead_of_removal(key: str) -> str:
    is_group = key in (*FACTORS, "tracker")
    options = GlobalHydra.instance().config_loader().get_group_options(key) if is_group else []
    if NONE in options:
        return f"the option that does nothing is called none: {key}={NONE}"
    return f"choose one of its options: {', '.join(options)}" if options else f"set it: {key}=<value>"


def write_lists_as_sweeps(config: DictConfig) -> None:
    """Rewrite lists and nulls under `hydra.sweeper.params` as Hydra's sweeper reads them.

    `clip: [none, fixed]` means `clip: none,fixed`. For a setting that is a list, the list stays one value.
    """
    params = OmegaConf.to_container(config.hydra.sweeper.params, resolve=True)
    with open_dict(config):
        config.hydra.sweeper.params = {
            key: ",".join(map(as_override, value)) if is_several(config, key, value) else value
            if isinstance(value, str) else as_override(value)
            for key, value in params.items()  # type: ignore[union-attr]
        }  # fmt: skip


def is_several(config: DictConfig, key: str, value: object) -> bool:
    return isinstance(value, list) and not OmegaConf.is_list(OmegaConf.select(config, key, throw_on_missing=False))


def write_globs_as_names(config: DictConfig, loader: ConfigLoader) -> None:
    """Replace each `glob(...)` of the sweep by the options that it matches, those in `hydra.searchpath` included.

    Hydra 1.3's own sweeper looks in the primary search path only (its issue 1942), and would drop a user's arms.
    """
    with open_dict(config):
        for key, value in config.hydra.sweeper.params.items():
            config.hydra.sweeper.params[key] = without_glob(config, loader, f"{key}={value}").partition("=")[2]
        config.hydra.overrides.task = [without_glob(config, loader, line) for line in config.hydra.overrides.task]


def without_glob(config: DictConfig, loader: ConfigLoader, line: str) -> str:
    """The override with the names of the options in place of a glob; any other override as it is."""
    override = OverridesParser.create().parse_override(line)
    glob = override.value()
    if not isinstance(glob, Glob):
        return line
    name, hydra_overrides = config.hydra.job.config_name, list(config.hydra.overrides.hydra)
    known = loader.get_group_options(override.key_or_group, config_name=name, overrides=hydra_overrides)
    found = glob.filter(known)
    require(override.key_or_group, override.get_value_string(), bool(found), f"a pattern of options in {known}")
    return f"{override.get_key_element()}={','.join(map(as_override, found))}"


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
