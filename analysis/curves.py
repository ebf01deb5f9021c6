"""Records and per-run numbers -> the numbers that a figure shows. Frames to frames, nothing is drawn here.

Seeds are the unit: a run's records are first reduced within the run (`spans`, `delta_g_shares`), then averaged
over the seeds of an arm (`over_seeds`), or compared seed by seed (`differences`).
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.load import FACTORS, Arm, labels

LEVEL = 0.95
SPANS = 60
"""Most points of a curve: as many as a reader can tell apart, and small files from runs of any length."""

BINS = 10

PAIRING = ("environment.key", "pairing.batches", "pairing.head", "pairing.dropout")
"""What two runs of a seed must share for their difference to be that of their arms."""


# --- Within a run ---


def span_width(points: int, at_most: int = SPANS) -> int:
    """Points a span, of 1, 2, 5, 10, 20, 50, …: the fewest for which there are at most `at_most` spans.

    >>> [span_width(n) for n in (20, 120, 300, 10_000)]
    [1, 2, 5, 200]
    """
    for decade in range(len(str(points)) + 1):
        for digit in (1, 2, 5):
            if (width := digit * 10**decade) * at_most >= points:
                return width
    raise AssertionError("ten times the points are enough for one span")


def spans(points: pd.DataFrame, columns: Sequence[str], width: int) -> pd.DataFrame:
    """Means over every `width` points of one run, the last span of what is left: step, columns.

    `points`: one row a recorded step. NaN in a span makes its mean NaN. `step` is the mean of the span's steps.
    """
    values = points[["step", *columns]].to_numpy(float)  # [T, 1 + columns]
    starts = np.arange(0, len(values), width)
    if len(starts) == 0:
        return pd.DataFrame(columns=["step", *columns], dtype=float)
    sizes = np.diff(starts, append=len(values))
    means = np.add.reduceat(values, starts, axis=0) / sizes[:, None]
    return pd.DataFrame(means, columns=["step", *columns])


def delta_g_shares(steps: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Share of one run's ΣΔg (§4.5) in each of `bins` equal stretches of its steps: bin (from 1), share (0 to 1).

    Step t of T falls to the first bin k with t ≤ ⌈k T / bins⌉. No rows where clipping never acted: then there
    is nothing to share.
    """
    taken = steps["delta_g"].to_numpy(float)
    if taken.sum() == 0:
        return pd.DataFrame({"bin": np.array([], int), "share": np.array([], float)})
    ends = [math.ceil(k * len(taken) / bins) for k in range(bins + 1)]
    sums = np.diff(np.concatenate([[0.0], np.cumsum(taken)])[ends])
    return pd.DataFrame({"bin": np.arange(1, bins + 1), "share": sums / taken.sum()})


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
        half = stats.t.isf((1 - LEVEL) / 2, frame["n"] - 1) * frame["sd"] / np.sqrt(frame["n"])
    frame["low"], frame["high"] = frame["mean"] - half, frame["mean"] + half
    if log:
        frame[["mean", "low", "high"]] = np.exp(frame[["mean", "low", "high"]])
    return frame[[*by, "mean", "low", "high", "n"]]


def by_step(points: pd.DataFrame, diverged: Sequence[str], column: str, log: bool = False) -> pd.DataFrame:
    """A quantity by arm and step over seeds: arm, step, mean, low, high, n, diverged.

    `points`: run, arm, step, column; `diverged`: the runs that did. The column of that name counts the runs
    that ended in divergence after this point: `n` is smaller from the next one on.
    """
    curve = over_seeds(points, ["arm", "step"], column, log)
    last = points[points["run"].isin(list(diverged))].groupby("run", observed=True)[["arm", "step"]].last()
    ends = last.groupby(["arm", "step"], observed=True).size().rename("diverged").reset_index()
    curve = curve.merge(ends, how="left", on=["arm", "step"])
    return curve.assign(diverged=curve["diverged"].fillna(0).astype(int))


def layer_grid(layers: pd.DataFrame) -> pd.DataFrame:
    """Geometric mean over seeds of each layer's and block's gradient norm: arm, place, layer, block, step, mean, n.

    `layers`: arm, step, layer (null: in none), block, grad_norm. `place` names layer and block; the order is
    that of the network as it was recorded.
    """
    grid = over_seeds(layers, ["arm", "layer", "block", "step"], "grad_norm", log=True)
    place = [block if pd.isna(layer) else f"{layer} {block}" for layer, block in zip(grid["layer"], grid["block"])]
    return grid.assign(place=place)[["arm", "place", "layer", "block", "step", "mean", "n"]]


# --- Seed by seed ---


