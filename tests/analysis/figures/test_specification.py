"""Specification curves of made-up studies whose words are known."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.claims.judge import judge_claims
from analysis.claims.reading import Claims, claims_of
from analysis.claims.verdict_rule import Direction
from analysis.figures.all import OF_CLAIMS, claim_figures
from analysis.figures.specification import Spread, grids_of, specifications, turned, word_of
from analysis.records.study import Study, load
from tests.analysis.figures.test_all import problems_of
from tests.analysis.runs import write_run

RATES = (1e-4, 2e-4, 4e-4)
CLAIMS = {
    "seeds": 4,
    "claims": {
        "P": {
            **{"statement": "the loss falls", "quantity": "test_loss", "scale": "log", "treatment": {"clip": "fixed"}},
            **{
                "control": {"clip": "none"},
                "changes": ["clip"],
                "direction": "below",
                "smallest_effect": 0.5,
                "why": "half",
            },
            "within": {"optimizer.lr": 1e-4},
        },
        "S": {
            **{"statement": "less sensitive", "quantity": "test_loss", "scale": "log", "contrast": "sensitivity"},
            **{"treatment": {"clip": "fixed"}, "control": {"clip": "none"}, "changes": ["clip"], "direction": "below"},
            "over": {"optimizer.lr": list(RATES)},
        },
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("specification")
    draw = np.random.default_rng(0)
    for seed in range(4):
        for i, rate in enumerate(RATES):
            for clip, factor in (("none", 1.0), ("fixed", 0.8)):
                loss = 0.4 * factor * (1 + i * factor**2) * float(np.exp(draw.normal(0, 0.01)))
                entries = {"metrics": {"test_accuracy": 0.8, "test_loss": loss}}
                write_run(folder, {"clip": clip}, {"optimizer": {"lr": rate}}, seed=seed, **entries)
    return load(folder)


@pytest.fixture(scope="module")
def claims() -> Claims:
    return claims_of(CLAIMS, "mine", "0" * 64)


def test_the_claim_s_own_choices_give_its_finding(study: Study, claims: Claims) -> None:
    findings = {finding.id: finding for finding in judge_claims(study, claims).findings}
    for question in claims.questions:
        frame = specifications(question, study, claims.judged)
        (own,) = frame[frame["is_own"]].to_dict("records")
        finding = findings[question.id]
        assert own["effect"] == pytest.approx(finding.effect)
        assert (own["low"], own["high"]) == pytest.approx(
            (finding.interval_simultaneous.low, finding.interval_simultaneous.high)
        )


def test_every_combination_is_there_once(study: Study, claims: Claims) -> None:
    paired, grid = (specifications(question, study, claims.judged) for question in claims.questions)
    assert len(paired) == 2 * 2 * 2 and len(grid) == 2 * 2 * 2 * 4
    assert not grid.duplicated(["scale", "grid", "test", "level"]).any()
    assert len([*grids_of(claims.questions[1])]) == 4 and len([*grids_of(claims.questions[0])]) == 1


def test_a_ratio_on_the_raw_scale_is_that_of_the_means(study: Study, claims: Claims) -> None:
    frame = specifications(claims.questions[0], study, claims.judged)
    losses = study.runs[study.runs["optimizer.lr"] == 1e-4].groupby("clip")["test_loss"].mean()
    assert frame["effect"][frame["scale"] == "raw"].iloc[0] == pytest.approx(np.log(losses["fixed"] / losses["none"]))


def test_with_four_seeds_no_sign_flip_rejects_and_the_word_says_so(study: Study, claims: Claims) -> None:
    frame = specifications(claims.questions[1], study, claims.judged)
    assert set(frame["word"][frame["test"] == "sign flips"]) == {"inconclusive"}  # p is at least 1/8
    assert "supported" in set(frame["word"][frame["test"] == "t"])
    words = specifications(claims.questions[1], study, claims.judged, rule=lambda found: "mine")["word"]
    assert set(words) == {"mine"}


def test_words_are_in_the_claimed_direction(claims: Claims) -> None:
    below = claims.questions[0]
    assert word_of(turned(below, -0.9, -1.0, -0.8, True)) == "supported"
    assert word_of(turned(replace(below, direction=Direction.ABOVE), -0.9, -1.0, -0.8, True)) == "opposite"
    assert word_of(Spread(0.0, -0.9, 0.2, 0.5, False)) == "ruled out"
    assert word_of(Spread(0.0, -0.9, 0.6, 0.5, False)) == "inconclusive"


def test_the_figure_can_be_read_and_is_left_out_without_claims(study: Study, claims: Claims) -> None:
    findings = judge_claims(study, claims).findings
    forest, budgets, curve = claim_figures(study, findings, claims)
    assert budgets.reason == "no claim is tuned (contrast: tuned)"
    assert problems_of(forest.figure) == problems_of(curve.figure) == []
    assert "S: " in curve.caption and set(curve.data["claim"]) == {"P", "S"}
    assert [item.name for item in claim_figures(study, findings)] == [*OF_CLAIMS]
    *_, without = claim_figures(study, findings)
    assert without.reason == "no claims file is given"
