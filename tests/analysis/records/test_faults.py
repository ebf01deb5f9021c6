"""The rows of the fault table that the analysis answers for, through a whole report where it is shown."""

import csv
import re
import shutil
import sys
import threading
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analysis import report as reports
from analysis.__main__ import main
from analysis.claims.finding import Finding
from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.claims.verdict_rule import Verdict
from analysis.records.study import load
from analysis.report import write_report
from tests.analysis.runs import change, write_run
from tests.analysis.studies import MINIMAL

CLAIMS = MINIMAL.replace("seeds: 10", "seeds: 2")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two arms × three seeds."""
    folder = tmp_path / "outputs/mine"
    folder.mkdir(parents=True)
    for seed, gain in enumerate((0.1, 0.125, 0.1)):
        write_run(folder, {"clip": "none"}, seed=seed, run=f"none-s{seed}")
        write_run(folder, {"clip": "fixed"}, seed=seed, accuracy=0.8 + gain, run=f"fixed-s{seed}")
    (tmp_path / "mine.yaml").write_text(CLAIMS)
    return folder


def report(study: Path) -> Path:
    write_report(load(study), read_claims(study.parents[1] / "mine.yaml"))
    return study / "report"


def verdict(study: Path) -> Finding:
    (found,) = judge_claims(load(study), read_claims(study.parents[1] / "mine.yaml")).findings
    return found


def summary(study: Path) -> dict[str, dict[str, str]]:
    with open(report(study) / "tables/summary.csv", encoding="utf-8", newline="") as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


def test_row_15_other_data_and_other_numerics_are_never_mixed_into_a_contrast(study: Path) -> None:
    assert verdict(study).n == 2
    for seed in range(3):  # what an edited label does: the same options, another hash
        shutil.rmtree(study / f"fixed-s{seed}")
        write_run(
            study, {"clip": "fixed"}, {"data": {"sha256": "f" * 64}}, seed=seed, accuracy=0.9, run=f"fixed-s{seed}"
        )
    found = verdict(study)
    assert (found.verdict, found.n, found.effect) == (Verdict.NOT_TESTED, 0, None)
    assert "data.sha256" in " ".join(found.notes)


def test_row_15_a_seed_of_other_numerics_is_left_out(study: Path) -> None:
    change(study / "fixed-s2", numerics=2)
    found = verdict(study)
    assert (found.n, found.n_missing) == (2, 1)
    assert "seed 2 differs in numerics" in " ".join(found.notes)


def draw_only(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let reports have these figures only."""
    patch.setattr(reports, "FIGURES", {name: reports.FIGURES[name] for name in names})


def test_row_19_counts_stand_beside_every_mean(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch)
    shutil.rmtree(study / "none-s1")
    change(study / "none-s2", status="diverged", metrics={}, error={"step": 7, "message": "loss is nan"})
    row = summary(study)["none"]
    assert (row["done"], row["diverged"], row["planned"]) == ("1", "1", "3")
    for file in ("tables/summary.md", "tables/summary.tex", "index.html"):
        text = (study / "report" / file).read_text(encoding="utf-8")
        assert "1/3 (1 diverged)" in re.sub(r"</?span[^>]*>", "", text), file
    assert "none, seed 1" in (study / "report/index.html").read_text(encoding="utf-8")


def test_row_20_environments_are_not_paired(study: Path) -> None:
    change(study / "fixed-s0", environment={"key": "e1", "threads": 2, "earlier": []})
    found = verdict(study)
    assert (found.n, found.n_missing) == (2, 1)
    assert "seed 0 differs in environment.key" in " ".join(found.notes)


NAMES = ("None", "null", "NA", "<script>alert(1)</script>", "$x$", "a_b", "50%", "</script>", "&amp;")


def test_row_27_every_name_is_there_exact_and_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch, "training_loss")
    folder = tmp_path / "outputs/mine"
    folder.mkdir(parents=True)
    (tmp_path / "mine.yaml").write_text(CLAIMS)
    for number, name in enumerate(NAMES):
        for seed in range(2):
            write_run(folder, {"clip": name}, seed=seed, run=f"{number}-s{seed}")
    assert list(summary(folder)) == list(NAMES)
    page = (folder / "report/index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    latex = (folder / "report/tables/summary.tex").read_text(encoding="utf-8")
    for escaped in (r"\$x\$", r"a\_b", r"50\%", r"\&amp;"):
        assert escaped in latex
    drawn = (folder / "report/figures/training_loss.svg").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in re.sub(r"\s+", " ", drawn) and "$x$" in drawn


def test_names_with_control_characters_and_formulas_act_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "outputs/mine"
    folder.mkdir(parents=True)
    (tmp_path / "mine.yaml").write_text(CLAIMS)
    names = ("\x1b[31mred\x00", "=1+1", "@x", "-x", "back\u202ewards")
    for number, name in enumerate(names):
        for seed in range(2):
            write_run(folder, {"clip": name}, seed=seed, run=f"{number}-s{seed}")
    assert list(summary(folder)) == ["\\x1b[31mred\\x00", "'=1+1", "'@x", "'-x", "back\\u202ewards"]
    files = [path for path in (folder / "report").rglob("*") if path.suffix in (".svg", ".csv", ".md", ".tex", ".html")]
    assert len(files) > 20
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not {"\x1b", "\x00", "\u202e"} & {*text}, path
        if path.suffix == ".svg":
            ElementTree.fromstring(text)
    monkeypatch.setattr(sys, "argv", ["analysis", str(folder), "--claims", str(tmp_path / "mine.yaml")])
    main()
    shown = capsys.readouterr().out
    assert r"\x1b[31mred\x00" in shown and not {"\x1b", "\x00", "\u202e"} & {*shown}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* is left out of ")
def test_row_28_reports_while_runs_come_and_go(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first with all figures."""
    (study / "notes").mkdir()
    stop = threading.Event()

    def write_and_remove() -> None:
        seed = 3
        while not stop.is_set():
            write_run(study, {"clip": "none"}, seed=seed, run=f"none-s{seed}")
            shutil.rmtree(study / f"none-s{seed - 1}", ignore_errors=True)
            seed += 1
            time.sleep(0.2)

    writer = threading.Thread(target=write_and_remove)
    writer.start()
    try:
        monkeypatch.chdir(study.parents[1])
        monkeypatch.setattr(sys, "argv", ["analysis", "outputs/mine", "--claims", "mine.yaml"])
        for _ in range(2):
            main()
            shown = capsys.readouterr()
            assert "foreign: notes" in shown.out and "Traceback" not in shown.err, shown.err
            draw_only(monkeypatch, "training_loss")
    finally:
        stop.set()
        writer.join()
