"""Helpers of several tests: configs composed as the command composes them, and runs without Hydra."""

import functools
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ablate.config.paths import conf
from ablate.experiment import plain
from ablate.schema import TABLES, WHERE_KNOWN

RECORDED = tuple(table for table in TABLES if table not in WHERE_KNOWN or table == "measures")
"""Tables that every run has."""

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


def compose_config(*overrides: str) -> DictConfig:
    """Return the config that `python -m ablate <overrides>` composes, including `hydra`."""
    return pickle.loads(composed(overrides, os.getcwd()))


@functools.cache
def composed(overrides: tuple[str, ...], cwd: str) -> bytes:
    with initialize_config_dir(conf(), version_base="1.3", job_name="ablate"):
        return pickle.dumps(compose("config", list(overrides), return_hydra_config=True))


def compose_settings(*overrides: str) -> dict[str, Any]:
    return plain(compose_config(*overrides))


def run_settings(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Perform one run in this process; return run.json's fields."""
    from ablate.run import progress
    from ablate.run.run import perform
    from ablate.run.signals import StopRequest

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return perform(settings, "0123456789", folder, StopRequest())
    finally:
        progress.close_display()


def without_report(arguments: Sequence[str]) -> list[str]:
    """Return a sweep's arguments with report=false, which saves seconds, unless the test sets `report`."""
    is_sweep = {"-m", "--multirun"} & set(arguments) and not any(word.startswith("report=") for word in arguments)
    return [*arguments, *(["report=false"] if is_sweep else [])]


def ablate(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ablate <arguments>`; a sweep writes no report unless `report=true` is given.

    The process is forked from one that has the imports done, which saves four seconds of processor time. Where the
    environment matters it is started as a user does.
    """
    from tests.faults.harness import finish, start

    if environment:
        return ablate_as_user(*arguments, cwd=cwd, **environment)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        code = finish(start(cwd, *arguments, printed=outputs))
        printed = [path.read_text() for path in outputs]
    return subprocess.CompletedProcess(arguments, code, *printed)


def ablate_as_user(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m ablate <arguments>` in a new interpreter, with report=false as above."""
    return subprocess.run(
        [sys.executable, "-m", "ablate", *without_report(arguments)], cwd=cwd, capture_output=True, text=True,
        check=False, env={**os.environ, "COLUMNS": "120", **environment}, timeout=600,
    )  # fmt: skip


def bash_commands(document: Path) -> list[str]:
    """The commands in a document's blocks of bash, without comments; those that `&&` joins one by one."""
    blocks = re.findall(r"```bash\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(part.strip() for line in lines if line for part in line.split(" && ")))


def make_odd(path: Path, kind: str) -> None:
    """Make something that nobody should wait for or read whole: a fifo, device, folder or huge file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 3 * 2**30)  # sparse
