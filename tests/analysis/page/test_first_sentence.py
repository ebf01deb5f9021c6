"""The first sentence of a report, on findings and studies that are made up."""

import shlex
from pathlib import Path

import pytest

from ablate.config.paths import conf
from analysis.claims.finding import Finding
from analysis.claims.judge import judge_claims
from analysis.claims.reading import for_study, read_claims
from analysis.claims.verdict_rule import Verdict
from analysis.page.headline import comparison_sentence, headline
from analysis.records.study import load
from analysis.stats.interval import Interval
from tests.analysis.runs import write_run

AUTO = Path(conf()) / "claims/auto.yaml"


def found(clip: str, verdict: Verdict, effect: float, low: float, high: float, **more: object) -> Finding:
    known = {
        **{"id": clip, "statement": "", "section": None, "verdict": verdict, "n": 5, "effect": effect},
        **{"treatment": {"clip": clip}, "control": {"clip": "none"}, "changes": ("clip",)},
        **{"quantity": "test_accuracy", "scale": "points", "interval_simultaneous": Interval(low, high, 0.99)},
    }
    return Finding(**known | more)  # type: ignore[arg-type]


def test_the_arms_that_differ_come_first_with_their_adjusted_intervals() -> None:
    delayed = found("delayed", Verdict.INCONCLUSIVE, 0.1, -0.6, 0.8)
    fixed = found("fixed", Verdict.SUPPORTED, -1.2, -2.1, -0.3)
    slower = found("fixed", Verdict.SUPPORTED, 0.1, 0.05, 0.15, quantity="step_seconds", scale="log")
    assert comparison_sentence([delayed, fixed, slower]) == (
        "clip=fixed: test accuracy is 1.2 percentage points lower than with clip=none (0.3 to 2.1), "
        "time of a step is 1.11 times as large as with clip=none (1.05 to 1.16); "
        "clip=delayed: no difference in test accuracy shown (within 0.8 points either way). "
        "Intervals: 95 %, 5 seeds, adjusted for 3 comparisons."
    )


def test_many_arms_are_counted_and_unlearned_runs_are_named() -> None:
    arms = [found(f"rule{i}", Verdict.INCONCLUSIVE, 0, -1, 1, n_unlearned=2) for i in range(7)]
    sentence = comparison_sentence(arms)
    assert "clip=rule0 and clip=rule1 and clip=rule2 and clip=rule3: no difference" in sentence
    assert "3 more arms: none with a difference" in sentence and sentence.endswith("On 2 seeds a run did not learn.")


@pytest.mark.parametrize(("seeds", "arms"), [(1, 2), (3, 1), (3, 2)])
def test_a_study_without_claims_of_its_own(tmp_path: Path, seeds: int, arms: int) -> None:
    for seed in range(seeds):
        for clip, accuracy in [("none", 0.7), ("fixed", 0.8)][:arms]:
            write_run(tmp_path / "outputs/mine", {"clip": clip}, seed=seed, accuracy=accuracy)
    study = load(tmp_path / "outputs/mine")
    claims = for_study(read_claims(AUTO), study)
    text = headline(study, claims, judge_claims(study, claims).findings)
    if arms == 1:
        assert text.startswith("There is one arm only (none-none-none), so nothing is compared")
    elif seeds == 1:
        first, more, command = text.splitlines()
        assert "test accuracy +10 points" in first and first.endswith(
            "One seed cannot separate a difference from chance."
        )
        assert more == "4 more seeds, for 5 in all:"
        assert shlex.split(command)[3:] == ["-m", "study=mine", "seed=1,2,3,4", "clip=none,fixed"]
    else:
        assert text.startswith("clip=fixed: ") and "adjusted for" in text
