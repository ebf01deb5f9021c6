"""Predictions on the same test examples: effects over seeds and examples, and churn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from ablate.config.checks import refusal
from analysis.stats.effects import ALPHA, Array, Effect, finite, paired, paired_effect
from analysis.stats.interval import Interval
from analysis.stats.scales import Log

_LEAST_LOG_P = -690.0  # a p below 1e-300 is 0


@dataclass(frozen=True)
class CrossedEffect:
    """Mean difference over n seeds and m test examples, for new seeds *and* new examples. An `Estimate`.

    The difference of seed i and example j is d_ij = μ + s_i + e_j + r_ij, with crossed random effects: seeds s,
    examples e (or clusters of examples) and their interaction r.

    seed_variance      A: variance of the mean over new seeds, on these examples; it contains the interaction
    example_variance   E: what new examples add to it; an estimate below 0 counts as 0
    example_df         degrees of freedom of E: examples − 1, and fewer where examples come in clusters
    rest_variance      R: the part of E that more seeds lower as 1 / n; 0 unless the interaction counts with E
    seeds_only         the effect on these examples alone, with its t and sign-flip test

    The interval is estimate ± √(t²_{n−1} A + t²_{df} (E + R)): the sum of the squared margins of error of seeds and of
    examples. It is never narrower than the interval over seeds, and covers as often as it claims also for 2 seeds
    and at small alphas, where one Student's t with Satterthwaite's degrees of freedom does not: a small A, estimated
    from few seeds, then also comes with too many degrees of freedom. Simulations: tests/analysis/stats.
    Howe 1974, J. Am. Stat. Assoc. 69:789; Searle, Casella & McCulloch 1992, Variance Components, chapter 4.
    """

    least_n: ClassVar[int] = 2

    estimate: float
    n: int
    examples: int
    seed_variance: float
    example_variance: float
    example_df: float
    seeds_only: Effect
    rest_variance: float = 0.0

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(sum(self._variances(self.n))))

    @property
    def df(self) -> float:
        """Degrees of freedom of the squared standard error (Satterthwaite 1946, Biometrics Bulletin 2:110)."""
        return self._df(self.n)

    @property
    def p(self) -> float | None:
        """Two-sided p; None where all seeds have the same difference, as with identical predictions."""
        return self.p_against(0.0)

    @property
    def p_sign_flip(self) -> float:
        """p of the sign flips over seeds, on these examples alone."""
        return self.seeds_only.p_sign_flip

    def half_width(self, level: float, n: int) -> float:
        """Half the width of the interval for n seeds that vary as the present ones do, on these examples."""
        return self._margin(1 - level, n)

    def interval(self, level: float = 1 - ALPHA) -> Interval | None:
        """Interval of the mean; None where there is no p."""
        if self.seeds_only.t is None:
            return None
        half = self.half_width(level, self.n)
        return Interval(self.estimate - half, self.estimate + half, level)

    def p_against(self, value: float) -> float | None:
        """The level p at which the interval at 1 − p ends at `value`; None where there is no interval."""
        if self.seeds_only.t is None:
            return None
        distance, dfs = abs(self.estimate - value), sorted([self.n - 1, self.example_df])
        # The margin is between those of the whole error with fewer and with more degrees of freedom. A factor e beyond
        # both, as they may be equal but for rounding.
        high, low = (np.log(2) + stats.t.logsf(distance / self.standard_error, df) for df in dfs)
        ends = max(low - 1, _LEAST_LOG_P), min(high + 1, 0.0)
        if self._margin(np.exp(ends[0]), self.n) <= distance or distance == 0:
            return float(distance == 0)
        return float(np.exp(optimize.brentq(lambda log_p: self._margin(np.exp(log_p), self.n) - distance, *ends)))

    def power(self, size: float, n: int, alpha: float = ALPHA) -> float:
        """Power of n seeds on these examples to detect a true effect `size`: noncentral t with Satterthwaite's df.

        With more seeds it approaches a limit below 1 that only more examples raise.
        """
        error = np.sqrt(sum(self._variances(n)))
        return float(stats.nct.sf(self._margin(alpha, n) / error, self._df(n), size / error))

    def _variances(self, n: int) -> tuple[float, float]:
        """Parts of the squared standard error for n seeds that have the degrees of freedom of seeds and of examples."""
        more = self.n / n
        return self.seed_variance * more, self.example_variance + self.rest_variance * more

    def _margin(self, alpha: float, n: int) -> float:
        of_seeds, of_examples = self._variances(n)
        t_seeds, t_examples = (stats.t.isf(alpha / 2, df) for df in (n - 1, self.example_df))
        return float(np.sqrt(t_seeds**2 * of_seeds + t_examples**2 * of_examples))

    def _df(self, n: int) -> float:
        a, e = self._variances(n)
        return float((a + e) ** 2 / (a**2 / (n - 1) + e**2 / self.example_df)) if a + e > 0 else float(n - 1)


def crossed_effect(
    treatment: ArrayLike,
    control: ArrayLike,
    clusters: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> CrossedEffect:
    """Effect treatment − control of scores per example, for new seeds and new examples.

    Args: both arms' scores (seeds, examples), e.g. 1 where a prediction is right and 0 where not, or losses;
    `clusters` (examples,), labels of examples that come in groups, such as sentences of one document; `rng` as in
    `paired_effect`. With clusters, new clusters are drawn instead of new examples, and may have unequal sizes.

    A is the variance of the seeds' means / n. E = B − C, at least 0. B sums the squared deviations of the clusters,
    u_g = Σ_{j in g} (d̄_j − d̄) / m, and C those of the seeds in the clusters, u_ig = Σ_{j in g} r_ij / (n m), both
    times n / (n − 1) for seeds and a factor for clusters that makes them unbiased where all cluster means vary
    alike; without clusters, A + B − C is the analysis of variance's (MS_seeds + MS_examples − MS_rest) / (n m).
    Raises ValueError below 2 seeds, 2 examples or 2 clusters, and for other shapes.
    Cameron, Gelbach & Miller 2011, J. Bus. Econ. Stat. 29:238 (two-way clusters); Bell & McCaffrey
    2002, Survey Methodology 28:169 (factor and degrees of freedom); Miller 2024, arXiv 2411.00640 (language models).

    >>> right = [[1, 1, 0, 1, 1], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    >>> effect = crossed_effect(right, [[1, 0, 0, 0, 1], [0, 0, 0, 0, 1], [1, 0, 0, 0, 1]])
    >>> round(effect.estimate, 3), round(effect.standard_error, 3)
    (0.4, 0.245)
    """
    a, b = paired(2, treatment=treatment, control=control)
    n, m = a.shape
    group = np.arange(m) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1].ravel()
    if group.size != m:
        raise refusal("clusters", f"{group.size} labels", f"one label for each of the {m} examples")
    size = np.bincount(group)
    if n < 2 or size.size < 2:
        got = f"{n} seeds × {m} examples" + ("" if clusters is None else f" in {size.size} clusters")
        raise refusal("predictions", got, "of at least 2 seeds and 2 examples or clusters of examples")
    d = a - b
    by_seed, by_example, mean = d.mean(axis=1), d.mean(axis=0), float(d.mean())
    rest = d - by_seed[:, None] - by_example + mean
    factor, df = _of_clusters(size / m)
    of_clusters = factor * (np.bincount(group, by_example - mean) ** 2).sum() / m**2
    in_clusters = sum((np.bincount(group, row) ** 2).sum() for row in rest) / (n * m) ** 2
    interaction = factor * n / (n - 1) * in_clusters
    seeds_only = paired_effect(a.mean(axis=1), b.mean(axis=1), rng)
    return CrossedEffect(
        estimate=mean,
        n=n,
        examples=m,
        seed_variance=float(by_seed.var(ddof=1) / n),
        example_variance=float(max(0.0, of_clusters - interaction)),
        example_df=df,
        seeds_only=seeds_only,
    )


def log_mean_scores(scores: ArrayLike) -> Array:
    """Scores whose mean over examples is the logarithm of the mean of `scores`, (..., examples), for ratios of means.

    They are ln m + (x_j − m) / m with m the mean of x over examples: the delta method, in which the means of new
    examples vary as (1 / m) times those of x. So `crossed_effect` of two arms' scores is that of ln of the ratio of
    their means, with the estimate and the differences between seeds unchanged. Raises ValueError for means ≤ 0.
    Cochran 1977, Sampling Techniques, section 6.4 (the variance of a ratio of means).

    >>> log_mean_scores([1.0, 2.0, 3.0]).round(3)
    array([0.193, 0.693, 1.193])
    """
    x = np.asarray(scores, dtype=float)
    mean = x.mean(axis=-1, keepdims=True)
    return Log().forward(mean) + (x - mean) / mean


def effect_over_data_sets(
    treatment: ArrayLike, control: ArrayLike, rng: np.random.Generator | None = None
) -> CrossedEffect:
    """Mean effect treatment − control for new data sets and new seeds; both arms (seeds, data sets).

    Seeds and data sets are crossed, not nested: a seed sets the head, the order and the dropout of its runs on every
    data set. Data sets are few, so here the interaction counts with *their* degrees of freedom, and `examples` and
    `example_df` are those of the data sets: the squared margin is t²_{D−1} B + t²_{n−1} max(0, A − C) with B the
    variance of the data sets' means / D, A of the seeds' means / n, and C the interaction's part. `half_width` and
    `power` are for more seeds on these data sets. Raises ValueError below 2 seeds or 2 data sets.
    Sources as for `crossed_effect`.
    """
    found, of_sets = (
        crossed_effect(a, b, rng=rng)
        for a, b in ((treatment, control), (np.transpose(treatment), np.transpose(control)))
    )
    # In `of_sets` data sets have the place of seeds: its seed_variance is B, its example_variance max(0, A − C).
    return replace(
        found,
        seed_variance=of_sets.example_variance,
        example_variance=found.example_variance,
        rest_variance=max(0.0, of_sets.seed_variance - found.example_variance),
    )


def _of_clusters(w: Array) -> tuple[float, float]:
    """Factor and degrees of freedom of Σ w_g² (x_g − x̄)² as an estimate of Var(x̄), x̄ = Σ w_g x_g with Σ w_g = 1.

    For x_g with the same variance, the sum is a quadratic form with the matrix M = (I − 1 wᵀ)ᵀ W² (I − 1 wᵀ). The
    factor is Σ w² / tr M and the degrees of freedom (tr M)² / tr M²; G / (G − 1) and G − 1 for G equal clusters.

    >>> _of_clusters(np.full(4, 0.25))
    (1.3333333333333333, 3.0)
    """
    s2, s3, s4, s5 = ((w**k).sum() for k in (2, 3, 4, 5))
    trace = s2 - 2 * s3 + s2**2
    trace_of_square = s4 - 4 * s5 + 2 * s2 * s4 + 2 * s3**2 + 2 * s2 * s4 - 4 * s2**2 * s3 + s2**4
    return float(s2 / trace), float(trace**2 / trace_of_square)


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
