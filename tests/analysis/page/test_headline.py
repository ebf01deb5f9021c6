"""The first sentence of a report: which arms differ, by how much, how sure."""

import pytest

from analysis.claims.judge import judge_claims
from analysis.claims.reading import for_study, read_claims
from analysis.page.headline import headline
from analysis.records.study import load
from tests.analysis.runs import write_run
from tests.analysis.studies import MINIMAL, NOISE, write_two, written
from tests.tools import ROOT

AUTO = ROOT / "conf/claims/auto.yaml"


def sentence(study, path=AUTO):
    loaded = load(study)
    claims = for_study(read_claims(path), loaded.arms)
    return headline(loaded, claims, judge_claims(loaded, claims).findings)


def test_an_arm_that_differs_is_named_with_size_and_interval(tmp_path):
    write_two(tmp_path / "study", 0.75 + NOISE / 200, [0.8] * 10)
    text = sentence(tmp_path / "study")
    assert "test accuracy is 5 percentage points" in text
    assert "10 seeds, adjusted for" in text


def test_without_a_difference_it_says_what_is_ruled_out(tmp_path):
    write_two(tmp_path / "study", 0.8 + NOISE / 200, [0.8] * 10)
    assert "no difference in test accuracy shown (within" in sentence(tmp_path / "study")


def test_one_seed_tells_nothing_from_chance_and_gives_the_command(tmp_path):
    write_two(tmp_path / "study", [0.9], [0.8])
    text = sentence(tmp_path / "study")
    assert (
        "test accuracy +10 points" in text or "test accuracy -10 points" in text or "test accuracy −10 points" in text
    )
    assert "One seed cannot separate a difference from chance." in text
    assert "4 more seeds, for 5 in all:\npython -m ablate -m study=study seed=1,2,3,4" in text


def test_one_arm_is_compared_with_nothing(tmp_path):
    for seed in range(3):
        write_run(tmp_path / "study", {"clip": "fixed"}, seed=seed)
    assert sentence(tmp_path / "study").startswith("There is one arm only (")


@pytest.mark.parametrize(
    ("gain", "words"), [(5, "1 of 1 claim is supported: one."), (0, "None of 1 claim is supported.")]
)
def test_claims_are_counted(tmp_path, gain, words):
    write_two(tmp_path / "study", 0.8 + (gain + NOISE) / 100, [0.8] * 10)
    assert sentence(tmp_path / "study", written(tmp_path, MINIMAL)).startswith(words)
