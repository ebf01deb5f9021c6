"""Compute the numbers that a figure shows from records and per-run numbers: data frames in, data frames out.

The seed is the unit of analysis: a run's records are first reduced within the run (`spans`, `delta_g_shares`), then
averaged over the seeds of an arm (`over_seeds`) or compared seed by seed (`paired_differences`).
"""

import math
import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from ablate.schema import BLOCKS
from analysis.stats.effects import ALPHA, student_half_width

LEVEL = 1 - ALPHA
SPANS = 60
"""Most points of a curve: as many as a reader can distinguish, and few enough for small files from long runs."""

NUMBER_IN_LEVEL = r"-?\d+\.?\d*(?:e-?\d+)?"

BINS = 10
"""Number of equal parts into which `delta_g_shares` splits a run's steps."""


# --- Within a run ---


def span_width(points: int, at_most: int = SPANS) -> int:
    """Points per span: the smallest of 1, 2, 5, 10, 20, 50, … that gives at most `at_most` spans.

    >>> [span_width(n) for n in (20, 120, 300, 10_000)]
    [1, 2, 5, 200]
    """
    for decade in range(len(str(points)) + 1):
        for digit in (1, 2, 5):
            if (width := digit * 10**decade) * at_most >= points:
                return width
    raise AssertionError("unreachable: a width of ten times the points gives a single span")


def spans(points: pd.DataFrame, columns: Sequence[str], width: int) -> pd.DataFrame:
    """Means over every `width` points of one run: step, columns. The last span holds the points that are left.

    `points`: one row per recorded step, at steps k, 2k, 3k, …; NaN in a span makes its mean NaN. `step` is the middle
    of a full span, for a shorter last span too, so that all runs of an arm have the same steps wherever they end.
    """
    values = points[list(columns)].to_numpy(float)  # [T, columns]
    starts = np.arange(0, len(values), width)
    if len(starts) == 0:
        return pd.DataFrame(columns=["step", *columns], dtype=float)
    sizes = np.diff(starts, append=len(values))
    steps = points["step"].to_numpy(float)
    frame = pd.DataFrame(np.add.reduceat(values, starts, axis=0) / sizes[:, None], columns=list(columns))
    frame.insert(0, "step", steps[starts] + (width - 1) / 2 * steps[0])
    return frame


