import math
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import metrics
from analysis.load import load
from analysis.metrics import METRICS, NotMeasurable, jitter, measure
from tests.analysis.runs import change, evals_frame, predictions_frame, steps_frame, write_run


def steps_of(**columns):
    length = len(next(iter(columns.values())))
    return pd.DataFrame({"step": np.arange(1, length + 1), **columns})


def probe_of(loss, every=5):
    step = every * np.arange(1, len(loss) + 1)
    return pd.DataFrame({"step": step, "split": "probe", "loss": loss})


# --- quantities of the steps, by hand ---

TWENTY = np.arange(1.0, 21.0)


def test_training_loss_and_its_variance():
    steps = steps_of(loss=TWENTY)
    assert metrics.last_training_loss(steps) == 19.5
    assert metrics.loss_variance(steps) == 35.0  # n(n + 1) / 12
    assert metrics.last_loss_variance(steps, last=3) == 1.0


def test_norms_and_clipping():
    norm, clipped = [0.5, 1.0, 2.0, 4.0], [0.5, 1.0, 1.0, 1.0]
    steps = steps_of(grad_norm=norm, grad_norm_clipped=clipped, delta_g=[0.0, 0.0, 1.0, 3.0])
    assert metrics.mean_grad_norm(steps) == 1.875
    assert metrics.clip_rate(steps) == 0.5
    assert metrics.mean_delta_g(steps) == 1.0


def test_clipped_information_early_and_late():
    steps = steps_of(delta_g=np.array([3.0, 1.0] + [0.5] * 18))
    assert metrics.early_delta_g_share(steps) == 4.0 / 13.0
    assert metrics.early_delta_g_share(steps_of(delta_g=np.ones(20))) == 0.1
    with pytest.raises(NotMeasurable, match="clipping never acted"):
        metrics.early_delta_g_share(steps_of(delta_g=np.zeros(20)))


@given(st.floats(-0.01, 0.01), st.floats(3.0, 5.0))
def test_slope_of_clipped_information_is_that_of_its_logarithm(slope, level):
    steps = steps_of(delta_g=np.expm1(level + slope * np.arange(1, 201)))
    assert metrics.delta_g_slope(steps) == pytest.approx(slope, abs=1e-12)


def test_layers_of_the_paper():
    steps = steps_of(mlp_grad_norm=[0.5, 0.9, 1.0, 2.0], classifier_grad_norm=[3.0, 1.0, 1.0, 5.0])
    assert metrics.mlp_share_below_one(steps) == 0.5
    assert metrics.early_classifier_norm(steps) == 3.0 and metrics.late_classifier_norm(steps) == 5.0
    steps = steps_of(classifier_grad_norm=np.concatenate([[9.0, 2.0, 1.0], np.ones(24), [4.0, 5.0, 8.0]]))
    assert metrics.early_classifier_norm(steps) == 2.0 and metrics.late_classifier_norm(steps) == 5.0


def test_a_frozen_layers_norm_is_not_measurable():
    steps = steps_of(mlp_grad_norm=[None] * 4)
    with pytest.raises(NotMeasurable, match="mlp_grad_norm: not recorded in 4 of 4 rows"):
        metrics.mlp_share_below_one(steps)
    with pytest.raises(NotMeasurable, match="not recorded in 1 of 2 rows"):  # never a mean over the rest
        metrics.mean_grad_norm(steps_of(grad_norm=[1.0, None]))


def test_spikes():
    loss = np.tile([0.0, 1.0], 30)  # median 0.5, MAD 0.5 in each window: spikes are above 0.5 + 5 · 0.7413
    loss[[55, 58]] = [4.3, 4.1]
    assert metrics.spikes(steps_of(loss=loss)) == 1 / 10
    loss[57] = 100.0
    assert metrics.spikes(steps_of(loss=loss)) == 2 / 10


