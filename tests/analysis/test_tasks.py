"""Studies of each kind of task, from the run folders to the page: the primary metric in place of the accuracy."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablate.metrics import METRICS
from analysis import report
from analysis.claims.example_scores import example_clusters, example_scores
from analysis.claims.judge import judge_claims
from analysis.claims.reading import for_study, read_claims
from analysis.compare.compare import compare
from analysis.compare.words import arms_in_words
from analysis.figures import all as all_figures
from analysis.figures.all import DrawnFigure, figure_names, figures
from analysis.figures.data import NotDrawable
from analysis.page.headline import headline
from analysis.quantities.measure import measure
from analysis.quantities.outcomes import outcomes
from analysis.quantities.run_records import records_of
from analysis.records.study import Study, load
from analysis.report import write_report
from analysis.tables.formats import summary, summary_in_words
from tests.analysis.claims.test_example_scores import sample_of
from tests.analysis.runs import change, write_run
from tests.analysis.studies import written
from tests.analysis.tasks import FRAMES, PRIMARY_OF, TOPICS, write_task, write_task_run
from tests.tools import ROOT

AUTO = ROOT / "conf/claims/auto.yaml"
KINDS = list(FRAMES)
DRAWN = {
    "classification": ("probe_accuracy", "probe_f1_macro", "confusion", "calibration"),
    "regression": ("probe_spearman", "predicted_against_true"),
    "token_classification": ("probe_accuracy", "probe_entity_f1", "confusion", "calibration"),
    "causal_lm": ("probe_perplexity",),
}


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A study of two arms and four seeds of each kind."""
    return {kind: write_task(tmp_path_factory.mktemp(kind) / "study", kind) for kind in KINDS}


