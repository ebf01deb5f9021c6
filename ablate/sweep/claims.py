"""The claims of a sweep: found before its first run, completed where they compare arms, and kept with the study.

A claims file that compares arms (`compare:`) gets the reference arm and the sweep's command written into the study's
copy, by which the runs are registered and the study is judged, here and on other machines.
"""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablate.config.checks import require
from ablate.config.paths import claims_file, conf, kept_claims
from ablate.experiment import DESIGNS, factors
from ablate.files.atomic import write_together
from ablate.files.hashing import file_sha256
from ablate.files.links import refuse_links
from ablate.files.reading import read_regular
from ablate.run import process, progress
from ablate.run.job import Job

OF_THE_COMMAND = ("study", "seed", "plan", "report", "rerun", "reference")
"""Keys that a command for further seeds sets anew or that the study's claims hold."""


def find_claims(config: DictConfig, work: Job) -> Path:
    """The claims file of a sweep, also in the folders that --config-dir and hydra.searchpath name.

    Raises ValueError if there is none.
    """
    sources = [Path(source.path) for source in config.hydra.runtime.config_sources if source.schema == "file"]
    searched = [folder / "claims" for folder in sources if folder != Path(conf())]
    return claims_file(work.config["claims"], [*searched, kept_claims(work.folder.parent)])


def sweep_claims(config: DictConfig, jobs: Sequence[Job]) -> tuple[Path, bytes]:
    """The claims file of a sweep, and what it is to contain in the study's copy.

    Raises ValueError for a file that does not exist or is not valid, for a metric of the user's own that is not
    allowed, and for a reference that chooses no arm, or several.
    """
    from analysis.claims.reading import read_claims

    for key in ("claims", "reference"):
        given = [work.config[key] for work in jobs]
        require(key, given, all(value == given[0] for value in given), "one value, as a sweep belongs to one study")
    found, reference = find_claims(config, jobs[0]), jobs[0].config["reference"]
    read_claims(found, jobs[0].config["allow_targets"])
    content = read_regular(found)
    if "compare" in claims_data(content):
        return found, comparing(found, reference, jobs, base_command(config, jobs))
    require("reference", reference, reference is None, f"null with claims={found.stem}, whose claims name their arms")
    return found, content


def claims_data(content: bytes) -> dict[str, Any]:
    """The content of a claims file; {} if it is not valid, such as a copy that an earlier version kept."""
    with suppress(UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException):
        data = OmegaConf.to_container(OmegaConf.create(content.decode()), resolve=True)
        return data if isinstance(data, dict) else {}  # type: ignore[return-value]
    return {}


def comparing(found: Path, typed: Any, jobs: Sequence[Job], command: str) -> bytes:
    """A claims file that compares arms, with its reference: as typed, in the file, of the study before, or the first.

    The study's own copy stays as it is, to the byte, where nothing but the command would change.
    """
    from analysis.claims.comparison import (
        arms_that_fit,
        check_reference,
        first_arm_settings,
        named_arms,
        reference_settings,
    )
    from analysis.claims.reading import claims_of
    from analysis.claims.values import prefixed
    from analysis.records.arms import techniques_of

    study, data, allow = jobs[0].folder.parent, claims_data(read_regular(found)), jobs[0].config["allow_targets"]
    kept = kept_claims(study) / found.name
    earlier = read_regular(kept) if kept.is_file() else b""
    before = claims_data(earlier)
    with prefixed(f"{found}: "):
        own = claims_of(data, found.stem, "", allow).compare.reference
        was = claims_of(before, found.stem, "", allow).compare.reference if "compare" in before else None
    swept, recorded = map(named_arms, arms(jobs))
    every = named_arms([*recorded.values(), *swept.values()])
    chosen = reference_settings("reference", typed) or (own if found != kept else None)
    if chosen is not None:
        check_reference(chosen, swept, recorded)
    elif was is not None and arms_that_fit(every, was):
        chosen = was
    else:
        chosen = first_arm_settings(swept if len(swept) > 1 else every, techniques_of(every.values()))
    data = {"command": command} | data
    data["compare"] = data["compare"] | {"reference": {key: plain_value(value) for key, value in chosen.items()}}
    primary = jobs[0].config["task"]["primary"]
    if "compare" in before and as_judged(before, primary, allow) == as_judged(data, primary, allow):
        return earlier
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)
    return f"# claims={found.stem}, with the reference arm of this study and its command\n{text}".encode()


