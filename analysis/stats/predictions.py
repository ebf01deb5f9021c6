"""Predictions on the same test examples: an accuracy's error over seeds and examples, and churn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analysis.stats.effects import ALPHA, Array, Interval, finite, paired


@dataclass(frozen=True)
class AccuracyDifference:
    """Difference of two arms' accuracy, a share, with its error over seeds *and* examples.

    Variances of one example's difference: between seeds, between examples, and the rest (seed × example).
    `standard_error` is that for new seeds and new examples.
    """

    estimate: float
    seed_variance: float
    example_variance: float
    residual_variance: float
    standard_error: float


def accuracy_difference(treatment: ArrayLike, control: ArrayLike) -> AccuracyDifference:
    """Variance components of treatment − control; both (seeds, examples), 1 where the prediction is right.

    With d_ij = μ + s_i + e_j + r_ij, seeds and examples crossed at random, one value each: r = MS_rest,
    s = (MS_seeds − MS_rest) / examples, e = (MS_examples − MS_rest) / seeds, none below 0;
    Var(mean) = s / seeds + e / examples + r / (seeds · examples).
    Searle, Casella & McCulloch 1992, Variance Components, §4. Raises ValueError below 2 seeds or 2 examples.
    """
    a, b = paired(2, treatment=treatment, control=control)
    d = a - b
    seeds, examples = d.shape
    if seeds < 2 or examples < 2:
        raise ValueError(f"{seeds} seeds × {examples} examples; at least 2 of each are allowed")
    by_seed, by_example, mean = d.mean(axis=1), d.mean(axis=0), d.mean()
    rest = d - by_seed[:, None] - by_example[None, :] + mean
    residual = (rest**2).sum() / ((seeds - 1) * (examples - 1))
    seed = max(0.0, by_seed.var(ddof=1) - residual / examples)
    example = max(0.0, by_example.var(ddof=1) - residual / seeds)
    error = np.sqrt(seed / seeds + example / examples + residual / (seeds * examples))
    return AccuracyDifference(float(mean), float(seed), float(example), float(residual), float(error))


@dataclass(frozen=True)
class OverExamples:
    """A difference of accuracies with its error over seeds and test examples; there is no test of it."""

    estimate: float
    n: int
    standard_error: float

    def interval(self, level: float = 1 - ALPHA) -> Interval:
        """By Student's t with n − 1 degrees of freedom, n seeds: they are the scarcer."""
        half = float(stats.t.isf((1 - level) / 2, self.n - 1)) * self.standard_error
        return Interval(self.estimate - half, self.estimate + half, level)


@dataclass(frozen=True)
class Churn:
    """Share of test predictions on which two seeds differ, averaged over pairs of seeds.

    `pseudo_values` (seeds,) have `share` as their mean: a t over them, paired or not, is the jackknife's.
    """

    share: float
    standard_error: float
    pseudo_values: Array


def churn(predictions: ArrayLike) -> Churn:
    """Churn of one arm with its jackknife error over seeds; predictions (seeds, examples), class numbers.

    Pseudo-value i = n · churn − (n − 1) · churn without seed i; standard error = their sd / √n.
    Raises ValueError below 3 seeds. Milani Fard et al. 2016, NeurIPS, "Launch and iterate"; the jackknife of
    means over pairs: Arvesen 1969, Ann. Math. Stat. 40:2076.

    >>> churn([[0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 0]]).share
    0.16666666666666666
    """
    classes = finite("predictions", predictions, 2)
    n = classes.shape[0]
    if n < 3:
        raise ValueError(f"{n} seeds; churn with its error is allowed from 3 on")
    differ = np.array([(classes != one).mean(axis=1) for one in classes])
    total, of_seed = differ.sum() / 2, differ.sum(axis=1)
    share = total / (n * (n - 1) / 2)
    without = (total - of_seed) / ((n - 1) * (n - 2) / 2)
    pseudo = n * share - (n - 1) * without
    return Churn(float(share), float(pseudo.std(ddof=1) / np.sqrt(n)), pseudo)
