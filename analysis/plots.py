"""Numbers -> artists: each function draws one frame of `analysis.curves` on one Axes, and returns the Axes.

Nothing is computed here that a reader of the figure could take for a result, and no other Axes is touched.
`looks` gives arms the look that they have in the study's other figures (`analysis.style.looks`).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from analysis.style import GREY, Look, literal, log_axis, looks, plain_axis, wrapped

BAND = 0.16
"""Opacity of an interval's band where it is one of few."""

Looks = Mapping[str, Look]


def curves(curve: pd.DataFrame, ax: Axes, looks_of: Looks | None = None) -> Axes:
    """A line an arm with its interval as a band; a cross where a seed diverged, after which the mean lacks it.

    curve: arm, step, mean, low, high, n, diverged (`curves.by_step`).
    """
    arms = list(dict.fromkeys(curve["arm"]))
    looks_of = looks_of or looks(arms)
    for i, (arm, part) in enumerate(curve.groupby("arm", sort=False, observed=True)):
        look = looks_of[arm]
        every = max(1, len(part) // 6)
        first = i * every // len(arms)  # markers of arms that lie on one another do not
        ax.plot(
            part["step"],
            part["mean"],
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            markersize=4,
            markevery=slice(first, None, every),
            label=arm,
        )
        opacity = BAND if len(arms) <= 4 else BAND / 2
        ax.fill_between(part["step"], part["low"], part["high"], color=look.color, alpha=opacity, linewidth=0)
        ends = part[part["diverged"] > 0]
        ax.plot(ends["step"], ends["mean"], "x", color=look.color, markersize=7, markeredgewidth=1.8, zorder=4)
    ax.set_xlabel("training step")
    ax.margins(x=0.01)
    plain_axis(ax.xaxis)
    plain_axis(ax.yaxis)
    return ax


def shares(share: pd.DataFrame, ax: Axes, looks_of: Looks | None = None) -> Axes:
    """A point with its interval an arm and time bin, arms side by side.

    share: arm, bin, mean, low, high, in per cent.
    """
    arms = list(dict.fromkeys(share["arm"]))
    looks_of = looks_of or looks(arms)
    for i, (arm, part) in enumerate(share.groupby("arm", sort=False, observed=True)):
        look = looks_of[arm]
        ax.errorbar(
            part["bin"] + (i - (len(arms) - 1) / 2) * 0.6 / len(arms),
            part["mean"],
            yerr=[part["mean"] - part["low"], part["high"] - part["mean"]],
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            linewidth=0.8,
            elinewidth=1.2,
            markersize=4,
            label=arm,
        )
    ax.set_xticks(range(1, int(share["bin"].max()) + 1))
    plain_axis(ax.yaxis)
    return ax


def heat_map(grid: pd.DataFrame, ax: Axes, norm: Normalize | None = None) -> Axes:
    """Gradient norm by layer (up) and step (across) of one arm; grey: not trained, or a norm of 0.

    grid: place, step, mean, in the network's order (`curves.layer_grid`). `norm` maps norms to colours.
    """
    places, steps = list(dict.fromkeys(grid["place"])), np.sort(grid["step"].unique())
    table = grid.pivot(index="place", columns="step", values="mean").reindex(index=places, columns=steps)
    cells = np.ma.masked_invalid(table.to_numpy(float))
    mesh = ax.pcolormesh(
        edges(steps), np.arange(len(places) + 1) - 0.5, np.ma.masked_equal(cells, 0), norm=norm, cmap="cividis"
    )
    mesh.set_rasterized(True)
    ax.set_facecolor("#d0d0d0")
    ax.grid(False)
    ax.set_yticks(range(len(places)), places)
    for label in ax.get_yticklabels():
        literal(label)
    plain_axis(ax.xaxis)
    return ax


def edges(centres: np.ndarray) -> np.ndarray:
    """Borders halfway between centres, as far out at the ends as further in.

    >>> edges(np.array([10, 20, 30]))
    array([ 5., 15., 25., 35.])
    """
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def slopes(values: pd.DataFrame, ax: Axes, looks_of: Looks | None = None) -> Axes:
    """A thin line a seed through its value in each arm, and each arm's mean with its interval, arms downwards.

    values: arm, seed, value, mean, low, high (`curves.per_seed`). A seed's line breaks at an arm that lacks it.
    """
    arms = list(looks_of) if looks_of else list(dict.fromkeys(values["arm"]))
    looks_of = looks_of or looks(arms)
    rows = {arm: i for i, arm in enumerate(arms)}
    table = values.pivot(index="seed", columns="arm", values="value").reindex(columns=arms)
    for seed, line in table.iterrows():
        ax.plot(line.to_numpy(float), range(len(arms)), "-o", color=GREY, lw=0.8, ms=2.5, alpha=0.7, label=f"seed {seed}")
    for arm, part in values.drop_duplicates("arm").set_index("arm").iterrows():
        mean_with_interval(ax, part, rows[arm], looks_of[arm], arm)
    name_rows(ax, arms)
    return ax


def differences(values: pd.DataFrame, ax: Axes, looks_of: Looks | None = None, none: float = 0.0) -> Axes:
    """Each seed's difference as a dot, the mean and its interval below it, arms downwards; a line at `none`.

    values: treatment, seed, effect, mean, low, high (`curves.differences`). `none`: the effect that is none.
    """
    arms = list(looks_of) if looks_of else list(dict.fromkeys(values["treatment"]))
    looks_of = looks_of or looks(arms)
    ax.axvline(none, color=GREY, linewidth=1, zorder=1.5)
    for row, arm in enumerate(arms):
        part = values[values["treatment"] == arm]
        if len(part) == 0:
            continue
        height = row - 0.12 - 0.2 * spread(len(part))
        ax.plot(part["effect"], height, "o", color=looks_of[arm].color, ms=3.5, alpha=0.6, mew=0, label=arm)
        mean_with_interval(ax, part.iloc[0], row + 0.2, looks_of[arm], arm)
    name_rows(ax, arms)
    return ax


def spread(n: int) -> np.ndarray:
    """Heights 0 to 1 that keep dots of like value apart: the golden ratio's multiples, no two alike.

    >>> spread(3).round(2)
    array([0.  , 0.62, 0.24])
    """
    return np.arange(n) * 0.6180339887498949 % 1


def mean_with_interval(ax: Axes, part: pd.Series, row: float, look: Look, arm: str) -> None:
    ax.plot([part["low"], part["high"]], [row, row], color=look.color, linewidth=1.8, zorder=3, label=f"interval of {arm}")
    ax.plot(
        part["mean"], row, look.marker, color=look.color, ms=7, mec="white", mew=0.8, zorder=4, label=f"mean of {arm}"
    )


def name_rows(ax: Axes, names: list[str]) -> None:
    """Names at rows 0, 1, … from the top down."""
    ax.set_yticks(range(len(names)), [wrapped(name, 34) for name in names])
    for label in ax.get_yticklabels():
        literal(label)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    plain_axis(ax.xaxis)


def interaction(means: pd.DataFrame, ax: Axes, looks_of: Looks | None = None) -> Axes:
    """A line a level of one factor over the levels of another: parallel lines where the two do not interact.

    means: line, x, mean, low, high (`curves.interaction_means`), one panel.
    """
    lines, levels = list(dict.fromkeys(means["line"])), list(dict.fromkeys(means["x"]))
    looks_of = looks_of or looks(lines)
    place = {level: i for i, level in enumerate(levels)}
    for i, (line, part) in enumerate(means.groupby("line", sort=False)):
        look = looks_of[line]
        ax.errorbar(
            part["x"].map(place) + (i - (len(lines) - 1) / 2) * 0.06,
            part["mean"],
            yerr=[part["mean"] - part["low"], part["high"] - part["mean"]],
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            markersize=5,
            capsize=2,
            elinewidth=1,
            label=line,
        )
    ax.set_xticks(range(len(levels)), [wrapped(level, 14) for level in levels])
    for label in ax.get_xticklabels():
        literal(label)
    ax.set_xlim(-0.4, len(levels) - 0.6)
    ax.grid(axis="x", visible=False)
    plain_axis(ax.yaxis)
    return ax


def forest(claims: pd.DataFrame, ax: Axes, ratio: bool = False) -> Axes:
    """Each claim's effect with its plain interval (thick) and simultaneous one (thin), claims downwards.

    claims: id, statement, effect, low, high, simultaneous_low, simultaneous_high, smallest_effect, verdict, all
    on one scale. smallest_effect has the sign of what is claimed; the side on which an effect is as claimed is
    shaded. `ratio`: the effects are logarithms and are shown as ratios, on a log axis.
    """
    numbers = ["effect", "low", "high", "simultaneous_low", "simultaneous_high", "smallest_effect"]
    values = claims[numbers].astype(float)
    values = np.exp(values) if ratio else values
    ax.axvline(1.0 if ratio else 0.0, color=GREY, linewidth=1, zorder=1.5)
    for row, (claim, value) in enumerate(zip(claims.to_dict("records"), values.to_dict("records"), strict=True)):
        wide = [value["simultaneous_low"], value["simultaneous_high"]]
        ax.plot(wide, [row, row], "-|", color="black", linewidth=0.9, label=f"{claim['id']} simultaneous")
        ax.plot([value["low"], value["high"]], [row, row], color="#0072B2", linewidth=3.2, label=f"{claim['id']} plain", solid_capstyle="butt")
        ax.plot(value["effect"], row, "o", color="black", ms=5, mec="white", mew=0.8, zorder=4, label=claim["id"])
        ax.plot(value["smallest_effect"], row, "D", mfc="white", mec="#D55E00", ms=4.5, zorder=3, label=f"{claim['id']} s")
    if ratio:
        log_axis(ax.xaxis)
    low, high = ax.get_xlim()
    for row, (claimed, smallest) in enumerate(zip(claims["smallest_effect"], values["smallest_effect"], strict=True)):
        if not np.isnan(smallest):
            end = high if claimed > 0 else low
            ax.fill_betweenx([row - 0.35, row + 0.35], smallest, end, color="#D55E00", alpha=0.1, linewidth=0)
    ax.set_xlim(low, high)
    named = [f"{id_}  {statement}" for id_, statement in zip(claims["id"], claims["statement"], strict=True)]
    name_rows(ax, named)
    for row, verdict in enumerate(claims["verdict"]):
        place = {"xy": (1, row), "xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        literal(ax.annotate(verdict, xytext=(6, 0), va="center", fontsize=8, annotation_clip=False, **place))
    return ax
