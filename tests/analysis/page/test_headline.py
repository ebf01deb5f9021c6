"""The first sentence of a report: which arms differ, by how much, how sure."""

import pytest

from analysis.claims.judge import judge_claims
from analysis.claims.reading import for_study, read_claims
from analysis.page.headline import headline
from analysis.records.study import load
from tests.analysis.studies import MINIMAL, NOISE, write_two, written
from tests.tools import ROOT

AUTO = ROOT / "conf/claims/auto.yaml"


def sentence(study, path=AUTO):
    loaded = load(study)
    claims = for_study(read_claims(path), loaded)
    return headline(loaded, claims, judge_claims(loaded, claims).findings)


def test_an_arm_that_differs_is_named_with_size_and_interval(tmp_path):
    write_two(tmp_path / "study", 0.75 + NOISE / 200, [0.8] * 10)
    text = sentence(tmp_path / "study")
    assert "test accuracy is 5 percentage points" in text
    assert "10 seeds, adjusted for" in text


def test_without_a_difference_it_says_what_is_ruled_out(tmp_path):
    write_two(tmp_path / "study", 0.8 + NOISE / 200, [0.8] * 10)
    assert "no difference in test accuracy shown (within" in sentence(tmp_path / "study")


@pytest.mark.parametrize(
    ("gain", "words"), [(5, "1 of 1 claim is supported: one."), (0, "None of 1 claim is supported.")]
)
def test_claims_are_counted(tmp_path, gain, words):
    write_two(tmp_path / "study", 0.8 + (gain + NOISE) / 100, [0.8] * 10)
    assert sentence(tmp_path / "study", written(tmp_path, MINIMAL)).startswith(words)
