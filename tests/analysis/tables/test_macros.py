"""The LaTeX macros: every number as the page writes it, unknown and shared keys, and names that would act as TeX."""

import json
import re

import pytest

from analysis.claims.finding import Finding
from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.records.study import load
from analysis.tables.ablation import ablation
from analysis.tables.macros import macros
from analysis.tables.numbers import p_text
from tests.analysis.studies import MINIMAL, write_two, written

WORTH = "    smallest_effect: 1.5\n    why: an example\n"
FIXED, NONE = [0.85, 0.87, 0.88, 0.86], [0.80, 0.83, 0.85, 0.82]


def written_macros(folder, claims=MINIMAL):
    """The keys of the file with their texts, and the findings."""
    study, read = load(folder / "study"), read_claims(written(folder, claims))
    findings = judge_claims(study, read, peek=True).findings
    return keys_of(macros(study, read, findings, [ablation(study)])), findings


def keys_of(text):
    return dict(re.findall(r"^\\ablatenumber\{(.*?)\}\{(.*)\}$", text, re.M))


@pytest.fixture
def two(tmp_path):
    write_two(tmp_path / "study", FIXED, NONE)
    return tmp_path


def test_numbers_of_claims_are_those_of_the_page(two):
    found, (finding,) = written_macros(two)
    assert found["one.effect"] == "4" and found["one.verdict"] == finding.verdict.value
    assert found["one.p"] == p_text(finding.p) and found["one.n"] == "4"
    assert float(found["one.low"]) == pytest.approx(finding.interval.low, rel=0.01)
    assert found["one.sentence"].startswith("test accuracy is 4 percentage points higher than in the control (")
    assert found["one.statement"] == "clipping raises the accuracy"
    assert "one.smallest" not in found  # the claim names none


def test_numbers_of_the_study_its_arms_and_the_ablation_table(two):
    found, _ = written_macros(two)
    assert (found["study.runs"], found["study.arms"], found["study.seeds"]) == ("8", "2", "4")
    assert (found["fixed.test_accuracy.mean"], found["fixed.test_accuracy.sd"]) == ("86.5", "1.3")
    assert found["none.last_training_loss.n"] == "4"
    assert found["ablation.reference"] == "fixed"
    assert found["ablation.none.test_accuracy.effect"] == r"\ensuremath{-}4.0"
    assert found["ablation.none.test_accuracy.mark"] == "lower"


def test_logarithms_are_written_as_ratios(two):
    claims = MINIMAL.replace("test_accuracy", "mean_grad_norm").replace("points", "log") + WORTH
    found, _ = written_macros(two, claims)
    assert (found["one.effect"], found["one.smallest"]) == ("1", "1.5")


def test_names_do_not_act_as_tex(tmp_path):
    name = "my_$rule%#{x}^~\\"
    write_two(tmp_path / "study", FIXED, NONE)
    for path in (tmp_path / "study").glob("fixed-*/run.json"):
        data = json.loads(path.read_text())
        data["factors"]["clip"]["option"] = name
        path.write_text(json.dumps(data))
    claims = MINIMAL.replace("{clip: fixed}", json.dumps({"clip": name})).replace("raises", "raises_50 %")
    found, _ = written_macros(tmp_path, claims)
    assert found["my_-rule---x----.test_accuracy.mean"] == "86.5"
    assert found["one.statement"] == r"clipping raises\_50 \% the accuracy"
    assert found["ablation.reference"] == (r"my\_\$rule\%\#\{x\}\textasciicircum{}\textasciitilde{}\textbackslash{}")


def test_a_key_that_two_numbers_share_is_left_out(two):
    study, read = load(two / "study"), read_claims(written(two, MINIMAL))
    clash = (Finding("a#b", "one", None), Finding("a-b", "another", None), Finding("c", "third", None))
    found = keys_of(macros(study, read, clash))
    assert "a-b.statement" not in found and found["c.statement"] == "third"
