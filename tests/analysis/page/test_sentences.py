"""Sentences of tuned claims, of claims over data sets and of claims on failures: on the page and in the terminal."""

import pytest

from analysis.__main__ import tuning_lines, verdicts
from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.figures.budget import best_by_budget
from analysis.figures.forest import judged_effects
from analysis.page.sentences import findings_in_words
from analysis.records.study import load
from analysis.report import Report
from tests.analysis.claims.test_grid_contrasts import write_data_sets
from tests.analysis.claims.test_tuned_contrasts import write_grid
from tests.analysis.page.test_page import Seen, page
from tests.analysis.runs import layers_frame, predictions_frame, write_run
from tests.analysis.studies import written

SHARED = """
    scale: points
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: above
"""
CLAIMS = f"""
seeds: 3
claims:
  T:
    statement: tuned
    quantity: test_accuracy
    contrast: tuned
    over: {{optimizer.lr: [1e-4, 2e-4, 4e-4]}}
    within: {{data: synthetic, optimizer: adamw}}{SHARED}
  D:
    statement: on two data sets
    quantity: test_accuracy
    contrast: datasets
    over: {{data: [sst2, cola]}}
    within: {{optimizer: adamw, optimizer.lr: 1e-4}}{SHARED}
  F:
    statement: more runs learn
    contrast: failures
    within: {{optimizer: sgd}}{SHARED}
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The findings and the claims of 36 runs: tuned arms, two data sets, runs that do not learn without clipping."""
    study = tmp_path_factory.mktemp("outputs") / "study"
    write_grid(study, {"fixed": (0, 5, 12), "none": (0, 10, 5)}, seeds=3)
    write_data_sets(study, {"sst2": 2.0, "cola": 5.0}, seeds=3)
    for clip, accuracy in (("fixed", 0.8), ("none", 0.5)):
        for seed in range(3):
            frames = {"predictions.parquet": predictions_frame(accuracy), "layers.parquet": layers_frame(0)}
            write_run(study, {"clip": clip, "optimizer": "sgd"}, seed=seed, accuracy=accuracy, frames=frames)
    claims = read_claims(written(study.parent, CLAIMS))
    return judge_claims(load(study), claims).findings, claims


@pytest.fixture(scope="module")
def said(judged):
    return {text.finding.id: text for text in findings_in_words(*judged)}


EDGE = "optimizer.lr=0.0004 is at the edge of the grid, so a better value may lie beyond it: optimizer.lr=0.0008"
EXTENSION = "seed=0,1,2 clip=fixed,none optimizer=adamw optimizer.lr=0.0008 data=synthetic"


def test_tuned_arms_in_words(said):
    best = "each arm at its own best learning rate (chosen on validation by the other seeds): test accuracy is "
    assert said["T"].effect.startswith(best) and said["T"].effect.count("percentage points higher") == 1
    treatment, control, budgets = said["T"].tuning
    assert treatment == f"clip=fixed is best at optimizer.lr=0.0004 (chosen for 3 of 3 seeds); {EDGE}"
    assert control == "clip=none is best at optimizer.lr=0.0002 (chosen for 3 of 3 seeds)"  # inside: no edge
    assert budgets.startswith("expected best validation accuracy of 1, 2 and 3 trials: 86") and "clip=none" in budgets
    assert said["D"].tuning == said["F"].tuning == ()


def test_data_sets_in_words(said):
    assert said["D"].effect.startswith("mean over 2 data sets: test accuracy is ")
    each = [part.finding.effect for part in said["D"].beside]
    shown = said["D"].effect.partition("; per data set: ")[2]
    assert [float(text.split(" +")[1]) for text in shown.split(", ")] == pytest.approx(each, abs=0.01)
    assert all(part.effect.startswith("test accuracy is ") for part in said["D"].beside)
    assert "probability of improvement 100% over seeds" in said["D"].chance


def test_failures_in_words(said):
    counts = (
        "runs that did not learn: 0 of 3 with clip=fixed against 3 of 3 with clip=none (exact McNemar test: p 0.25)"
    )
    assert said["F"].effect.startswith(f"{counts}; the share of runs that learn is 100 percentage points higher than")
    assert "improvement" not in said["F"].chance


def test_the_page_shows_them_with_the_command_that_extends_the_grid(judged, said):
    text = Seen(page(findings=tuple(said.values()))).text
    assert EDGE in text and f"{EXTENSION} " in text
    assert text.count("To extend the grid for both arms") == 1
    assert "D on sst2" in text and "D on cola" in text


def test_the_terminal_shows_them(judged):
    findings, claims = judged
    report = Report(findings, (), is_new=True)
    lines = tuning_lines(report, claims)
    assert sum(EDGE in line for line in lines) == 1 and lines[-1].endswith(EXTENSION)
    assert [row[0] for row in verdicts(report, claims)] == ["T", "D", "D on sst2", "D on cola", "F"]
    assert tuning_lines(Report(findings[1:], (), is_new=True), claims) == []


def test_the_forest_has_a_row_per_data_set(judged):
    frame = judged_effects(*judged)
    assert frame["id"].tolist() == ["T", "D", "D on sst2", "D on cola", "F"]
    rows = frame[frame["parent"] == "D"]
    assert rows["verdict"].isna().all() and rows["simultaneous_low"].isna().all() and rows["low"].notna().all()


def test_the_figure_of_budgets_shows_the_tuned_claim_only(judged):
    _, data, figure = best_by_budget(*judged)
    assert set(data["id"]) == {"T"} and len(figure.axes) == 1
    assert data.groupby("arm")["budget"].apply(list).tolist() == [[1, 2, 3]] * 2
