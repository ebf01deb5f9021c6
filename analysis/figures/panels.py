"""Curves by step laid out as a figure: all arms in one panel, or, of many arms, a small panel for each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import plots
from analysis.figures.data import NotDrawable
from analysis.figures.style import Pen, add_key, key, literal, log_axis, moment, pens, reference, wrapped
from analysis.tables.numbers import plain_number

WIDTH, WIDE = 6.8, 9.0
"""Inches: a page's text from margin to margin, and what needs more."""

HEIGHT = 3.1
"""Inches of a panel with its axis."""

FEW = 6
"""Most arms that one panel takes."""


@dataclass(frozen=True)
class Curve:
    """A quantity by step and its axis. `least` and `most` end the axis, however far an interval reaches."""

    column: str
    label: str
    title: str = ""
    log: bool = False
    least: float = -math.inf
    most: float = math.inf
    x_label: str = "training step"


@dataclass(frozen=True)
class Panel:
    """A curve's numbers (`curves.by_step`), each the mean of so many recorded points: (5, "steps")."""

    curve: Curve
    data: pd.DataFrame
    mean_of: tuple[int, str] = (1, "steps")

    @property
    def label(self) -> str:
        width, points = self.mean_of
        return self.curve.label + (f"\nmean of {width} {points}" if width > 1 else "")


@dataclass(frozen=True)
class Marks:
    """Levels across all panels with their names, and arms' first clipped steps T0; named where there is only one."""

    levels: Mapping[float, str] = field(default_factory=dict)
    starts: Mapping[str, float] = field(default_factory=dict)

    def draw(self, ax: Axes, arms: Iterable[str], name_levels: bool = True, name_starts: bool = True) -> None:
        for level, name in self.levels.items():
            reference(ax, level, name if name_levels and len(self.levels) == 1 else "")
        steps = {self.starts[arm] for arm in arms if arm in self.starts}
        for step in steps:
            moment(ax, step, f"T0 = {plain_number(step)}" if name_starts and len(steps) == 1 else "")

    @property
    def words(self) -> str:
        starts = ", ".join(map(plain_number, sorted(set(self.starts.values()))))
        words = f"Horizontal line: {', '.join(self.levels.values())}. " if self.levels else ""
        return words + (f"Dotted line: T0 = {starts}. " if starts else "")


NO_MARKS = Marks()


def stacked(panels: Sequence[Panel]) -> pd.DataFrame:
    return pd.concat([panel.data for panel in panels], ignore_index=True)


def composed(pen_of: Mapping[str, Pen], panels: Sequence[Panel], marks: Marks = NO_MARKS) -> Figure:
    """Panels that have one and the same y axis, for few arms or many."""
    layout = side_by_side if len(pen_of) <= FEW else arm_by_arm
    return layout(pen_of, panels, limits_of(panels, [*marks.levels]), marks)


def side_by_side(
    pen_of: Mapping[str, Pen], panels: Sequence[Panel], limits: tuple[float, float], marks: Marks = NO_MARKS
) -> Figure:
    """All arms in each panel, under a legend."""
    legend = key(pen_of, WIDTH)
    figure = Figure((WIDTH, HEIGHT + legend.height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        draw(panel, ax, pen_of, limits)
        marks.draw(ax, pen_of, name_levels=i == len(axes) - 1)
        ax.set_ylabel("" if i else panel.label)
        ax.set_title(panel.curve.title, pad=14 if marks.starts else None)
    add_key(figure, legend)
    return figure


def arm_by_arm(pen_of: Mapping[str, Pen], panels: Sequence[Panel], limits: tuple[float, float], marks: Marks) -> Figure:
    """A small panel an arm: its one curve, with the first arm's in grey behind it; or its several curves."""
    first, several, columns = next(iter(pen_of)), len(panels) > 1, 4
    kinds = pens(panel.curve.title for panel in panels) if several else {first: Pen(plots.BEHIND, (), "")}
    legend = key(kinds, WIDE)
    rows = math.ceil(len(pen_of) / columns)
    figure = Figure((WIDE, rows * 1.6 + 0.4 + legend.height), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, (ax, arm) in enumerate(zip(used(grid, len(pen_of)), pen_of, strict=True)):
        if i and not several:
            plots.behind(of_arm(panels[0], first).data, ax)
        for panel in panels:
            draw(of_arm(panel, arm), ax, {arm: kinds[panel.curve.title] if several else pen_of[arm]}, limits)
        marks.draw(ax, [arm], name_levels=i % columns == columns - 1, name_starts=False)
        ax.set(xlabel="", ylabel="")
        ax.tick_params(labelbottom=i + columns >= len(pen_of))
        literal(ax.set_title(wrapped(arm, 30), fontsize=8))
    figure.supxlabel(panels[0].curve.x_label, fontsize=9)
    figure.supylabel(panels[0].label, fontsize=9)
    add_key(figure, legend)
    return figure


def of_arm(panel: Panel, arm: str) -> Panel:
    return replace(panel, data=panel.data[panel.data["arm"] == arm])


def draw(panel: Panel, ax: Axes, pen_of: Mapping[str, Pen], limits: tuple[float, float]) -> None:
    plots.curves(panel.data, ax, pen_of)
    ax.set_ylabel(panel.label)
    if panel.curve.log:
        log_axis(ax.yaxis)
    ax.set_ylim(limits)


def used(grid: np.ndarray, count: int) -> list[Axes]:
    """The first `count` axes of a grid, row by row; the others are removed."""
    for ax in grid.flat[count:]:
        ax.remove()
    return list(grid.flat[:count])


def limits_of(panels: Sequence[Panel], also: Sequence[float] = ()) -> tuple[float, float]:
    """Ends of an axis: all means and `also`, and of the bands as much as leaves these half of the height or more.

    Intervals of two seeds are so wide that the means beside them would be one flat line.
    """
    curve, data = panels[0].curve, stacked(panels)
    forward, back = (np.log, np.exp) if curve.log else (np.asarray, np.asarray)
    with np.errstate(divide="ignore"):
        means = forward(np.concatenate([data["mean"].to_numpy(float), np.asarray(also, float)]))
        bands = forward(data[["low", "high"]].to_numpy(float))
    means, bands = means[np.isfinite(means)], bands[np.isfinite(bands)]
    if len(means) == 0:
        raise NotDrawable(f"{curve.column} is 0 throughout, which has no place on a log axis")
    low, high = means.min(), means.max()
    spare = 0.5 * (high - low) or 0.1 * (1 if curve.log else abs(high) or 1)
    low = max(low - spare, bands.min(initial=low), curve.least)
    high = min(high + spare, bands.max(initial=high), curve.most)
    margin = 0.04 * (high - low) or 0.04 * spare
    return float(back(low - margin)), float(back(high + margin))
