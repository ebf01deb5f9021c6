"""Draw values and differences seed by seed."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.interval_marks import Limits, LineStyles, draw_mean, name_rows
from analysis.figures.style import GREY, line_styles

FAILED = "#D55E00"
"""Colour of the crosses of runs that did not learn."""


def draw_slopes(
    values: pd.DataFrame, ax: Axes, style_of: LineStyles | None = None, limits: Limits | None = None
) -> Axes:
    """Draw one thin line per seed through its value in each arm, and below it the arm's mean with its interval.

    values: arm, seed, value, mean, low, high and, where runs may have failed, learned (`series.per_seed`). The line
    breaks at an arm without that seed, at a run that did not learn (a cross) and at a value beyond `limits` (an open
    circle at the edge).
    """
    values = values if "learned" in values else values.assign(learned=True)
    arms = list(style_of) if style_of else list(dict.fromkeys(values["arm"]))
    style_of = style_of or line_styles(arms)
    rows = {arm: i for i, arm in enumerate(arms)}
    usual = values["learned"] & inside(values["value"], limits)
    table = values.assign(value=values["value"].where(usual)).pivot(index="seed", columns="arm", values="value")
    for seed, line in table.reindex(columns=arms).iterrows():
        ax.plot(
            line.to_numpy(float), range(len(arms)), "-o", color=GREY, lw=0.8, ms=2.5, alpha=0.7, label=f"seed {seed}"
        )
    among = values.groupby("arm").cumcount().map(lambda i: 0.3 * (i * 0.6180339887498949 % 1 - 0.5))  # as `spread`
    draw_apart(ax, values["value"], values["arm"].map(rows) + among, values["learned"], limits)
    for arm, part in values.drop_duplicates("arm").set_index("arm").iterrows():
        draw_mean(ax, part, rows[arm] + 0.25, style_of[arm], arm, limits)
    name_rows(ax, arms)
    return ax


def draw_differences(
    values: pd.DataFrame,
    ax: Axes,
    style_of: LineStyles | None = None,
    none: float = 0.0,
    limits: Limits | None = None,
) -> Axes:
    """Draw each seed's difference as a dot, with the arm's mean and interval below; arms from the top down.

    values: treatment, seed, effect, mean, low, high and, where runs may have failed, learned
    (`series.paired_differences`). A vertical line marks `none`, the value that means no effect. Pairs with a run that
    did not learn are crosses, and values beyond `limits` open circles at the edge.
    """
    values = values if "learned" in values else values.assign(learned=True)
    arms = list(style_of) if style_of else list(dict.fromkeys(values["treatment"]))
    style_of = style_of or line_styles(arms)
    ax.axvline(none, color=GREY, linewidth=1, zorder=1.5)
    for row, arm in enumerate(arms):
        part = values[values["treatment"] == arm]
        if len(part) == 0:
            continue
        height = pd.Series(row - 0.12 - 0.2 * spread(len(part)), index=part.index)
        usual = part["learned"] & inside(part["effect"], limits)
        ax.plot(
            part["effect"][usual], height[usual], "o", color=style_of[arm].color, ms=3.5, alpha=0.6, mew=0, label=arm
        )
        draw_apart(ax, part["effect"], height, part["learned"], limits)
        draw_mean(ax, part.iloc[0], row + 0.2, style_of[arm], arm, limits)
    name_rows(ax, arms)
    return ax


def inside(values: pd.Series, limits: Limits | None) -> pd.Series:
    return values.between(*limits) if limits else values.notna()


def draw_apart(ax: Axes, values: pd.Series, height: pd.Series, learned: pd.Series, limits: Limits | None) -> None:
    """Draw crosses for runs that did not learn and open circles for other values beyond the limits, at the edge."""
    at = values.clip(*limits) if limits else values
    far = learned & ~inside(values, limits)
    ax.plot(at[~learned], height[~learned], "x", color=FAILED, ms=4.5, mew=1, alpha=0.8, label="not learned")
    ax.plot(at[far], height[far], "o", mfc="white", mec=GREY, ms=3.5, mew=0.8, zorder=3, label="beyond")


def spread(n: int) -> np.ndarray:
    """n distinct heights from 0 to 1 that keep dots of similar value apart: multiples of the golden ratio, modulo 1.

    >>> spread(3).round(2)
    array([0.  , 0.62, 0.24])
    """
    return np.arange(n) * 0.6180339887498949 % 1
