"""Checks before the first run: settings, folders, files. Bad input costs no computation."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ablate.average import Swa
from ablate.clip import Delayed, NormRule, check_rule, rule_name
from ablate.config.build import kind_name
from ablate.config.checks import refusal, require
from ablate.config.paths import OUTPUTS, kept_claims
from ablate.data.corpus import Corpus, corpus
from ablate.data.sources import Data, Hub
from ablate.distributed.ranks import Ranks, current_ranks
from ablate.experiment import Options, build_option, build_options, present
from ablate.files.links import refuse_links
from ablate.files.reading import read_regular
from ablate.model.loading import Pretrained
from ablate.run import fork, process, progress
from ablate.run.job import Job, written_paths
from ablate.run.records import BrokenRecord, read_run
from ablate.sweep.model_check import check_arm, structure
from ablate.techniques import Technique
from ablate.tracker import TensorBoard, Tracker, WandB, check_tracker_installed
from ablate.trainer import Trainer
from ablate.training.device import matmul_backend
from ablate.training.environment import check_variables

HYDRA_FOLDERS: dict[str, tuple[Any, ...]] = {  # allowed values, those of conf/config.yaml
    "run.dir": ("outputs/${study}/${run_name:}",),
    "sweep.dir": ("outputs/${study}",),
    "sweep.subdir": ("${run_name:}",),
    "job.chdir": (None, False),
    "output_subdir": (None,),
}
WRITTEN_IN_STUDY = (fork.SNAPSHOTS_FOLDER, ".rerun", "report", "looks.jsonl", ".submitit", "multirun.yaml")
"""Folders that the command writes to in a study's folder, and files that it opens in place; two are Hydra's."""

LONGEST_STUDY = 200
"""Bytes in a study's name. File systems allow 255 per folder, and `report/against-<study>` is longer."""


def check(jobs: Sequence[Job]) -> None:
    """Raise ValueError if any setting or folder of a sweep is wrong, before anything is done."""
    study_folder(jobs[0].config["study"])
    for work in jobs:
        for key in ("seed", "nuisance"):
            value = work.config[key]
            if type(value) is not int or not 0 <= value < 2**63:
                raise refusal(key, value, f"a whole number from 0 to 2^63 - 1; to compare several: -m {key}=0,1")
        for key in ("rerun", "report"):
            if type(work.config[key]) is not bool:
                raise refusal(key, work.config[key], "true or false")
    for work in {repr(work.config | {"seed": None}): work for work in jobs}.values():
        options = build_options(work.config)
        check_own_options(options, work)
        check_ranks(options.trainer, current_ranks())
        matmul_backend(options.trainer)
        if isinstance(options.clip, NormRule):
            check_rule(options.clip)
        check_tracker_installed(options.tracker)
        check_data(options.data)
        warn_of_late_starts(options)
    for work in jobs:
        check_run_folder(work.folder)
        check_tracker_folder(build_option("tracker", work.config), work.folder.name)


def study_folder(study: Any) -> Path:
    """The folder of the study that the config names. Raises ValueError for a name or a folder that cannot be used."""
    require("study", study, type(study) in (str, int), "a name; quote one that YAML reads otherwise: \"study='1.5'\"")
    check_folder(OUTPUTS / str(study))
    return OUTPUTS / str(study)


def check_own_options(options: Options, work: Job) -> None:
    """Raise ValueError for an option of a user's own group that has no hook, by which nothing would ever call it."""
    for group, technique in options.own.items():
        if group in present(work.config, work.choices) and not isinstance(technique, Technique):
            raise refusal(group, rule_name(technique), f"a technique, with one of the hooks of {kind_name(Technique)}")


def check_hydra(config: DictConfig) -> None:
    """Raise ValueError if Hydra would write to other folders than the runs do."""
    settings: Any = OmegaConf.to_container(config, resolve=False)
    for key, ours in HYDRA_FOLDERS.items():
        given: Any = settings["hydra"]
        for part in key.split("."):
            given = given[part]
        if given not in ours:
            raise refusal(f"hydra.{key}", given, f"{ours[0] or 'null'}, as study=<name> sets the folder in outputs/")


def check_data(data: Data) -> None:
    """Raise ValueError if a local data set contains outputs/: run ids hash its content, and runs write there."""
    if isinstance(data, Hub) and OUTPUTS.resolve().is_relative_to(Path(data.path).expanduser().resolve()):
        raise refusal("data.path", data.path, f"a folder that does not contain {OUTPUTS}/, which every run changes")


def warn_of_late_starts(options: Options) -> None:
    for group, technique in (("clip", options.clip), ("average", options.average)):
        if isinstance(technique, (Delayed, Swa)) and technique.start > options.trainer.steps:
            progress.log.warning(
                "%s.start=%d is beyond the last step, trainer.steps=%d: the rule never acts",
                group, technique.start, options.trainer.steps,
            )  # fmt: skip


