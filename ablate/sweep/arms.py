"""Designs: a sweep whose arms are listed, instead of all combinations of options.

    arms: {base: {clip: none}, late: [clip=delayed, clip.start=50]}    # the overrides of each arm
    leave_one_out: [freeze, clip]    # the recipe, and the recipe without each factor
    leave_one_out: [freeze, {optimizer.weight_decay: 0}]    # a setting is left out by a value
    add_one_in: [freeze, clip]       # the recipe without all of these factors, and with each of them alone

The recipe is what the config chooses otherwise. "Without" means the factor's option `none`, or the option that a
mapping names: `{optimizer: sgd}`; a setting is left out by the value that a mapping gives it. Each arm runs with every
combination of the values that are swept, seeds included.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from ablate.config.checks import refusal, require
from ablate.config.wording import nearest
from ablate.experiment import DESIGNS, FACTORS, KEYS, SETTINGS
from ablate.run.job import Job
from ablate.schema import NONE
from ablate.sweep.overrides import as_override, group_of, group_options, key_of

Arms = dict[str, list[str]]
"""Name of each arm -> its overrides."""

LIST_OF_FACTORS = (
    "a list of factors, [freeze, clip], or a mapping from factors to options, {optimizer: sgd}, and from settings to "
    "values, {optimizer.weight_decay: 0}"
)
ARM = "overrides: a mapping from keys to values, {clip: delayed, clip.start: 50}, or a list, [clip=delayed]"
ABSENT = object()
"""No value: a setting that the recipe lacks."""

SHARED = ({*SETTINGS} - {"nuisance"}) | {"experiment", "hydra"}
"""Top-level keys that all arms of a sweep share."""


def find_arms(config: DictConfig, overrides: Sequence[Override]) -> Arms:
    """Return the arms of a sweep's design; empty for a sweep over all combinations.

    overrides: the sweep's, as Hydra parses them.

    Raises ValueError for a factor or option that does not exist, an override that an arm cannot have, and a key that
    is swept although an arm sets it.
    """
    listed = read_arms(config)
    leave, add = (read_factors(key, config, overrides) for key in ("leave_one_out", "add_one_in"))
    without: list[dict[str, Any]] = []
    if leave:
        without += [{}, *({factor: option} for factor, option in leave.items())]
    if add:
        without += [add, *({other: add[other] for other in add if other != factor} for factor in add)]
    arms = listed | {arm_name(off): [f"{f}={as_override(option)}" for f, option in off.items()] for off in without}
    refuse_swept_keys(arms, overrides)
    return arms


def arm_name(off: Mapping[str, Any]) -> str:
    """The name of an arm that leaves factors out.

    >>> arm_name({"freeze": "none", "clip": "none"}), arm_name({})
    ('clip=none, freeze=none', 'the recipe')
    """
    return ", ".join(f"{factor}={option}" for factor, option in sorted(off.items())) or "the recipe"


# --- What the config says ---


def given(config: DictConfig, key: str) -> object:
    """A key's value as plain data, or None; interpolations in it are left to the config of each run."""
    value = config.get(key)
    return OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value


def read_factors(key: str, config: DictConfig, overrides: Sequence[Override]) -> dict[str, Any]:
    """Return the components of `leave_one_out` or `add_one_in`: factors, each with the option that means "without it",
    and settings, each with such a value."""
    value = given(config, key)
    if value is None:
        return {}
    require(key, value, isinstance(value, (list, dict)) and bool(value), LIST_OF_FACTORS)
    off: dict[str, Any] = {}
    for entry in value if isinstance(value, list) else [value]:  # type: ignore[attr-defined]
        require(key, value, isinstance(entry, (str, dict)), LIST_OF_FACTORS)
        off |= entry if isinstance(entry, dict) else {entry: NONE}
    known = known_factors(config, overrides)
    for factor, option in off.items():
        if "." in factor:
            check_component(key, factor, option, config)
            continue
        if factor not in known:
            raise ValueError(f"{key} must list factors (got {factor}); {nearest(factor, known)}")
        options = group_options(config, factor)
        if option == NONE and NONE not in options:
            other = f"name the option to use instead: {{{factor}: <option>}}, one of {', '.join(options)}"
            raise ValueError(f"{key} must list factors that have an option none (got {factor}); {other}")
        require(f"{key}.{factor}", option, option in options, f"one of {', '.join(options)}")
    return off


def check_component(key: str, setting: str, value: object, config: DictConfig) -> None:
    """Raise ValueError unless the recipe has this setting of a factor, with another value."""
    factor = setting.partition(".")[0]
    of_recipe = OmegaConf.select(config, setting, default=ABSENT)
    if factor in SHARED or of_recipe is ABSENT:
        names = [f"{factor}.{name}" for name in config.get(factor) or {} if name != "_target_"]
        raise ValueError(
            f"{key} must list factors or settings of the recipe (got {setting}); {nearest(setting, names)}"
        )
    single = value is None or isinstance(value, (str, int, float))
    require(f"{key}.{setting}", value, single and value != of_recipe, f"another value than the recipe's {of_recipe}")


def known_factors(config: DictConfig, overrides: Sequence[Override]) -> list[str]:
    """The factors of the recipe: a group of the user's own is one if defaults or an override add it."""
    groups = {*config.hydra.runtime.choices, *(override.key_or_group for override in overrides)}
    own = [group for group in groups if group.isidentifier() and group not in (*KEYS, *SHARED)]
    return [*FACTORS, *sorted(own)]


