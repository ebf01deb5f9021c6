"""A Hydra callback around a sweep: check every job before the first run, show progress, end with the table.

Hydra turns exceptions of a callback into warnings, except `SystemExit`. So each hook raises a `CommandEnd`, which is
one, if something is wrong: with code 2 before any run, with 1 after a failed run.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ablate.config.checks import refusal, require
from ablate.config.errors import INPUT_ERRORS, CommandEnd
from ablate.config.output import use_lenient_output
from ablate.config.start import resume_collection
from ablate.distributed.ranks import connect_ranks, current_ranks
from ablate.experiment import build_option
from ablate.files.reading import read_regular
from ablate.run import fork, process, progress
from ablate.run.fork import Snapshot
from ablate.run.job import Job, finished_status, remove_snapshots
from ablate.run.progress import console
from ablate.run.signals import stop_behind, stop_by_exception
from ablate.sweep import launchers, plan, watch, workers
from ablate.sweep.claims import keep_claims, run_names, sweep_claims
from ablate.sweep.compose import compose_jobs, composed_job
from ablate.sweep.core_use import CoreUse, warn_if_busy
from ablate.sweep.launchers import Launcher
from ablate.sweep.preflight import (
    check,
    check_hydra,
    check_models,
    check_threads,
    prepare,
    study_folder,
)
from ablate.sweep.summary import print_summary, write_study_report
from analysis.records.packing import unpack_missing


def ends_program(hook: Callable[..., None]) -> Callable[..., None]:
    """End the command with 2 on bad input that a hook finds before the first run, and with 1 on any other exception."""

    @wraps(hook)
    def guarded(*arguments: Any, **settings: Any) -> None:
        try:
            hook(*arguments, **settings)
        except Exception as error:
            if stop := stop_behind(error):
                raise stop from None
            progress.close_display()
            is_early = isinstance(error, INPUT_ERRORS) and process.current.end_sweep is None
            raise CommandEnd(2 if is_early else 1, error) from None

    return guarded


class Sweep(Callback):
    """Hydra calls the run hooks for a single run and the multirun hooks for a sweep; both do the same."""

    team: workers.Team | None = None
    reports = False

    @ends_program
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.begin_on_ranks(config, [composed_job(config)], launchers.one_by_one())

    @ends_program
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        jobs = compose_jobs(config)
        self.reports = config.report
        self.begin_on_ranks(config, jobs, launchers.launcher(config))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set up the process in which the job runs; one that a launcher started only has this pickled object."""
        in_worker = process.current.end_sweep is None
        if in_worker:
            use_lenient_output()
            process.current.become_worker(self.launcher.threads, self.shown)
            if self.team:
                workers.enrol(self.team)
        progress.configure_logging()
        name = Path(config.hydra.runtime.output_dir).name
        if in_worker and name in self.todo:
            place, is_silent = self.todo.index(name), not self.launcher.has_own_logs
            progress.open_display(len(self.todo), 0, place, self.names, is_silent)

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        self.end()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if process.current.release is not None:
            process.current.release()
            process.current.release = None
        self.end()

    def begin_on_ranks(self, config: DictConfig, jobs: Iterable[Job], launcher: Launcher) -> None:
        """Call `begin` on rank 0; the other ranks then continue, or exit with the same code."""
        resume_collection()
        stop_by_exception()
        ranks, code = connect_ranks(), None
        if ranks.count > 1 and launcher.is_elsewhere:
            name = config.hydra.runtime.choices["hydra/launcher"]
            raise refusal("hydra/launcher", name, "basic where a run has several ranks")
        if not ranks.leads:
            progress.silence()
            code, process.current.end_sweep = ranks.broadcast(), self.end
            if code is not None:
                raise CommandEnd(code)
            return
        try:
            self.begin(config, jobs, launcher)
        except CommandEnd as end:
            code = end.code
            raise
        finally:
            ranks.broadcast(code)

    @ends_program
    def begin(self, config: DictConfig, jobs: Iterable[Job], launcher: Launcher) -> None:
        """Check and plan all jobs; exit here if only the plan is wanted, or, after the table, if all are done."""
        progress.configure_logging()
        core_use = CoreUse()
        check_hydra(config)
        require("plan", config.plan, not config.plan or config.plan in (True, "json"), "true, json or false")
        typed = unique(with_archived_runs([*jobs]))
        jobs = [work.with_threads(launcher.threads) for work in typed]
        check(jobs)
        self.claims, content = sweep_claims(config, jobs)
        self.settings = jobs[0].config  # a tracker of the user's own could not be unpickled in every worker
        self.folders, self.rerun = [work.folder for work in jobs], any(work.rerun for work in jobs)
        todo = [work for work in jobs if work.rerun or not finished_status(work)]
        parallel_runs = max(1, min(launcher.parallel_runs, len(todo)))
        shared = plan.shared_starts(todo)
        measured = plan.measured_costs(todo)
        runs = plan.plan_runs(jobs, shared, measured)
        if todo:
            check_threads(todo)
            check_models(todo)
        if config.plan:
            local = local_totals(config, typed, shared, measured)
            advice = "" if launcher.is_elsewhere else plan.advice(plan.totals(runs), *local)
            power = plan.claims_power(self.claims, jobs[0].folder.parent, self.settings["allow_targets"])
            raise CommandEnd(0, plan=plan.Plan(config.plan, runs, parallel_runs, advice, power))
        prepare(todo)
        if todo or content != read_regular(self.claims):
            self.claims = keep_claims(self.claims, content, jobs[0].folder.parent)
        self.launcher, process.current.end_sweep = launcher, self.end
        process.current.threads, process.current.after_stop = launcher.threads, launcher.after_stop
        if not todo:
            remove_snapshots(jobs[0].folder.parent)  # a kill may have left some
            console.print(f"all {len(jobs)} runs are done already; rerun=true does them again")
            self.end()
            raise CommandEnd(0)
        if launcher.shares_cores:
            warn_if_busy(core_use.by_others(), todo[0].trainer.thread_count(), parallel_runs)
        fork.announce(fork.shared_folder(jobs[0].folder), shared)
        console.print(plan.in_short(runs, parallel_runs), markup=False, highlight=False, soft_wrap=True)
        self.open(config, todo, runs)

    def open(self, config: DictConfig, todo: Sequence[Job], runs: Sequence[plan.PlannedRun]) -> None:
        """Start the launcher and watch its processes, or open the display of runs in this process."""
        self.names = run_names(todo)
        if self.launcher.is_elsewhere:
            self.todo, self.shown = [work.folder.name for work in todo], process.current.shown
            self.team = self.launcher.start(config)
            if self.team:
                process.current.release = self.team.dismiss
            console.print(self.launcher.announcement, markup=False, highlight=False, soft_wrap=True)
            watch.open_watch(todo, {run.run: run.steps for run in runs}, self.names)
        else:
            progress.open_display(len(todo), sum(run.steps for run in runs), names=self.names)

    @ends_program
    def end(self) -> None:
        """Write the report, print the table and what needs attention; exit with 1 if a run failed or is unfinished."""
        progress.close_display()
        if not current_ranks().leads:
            return
        tracker = build_option("tracker", self.settings)
        allow = self.settings["allow_targets"]
        report = write_study_report(self.folders[0].parent, self.claims, tracker, allow) if self.reports else ""
        all_ended = print_summary(self.folders, self.rerun, report)
        if not all_ended:
            raise CommandEnd(1)


def local_totals(
    config: DictConfig, jobs: Sequence[Job], shared: Sequence[Snapshot], measured: plan.MeasuredCosts
) -> tuple[dict[str, Any], int, int]:
    """The costs with hydra/launcher=local: totals, number of parallel runs, and threads of each."""
    local = launchers.sharing(workers.suggested(_root_=config))
    jobs = [work.with_threads(local.threads) for work in jobs]
    totals = plan.totals(plan.plan_runs(jobs, shared, measured), local.parallel_runs)
    return totals, local.parallel_runs, jobs[0].trainer.threads or local.threads


def with_archived_runs(jobs: list[Job]) -> list[Job]:
    """Unpack the runs that only the archive next to the study has; return the jobs, which may find their runs there."""
    line = unpack_missing(study_folder(jobs[0].config["study"]))
    if not line:
        return jobs
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return [Job(work.config, work.choices) for work in jobs]  # a job keeps the folder that it once found


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Return each run once, however often the sweep names it."""
    return list({work.folder: work for work in jobs}.values())