@pytest.fixture(scope="session")
def pages(tasks: dict[str, Path]) -> dict[str, Path]:
    """The report of each, with the figures of predictions and the forest plot only."""

    def left_out(*arguments: object) -> None:
        raise NotDrawable("for the sake of time")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(all_figures, "specification_curve", left_out)
        of_predictions = ("probe_{primary}", "confusion", "calibration", "predicted_against_true")
        patch.setattr(report, "FIGURES", {name: report.FIGURES[name] for name in of_predictions})
        for folder in tasks.values():
            study = load(folder)
            write_report(study, for_study(read_claims(AUTO), study))
    return {kind: folder / "report" for kind, folder in tasks.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_primary_metric_is_in_the_tables_with_its_values(tasks, kind):
    study, name = load(tasks[kind]), PRIMARY_OF[kind]
    assert study.problems.empty and (study.kind, study.primary) == (kind, name)
    of_run = {run: METRICS[name].value(records_of(study, run).predicted) for run in study.runs["run"]}
    table = summary(study)
    for arm, row in table.set_index("arm").iterrows():
        values = [of_run[f"{arm}-s{seed}"] for seed in range(4)]
        assert row[f"test_{name}"] == pytest.approx(np.mean(values))
        assert row[f"test_{name}_sd"] == pytest.approx(np.std(values, ddof=1))
    words = summary_in_words(table)
    assert not any("accuracy" in heading for heading in words)
    assert next(heading for heading in words if heading.startswith("test ")).startswith(f"test {METRICS[name].words}")


@pytest.mark.parametrize("kind", KINDS)
def test_auto_compares_the_primary_metric_over_seeds_and_examples(tasks, kind):
    study, metric = load(tasks[kind]), METRICS[PRIMARY_OF[kind]]
    claims = for_study(read_claims(AUTO), study)
    found = judge_claims(study, claims).findings
    first = found[0]
    assert (first.quantity, first.scale) == (f"test_{metric.name}", metric.scale)
    assert first.interval_seeds is not None, first.notes  # over examples, too
    assert (first.effect > 0) is metric.higher_is_better
    values = measure(study, [first.quantity]).values[first.quantity]
    convert = {"points": lambda x: 100 * x, "log": np.log, "raw": float}[metric.scale]
    differences = [convert(values[f"fixed-s{seed}"]) - convert(values[f"none-s{seed}"]) for seed in range(4)]
    assert first.effect == pytest.approx(np.mean(differences), abs=1e-9)
    t = stats.ttest_1samp(differences, 0).confidence_interval()
    assert (first.interval_seeds.low, first.interval_seeds.high) == pytest.approx((t.low, t.high), abs=1e-9)
    assert metric.words in headline(study, claims, found) and "accuracy" not in headline(study, claims, found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_of_each_kind(pages, kind):
    metric, folder = METRICS[PRIMARY_OF[kind]], pages[kind]
    text = (folder / "index.html").read_text()
    assert f"test {metric.words}" in text and not re.search(r"test accuracy|validation accuracy", text, re.IGNORECASE)
    tables = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert {metric.name, f"anova_{metric.name}", "attribution", "ablation", "summary"} <= tables
    assert ("classes" in tables) is (kind in ("classification", "token_classification"))
    drawn = {path.stem for path in (folder / "figures").glob("*.csv")}
    assert drawn - {"forest"} == {*DRAWN[kind]} - {"probe_accuracy"}
    assert rf"none.test_{metric.name}.mean" in (folder / "tables/ablate.tex").read_text()
    assert f"ablation.fixed.test_{metric.name}.effect" in (folder / "tables/ablate.tex").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_bold_is_the_better_mean(pages, kind):
    """Of a perplexity the lower one."""
    text = (pages[kind] / "tables/ablation.md").read_text()
    rows = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in text.splitlines()}
    assert rows["+ clip"].startswith("**") and not rows["reference"].startswith("**")


@pytest.mark.parametrize("kind", KINDS)
def test_the_figures_that_a_kind_has(tasks, kind):
    names = figure_names(load(tasks[kind]))
    asked = {f"probe_{PRIMARY_OF[kind]}", "probe_accuracy", "confusion", "calibration", "predicted_against_true"}
    assert asked & {*names} == {*DRAWN[kind]}
    (item,) = figures(load(tasks[kind]), [f"probe_{PRIMARY_OF[kind]}"])
    assert isinstance(item, DrawnFigure) and item.data["mean"].iloc[-1] > 0


def test_a_binary_study_that_is_judged_by_accuracy_has_none_of_them(tmp_path):
    for clip in ("none", "fixed"):
        write_run(tmp_path, {"clip": clip}, labels=["neg", "pos"])
    study = load(tmp_path)
    assert not {"confusion", "calibration", "predicted_against_true"} & {*figure_names(study)}
    assert "probe_accuracy" in figure_names(study)


def test_losses_of_a_regression_are_in_squared_units(tasks):
    drawn = {item.name: item for item in figures(load(tasks["regression"]), ["training_loss", "seeds"])}
    labels = [ax.get_ylabel() for ax in drawn["training_loss"].figure.axes]
    labels += [ax.get_xlabel() for ax in drawn["seeds"].figure.axes]
    assert "training loss (squared units)" in labels and not any("nats" in label for label in labels)


# --- Numbers class by class ---


def test_classes_confusion_and_calibration_are_those_of_the_predictions(tasks, pages):
    study = load(tasks["classification"])
    p = [records_of(study, f"none-s{seed}").predicted for seed in range(4)]
    table = pd.read_csv(pages["classification"] / "tables/classes.csv").set_index(["arm", "class"])
    assert list(table.loc["none"].index) == list(TOPICS)
    right = [((q.prediction == 2) & (q.label == 2)).sum() / (q.prediction == 2).sum() for q in p]
    assert table.loc[("none", "sport"), "precision"] == pytest.approx(np.mean(right))
    assert table.loc[("none", "sport"), "n"] == (p[0].label == 2).sum() == 12
    cells = pd.read_csv(pages["classification"] / "figures/confusion.csv")
    cell = cells.query("arm == 'none' and label == 'arts' and prediction == 'economy'").iloc[0]
    assert cell["n"] == sum(((q.label == 0) & (q.prediction == 1)).sum() for q in p)
    assert cells.groupby(["arm", "label"])["share"].sum().to_numpy() == pytest.approx(100)
    curve = pd.read_csv(pages["classification"] / "figures/calibration.csv").query("arm == 'none'")
    assert curve["units"].sum() >= 100 - 1e-9  # means over the seeds that have the bin


def test_arms_on_other_data_have_their_own_classes(tmp_path):
    frames = FRAMES["classification"](np.random.default_rng(0), 2.0)
    for clip, data, labels in (("none", "one", TOPICS), ("fixed", "two", ("bad", "good", "so-so"))):
        told = {"labels": list(labels), "primary": "f1_macro", "frames": frames}
        write_run(tmp_path, {"clip": clip, "data": data}, **told)
    study = load(tmp_path)
    (item,) = figures(study, ["confusion"])
    shown = {tuple(text.get_text() for text in ax.get_yticklabels()) for ax in item.figure.axes[:2]}
    assert shown == {TOPICS, ("bad", "good", "so-so")}


def test_entities_have_a_row_per_type(pages):
    table = pd.read_csv(pages["token_classification"] / "tables/classes.csv")
    assert table["class"].tolist() == ["LOC", "PER"] * 2 and set(table["n"]) == {30}


# --- Runs that fail, examples in groups, damaged records ---


@pytest.mark.parametrize("kind", KINDS)
def test_runs_that_fail_are_scored_as_the_guess(tmp_path, kind):
    name = f"test_{PRIMARY_OF[kind]}"
    write_task_run(tmp_path, kind, "none", 0, 3.0)
    write_task_run(tmp_path, kind, "none", 1, 0.0)
    frames = {"predictions.parquet": FRAMES[kind](np.random.default_rng(0), 1.0)["predictions.parquet"][:0]}
    write_task_run(tmp_path, kind, "none", 2, 1.0, status="diverged", frames=frames)
    study = load(tmp_path)
    assert study.problems.empty
    found = outcomes(study, [name])
    assert found.learned.tolist() == [True, False, False]
    metric = METRICS[PRIMARY_OF[kind]]
    assert found.values.loc["none-s2", name] == metric.chance(records_of(study, "none-s0").predicted)


def test_clustered_sentences_are_resampled_by_cluster(tmp_path):
    write_task(tmp_path / "study", "token_classification", seeds=3)
    clusters = pd.DataFrame({"example": range(60), "cluster": np.arange(60) // 6})
    for seed in range(3):
        for clip, skill in (("none", 1.5), ("fixed", 2.5)):
            frames = {"clusters.parquet": clusters}
            write_task_run(tmp_path / "grouped", "token_classification", clip, seed, skill, frames=frames)
    single = sample_of(tmp_path / "study", "points", "test_entity_f1")
    grouped = sample_of(tmp_path / "grouped", "points", "test_entity_f1")
    assert len(np.unique(example_clusters(single))) == 50 and example_scores(single).shape == (3, 2, 60)
    groups = example_clusters(grouped)
    assert len(np.unique(groups)) == 10 and all(len(set(groups[i : i + 6])) == 1 for i in range(0, 60, 6))


def test_a_primary_metric_of_another_kind_is_named(tmp_path):
    folder = write_task_run(tmp_path, "regression", "none", 0, 2.0)
    change(folder, primary="f1_macro")
    (problem,) = load(tmp_path).problems["problem"]
    assert problem.startswith("run.json: primary must be a metric of regression (mse, mae, pearson, spearman; got f1_")


def test_a_metric_of_another_kind_is_explained(tasks):
    found = measure(load(tasks["regression"]), ["test_f1_macro"])
    assert set(found.lacking["reason"]) == {"f1_macro: no metric of regression"}


# --- Claims ---

TUNED = """
seeds: 4
claims:
  T:
    statement: clipping raises the correlation at each arm's own rate
    quantity: test_spearman
    scale: raw
    contrast: tuned
    over: {optimizer.lr: [1e-4, 2e-4]}
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: above
"""


def test_arms_are_tuned_by_the_same_metric_on_validation(tmp_path):
    for seed in range(4):
        for clip, skill in (("none", 1.5), ("fixed", 2.5)):
            for lr, more in ((1e-4, 0.0), (2e-4, 0.5)):
                rate = {"settings": {"optimizer": {"lr": lr}}, "run": f"{clip}-{lr}-s{seed}"}
                metrics = {"validation_spearman": 0.5 + more}
                write_task_run(tmp_path / "study", "regression", clip, seed, skill + more, metrics=metrics, **rate)
    study = load(tmp_path / "study")
    assert study.problems.empty, study.problems["problem"].tolist()
    (found,) = judge_claims(study, read_claims(written(tmp_path, TUNED))).findings
    assert found.details["validation"] == "validation_spearman"
    assert found.details["treatment"]["usual"] == {"optimizer.lr": 2e-4} and found.effect > 0


@pytest.mark.parametrize("kind", ["regression", "causal_lm"])
def test_two_studies_are_compared_by_the_primary_metric(tasks, tmp_path, kind):
    ours, theirs = load(tasks[kind]), load(write_task(tmp_path / "later", kind))
    comparison = compare(ours, theirs, for_study(read_claims(AUTO), ours))
    name = PRIMARY_OF[kind]
    assert comparison.arms[f"test_{name}"].notna().all() and (comparison.arms["difference"] == 0).all()
    words = arms_in_words(comparison)
    assert f"{METRICS[name].words}, study" in words and not any("accuracy" in heading for heading in words)


def test_the_contract_of_the_records(tasks):
    """As `ablate.schema` has it; a run of an older version has neither kind nor labels nor primary."""
    study = load(tasks["classification"])
    p = records_of(study, "none-s0").predicted
    assert p.labels == TOPICS and p.probabilities.shape == (60, 3) and len(p.examples[0]) == 60
    assert np.abs(p.probabilities.max(axis=1) - p.probability).max() < 1e-6
    assert set(study.scores()["name"]) == {"f1_macro"}


def test_an_older_run_is_a_classification_judged_by_accuracy(tmp_path):
    write_run(tmp_path)
    study: Study = load(tmp_path)
    assert (study.kind, study.primary) == ("classification", "accuracy") and study.scores().empty
    values = measure(study, ["test_f1_macro", "test_accuracy", "test_ece"]).values.iloc[0]
    assert values["test_accuracy"] == 0.8 and values["test_f1_macro"] == pytest.approx(0.8)
    assert values["test_ece"] == pytest.approx(0.1, abs=1e-6)
