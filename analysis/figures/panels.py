"""Lay out curves by step as a figure: all arms in one panel, or one small panel per arm where there are many."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import plots
from analysis.figures.data import NotDrawable
from analysis.figures.style import (
    LineStyle,
    add_legend,
    legend_for,
    line_styles,
    literal,
    log_axis,
    moment,
    reference,
    wrapped,
)
from analysis.tables.numbers import plain_number

WIDTH, WIDE = 6.8, 9.0
"""Width of a usual and of a wide figure, in inches; the usual one fits a page's text."""

HEIGHT = 3.1
"""Height of a panel with its axis, in inches."""

FEW = 6
"""Most arms in one panel."""


@dataclass(frozen=True)
class Curve:
    """A quantity by step and its axis, which ends at `least` and `most` even where an interval extends further."""

    column: str
    label: str
    title: str = ""
    log: bool = False
    least: float = -math.inf
    most: float = math.inf
    x_label: str = "training step"


@dataclass(frozen=True)
class Panel:
    """A curve's numbers (`series.by_step`).

    mean_of   what each is the mean of, such as (5, "steps")
    run_ends  the last point of each run that failed: the columns of `data`, and run
    """

    curve: Curve
    data: pd.DataFrame
    mean_of: tuple[int, str] = (1, "steps")
    run_ends: pd.DataFrame | None = None

    @property
    def label(self) -> str:
        width, points = self.mean_of
        return self.curve.label + (f"\nmean of {width} {points}" if width > 1 else "")


@dataclass(frozen=True)
class Marks:
    """Thresholds and start steps to mark in every panel; a line has its name next to it where there is only one.

    levels: height of a horizontal line -> its name. starts: arm -> the first step T0 that it clips.
    """

    levels: Mapping[float, str] = field(default_factory=dict)
    starts: Mapping[str, float] = field(default_factory=dict)

    def draw(self, ax: Axes, arms: Iterable[str], name_levels: bool = True, name_starts: bool = True) -> None:
        for level, name in self.levels.items():
            reference(ax, level, name if name_levels and len(self.levels) == 1 else "")
        steps = {self.starts[arm] for arm in arms if arm in self.starts}
        for step in steps:
            moment(ax, step, f"T0 = {plain_number(step)}" if name_starts and len(steps) == 1 else "")

    @property
    def caption(self) -> str:
        """The sentences of a caption that explain the marks."""
        starts = sorted(set(self.starts.values()))
        levels = f"Horizontal line{plural(self.levels)}: threshold {', '.join(self.levels.values())}. "
        steps = f"Dotted line{plural(starts)}: clipping starts at step T0 = {', '.join(map(plain_number, starts))}. "
        return (levels if self.levels else "") + (steps if starts else "")


NO_MARKS = Marks()


def plural(items: Collection[object]) -> str:
    return "" if len(items) == 1 else "s"


def panel_data(panels: Sequence[Panel]) -> pd.DataFrame:
    """The numbers of all panels' curves, one below the other."""
    return pd.concat([panel.data for panel in panels], ignore_index=True)


def shown_numbers(panels: Sequence[Panel]) -> pd.DataFrame:
    """The numbers of all panels' curves, and below them those of the runs that are marked on their own."""
    ends = [panel.run_ends for panel in panels if panel.run_ends is not None and len(panel.run_ends)]
    return pd.concat([panel_data(panels), *ends], ignore_index=True)


def composed(
    style_of: Mapping[str, LineStyle],
    panels: Sequence[Panel],
    references: Mapping[str, str],
    failures: Mapping[str, str],
    marks: Marks = NO_MARKS,
) -> Figure:
    """A figure of panels with a common y axis, for few arms or many.

    references  as in `arm_by_arm`
    failures    arm -> how many of its runs failed, in words
    """
    limits = limits_of(panels, [*marks.levels])
    if len(style_of) <= FEW:
        return side_by_side(style_of, panels, limits, failures, marks)
    return arm_by_arm(style_of, panels, limits, references, failures, marks)


