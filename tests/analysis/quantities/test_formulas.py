import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.quantities import formulas
from analysis.quantities.formulas import NotMeasurable, jitter


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
    assert formulas.last_training_loss(steps) == 19.5
    assert formulas.mean_training_loss(steps) == 10.5
    assert formulas.loss_variance(steps) == 35.0  # n(n + 1) / 12
    assert formulas.last_loss_variance(steps, last=3) == 1.0


def test_norms_and_clipping():
    norm, clipped = [0.5, 1.0, 2.0, 4.0], [0.5, 1.0, 1.0, 1.0]
    steps = steps_of(grad_norm=norm, grad_norm_clipped=clipped, delta_g=[0.0, 0.0, 1.0, 3.0])
    assert formulas.mean_grad_norm(steps) == 1.875
    assert formulas.clip_rate(steps) == 0.5
    assert formulas.mean_delta_g(steps) == 1.0


def test_clipped_information_early_and_late():
    steps = steps_of(delta_g=np.array([3.0, 1.0] + [0.5] * 18))
    assert formulas.early_delta_g_share(steps) == 4.0 / 13.0
    assert formulas.early_delta_g_share(steps_of(delta_g=np.ones(20))) == 0.1
    with pytest.raises(NotMeasurable, match="clipping never acted"):
        formulas.early_delta_g_share(steps_of(delta_g=np.zeros(20)))
    rounded = np.append(np.ones(19), -1e-9)
    assert formulas.early_delta_g_share(steps_of(delta_g=rounded)) == pytest.approx(2 / 19)
    with pytest.raises(NotMeasurable, match=r"delta_g: below 0 in 1 of 20 steps"):  # a gradient was lengthened
        formulas.early_delta_g_share(steps_of(delta_g=np.append(np.ones(19), -0.5)))


@given(st.floats(-0.01, 0.01), st.floats(3.0, 5.0))
def test_slope_of_clipped_information_is_that_of_its_logarithm(slope, level):
    steps = steps_of(delta_g=np.expm1(level + slope * np.arange(1, 201)))
    assert formulas.delta_g_slope(steps) == pytest.approx(slope, abs=1e-12)


def test_layers_of_the_paper():
    steps = steps_of(mlp_grad_norm=[0.5, 0.9, 1.0, 2.0], classifier_grad_norm=[3.0, 1.0, 1.0, 5.0])
    assert formulas.mlp_share_below_one(steps) == 0.5
    assert formulas.early_classifier_norm(steps) == 3.0 and formulas.late_classifier_norm(steps) == 5.0
    steps = steps_of(classifier_grad_norm=np.concatenate([[9.0, 2.0, 1.0], np.ones(24), [4.0, 5.0, 8.0]]))
    assert formulas.early_classifier_norm(steps) == 2.0 and formulas.late_classifier_norm(steps) == 5.0


def test_a_frozen_layers_norm_is_not_measurable():
    steps = steps_of(mlp_grad_norm=[None] * 4)
    with pytest.raises(NotMeasurable, match="mlp_grad_norm: not recorded in 4 of 4 rows"):
        formulas.mlp_share_below_one(steps)
    with pytest.raises(NotMeasurable, match="not recorded in 1 of 2 rows"):  # never a mean over the rest
        formulas.mean_grad_norm(steps_of(grad_norm=[1.0, None]))


def test_spikes():
    loss = np.tile([0.0, 1.0], 30)  # median 0.5, MAD 0.5 in each window: spikes are above 0.5 + 5 · 0.7413
    loss[[55, 58]] = [4.3, 4.1]
    assert formulas.spikes(steps_of(loss=loss)) == 1 / 10
    loss[57] = 100.0
    assert formulas.spikes(steps_of(loss=loss)) == 2 / 10


def test_normal_noise_has_next_to_no_spikes_and_a_slow_fall_none_more():
    noise = np.random.default_rng(0).normal(0, 0.1, 20_000)
    assert formulas.spikes(steps_of(loss=noise)) < 2e-4
    assert formulas.spikes(steps_of(loss=noise + np.linspace(5, 0, 20_000))) < 2e-4


