"""One run -> scalars: each quantity that claims, tables and figures reduce a run to, as a function.

The functions take the steps, evals or predictions of one run, rows in order of step, and return a number.
Where a run has too little for a quantity they raise NotMeasurable (a ValueError) that names what is lacking:
no mean is taken over less than it seems to be. `analysis.quantities.measure` applies them to all runs of a study.

Losses are mean cross-entropies in nats; norms are L2 norms of gradients, before clipping unless said.
"""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LAG = 10
"""Steps between the points of a second difference: part of what jitter means, never scaled or tuned."""

SETTLED = 60
"""The first step of the jitter, where the steepest fall of the loss is over."""

SPAN = 50
"""Steps that count as "recent": the last stretch of a run, and what a spike stands out from."""


class NotMeasurable(ValueError):
    """A run has too little for a quantity; the message names what is lacking."""


# --- Of the steps ---


def last_training_loss(steps: pd.DataFrame) -> float:
    """Mean training loss of the last tenth of the steps: a single batch's loss would be mostly that batch."""
    return float(late(recorded(steps, "loss")).mean())


def loss_variance(steps: pd.DataFrame) -> float:
    """Var(L) of §4.2 as written, in nats²: Σ (L_t − L̄)² / (T − 1) over all steps. Trend and noise in one."""
    return float(recorded(steps, "loss", at_least=2).var(ddof=1))


def last_loss_variance(steps: pd.DataFrame, last: int = SPAN) -> float:
    """Var(L) of the last `last` steps, in nats²: less of the trend, all of the batches' part."""
    return float(recorded(steps, "loss", at_least=last)[-last:].var(ddof=1))


def mean_grad_norm(steps: pd.DataFrame) -> float:
    """Mean over all steps of ‖g_t‖, the norm of the whole gradient."""
    return float(recorded(steps, "grad_norm").mean())


def clip_rate(steps: pd.DataFrame) -> float:
    """Share of steps, 0 to 1, whose gradient clipping made shorter: ‖g'_t‖ < ‖g_t‖."""
    return float((recorded(steps, "grad_norm_clipped") < recorded(steps, "grad_norm")).mean())


def mean_delta_g(steps: pd.DataFrame) -> float:
    """Mean over all steps of Δg_t = ‖g_t‖ − ‖g'_t‖ (§4.5), in units of a norm."""
    return float(recorded(steps, "delta_g").mean())


def delta_g_slope(steps: pd.DataFrame) -> float:
    """Least-squares slope of ln(1 + Δg_t) on t, per step: below 0 where clipping takes most early (§4.5)."""
    values = np.log1p(recorded(steps, "delta_g", at_least=2))
    t = recorded(steps, "step", at_least=2)
    return float(np.polyfit(t - t.mean(), values, deg=1)[0])


def early_delta_g_share(steps: pd.DataFrame) -> float:
    """Share, 0 to 1, of ΣΔg that falls to the first tenth of the steps; an even spread gives 0.1."""
    values = recorded(steps, "delta_g")
    if values.sum() == 0:
        raise NotMeasurable("clipping never acted: the sum of delta_g is 0")
    return float(early(values).sum() / values.sum())


def mlp_share_below_one(steps: pd.DataFrame) -> float:
    """Share of steps, 0 to 1, with G_MLP = ‖∇W_MLP‖ < 1 (§4.4)."""
    return float((recorded(steps, "mlp_grad_norm") < 1).mean())


def early_classifier_norm(steps: pd.DataFrame) -> float:
    """Median of G_CLS = ‖∇W_CLS‖ over the first tenth of the steps (§4.4)."""
    return float(np.median(early(recorded(steps, "classifier_grad_norm"))))


def late_classifier_norm(steps: pd.DataFrame) -> float:
    """Median of G_CLS = ‖∇W_CLS‖ over the last tenth of the steps."""
    return float(np.median(late(recorded(steps, "classifier_grad_norm"))))


def classifier_norm_fall(steps: pd.DataFrame) -> float:
    """Median G_CLS of the first tenth of the steps over that of the last: above 1 where it falls."""
    end = late_classifier_norm(steps)
    if end == 0:
        raise NotMeasurable("classifier_grad_norm: 0 at the end of the run")
    return early_classifier_norm(steps) / end


def spikes(steps: pd.DataFrame, window: int = SPAN, height: float = 5.0) -> float:
    """Share of steps, 0 to 1, whose loss stands out from the `window` steps before it.

    L_t > median + height · 1.4826 · MAD, both of L_{t−window} … L_{t−1}, for t > window; 1.4826 · MAD
    estimates the sd of normal noise. The rule is Hampel's (1974, JASA 69:383), one-sided and looking back.
    """
    loss = recorded(steps, "loss", at_least=window + 1)
    before = np.lib.stride_tricks.sliding_window_view(loss[:-1], window)  # [T − window, window]
    median = np.median(before, axis=1)
    mad = np.median(np.abs(before - median[:, None]), axis=1)
    return float((loss[window:] > median + height * 1.4826 * mad).mean())


def training_seconds(steps: pd.DataFrame) -> float:
    """Wall time of all steps, in seconds: mean time of the steps that the run itself did × steps.

    Steps inherited from a fork's parent carry no time, so a run costs the same whether or not it was forked.
    """
    seconds = steps["seconds"].dropna().to_numpy(float)
    if not len(seconds):
        raise NotMeasurable("seconds: no step of the run's own")
    return float(seconds.mean() * len(steps))


