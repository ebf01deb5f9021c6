"""The formula of each quantity: a function from one run's records to a number.

The functions take the steps, evals or predictions of one run, with rows in order of step. If a run has too few
records for a quantity they raise NotMeasurable, a ValueError that names what is missing; no mean silently covers
fewer rows than it should. `analysis.quantities.registry` gives each one its name, words and unit.

Losses are mean cross-entropies in nats. Norms are L2 norms of gradients, before clipping unless noted.
"""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablate.metrics import Predicted, label_losses, squared_errors
from analysis.write_up import JITTER_LAG, JITTER_START, PROBE_LEVEL

SPAN = 50
"""Steps that count as recent: the end of a run, and the window that a spike is compared with."""


class NotMeasurable(ValueError):
    """A run has too few records for a quantity; the message names what is missing."""


# --- From the steps ---


def last_training_loss(steps: pd.DataFrame) -> float:
    """Mean training loss over the last tenth of the steps; the loss of one batch depends mostly on the batch."""
    return float(late(recorded_column(steps, "loss")).mean())


def mean_training_loss(steps: pd.DataFrame) -> float:
    """Mean training loss over all steps: low if the loss falls far and early.

    Each step's loss is that of its batch before the update, so the mean is over all training examples seen, and the
    arms of a seed see the same ones in the same order. Dropout is on.
    """
    return float(recorded_column(steps, "loss").mean())


def loss_jitter(steps: pd.DataFrame, at_least: int = 40) -> float:
    """Variance in nats² of the training loss about its trend, from JITTER_START on: see `jitter`.

    It contains the differences between the batches, which are most of it; the arms of a seed share their batches, so a
    ratio of two arms is closer to 1 than that of their own noise. It depends on this run alone. `probe_jitter` has no
    differences between batches.
    """
    return jitter(steps, at_least=at_least)


def loss_variance(steps: pd.DataFrame) -> float:
    """Var(L) over all steps, in nats²: Σ (L_t − L̄)² / (T − 1). It mixes trend and noise."""
    return float(recorded_column(steps, "loss", at_least=2).var(ddof=1))


def last_loss_variance(steps: pd.DataFrame, last: int = SPAN) -> float:
    """Var(L) over the last `last` steps, in nats²: less trend, but still the differences between batches."""
    return float(recorded_column(steps, "loss", at_least=last)[-last:].var(ddof=1))


def mean_grad_norm(steps: pd.DataFrame) -> float:
    """Mean over all steps of ‖g_t‖, the norm of the whole gradient."""
    return float(recorded_column(steps, "grad_norm").mean())


def clip_rate(steps: pd.DataFrame) -> float:
    """Share of steps, 0 to 1, in which clipping shortened the gradient: ‖g'_t‖ < ‖g_t‖."""
    return float((recorded_column(steps, "grad_norm_clipped") < recorded_column(steps, "grad_norm")).mean())


def mean_delta_g(steps: pd.DataFrame) -> float:
    """Mean over all steps of Δg_t = ‖g_t‖ − ‖g'_t‖, in units of the norm."""
    return float(recorded_column(steps, "delta_g").mean())


def delta_g_slope(steps: pd.DataFrame) -> float:
    """Least-squares slope of ln(1 + Δg_t) on t, per step: negative if clipping removes most early in the run."""
    values = np.log1p(recorded_column(steps, "delta_g", at_least=2))
    t = recorded_column(steps, "step", at_least=2)
    return float(np.polyfit(t - t.mean(), values, deg=1)[0])


def early_delta_g_share(steps: pd.DataFrame) -> float:
    """Share, 0 to 1, of ΣΔg in the first tenth of the steps; an even spread gives 0.1.

    A rule that lengthens gradients (`ablate.clip.Normalize`) has Δg < 0 and no such share.
    """
    values = recorded_column(steps, "delta_g")
    if (longer := values < -1e-6 * np.abs(values).max()).any():  # beyond rounding
        raise NotMeasurable(f"delta_g: below 0 in {longer.sum()} of {len(values)} steps")
    if values.sum() == 0:
        raise NotMeasurable("clipping never acted: the sum of delta_g is 0")
    return float(early(values).sum() / values.sum())


def mlp_share_below_one(steps: pd.DataFrame) -> float:
    """Share of steps, 0 to 1, with G_MLP = ‖∇W_MLP‖ < 1."""
    return float((recorded_column(steps, "mlp_grad_norm") < 1).mean())


def early_classifier_norm(steps: pd.DataFrame) -> float:
    """Median of G_CLS = ‖∇W_CLS‖ over the first tenth of the steps."""
    return float(np.median(early(recorded_column(steps, "classifier_grad_norm"))))


def late_classifier_norm(steps: pd.DataFrame) -> float:
    """Median of G_CLS = ‖∇W_CLS‖ over the last tenth of the steps."""
    return float(np.median(late(recorded_column(steps, "classifier_grad_norm"))))