def side_by_side(
    style_of: Mapping[str, LineStyle],
    panels: Sequence[Panel],
    limits: tuple[float, float],
    failures: Mapping[str, str],
    marks: Marks = NO_MARKS,
) -> Figure:
    """A figure with all arms in each panel and a legend above."""
    legend = legend_for(with_failures(style_of, failures), WIDTH)
    figure = Figure((WIDTH, HEIGHT + legend.height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        draw_panel(panel, ax, style_of, limits)
        marks.draw(ax, style_of, name_levels=i == len(axes) - 1)
        ax.set_ylabel("" if i else panel.label)
        ax.set_title(panel.curve.title, pad=14 if marks.starts else None)
    add_legend(figure, legend)
    return figure


def arm_by_arm(
    style_of: Mapping[str, LineStyle],
    panels: Sequence[Panel],
    limits: tuple[float, float],
    references: Mapping[str, str],
    failures: Mapping[str, str],
    marks: Marks,
) -> Figure:
    """A figure with one small panel per arm: its one curve, with that of its reference in grey behind, or several."""
    several, columns = len(panels) > 1, 4
    behind = {} if several else {arm: other for arm, other in references.items() if {arm, other} <= set(style_of)}
    grey = {" / ".join(dict.fromkeys(behind.values())): LineStyle(plots.BEHIND, (), "")} if behind else {}
    kinds = line_styles(panel.curve.title for panel in panels) if several else grey
    legend = legend_for(kinds, WIDE) if kinds else None
    rows = math.ceil(len(style_of) / columns)
    figure = Figure((WIDE, rows * 1.6 + 0.4 + (legend.height if legend else 0)), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, (ax, arm) in enumerate(zip(used(grid, len(style_of)), style_of, strict=True)):
        if arm in behind:
            plots.draw_behind(panel_of_arm(panels[0], behind[arm]).data, ax)
        for panel in panels:
            draw_panel(
                panel_of_arm(panel, arm), ax, {arm: kinds[panel.curve.title] if several else style_of[arm]}, limits
            )
        marks.draw(ax, [arm], name_levels=i % columns == columns - 1, name_starts=False)
        ax.set(xlabel="", ylabel="")
        ax.tick_params(labelbottom=i + columns >= len(style_of))
        literal(ax.set_title(arm_title(arm, 30, failures), fontsize=8))
    figure.supxlabel(panels[0].curve.x_label, fontsize=9)
    figure.supylabel(panels[0].label, fontsize=9)
    if legend:
        add_legend(figure, legend)
    return figure


def arm_title(arm: str, width: int, failures: Mapping[str, str]) -> str:
    """An arm's name over its own panel, with how many of its runs failed below it."""
    return "\n".join([wrapped(arm, width), *filter(None, [failures.get(arm)])])


def with_failures(style_of: Mapping[str, LineStyle], failures: Mapping[str, str]) -> dict[str, LineStyle]:
    """The styles by the names of a legend: each arm's, with how many of its runs failed.

    >>> [*with_failures(line_styles(["none", "fixed"]), {"none": "2 of 5 did not learn"})]
    ['none (2 of 5 did not learn)', 'fixed']
    """
    return {f"{arm} ({failures[arm]})" if arm in failures else arm: style for arm, style in style_of.items()}


def panel_of_arm(panel: Panel, arm: str) -> Panel:
    """The panel with one arm's numbers only."""
    ends = None if panel.run_ends is None else panel.run_ends[panel.run_ends["arm"] == arm]
    return replace(panel, data=panel.data[panel.data["arm"] == arm], run_ends=ends)


def draw_panel(panel: Panel, ax: Axes, style_of: Mapping[str, LineStyle], limits: tuple[float, float]) -> None:
    plots.draw_curves(panel.data, ax, style_of)
    ax.set_ylabel(panel.label)
    if panel.curve.log:
        log_axis(ax.yaxis)
    ax.set_ylim(limits)
    if panel.run_ends is not None:
        plots.draw_run_ends(panel.run_ends, ax, style_of, limits)


def used(grid: np.ndarray, count: int) -> list[Axes]:
    """The first `count` axes of a grid, row by row; removes the others from the figure."""
    for ax in grid.flat[count:]:
        ax.remove()
    return list(grid.flat[:count])


def limits_of(panels: Sequence[Panel], also: Sequence[float] = ()) -> tuple[float, float]:
    """Ends of an axis that shows all means, the values in `also`, and as much of the bands as fits.

    The means keep at least half of the height: intervals of two seeds are so wide that the means would become a flat
    line. Raises NotDrawable where nothing fits a log axis.
    """
    curve, data = panels[0].curve, panel_data(panels)
    forward, back = (np.log, np.exp) if curve.log else (np.asarray, np.asarray)
    with np.errstate(divide="ignore"):
        means = forward(np.concatenate([data["mean"].to_numpy(float), np.asarray(also, float)]))
        bands = forward(data[["low", "high"]].to_numpy(float))
    means, bands = means[np.isfinite(means)], bands[np.isfinite(bands)]
    if len(means) == 0:
        raise NotDrawable(f"{curve.column} is always 0, which a log axis cannot show")
    low, high = means.min(), means.max()
    spare = 0.5 * (high - low) or 0.1 * (1 if curve.log else abs(high) or 1)
    low = max(low - spare, bands.min(initial=low), curve.least)
    high = min(high + spare, bands.max(initial=high), curve.most)
    margin = 0.04 * (high - low) or 0.04 * spare
    return float(back(low - margin)), float(back(high + margin))
