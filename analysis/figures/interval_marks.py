"""Draw means with their intervals, and the names of rows: the marks that several kinds of plots share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import LineStyle, literal, plain_axis, wrapped

ROW_NAME = 36
"""Characters per line of a row's name."""

LineStyles = Mapping[str, LineStyle]

Limits = tuple[float, float]
"""Ends of an axis; values beyond them are drawn at the nearer end, with open marks."""


def draw_mean(ax: Axes, part: pd.Series, row: float, style: LineStyle, arm: str, limits: Limits | None = None) -> None:
    """Draw an arm's mean with its interval; a mean beyond the limits as an open mark at the edge."""
    mean, low, high = (float(part[name]) for name in ("mean", "low", "high"))
    at = float(np.clip(mean, *limits)) if limits else mean
    ends = np.clip([low, high], *limits) if limits else [low, high]
    ax.plot(ends, [row, row], color=style.color, linewidth=1.8, zorder=3, label=f"interval of {arm}")
    edges = {"mec": "white", "mew": 0.8} if at == mean or np.isnan(mean) else {"mfc": "white", "mew": 1.4}
    ax.plot(at, row, style.marker, color=style.color, ms=7, zorder=4, label=f"mean of {arm}", **edges)


def draw_intervals(
    ax: Axes, x: pd.Series, part: pd.DataFrame, style: LineStyle, joined: bool = True, **look: Any
) -> None:
    """Draw means with their intervals at `x` (part: mean, low, high) in an arm's style, joined by a line or not."""
    ax.errorbar(
        x,
        part["mean"],
        yerr=[part["mean"] - part["low"], part["high"] - part["mean"]],
        color=style.color,
        linestyle=style.linestyle if joined else "",
        marker=style.marker,
        **look,
    )


def name_rows(ax: Axes, names: list[str]) -> None:
    """Write names at rows 0, 1, … from the top down."""
    ax.set_yticks(range(len(names)), [wrapped(name, ROW_NAME) for name in names])
    literal(*ax.get_yticklabels())
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    plain_axis(ax.xaxis)
