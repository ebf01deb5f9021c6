"""What each test example adds to a metric, for intervals over seeds *and* examples.

A metric that is a mean over examples has a score per example. Any other metric θ, such as F1 or a correlation, gets one
by the jackknife: the examples are split into groups at random, the same in all runs, and

    score of the examples of group g = h θ − (h − 1) θ without g, where h = number of examples / size of g

are the pseudo-values of Busing, Meijer & Van der Leeden (1999, Statistics and Computing 9:3) for groups of unequal
sizes (Tukey 1958 for equal ones), moved such that their mean is θ. Means of new groups vary as θ does as far as it is
smooth in the examples, so that `analysis.stats.predictions.crossed_effect` takes the groups as clusters.
"""

import numpy as np
from numpy.typing import NDArray

from ablate.metrics import Metric, Predicted, Unmeasurable
from analysis.quantities.formulas import NotMeasurable, per_example

JACKKNIFE_GROUPS = 50
"""Most groups: the variance over new examples then has 49 degrees of freedom, for 50 computations per run."""


def metric_value(metric: Metric, p: Predicted) -> float:
    """The metric of a run's test predictions. Raises NotMeasurable."""
    if p.kind not in metric.kinds:
        raise NotMeasurable(f"{metric.name}: no metric of {p.kind}")
    if not len(p):
        raise NotMeasurable("predictions: none recorded")
    try:
        return metric.value(p)
    except Unmeasurable as error:
        raise NotMeasurable(f"{metric.name}: {error}") from error


def metric_scores(metric: Metric, p: Predicted, groups: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Scores of the examples, (examples,), whose mean is the metric; None where there are none.

    groups: of each example, (examples,), as `groups_of` makes them.
    """
    if p.kind not in metric.kinds:
        return None
    try:
        return per_example(metric.scores(p), p) if metric.scores else jackknifed(metric, p, groups)
    except ValueError:  # Unmeasurable, or a metric of the user's own that needs all examples
        return None


def groups_of(examples: int, clusters: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The group of each example, (examples,): at most JACKKNIFE_GROUPS of about equally many examples or clusters.

    >>> np.bincount(groups_of(102)).tolist() == 2 * [3] + 48 * [2]
    True
    """
    own = np.arange(examples) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    count = int(own.max()) + 1 if examples else 0
    return np.random.default_rng(0).permutation(np.arange(count) % JACKKNIFE_GROUPS)[own]


def jackknifed(metric: Metric, p: Predicted, groups: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The pseudo-values of the examples' groups, (examples,); None below two groups."""
    if not len(groups) or groups.max() == 0:
        return None
    size = np.bincount(groups)
    whole, without = metric.value(p), without_each(metric, p, groups)
    found = (whole + (len(groups) / size - 1) * (whole - without))[groups]
    return found + (whole - found.mean())


def without_each(metric: Metric, p: Predicted, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """The metric without each group of examples, (groups,)."""
    numbers = range(int(groups.max()) + 1)
    if metric.counts and metric.of_counts:
        counts = metric.counts(p)
        total = counts.sum(axis=0)
        return np.array([metric.of_counts(total - counts[groups == g].sum(axis=0)) for g in numbers])
    of_unit = groups[p.examples[1]]
    return np.array([metric.value(p.of_units(of_unit != g)) for g in numbers])
