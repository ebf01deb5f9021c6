"""Composes configs as Hydra does, and refuses settings by which a config file would make Hydra run code.

Hydra itself imports and calls what a config names: callbacks, handlers of its logs, launcher and sweeper, packages in
its search path. It does so before any callback of ours, so the check is part of composing. What we ship passes.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

import hydra
import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ablate.config.checks import refusal, require
from ablate.config.paths import NO_GROUPS
from ablate.config.secrets import check_secrets

CALLBACKS = {"sweep": {"_target_": "ablate.sweep.callback.Sweep"}}
SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
LAUNCHERS = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
)
MODES = ("hydra.mode=RUN", "hydra.mode=MULTIRUN")
"""The overrides that Hydra itself appends to those that are typed."""

HARMLESS_VARIABLES = ("TOKENIZERS_PARALLELISM",)
"""The environment variables that a config may set; others can load code (LD_PRELOAD) or change numbers."""

TYPED_ONLY: dict[str, object] = {
    "submitit_folder": "${hydra.sweep.dir}/.submitit/%j",  # jobs are pickled there
    "setup": None,  # shell commands
    "additional_parameters": {},  # --export sets any environment variable
    "temp_folder": None,
}
"""Settings of launchers that only the command line may change, with their values."""

RAY = {
    "init": {"address", "num_cpus", "object_store_memory", "include_dashboard", "logging_level", "log_to_driver"},
    "remote": {"num_cpus", "num_gpus", "max_retries"},
}
"""Settings of Ray that a config may change."""

RAY_RUNTIME = {
    "worker_process_setup_hook": "ablate.config.start.enter_command_folder",
    "env_vars": {"ABLATE_FOLDER": "${hydra.runtime.cwd}"},
}


class Configs(ConfigRepository):
    """The files of the config tree, of which some folders hold no options."""

    def group_exists(self, config_path: str) -> bool:
        return config_path not in NO_GROUPS and super().group_exists(config_path)


class CheckedLoader(ConfigLoaderImpl):
    """Hydra's loader of configs; each config, that of a sweep and that of a job, is checked before it is used.

    A config is composed once, which takes 90 ms. Hydra asks for it several times: to learn `hydra.mode`, to check a
    sweep, and to start a job, which so has the config that was checked, whatever happens to the files in the meantime.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = Configs(config_search_path)
        self.composed: dict[tuple[str | None, str], Callable[[], DictConfig]] = {}
        self.options: dict[str, list[str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"composed": {}}  # a worker composes its own job only

    def get_group_options(self, *arguments: Any, **settings: Any) -> list[str]:
        key = repr((arguments, settings))
        if key not in self.options:
            self.options[key] = super().get_group_options(*arguments, **settings)
        return [*self.options[key]]

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        if validate_sweep_overrides:
            parsed = OverridesParser.create().parse_overrides(overrides)
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        config = self.compose_once(config_name, [each for each in overrides if each not in MODES], run_mode)
        for each in overrides:
            if each in MODES:
                config.hydra.mode = each.partition("=")[2]
                config.hydra.overrides.hydra.append(each)
        return config

    def compose_once(self, config_name: str | None, overrides: list[str], run_mode: RunMode) -> DictConfig:
        key = config_name, repr(overrides)
        if key not in self.composed:
            config = super().load_configuration(config_name, overrides, run_mode, validate_sweep_overrides=False)
            check_config(config, overrides)
            if OmegaConf.missing_keys(config.hydra.runtime.choices):  # an option is missing: a run is refused
                return config
            self.composed[key] = copies(config)
        return self.composed[key]()

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: list[Override], repo: Any) -> None:
        primary = repo.load_config(config_path=config_name) if config_name is not None else None
        paths = primary and OmegaConf.select(primary.config, "hydra.searchpath")
        typed = [o.value() for o in parsed_overrides if o.get_key_element() == "hydra.searchpath"]
        for path in (*(paths or ()), *(path for value in typed for path in value or ())):
            scheme, separator, _ = str(path).partition("://")
            require("hydra.searchpath", path, not separator or scheme == "file", "folders, as packages are imported")
        super()._process_config_searchpath(config_name, parsed_overrides, repo)


def copies(config: DictConfig) -> Callable[[], DictConfig]:
    """A function that returns equal copies of a config, whatever happens to those that it returned."""
    try:
        return partial(pickle.loads, pickle.dumps(config))  # small, and quick to copy
    except pickle.PicklingError:  # Hydra's search for plugins has defined the classes of its configs again
        return partial(deepcopy, config)


