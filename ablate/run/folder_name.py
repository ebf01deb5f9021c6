"""The name of a run's folder: a part for people, the seed, and the id, by which programs find it.

    clip=delayed-clip.start=50-s3-0a1b2c3d4e

The readable part shows what differs from the defaults: options, and settings that differ from those in the option's
file. A folder that already holds the run is found by its id, whatever its readable part.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.config.paths import OUTPUTS, conf
from ablate.experiment import Factor, flatten, nested_options, plain, present, run_id

LONGEST = 120
"""Characters of the readable part; the id says the rest."""


def run_folder(settings: Mapping[str, Any], choices: Mapping[str, str]) -> Path:
    """outputs/<study>/<name>: the folder that holds the run already, or the one that it would get."""
    study, id = OUTPUTS / str(settings["study"]), run_id(settings, choices)
    wanted = f"{readable_name(settings, choices)}-{id}"
    return study / existing_name(study, id, wanted)


def existing_name(study: Path, id: str, wanted: str) -> str:
    """The name of the study's folder with this id; `wanted` where there is none, or where it exists."""
    try:
        found = sorted(name for name in os.listdir(study) if name.endswith(f"-{id}"))
    except OSError:  # no such study yet; the checks before the first run report all else
        return wanted
    return wanted if wanted in found or not found else found[0]


def readable_name(settings: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    parts: list[str] = []
    for name, factor in present(settings, choices).items():
        for part in differences(name, factor, settings, choices) if factor.in_name else ():
            if len("-".join([*parts, part])) <= LONGEST:
                parts.append(part)
    parts = parts or ["default"]
    nuisance = [f"n{settings['nuisance']}"] if settings["nuisance"] else []
    return "-".join([*parts, *nuisance, f"s{settings['seed']}"])


def differences(name: str, factor: Factor, settings: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """One factor's option and settings, as far as they differ from the defaults."""
    option = [f"{name}={text(choices[name])}"] if choices[name] != factor.default else []
    usual = defaults(name, settings, choices)
    given = {k: v for k, v in flatten(settings[name]).items() if k.rpartition(".")[2] != "_target_"}
    given |= nested_options(name, choices)
    other = {k: v for k, v in given.items() if k.partition(".")[0] not in factor.uncounted and usual.get(k) != v}
    return option + [f"{name}.{key}={text(value)}" for key, value in other.items()]


def defaults(group: str, settings: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """The settings in the files of a group's chosen option and of the rules inside it, flat and resolved."""
    own, nested = option_file(group, choices[group]), nested_options(group, choices)
    usual = {key: value for key, value in own.items() if key != "defaults"}
    for place, option in nested.items():
        usual = OmegaConf.to_container(OmegaConf.merge({place: option_file(group, option)}, usual))  # type: ignore
    if "${" in str(usual):
        usual = OmegaConf.to_container(OmegaConf.create({**settings, group: usual}), resolve=True)[group]  # type: ignore
    entries = [entry for entry in own.get("defaults", ()) if isinstance(entry, dict)]
    rules = {key.partition("@")[2]: option for entry in entries for key, option in entry.items()}
    return flatten(usual) | rules


def option_file(group: str, option: str) -> dict[str, Any]:
    """The content of conf/<group>/<option>.yaml, of the package or below this folder; empty for a file elsewhere."""
    for folder in (Path(conf()), Path("conf")):
        if (path := folder / group / f"{option}.yaml").is_file():
            return read_option(path.resolve(), path.stat().st_mtime_ns)
    return {}


@lru_cache(maxsize=1000)
def read_option(path: Path, changed: int) -> dict[str, Any]:
    """A file's content, read once for all runs of a sweep unless it has been changed."""
    return OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[return-value]


def text(value: Any) -> str:
    """A value in characters that every file system and shell takes: paths by their last part.

    >>> text(["mlp", "head"]), text("my/model"), text(1e-05), text("a b")
    ('mlp+head', 'model', '1e-05', 'a.b')
    """
    if isinstance(value, (list, tuple)):
        return "+".join(map(text, value))
    return re.sub(r"[^A-Za-z0-9_.+-]", ".", str(value).rstrip("/").rpartition("/")[2])


def resolve_run_name(*, _root_: DictConfig) -> str:
    """The resolver `run_name`, by which Hydra names a run's folder."""
    return run_folder(plain(_root_), OmegaConf.to_container(_root_.hydra.runtime.choices)).name  # type: ignore[arg-type]


OmegaConf.register_new_resolver("run_name", resolve_run_name, replace=True)