def delta_g_shares(steps: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Share of one run's ΣΔg in each of `bins` equal parts of its steps: bin (from 1), share (0 to 1).

    Step t of T belongs to the first bin k with t ≤ ⌈k T / bins⌉. The frame is empty where clipping never acted.
    """
    delta_g = steps["delta_g"].to_numpy(float)
    if delta_g.sum() == 0:
        return pd.DataFrame({"bin": np.array([], int), "share": np.array([], float)})
    ends = [math.ceil(k * len(delta_g) / bins) for k in range(bins + 1)]
    sums = np.diff(np.concatenate([[0.0], np.cumsum(delta_g)])[ends])
    return pd.DataFrame({"bin": np.arange(1, bins + 1), "share": sums / delta_g.sum()})


# --- Over seeds ---


def over_seeds(values: pd.DataFrame, by: Sequence[str], column: str, log: bool = False) -> pd.DataFrame:
    """Mean over seeds with its interval: by, mean, low, high, n, groups in order of first appearance.

    Student's interval at LEVEL, mean ± t · sd / √n, of one group's values, one a seed; NaN below two. With
    `log`: of the logarithms, taken back, so mean is the geometric mean (0 where a value is 0). `n` counts the
    values that there are: NaN is left out, and so is a group without any.
    """
    present = values.dropna(subset=[column])
    x = present[column].astype(float)
    with np.errstate(divide="ignore"):
        present = present.assign(_x=np.log(x) if log else x)
    grouped = present.groupby(list(by), sort=False, observed=True, dropna=False)["_x"]
    with np.errstate(invalid="ignore"):
        frame = grouped.agg(mean="mean", sd="std", n="size").reset_index()
        half = student_half_width(frame["sd"], frame["n"], LEVEL)
    frame["low"], frame["high"] = frame["mean"] - half, frame["mean"] + half
    if log:
        frame[["mean", "low", "high"]] = np.exp(frame[["mean", "low", "high"]])
    return frame[[*by, "mean", "low", "high", "n"]]


def by_step(points: pd.DataFrame, diverged: Sequence[str], column: str, log: bool = False) -> pd.DataFrame:
    """A quantity by arm and step, over seeds: arm, step, mean, low, high, n, diverged.

    `points`: run, arm, step, column; `diverged`: the runs that diverged. The column `diverged` counts the runs whose
    last point this is because they diverged; `n` is smaller by as many from the next point on.
    """
    curve = over_seeds(points, ["arm", "step"], column, log)
    last = points[points["run"].isin(list(diverged))].groupby("run", observed=True)[["arm", "step"]].last()
    ends = last.groupby(["arm", "step"], observed=True).size().rename("diverged").reset_index()
    curve = curve.merge(ends, how="left", on=["arm", "step"])
    return curve.assign(diverged=curve["diverged"].fillna(0).astype(int))


def layer_grid(layers: pd.DataFrame) -> pd.DataFrame:
    """Geometric mean over seeds of each layer's and block's gradient norm: arm, place, layer, block, step, mean, n.

    `layers`: arm, step, layer (null: outside the layers), block, grad_norm. `place` names layer and block; rows keep
    the order of the records, which is that of the network.
    """
    grid = over_seeds(layers, ["arm", "layer", "block", "step"], "grad_norm", log=True)
    place = [
        block if pd.isna(layer) else f"{layer} {block}"
        for layer, block in zip(grid["layer"], grid["block"], strict=True)
    ]
    return grid.assign(place=place)[["arm", "place", "layer", "block", "step", "mean", "n"]]


def in_network_order(grid: pd.DataFrame) -> list[str]:
    """The places of a `layer_grid`, from the input to the head; blocks with unknown names come last."""
    rows = grid.drop_duplicates("place")
    block = [BLOCKS.index(b) if b in BLOCKS else len(BLOCKS) for b in rows["block"]]
    depth = [(b > 0) + (b > 2) for b in block]  # 0: embedding, 1: blocks of the layers, 2: blocks after them
    layer = rows["layer"].fillna(-1).astype(int)
    order = sorted(zip(depth, layer, block, rows["place"], strict=True))
    return [place for *_, place in order]


# --- Seed by seed ---


def per_seed(runs: pd.DataFrame, quantity: str, log: bool = False, keeps_unlearned: bool = True) -> pd.DataFrame:
    """One row per run with its value and its arm's mean: arm, seed, value, learned, mean, low, high, n.

    `runs`: arm, seed, the quantity and, where runs may have failed, learned. Runs without the value are left out, and
    with `log` also those whose value is 0. The mean is over all runs, or without `keeps_unlearned` over those that
    learn; NaN, with n = 0, where there is none.
    """
    values = runs[["arm", "seed"]].assign(value=runs[quantity].astype(float), learned=runs.get("learned", True))
    values = values[values["value"].gt(0) if log else values["value"].notna()]
    counted = values if keeps_unlearned else values[values["learned"]]
    return with_means(values, counted, "arm", "value", log)


def fences(values: pd.Series, log: bool = False) -> tuple[float, float]:
    """Least and largest value within Tukey's outer fences: from 3 interquartile ranges below Q1 to 3 above Q3.

    Tukey 1977, Exploratory Data Analysis. With `log` on the logarithms. An axis with these ends shows small
    differences even if a few values are far away.

    >>> fences(pd.Series([82.0, 83.0, 84.0, 85.0, 50.0]))
    (82.0, 85.0)
    """
    x = np.log(values) if log else values
    first, third = x.quantile(0.25), x.quantile(0.75)
    reach = 3 * (third - first)
    inside = values[(x >= first - reach) & (x <= third + reach)]
    return float(inside.min()), float(inside.max())


def with_means(values: pd.DataFrame, counted: pd.DataFrame, by: str, column: str, log: bool) -> pd.DataFrame:
    """`values` with the mean, low, high and n (`over_seeds`) of those `counted`, by arm."""
    found = values.merge(over_seeds(counted, [by], column, log), on=by, how="left")
    return found.assign(n=found["n"].fillna(0).astype(int))


def paired_differences(
    values: pd.Series, pairs: pd.DataFrame, log: bool = False, learned: pd.Series | None = None
) -> pd.DataFrame:
    """Effects seed by seed with their mean: treatment, control, seed, effect, learned, mean, low, high, n.

    `values`: one per run, indexed by the run's name; `pairs`: treatment, control, seed, treatment_run, control_run.
    The effect is treatment − control, with `log` treatment / control. Pairs without both values (with `log`, both
    above 0) are left out. The interval of the mean is the paired t interval, with `log` on the logarithms.
    `learned`: whether each run learned; the mean is then over the pairs whose runs both did.
    """
    of_run = values.astype(float)
    of_run = of_run.where(of_run > 0) if log else of_run
    treated, plain = (pairs[f"{side}_run"].map(of_run) for side in ("treatment", "control"))
    effects = pairs[["treatment", "control", "seed"]].assign(effect=treated / plain if log else treated - plain)
    failed = [] if learned is None else list(learned.index[~learned])
    effects["learned"] = ~(pairs["treatment_run"].isin(failed) | pairs["control_run"].isin(failed))
    effects = effects.dropna(subset=["effect"])
    return with_means(effects, effects[effects["learned"]], "treatment", "effect", log)


# --- Factors ---


def interaction_means(
    runs: pd.DataFrame, cells: pd.DataFrame, quantity: str, log: bool = False, keeps_unlearned: bool = True
) -> pd.DataFrame:
    """Mean of each cell of two factors, for each combination of the other factors' levels.

    Columns: x_factor, line_factor, panel, line, x, mean, low, high, n, unlearned. `cells`: as `levels` returns it. The
    two factors are those with the most cells to show; levels are in numeric order, "none" first. `panel` names the
    levels of the others ("freeze none, optimizer adamw"; "" without others). A panel without crossed cells shows no
    interaction and is left out, possibly all of them; one with crossed cells has all of its cells. The intervals are
    those of `within_seeds`. `unlearned`: runs of the cell that did not learn, which count only with `keeps_unlearned`.
    """
    columns = ["x_factor", "line_factor", "panel", "line", "x", "mean", "low", "high", "n", "unlearned"]
    values = per_seed(runs, quantity, log, keeps_unlearned)
    factors = independent(cells)
    found = [two_factors(values, cells[factors], x, line, log, keeps_unlearned) for x, line in combinations(factors, 2)]
    most = max(found, key=crossed_cells, default=pd.DataFrame(columns=columns))
    return most[columns]


def crossed_cells(means: pd.DataFrame) -> int:
    return sum(len(crossing(part)) for _, part in means.groupby("panel", sort=False))


def independent(cells: pd.DataFrame) -> list[str]:
    """The factors, most levels first, without those whose level is determined by another factor's level.

    >>> cells = pd.DataFrame({"model": ["s", "m", "s"], "optimizer": ["3e-4", "1e-4", "3e-4"], "clip": [0, 0, 1]})
    >>> independent(cells)
    ['model', 'clip']
    """
    kept: list[str] = []
    for factor in sorted(cells.columns, key=lambda name: -cells[name].nunique()):
        if not any((cells.groupby(other)[factor].nunique() == 1).all() for other in kept):
            kept.append(factor)
    return kept


def two_factors(
    values: pd.DataFrame, cells: pd.DataFrame, x: str, line: str, log: bool, keeps_unlearned: bool = True
) -> pd.DataFrame:
    """`interaction_means` of two given factors."""
    rest = [factor for factor in cells.columns if factor not in (x, line)]
    cells = cells.loc[sorted(cells.index, key=lambda arm: tuple(cells.loc[arm] != "none"))]  # off before on
    panel = [", ".join(f"{factor} {cells[factor][arm]}" for factor in rest) for arm in cells.index]
    named = pd.DataFrame({"arm": cells.index, "panel": panel, "line": list(cells[line]), "x": list(cells[x])})
    whole = values[["arm", "seed", "value", "learned"]].merge(named, on="arm")
    counted = whole if keeps_unlearned else whole[whole["learned"]]
    parts = [
        within_seeds(part, ["panel", "line", "x"], "value", log)
        for _, part in counted.groupby("panel", sort=False)
        if len(crossing(part.drop_duplicates(["line", "x"])))
    ]
    means = pd.concat(parts) if parts else within_seeds(counted[:0], ["panel", "line", "x"], "value", log)
    failed = whole[~whole["learned"]].groupby(["panel", "line", "x"]).size().rename("unlearned").reset_index()
    means = means.merge(failed, on=["panel", "line", "x"], how="left").fillna({"unlearned": 0})
    for column, order in (("panel", panel), ("line", sorted_levels(named["line"])), ("x", sorted_levels(named["x"]))):
        means = ordered_like(means, column, order)
    return means.astype({"unlearned": int}).assign(x_factor=x, line_factor=line)


def sorted_levels(levels: pd.Series) -> list[str]:
    """Distinct levels: options in order of appearance, and the levels of one option in numeric order.

    >>> sorted_levels(pd.Series(["none", "fixed", "delayed[start=100]", "delayed[start=15]"]))
    ['none', 'fixed', 'delayed[start=15]', 'delayed[start=100]']
    """
    options = list(dict.fromkeys(level.partition("[")[0] for level in levels))

    def key(level: str) -> tuple[int, list[float], str]:
        option, _, settings = level.partition("[")
        return options.index(option), [float(number) for number in re.findall(NUMBER_IN_LEVEL, settings)], settings

    return sorted(dict.fromkeys(levels), key=key)


def within_seeds(values: pd.DataFrame, by: Sequence[str], column: str, log: bool = False) -> pd.DataFrame:
    """Means of cells as `over_seeds`, with intervals for comparing cells within seeds.

    Each value less its seed's mean over the cells, with the variance times C / (C − 1) for C cells: the spread between
    seeds, which all cells share, does not widen the interval. It uses the seeds that have all cells; NaN with fewer
    than two of them or one cell. Cousineau 2005, Tutor. Quant. Methods Psychol. 1:42, as corrected by Morey 2008, 4:61.
    """
    means = over_seeds(values, by, column, log)
    table = values.assign(value=np.log(values[column].astype(float)) if log else values[column].astype(float))
    table = table.pivot_table(index="seed", columns=list(by), values="value", sort=False, observed=True)
    table = table.dropna()
    n, cells = table.shape
    sd = table.sub(table.mean(axis=1), axis=0).std() * np.sqrt(cells / (cells - 1)) if n > 1 < cells else None
    half = (
        pd.Series(student_half_width(sd, n, LEVEL), index=sd.index).rename("half").reset_index()
        if sd is not None
        else means[list(by)].assign(half=np.nan)
    )
    means = means.merge(half, on=list(by), how="left")
    centre = np.log(means["mean"]) if log else means["mean"]
    for side, sign in (("low", -1), ("high", 1)):
        ends = centre + sign * means["half"]
        means[side] = np.exp(ends) if log else ends
    return means[[*by, "mean", "low", "high", "n"]]


def ordered_like(frame: pd.DataFrame, column: str, names: Sequence[str]) -> pd.DataFrame:
    """The rows, sorted by where their value in `column` first appears in `names`."""
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return frame.sort_values(column, key=lambda values: values.map(place), kind="stable", ignore_index=True)


def crossing(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows left after removing lines with a single level of x, and levels of x with a single line, repeatedly."""
    while len(cells):
        of_line, of_x = (cells.groupby(side)[side].transform("size") for side in ("line", "x"))
        if (kept := (of_line > 1) & (of_x > 1)).all():
            break
        cells = cells[kept]
    return cells
