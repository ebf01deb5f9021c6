"""Checks this machine for what runs need: `python -m ablate doctor` prints one line per check, and what to type.

    python -m ablate doctor           # ok, warn or fail; exit code 1 if a check fails
    python -m ablate doctor --json    # the same as a list of objects

It changes nothing, and it imports nothing at the start that may be missing. A check that is optional never fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from ablate.config.paths import OUTPUTS
from ablate.config.wording import count, printable
from ablate.files.assets import ASSETS, cache_folder

PACKAGE = "ablate-finetuning"
OK, WARN, FAIL = "ok", "warn", "fail"

LEAST_SPACE, SHORT_OF_SPACE = 0.2e9, 5e9
"""Bytes: with less no run can start; with less a model of usual size may not fit."""

SECONDS_OF_LOAD = 0.5
HUB_SECONDS, INDEX_SECONDS = 3, 20
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
TRUE = ("1", "ON", "YES", "TRUE")
"""Values by which huggingface_hub takes such a variable as set, in capitals."""

LAUNCHER_NEEDS = {
    "local": ("hydra-joblib-launcher", "joblib", None),
    "slurm": ("hydra-submitit-launcher", "slurm", "sbatch"),
    "cluster": ("hydra-ray-launcher", "ray", None),
}
"""hydra/launcher -> distribution, extra of this package, and program that must be on PATH."""

MEASURED = "a run with all cores beside another load was measured 7 × slower than with one thread"


@dataclass(frozen=True)
class Check:
    """The result of one check. `todo`: what to type; empty if there is nothing to do."""

    name: str
    status: str
    found: str
    todo: str = ""


def doctor_command(words: Sequence[str]) -> int:
    """Run all checks and print them; return the exit code: 1 if a check fails."""
    parser = argparse.ArgumentParser(prog="python -m ablate doctor", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print a list of objects: name, status, found, todo")
    arguments = parser.parse_args(words)
    found = run_checks()
    print(json.dumps([asdict(check) for check in found], indent=1) if arguments.json else printable(in_lines(found)))
    return int(any(check.status == FAIL for check in found))


def run_checks() -> list[Check]:
    found = []
    for name, check in CHECKS.items():
        try:
            found += check()
        except Exception as error:  # what is broken on this machine may raise anything
            found.append(Check(name, FAIL, f"the check itself fails: {type(error).__name__}: {error}"))
    return found


def in_lines(checks: Sequence[Check]) -> str:
    """
    >>> print(in_lines([Check("python", OK, "3.11.9"), Check("disk", WARN, "1 GB free", "free some")]))
    ok    python           3.11.9
    warn  disk             1 GB free
                           → free some
    1 warning, no failure
    """
    lines = []
    for check in checks:
        lines.append(f"{check.status:<5} {check.name:<16} {check.found}")
        lines += [f"{'':<22} → {check.todo}"] if check.todo else []
    warned, failed = (sum(check.status == status for check in checks) for status in (WARN, FAIL))
    found = ((warned, "warning"), (failed, "failure"))
    lines.append(", ".join(count(number, what) if number else f"no {what}" for number, what in found))
    return "\n".join(lines)


# --- Versions ---


def check_versions() -> list[Check]:
    """Python, and each package that this one needs, against the ranges of its metadata."""
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return [Check("versions", FAIL, "packaging is not installed", f"pip install {PACKAGE}")]
    try:
        own = metadata.metadata(PACKAGE)
    except metadata.PackageNotFoundError:
        return [Check("versions", WARN, f"{PACKAGE} is not installed, so ranges are unknown", "pip install -e .")]
    version = ".".join(map(str, sys.version_info[:3]))
    range_ = own["Requires-Python"] or ""
    todo = "" if SpecifierSet(range_).contains(version) else f"use a Python {range_}"
    checks = [Check("python", FAIL if todo else OK, f"{version} (needs {range_})", todo)]
    right, wrong = [], []
    for requirement in map(Requirement, metadata.requires(PACKAGE) or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        have = installed_version(requirement.name)
        if have is None or not requirement.specifier.contains(have, prereleases=True):
            wrong.append(Check(requirement.name, FAIL, f"{have or 'not installed'} (needs {requirement.specifier})",
                               f"pip install '{requirement}'"))  # fmt: skip
        elif requirement.name in ("torch", "transformers", "hydra-core", "datasets"):
            right.append(f"{requirement.name} {have}")
    shown = ", ".join(right) or "none"
    return [*checks, *wrong] if wrong else [*checks, Check("packages", OK, f"{shown}, and all others in their ranges")]


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# --- Cores, disk, locks, GPU ---


def check_cores() -> list[Check]:
    """The cores that runs may use, and what other processes leave of them: the measure of a sweep's own warning."""
    import time

    from ablate.sweep.core_use import BACKGROUND, CoreUse
    from ablate.trainer import available_cores

    use = CoreUse()
    time.sleep(SECONDS_OF_LOAD)
    others, cores = use.by_others(), available_cores()
    found = f"{cores} for runs; other processes use {others:.1f}"
    if others < BACKGROUND:
        return [Check("cores", OK, found)]
    return [Check("cores", WARN, f"{found}: {MEASURED}", "wait until they have ended, or add trainer.threads=1")]


def check_cache() -> list[Check]:
    """The folder of models, data and tokens: writable, its size and the space that is left."""
    folder = cache_folder() / "ablate"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    return [space("cache", folder, f"{folder}, {in_gb(size)} used", "ABLATE_CACHE=<folder> chooses another cache")]


