"""What hydra/launcher means for a sweep: how many runs go at once, with how many threads each, and where.

Told once, in the command, and pickled along to every process that works on a run: plan, checks and runs agree.
"""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf

from ablate.config.checks import refusal
from ablate.run.signals import Stopped, StopRequest
from ablate.sweep import workers
from ablate.trainer import Trainer, cores

FOLDER = "ABLATE_FOLDER"  # in a worker of Ray's: the command's folder
RAY_QUIET = {  # unless the user has set them: nothing is told to Ray's makers; lines as the runs print them
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_COLOR_PREFIX": "0",
}  # fmt: skip


def nothing(config: DictConfig) -> None:
    """What has to be started where runs go in the command itself, or where the cluster is there already."""


@dataclass(frozen=True)
class Launcher:
    """How a sweep's runs go."""

    at_once: int  # runs, at most
    threads: int  # of a run, where trainer.threads is null
    is_elsewhere: bool = False  # runs go in other processes than the command's
    begins: str = ""  # what is said before the first run
    stopped: str = "the same command goes on from here"  # what is said when the command is told to stop
    start: Callable[[DictConfig], workers.Team | None] = nothing  # called before the first run


def one_by_one() -> Launcher:
    """Hydra's own launcher: a run has this machine for itself."""
    return Launcher(1, cores())


here = one_by_one()
"""What the runs of this process go by; the callback sets it."""


def launcher(config: DictConfig) -> Launcher:
    """What a composed config's launcher means. ValueError if it isn't installed, or a setting makes no sense.

    One that we don't know may run its jobs anywhere; it is taken for Hydra's own.
    """
    meaning = MEANINGS.get(str(config.hydra.launcher._target_))
    return meaning(config) if meaning else one_by_one()


_asked = StopRequest()


def interrupt(signum: int, frame: FrameType | None) -> None:
    """SIGTERM's handler where Ray waits for runs: it lets KeyboardInterrupt out, and swallows an exception of ours."""
    _asked.signum = signum
    raise KeyboardInterrupt


def leave(stop: Stopped | KeyboardInterrupt) -> NoReturn:
    """End the command, which was told to stop: say how to go on."""
    if not isinstance(stop, Stopped):
        stop = Stopped(_asked.signum or signal.SIGINT)
    print(f"{stop}; {here.stopped}", file=sys.stderr)
    sys.exit(stop.exit_code)


def local(config: DictConfig) -> Launcher:
    """joblib's processes on this machine."""
    check_installed(config, "joblib")
    from joblib import effective_n_jobs

    n_jobs = config.hydra.launcher.n_jobs
    if type(n_jobs) is not int or n_jobs == 0:
        raise refusal("hydra.launcher.n_jobs", n_jobs, "a whole number, at least 1, or -1 for one run per core")
    return sharing(effective_n_jobs(n_jobs))


def sharing(at_once: int) -> Launcher:
    """So many runs at once, which share this machine's cores. One alone joblib leaves in the command's process."""
    threads = Trainer().thread_count(at_once)
    if at_once == 1:
        return Launcher(at_once, threads)
    begins = f"{at_once} workers start; each loads the model and the data for itself"
    return Launcher(at_once, threads, True, begins, start=partial(team_of, at_once))


def team_of(at_once: int, config: DictConfig) -> workers.Team:
    return workers.gather(at_once)


def slurm(config: DictConfig) -> Launcher:
    """Jobs of SLURM's, handed over by submitit, each on a node that has room."""
    check_installed(config, "slurm")
    for key in ("array_parallelism", "timeout_min", "cpus_per_task"):
        check_whole(config, key, least=1)
    for key in ("max_num_timeout", "signal_delay_s"):
        check_whole(config, key, least=0)
    if shutil.which("sbatch") is None:
        raise ValueError(
            "hydra/launcher=slurm needs sbatch on the PATH: run the command on a machine that submits jobs"
        )
    settings, study = config.hydra.launcher, config.hydra.sweep.dir
    ways = (
        f"squeue --me lists them, scancel --me --name={settings.name} ends them, "
        f"python -m analysis {study} shows what is there"
    )
    return Launcher(
        at_once=settings.array_parallelism,
        threads=settings.cpus_per_task,
        is_elsewhere=True,
        begins="each run becomes a job of SLURM's, requeued to go on when it is pre-empted or out of time: "
        f"{ways}; logs: {study}/.submitit/; here the table will follow",
        stopped=f"the jobs go on without it: {ways}; the same command does what no job is at",
    )


def cluster(config: DictConfig) -> Launcher:
    """Tasks of a Ray cluster, each in a worker process on a machine that has room."""
    check_installed(config, "ray")
    settings = config.hydra.launcher.ray
    check_whole(config, "ray.remote.num_cpus", least=1)
    address, threads = settings.init.address, settings.remote.num_cpus
    room = (settings.init.get("num_cpus") or cores()) if address == "local" else joined(config)
    if threads > room:
        raise refusal("hydra.launcher.ray.remote.num_cpus", threads, f"at most the {room} CPUs of the cluster")
    return Launcher(
        at_once=room // threads,
        threads=threads,
        is_elsewhere=True,
        begins=f"each run becomes a task of the Ray cluster at {address}, {room} CPUs",
        stopped="the same command goes on from the last checkpoints",
        start=join if address == "local" else nothing,
    )


def join(config: DictConfig) -> None:
    """Start Ray's cluster, or join the one at the address. ValueError if none answers there."""
    settings: Any = OmegaConf.to_container(config.hydra.launcher.ray.init, resolve=True)
    for name, value in RAY_QUIET.items():
        os.environ.setdefault(name, value)
    try:
        if settings["address"] != "local":
            reach(settings["address"])
        import ray

        ray.init(**settings)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"hydra.launcher.ray.init.address={settings['address']}: no cluster there: {reason}") from None
    signal.signal(signal.SIGTERM, interrupt)  # Ray's own would exit with 1


def reach(address: str) -> None:
    """Ray tries for many minutes where nobody answers, and brings the token that `ray start` made only if told to."""
    if (Path.home() / ".ray/auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def joined(config: DictConfig) -> int:
    """Join a cluster that is there already; its CPUs."""
    join(config)
    import ray  # reads the environment that `join` has set

    return int(ray.cluster_resources()["CPU"])


def enter_folder() -> None:
    """In a worker of Ray's, first of all: go to the command's folder, where outputs/ and the user's files are."""
    folder = os.environ[FOLDER]
    os.chdir(folder)
    sys.path.append(folder)  # rules of the user's own, as in the command


def check_installed(config: DictConfig, extra: str) -> None:
    from hydra.core.plugins import Plugins

    if config.hydra.launcher._target_ not in Plugins.instance().class_name_to_class:
        name = config.hydra.runtime.choices["hydra/launcher"]
        raise ValueError(f'hydra/launcher={name}: needs what pip install "ablate-finetuning[{extra}]" brings')


def check_whole(config: DictConfig, key: str, least: int) -> None:
    """ValueError unless a setting of the launcher's is a whole number, and no smaller than this."""
    value = OmegaConf.select(config.hydra.launcher, key)
    if type(value) is not int or value < least:
        raise refusal(f"hydra.launcher.{key}", value, f"a whole number, at least {least}")


MEANINGS: dict[str, Callable[[DictConfig], Launcher]] = {
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": local,
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": slurm,
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher": cluster,
}