def use_checked_loader() -> None:
    """Let Hydra compose with `CheckedLoader`; it has no setting for this."""
    hydra._internal.hydra.ConfigLoaderImpl = CheckedLoader  # type: ignore[misc]


def check_config(config: DictConfig, overrides: Sequence[str]) -> None:
    """Raise ValueError if a composed config would make Hydra run code that we do not ship, or holds a secret.

    overrides: those typed on the command line, which the config has to list and nothing else.
    """
    settings: Any = OmegaConf.to_container(config, resolve=False)
    own = settings["hydra"]
    check_secrets(config)
    listed = [*own["overrides"]["hydra"], *own["overrides"]["task"]]
    require("hydra.overrides", listed, len(listed) == len(overrides), "left to Hydra: they are typed, not configured")
    if (callbacks := own["callbacks"]) != CALLBACKS:
        raise refusal("hydra.callbacks", callbacks, f"{CALLBACKS}, as Hydra imports and calls what they name")
    for key in ("job_logging", "hydra_logging"):
        if own[key] not in shipped_logging():
            raise refusal(f"hydra.{key}", own[key], "an unchanged option of Hydra's that writes no file, e.g. stdout")
    check_env_set(own["job"]["env_set"], own["job"]["env_copy"])
    check_sweeper(own["sweeper"])
    check_launcher(own["launcher"], [override.lstrip("+~").partition("=")[0] for override in overrides])


@cache
def shipped_logging() -> list[dict[str, Any]]:
    """Hydra's own options for logs, except those that write files."""
    folder = Path(hydra.__file__).parent / "conf" / "hydra"
    options: list[Any] = [
        OmegaConf.to_container(OmegaConf.load(file)) for file in sorted(folder.glob("*_logging/*.yaml"))
    ]
    return [option for option in options if "file" not in option.get("handlers", {})]


def check_env_set(assigned: Mapping[str, Any], copied: Sequence[str]) -> None:
    for name, value in assigned.items():
        if name not in HARMLESS_VARIABLES and not (name in copied and os.environ.get(name) == value):
            raise refusal(f"hydra.job.env_set.{name}", value, f"left out; type {name}=... in front of the command")


def check_sweeper(settings: Mapping[str, Any]) -> None:
    target = settings.get("_target_")
    if target != SWEEPER:
        raise refusal("hydra/sweeper", target, "basic, as the arms of a study are given and not searched for")
    check_plain(settings, "hydra.sweeper")
    for name in settings.keys() - {"_target_", "max_batch_size", "params"}:
        raise refusal(f"hydra.sweeper.{name}", settings[name], "left out")


def check_launcher(settings: Mapping[str, Any], typed: Sequence[str]) -> None:
    """Raise ValueError for another launcher than ours, and for settings that run code unless they are typed."""
    target = settings.get("_target_")
    if target not in LAUNCHERS:
        raise refusal("hydra/launcher", target, "basic, local, slurm or cluster")
    check_plain(settings, "hydra.launcher")
    for name, usual in TYPED_ONLY.items():
        key, value = f"hydra.launcher.{name}", settings.get(name, usual)
        if value not in (usual, None) and not any(f"{override}.".startswith(f"{key}.") for override in typed):
            raise refusal(key, value, f"{'null' if usual is None else usual} in a file; type it on the command line")
    for section, given in (settings.get("ray") or {}).items():
        allowed = RAY.get(section, set())
        for name, value in (given or {}).items():
            if name not in allowed and not (name == "runtime_env" and value == RAY_RUNTIME):
                raise refusal(f"hydra.launcher.ray.{section}.{name}", value, f"one of {', '.join(sorted(allowed))}")


def check_plain(settings: Mapping[str, Any], key: str) -> None:
    """Raise ValueError for settings that Hydra would call or import, and for text that adds lines to a job's script."""
    for name, value in keys_and_values(settings, key):
        last = name.rpartition(".")[2]
        if last.startswith("_") and name != f"{key}._target_":
            raise refusal(name, value, "left out, as Hydra imports and calls what it names")
        if isinstance(value, str) and not value.isprintable():
            raise refusal(name, repr(value), "a single line")


def keys_and_values(tree: object, path: str) -> Iterator[tuple[str, object]]:
    """All dotted keys of a tree with their values, those of mappings and lists included."""
    yield path, tree
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    for key, value in items:
        yield from keys_and_values(value, f"{path}.{key}")
