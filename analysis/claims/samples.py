"""Collects the runs that a question compares: chooses arms, pairs runs by seed, looks up their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.claims.estimand import Sample, Settings
from analysis.claims.example_scores import check_clusters, clusters_note
from analysis.claims.pairing import Pairs, Refused, choose, pair
from analysis.claims.reading import Question
from analysis.quantities.outcomes import Outcomes
from analysis.quantities.registry import REGISTRY
from analysis.records.run_folder import Unreadable
from analysis.records.study import Study
from analysis.stats.scales import SCALES


@dataclass(frozen=True, eq=False)
class Collected:
    """The runs of a question.

    compared   the sample of all seeds that can be compared
    learned    the part of it whose runs learn, as far as the contrast needs that
    keeps      whether the effect is computed from `compared` or from `learned`
    unknown    runs of which nobody knows whether they learned: their predictions are missing
    notes      what is left out, and why; how examples are grouped
    """

    pairs: Pairs
    compared: Sample
    learned: Sample
    keeps: bool
    unknown: frozenset[str]
    notes: tuple[str, ...]

    @property
    def kept(self) -> Sample:
        """The sample that the effect is computed from."""
        return self.compared if self.keeps else self.learned

    def on(self, seeds: set[int]) -> Collected:
        """The same question on some of its seeds."""
        compared, learned = (
            sample.where(np.isin(np.array(sample.seeds, dtype=int), sorted(seeds)))
            for sample in (self.compared, self.learned)
        )
        return replace(self, compared=compared, learned=learned)

    @property
    def known(self) -> int:
        """Number of seeds for which any arm has a run, whether or not they can be compared."""
        return len(self.pairs.seeds) + len(self.pairs.absent) + len(self.pairs.unpaired)


def collect(question: Question, cells: Sequence[Settings], study: Study, outcomes: Outcomes) -> Collected:
    """The question's runs, paired and measured. Raises Refused where they cannot or must not be compared."""
    may_differ = (*question.changes, *question.contrast.free())
    arms = choose(study, cells, may_differ)
    pairs = pair(study, arms, may_differ)
    runs = np.array(pairs.runs, dtype=object).reshape(len(pairs.seeds), len(cells))
    values = outcomes.values[question.measured].reindex(runs.ravel()).to_numpy(float).reshape(runs.shape)
    learned = outcomes.learned.reindex(runs.ravel(), fill_value=False).to_numpy(bool).reshape(runs.shape)
    if not study.is_paired and not question.contrast.works_unpaired:
        raise Refused("the contrast compares runs of the same seed, and those of the table are unpaired")
    scale = SCALES[question.scale](int(study.arms[arms[0]].get("trainer.steps", 1)))
    if study.table is not None and question.scale == "logit" and not ((values > 0) & (values < 1)).all():
        raise Refused("a share of 0 or 1 has a logit only if the number of observations is known: a table has none")
    more = tuple(outcomes.values[question.measured].reindex(list(further)).to_numpy(float) for further in pairs.more)
    whole = Sample(study, question, scale, pairs.seeds, runs, values, learned, more)
    keeps = question.contrast.keeps_unlearned and REGISTRY[question.quantity].keeps_unlearned
    # where runs that did not learn do not count, their missing values exclude no seed
    measured = np.isfinite(values).all(axis=1) | (~question.contrast.usable(learned) & (not keeps))
    compared = whole.where(measured)
    try:
        check_clusters(compared)
    except (ValueError, Unreadable) as reason:
        raise Refused(str(reason)) from reason
    notes = [*pairs.notes, *unmeasured(whole.where(~measured), question.measured, outcomes)]
    lacking = outcomes.values["learned"].isna()
    unknown = frozenset(lacking.index[lacking]) & frozenset(compared.runs.ravel())
    if unknown and study.table is None:
        notes.append(f"whether {some_of(sorted(unknown))} learned is unknown: no predictions are recorded")
    usable = compared.where(question.contrast.usable(compared.learned))
    if clustered := clusters_note(compared if keeps else usable):
        notes.append(clustered)
    return Collected(pairs, compared, usable, keeps, unknown, tuple(notes))


def unmeasured(sample: Sample, quantity: str, outcomes: Outcomes) -> list[str]:
    """Why runs that count have no value of the quantity: one note per reason."""
    lacking = outcomes.reasons[outcomes.reasons["quantity"] == quantity].set_index("run")["reason"]
    runs_of: dict[str, list[str]] = {}
    for run in sample.runs[~np.isfinite(sample.values)]:
        runs_of.setdefault(lacking.get(run, "not recorded, or deleted since"), []).append(run)
    return [f"no {quantity} for {some_of(runs)}: {reason}" for reason, runs in runs_of.items()]


def some_of(runs: Sequence[str]) -> str:
    """
    >>> some_of(["a", "b", "c"])
    'a and 2 more'
    """
    return f"{runs[0]} and {len(runs) - 1} more" if len(runs) > 1 else runs[0]
