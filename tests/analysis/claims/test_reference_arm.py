"""Every arm against a reference arm: which comparisons a study comes to, and that each compares the arms it names."""

from pathlib import Path

import numpy as np
import pytest

from ablate.config.paths import conf
from analysis.claims.comparison import check_reference, comparison_claims
from analysis.claims.judge import judge_claims
from analysis.claims.reading import Claims, for_study, read_claims
from analysis.records.study import Study, load
from tests.analysis.runs import predictions_frame, write_run

COMPARE = "seeds: 2\nlooks: open\ncompare:\n  reference: {}\n  quantities: {{test_accuracy: points}}\n"
AUTO = Path(conf()) / "claims/auto.yaml"


def claims_for(study: Study, folder: Path, reference: str = "null") -> Claims:
    (folder / "mine.yaml").write_text(COMPARE.format(reference))
    return for_study(read_claims(folder / "mine.yaml"), study)


def effects(study: Study, claims: Claims) -> dict[str, float | None]:
    return {finding.id: finding.effect for finding in judge_claims(study, claims).findings}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Clip rules, two starts, a schedule, an A/A arm; the accuracy of each differs from that of none by its own gap."""
    arms = [
        ({}, {}, 0, 0.5),
        ({"clip": "fixed"}, {}, 0, 0.55),
        ({"clip": "delayed"}, {"clip": {"start": 50}}, 0, 0.6),
        ({"clip": "delayed"}, {"clip": {"start": 100}}, 0, 0.65),
        ({"scheduler": "warmup_linear"}, {}, 0, 0.7),
        ({"clip": "fixed", "scheduler": "warmup_linear"}, {}, 0, 0.75),
        ({}, {"trainer": {"skip_unread": True}}, 0, 0.8),
        ({}, {}, 1, 0.5),
    ]
    folder = tmp_path_factory.mktemp("outputs") / "study"
    for i, (options, settings, nuisance, accuracy) in enumerate(arms):
        for seed in range(3):
            write_run(
                folder, options, settings, seed=seed, nuisance=nuisance, accuracy=accuracy,
                timing={"started": f"2026-01-01T00:0{i}:0{seed}Z"},
            )  # fmt: skip
    return load(folder)


def test_each_arm_is_compared_with_the_first(study: Study, tmp_path: Path) -> None:
    found = effects(study, claims_for(study, tmp_path))
    assert {name: round(effect, 6) for name, effect in found.items() if effect is not None} == {
        "clip=fixed: test accuracy": 5,
        "clip=delayed, clip.start=50: test accuracy": 10,
        "clip=delayed, clip.start=100: test accuracy": 15,
        "scheduler=warmup_linear: test accuracy": 20,
        "clip=fixed, scheduler=warmup_linear: test accuracy": 25,
        "trainer.skip_unread=true: test accuracy": 30,
        "nuisance=1: test accuracy": 0,
    }
    assert len(found) == 7


def test_another_reference_turns_the_differences(study: Study, tmp_path: Path) -> None:
    found = effects(study, claims_for(study, tmp_path, "{clip: fixed, scheduler: warmup_linear}"))
    assert found["clip=none: test accuracy"] == pytest.approx(-5)  # against fixed with the schedule: 70 - 75
    assert found["scheduler=none: test accuracy"] == pytest.approx(-20)
    assert found["clip=none, scheduler=none: test accuracy"] == pytest.approx(-25)


def test_the_a_a_arm_is_marked_as_control(study: Study) -> None:
    claims = for_study(read_claims(AUTO), study)
    marked = {claim.id for claim in claims.claims if claim.statement.startswith("A/A control")}
    assert marked == {claim.id for claim in claims.claims if claim.id.startswith("nuisance=1: ")} and len(marked) == 3
    assert len(claims.claims) == 3 * 7


def test_a_noisy_difference_is_inconclusive_and_a_clear_one_is_supported(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for seed in range(8):
        for clip, gain in (("none", 0.0), ("fixed", 0.1), ("delayed", 0.0)):
            accuracy = 0.8 + gain + draw.normal(0, 0.02)
            frames = {"predictions.parquet": predictions_frame(accuracy, examples=400)}
            write_run(tmp_path / "study", {"clip": clip}, seed=seed, accuracy=accuracy, frames=frames)
    study = load(tmp_path / "study")
    found = judge_claims(study, claims_for(study, tmp_path, "{clip: none}")).findings
    words = {finding.id: finding.verdict.value for finding in found if finding.verdict}
    assert words["clip=fixed: test accuracy"] == "supported"
    assert words["clip=delayed: test accuracy"] == "inconclusive"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("fixed", "compare.reference must be null, or settings that choose one arm"),
        ("{clp: none}", "did you mean clip"),
        ("{clip: nope}", r"compare.reference must be settings of an arm: .* \(got clip=nope\)"),
    ],
)
def test_a_reference_that_fits_no_arm(study: Study, tmp_path: Path, reference: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        claims_for(study, tmp_path, reference)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: 2\ncompare: {quantities: {test_acuracy: points}}\n", "did you mean test_accuracy"),
        ("seeds: 2\nclaims: {}\ncompare: {quantities: {test_accuracy: points}}\n", "claims must be left out"),
    ],
)
def test_mistakes_in_the_section(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_claims(tmp_path / "mine.yaml")


def test_a_typed_reference_chooses_one_arm_of_the_sweep_or_else_of_the_study() -> None:
    none, late, early = ({"clip": clip, "nuisance": 0} for clip in ("none", "late", "early"))
    check_reference({"clip": "none"}, {"none": none, "late": late}, {})
    check_reference({"clip": "early"}, {"none": none}, {"early": early})
    with pytest.raises(ValueError, match="fits none of the arms: none, late"):
        check_reference({"clip": "early"}, {"none": none, "late": late}, {})
    with pytest.raises(ValueError, match="fits 2 of the arms: none, late"):
        check_reference({"nuisance": 0}, {"none": none, "late": late}, {})


def test_no_arm_is_lost_where_names_are_alike(study: Study, tmp_path: Path) -> None:
    comparison = claims_for(study, tmp_path).compare
    assert comparison is not None
    assert len(comparison_claims(comparison, study.arms)) == len(study.arms) - 1