def as_judged(data: Mapping[str, Any], primary: str, allow: Sequence[str] = ()) -> dict[str, Any]:
    """A claims file that compares arms, without its command and with the quantities that it comes to.

    >>> ours, theirs = ({"seeds": 2, "compare": {"quantities": {q: s}}} for q, s in
    ...                 (("primary", "usual"), ("test_accuracy", "points")))
    >>> [as_judged(ours, primary) == as_judged(theirs, primary) for primary in ("accuracy", "f1_macro")]
    [True, False]
    """
    from analysis.claims.reading import claims_of

    quantities = claims_of(data, "", "", allow).compare.for_metric(primary).quantities
    return {**data, "command": None, "compare": {**data["compare"], "quantities": quantities}}


def plain_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def arms(jobs: Sequence[Job]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The arms of a sweep, in the order of its jobs, and those of the runs that its study has already."""
    from analysis.records.arms import arm_of, merged_order
    from analysis.records.source import StudyFolder
    from analysis.records.study import scan

    new = arm_records(jobs)
    study = jobs[0].folder.parent
    old = [*scan(StudyFolder(study))[0].values()] if study.is_dir() else []
    names = merged_order(record["factors"] for record in (*new, *old))
    return [arm_of(record, names) for record in new], [arm_of(record, names) for record in old]


def run_names(jobs: Sequence[Job]) -> dict[str, str]:
    """A short name of each run of a sweep, its arm and its seed, by the name of its folder."""
    from analysis.records.arms import arm_of, labels, merged_order
    from analysis.records.short_names import short_names

    records = arm_records(jobs)
    order = merged_order(record["factors"] for record in records)
    swept = [arm_of(record, order) for record in records]
    label_of = dict(zip(map(without_seed, one_of_each_arm(jobs)), labels(swept), strict=True))
    names = short_names(dict(zip(label_of.values(), swept, strict=True)))
    return {work.folder.name: f"{names[label_of[without_seed(work)]]}, seed {work.config['seed']}" for work in jobs}


def arm_records(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What run.json would have of each arm."""
    return [{"factors": factors(w.config, w.choices), "nuisance": w.config["nuisance"]} for w in one_of_each_arm(jobs)]


def one_of_each_arm(jobs: Sequence[Job]) -> list[Job]:
    """One job of each arm, in their order."""
    return list({without_seed(work): work for work in jobs}.values())


def without_seed(work: Job) -> str:
    return repr(work.config | {"seed": None})


def base_command(config: DictConfig, jobs: Sequence[Job]) -> str:
    """The typed command without what varies among its jobs, for commands that run some of its arms on other seeds."""
    words = ["python", "-m", "ablate", "-m", *process.current.flags]
    parser = OverridesParser.create()
    for line in (*config.hydra.overrides.hydra, *config.hydra.overrides.task):
        key = parser.parse_override(line).key_or_group
        if key not in (*OF_THE_COMMAND, *DESIGNS, "hydra.mode") and not varies(key, jobs):
            words.append(line)
    return shlex.join([*words, *(f"{key}=null" for key in designs_of_experiment(config))])


def designs_of_experiment(config: DictConfig) -> list[str]:
    """The designs in the experiment's file: a command that names its arms has to switch them off."""
    typed = {line.lstrip("+").partition("=")[0] for line in config.hydra.overrides.task}
    listed = any(
        name.startswith("arms.") for name in config.get("arms") or {}
    )  # others are derived (`ablate.sweep.arms`)
    return [key for key in DESIGNS if key not in typed and (listed if key == "arms" else config.get(key) is not None)]


def varies(key: str, jobs: Sequence[Job]) -> bool:
    """Whether a group's option, or a setting, differs among jobs."""
    return len({repr(work.choices[key] if key in work.choices else value_at(work.config, key)) for work in jobs}) > 1


def value_at(config: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None  # type: ignore[assignment]
    return config


def keep_claims(found: Path, content: bytes, study: Path) -> Path:
    """Write a sweep's claims into its study, and return the file; an earlier copy gets its hash in its name.

    A full disk costs the copy only, with a warning. Raises ValueError rather than write through a link.
    """
    kept = kept_claims(study) / found.name
    refuse_links(kept.parent)
    try:
        if kept.is_file() and kept.read_bytes() != content:
            kept.rename(kept.with_name(f"{kept.stem}-{file_sha256(kept)[:10]}.yaml"))
        write_together(kept.parent, {kept.name: content})
    except OSError as error:
        progress.log.warning("%s: the study has no copy of its claims", error)
    return kept if kept.is_file() else found
