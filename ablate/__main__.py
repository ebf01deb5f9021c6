"""The command `python -m ablate`: Hydra composes the config, and `ablate.run.job` executes each job.

Nothing heavy is imported before a job starts, so that --help and tab completion stay fast.
"""

if __name__ == "__main__":
    from ablate.config.start import leave_folder, obey_signals, pause_collection, run_doctor

    leave_folder()
    obey_signals()
    run_doctor()
    pause_collection()

import os
import sys
import time
import traceback
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

import ablate.run.folder_name  # registers the resolver `run_name`
import ablate.sweep.launchers  # noqa: F401  registers the resolver `workers`
from ablate.config.errors import INPUT_ERRORS, CommandEnd, complaint
from ablate.config.loader import use_checked_loader
from ablate.config.output import use_lenient_output
from ablate.config.paths import conf
from ablate.config.start import obey_signals
from ablate.distributed.ranks import RanksOutOfSync, current_ranks, exit_rank
from ablate.run import process
from ablate.run.signals import Stopped, ignore_signals, stop_behind


@hydra.main(version_base="1.3", config_path=conf(), config_name="config")
def app(config: DictConfig) -> str:
    from ablate.run.job import execute_composed

    return execute_composed(config)


def main() -> None:
    """Run the command. Exit code 0: all runs are done; 1: a run failed; 2: the input is wrong, and nothing was run."""
    use_lenient_output()
    try:
        check_interpreter()
        ranks = current_ranks()
    except ValueError as error:
        print(complaint(error), file=sys.stderr)
        sys.exit(2)
    if ranks.count == 1:
        try:
            return run_command()
        finally:
            ignore_signals()
    code: Any = 0
    try:
        run_command()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    ignore_signals()
    exit_rank(code)


def check_interpreter() -> None:
    """Raise ValueError where Python drops assertions: Hydra's parser and transformers' docstrings need them."""
    if sys.flags.optimize:
        raise ValueError(
            "PYTHONOPTIMIZE must be unset, and python must run without -O: "
            f"Hydra and transformers need assertions and docstrings (got {sys.flags.optimize})"
        )


def run_command() -> None:
    """Run the command and end as Python does, by returning or by SystemExit."""
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing its own message and exiting with 1
    if current_ranks().count > 1:  # silences a warning of torch's C++ code about the options of parallel.Replicated
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    obey_signals()
    use_checked_loader()
    try:
        typed = get_args_parser().parse_args()
        if typed.experimental_rerun:
            raise ValueError("--experimental-rerun is not allowed, as a pickled config can run code")
        flags = (("--config-dir", typed.config_dir), ("--config-name", typed.config_name))
        process.current.flags = tuple(word for flag, value in flags if value for word in (flag, value))
        app()
    except CommandEnd as end:
        show_end(end)
        sys.exit(end.code)
    except (Stopped, KeyboardInterrupt) as stop:
        exit_stopped(stop)
    except RanksOutOfSync as error:
        print(error, file=sys.stderr)
        close_sweep()
        sys.exit(1)
    except Exception as error:
        if stop := stop_behind(error):
            exit_stopped(stop)
        if wants_traceback:
            raise
        if current_ranks().leads:
            print(complaint(error), file=sys.stderr)
        else:
            time.sleep(10)  # torchrun ends all ranks when the first one ends: rank 0 has to print the reason before
        sys.exit(close_sweep())


def show_end(end: CommandEnd) -> None:
    """Print the plan that was asked for, or why the command ends; a traceback for errors that no input explains."""
    if end.plan is not None:
        from ablate.run.progress import table_console

        end.plan.show(table_console())
    elif end.error is not None and not isinstance(end.error, INPUT_ERRORS):
        traceback.print_exception(end.error)
    elif end.error is not None and current_ranks().leads:
        print(complaint(end.error), file=sys.stderr)


def exit_stopped(stop: Stopped | KeyboardInterrupt) -> NoReturn:
    """Exit after a signal: print how to continue."""
    ignore_signals()
    if process.current.display:
        process.current.display.close()  # the terminal gets its cursor back
    if not isinstance(stop, Stopped):
        stop = Stopped(process.current.interrupted_by)
    print(f"{stop}; {process.current.after_stop}", file=sys.stderr)
    exec("")  # Python kills itself at exit if Ctrl-C interrupted an `exec` of text, unless another one has succeeded
    sys.exit(stop.exit_code)


def close_sweep() -> int:
    """Print the table of a sweep that started and could not continue, and return 1; return 2 if none started."""
    if process.current.end_sweep is None:
        return 2
    process.current.end_sweep()
    return 1


if __name__ == "__main__":
    main()
