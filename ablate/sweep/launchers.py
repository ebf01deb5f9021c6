"""The meaning of hydra/launcher for a sweep: how many parallel runs, with how many threads each, and where.

The command finds it once and passes it to every process that a launcher starts, so that plan, checks and runs agree.
"""

import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.config.checks import refusal
from ablate.config.paths import conf
from ablate.config.start import CONTINUE
from ablate.run import process
from ablate.run.signals import in_main_thread
from ablate.sweep import workers
from ablate.trainer import Trainer, cores

RAY_QUIET = {  # unless the user has set them: no usage statistics; lines appear as the runs print them
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0",
}  # fmt: skip


def start_nothing(config: DictConfig) -> None:
    """Start nothing: runs are in the command's process, or the cluster is there already."""


@dataclass(frozen=True)
class Launcher:
    """How and where the runs of a sweep run."""

    parallel_runs: int  # at most
    threads: int  # of a run whose trainer.threads is null
    is_elsewhere: bool = False  # runs are in other processes than the command ...
    shares_cores: bool = True  # ... and on the same machine
    has_own_logs: bool = False  # each run prints to a file of its own
    announcement: str = ""  # printed before the first run
    after_stop: str = CONTINUE  # printed when a signal stops the command
    start: Callable[[DictConfig], workers.Team | None] = start_nothing  # called before the first run


def one_by_one() -> Launcher:
    """Hydra's basic launcher: each run has the machine to itself."""
    return Launcher(1, cores())


def launcher(config: DictConfig) -> Launcher:
    """Return the meaning of a composed config's launcher. An unknown launcher is treated as Hydra's basic one.

    Raises ValueError if the launcher is not installed or has an invalid setting.
    """
    meaning = MEANINGS.get(str(config.hydra.launcher._target_))
    return meaning(config) if meaning else one_by_one()


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Handle SIGTERM while Ray waits for runs: Ray lets KeyboardInterrupt pass, and would swallow `Stopped`."""
    process.current.interrupted_by = signum
    raise KeyboardInterrupt


def joblib_workers(config: DictConfig) -> Launcher:
    """Processes on this machine, started by joblib."""
    check_launcher_installed(config, "joblib")
    from joblib import effective_n_jobs

    n_jobs = config.hydra.launcher.n_jobs
    if type(n_jobs) is not int or n_jobs == 0:
        raise refusal("hydra.launcher.n_jobs", n_jobs, "a whole number, at least 1, or -1 for one run per core")
    return sharing(effective_n_jobs(n_jobs))


def sharing(parallel_runs: int) -> Launcher:
    """Parallel runs that share the cores of this machine; joblib leaves a single one in the command's process."""
    threads = Trainer().thread_count(parallel_runs)
    if parallel_runs == 1:
        return Launcher(parallel_runs, threads)
    announcement = f"starting {parallel_runs} workers; each loads its own copy of the model and the data"
    return Launcher(parallel_runs, threads, True, announcement=announcement, start=partial(start_team, parallel_runs))


def start_team(count: int, config: DictConfig) -> workers.Team:
    return workers.gather(count)


def slurm(config: DictConfig) -> Launcher:
    """SLURM jobs, submitted by submitit."""
    check_launcher_installed(config, "slurm")
    for key in ("array_parallelism", "timeout_min", "cpus_per_task"):
        check_whole(config, key, least=1)
    for key in ("max_num_timeout", "signal_delay_s"):
        check_whole(config, key, least=0)
    if shutil.which("sbatch") is None:
        raise ValueError(
            "hydra/launcher=slurm needs sbatch on the PATH: run the command on a machine that can submit jobs"
        )
    settings, study = config.hydra.launcher, config.hydra.sweep.dir
    commands = (
        f"squeue --me lists them, scancel --me --name={settings.name} cancels them, "
        f"python -m analysis {study} reports the results so far"
    )
    return Launcher(
        parallel_runs=settings.array_parallelism,
        threads=settings.cpus_per_task,
        is_elsewhere=True,
        shares_cores=False,
        has_own_logs=True,
        announcement="submitting each run as a SLURM job, which is requeued to continue if it is pre-empted or out of "
        f"time: {commands}; logs: {study}/.submitit/; this command prints the table when all jobs have ended",
        after_stop=f"the jobs continue without this command: {commands}; run the same command again for the other runs",
    )


def ray_tasks(config: DictConfig) -> Launcher:
    """Tasks of a Ray cluster, each in a worker process."""
    check_launcher_installed(config, "ray")
    settings = config.hydra.launcher.ray
    check_whole(config, "ray.remote.num_cpus", least=1)
    address, threads = settings.init.address, settings.remote.num_cpus
    cpus = (settings.init.get("num_cpus") or cores()) if address == "local" else connected_cpus(config)
    if threads > cpus:
        raise refusal("hydra.launcher.ray.remote.num_cpus", threads, f"at most the {cpus} CPUs of the cluster")
    return Launcher(
        parallel_runs=cpus // threads,
        threads=threads,
        is_elsewhere=True,
        shares_cores=False,
        announcement=f"submitting each run as a task to the Ray cluster at {address}, which has {cpus} CPUs",
        after_stop=f"{CONTINUE} from the last checkpoints",
        start=connect_ray if address == "local" else start_nothing,
    )


def connect_ray(config: DictConfig) -> None:
    """Start a Ray cluster, or connect to the one at the address. Raises ValueError if none answers there."""
    settings: Any = OmegaConf.to_container(config.hydra.launcher.ray.init, resolve=True)
    for name, value in RAY_QUIET.items():
        os.environ.setdefault(name, value)
    try:
        if settings["address"] != "local":
            check_reachable(settings["address"])
        import ray

        with contextlib.chdir(conf()):  # it has no modules, and Ray's workers search the current folder for them first
            ray.init(**settings)
        process.current.release = ray.shutdown
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        key, what = "hydra.launcher.ray.init.address", "the address of a running Ray cluster"
        raise ValueError(f"{refusal(key, settings['address'], what)}: {reason}") from None
    if in_main_thread():
        signal.signal(signal.SIGTERM, interrupt)  # Ray's own handler would exit with 1


def check_reachable(address: str) -> None:
    """Raise OSError within seconds where nothing answers; Ray itself would try for many minutes.

    Ray uses the token that `ray start` made only if RAY_AUTH_MODE says so.
    """
    if (Path.home() / ".ray/auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def connected_cpus(config: DictConfig) -> int:
    """Connect to a running cluster and return the number of its CPUs."""
    connect_ray(config)
    import ray  # reads the environment that `connect_ray` has set

    return int(ray.cluster_resources()["CPU"])


def check_launcher_installed(config: DictConfig, extra: str) -> None:
    from hydra.core.plugins import Plugins

    if config.hydra.launcher._target_ not in Plugins.instance().class_name_to_class:
        name = config.hydra.runtime.choices["hydra/launcher"]
        raise ValueError(f'hydra/launcher={name} is not installed: pip install "ablate-finetuning[{extra}]"')


def check_whole(config: DictConfig, key: str, least: int) -> None:
    """Raise ValueError unless a setting of the launcher is a whole number of at least `least`."""
    value = OmegaConf.select(config.hydra.launcher, key)
    if type(value) is not int or value < least:
        raise refusal(f"hydra.launcher.{key}", value, f"a whole number, at least {least}")


MEANINGS: dict[str, Callable[[DictConfig], Launcher]] = {
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": joblib_workers,
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": slurm,
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher": ray_tasks,
}