def test_normal_noise_has_next_to_no_spikes_and_a_slow_fall_none_more():
    noise = np.random.default_rng(0).normal(0, 0.1, 20_000)
    assert metrics.spikes(steps_of(loss=noise)) < 2e-4
    assert metrics.spikes(steps_of(loss=noise + np.linspace(5, 0, 20_000))) < 2e-4


def test_training_seconds_do_not_depend_on_a_fork():
    own = steps_of(seconds=[2.0, 2.0, 3.0, 1.0])
    forked = steps_of(seconds=[None, None, 3.0, 1.0])
    assert metrics.training_seconds(own) == metrics.training_seconds(forked) == 8.0
    with pytest.raises(NotMeasurable, match="no step of the run's own"):
        metrics.training_seconds(steps_of(seconds=[None, None]))


# --- quantities of the evaluations, by hand ---


def test_probe_loss():
    evals = pd.concat(
        [
            probe_of([0.9, 0.6, 0.7, 0.5, 0.8, 0.4]),
            pd.DataFrame([{"step": 30, "split": "test", "loss": 99.0}]),
        ]
    )
    assert metrics.mean_probe_loss(evals) == pytest.approx(0.65)
    assert metrics.max_drawdown(evals) == pytest.approx(0.3)
    assert metrics.steps_to_probe_loss(evals, planned=30) == 20
    assert metrics.steps_to_probe_loss(evals, planned=30, level=0.3) == 30
    assert metrics.max_drawdown(probe_of([3.0, 2.0, 1.0])) == 0.0


def test_a_run_that_diverged_early_is_not_taken_for_a_quick_one():
    assert metrics.steps_to_probe_loss(probe_of([0.9, 0.8]), planned=300) == 300


def test_without_a_probe_nothing_is_measured():
    for quantity in (metrics.mean_probe_loss, metrics.max_drawdown):
        with pytest.raises(NotMeasurable, match="loss: 1 rows needed, 0 recorded"):
            quantity(probe_of([]))
    with pytest.raises(NotMeasurable):
        metrics.steps_to_probe_loss(probe_of([]), planned=300)


@pytest.mark.parametrize(
    ("right", "failed"),
    [(50, True), (60, True), (61, False), (99, False)],  # .5 + 2 · √(.25 / 100) = .6
)
def test_did_not_learn(right, failed):
    assert metrics.did_not_learn(predictions_frame(right / 100, examples=100)) is failed


def test_did_not_learn_knows_the_majority_class():
    predictions = pd.DataFrame({"label": [0] * 90 + [1] * 10, "prediction": [0] * 100})
    assert metrics.did_not_learn(predictions)  # 90 % right, without having learned anything
    with pytest.raises(NotMeasurable, match="predictions"):
        metrics.did_not_learn(predictions[:0])


# --- jitter ---


def test_jitter_by_hand():
    """Probes at 40, 45 … 80 with a bump at 60: only t = 60 and t = 70 see it, with −1 and 1/2."""
    points = pd.DataFrame({"step": np.arange(40, 81, 5), "loss": [0, 0, 0, 0, 1.0, 0, 0, 0, 0]})
    assert jitter(points, at_least=3) == pytest.approx(2 / 3 * (1 + 0 + 0.25) / 3)  # t = 60, 65, 70
    assert jitter(points, at_least=5, start=1) == pytest.approx(2 / 3 * (0.25 + 0 + 1 + 0 + 0.25) / 5)
    with pytest.raises(NotMeasurable, match=r"4 points from step 60 on .* needed, 3 found"):
        jitter(points, at_least=4)


@pytest.mark.parametrize("lag", [1, 10, 20])
def test_jitter_is_the_noise_s_variance_whatever_the_lag(lag):
    noise = np.random.default_rng(lag).normal(0, 0.3, 100_000)
    points = pd.DataFrame({"step": np.arange(1, 100_001), "loss": noise})
    assert jitter(points, at_least=40, lag=lag) == pytest.approx(0.09, rel=0.02)


@given(st.floats(-1, 1), st.floats(-5, 5))
def test_jitter_of_a_straight_line_is_nothing(slope, level):
    points = probe_of(level + slope * np.arange(60))
    assert jitter(points, at_least=40) == pytest.approx(0, abs=1e-24)