def classifier_norm_fall(steps: pd.DataFrame) -> float:
    """Median G_CLS of the first tenth of the steps divided by that of the last tenth: above 1 if it falls."""
    end = late_classifier_norm(steps)
    if end == 0:
        raise NotMeasurable("classifier_grad_norm: 0 at the end of the run")
    return early_classifier_norm(steps) / end


def spikes(steps: pd.DataFrame, window: int = SPAN, height: float = 5.0) -> float:
    """Share of steps, 0 to 1, whose loss is an outlier above the `window` steps before it.

    A step t > window is a spike if L_t > median + height · 1.4826 · MAD, with median and MAD over
    L_{t−window} … L_{t−1}. 1.4826 · MAD estimates the sd of normal noise. This is the identifier of Hampel
    (1974, JASA 69:383), one-sided and with a backward-looking window.
    """
    loss = recorded_column(steps, "loss", at_least=window + 1)
    before = np.lib.stride_tricks.sliding_window_view(loss[:-1], window)  # [T − window, window]
    median = np.median(before, axis=1)
    mad = np.median(np.abs(before - median[:, None]), axis=1)
    return float((loss[window:] > median + height * 1.4826 * mad).mean())


def training_seconds(steps: pd.DataFrame) -> float:
    """Wall time of all steps in seconds: mean time of the steps that the run computed itself × number of steps.

    Steps copied from the parent of a fork have no time, so a forked run costs as much as an unforked one.
    """
    seconds = steps["seconds"].dropna().to_numpy(float)
    if not len(seconds):
        raise NotMeasurable("seconds: the run computed no step itself")
    return float(seconds.mean() * len(steps))


def step_seconds(steps: pd.DataFrame) -> float:
    """Median wall time in seconds of the steps that the run computed itself."""
    seconds = steps["seconds"].dropna().to_numpy(float)
    if not len(seconds):
        raise NotMeasurable("seconds: the run computed no step itself")
    return float(np.median(seconds))


# --- From the evaluations ---


def mean_probe_loss(evals: pd.DataFrame) -> float:
    """Mean probe loss over all evaluations: low if the loss falls far and early."""
    return float(recorded_column(probe(evals), "loss").mean())


def last_probe_loss(evals: pd.DataFrame) -> float:
    """Probe loss at the last evaluation: the probe always has the same examples, with dropout off."""
    return float(recorded_column(probe(evals), "loss")[-1])


def probe_jitter(evals: pd.DataFrame, at_least: int = 40) -> float:
    """Variance in nats² of the probe loss about its trend, from JITTER_START on: see `jitter`.

    The probe always has the same examples, with dropout off, so only the parameters change. At least `at_least`
    evaluations need neighbours JITTER_LAG steps before and after.
    """
    return jitter(probe(evals), at_least=at_least)


def max_drawdown(evals: pd.DataFrame) -> float:
    """Largest rise of the probe loss above its minimum so far, in nats: max_t (L_t − min_{s ≤ t} L_s)."""
    loss = recorded_column(probe(evals), "loss")
    return float((loss - np.minimum.accumulate(loss)).max())


def steps_to_probe_loss(evals: pd.DataFrame, planned: int, level: float = PROBE_LEVEL) -> float:
    """First step with a probe loss of at most `level` nats, or `planned`, the run's planned steps, if there is none.

    The mean over runs is therefore the restricted mean time to `level`, up to the planned length. A run that
    diverged before it reached `level` counts with the planned length. Raises NotMeasurable without any evaluation.
    """
    points = probe(evals)
    reached = points["step"].to_numpy()[recorded_column(points, "loss") <= level]
    return float(reached[0]) if len(reached) else float(planned)


# --- From the test predictions ---


def capped_test_loss(evals: pd.DataFrame, most: float) -> float:
    """min(L, `most`) of the last test loss L, where `most` is the loss of a guess that ignores the text.

    Learning-rate sensitivity caps losses in this way (Wortsman et al. 2023, 2309.14322).
    """
    loss = recorded_column(evals[evals["split"] == "test"], "loss")[-1]
    return float(min(loss, most))


# --- Per example: for intervals over seeds and examples ---


def per_example(scores: NDArray[np.float64], p: Predicted, units: NDArray | None = None) -> NDArray[np.float64]:
    """Scores of examples, (examples,), whose mean is the mean m of the scores of their units, (U,).

    The score of an example with n_i units whose scores have the sum s_i is m + (s_i − m n_i) / n̄: the linear part of
    the ratio of sums, so that means of new examples vary as it does (Cochran 1977, Sampling Techniques, section 6.4).
    units: weights of the units in place of 1.
    """
    examples, place = p.examples
    if units is None and len(examples) == len(p):
        return scores
    size = np.bincount(place, units).astype(float)
    total = np.bincount(place, scores if units is None else scores * units)
    mean = total.sum() / size.sum()
    return mean + (total - mean * size) / size.mean()


