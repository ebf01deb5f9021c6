"""Quantities over seeds and examples: which scores count for which run, and what the contrast makes of them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.claims.contrasts import OverExamples, Paired
from analysis.claims.example_scores import example_scores
from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.claims.samples import collect
from analysis.quantities.outcomes import outcomes
from analysis.records.study import load
from analysis.stats.effects import Effect, paired_effect
from analysis.stats.predictions import CrossedEffect, crossed_effect, log_mean_scores
from tests.analysis.runs import change, evals_frame, predictions_frame, write_run
from tests.analysis.studies import MINIMAL, finding, written

EXAMPLES = 60
SIX = MINIMAL.replace("seeds: 10", "seeds: 6")


def write_right(study, clip, seed, right, groups=None, **entries):
    """A run whose predictions are right where `right`, (examples,), is 1; `groups` of its examples."""
    frame = predictions_frame(1.0, len(right))
    frame["prediction"] = np.where(right, frame["label"], 1 - frame["label"])
    name = f"{clip}-s{seed}"
    frames = {"predictions.parquet": frame}
    if groups is not None:
        frames["clusters.parquet"] = pd.DataFrame({"example": np.arange(len(right)), "cluster": groups})
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


def test_the_contrast_examples_takes_any_score_per_example(study):
    found = finding(study, SIX + "    beside: [{contrast: examples, quantity: test_f1_micro, scale: raw}]\n")
    expected = crossed_effect(*scores_of(study))
    assert found.parts[0].quantity == "test_f1_micro" and found.parts[0].effect == pytest.approx(expected.estimate)
    assert found.parts[0].interval.low == pytest.approx(expected.interval().low)


@pytest.mark.parametrize(("scale", "quantity"), [("logit", "test_accuracy"), ("raw", "learned"), ("raw", "test_loss")])
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


# --- Groups of examples ---

GROUPS = np.arange(EXAMPLES) // 5


def write_grouped(study, groups):
    """The runs of `study` again, with groups by the run's name, or the same for all."""
    for clip, scores in zip(("fixed", "none"), scores_of(study), strict=True):
        for seed in range(6):
            shutil.rmtree(study / f"{clip}-s{seed}")
            own = groups.get(f"{clip}-s{seed}", GROUPS) if isinstance(groups, dict) else groups
            write_right(study, clip, seed, scores[seed], own)


def test_groups_of_examples_count_instead_of_examples(study):
    plain = finding(study, SIX)
    write_grouped(study, np.argsort(np.argsort(scores_of(study)[:, 0].sum(axis=0), kind="stable")) // 5)  # alike
    groups = load(study).read("fixed-s0", "clusters.parquet")["cluster"].to_numpy()
    found, expected = finding(study, SIX), crossed_effect(*(100 * scores_of(study)), groups)
    assert (found.effect, found.p) == pytest.approx((plain.effect, expected.p))
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (expected.interval().low, expected.interval().high)
    )
    assert found.interval.low < plain.interval.low - 0.5  # the control: groups of similar examples matter
    note = "the 60 test examples are clustered in 12 groups (data.cluster); the interval is for new groups"
    assert note in found.notes and note not in plain.notes


@pytest.mark.parametrize(
    ("other", "reason"), [(GROUPS[::-1], "those of fixed-s0 and none-s3 differ"), (None, "none-s3 has none")]
)
def test_runs_that_disagree_about_groups_are_refused(study, other, reason):
    write_grouped(study, {"none-s3": other})
    found = finding(study, SIX)
    assert (found.verdict.value, found.effect) == ("not tested", None)
    assert found.notes[0].endswith(reason) and "(data.cluster)" in found.notes[0]
    loss = finding(study, SIX.replace("test_accuracy", "mean_training_loss").replace("points", "log"))
    assert loss.effect is not None  # test examples do not matter for it


def test_a_diverged_run_has_no_groups_to_agree_on(study):
    write_grouped(study, {"none-s3": None})
    change(study / "none-s3", status="diverged", metrics={})
    assert finding(study, SIX).effect is not None


@pytest.mark.parametrize("what", ["gone", "other data"])
def test_groups_that_cannot_be_used_end_no_judging(study, what):
    """A file that vanishes after loading; two data sets, each with groups of its own."""
    write_grouped(study, {f"none-s{seed}": GROUPS[::-1] for seed in range(6)} if what == "other data" else GROUPS)
    text = SIX
    if what == "other data":
        for seed in range(6):
            factors = json.loads((study / f"none-s{seed}/run.json").read_text())["factors"]
            change(study / f"none-s{seed}", factors=factors | {"data": {"option": "imdb", "settings": {}}})
        for old, new in (
            ("fixed}", "fixed, data: synthetic}"),
            ("none}", "none, data: imdb}"),
            ("[clip]", "[clip, data]"),
        ):
            text = text.replace(old, new)
    loaded = load(study)
    if what == "gone":
        (study / "fixed-s0/clusters.parquet").unlink()
    (found,) = judge_claims(loaded, read_claims(written(study.parent, text))).findings
    told = "clusters.parquet cannot be read" if what == "gone" else "those of fixed-s0 and none-s0 differ"
    assert found.effect is None and any(told in note for note in found.notes)


# --- Losses ---