def read_arms(config: DictConfig) -> Arms:
    """Return the arms that `arms` lists."""
    value = given(config, "arms")
    if value is None:
        return {}
    require("arms", value, isinstance(value, dict) and bool(value), "a mapping from the arms' names to their overrides")
    return {f"arms.{name}": read_arm(f"arms.{name}", arm, config) for name, arm in value.items()}  # type: ignore[attr-defined]


def read_arm(key: str, value: object, config: DictConfig) -> list[str]:
    """Return one arm's overrides, checked."""
    lines = [f"{name}={as_override(v)}" for name, v in value.items()] if isinstance(value, dict) else value
    require(key, value, isinstance(lines, list) and all(isinstance(line, str) for line in lines), ARM)
    for line in lines:
        try:
            override = OverridesParser.create().parse_override(line)
        except HydraException:
            raise refusal(key, line, ARM) from None
        name, group = override.key_or_group, group_of(override.key_or_group)
        if group.partition("/")[0] in SHARED:
            raise ValueError(f"{key} must not set {name} (got {line}): all arms of a sweep share it")
        one_value = not override.is_sweep_override() and not override.is_delete()
        require(key, line, one_value, "overrides with one value each")
        options = group_options(config, group) if name == group else []
        if options:
            require(f"{key}.{name}", override.value(), override.value() in options, f"one of {', '.join(options)}")
    return lines


def refuse_swept_keys(arms: Arms, overrides: Sequence[Override]) -> None:
    """Raise ValueError if a key is swept that an arm sets."""
    last = {key_of(override.get_key_element()): override for override in overrides}
    swept = {key: override.input_line for key, override in last.items() if override.is_sweep_override()}
    for name, arm in arms.items():
        for key in map(key_of, arm):
            if key in swept:
                raise ValueError(f"{key} must have one value where an arm sets it (got {swept[key]}; arm: {name})")


def refuse_designs(config: DictConfig) -> None:
    """Raise ValueError for a design in the config of a single run."""
    for key in DESIGNS:
        if (value := given(config, key)) is not None:
            raise ValueError(f"{key} must be null in a single run (got {value}); add -m to run all arms")


# --- The runs ---


def use_arms(config: DictConfig, arms: Arms, first: Sequence[str], loader: ConfigLoader) -> Arms:
    """Let Hydra launch these arms, and return them with overrides that end the design in each run's config.

    first: the overrides of the sweep's first run, for a look at the config of each arm.
    """
    ends = [f"++{key}=null" for key in DESIGNS if config.get(key) is not None]
    arms = {name: [*arm, *ends] for name, arm in arms.items()}
    arms = {name: [*arm, *settings_left(loader.load_sweep_config(config, in_arm(first, arm)), arm)]
            for name, arm in arms.items()}  # fmt: skip
    with open_dict(config):
        config.arms = arms
    Plugins.instance().class_name_to_class[config.hydra.sweeper._target_] = ArmSweeper  # Hydra accepts no other name
    return arms


def settings_left(config: DictConfig, arm: Sequence[str]) -> list[str]:
    """Overrides that remove the settings which an experiment's file has for groups that this arm sets to `none`."""
    groups = [group for group in groups_off(arm) if OmegaConf.is_dict(config[group])]
    return [f"~{group}.{name}" for group in groups for name in config[group] if name != "_target_"]


def groups_off(arm: Sequence[str]) -> list[str]:
    """The groups that an arm sets to `none`, which has no settings."""
    lines = [line.partition("=") for line in arm]
    return [key_of(key) for key, _, value in lines if value.strip("'\"") == NONE and key_of(key).isidentifier()]


def in_arm(run: Sequence[str], arm: Sequence[str]) -> list[str]:
    """The overrides of a run in an arm: the arm's come last, in place of others with the same key.

    Where the arm sets a group to `none`, overrides of the group's settings are left out.

    >>> in_arm(["seed=1", "clip=fixed", "clip.threshold=0.5", "+mixout=on"], ["clip=none", "mixout=none"])
    ['seed=1', 'clip=none', '+mixout=none']
    """
    keys, off = {*map(key_of, arm)}, groups_off(arm)
    kept = [line for line in run if key_of(line) not in keys and group_of(key_of(line)) not in off]
    signs = {key_of(line): line[: len(line) - len(line.lstrip("+"))] for line in run}
    return [*kept, *(line if line[0] in "+~" else signs.get(key_of(line), "") + line for line in arm)]


def all_runs(runs: Iterable[Sequence[str]], arms: Iterable[Sequence[str]]) -> list[list[str]]:
    """The overrides of each run in each arm, without repetition: an arm without clipping has one run per seed, whatever
    settings of clipping are swept."""
    return [list(line) for line in dict.fromkeys(tuple(in_arm(run, arm)) for run in runs for arm in arms)]


def refuse_equal_arms(arms: Mapping[str, Job]) -> None:
    """Raise ValueError if two arms are the same run."""
    names: dict[str, str] = {}
    for name, work in arms.items():
        if (other := names.setdefault(work.folder.name, name)) != name:
            raise ValueError(f"arms must differ from each other (got {other} and {name}, which are the same run)")


class ArmSweeper(BasicSweeper):
    """Hydra's own sweeper; it launches `all_runs` of the config's arms instead of the product alone."""

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:  # type: ignore[override]
        runs = BasicSweeper.split_arguments(overrides, None)[0]
        arms = given(self.config, "arms")  # type: ignore[arg-type]
        if arms:
            runs = all_runs(runs, arms.values())  # type: ignore[attr-defined]
        return list(self.split_overrides_to_chunks(runs, max_batch_size))
