"""Predictions on the same test examples: an accuracy's error over seeds and examples, and churn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ablate.config.checks import refusal
from analysis.stats.effects import ALPHA, Array, finite, paired, student_half_width
from analysis.stats.interval import Interval


@dataclass(frozen=True)
class AccuracyDifference:
    """Difference of two arms' accuracy with its error for new seeds *and* new examples; there is no test of it."""

    estimate: float
    n: int
    standard_error: float

    def interval(self, level: float = 1 - ALPHA) -> Interval:
        """Student's interval with n − 1 degrees of freedom for n seeds, which are fewer than the examples."""
        half = float(student_half_width(self.standard_error, 1, level, df=self.n - 1))
        return Interval(self.estimate - half, self.estimate + half, level)


def accuracy_difference(treatment: ArrayLike, control: ArrayLike) -> AccuracyDifference:
    """Accuracy of treatment − control, a share; both (seeds, examples), 1 where the prediction is right, else 0.

    The error comes from variance components. With d_ij = μ + s_i + e_j + r_ij, where seeds and examples are crossed
    random effects with one value each: r = MS_rest, s = (MS_seeds − MS_rest) / examples,
    e = (MS_examples − MS_rest) / seeds, none below 0; Var(mean) = s / seeds + e / examples + r / (seeds · examples).
    Raises ValueError below 2 seeds or 2 examples. Searle, Casella & McCulloch 1992, Variance Components, chapter 4.
    """
    a, b = paired(2, treatment=treatment, control=control)
    d = a - b
    seeds, examples = d.shape
    if seeds < 2 or examples < 2:
        raise refusal("predictions", f"{seeds} seeds × {examples} examples", "of at least 2 seeds and 2 examples")
    by_seed, by_example, mean = d.mean(axis=1), d.mean(axis=0), d.mean()
    rest = d - by_seed[:, None] - by_example[None, :] + mean
    residual = (rest**2).sum() / ((seeds - 1) * (examples - 1))
    seed = max(0.0, by_seed.var(ddof=1) - residual / examples)
    example = max(0.0, by_example.var(ddof=1) - residual / seeds)
    error = np.sqrt(seed / seeds + example / examples + residual / (seeds * examples))
    return AccuracyDifference(float(mean), seeds, float(error))


def churn_pseudo_values(predictions: ArrayLike) -> Array:
    """The jackknife's pseudo-values, (seeds,), of one arm's churn; predictions (seeds, examples), class numbers.

    Churn is the share of predictions in which two seeds differ, averaged over all pairs of seeds. Pseudo-value i is
    n · churn − (n − 1) · churn without seed i. Their mean is the churn and their sd / √n its error, so a t test of
    them, paired or not, is a test of churn. Raises ValueError below 3 seeds.
    Milani Fard et al. 2016, NeurIPS, "Launch and iterate"; the jackknife of means over pairs: Arvesen 1969, Ann.
    Math. Stat. 40:2076.

    >>> churn_pseudo_values([[0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 0]])
    array([0. , 0.5, 0. ])
    """
    classes = finite("predictions", predictions, 2)
    n = classes.shape[0]
    if n < 3:
        raise refusal("predictions", f"{n} seeds", "of at least 3 seeds")
    differ = np.array([(classes != one).mean(axis=1) for one in classes])
    total, of_seed = differ.sum() / 2, differ.sum(axis=1)
    churn = total / (n * (n - 1) / 2)
    without = (total - of_seed) / ((n - 1) * (n - 2) / 2)
    return n * churn - (n - 1) * without