def write_losses(study, probes=12, steps=20, lacking=()):
    """Clipping lowers the probe loss; returns the losses, (arms, seeds, evaluations, examples).

    The runs named `lacking` have no probe.parquet.
    """
    rng = np.random.default_rng(2)
    hard = np.exp(rng.normal(-1, 0.8, probes))
    times = np.arange(5, steps + 1, 5)
    found = np.exp(rng.normal(0, 0.05, (2, 6, len(times), probes))) * hard * np.exp(-times / 40)[:, None]
    found[0] *= 0.9 * np.exp(rng.normal(0, 0.1, probes))
    for clip, arm in zip(("fixed", "none"), found, strict=True):
        for seed, losses in enumerate(arm):
            evals = evals_frame(steps)
            evals.loc[evals["split"] == "probe", "loss"] = losses.mean(axis=1)
            rows = {"step": np.repeat(times, probes), "example": np.tile(np.arange(probes), len(times))}
            frames = {
                "evals.parquet": evals,
                "probe.parquet": pd.DataFrame(rows | {"loss": np.float32(losses.ravel())}),
            }
            name = f"{clip}-s{seed}"
            if name in lacking:
                del frames["probe.parquet"]
            write_run(study, {"clip": clip}, seed=seed, run=name, steps=steps, frames=frames)
    return found


LOSS = SIX.replace("points", "log").replace("above", "below")


@pytest.mark.parametrize(
    ("quantity", "chosen"), [("mean_probe_loss", slice(None)), ("last_probe_loss", slice(-1, None))]
)
def test_losses_of_the_probe_are_judged_over_seeds_and_examples(tmp_path, quantity, chosen):
    fixed, none = (arm[:, chosen].mean(axis=1) for arm in write_losses(tmp_path / "study"))
    found = finding(tmp_path / "study", LOSS.replace("test_accuracy", quantity))
    expected = crossed_effect(log_mean_scores(fixed), log_mean_scores(none))
    over_seeds = paired_effect(np.log(fixed.mean(axis=1)), np.log(none.mean(axis=1)))
    assert found.effect == pytest.approx(over_seeds.estimate, abs=1e-6)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (expected.interval().low, expected.interval().high), abs=1e-5
    )
    assert (found.interval_seeds.low, found.interval_seeds.high) == pytest.approx(
        (over_seeds.interval().low, over_seeds.interval().high), abs=1e-5
    )
    assert found.interval.high > found.interval_seeds.high + 0.02  # the control: examples matter


@pytest.mark.parametrize(
    "lacking", [["none-s0"], [f"{clip}-s{seed}" for clip in ("fixed", "none") for seed in range(6)]]
)
def test_runs_without_losses_of_the_probe_are_judged_over_seeds(tmp_path, lacking):
    """As runs of earlier versions are, by the same numbers."""
    fixed, none = np.log(write_losses(tmp_path / "study", lacking=lacking).mean(axis=(2, 3)))
    found = finding(tmp_path / "study", LOSS.replace("test_accuracy", "mean_probe_loss"))
    expected = paired_effect(fixed, none)
    assert found.interval_seeds is None
    assert (found.effect, found.p) == pytest.approx((expected.estimate, expected.p))


def write_probabilities(study, third_class=False):
    """Runs with a probability per test example; returns the losses of their labels, (arms, seeds, examples).

    With a third class, the rest of the probability is not that of the other class.
    """
    rng = np.random.default_rng(3)
    own = np.array([0.8, 0.4])[:, None, None] + rng.normal(0, 1, EXAMPLES) + rng.normal(0, 0.3, (2, 6, EXAMPLES))
    of_label = 1 / (1 + np.exp(-own))
    losses = -np.log(of_label) + (0.1 * (of_label < 0.5) if third_class else 0)
    for clip, arm, loss in zip(("fixed", "none"), of_label, losses, strict=True):
        for seed in range(6):
            frame = predictions_frame(1.0, EXAMPLES)
            frame["prediction"] = np.where(arm[seed] > 0.5, frame["label"], 1 - frame["label"])
            frame["probability"] = np.float32(np.maximum(arm[seed], 1 - arm[seed]))
            metrics = {"test_accuracy": float((arm[seed] > 0.5).mean()), "test_loss": float(loss[seed].mean())}
            frames = {"predictions.parquet": frame}
            write_run(study, {"clip": clip}, seed=seed, run=f"{clip}-s{seed}", frames=frames, metrics=metrics)
    return losses


def test_the_test_loss_is_judged_over_examples_where_probabilities_determine_it(tmp_path):
    losses = write_probabilities(tmp_path / "study")
    sample = sample_of(tmp_path / "study", "log", "test_loss")
    np.testing.assert_allclose(example_scores(sample).transpose(1, 0, 2), losses, atol=1e-5)
    np.testing.assert_allclose(example_scores(sample).mean(axis=2), sample.values, rtol=1e-12)
    found, (fixed, none) = finding(tmp_path / "study", LOSS.replace("test_accuracy", "test_loss")), losses
    assert found.p == pytest.approx(crossed_effect(log_mean_scores(fixed), log_mean_scores(none)).p, rel=1e-3)


def test_the_test_loss_stays_with_seeds_where_a_third_class_has_a_part_of_the_probability(tmp_path):
    write_probabilities(tmp_path / "study", third_class=True)
    assert example_scores(sample_of(tmp_path / "study", "log", "test_loss")) is None
    three = sample_of(tmp_path / "study", "log", "test_accuracy")  # whose predictions are what they were
    assert example_scores(three) is not None