def test_losses(p: Predicted, mean: float) -> NDArray[np.float64] | None:
    """The loss of each test example, (examples,), such that their mean is the recorded `mean`.

    Of a class it is −ln of the label's probability. Only the predicted class has a recorded probability p: that of the
    label is p where the prediction is right, and 1 − p where it is wrong and there are two classes. None where there
    are more and the probabilities of all are not recorded, for words, and where the losses do not explain the recorded
    `mean`, as with a third class that the test split lacks. Recorded probabilities are float32, whose rounding is taken
    off all losses equally.
    """
    if p.kind == "causal_lm":
        return explaining(per_example(p.loss, p, p.tokens), mean)
    if p.kind == "regression":
        return explaining(squared_errors(p), mean)
    if p.kind == "token_classification":
        return None
    if p.probabilities is not None:
        return explaining(label_losses(p), mean)
    right = p.label == p.prediction
    if not right.all() and len({*p.label, *p.prediction}) > 2:
        return None
    probability = p.probability.astype(float)
    with np.errstate(divide="ignore"):
        return explaining(-np.log(np.where(right, probability, 1 - probability)), mean)


def mean_losses(evals: pd.DataFrame, probe_losses: pd.DataFrame) -> NDArray[np.float64] | None:
    """Mean loss in nats of each example of the probe, (examples,); the mean of all is the mean probe loss.

    The examples are in the order of the validation split, the same for all runs with the same data and probe. Long
    runs record the losses of some evaluations only; each example's mean distance from the probe loss is then that of
    these evaluations. None where there are none, or where they are not the losses behind the probe loss.
    """
    means = probe(evals).set_index("step")["loss"]
    by_step = probe_losses.pivot(index="step", columns="example", values="loss").astype(float)
    own = by_step.mean(axis=1)
    if not len(own) or not np.allclose(own, means.reindex(own.index), rtol=FLOAT32, atol=FLOAT32):
        return None
    return mean_probe_loss(evals) + by_step.sub(own, axis=0).mean().to_numpy()


def last_losses(evals: pd.DataFrame, probe_losses: pd.DataFrame) -> NDArray[np.float64] | None:
    """Loss in nats of each example of the probe at the last evaluation, (examples,); their mean is the loss there.

    None where the losses of that evaluation are not recorded.
    """
    steps = probe(evals)["step"]
    at_last = probe_losses[probe_losses["step"] == steps.max()].sort_values("example")
    return explaining(at_last["loss"].to_numpy(float), last_probe_loss(evals)) if len(at_last) else None


FLOAT32 = 1e-4
"""Largest difference, relative or absolute, between a recorded loss and a mean over float32 that counts as rounding."""


def explaining(losses: NDArray[np.float64], mean: float) -> NDArray[np.float64] | None:
    """The losses, moved by their rounding such that their mean is `mean`; None where more than rounding is missing."""
    found = losses.mean() if len(losses) else math.nan
    return losses + (mean - found) if np.isclose(found, mean, rtol=FLOAT32, atol=FLOAT32) else None


# --- Shared parts ---


def jitter(points: pd.DataFrame, at_least: int, lag: int = JITTER_LAG, start: int = JITTER_START) -> float:
    """Variance of a loss about its trend, in nats²: (2/3) · mean(((L(t − lag) − 2 L(t) + L(t + lag)) / 2)²).

    The mean is over all points t from `start` on that have both neighbours. Its expectation is σ² for independent
    noise about a straight line. A curved trend adds (2/3) · (lag² L'' / 2)², which is small where the trend is
    smooth, so runs that learn fast and slowly are compared by their noise. Uses the pseudo-residuals of Gasser,
    Sroka & Jennen-Steinmetz (1986, Biometrika 73:625).
    """
    loss = pd.Series(recorded_column(points, "loss", at_least=1), index=points["step"].to_numpy())
    t = loss.index[loss.index >= start]
    t = t[t.isin(loss.index + lag) & t.isin(loss.index - lag)]
    if len(t) < at_least:
        raise NotMeasurable(
            f"loss: needs {at_least} points from step {start} on with neighbours {lag} steps away, and has {len(t)}"
        )
    residual = (loss[t - lag].to_numpy() - 2 * loss[t].to_numpy() + loss[t + lag].to_numpy()) / 2
    return float(2 / 3 * np.mean(residual**2))


def probe(evals: pd.DataFrame) -> pd.DataFrame:
    """The evaluations on the probe."""
    return evals[evals["split"] == "probe"]


def recorded_column(frame: pd.DataFrame, column: str, at_least: int = 1) -> NDArray[np.float64]:
    """A column as numbers. Raises NotMeasurable if it has fewer than `at_least` rows, or a missing value."""
    values = frame[column].to_numpy(float)
    if len(values) < at_least:
        raise NotMeasurable(f"{column}: {at_least} rows needed, {len(values)} recorded")
    if absent := int(np.isnan(values).sum()):
        raise NotMeasurable(f"{column}: not recorded in {absent} of {len(values)} rows")
    return values


def early(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first tenth, rounded up."""
    return values[: math.ceil(len(values) / 10)]


def late(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last tenth, rounded up."""
    return values[-math.ceil(len(values) / 10) :]
