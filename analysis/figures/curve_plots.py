"""Draw curves by step, shares of a run by time, and heat maps of layers by step."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from ablate.config.wording import printable
from analysis.figures.interval_marks import Limits, LineStyles, draw_intervals
from analysis.figures.style import line_styles, literal, plain_axis

BAND = 0.13
"""Opacity of an interval's band in a panel of up to four arms; half of it in a panel of more."""

BEHIND = "#a8a8a8"
"""Grey of the first arm's curve behind another arm's."""

HEAT = "viridis"
"""A colour map whose lightness rises from end to end: readable in grey and with any colour vision."""

NAMES = 26
"""Most row names of a heat map."""


def draw_curves(curve: pd.DataFrame, ax: Axes, style_of: LineStyles | None = None) -> Axes:
    """Draw one line per arm with its interval as a band; curve: arm, step, mean, low, high (`series.by_step`)."""
    arms = list(dict.fromkeys(curve["arm"]))
    style_of = style_of or line_styles(arms)
    for i, (arm, part) in enumerate(curve.groupby("arm", sort=False, observed=True)):
        style = style_of[arm]
        every = max(1, len(part) // 6)
        first = i * every // len(arms)  # shift the markers, so that those of overlapping lines do not coincide
        ax.plot(
            part["step"],
            part["mean"],
            color=style.color,
            linestyle=style.linestyle,
            marker=style.marker,
            markersize=4,
            markevery=slice(first, None, every),
            label=arm,
        )
        opacity = BAND if len(arms) <= 4 else BAND / 2
        ax.fill_between(part["step"], part["low"], part["high"], color=style.color, alpha=opacity, linewidth=0)
    ax.set_xlabel("training step")
    ax.margins(x=0.01)
    plain_axis(ax.xaxis)
    plain_axis(ax.yaxis)
    return ax


def draw_run_ends(ends: pd.DataFrame, ax: Axes, style_of: LineStyles, limits: Limits) -> Axes:
    """Draw the last point of each run that failed: a cross where it diverged, an open circle where it did not learn.

    ends: arm, step, mean (the run's value, NaN for one that is not finite), diverged (1 or 0). Values beyond `limits`,
    the ends of the axis, are drawn at the nearer end; those that are not finite at the upper one.
    """
    for arm, part in ends.groupby("arm", sort=False, observed=True):
        at, diverged = part["mean"].fillna(limits[1]).clip(*limits), part["diverged"] > 0
        look = {"linestyle": "", "color": style_of[arm].color, "zorder": 4, "clip_on": False}
        for chosen, mark, name in (
            (diverged, {"marker": "x", "ms": 7, "mew": 1.8}, "diverged"),
            (~diverged, {"marker": "o", "ms": 5.5, "mew": 1.2, "mfc": "none"}, "not learned"),
        ):
            if chosen.any():
                ax.plot(part["step"][chosen], at[chosen], label=f"{arm} {name}", **look, **mark)
    return ax


def draw_behind(curve: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one arm's mean (step, mean) as a grey line, behind the arm that is compared with it."""
    ax.plot(curve["step"], curve["mean"], color=BEHIND, linewidth=1.5, zorder=1.8, label="behind")
    return ax


def draw_shares(share: pd.DataFrame, ax: Axes, style_of: LineStyles | None = None) -> Axes:
    """Draw one point with its interval per arm and time bin, arms side by side.

    share: arm, bin, mean, low, high, in per cent.
    """
    arms = list(dict.fromkeys(share["arm"]))
    style_of = style_of or line_styles(arms)
    for i, (arm, part) in enumerate(share.groupby("arm", sort=False, observed=True)):
        x = part["bin"] + (i - (len(arms) - 1) / 2) * 0.6 / len(arms)
        draw_intervals(ax, x, part, style_of[arm], linewidth=0.8, elinewidth=1.2, markersize=4, label=arm)
    ax.set_xticks(range(1, int(share["bin"].max()) + 1))
    plain_axis(ax.yaxis)
    return ax


def draw_heat_map(
    grid: pd.DataFrame, ax: Axes, norm: Normalize | None = None, places: Sequence[str] | None = None
) -> Axes:
    """Draw one arm's gradient norm by layer (y) and step (x); hatched: not trained, or a norm of 0.

    grid: place, step, mean (`series.layer_grid`). `norm` maps gradient norms to colours; `places` are the rows from
    the bottom up.
    """
    places = list(dict.fromkeys(grid["place"])) if places is None else list(places)
    steps = np.sort(grid["step"].unique())
    table = grid.pivot(index="place", columns="step", values="mean").reindex(index=places, columns=steps)
    cells = np.ma.masked_invalid(table.to_numpy(float))
    mesh = ax.pcolormesh(
        edges(steps), np.arange(len(places) + 1) - 0.5, np.ma.masked_equal(cells, 0), norm=norm, cmap=HEAT
    )
    mesh.set_rasterized(True)
    ax.patch.set(hatch="////", edgecolor="#c8c8c8", linewidth=0)
    ax.grid(False)
    some = slice(None, None, -(-len(places) // NAMES))
    ax.set_yticks(range(len(places))[some], [printable(place) for place in places[some]])
    literal(*ax.get_yticklabels())
    plain_axis(ax.xaxis)
    return ax


def edges(centres: np.ndarray) -> np.ndarray:
    """Cell borders halfway between the centres; the outer cells are symmetric around their centres.

    >>> edges(np.array([10, 20, 30]))
    array([ 5., 15., 25., 35.])
    """
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
