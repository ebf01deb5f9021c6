"""The first thing that a command does, before it imports any other module: it leaves its folder, and obeys signals.

`python -m` lets imports find the files of the working directory before all others. A study's folder may hold files with
the names of modules (`typing.py`, `hydra_plugins/`), and none of them may run unless the user names it.
"""

import gc
import os
import sys
from importlib import import_module

CONTINUE = "run the same command again to continue"
TERMINATED = 75  # EX_TEMPFAIL of sysexits.h, "try again": schedulers requeue a job that exits with it
INTERRUPTED = 130  # as shells report a command that Ctrl-C ended


def leave_folder() -> None:
    """Take the working directory off the search for modules, in this process and in those that it starts.

    Not where it is the folder of this `ablate`, a checkout: everything in it is ours.
    """
    here = os.path.realpath(os.getcwd())
    if here != os.path.realpath(f"{__file__}/../../.."):
        sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]
        os.environ["PYTHONSAFEPATH"] = "1"


def enter_folder() -> None:
    """Let imports find the modules of the working directory, after installed ones of the same name."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def enter_command_folder() -> None:
    """Set up a Ray worker, first of all: enter the command's folder, with outputs/, but import nothing from it."""
    os.chdir(os.environ["ABLATE_FOLDER"])
    leave_folder()


def obey_signals() -> None:
    """End the command at once on SIGTERM and Ctrl-C, unless they are ignored or handled.

    An exception would not do: in the middle of an import, other code turns it into an error of its own.
    """
    import signal

    for signum, usual in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(signum) is usual:
            signal.signal(signum, exit_at_once)


def pause_collection() -> None:
    """Turn off garbage collection while modules are imported: it would find nothing, and take a second of six."""
    gc.disable()


def resume_collection() -> None:
    """Turn garbage collection on again where it was paused; it passes over what has been imported, which stays."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def exit_at_once(signum: int, frame: object) -> None:
    """Handle a signal before any work: nothing has to be saved or closed."""
    name, code = ("SIGINT", INTERRUPTED) if signum == 2 else ("SIGTERM", TERMINATED)
    try:
        os.write(2, f"stopped by {name}; {CONTINUE}\n".encode())
    finally:
        os._exit(code)


def run_doctor() -> None:
    """Run `doctor`, if that is the command, and exit: before the imports that may fail on a machine with a problem."""
    if sys.argv[1:2] == ["doctor"]:
        sys.exit(import_module("ablate.doctor").doctor_command(sys.argv[2:]))


def main() -> None:
    """The command `ablate`, which does the same as `python -m ablate`."""
    leave_folder()
    obey_signals()
    run_doctor()
    pause_collection()
    import_module("ablate.__main__").main()
