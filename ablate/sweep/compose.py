"""The jobs of a sweep, composed as Hydra will compose them, before the first one runs."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from omegaconf import DictConfig, OmegaConf, open_dict

from ablate.config.checks import refusal, require
from ablate.experiment import DESIGNS, check_complete
from ablate.run.job import Job, job
from ablate.sweep.arms import all_runs, find_arms, in_arm, refuse_designs, refuse_equal_arms, use_arms
from ablate.sweep.overrides import as_override, group_options, refuse_removals, value_of

NOT_SWEPT = ("study", "experiment", "hydra.sweep.dir", "hydra.run.dir")


def compose_jobs(config: DictConfig) -> list[Job]:
    """Return all jobs of the sweep that `config` describes, seed by seed, and reorder the sweep in `config` likewise.

    Complete comparisons come early in this order, whatever order the user typed. Each arm is composed once, and its
    seeds are set in copies: a composition takes 70 ms. Raises ValueError for keys that cannot be swept, and for a
    design that cannot be run.
    """
    loader = GlobalHydra.instance().config_loader()
    write_lists_as_sweeps(config)
    write_globs_as_names(config)
    put_seeds_first(config, parse(loader, config))
    overrides = parse(loader, config)
    runs = BasicSweeper.split_arguments(overrides, None)[0]
    arms = find_arms(config, overrides)
    if not arms:
        return list(compose_runs(config, runs, loader).values())
    arms = use_arms(config, arms, runs[0], loader)
    jobs = compose_runs(config, all_runs(runs, arms.values()), loader)
    for run in runs:
        refuse_equal_arms({name: jobs[tuple(in_arm(run, arm))] for name, arm in arms.items()})
    return list(jobs.values())


def compose_runs(config: DictConfig, runs: Sequence[Sequence[str]], loader: ConfigLoader) -> dict[tuple[str, ...], Job]:
    """Return the job of each run by its overrides."""
    without_seed: dict[tuple[str, ...], Job] = {}
    jobs = {}
    for overrides in map(tuple, runs):
        rest = tuple(override for override in overrides if not override.startswith("seed="))
        if rest not in without_seed:
            without_seed[rest] = complete_job(loader.load_sweep_config(config, list(overrides)))
        seeds = [value_of(override) for override in overrides if override not in rest]
        work = without_seed[rest].with_seed(seeds[0]) if seeds else without_seed[rest]
        if work.config["study"] != config.study:
            raise refusal("study", work.config["study"], f"the study of the sweep, {config.study}")
        jobs[overrides] = work
    return jobs


def composed_job(config: DictConfig) -> Job:
    """Return the job of a single run, from a composed config with `hydra`.

    Raises ValueError for a key that is removed or missing, and for a design, which only a sweep has.
    """
    refuse_removals(OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)), config)
    refuse_designs(config)
    return complete_job(config)


def complete_job(config: DictConfig) -> Job:
    work = job(config, OmegaConf.to_container(config.hydra.runtime.choices))  # type: ignore[arg-type]
    check_complete(work.config, work.choices)
    return work


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


def write_globs_as_names(config: DictConfig) -> None:
    """Replace each `glob(...)` of the sweep by the options that it matches, those in `hydra.searchpath` included.

    Hydra 1.3's own sweeper looks in the primary search path only (its issue 1942), and would drop a user's arms.
    """
    with open_dict(config):
        for key, value in config.hydra.sweeper.params.items():
            config.hydra.sweeper.params[key] = without_glob(config, f"{key}={value}").partition("=")[2]
        config.hydra.overrides.task = [without_glob(config, line) for line in config.hydra.overrides.task]


def without_glob(config: DictConfig, line: str) -> str:
    """The override with the names of the options in place of a glob; any other override as it is."""
    override = OverridesParser.create().parse_override(line)
    glob = override.value()
    if not isinstance(glob, Glob):
        return line
    known = group_options(config, override.key_or_group)
    found = glob.filter(known)
    require(override.key_or_group, override.get_value_string(), bool(found), f"a pattern of options in {known}")
    return f"{override.get_key_element()}={','.join(map(as_override, found))}"


def parse(loader: ConfigLoader, config: DictConfig) -> list[Override]:
    """Return the sweep's overrides: those of its experiment, then those typed, which replace them."""
    params = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*params, *config.hydra.overrides.task])
    refuse_removals(overrides, config)
    for override in overrides:
        key = override.get_key_element()
        if key in DESIGNS and (override.is_sweep_override() or key in config.hydra.sweeper.params):
            raise refusal(key, override.input_line, f"one list or mapping, as in {key}=[freeze,clip], outside of hydra")
        if override.is_sweep_override() and key in NOT_SWEPT:
            raise refusal(key, override.input_line, "one value, as a sweep belongs to one study")
    return overrides


def put_seeds_first(config: DictConfig, overrides: list[Override]) -> None:
    """Make the seed the first parameter, which Hydra's sweeper varies slowest."""
    seeds = [o.input_line.partition("=")[2] for o in overrides if o.get_key_element() == "seed"]
    if seeds:
        rest = {key: value for key, value in config.hydra.sweeper.params.items() if key != "seed"}
        with open_dict(config):
            config.hydra.sweeper.params = {"seed": seeds[-1], **rest}
