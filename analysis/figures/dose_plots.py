"""Draw values against the levels of a factor, a dose or a learning rate."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from ablate.config.wording import printable
from analysis.figures.interval_marks import LineStyles, draw_intervals
from analysis.figures.style import line_styles, literal, plain_axis, wrapped

SLANTED = 5
"""Most levels of an axis whose names are horizontal."""

DOSES = 7
"""Most families of arms in one figure of dose and response."""


def draw_interaction(
    means: pd.DataFrame, ax: Axes, style_of: LineStyles | None = None, levels: Sequence[str] | None = None
) -> Axes:
    """Draw the means of one factor's levels over those of another, side by side.

    means: line, x, mean, low, high and, where runs may have failed, unlearned (`series.interaction_means`), one panel.
    Neighbouring levels of one option with different numbers are joined; other levels have no order and are not. The
    mark of a cell with runs that did not learn is open. `levels`: those of the axis.
    """
    lines, levels = list(dict.fromkeys(means["line"])), list(levels or dict.fromkeys(means["x"]))
    style_of = style_of or line_styles(lines)
    place = {level: i for i, level in enumerate(levels)}
    offset = {line: (i - (len(style_of) - 1) / 2) * min(0.16, 0.7 / len(style_of)) for i, line in enumerate(style_of)}
    for line, part in means.groupby("line", sort=False):
        x = part["x"].map(place) + offset[line]
        draw_intervals(ax, x, part, style_of[line], False, markersize=5, capsize=2, elinewidth=1, label=line)
        option = part["x"].str.partition("[")[0].where(part["x"].str.contains("[", regex=False), part["x"])
        for _, group in part.groupby(option, sort=False):
            ax.plot(x[group.index], group["mean"], color=style_of[line].color, linestyle=style_of[line].linestyle, lw=1)
        failed = part.get("unlearned", pd.Series(0, index=part.index)) > 0
        look = {"mfc": "white", "mec": style_of[line].color, "ms": 5, "zorder": 4}
        ax.plot(x[failed], part["mean"][failed], style_of[line].marker, label="not all learned", **look)
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(levels) > SLANTED else {}
    names = [printable(level) if slanted else wrapped(level, 14) for level in levels]
    ax.set_xticks(range(len(levels)), names, **slanted)
    literal(*ax.get_xticklabels())
    ax.set_xlim(-0.5, len(levels) - 0.5)
    ax.grid(axis="x", visible=False)
    plain_axis(ax.yaxis)
    return ax


def draw_doses(values: pd.DataFrame, ax: Axes, style_of: LineStyles, log: bool = False, dots: bool = True) -> Axes:
    """Draw per family one dot per seed, a cross for a run that did not learn, and the means with their intervals.

    values: family, dose, place (on the x axis), arm, value, learned, mean, low, high. Means of numeric doses are
    joined; references (dose NaN) are not. Families are side by side; with `log` along a logarithmic axis.
    """
    count = len(style_of)
    for i, (family, style) in enumerate(style_of.items()):
        part = values[values["family"] == family]
        aside = (i - (count - 1) / 2) * (0.16 if count < 4 else 0.5 / count)
        place = part["place"] * 10 ** (aside / 4) if log else part["place"] + aside
        for learned, mark in (
            (True, {"marker": "o", "ms": 2.8, "mew": 0}),
            (False, {"marker": "x", "ms": 4, "mew": 0.9}),
        ):
            some = dots & (part["learned"] == learned)
            ax.plot(place[some], part["value"][some], color=style.color, linestyle="", alpha=0.45, **mark)
        means = part.assign(place=place).drop_duplicates("arm").dropna(subset=["mean"])
        for joined in (True, False):
            some = means[means["dose"].notna() == joined].sort_values("place")
            if len(some):
                draw_intervals(
                    ax, some["place"], some, style, joined, markersize=5.5, capsize=2, elinewidth=1, label=family
                )
    plain_axis(ax.yaxis)
    ax.grid(axis="x", visible=False)
    return ax


def draw_scatter(values: pd.DataFrame, ax: Axes, style_of: LineStyles) -> Axes:
    """Draw each run's value against its rate, a cross where it did not learn, and each arm's mean with its interval.

    values: group, arm, rate, shown (the value, or the edge of the axis), learned, mean, low, high; `style_of`: group ->
    style. Groups are side by side.
    """
    for i, (group, style) in enumerate(style_of.items()):
        part = values[values["group"] == group]
        part = part.assign(rate=part["rate"] * 10 ** (0.022 * (i - (len(style_of) - 1) / 2)))
        for learned, mark in (
            (True, {"marker": "o", "ms": 2.5, "mew": 0}),
            (False, {"marker": "x", "ms": 4, "mew": 0.9}),
        ):
            some = part[part["learned"] == learned]
            ax.plot(some["rate"], some["shown"], color=style.color, linestyle="", alpha=0.35, **mark)
        means = part.drop_duplicates("arm").dropna(subset=["mean"])
        if len(means):
            draw_intervals(
                ax, means["rate"], means, style, False, markersize=6, elinewidth=0.9, mec="white", label=group
            )
    return ax