def check_ranks(trainer: Trainer, ranks: Ranks) -> None:
    """Raise ValueError for settings that do not work with this number of ranks."""
    if ranks.count == 1 and trainer.distributed != "ddp":
        raise refusal(
            "trainer.distributed", trainer.distributed,
            "ddp where a run has one rank; torchrun --standalone --nproc-per-node 2 -m ablate ... starts two",
        )  # fmt: skip
    if trainer.batch_size < ranks.count:
        raise refusal("trainer.batch_size", trainer.batch_size, f"at least {ranks.count}, one example per rank")
    check_variables(trainer.device)
    if ranks.count > 1 and trainer.compile:
        raise refusal("trainer.compile", True, "false where a run has several ranks")


def check_folder(study: Path) -> None:
    """Raise ValueError unless a study's folder is inside outputs/, also when links are followed, and writable."""
    name = study.relative_to(OUTPUTS) if study.is_relative_to(OUTPUTS) else study
    if not all(re.fullmatch(r"\w[\w.-]*", part) for part in name.parts) or not name.parts:
        raise refusal("study", name, "a name of letters, digits, '_', '-' and '.', with '/' between folders")
    require("study", name, len(str(name).encode()) <= LONGEST_STUDY, f"a name of at most {LONGEST_STUDY} bytes")
    if not study.resolve().is_relative_to(OUTPUTS.resolve()):
        raise refusal("study", name, f"a folder inside {OUTPUTS}/, but it is a link to {study.resolve()}")
    refuse_links(*(study / name for name in WRITTEN_IN_STUDY), kept_claims(study))
    check_writable(study)


def check_tracker_folder(tracker: Tracker, run: str) -> None:
    """Raise ValueError if a tracker would write through a link, or leave outputs/ by one."""
    if isinstance(tracker, (TensorBoard, WandB)):
        folder = Path(tracker.folder)
        refuse_links(folder, folder / (run if isinstance(tracker, TensorBoard) else "wandb"))
        if folder.is_relative_to(OUTPUTS) and not folder.resolve().is_relative_to(OUTPUTS.resolve()):
            raise refusal("tracker.folder", folder, f"a folder inside {OUTPUTS}/, but it leads to {folder.resolve()}")


def check_writable(folder: Path) -> None:
    """Raise ValueError unless `folder`, or its nearest parent that exists, is a folder that can be written."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not existing.is_dir():
        raise ValueError(f"{existing} must be a folder, but is something else")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{existing} must be writable, but is not")


def check_threads(jobs: Sequence[Job]) -> None:
    """Warn if earlier runs of a study used another number of threads: other bits, so they would not be paired."""
    study, wanted = jobs[0].folder.parent, {work.trainer.threads for work in jobs}
    counts = Counter(threads for path in study.glob("*/run.json") if (threads := threads_of(path.parent)))
    if len(wanted) == 1 and counts.keys() - wanted:
        earlier = " or ".join(str(threads) for threads, _ in counts.most_common())
        progress.log.warning(
            "%s: the %d earlier runs used trainer.threads=%s, and these would use %d. Only runs with the same number "
            "are paired: set trainer.threads=%d to pair all of them",
            study, counts.total(), earlier, *wanted, counts.most_common(1)[0][0],
        )  # fmt: skip


def threads_of(folder: Path) -> int | None:
    """The number of threads of a run, also of an unfinished one; None if its files do not contain it."""
    try:
        record = read_run(folder) or {}
        return (record.get("environment") or yaml.safe_load(read_regular(folder / "config.yaml"))["trainer"])["threads"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
        return None


def check_run_folder(folder: Path) -> None:
    """Raise ValueError unless an existing run folder is inside outputs/, writable, and of a version that we read."""
    check_writable(folder)
    refuse_links(*written_paths(folder))
    with contextlib.suppress(BrokenRecord):  # the run is done again, with a warning
        read_run(folder)


def check_models(jobs: Iterable[Job]) -> None:
    """Raise ValueError if the files of a model that is on this machine are damaged; downloads nothing."""
    for work in {repr(w.config["model"]): w for w in jobs}.values():
        model = build_options(work.config).model
        if isinstance(model, Pretrained) and Path(model.path).expanduser().is_dir():
            model.skeleton(labels=2)  # the number of a model's labels is irrelevant: its head is fresh


def prepare(jobs: Iterable[Job]) -> None:
    """Fetch, read and check the model files and data of all jobs that are to be done, and each arm's use of them."""
    arms = {repr(w.config | {"seed": None}): build_options(w.config) for w in jobs}.values()
    found: dict[str, tuple[Corpus, nn.Module]] = {}
    for options in arms:
        key = repr((options.model, options.data, options.task.kind))
        if key not in found:
            texts = corpus(options.model, options.data, process.current.corpora, options.task.kind)
            found[key] = texts, structure(options.model, texts, options.task)
        check_arm(options, *found[key])
