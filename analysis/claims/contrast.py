"""Contrasts: how the runs of a seed become one number, and the numbers of all seeds an effect. Their base class.

A contrast names the cells that it needs, each an arm by its settings, and turns their values, (seeds, cells), into
effects. Its fields are the keys that it adds to a claim in YAML.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.claims.estimand import Estimand, Sample, Settings
from analysis.records.arms import overlaid
from analysis.records.study import Study
from analysis.stats.effects import Estimate

LINEAR = ("raw", "points")
"""Scales on which the mean of the differences is the difference of the means."""

ROLES_OF_ARMS = ("treatment", "control")

Effects = dict[str, Estimate | None]
"""Effects by name ("" for the only one); None where the values do not determine the effect."""


class Contrast:
    """Base class of all contrasts.

    control           whether there is a control arm
    judged            whether the contrast can have a verdict; otherwise it is only shown alongside one
    tested            whether the verdict comes from a test, and so counts among the judged claims
    keeps_unlearned   whether runs that did not learn count (metrics, losses); otherwise their seeds are left out
    scales            names of the scales on which the contrast is meaningful; empty: all
    quantity          the only quantity of the contrast, where a claim cannot choose one
    of_examples       whether the quantity must be a mean over examples, with a score of each
    works_unpaired    whether it compares runs that do not belong together in pairs, by Welch's t
    measures          the quantity that is measured of each run, where it differs from the claim's quantity
    """

    control: ClassVar[bool] = True
    judged: ClassVar[bool] = True
    tested: ClassVar[bool] = True
    keeps_unlearned: ClassVar[bool] = True
    scales: ClassVar[tuple[str, ...]] = ()
    quantity: ClassVar[str | None] = None
    measures: ClassVar[str | None] = None
    of_examples: ClassVar[bool] = False
    works_unpaired: ClassVar[bool] = False

    def cells(self, estimand: Estimand, study: Study) -> list[Settings]:
        """The settings of each arm that is needed. Raises Refused where the study cannot have these arms."""
        arms = [estimand.treatment] if estimand.control is None else [estimand.treatment, estimand.control]
        return [overlaid(estimand.within, arm) for arm in arms]

    def free(self) -> tuple[str, ...]:
        """Keys in which cells may differ in addition to those that the claim changes."""
        return ()

    def usable(self, learned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which seeds, (seeds,), can be used without the runs that did not learn; `learned` is (seeds, cells)."""
        return learned.all(axis=1)

    def effects(self, sample: Sample, rng: np.random.Generator) -> Effects:
        """Effects on the sample's scale. Raises ValueError for values that the scale or the test does not allow."""
        raise NotImplementedError

    def by_data_set(self, sample: Sample, rng: np.random.Generator) -> Effects:
        """Effects by data set that are shown with the judged one; they share no α with it."""
        return {}

    def details(self, sample: Sample) -> dict[str, Any]:
        """What a reader needs to know beside the effect, as plain data. Raises ValueError as `effects` does."""
        return {}

    def extension(self, sample: Sample) -> list[Settings]:
        """The settings of further arms that the contrast needs, because the best ones may lie beyond its grid."""
        return []

    def holds(self, name: str, effect: Estimate, sample: Sample) -> bool:
        """Robustness check: whether effect `name` keeps its sign on the raw scale, where the contrast asks for that."""
        return True