def test_training_seconds_do_not_depend_on_a_fork():
    own = steps_of(seconds=[2.0, 2.0, 3.0, 1.0])
    forked = steps_of(seconds=[None, None, 3.0, 1.0])
    assert formulas.training_seconds(own) == formulas.training_seconds(forked) == 8.0
    with pytest.raises(NotMeasurable, match="the run computed no step itself"):
        formulas.training_seconds(steps_of(seconds=[None, None]))


# --- quantities of the evaluations, by hand ---


def test_probe_loss():
    evals = pd.concat(
        [
            probe_of([0.9, 0.6, 0.7, 0.5, 0.8, 0.4]),
            pd.DataFrame([{"step": 30, "split": "test", "loss": 99.0}]),
        ]
    )
    assert formulas.mean_probe_loss(evals) == pytest.approx(0.65)
    assert formulas.max_drawdown(evals) == pytest.approx(0.3)
    assert formulas.steps_to_probe_loss(evals, planned=30) == 20
    assert formulas.steps_to_probe_loss(evals, planned=30, level=0.3) == 30
    assert formulas.max_drawdown(probe_of([3.0, 2.0, 1.0])) == 0.0


def test_a_run_that_diverged_early_is_not_taken_for_a_quick_one():
    assert formulas.steps_to_probe_loss(probe_of([0.9, 0.8]), planned=300) == 300


def test_without_a_probe_nothing_is_measured():
    for quantity in (formulas.mean_probe_loss, formulas.max_drawdown):
        with pytest.raises(NotMeasurable, match="loss: 1 rows needed, 0 recorded"):
            quantity(probe_of([]))
    with pytest.raises(NotMeasurable):
        formulas.steps_to_probe_loss(probe_of([]), planned=300)


# --- jitter ---


def test_jitter_by_hand():
    """Probes at 40, 45 … 80 with a bump at 60: only t = 60 and t = 70 see it, with −1 and 1/2."""
    points = pd.DataFrame({"step": np.arange(40, 81, 5), "loss": [0, 0, 0, 0, 1.0, 0, 0, 0, 0]})
    assert jitter(points, at_least=3) == pytest.approx(2 / 3 * (1 + 0 + 0.25) / 3)  # t = 60, 65, 70
    assert jitter(points, at_least=5, start=1) == pytest.approx(2 / 3 * (0.25 + 0 + 1 + 0 + 0.25) / 5)
    with pytest.raises(NotMeasurable, match=r"needs 4 points from step 60 on .* has 3"):
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
    mean = np.mean([formulas.probe_jitter(probe_of(TRENDS[trend](t) + e)) for e in noise])
    assert mean == pytest.approx(0.02**2, rel=0.05)


def test_jitter_tells_noise_and_raw_variance_tells_speed():
    """A fast and a slow learner of the same noise: equal by the jitter, a factor apart by Var(L)."""
    draw, t = np.random.default_rng(1), np.arange(5, 301, 5)
    jitters, variances = {}, {}
    for speed, time in (("fast", 40), ("slow", 600)):
        runs = [0.3 + 0.4 * np.exp(-t / time) + draw.normal(0, 0.02, len(t)) for _ in range(200)]
        jitters[speed] = np.mean([formulas.probe_jitter(probe_of(loss)) for loss in runs])
        variances[speed] = np.mean([formulas.loss_variance(steps_of(loss=loss)) for loss in runs])
    assert jitters["fast"] / jitters["slow"] == pytest.approx(1, abs=0.05)
    assert variances["fast"] / variances["slow"] > 2


def test_jitter_tells_a_noisier_run_from_a_steadier_one():
    """The negative control: twice the noise is four times the jitter."""
    draw = np.random.default_rng(2)
    quiet, noisy = (
        np.mean([formulas.probe_jitter(probe_of(draw.normal(0.5, sd, 60))) for _ in range(200)]) for sd in (0.01, 0.02)
    )
    assert noisy / quiet == pytest.approx(4, rel=0.1)


def test_probe_jitter_needs_the_studys_probes():
    formulas.probe_jitter(probe_of(np.zeros(60), every=5))
    with pytest.raises(NotMeasurable, match=r"needs 40 points from step 60 on .* has 24"):
        formulas.probe_jitter(probe_of(np.zeros(30), every=10))
    with pytest.raises(NotMeasurable, match="has 0"):
        formulas.probe_jitter(probe_of(np.zeros(100), every=3))  # no neighbours 10 steps away
