"""Around a sweep, as a Hydra callback: check every job before the first, show progress, close with the table.

Hydra swallows a callback's exceptions into warnings; `SystemExit` goes through. So each hook ends the program
itself where something is wrong: with exit code 2 before any run, with 1 after a run that failed.
"""

import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ablate import display, fork, plan
from ablate.closing import close
from ablate.complaint import complaint
from ablate.compose import compose_jobs
from ablate.display import console
from ablate.job import Job, finished, job, sweep_snapshots
from ablate.preflight import check, check_hydra, prepare

begun: "Sweep | None" = None
"""The sweep, once every check has passed: from here on a failure is a run's, not the config's."""


def ends_program(hook: Callable[..., None]) -> Callable[..., None]:
    """Let bad input that a hook finds end the program with 2, any other exception with 1."""

    @wraps(hook)
    def guarded(*arguments: Any, **settings: Any) -> None:
        try:
            hook(*arguments, **settings)
        except (ValueError, HydraException, OmegaConfBaseException) as error:
            display.close_display()
            console.print(complaint(error), markup=False, highlight=False, soft_wrap=True)
            sys.exit(1 if begun else 2)
        except Exception:
            traceback.print_exc()
            sys.exit(1)

    return guarded


class Sweep(Callback):
    """Hydra calls the run hooks for a single run, the multirun hooks for a sweep; both come to the same."""

    @ends_program
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.begin(config, [job(config, dict(config.hydra.runtime.choices))])

    @ends_program
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.begin(config, compose_jobs(config))

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        self.end()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self.end()

    def begin(self, config: DictConfig, jobs: Sequence[Job]) -> None:
        """Check all jobs and plan them; end here if only the plan was wanted, or, with the table, if all are done."""
        global begun
        display.configure_logging()
        jobs = unique(jobs)
        check_hydra(config)
        check(jobs)
        self.folders, self.rerun = [work.folder for work in jobs], any(work.rerun for work in jobs)
        todo = [work for work in jobs if work.rerun or not finished(work)]
        shared = plan.snapshots(todo)
        runs = plan.make(jobs, shared, plan.measured())
        if config.plan:
            print_plan(config.plan, runs)
            sys.exit(0)
        prepare(todo)
        begun = self
        if not todo:
            sweep_snapshots(jobs[0].folder.parent)  # a kill may have left some
            console.print(f"all {len(jobs)} runs are done already; rerun=true does them again")
            self.end()
            sys.exit(0)
        fork.announce(fork.shared_folder(jobs[0].folder), shared)
        console.print(plan.in_short(runs), markup=False, highlight=False, soft_wrap=True)
        display.open_display(len(todo), sum(run.steps for run in runs))

    @ends_program
    def end(self) -> None:
        """Print the table and whatever needs attention; exit code 1 if a run failed or was left unfinished."""
        display.close_display()
        if not close(self.folders, self.rerun):
            sys.exit(1)


def print_plan(form: object, runs: Sequence[plan.PlannedRun]) -> None:
    """plan=true: for people; plan=json: for programs."""
    if form == "json":
        print(plan.as_json(runs))
    elif form is True:
        plan.show(runs, display.table_console())
    else:
        raise ValueError(f"plan={form}: allowed is true, json or false")


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Each run once, however often the sweep names it."""
    return list({work.folder: work for work in jobs}.values())
