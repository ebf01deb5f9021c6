"""The runs that a question compares, as arrays of seeds × cells: chosen, paired, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.claims.pairing import Pairs, choose, pair
from analysis.quantities.outcomes import Outcomes
from analysis.quantities.registry import REGISTRY
from analysis.records.study import Study
from analysis.stats.effects import Array
from analysis.stats.scales import SCALES, Scale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.claims.reading import Question


@dataclass(frozen=True, eq=False)
class Sample:
    """The runs of one question: `runs` (names), `values` of its quantity and `learned` are (seeds, cells)."""

    study: Study
    question: Question
    scale: Scale
    seeds: tuple[int, ...]
    runs: NDArray[np.object_]
    values: Array
    learned: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_]) -> Sample:
        """Only the seeds that are `chosen`, (seeds,)."""
        seeds = tuple(np.array(self.seeds, dtype=int)[chosen].tolist())
        parts = (self.runs[chosen], self.values[chosen], self.learned[chosen])
        return Sample(self.study, self.question, self.scale, seeds, *parts)

    def predictions(self, cell: int, column: str) -> Array:
        """(seeds, examples) of a column of the test predictions of one cell."""
        tables = [self.study.read(run, "predictions.parquet", [column]) for run in self.runs[:, cell]]
        return np.array([table[column].to_numpy() for table in tables], dtype=float)

    def right(self, cell: int) -> Array:
        """(seeds, examples), 1 where the test prediction of one cell is right, else 0."""
        return (self.predictions(cell, "prediction") == self.predictions(cell, "label")).astype(float)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The seeds of a question.

    compared   all that can be compared
    learned    those of them whose runs learn, as far as the contrast needs it
    keeps      whether the effect is over the former or the latter
    notes      what was left out, and why
    """

    pairs: Pairs
    compared: Sample
    learned: Sample
    keeps: bool
    notes: tuple[str, ...]

    @property
    def kept(self) -> Sample:
        """The seeds that the effect is over."""
        return self.compared if self.keeps else self.learned

    @property
    def known(self) -> int:
        """Number of seeds of which any of the arms has a run, whether or not they can be compared."""
        return len(self.pairs.seeds) + len(self.pairs.absent) + len(self.pairs.unpaired)


def draw(question: Question, cells: Sequence[Mapping[str, Any]], study: Study, outcomes: Outcomes) -> Drawn:
    """The question's runs, paired and measured. Raises Refused where they can't or must not be compared."""
    may_differ = (*question.changes, *question.contrast.free())
    arms = choose(study, cells, may_differ)
    pairs = pair(study, arms, may_differ)
    runs = np.array(pairs.runs, dtype=object).reshape(len(pairs.seeds), len(cells))
    values = outcomes.values[question.measured].reindex(runs.ravel()).to_numpy(float).reshape(runs.shape)
    learned = outcomes.learned.reindex(runs.ravel(), fill_value=False).to_numpy(bool).reshape(runs.shape)
    scale = SCALES[question.scale](int(study.arms[arms[0]]["trainer.steps"]))
    whole = Sample(study, question, scale, pairs.seeds, runs, values, learned)
    keeps = question.contrast.keeps_unlearned and REGISTRY[question.quantity].keeps_unlearned
    # what a run that did not learn lacks is no gap where such runs do not count
    measured = np.isfinite(values).all(axis=1) | (~question.contrast.usable(learned) & (not keeps))
    compared = whole.where(measured)
    notes = (*pairs.notes, *unmeasured(whole.where(~measured), outcomes))
    return Drawn(pairs, compared, compared.where(question.contrast.usable(compared.learned)), keeps, notes)


def unmeasured(sample: Sample, outcomes: Outcomes) -> list[str]:
    """Why seeds are left out though their runs count, by reason."""
    quantity = sample.question.measured
    lacking = outcomes.reasons[outcomes.reasons["quantity"] == quantity].set_index("run")["reason"]
    runs_of: dict[str, list[str]] = {}
    for run in sample.runs[~np.isfinite(sample.values)]:
        runs_of.setdefault(lacking.get(run, "not recorded, or gone since"), []).append(run)
    return [
        f"no {quantity} of {runs[0]}{f' and {len(runs) - 1} more' if len(runs) > 1 else ''}: {reason}"
        for reason, runs in runs_of.items()
    ]
