"""`python -m analysis` as a user runs it, on made-up studies."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis import report
from analysis.claims.reading import read_claims
from analysis.records.study import load
from analysis.report import draw_all, effects, inputs_sha256, write_report
from tests.analysis.runs import write_run

CLAIMS = """
seeds: 3
claims:
  B:
    statement: clipping raises the accuracy
    quantity: test_accuracy
    scale: points
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: above
    smallest_effect: 3
"""


def analysis(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two arms × three seeds; clipping gains some 10 points."""
    folder = tmp_path / "outputs/mine"
    folder.mkdir(parents=True)
    for seed, gain in enumerate((0.1, 0.125, 0.1)):
        write_run(folder, {"clip": "none"}, seed=seed, accuracy=0.8)
        write_run(folder, {"clip": "fixed"}, seed=seed, accuracy=0.8 + gain)
    (tmp_path / "mine.yaml").write_text(CLAIMS)
    return folder


def test_a_study_ends_in_a_report(study: Path) -> None:
    done = analysis("outputs/mine", "--claims", "mine.yaml", cwd=study.parents[1])
    assert done.returncode == 0, done.stderr
    assert "clipping raises the accuracy" in done.stdout and "supported" in done.stdout
    assert "6 runs were not started with this claims file" in done.stdout
    report = study / "report"
    (verdict,) = json.loads((report / "verdicts.json").read_text())
    assert (verdict["id"], verdict["verdict"], verdict["n"]) == ("B", "supported", 3)
    assert verdict["effect"] == pytest.approx(100 * (0.1 + 0.125 + 0.1) / 3)
    assert {path.suffix for path in (report / "figures").glob("forest.*")} == {".svg", ".pdf", ".png", ".csv"}
    assert pd.read_csv(report / "tables/summary.csv", keep_default_na=False)["arm"].tolist() == ["none", "fixed"]
    assert "\\toprule" in (report / "tables/summary.tex").read_text()
    assert len((study / "looks.jsonl").read_text().splitlines()) == 1


def test_it_is_written_again_only_when_its_inputs_change(study: Path) -> None:
    claims = read_claims(study.parents[1] / "mine.yaml")
    first = write_report(load(study), claims)
    before = {path: path.stat().st_mtime_ns for path in (study / "report").rglob("*") if path.is_file()}
    again = write_report(load(study), claims)
    assert (again.findings, again.left_out) == (first.findings, first.left_out)
    assert first.is_new and not again.is_new
    assert before == {path: path.stat().st_mtime_ns for path in (study / "report").rglob("*") if path.is_file()}
    inputs = inputs_sha256(load(study), claims)
    write_run(study, {"clip": "none"}, seed=3)
    assert inputs_sha256(load(study), claims) != inputs
    write_report(load(study), claims)
    assert before != {path: path.stat().st_mtime_ns for path in (study / "report").rglob("*") if path.is_file()}


def test_effects_for_the_forest_plot(study: Path) -> None:
    frame = effects(write_report(load(study), read_claims(study.parents[1] / "mine.yaml")).findings)
    assert frame["id"].tolist() == ["B"]
    assert frame["low"][0] < frame["effect"][0] < frame["high"][0]
    assert frame["smallest_effect"][0] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["outputs/none"], "no study in outputs/none"),
        (["outputs/empty"], "no finished run"),
        (["outputs/mine", "--claims", "no.yaml"], "no.yaml"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], said: str, study: Path) -> None:
    (study.parent / "empty").mkdir()
    refused = analysis(*arguments, cwd=study.parents[1])
    assert refused.returncode == 2
    assert said in refused.stderr and "Traceback" not in refused.stderr


def test_help_and_no_torch() -> None:
    code = "import sys, analysis.__main__; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_two_processes_draw_what_one_draws(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, findings = load(study), ()
    alone = draw_all(loaded, findings, study / "alone")
    monkeypatch.setattr(report, "MANY_ARMS", 2)
    assert draw_all(loaded, findings, study / "both") == alone
    drawn = sorted(path.name for path in (study / "alone").iterdir())
    assert len(drawn) > 20
    for name in drawn:
        assert (study / "both" / name).read_bytes() == (study / "alone" / name).read_bytes(), name
