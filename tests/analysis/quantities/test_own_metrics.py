"""Metrics of the user's own: named in the claims file, allowed on the command line, refused with exit code 2."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import analysis.__main__ as command
from analysis import report
from analysis.claims.reading import for_study, read_claims
from analysis.quantities.own_metrics import own_metrics
from analysis.quantities.registry import use_quantities
from analysis.records.study import load
from analysis.report import inputs_sha256
from tests.analysis.runs import write_run
from tests.analysis.studies import MINIMAL, written

SOURCE = """
def cost(predicted):
    return 5 * ((predicted.label == 1) & (predicted.prediction == 0)).mean()

def two(predicted, other):
    return 1.0

def endless(predicted):
    return float("nan")

def words(predicted):
    return "much"

def broken(predicted):
    return predicted.no_such_thing

cosine = __import__("math").cos
"""
CLAIMS = MINIMAL.replace("test_accuracy", "test_cost").replace("points", "raw").replace("seeds: 10", "seeds: 3")
CLAIMS = CLAIMS.replace("direction: above", "direction: below") + "metrics: {cost: my_metrics.cost}\n"

ACCURACIES = {"none": (0.75, 0.8, 0.75), "fixed": (0.9, 0.875, 0.95)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A study of two arms and three seeds, the module and the claims; afterwards its metric is forgotten."""
    for clip, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            write_run(tmp_path / "outputs/mine", {"clip": clip}, seed=seed, accuracy=accuracy)
    (tmp_path / "my_metrics.py").write_text(SOURCE)
    written(tmp_path, CLAIMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(report, "FIGURES", {})
    yield tmp_path
    use_quantities({}, {})
    sys.modules.pop("my_metrics", None)


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["analysis", "outputs/mine", "--claims", "mine.yaml", *arguments])
    try:
        command.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_claim_on_a_metric_of_the_users_own(folder, monkeypatch, capsys):
    assert run(monkeypatch, "--allow", "my_metrics") == 0
    shown = capsys.readouterr().out
    assert "cost is" in shown and "lower than in the" in " ".join(shown.split())
    study = load(Path("outputs/mine"))
    (found,) = report.judge_claims(study, read_claims(Path("mine.yaml"), ["my_metrics"])).findings
    costs = {
        clip: [5 * np.mean([i >= round(40 * a) and i % 2 for i in range(40)]) for a in ACCURACIES[clip]]
        for clip in ACCURACIES
    }
    expected = np.mean(costs["fixed"]) - np.mean(costs["none"])
    assert found.effect == pytest.approx(expected) and found.interval_seeds is not None  # over examples, too


def test_its_entry_can_say_more(folder):
    entry = {"function": "my_metrics.cost", "words": "cost of errors", "unit": "EUR", "higher_is_better": False}
    found = own_metrics({"cost": entry}, ["my_metrics"])
    quantity = found.quantities["test_cost"]
    assert (quantity.words, quantity.unit, quantity.scale) == ("test cost of errors", "EUR", "raw")
    assert quantity.higher_is_better is False and len(found.sources["cost"]) == 64


def test_all_arms_are_compared_by_it(folder):
    text = "seeds: 2\nmetrics: {cost: my_metrics.cost}\ncompare: {quantities: {test_cost: raw, primary: usual}}\n"
    claims = for_study(read_claims(written(folder, text), ["my_metrics"]), load(Path("outputs/mine")))
    assert [question.quantity for question in claims.questions] == ["test_cost", "test_accuracy"]


def test_the_report_is_written_again_after_a_change_of_its_source(folder):
    study = load(Path("outputs/mine"))
    before = inputs_sha256(study, read_claims(Path("mine.yaml"), ["my_metrics"]))
    Path("my_metrics.py").write_text(SOURCE + "\n# more\n")
    assert inputs_sha256(study, read_claims(Path("mine.yaml"), ["my_metrics"])) != before


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("{cost: my_metrics.costs}", "cost.function must be a function that can be imported.*has no attribute 'costs'"),
        ("{cost: my_metrics.two}", r"cost.function must be a function of one argument.*two\(predicted, other\)"),
        ("{cost: my_metrics.endless}", r"cost: my_metrics.endless must return a finite number \(got nan\)"),
        ("{cost: my_metrics.words}", r"cost: my_metrics.words must return a finite number \(got 'much'\)"),
        ("{cost: my_metrics.broken}", "cost: my_metrics.broken fails with AttributeError"),
        ("{cost: my_metrics.cosine}", "a function that is defined in a module that is allowed"),
        ("{cost: os.getcwd}", r"must be a function of a module that is allowed \(got os.getcwd\)"),
        ("{cost: cost}", "a function with its module, such as my_metrics.cost"),
        ("{f1_macro: my_metrics.cost}", "a name of letters, digits and _ that no other metric has"),
        ("{loss: my_metrics.cost}", "a name of letters, digits and _ that no other metric has"),
        ("{cost: {function: my_metrics.cost, scales: raw}}", "unknown key scales; did you mean scale"),
        ("{cost: {function: my_metrics.cost, scale: percent}}", "metrics.cost.scale must be one of raw, points"),
        ("{cost: {function: my_metrics.cost, higher_is_better: 1}}", "must be true or false"),
        ("[my_metrics.cost]", "metrics must be a mapping of names to functions"),
        ("{price: my_metrics.cost}", "quantity must be one of the known names.*test_cost"),
    ],
)
def test_mistakes_end_the_command_with_exit_code_2(folder, monkeypatch, capsys, metrics, message):
    written(folder, CLAIMS.replace("{cost: my_metrics.cost}", metrics))
    assert run(monkeypatch, "--allow", "my_metrics") == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error


def test_nothing_is_imported_that_is_not_allowed(folder, monkeypatch, capsys):
    Path("my_metrics.py").write_text("raise SystemExit('imported')")
    assert run(monkeypatch) == 2
    error = capsys.readouterr().err
    assert "--allow my_metrics" in error and "allow_targets=[my_metrics]" in error and "imported" not in error
    assert "my_metrics" not in sys.modules


def test_two_studies_do_not_see_each_others_metrics(folder, tmp_path):
    """In one process, as from Python: the same name is another function, and a name is known where it is declared."""
    Path("other_metrics.py").write_text(SOURCE.replace("5 *", "7 *"))
    (tmp_path / "theirs").mkdir()
    study, other = load(Path("outputs/mine")), load(Path("outputs/mine"))
    own = read_claims(Path("mine.yaml"), ["my_metrics"])
    theirs = read_claims(written(tmp_path / "theirs", CLAIMS.replace("my_", "other_")), ["other_metrics"])
    effects = [report.judge_claims(*each).findings[0].effect for each in ((study, own), (other, theirs), (study, own))]
    assert effects[0] == effects[2] != 0 and effects[1] == pytest.approx(7 / 5 * effects[0])
    assert report.judge_claims(study, theirs).findings[0].effect == effects[1]
    with pytest.raises(ValueError, match="quantity must be one of the known names"):
        read_claims(written(tmp_path / "theirs", CLAIMS.partition("metrics:")[0]))
    sys.modules.pop("other_metrics")
