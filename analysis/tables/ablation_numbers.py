"""The numbers of the ablation table: means per arm, and effects against the reference arm."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.claims.estimand import Estimand, Sample
from analysis.claims.evidence import FLIPS
from analysis.claims.example_scores import mean_difference
from analysis.claims.pairing import Refused, pair
from analysis.quantities.outcomes import Outcomes
from analysis.quantities.recorded import table_quantities
from analysis.quantities.registry import REGISTRY, Quantity, primary_quantity
from analysis.records.study import Study
from analysis.stats.effects import ALPHA, Array, Estimate, holm
from analysis.stats.scales import SCALES
from analysis.tables.ablation_arms import AblatedArm
from analysis.tables.numbers import interval_columns


class AblatedQuantity(NamedTuple):
    """A quantity of the table.

    is_cost  whether it counts for all runs, also for those that did not learn
    """

    quantity: Quantity
    is_cost: bool = False

    @property
    def best(self) -> Callable[[Iterable[float]], float] | None:
        """Picks the best of several means; None where nobody knows whether more is better."""
        if self.quantity.metric is not None and self.quantity.higher_is_better is None:
            return None
        return max if self.quantity.higher_is_better else min

    @property
    def keeps_unlearned(self) -> bool:
        return self.is_cost or self.quantity.keeps_unlearned


def ablated_quantities(study: Study) -> tuple[AblatedQuantity, ...]:
    """The columns of the table: a study's primary metric and costs, or all metrics of a table of results."""
    if study.table is not None:
        return tuple(map(AblatedQuantity, table_quantities(study.table)))
    primary = study.primary
    return (
        AblatedQuantity(primary_quantity(primary)),
        AblatedQuantity(primary_quantity(primary, "validation")),
        AblatedQuantity(REGISTRY["last_training_loss"]),
        AblatedQuantity(REGISTRY["step_seconds"], is_cost=True),
    )


MARKED, UNMARKED, EQUAL_PAIRS = ("lower", "higher"), "no difference shown", "equal in every pair"


def column_of(
    column: AblatedQuantity, rows: Sequence[AblatedArm], study: Study, measured: Outcomes
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One quantity: the cells of each row by their names without prefix, and row -> why it is not compared."""
    effects: dict[str, Estimate] = {}
    refused: dict[str, str] = {}
    for row in rows[1:]:
        try:
            effects[row.arm] = effect_of(row, rows[0].arm, column, study, measured)
        except Refused as reason:
            refused[row.name] = str(reason)
    adjusted = holm_where_known([effect.p for effect in effects.values()])
    p_holm = dict(zip(effects, adjusted, strict=True))
    level = 1 - ALPHA / max(1, len(effects))
    cells = [
        mean_of_arm(row.arm, column, study, measured)
        | against_reference(effects.get(row.arm), p_holm.get(row.arm, math.nan), level, column.quantity)
        for row in rows
    ]
    cells[0]["mark"] = "reference"
    return cells, refused


def effect_of(row: AblatedArm, reference: str, column: AblatedQuantity, study: Study, measured: Outcomes) -> Estimate:
    """The effect of the row's arm against the reference, over their paired seeds. Raises Refused without one."""
    pairs = pair(study, (row.arm, reference), row.changes)
    runs = np.array(pairs.runs, dtype=object).reshape(-1, 2)
    values = measured.values[column.quantity.name].reindex(runs.ravel()).to_numpy(float).reshape(runs.shape)
    usable = np.isfinite(values).all(axis=1)
    more = tuple(measured.values[column.quantity.name].loc[list(runs)].to_numpy(float) for runs in pairs.more)
    if not column.keeps_unlearned:
        learned = measured.learned.reindex(runs.ravel(), fill_value=False).to_numpy(bool)
        usable &= learned.reshape(runs.shape).all(axis=1)
    if not usable.any():
        known = measured.reasons[measured.reasons["quantity"] == column.quantity.name].set_index("run")["reason"]
        reasons = [*dict.fromkeys(known.reindex(runs.ravel()).dropna())] or ["no seed on which both runs learn"]
        raise Refused("; ".join(reasons if len(runs) else pairs.notes))
    try:
        seeds = np.array(pairs.seeds)[usable]
        return paired_difference(column.quantity, study, seeds, runs[usable], values[usable], more)
    except ValueError as error:
        raise Refused(str(error)) from error


def paired_difference(
    quantity: Quantity,
    study: Study,
    seeds: NDArray[np.int_],
    runs: NDArray[np.object_],
    values: Array,
    more: tuple[Array, ...] = (),
) -> Estimate:
    """The effect on the quantity's scale, over seeds and, for a test metric, test examples.

    Args: `runs` and `values`, both (seeds, 2), row before reference; `more` as in `Sample`.
    """
    estimand = Estimand(quantity.name, quantity.scale, {}, {}, {}, ())
    scale = SCALES[quantity.scale](1)
    sample = Sample(study, estimand, scale, tuple(seeds.tolist()), runs, values, np.full(runs.shape, True), more)
    return mean_difference(sample, np.random.default_rng(FLIPS))


def mean_of_arm(arm: str, column: AblatedQuantity, study: Study, measured: Outcomes) -> dict[str, Any]:
    """Number of runs that count, their mean and standard deviation (ddof 1); NaN if a run lacks the quantity."""
    runs = study.runs["run"][study.runs["arm"] == arm]
    runs = runs[runs.isin(measured.values.index)]
    values = measured.values[column.quantity.name].loc[runs]
    if not column.keeps_unlearned:
        values = values[measured.learned.loc[runs]]
    return {"n": len(values), "mean": values.mean(skipna=False), "sd": values.std(skipna=False)}


def against_reference(effect: Estimate | None, p_holm: float, level: float, quantity: Quantity) -> dict[str, Any]:
    """The cells that compare a row with the reference; NaN without an effect."""
    if effect is None:
        nothing = dict.fromkeys(("effect", "low", "high", "p", "p_holm"), math.nan)
        return {"paired": 0, **nothing, "mark": "not compared"}
    back = np.exp if quantity.is_ratio else float
    limits = interval_columns("", effect.interval(level))
    return {
        "paired": effect.n,
        "effect": float(back(effect.estimate)),
        **{end: float(back(limit)) for end, limit in limits.items()},
        "p": math.nan if effect.p is None else effect.p,
        "p_holm": p_holm,
        "mark": difference_mark(effect, p_holm),
    }


def difference_mark(effect: Estimate, p_holm: float) -> str:
    if effect.n == 1:
        return "one seed"
    if effect.p is None:
        return EQUAL_PAIRS if effect.estimate == 0 else UNMARKED
    return MARKED[effect.estimate > 0] if p_holm < ALPHA else UNMARKED


def holm_where_known(p: Sequence[float | None]) -> list[float]:
    """p values adjusted by Holm's method; an effect without a p counts as one with p = 1, and stays NaN.

    >>> holm_where_known([0.01, None, 0.02])
    [0.03, nan, 0.04]
    """
    adjusted = holm([1.0 if value is None else value for value in p])
    return [math.nan if value is None else q for value, q in zip(p, adjusted, strict=True)]