def check_disk() -> list[Check]:
    """The folder of all studies, in the folder of the command."""
    return [space("disk", OUTPUTS, f"{OUTPUTS}/ in {Path.cwd()}", "run the command in a folder with space")]


def space(name: str, folder: Path, found: str, todo: str) -> Check:
    """Whether a folder, or its nearest parent that exists, can be written and has space."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check(name, FAIL, f"{found}: cannot be written ({error.strerror})", todo)
    free = shutil.disk_usage(existing).free
    status = FAIL if free < LEAST_SPACE else WARN if free < SHORT_OF_SPACE else OK
    return Check(name, status, f"{found}, {in_gb(free)} free", "" if status == OK else todo)


def in_gb(size: float) -> str:
    """
    >>> in_gb(1.25e9)
    '1.2 GB'
    """
    return f"{size / 1e9:.1f} GB"


def check_locks() -> list[Check]:
    """Whether locks exclude each other on the file system of outputs/: two commands must not run one run twice."""
    folder = OUTPUTS if OUTPUTS.is_dir() else Path()
    todo = "use a local file system, or one mounted with locks (Lustre: -o flock)"
    try:
        exclusive = locks_exclude(folder)
    except OSError as error:
        return [Check("locks", FAIL, f"flock does not work in {folder.resolve()}: {error.strerror}", todo)]
    if not exclusive:
        return [Check("locks", FAIL, f"flock lets two processes hold one lock in {folder.resolve()}", todo)]
    return [Check("locks", OK, f"flock works in {folder.resolve()}")]


def locks_exclude(folder: Path) -> bool:
    """Whether a second holder of a lock on a file in `folder` is refused. Raises OSError where locks do not work."""
    import fcntl

    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as one, open(one.name, "rb") as two:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def check_gpu() -> list[Check]:
    """The GPUs that torch sees; a machine without one is fine."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return [Check("gpu", OK, ", ".join(names))]
    if shutil.which("nvidia-smi"):
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        found = f"there is nvidia-smi, but torch {torch.__version__} ({built}) sees no GPU"
        return [Check("gpu", WARN, found, "nvidia-smi; then install a torch for its CUDA version: pytorch.org")]
    return [Check("gpu", OK, "none: runs use the CPU")]


# --- Launchers ---


def check_launchers() -> list[Check]:
    """Where runs can run besides in the command's own process. All of it is optional."""
    found = []
    for name, (distribution, extra, program) in LAUNCHER_NEEDS.items():
        version, key = installed_version(distribution), f"launcher {name}"
        if version is None:
            todo = f"only for hydra/launcher={name}: pip install '{PACKAGE}[{extra}]'"
            found.append(Check(key, OK, f"{distribution} is not installed", todo))
        elif program and not shutil.which(program):
            todo = f"only for hydra/launcher={name}: run the command on a node with {program}"
            found.append(Check(key, OK, f"{distribution} {version}, but {program} is not on PATH", todo))
        else:
            found.append(Check(key, OK, f"{distribution} {version}"))
    return found


# --- Models and data ---


def check_hub() -> list[Check]:
    """Whether the Hugging Face hub answers within HUB_SECONDS, unless a variable says that it is not to be asked."""
    if offline := [name for name in OFFLINE if os.environ.get(name, "").upper() in TRUE]:
        return [Check("hub", OK, f"not asked, as {offline[0]} is set: models and data come from its cache")]
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_SECONDS):
            return [Check("hub", OK, f"{address} answers")]
    except urllib.error.HTTPError as error:  # an answer, too
        return [Check("hub", OK, f"{address} answers ({error.code})")]
    except (OSError, ValueError) as error:
        todo = "HF_HUB_OFFLINE=1 for what its cache has, or model.path=<folder> and data.path=<folder>"
        return [Check("hub", WARN, f"{address} does not answer: {getattr(error, 'reason', error)}", todo)]


def check_artefacts() -> list[Check]:
    """The default model and data: in the cache, or else offered by the index that pip is configured for."""
    found, answers = [], {}
    for name, asset in ASSETS.items():
        if all((asset.folder / member.name).is_file() for member in asset.members):
            found.append(Check(name, OK, "in the cache"))
            continue
        if asset.requirement not in answers:
            answers[asset.requirement] = index_has(asset.requirement)
        if answers[asset.requirement]:
            found.append(Check(name, OK, f"not in the cache; pip finds {asset.requirement}"))
        else:
            todo = f"PIP_INDEX_URL=<index with {asset.requirement}>, or {asset.instead}"
            found.append(Check(name, WARN, f"not in the cache, and pip does not find {asset.requirement}", todo))
    return found


def index_has(requirement: str) -> bool:
    """Whether the index lists this version of a package, as name==version."""
    name, _, version = requirement.partition("==")
    command = [sys.executable, "-m", "pip", "index", "versions", name, "--no-input", "--disable-pip-version-check"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=INDEX_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    listed = answer.stdout.partition("Available versions:")[2].partition("\n")[0]
    return answer.returncode == 0 and version in [each.strip() for each in listed.split(",")]


CHECKS: dict[str, Callable[[], list[Check]]] = {
    "versions": check_versions,
    "cores": check_cores,
    "cache": check_cache,
    "disk": check_disk,
    "locks": check_locks,
    "gpu": check_gpu,
    "launchers": check_launchers,
    "hub": check_hub,
    "artefacts": check_artefacts,
}
"""Name -> check, in the order of the output."""