# --- Of the evaluations ---


def mean_probe_loss(evals: pd.DataFrame) -> float:
    """Mean loss over all points of the probe: how far down, and how soon."""
    return float(recorded(probe(evals), "loss").mean())


def probe_jitter(evals: pd.DataFrame, at_least: int = 40) -> float:
    """Variance in nats² of the probe loss about its trend, from step 60 on: see `jitter`.

    The probe is always the same examples with dropout off, so only the parameters move. Needs `at_least`
    points that have neighbours 10 steps before and after.
    """
    return jitter(probe(evals), at_least=at_least)


def max_drawdown(evals: pd.DataFrame) -> float:
    """Largest rise of the probe loss above its lowest so far: max_t (L_t − min_{s ≤ t} L_s), in nats."""
    loss = recorded(probe(evals), "loss")
    return float((loss - np.minimum.accumulate(loss)).max())


def steps_to_probe_loss(evals: pd.DataFrame, planned: int, level: float = 0.5) -> float:
    """First probed step with a loss of at most `level`; where none is, `planned`, the steps of a whole run.

    So its mean over runs is the mean time to `level` restricted to the planned length, which is also the time
    of a run that diverged before it got there. Without any probe: NotMeasurable.
    """
    points = probe(evals)
    reached = points["step"].to_numpy()[recorded(points, "loss") <= level]
    return float(reached[0]) if len(reached) else float(planned)


# --- Of the test predictions ---


def capped_test_loss(evals: pd.DataFrame, predictions: pd.DataFrame) -> float:
    """min(L, ln k) of the last test loss L in nats, k classes: ln k is the loss of knowing nothing.

    As in learning-rate sensitivity (Wortsman et al. 2023, 2309.14322), where no run counts as worse than that.
    """
    loss = recorded(evals[evals["split"] == "test"], "loss")[-1]
    return float(min(loss, math.log(classes(predictions))))


def classes(predictions: pd.DataFrame) -> int:
    """Number of classes of the test examples."""
    if not len(predictions):
        raise NotMeasurable("predictions: none recorded")
    return int(predictions["label"].nunique())


def majority(predictions: pd.DataFrame) -> float:
    """Share, 0 to 1, of the test examples' most frequent class."""
    return float(predictions["label"].value_counts().max() / len(predictions))


def did_not_learn(predictions: pd.DataFrame) -> bool:
    """Whether accuracy a on n test examples is no better than their majority class, by two standard errors.

    a ≤ m + 2 √(m (1 − m) / n), m the share of that class. A failed run in the sense of Mosbach et al. 2021
    (2006.04884).
    """
    n = len(predictions)
    if n == 0:
        raise NotMeasurable("predictions: none recorded")
    share = majority(predictions)
    accuracy = (predictions["label"] == predictions["prediction"]).mean()
    return bool(accuracy <= share + 2 * math.sqrt(share * (1 - share) / n))


# --- Over the arms of a seed ---


def loss_jitter(steps: pd.DataFrame, part: pd.DataFrame, at_least: int = 40) -> float:
    """Variance in nats² of the training loss about its trend, less the batches' part, from step 60 on.

    Losses of single batches differ mostly by how hard the batch is, which the arms of a seed share: `part`,
    of this run's batches, from `batch_parts`. A mean over k runs, it holds 1/k of this run's own noise too:
    only arms of one study compare. See `jitter`.
    """
    shared = part[part["runs"] > 1]
    own = pd.DataFrame({"step": steps["step"], "loss": steps["loss"] - steps["step"].map(shared["loss"])})
    if len(shared) == 0:
        raise NotMeasurable("loss: no other arm finished on the same batches")
    return jitter(own.dropna(), at_least=at_least)


# --- What they are made of ---


def jitter(points: pd.DataFrame, at_least: int, lag: int = LAG, start: int = SETTLED) -> float:
    """σ² of a loss about its trend: (2/3) · mean(((L(t − lag) − 2 L(t) + L(t + lag)) / 2)²), in nats².

    Over all points t from `start` on that have both neighbours. In expectation σ² for independent noise about
    a straight line; a curved trend adds (2/3) · (lag² L'' / 2)², little where it is smooth, so that a fast
    learner and a slow one are compared by their noise. The pseudo-residuals of Gasser, Sroka &
    Jennen-Steinmetz 1986, Biometrika 73:625.
    """
    loss = pd.Series(recorded(points, "loss", at_least=1), index=points["step"].to_numpy())
    t = loss.index[loss.index >= start]
    t = t[t.isin(loss.index + lag) & t.isin(loss.index - lag)]
    if len(t) < at_least:
        raise NotMeasurable(
            f"loss: {at_least} points from step {start} on with neighbours {lag} steps away needed, {len(t)} found"
        )
    residual = (loss[t - lag].to_numpy() - 2 * loss[t].to_numpy() + loss[t + lag].to_numpy()) / 2
    return float(2 / 3 * np.mean(residual**2))


def probe(evals: pd.DataFrame) -> pd.DataFrame:
    return evals[evals["split"] == "probe"]


def recorded(frame: pd.DataFrame, column: str, at_least: int = 1) -> NDArray[np.float64]:
    """A column as numbers, every row of which was recorded. Raises NotMeasurable."""
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