def per_seed(runs: pd.DataFrame, quantity: str, log: bool = False) -> pd.DataFrame:
    """One value a run with its arm's mean beside it: arm, seed, value, mean, low, high, n.

    Runs without the value are left out, and with `log` those where it is 0, which has no place there.
    """
    values = runs[["arm", "seed"]].assign(value=runs[quantity].astype(float))
    values = values[values["value"].gt(0) if log else values["value"].notna()]
    return values.merge(over_seeds(values, ["arm"], "value", log), on="arm")


def differences(runs: pd.DataFrame, quantity: str, control: str, log: bool = False) -> pd.DataFrame:
    """Each other arm against `control`, seed by seed: treatment, control, seed, effect, mean, low, high, n.

    `effect` is treatment − control, with `log` treatment / control. Only runs that pair (see `pairs`) and have
    the value, with `log` one above 0. The mean's interval is that of paired t, with `log` on the logarithms.
    """
    both = pairs(runs, control)
    treated, plain = (both[f"{quantity}{side}"].astype(float) for side in ("_t", "_c"))
    if log:
        treated, plain = treated.where(treated > 0), plain.where(plain > 0)
    effect = treated / plain if log else treated - plain
    frame = pd.DataFrame({"treatment": both["arm_t"], "control": control, "seed": both["seed"], "effect": effect})
    frame = frame.dropna(subset=["effect"])
    return frame.merge(over_seeds(frame, ["treatment"], "effect", log), on="treatment")


def pairs(runs: pd.DataFrame, control: str) -> pd.DataFrame:
    """Runs of each other arm beside the control's run of the same seed, columns ending in _t and _c, and seed.

    Only where environment, order of examples, initial head and dropout stream are the same in both; arms that
    differ in the nuisance seed, or in how the head begins, may differ in the stream, or in the head.
    """
    others, base = runs[runs["arm"] != control], runs[runs["arm"] == control]
    both = others.merge(base, on="seed", suffixes=("_t", "_c"))
    equal = {key: both[f"{key}_t"].notna() & both[f"{key}_t"].eq(both[f"{key}_c"]) for key in PAIRING}
    equal["pairing.dropout"] |= both["nuisance_t"] != both["nuisance_c"]
    if "model.head_init" in runs:
        equal["pairing.head"] |= both["model.head_init_t"].fillna("") != both["model.head_init_c"].fillna("")
    return both[np.logical_and.reduce(list(equal.values()))].reset_index(drop=True)


# --- Factors ---


def levels(arms: Mapping[str, Arm]) -> pd.DataFrame:
    """One row an arm, one column a factor that varies among them: the arm's level of it, by its short name.

    >>> plain = {**{factor: "x" for factor in FACTORS}, "nuisance": 0}
    >>> levels({"none": {**plain, "clip": "none"}, "fixed": {**plain, "clip": "fixed"}})
            clip
    arm         
    none    none
    fixed  fixed
    """
    names = {}
    for factor in FACTORS:
        alike = {other: "" for other in FACTORS if other != factor} | {"nuisance": 0}
        own = [{k: v for k, v in arm.items() if k.split(".")[0] == factor} | alike for arm in arms.values()]
        named = labels(own)
        if len(set(named)) > 1:
            names[factor] = named
    return pd.DataFrame(names, index=pd.Index(list(arms), name="arm"))


def interaction_means(
    runs: pd.DataFrame, cells: pd.DataFrame, quantity: str, log: bool = False
) -> pd.DataFrame:
    """Mean of each cell of two factors in each setting of the rest: panel, line, x, mean, low, high, n.

    `cells`: as from `levels`. The factor with the most levels is x, the next most lines; `panel` names the
    levels of all others ("freeze none, optimizer adamw"; "" without any). A panel is kept if two of its lines
    share two levels of x: less shows no interaction. No rows where fewer than two factors vary.
    """
    if cells.shape[1] < 2:
        return pd.DataFrame(columns=["panel", "line", "x", "mean", "low", "high", "n"])
    x, line, *rest = sorted(cells.columns, key=lambda factor: -cells[factor].nunique())
    named = pd.DataFrame({"x": cells[x], "line": cells[line]})
    named["panel"] = [", ".join(f"{f} {cells[f][arm]}" for f in rest) for arm in cells.index]
    values = per_seed(runs, quantity, log).merge(named.rename_axis("arm").reset_index(), on="arm")
    means = over_seeds(values, ["panel", "line", "x"], "value", log)
    order = {level: i for i, level in enumerate(cells[x].unique())}
    means = means.sort_values("x", key=lambda level: level.map(order), kind="stable")
    kept = [panel for panel, part in means.groupby("panel", sort=False) if crosses(part)]
    return means[means["panel"].isin(kept)].reset_index(drop=True)


def crosses(cells: pd.DataFrame) -> bool:
    """Whether two lines share two levels of x."""
    present = pd.crosstab(cells["line"], cells["x"]).to_numpy() > 0  # [lines, levels of x]
    shared = present.astype(int) @ present.astype(int).T
    return bool((shared - np.diag(np.diag(shared)) >= 2).any())