TRENDS = {
    "exponential, fast": lambda t: 0.3 + 0.4 * np.exp(-t / 40),
    "exponential, slow": lambda t: 0.3 + 0.4 * np.exp(-t / 150),
    "power law": lambda t: 0.2 + 0.5 * (1 + t / 20) ** -0.7,
    "rising": lambda t: 0.3 + 1e-6 * t**2,
    "a slow wave": lambda t: 0.4 + 0.1 * np.sin(t / 60),
}


@pytest.mark.parametrize("trend", TRENDS)
def test_jitter_is_right_under_any_smooth_trend(trend):
    """Runs as the study has them, 300 steps probed every 5: the mean of 200 is the noise's variance."""
    t = np.arange(5, 301, 5)
    noise = np.random.default_rng(0).normal(0, 0.02, (200, len(t)))
    mean = np.mean([metrics.probe_jitter(probe_of(TRENDS[trend](t) + e)) for e in noise])
    assert mean == pytest.approx(0.02**2, rel=0.05)


def test_jitter_tells_noise_and_raw_variance_tells_speed():
    """A fast and a slow learner of the same noise: equal by the jitter, a factor apart by §4.2's Var(L)."""
    draw, t = np.random.default_rng(1), np.arange(5, 301, 5)
    jitters, variances = {}, {}
    for speed, time in (("fast", 40), ("slow", 600)):
        runs = [0.3 + 0.4 * np.exp(-t / time) + draw.normal(0, 0.02, len(t)) for _ in range(200)]
        jitters[speed] = np.mean([metrics.probe_jitter(probe_of(loss)) for loss in runs])
        variances[speed] = np.mean([metrics.loss_variance(steps_of(loss=loss)) for loss in runs])
    assert jitters["fast"] / jitters["slow"] == pytest.approx(1, abs=0.05)
    assert variances["fast"] / variances["slow"] > 2


def test_jitter_tells_a_noisier_run_from_a_steadier_one():
    """The negative control: twice the noise is four times the jitter."""
    draw = np.random.default_rng(2)
    quiet, noisy = (
        np.mean([metrics.probe_jitter(probe_of(draw.normal(0.5, sd, 60))) for _ in range(200)])
        for sd in (0.01, 0.02)
    )
    assert noisy / quiet == pytest.approx(4, rel=0.1)


def test_probe_jitter_needs_the_studys_probes():
    metrics.probe_jitter(probe_of(np.zeros(60), every=5))
    with pytest.raises(NotMeasurable, match=r"40 points from step 60 on .* needed, 24 found"):
        metrics.probe_jitter(probe_of(np.zeros(30), every=10))
    with pytest.raises(NotMeasurable, match="0 found"):
        metrics.probe_jitter(probe_of(np.zeros(100), every=3))  # no neighbours 10 steps away


# --- the batches' part ---


def write_paired(folder, noise, batch_sd=0.3, arms=4, seeds=2, steps=600, **entries):
    """Arms of a seed share the batches' part of the loss; each adds its own noise of sd `noise[arm]`."""
    for seed in range(seeds):
        batch = np.random.default_rng(seed).normal(0, batch_sd, steps)
        for arm in range(arms):
            own = np.random.default_rng([seed, arm, 7]).normal(0, noise[arm], steps)
            frame = steps_frame(steps).assign(loss=0.5 + batch + own)
            write_run(
                folder,
                {"clip": f"rule{arm}"},
                seed=seed,
                steps=steps,
                run=f"arm{arm}-s{seed}",
                frames={"steps.parquet": frame},
                **entries,
            )
    return load(folder)


def test_loss_jitter_is_free_of_the_batches_part(tmp_path):
    """Of k arms with noise σ² each, σ² (1 − 1/k) is left of a run's own, and nothing of the batches."""
    study = write_paired(tmp_path, noise=[0.05] * 4)
    found = measure(study, ["loss_jitter", "loss_variance"]).values
    assert found["loss_jitter"].mean() == pytest.approx(0.05**2 * 3 / 4, rel=0.1)
    assert found["loss_variance"].mean() > 0.3**2 * 0.8


