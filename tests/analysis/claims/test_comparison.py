"""A study without claims of its own: every arm against a reference arm, in each quantity."""

import pytest

from analysis.claims.comparison import check_reference, comparison_claims, comparison_of, reference_arm
from analysis.claims.judge import judge_claims
from analysis.claims.reading import for_study, read_claims
from analysis.records.study import load
from tests.analysis.runs import write_run
from tests.analysis.studies import NOISE, written
from tests.tools import ROOT

AUTO = ROOT / "conf/claims/auto.yaml"
ARMS = {
    "none": {"clip": "none", "scheduler": "none", "nuisance": 0},
    "fixed": {"clip": "fixed", "clip.threshold": 1.0, "scheduler": "none", "nuisance": 0},
    "both": {"clip": "fixed", "clip.threshold": 1.0, "scheduler": "warmup_linear", "nuisance": 0},
    "none-n1": {"clip": "none", "scheduler": "none", "nuisance": 1},
}
ACCURACY = comparison_of({"quantities": {"test_accuracy": "points"}})


def test_every_arm_is_compared_with_the_first(tmp_path):
    found = comparison_claims(ACCURACY, ARMS)
    assert list(found) == [
        "clip=fixed: test accuracy", "clip=fixed, scheduler=warmup_linear: test accuracy", "nuisance=1: test accuracy",
    ]  # fmt: skip
    assert [entry["changes"] for entry in found.values()] == [["clip"], ["clip", "scheduler"], ["nuisance"]]
    assert found["nuisance=1: test accuracy"]["statement"].startswith("A/A control: ")
    assert all(entry["direction"] == "either" for entry in found.values())


def test_a_reference_is_chosen_by_settings():
    assert reference_arm(ARMS, None) == "none"
    assert reference_arm(ARMS, {"scheduler": "warmup_linear"}) == "both"
    with pytest.raises(ValueError, match=r"compare.reference must be settings of an arm.*got clip=delayed"):
        reference_arm(ARMS, {"clip": "delayed"})
    check_reference({"clip": "none"}, ARMS, {})
    with pytest.raises(ValueError, match=r"settings that choose one arm.*fits 2 of the arms: fixed, both"):
        check_reference({"clip": "fixed"}, ARMS, {})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "compare.quantities must be a mapping of quantities"),
        ({"quantities": {"acuracy": "points"}}, "compare.quantities must be one of the known names .got acuracy"),
        ({"quantities": {"test_accuracy": "percent"}}, "test_accuracy.scale must be one of .*got percent"),
        (
            {"quantities": {"test_accuracy": "points"}, "reference": "none"},
            "compare.reference must be null, or settings",
        ),
        ({"quantity": 1}, "compare has the unknown key quantity"),
    ],
)
def test_mistakes_are_named(section, message):
    with pytest.raises(ValueError, match=message):
        comparison_of(section)


def test_a_file_has_claims_or_a_comparison(tmp_path):
    text = "seeds: 2\ncompare: {quantities: {test_accuracy: points}}\nwithin: {clip: none}\n"
    with pytest.raises(ValueError, match="within must be left out of a file with `compare`"):
        read_claims(written(tmp_path, text))


@pytest.mark.parametrize(("gain", "differs"), [(3.0, True), (0.0, False)])
def test_a_planted_difference_is_found_and_no_other(tmp_path, gain, differs):
    study = tmp_path / "study"
    for seed in range(8):
        write_run(study, {"clip": "none"}, seed=seed, run=f"none-s{seed}", accuracy=0.8 + NOISE[seed] / 200)
        accuracy = 0.8 + (gain + NOISE[seed + 2]) / 200
        write_run(study, {"clip": "fixed"}, seed=seed, run=f"fixed-s{seed}", accuracy=accuracy)
    loaded = load(study)
    found = judge_claims(loaded, for_study(read_claims(AUTO), loaded))
    first = found.findings[0]
    assert first.id.endswith(": test accuracy") and first.alpha == 0.025  # looks: open
    assert (first.p_adjusted < first.alpha) == differs
    assert [look.kind for look in found.looks] == ["planned"] * len(found.looks)
