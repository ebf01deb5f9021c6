"""Around a sweep, as a Hydra callback: check every job before the first, show progress, close with the table.

Hydra swallows a callback's exceptions into warnings; `SystemExit` goes through. So each hook ends the program
itself where something is wrong: with exit code 2 before any run, with 1 after a run that failed.
"""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.utils import get_class
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from ablate import display
from ablate.clip import Delayed
from ablate.complaint import complaint
from ablate.corpus import corpus
from ablate.display import console
from ablate.job import Job, finished, job
from ablate.options import Options, build_options
from ablate.records import BrokenRecord, read_run

OUTPUTS = Path("outputs")
NOT_SWEPT = ("study", "experiment", "hydra.sweep.dir", "hydra.run.dir", "outputs")

started = False
"""True once every check has passed: from here on a failure is a run's, not the config's."""


def ends_program(hook: Callable[..., None]) -> Callable[..., None]:
    """Let bad input that a hook finds end the program with 2, any other exception with 1."""

    @wraps(hook)
    def guarded(*arguments: Any, **settings: Any) -> None:
        try:
            hook(*arguments, **settings)
        except (ValueError, HydraException, OmegaConfBaseException) as error:
            display.close_display()
            console.print(complaint(error), markup=False, highlight=False, soft_wrap=True)
            sys.exit(2)
        except Exception:
            traceback.print_exc()
            sys.exit(1)

    return guarded


class Sweep(Callback):
    """Hydra calls the run hooks for a single run, the multirun hooks for a sweep; both come to the same."""

    @ends_program
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.begin([job(config, dict(config.hydra.runtime.choices), OUTPUTS)])

    @ends_program
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.begin(compose_jobs(config))

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        self.end()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self.end()

    def begin(self, jobs: Sequence[Job]) -> None:
        """Check all jobs; end here, with the table, if all are done."""
        global started
        display.configure_logging()
        check(jobs)
        self.folders = [work.folder for work in unique(jobs)]
        todo = [work for work in unique(jobs) if work.rerun or not finished(work)]
        started = True
        if not todo:
            console.print(f"all {len(self.folders)} runs are done already; rerun=true does them again")
            self.end()
            sys.exit(0)
        prepare(todo)
        display.open_display(len(todo), sum(work.settings["trainer"]["steps"] for work in todo))

    @ends_program
    def end(self) -> None:
        """Print the table and whatever needs attention; exit code 1 if a run failed or was left unfinished."""
        from ablate.closing import close

        display.close_display()
        if not close(self.folders):
            sys.exit(1)


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Each run once, however often the sweep names it."""
    return list({work.folder: work for work in jobs}.values())


def compose_jobs(config: DictConfig) -> list[Job]:
    """All jobs of the sweep, seed by seed; `config`'s sweep is put into that order as well.

    Whole comparisons come early that way, whatever order the user typed. Each arm is composed once and its seeds
    are set in copies: a composition takes 70 ms.
    """
    if get_class(config.hydra.sweeper._target_) is not BasicSweeper:
        raise ValueError(
            f"hydra/sweeper={config.hydra.sweeper._target_}: allowed is basic; our arms are given, not searched"
        )
    loader = GlobalHydra.instance().config_loader()
    params = dict(config.hydra.sweeper.params)
    parse = OverridesParser.create(config_loader=loader).parse_overrides
    given = parse([f"{key}={value}" for key, value in params.items()] + list(config.hydra.overrides.task))
    for override in given:
        if override.is_sweep_override() and override.get_key_element() in NOT_SWEPT:
            raise ValueError(f"{override.input_line}: allowed is one value; a sweep belongs to one study")
    seeds = [override.input_line.partition("=")[2] for override in given if override.get_key_element() == "seed"]
    if seeds:
        with open_dict(config):
            config.hydra.sweeper.params = {"seed": seeds[-1], **{k: v for k, v in params.items() if k != "seed"}}
        given = sorted(given, key=lambda override: override.get_key_element() != "seed")
    arms: dict[tuple[str, ...], DictConfig] = {}
    jobs = []
    for line in BasicSweeper.split_arguments(given, None)[0]:
        arm = tuple(override for override in line if not override.startswith("seed="))
        if arm not in arms:
            arms[arm] = loader.load_sweep_config(config, line)
        composed = arms[arm].copy()
        composed.seed = next((parse([o])[0].value() for o in line if o.startswith("seed=")), composed.seed)
        if composed.study != config.study:
            raise ValueError(f"study={composed.study}: allowed is the sweep's own, {config.study}")
        jobs.append(job(composed, dict(composed.hydra.runtime.choices), OUTPUTS))
    return jobs


def check(jobs: Sequence[Job]) -> None:
    """Refuse a sweep in which anything is wrong, before anything is done. ValueError says what is allowed."""
    check_folder(jobs[0].folder.parent)
    seen = {}
    for work in jobs:
        for key in ("seed", "nuisance"):
            value = work.settings[key]
            if type(value) is not int or value < 0:
                raise ValueError(f"{key}={value}: allowed is a whole number from 0 on")
        arm = {key: value for key, value in work.settings.items() if key != "seed"}
        if repr(arm) not in seen:
            seen[repr(arm)] = True
            warn(build_options(work.settings))
    for work in jobs:
        check_run_folder(work.folder)


def warn(options: Options) -> None:
    if isinstance(options.clip, Delayed) and options.clip.start > options.trainer.steps:
        display.log.warning(
            "clip.start=%d is beyond the last step, trainer.steps=%d: the rule never acts",
            options.clip.start, options.trainer.steps,
        )  # fmt: skip


def check_folder(study: Path) -> None:
    """A study's folder lies in outputs/, is no link out of it, and can be written."""
    name = study.relative_to(OUTPUTS) if study.is_relative_to(OUTPUTS) else study
    if not all(re.fullmatch(r"\w[\w.-]*", part) for part in name.parts) or not name.parts:
        raise ValueError(f"study={name}: allowed is a name of letters, digits, '_', '-' and '.', below others with '/'")
    if not study.resolve().is_relative_to(OUTPUTS.resolve()):
        raise ValueError(
            f"study={name}: allowed is a folder inside {OUTPUTS}/; this one leads out, to {study.resolve()}"
        )
    check_writable(study)


def check_writable(folder: Path) -> None:
    """The nearest thing that exists at or above `folder` is a folder that can be written."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not existing.is_dir():
        raise ValueError(f"{existing}: allowed is a folder; something else is in its place")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{existing}: not writable")


def check_run_folder(folder: Path) -> None:
    """A run's folder that is there already is one of ours, readable and writable. ValueError names the path."""
    check_writable(folder)
    with contextlib.suppress(BrokenRecord):  # to be done again, with a warning
        read_run(folder)


def prepare(jobs: Iterable[Job]) -> None:
    """Fetch, read and check model files and data of all jobs that are still to be done."""
    for work in {repr((w.settings["model"], w.settings["data"])): w for w in jobs}.values():
        options = build_options(work.settings)
        corpus(options.model, options.data)