def test_batches_part_is_that_of_one_order_of_examples(tmp_path):
    study = write_paired(tmp_path, noise=[0.05] * 4, pairing={"batches": "all the same"})
    found = measure(study, ["loss_jitter"]).values  # the negative control: seeds mixed up
    assert found["loss_jitter"].mean() > 0.3**2 / 4


def test_batches_part_leaves_diverged_runs_out(tmp_path):
    write_paired(tmp_path, noise=[0.05] * 4)
    change(tmp_path / "arm0-s0", status="diverged")
    parts = metrics.batch_parts(load(tmp_path))
    assert set(parts["b0"]["runs"]) == {3} and set(parts["b1"]["runs"]) == {4}


def test_a_lone_arm_has_no_batches_part(tmp_path):
    study = write_paired(tmp_path, noise=[0.05], arms=1)
    found = measure(study, ["loss_jitter"])
    assert found.values["loss_jitter"].isna().all()
    assert set(found.lacking["reason"]) == {"loss: no other arm finished on the same batches"}


# --- all runs ---


@pytest.fixture
def study(tmp_path):
    for seed in (0, 1):
        for clip in ("none", "fixed"):
            write_run(tmp_path, {"clip": clip}, seed=seed, steps=300, run=f"{clip}-s{seed}")
    return load(tmp_path)


def test_measure_gives_every_quantity_of_every_run(study):
    found = measure(study)
    assert found.values.shape == (4, len(METRICS)) and found.lacking.empty
    assert found.values.notna().all(axis=None)
    assert found.values.loc["fixed-s1", "clip_rate"] == metrics.clip_rate(steps_frame(300, seed=1))
    assert found.values.loc["fixed-s1", "probe_jitter"] == metrics.probe_jitter(evals_frame(300, seed=1))


def test_measure_reads_no_more_than_it_is_asked_for(study, monkeypatch):
    monkeypatch.setattr(
        type(study), "read", lambda self, run, file, columns=None: pytest.fail(f"read {file}")
    )
    with pytest.raises(BaseException, match=r"read steps.parquet"):
        measure(study, ["clip_rate"])
    with pytest.raises(ValueError, match="no quantity clip_rat; there are"):
        measure(study, ["clip_rat"])


def test_every_gap_is_explained(tmp_path):
    write_run(tmp_path, steps=20, run="short")
    empty = {
        "steps.parquet": steps_frame(0),
        "evals.parquet": evals_frame(20)[:0],
        "predictions.parquet": predictions_frame()[:0],
    }
    write_run(tmp_path, {"clip": "fixed"}, steps=20, status="diverged", run="dead", frames=empty, metrics={})
    found = measure(load(tmp_path))
    gaps = found.values.isna().stack()
    assert set(gaps[gaps].index) == set(zip(found.lacking["run"], found.lacking["quantity"], strict=True))
    assert set(gaps["dead"].index) == set(METRICS) and gaps["dead"].all()
    assert not gaps["short"]["mean_grad_norm"] and gaps["short"]["probe_jitter"]


def test_a_run_that_has_gone_is_warned_of_and_left_out(study):
    shutil.rmtree(study.folder / "none-s0")
    with pytest.warns(UserWarning, match="none-s0 is not measured"):
        found = measure(study, ["clip_rate"])
    assert list(found.values.index) == ["fixed-s0", "fixed-s1", "none-s1"]


def test_an_empty_study_measures_to_an_empty_frame(tmp_path):
    found = measure(load(tmp_path))
    assert found.values.shape == (0, len(METRICS)) and found.lacking.empty


@pytest.mark.parametrize("quantity", METRICS)
def test_quantities_are_plain_numbers(study, quantity):
    value = measure(study, [quantity]).values[quantity].iloc[0]
    assert isinstance(value, float) and math.isfinite(value)
