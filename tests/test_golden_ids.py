"""The ids of all published runs: what was once an experiment stays the same experiment."""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablate.experiment import run_id
from ablate.files.archive import Archive
from analysis.__main__ import main as judge
from analysis.records.source import open_study_archive, possible_runs
from tests.tools import ROOT

PUBLISHED = sorted((ROOT / "outputs/reference").glob("*.zip"))
REPORTED = {
    "paper": ("index.html", "verdicts.json", "figures/hero.png"),
    "known": ("index.html", "verdicts.json", "figures/forest.png"),
}
"""Study -> the files of its report that are in the checkout."""


@cache
def archive_at(path: Path) -> Archive:
    return open_study_archive(path)


def choices(record: dict[str, Any]) -> dict[str, str]:
    """The options that Hydra chose for a run; those of nested rules too."""
    found = {factor: entry["option"] for factor, entry in record["factors"].items()}
    nested = {
        f"{factor}@{factor}.{key}": value
        for factor, entry in record["factors"].items()
        for key, value in entry["settings"].items()
        if key == "rule"
    }
    return found | nested


def id_of(archive: Archive, run: str, **changes: Any) -> str:
    settings = yaml.load(archive.read(f"{run}/config.yaml"), yaml.CSafeLoader) | changes
    return run_id(settings, choices(json.loads(archive.read(f"{run}/run.json"))))


def test_no_published_run_is_overlooked() -> None:
    assert {path.stem: len(possible_runs(archive_at(path))) for path in PUBLISHED} == {
        "known": 660, "onset": 20, "paper": 370, "tuning": 42,
    }  # fmt: skip


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_ids_stay(path: Path) -> None:
    archive = archive_at(path)
    wrong = [run for run in possible_runs(archive) if not run.endswith(f"-{id_of(archive, run)}")]
    assert wrong == []


def test_another_seed_has_another_id() -> None:
    archive = archive_at(PUBLISHED[0])
    run = possible_runs(archive)[0]
    assert id_of(archive, run, seed=99) not in run


@pytest.mark.long
@pytest.mark.parametrize("study", REPORTED)
def test_the_report_in_the_checkout_is_that_of_the_archive(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Write it again where its page has changed: python -m analysis outputs/reference/paper.zip"""
    archive = ROOT / f"outputs/reference/{study}.zip"
    monkeypatch.chdir(tmp_path)
    folder = Path("outputs/reference", study)  # commands on the page have its name
    monkeypatch.setattr(sys, "argv", ["analysis", str(archive), "-o", str(folder)])
    judge()
    for name in REPORTED[study]:
        published = archive.with_suffix("") / "report" / name
        assert (folder / "report" / name).read_bytes() == published.read_bytes(), name
