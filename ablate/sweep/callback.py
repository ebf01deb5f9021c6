"""Around a sweep, as a Hydra callback: check every job before the first, show progress, close with the table.

Hydra swallows a callback's exceptions into warnings; `SystemExit` goes through. So each hook ends the program
itself where something is wrong: with exit code 2 before any run, with 1 after a run that failed.
"""

import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ablate.config.checks import refusal
from ablate.config.errors import complaint
from ablate.distributed.ranks import here, join
from ablate.experiment import build_option
from ablate.run import fork, progress
from ablate.run.fork import Snapshot
from ablate.run.job import Job, finished, job, sweep_snapshots
from ablate.run.progress import console
from ablate.sweep import launchers, plan, workers
from ablate.sweep.compose import compose_jobs
from ablate.sweep.launchers import Launcher
from ablate.sweep.preflight import check, check_hydra, check_threads, prepare
from ablate.sweep.summary import close, report

begun: "Sweep | None" = None
"""The sweep, once every check has passed: from here on a failure is a run's, not the config's."""


def ends_program(hook: Callable[..., None]) -> Callable[..., None]:
    """Let bad input that a hook finds end the program with 2, any other exception with 1."""

    @wraps(hook)
    def guarded(*arguments: Any, **settings: Any) -> None:
        try:
            hook(*arguments, **settings)
        except (ValueError, HydraException, OmegaConfBaseException) as error:
            progress.close_display()
            if here().leads:
                console.print(complaint(error), markup=False, highlight=False, soft_wrap=True)
            sys.exit(1 if begun else 2)
        except Exception:
            traceback.print_exc()
            sys.exit(1)

    return guarded


class Sweep(Callback):
    """Hydra calls the run hooks for a single run, the multirun hooks for a sweep; both come to the same."""

    team: workers.Team | None = None
    reports = False

    @ends_program
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.begin_together(config, [job(config, dict(config.hydra.runtime.choices))], launchers.one_by_one())

    @ends_program
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.reports = config.report
        self.begin_together(config, compose_jobs(config), launchers.launcher(config))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """In whatever process the job runs; in a launcher's nothing is set up yet but what was pickled: this object."""
        in_worker = begun is None
        if in_worker:
            launchers.here, progress.in_worker = self.launcher, True
            progress.said.update(self.said)
            if self.team:
                workers.enrol(self.team)
        progress.configure_logging()
        name = Path(config.hydra.runtime.output_dir).name
        if in_worker and name in self.todo:
            progress.open_display(len(self.todo), 0, begun=self.todo.index(name))

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        self.end()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.team:
            self.team.dismiss()
        self.end()

    def begin_together(self, config: DictConfig, jobs: Iterable[Job], launcher: Launcher) -> None:
        """`begin` on rank 0; of several processes the others go on, or end, as it does."""
        global begun
        ranks, code = join(), None
        if ranks.count > 1 and launcher.is_elsewhere:
            name = config.hydra.runtime.choices["hydra/launcher"]
            raise refusal("hydra/launcher", name, "basic where a run has several ranks")
        if not ranks.leads:
            progress.silence()
            code, begun = ranks.agree(), self
            if code is not None:
                sys.exit(code)
            return
        try:
            self.begin(config, jobs, launcher)
        except SystemExit as end:
            code = end.code
            raise
        finally:
            ranks.agree(code)

    @ends_program
    def begin(self, config: DictConfig, jobs: Iterable[Job], launcher: Launcher) -> None:
        """Check all jobs and plan them; end here if only the plan was wanted, or, with the table, if all are done."""
        global begun
        progress.configure_logging()
        typed = unique(jobs)
        jobs = [work.with_threads(launcher.threads) for work in typed]
        check_hydra(config)
        check(jobs)
        self.tracker = build_option("tracker", jobs[0].config)
        self.folders, self.rerun = [work.folder for work in jobs], any(work.rerun for work in jobs)
        todo = [work for work in jobs if work.rerun or not finished(work)]
        at_once = max(1, min(launcher.at_once, len(todo)))
        shared = plan.snapshots(todo)
        known = plan.known(todo)
        runs = plan.make(jobs, shared, known)
        if todo:
            check_threads(todo)
        if config.plan:
            local = local_totals(config, typed, shared, known)
            advice = "" if launcher.is_elsewhere else plan.advice(plan.totals(runs), *local)
            print_plan(config.plan, runs, at_once, advice)
            sys.exit(0)
        prepare(todo)
        begun, self.launcher, launchers.here = self, launcher, launcher
        if not todo:
            sweep_snapshots(jobs[0].folder.parent)  # a kill may have left some
            console.print(f"all {len(jobs)} runs are done already; rerun=true does them again")
            self.end()
            sys.exit(0)
        fork.announce(fork.shared_folder(jobs[0].folder), shared)
        console.print(plan.in_short(runs, at_once), markup=False, highlight=False, soft_wrap=True)
        self.open(config, todo, runs)

    def open(self, config: DictConfig, todo: Sequence[Job], runs: Sequence[plan.PlannedRun]) -> None:
        """The display of runs that go one by one, or what runs in other processes need; each of these has its own."""
        if self.launcher.is_elsewhere:
            self.todo, self.said = [work.folder.name for work in todo], progress.said
            self.team = self.launcher.start(config)
            console.print(self.launcher.begins, markup=False, highlight=False, soft_wrap=True)
        else:
            progress.open_display(len(todo), sum(run.steps for run in runs))

    @ends_program
    def end(self) -> None:
        """The table, whatever needs attention, and the report; exit code 1 if a run failed or was left unfinished."""
        progress.close_display()
        if not here().leads:
            return
        all_ended = close(self.folders, self.rerun)
        if self.reports:
            report(self.folders[0].parent, self.tracker)
        if not all_ended:
            sys.exit(1)


def local_totals(
    config: DictConfig, jobs: Sequence[Job], shared: Sequence[Snapshot], known: plan.Known
) -> tuple[dict[str, Any], int, int]:
    """What the sweep would take with hydra/launcher=local: totals, runs at once, and threads of each."""
    local = launchers.sharing(workers.suggested(_root_=config))
    jobs = [work.with_threads(local.threads) for work in jobs]
    totals = plan.totals(plan.make(jobs, shared, known), local.at_once)
    return totals, local.at_once, jobs[0].config["trainer"]["threads"]


def print_plan(form: object, runs: Sequence[plan.PlannedRun], at_once: int, advice: str) -> None:
    """plan=true: for people; plan=json: for programs."""
    if form == "json":
        print(plan.as_json(runs, at_once))
    elif form is True:
        plan.show(runs, progress.table_console(), at_once, advice)
    else:
        raise refusal("plan", form, "true, json or false")


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Each run once, however often the sweep names it."""
    return list({work.folder: work for work in jobs}.values())
