"""The command: `python -m ablate`. Hydra composes the config; a job is executed by `ablate.run.job`.

Nothing heavy is imported before a job starts, so that --help and tab completion stay fast.
"""

import os
import signal
import sys
import time
import traceback
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import ablate.run.folder_name  # noqa: F401  registers the resolver `run_name`
from ablate.config.errors import complaint
from ablate.config.paths import conf
from ablate.distributed.ranks import Apart, here, leave
from ablate.run.signals import Stopped, terminate
from ablate.sweep import (
    launchers,  # registers the resolver `workers`
    workers,
)


@hydra.main(version_base="1.3", config_path=conf(), config_name="config")
def app(config: DictConfig) -> str:
    from ablate.run.job import execute, job

    work = job(config, HydraConfig.get().runtime.choices)
    with workers.at_work():
        return execute(work.with_threads(launchers.here.threads))


def main() -> None:
    """Run the command; exit code 0: all done, 1: a run failed, 2: nothing was run, the input is wrong."""
    if here().count == 1:
        return command()
    code: Any = 0
    try:
        command()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    leave(code)


def command() -> None:
    """The same, ending as Python does."""
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing its own and exiting 1
    if here().count > 1:  # torch's C++ would warn that parallel.Replicated does what it has reasons to do
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    signal.signal(signal.SIGTERM, terminate)
    sys.path.append(os.getcwd())  # as `python -m` does, for the console script: rules of the user's own
    try:
        app()
    except (Stopped, KeyboardInterrupt) as stop:
        launchers.leave(stop)
    except Apart as error:
        print(error, file=sys.stderr)
        close_sweep()
        sys.exit(1)
    except Exception as error:
        if wants_traceback:
            raise
        if here().leads:
            print(complaint(error), file=sys.stderr)
        else:
            time.sleep(10)  # torchrun ends all with the first that ends: rank 0 has to say why before
        sys.exit(close_sweep())


def close_sweep() -> int:
    """The table of a sweep that has begun but could not go on, and exit code 1; 2 where none has."""
    sweep = sys.modules.get("ablate.sweep.callback")
    if sweep is None or sweep.begun is None:
        return 2
    sweep.begun.end()
    return 1


if __name__ == "__main__":
    main()
