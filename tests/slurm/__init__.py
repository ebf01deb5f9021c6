"""A SLURM for the tests: the one that the environment names, or one of their own."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START = Path(__file__).with_name("start")
FOLDER = Path("/tmp/ablate-slurm")


def lacking() -> str:
    """What stands in the way of a SLURM here; "" if nothing does."""
    if "SLURM_CONF" in os.environ:
        return ""
    if os.environ.get("ABLATE_SLURM") == "none":
        return "SLURM does not start on this machine"
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if shutil.which(name, path=path) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)"
    return "" if os.getuid() == 0 else "only root can start a SLURM"


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """A SLURM that answers; yields what the environment needs.

    Of pytest's processes the first starts it, and the last one stops it.
    """
    if "SLURM_CONF" in os.environ:
        yield {}
        return
    with FOLDER.with_suffix(".lock").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        subprocess.run([START], check=True, timeout=300)
        fcntl.flock(users, fcntl.LOCK_SH)
        yield {"SLURM_CONF": str(FOLDER / "slurm.conf")}
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        subprocess.run([START, "stop"], check=True, timeout=300)
