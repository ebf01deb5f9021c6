"""Accuracy over seeds and examples: which scores count for which run, and what the contrast makes of them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from analysis.claims.contrasts import OverExamples, Paired
from analysis.claims.example_scores import example_scores
from analysis.claims.reading import read_claims
from analysis.claims.samples import collect
from analysis.quantities.outcomes import outcomes
from analysis.records.study import load
from analysis.stats.effects import Effect
from analysis.stats.predictions import CrossedEffect, crossed_effect
from tests.analysis.runs import change, predictions_frame, write_run
from tests.analysis.studies import MINIMAL, finding, written

EXAMPLES = 60
SIX = MINIMAL.replace("seeds: 10", "seeds: 6")


def write_right(study, clip, seed, right, **entries):
    """A run whose predictions are right where `right`, (examples,), is 1."""
    frame = predictions_frame(1.0, len(right))
    frame["prediction"] = np.where(right, frame["label"], 1 - frame["label"])
    name = f"{clip}-s{seed}"
    frames = {"predictions.parquet": frame}
    write_run(study, {"clip": clip}, seed=seed, run=name, accuracy=float(right.mean()), frames=frames, **entries)


@pytest.fixture
def study(tmp_path):
    """Clipping is right on more of the hard examples; returns its folder. Scores are in `scores.npy` next to it."""
    rng = np.random.default_rng(0)
    easy = rng.normal(0.8, 1.2, EXAMPLES)
    arms = [easy + gain + rng.normal(0, 0.4, (6, EXAMPLES)) > 0 for gain in (0.6 * (easy < 0), 0)]
    folder = tmp_path / "study"
    for clip, right in zip(("fixed", "none"), arms, strict=True):
        for seed in range(6):
            write_right(folder, clip, seed, right[seed])
    np.save(tmp_path / "scores.npy", np.array(arms, dtype=float))
    return folder


def scores_of(study):
    return np.load(study.parent / "scores.npy")


def sample_of(study, scale="points", quantity="test_accuracy"):
    loaded = load(study)
    (claim,) = read_claims(written(study.parent, SIX)).claims
    question = replace(claim.questions[0], scale=scale, quantity=quantity)
    cells = question.contrast.cells(question, loaded)
    return collect(question, cells, loaded, outcomes(loaded, {quantity})).kept


def test_accuracy_in_points_is_judged_over_seeds_and_examples(study):
    fixed, none = 100 * scores_of(study)
    expected = crossed_effect(fixed, none)
    found = finding(study, SIX)
    assert found.effect == pytest.approx(expected.estimate)
    assert (found.interval.low, found.p) == pytest.approx((expected.interval().low, expected.p))
    assert expected.interval().low < expected.seeds_only.interval().low - 0.1  # wider than over seeds alone


def test_the_contrast_examples_shows_the_same(study):
    found = finding(study, SIX + "    beside: [{contrast: examples}]\n")
    (shown,) = found.parts
    assert (shown.effect, shown.interval, shown.verdict) == (found.effect, found.interval, None)
    assert OverExamples().effects(sample_of(study), np.random.default_rng(0)) == Paired().effects(
        sample_of(study), np.random.default_rng(0)
    )


@pytest.mark.parametrize(("scale", "quantity"), [("log", "test_accuracy"), ("raw", "learned"), ("raw", "test_loss")])
def test_other_scales_and_quantities_stay_with_seeds(study, scale, quantity):
    effect = Paired().effects(sample_of(study, scale, quantity), np.random.default_rng(0))[""]
    assert isinstance(effect, Effect)
    assert isinstance(Paired().effects(sample_of(study, "raw"), np.random.default_rng(0))[""], CrossedEffect)


def test_a_diverged_run_counts_with_its_scored_value_for_each_example(study):
    change(study / "none-s2", status="diverged", metrics={})
    scores = example_scores(sample_of(study))
    fixed, none = scores_of(study)
    none[2] = 0.5  # two balanced classes
    np.testing.assert_array_equal(scores, np.stack([fixed, none], axis=1))
    assert finding(study, SIX).effect == pytest.approx(100 * (fixed - none).mean())


def test_a_run_without_predictions_counts_with_its_recorded_accuracy(study):
    shutil.rmtree(study / "fixed-s0")
    frames = {"predictions.parquet": predictions_frame(0.5).head(0)}
    write_run(study, {"clip": "fixed"}, seed=0, run="fixed-s0", accuracy=0.7, frames=frames)
    assert (example_scores(sample_of(study))[0, 0] == 0.7).all()


@pytest.mark.parametrize("what", ["another accuracy", "other test examples"])
def test_scores_that_do_not_explain_the_values_are_not_used(study, what):
    shutil.rmtree(study / "fixed-s0")
    size, accuracy = (EXAMPLES, 0.75) if what == "another accuracy" else (40, 0.5)
    frames = {"predictions.parquet": predictions_frame(0.5, size)}
    write_run(study, {"clip": "fixed"}, seed=0, run="fixed-s0", accuracy=accuracy, frames=frames)
    sample = sample_of(study)
    assert example_scores(sample) is None
    assert isinstance(Paired().effects(sample, np.random.default_rng(0))[""], Effect)


def test_one_seed_has_an_effect_without_an_interval(study):
    one = sample_of(study).where(np.arange(6) == 0)
    effect = Paired().effects(one, np.random.default_rng(0))[""]
    assert (effect.n, effect.p, effect.interval()) == (1, None, None)


def test_identical_predictions_are_inconclusive(study):
    fixed, _ = scores_of(study)
    for seed in range(6):
        shutil.rmtree(study / f"none-s{seed}")
        write_right(study, "none", seed, fixed[seed])
    found = finding(study, SIX)
    assert (found.effect, found.p, found.interval, found.verdict.value) == (0, None, None, "inconclusive")
