"""Specifications of made-up studies whose words are known."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.claims.judge import judge_claims
from analysis.claims.reading import Claims, claims_of
from analysis.claims.specifications import (
    ALL_RUNS,
    BONFERRONI,
    EXAMPLES,
    HOLM,
    LEARNERS,
    SEEDS,
    SIGN_FLIPS,
    STUDENT,
    UNADJUSTED,
    grids_of,
    judged_cases,
    specifications,
)
from analysis.records.study import Study, load
from tests.analysis.claims.test_example_scores import write_right
from tests.analysis.runs import write_run

RATES = (1e-4, 2e-4, 4e-4)
ARMS = {"treatment": {"clip": "fixed"}, "control": {"clip": "none"}, "changes": ["clip"]}
CLAIMS = {
    "seeds": 4,
    "claims": {
        "P": {
            **{"statement": "the loss falls", "quantity": "test_loss", "scale": "log", **ARMS, "direction": "below"},
            **{"smallest_effect": 0.5, "why": "half", "within": {"optimizer.lr": 1e-4}},
        },
        "S": {
            **{"statement": "less sensitive", "quantity": "test_loss", "scale": "log", "contrast": "sensitivity"},
            **{**ARMS, "direction": "below", "over": {"optimizer.lr": list(RATES)}},
        },
    },
}


def write_rates(folder) -> None:
    """Clipping lowers the test loss to 0.8 times, at three learning rates and on four seeds."""
    draw = np.random.default_rng(0)
    for seed in range(4):
        for i, rate in enumerate(RATES):
            for clip, factor in (("none", 1.0), ("fixed", 0.8)):
                loss = 0.4 * factor * (1 + i * factor**2) * float(np.exp(draw.normal(0, 0.01)))
                entries = {"metrics": {"test_accuracy": 0.8, "test_loss": loss}}
                write_run(folder, {"clip": clip}, {"optimizer": {"lr": rate}}, seed=seed, **entries)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("specifications")
    write_rates(folder)
    return load(folder)


@pytest.fixture(scope="module")
def claims() -> Claims:
    return claims_of(CLAIMS, "mine", "0" * 64)


def judged(study, claims):
    """The specifications and the finding of each question."""
    findings = {finding.id: finding for finding in judge_claims(study, claims).findings}
    cases = judged_cases(study, claims, [*findings.values()])
    return {q.id: (specifications(q, study, cases), findings[q.id]) for q in claims.questions}


def only(frame, **choices):
    """The one specification with these choices, as a mapping."""
    (found,) = frame[np.logical_and.reduce([frame[kind] == choice for kind, choice in choices.items()])].to_dict(
        "records"
    )
    return found


def test_the_claim_s_own_choices_give_its_finding(study, claims):
    for frame, finding in judged(study, claims).values():
        own = only(frame, is_own=True)
        assert (own["word"], own["level"]) == (finding.verdict.value, HOLM)
        assert (own["effect"], own["p"]) == pytest.approx((finding.effect, finding.p))
        same = {kind: own[kind] for kind in ("scale", "runs", "grid", "test", "error")}
        displayed = only(frame, **same, level=BONFERRONI)
        ends = finding.interval_simultaneous.low, finding.interval_simultaneous.high
        assert (displayed["low"], displayed["high"]) == pytest.approx(ends)


def test_holm_s_level_is_that_of_the_claims_that_share_it(study, claims):
    """The claim with the smaller p is judged at α / 2 and the other one, once that is rejected, at α."""
    found = judged(study, claims)
    first, second = sorted(found, key=lambda name: found[name][1].p)
    for name, like in ((first, BONFERRONI), (second, UNADJUSTED)):
        frame, finding = found[name]
        own = only(frame, is_own=True)
        same = {kind: own[kind] for kind in ("scale", "runs", "grid", "test", "error")}
        assert own["high"] == pytest.approx(only(frame, **same, level=like)["high"])  # below: high is compared with 0
        assert finding.p_adjusted == pytest.approx(finding.p * (2 if like == BONFERRONI else 1))


def test_every_combination_is_there_once(study, claims):
    (paired, _), (grid, _) = judged(study, claims).values()
    assert len(paired) == 2 * 2 * 3 and len(grid) == 2 * 2 * 3 * 4
    assert not grid.duplicated(["scale", "grid", "test", "level"]).any()
    assert len([*grids_of(claims.questions[1])]) == 4 and len([*grids_of(claims.questions[0])]) == 1


def test_a_ratio_on_the_raw_scale_is_that_of_the_means(study, claims):
    (frame, _), _ = judged(study, claims).values()
    losses = study.runs[study.runs["optimizer.lr"] == 1e-4].groupby("clip")["test_loss"].mean()
    assert frame["effect"][frame["scale"] == "raw"].iloc[0] == pytest.approx(np.log(losses["fixed"] / losses["none"]))


def test_with_four_seeds_no_sign_flip_rejects_and_the_word_says_so(study, claims):
    _, (frame, _) = judged(study, claims).values()
    assert set(frame["word"][frame["test"] == SIGN_FLIPS]) == {"inconclusive"}  # p is at least 1/8
    assert "supported" in set(frame["word"][frame["test"] == STUDENT])


def test_words_are_in_the_claimed_direction(study, claims):
    above = claims_of({**CLAIMS, "claims": {"P": {**CLAIMS["claims"]["P"], "direction": "above"}}}, "mine", "0" * 64)
    frame, finding = judged(study, above)["P"]
    assert only(frame, is_own=True)["word"] == finding.verdict.value == "opposite"
    below, _ = judged(study, claims)["P"]
    assert only(below, is_own=True)["word"] == "smaller than claimed"  # × 0.8, and asked for × 0.5


def test_seeds_against_seeds_and_examples_and_all_runs_against_those_that_learn(tmp_path):
    rng = np.random.default_rng(0)
    easy = rng.normal(0.8, 1.2, 200)
    for clip, gain in (("fixed", 0.8 * (easy < 0)), ("none", 0)):
        for seed in range(8):
            right = easy + gain + rng.normal(0, 0.4, 200) > 0
            write_right(tmp_path, clip, seed, right if (clip, seed) != ("none", 7) else np.arange(200) % 2)
    one = {"statement": "accuracy rises", "quantity": "test_accuracy", "scale": "points", **ARMS, "direction": "above"}
    claims = claims_of({"seeds": 8, "claims": {"one": one}}, "mine", "0" * 64)
    frame, finding = judged(load(tmp_path), claims)["one"]
    assert len(frame) == 2 * 2 * 2 * 3
    own = only(frame, is_own=True)
    assert (own["error"], own["runs"], own["word"]) == (EXAMPLES, ALL_RUNS, finding.verdict.value)
    at_alpha = {"runs": ALL_RUNS, "test": STUDENT, "level": UNADJUSTED}
    for error, interval in ((EXAMPLES, finding.interval), (SEEDS, finding.interval_seeds)):
        row = only(frame, error=error, **at_alpha)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert (only(frame, error=EXAMPLES, **at_alpha | {"runs": LEARNERS})["n"], own["n"]) == (7, 8)


def test_the_p_values_of_the_other_claims_are_computed_once(study, claims):
    cases = judged_cases(study, claims, judge_claims(study, claims).findings)
    assert all(case.ps is case.ps for case in cases)
    assert replace(cases[0], evidence=()).ps != cases[0].ps  # a changed claim has p values of its own
