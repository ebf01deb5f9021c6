"""A sweep in the process of a caller, as `ablate.api` runs it; it leaves the process as it was.

It is what `python -m ablate -m` does after Hydra has parsed the flags: Hydra's multirun with our loader, our callback
and our job. A command owns its process, and a caller does not: logs, signals, random numbers and Hydra stay theirs.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from hydra.version import VersionBase, setbase
from omegaconf import DictConfig, read_write

import ablate.run.folder_name
import ablate.sweep.launchers  # noqa: F401  both register a resolver
from ablate.config.checks import require
from ablate.config.errors import INPUT_ERRORS, CommandEnd, in_words
from ablate.config.loader import CheckedLoader
from ablate.config.paths import conf
from ablate.config.start import CONTINUE
from ablate.distributed.ranks import current_ranks
from ablate.run import process, progress
from ablate.run.job import execute_composed
from ablate.run.process import Process
from ablate.run.signals import SIGNALS, Stopped, in_main_thread, stop_behind, terminate
from ablate.sweep.plan import Plan

_one_at_a_time = threading.Lock()
"""Held by a sweep: Hydra, torch's switches and signals belong to the whole process."""


class QuietLoader(CheckedLoader):
    """Composes configs by which Hydra leaves the logs of the process alone."""

    def compose_once(self, config_name: str | None, overrides: list[str], run_mode: RunMode) -> DictConfig:
        config = super().compose_once(config_name, overrides, run_mode)
        with read_write(config):
            config.hydra.job_logging.root = config.hydra.hydra_logging.root = None
        return config


def run_sweep(overrides: Sequence[str], config_dir: Path | None = None) -> Plan | None:
    """Run a sweep as `python -m ablate -m <overrides>` does; return its plan, where the overrides ask for that.

    Raises ValueError for input that is wrong, RuntimeError where runs failed or are unfinished, KeyboardInterrupt after
    Ctrl-C, and SystemExit after SIGTERM, when everything on disk is complete.
    """
    if current_ranks().count > 1:
        raise ValueError("a study of several ranks is a command: torchrun --nproc-per-node 2 -m ablate -m ...")
    with only_sweep(), restored_process(), own_hydra(config_dir) as hydra:
        try:
            words = [*overrides, "hydra.mode=MULTIRUN"]  # as Hydra's own command line
            hydra.multirun("config", execute_composed, words, with_log_configuration=False)
        except CommandEnd as end:
            if end.code:
                raise readable(end.error, overrides) from None
            return end.plan
        except BaseException as error:
            if stop := stop_behind(error):
                raise stopped(stop) from None
            if process.current.end_sweep is not None:
                with suppress(CommandEnd):
                    process.current.end_sweep()
            raise readable(error, overrides) from None
    return None


def readable(error: BaseException | None, overrides: Sequence[str]) -> BaseException:
    """The error to raise in a caller: Hydra's and joblib's have their reason in another error behind them."""
    if error is None:
        return RuntimeError("some runs failed or are unfinished: the lines above name them; run again to continue")
    if isinstance(error, INPUT_ERRORS):
        return ValueError(in_words(error, overrides))
    if type(error).__name__ == "TerminatedWorkerError":
        return RuntimeError(in_words(error, overrides))
    return error


def stopped(stop: Stopped | KeyboardInterrupt) -> BaseException:
    """The exception to raise in a caller after a signal, which says how to continue."""
    if not isinstance(stop, Stopped):
        stop = Stopped(process.current.interrupted_by)
    after = process.current.after_stop
    message = f"{stop}; {'run the study again to continue' if after == CONTINUE else after}"
    if stop.signum == signal.SIGINT:
        return KeyboardInterrupt(message)
    print(message, file=sys.stderr)
    return SystemExit(stop.exit_code)


# --- What a caller gets back ---


@contextmanager
def only_sweep() -> Iterator[None]:
    """Raise ValueError if a sweep is running in this process."""
    if not _one_at_a_time.acquire(blocking=False):
        raise ValueError("another study is running in this process: wait for it, or run this one in another process")
    try:
        yield
    finally:
        _one_at_a_time.release()


@contextmanager
def own_hydra(config_dir: Path | None) -> Iterator[Hydra]:
    """A Hydra of our own, also where the caller uses Hydra. `config_dir`: a folder with options of the user's own."""
    search_path = create_config_search_path(conf())
    if config_dir is not None:
        require("config_dir", config_dir, config_dir.is_dir(), "a folder with config groups of your own")
        process.current.flags = ("--config-dir", str(config_dir))
        search_path.prepend("command-line", f"file://{config_dir.resolve()}", SearchPathQuery(provider="schema"))
    ours, known = (GlobalHydra, HydraConfig, JobRuntime, VersionBase), Plugins.instance().class_name_to_class
    before = {each: Singleton._instances.pop(each) for each in ours if each in Singleton._instances}
    classes = dict(known)  # a sweep over listed arms has a sweeper of its own
    try:
        setbase("1.3")
        hydra = Hydra("ablate", QuietLoader(search_path))
        GlobalHydra.instance().initialize(hydra)
        yield hydra
    finally:
        for each in ours:
            Singleton._instances.pop(each, None)
        Singleton._instances.update(before)
        known.clear()
        known.update(classes)


@contextmanager
def restored_process() -> Iterator[None]:
    """Restore what a sweep changes in its process, when it ends."""
    with ExitStack() as stack:
        for part in (own_state, handlers, log_settings, torch_settings, import_settings):
            stack.enter_context(part())
        yield


@contextmanager
def own_state() -> Iterator[None]:
    """A state of the process for one sweep (`ablate.run.process`); at the end, no worker of its launcher is left."""
    before, process.current = process.current, Process()
    try:
        yield
    finally:
        progress.close_display()
        if process.current.release is not None:
            process.current.release()
        process.current = before


@contextmanager
def handlers() -> Iterator[None]:
    """SIGTERM raises `Stopped`, as in the command; only the main thread can and does change handlers."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    before = {signum: handler for signum in SIGNALS if (handler := signal.getsignal(signum)) is not None}
    if in_main_thread() and before.get(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        if in_main_thread():
            for signum, handler in before.items():
                signal.signal(signum, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def log_settings() -> Iterator[None]:
    """The logger `ablate`, which shows warnings during a sweep, as it was."""
    log = progress.log
    own, level, propagates = log.handlers[:], log.level, log.propagate
    log.handlers.clear()
    try:
        yield
    finally:
        log.handlers[:], log.propagate = own, propagates
        log.setLevel(level)


@contextmanager
def torch_settings() -> Iterator[None]:
    """Torch's defaults and a random state of our own, as in a new process; then those of the caller again."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    precision = torch.get_float32_matmul_precision()
    deterministic, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(precision)
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
            torch.utils.deterministic.fill_uninitialized_memory = filled


@contextmanager
def import_settings() -> Iterator[None]:
    """The search for modules, filters of warnings and environment variables as they were."""
    path, variables = sys.path[:], dict(os.environ)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            sys.path[:] = path
            os.environ.clear()
            os.environ.update(variables)
