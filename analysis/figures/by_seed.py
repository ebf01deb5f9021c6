"""Figures that compare single numbers per run, seed by seed, and cells of a factorial."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import plots, series
from analysis.figures.by_step import named
from analysis.figures.data import PANELS, ROWS, Contents, NotDrawable, Records
from analysis.figures.panels import FEW, WIDE, WIDTH, used
from analysis.figures.style import LineStyle, add_legend, legend_for, line_styles, literal, log_axis, wrapped
from analysis.quantities.registry import REGISTRY, Quantity, of_kind, primary_quantity
from analysis.records.arms import levels


def seeds_figure(records: Records) -> Contents:
    """Slope graphs: one panel per quantity, one line per seed through all arms."""
    needs_two_arms(records)
    values = {
        q.name: series.per_seed(records.done, q.name, q.is_ratio, keeps_unlearned=False)
        for q in records.selected("in_figures")
    }
    values = {name: frame for name, frame in values.items() if frame["arm"].nunique() > 1}
    if not values:
        words = ", ".join(quantity.words for quantity in records.selected("in_figures"))
        raise NotDrawable(f"fewer than two arms have a finished run with any of: {words}")
    figure, axes, style_of = rows_figure(records, records.arms, len(values))
    for ax, (name, frame) in zip(axes, values.items(), strict=True):
        quantity = records.quantity(name)
        limits = axis_limits(frame["value"][frame["learned"]], quantity.is_ratio)
        plots.draw_slopes(frame, ax, style_of, limits)
        finish(ax, quantity.axis_label, quantity.is_ratio, limits)
    data = stacked_quantities(values)
    interval = " with its 95 % interval (Student's t, on the logarithm if the axis is logarithmic)"
    caption = (
        f"{records.shown}Each seed through all arms (grey); "
        f"below it the arm's mean{interval if data['n'].max() > 1 else ''}. "
        f"{apart_in_words(records, values, 'value')}{shown_and_missing(records, data, 'arm')}"
    )
    return caption, data, figure


def differences_figure(records: Records) -> Contents:
    """Distribution of the per-seed differences between each arm and the study's first arm."""
    needs_two_arms(records)
    control, *treatments = records.arms
    pairs, unpaired = records.pairs
    done = records.done.set_index("run")
    values = {
        q.name: series.paired_differences(done[q.name], pairs, q.is_ratio, done["learned"])
        for q in records.selected("in_figures")
    }
    values = {name: frame for name, frame in values.items() if len(frame) and frame["n"].max() > 1}
    if not values:
        raise NotDrawable("; ".join([f"no arm has two finished seeds that pair with {control}'s", *unpaired]))
    figure, axes, style_of = rows_figure(records, treatments, len(values))
    for ax, (name, frame) in zip(axes, values.items(), strict=True):
        quantity = records.quantity(name)
        none = 1.0 if quantity.is_ratio else 0.0
        limits = axis_limits(frame["effect"][frame["learned"]], quantity.is_ratio, none)
        plots.draw_differences(frame, ax, style_of, none, limits)
        finish(ax, quantity.difference_label, quantity.is_ratio, limits)
    data = stacked_quantities(values)
    caption = (
        f"{records.shown}Each arm compared with {control}: differences, or ratios, of the same seed (dots), "
        "and their mean with its 95 % interval (paired t, ratios on the logarithm; not adjusted for the number of "
        "comparisons). "
        f"{apart_in_words(records, values, 'effect')}{shown_and_missing(records, data, 'treatment')}"
    )
    if unpaired:
        caption += f" Not compared: {'; '.join(unpaired)}."
    return caption, data, figure


def axis_limits(values: pd.Series, log: bool, none: float | None = None) -> plots.Limits | None:
    """Ends of an axis for the values of the runs that learn; None where all of them are equal."""
    if len(values) == 0:
        return None
    low, high = series.fences(values, log)
    low, high = (min(low, none), max(high, none)) if none is not None else (low, high)
    return (low, high) if low < high else None


def finish(ax: Axes, label: str, log: bool, limits: plots.Limits | None) -> None:
    """Name a panel's axis and set its ends, with a margin for the marks at the edge."""
    ax.set_xlabel(label)
    if limits is not None:
        low, high = np.log(limits) if log else limits
        margin = 0.05 * (high - low)
        ends = low - margin, high + margin
        ax.set_xlim(*(np.exp(ends) if log else ends))
    if log:
        log_axis(ax.xaxis)


def apart_in_words(records: Records, values: Mapping[str, pd.DataFrame], column: str) -> str:
    """The sentences of a caption that explain the marks at the edge."""
    text = ""
    if any(not frame["learned"].all() for frame in values.values()):
        text += (
            "Crosses: runs that did not learn, which the means leave out; they are at the edge where their value is "
            "beyond it. "
        )
    far = [
        not plots.inside(frame[column][frame["learned"]], limits).all()
        for name, frame in values.items()
        if (limits := axis_limits(frame[column][frame["learned"]], REGISTRY[name].is_ratio)) is not None
    ]
    text += "Open marks at the edge: values beyond the axis. " if any(far) else ""
    groups, style_of = records.combinations
    return text + (records.combinations_in_words if 1 < len(style_of) < len(groups) else "")


def needs_two_arms(records: Records) -> None:
    if len(records.arms) < 2:
        raise NotDrawable(f"one arm only ({', '.join(records.arms)}): there is no other arm to compare it with")


def rows_figure(
    records: Records, arms: Sequence[str], columns: int
) -> tuple[Figure, Sequence[Axes], Mapping[str, LineStyle]]:
    """Panels side by side with one row per arm, high enough for the name with the most lines; and the arms' styles.

    Arms have the style of their combination of techniques, with a legend; or their own, where none shares one.
    """
    groups, style_of = records.combinations
    shared = 1 < len(style_of) < len(groups)
    width = WIDE if columns > 2 else WIDTH
    legend = legend_for(style_of, width) if shared else None
    lines = max(wrapped(name, plots.ROW_NAME).count("\n") + 1 for name in arms)
    height = 0.75 + max(0.42, 0.14 * lines + 0.1) * len(arms) + (legend.height if legend else 0)
    figure = Figure((width, height), layout="constrained")
    axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    if legend:
        add_legend(figure, legend)
    return figure, axes, {arm: style_of[groups[arm]] if shared else records.line_styles[arm] for arm in arms}


def stacked_quantities(values: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The frames one below the other: quantity, then their columns."""
    data = pd.concat([frame.assign(quantity=name) for name, frame in values.items()], ignore_index=True)
    return data[["quantity", *data.columns.drop("quantity")]]


def shown_and_missing(records: Records, data: pd.DataFrame, column: str) -> str:
    """n, by arm if it differs between few arms; diverged runs by name; quantities that are not shown."""
    planned = records.study.runs["seed"].nunique()
    n = data.groupby(column, sort=False)["n"].min()
    if n.nunique() == 1:
        words = f"n = {n.iloc[0]}" + (f" of {planned}" if n.iloc[0] < planned else "")
        words += " seed, so there is no interval." if n.iloc[0] == 1 else " seeds."
    elif len(n) > FEW:
        words = f"n = {n.min()} to {n.max()} of {planned} seeds by arm."
    else:
        words = f"n of {planned} seeds: {', '.join(f'{arm} {count}' for arm, count in n.items())}."
    if len(records.diverged):
        words += f" Diverged and not shown: {named(records.diverged)}."
    if absent := [q.words for q in records.selected("in_figures") if q.name not in set(data["quantity"])]:
        words += f" Not shown because too few runs have it: {', '.join(absent)}."
    return words


# --- Interactions ---


def interaction_of_primary(records: Records) -> Contents:
    return interaction_of(primary_quantity(records.study.primary))(records)


def interaction_of(claimed: Quantity) -> Callable[[Records], Contents]:
    """Makes the figure of one quantity by two factors, with a panel per setting of the others."""

    def draw(records: Records) -> Contents:
        quantity = of_kind(claimed, records.study.kind)
        arms = {arm: records.study.arms[arm] for arm in records.arms}
        repeats = {arm for arm, keys in arms.items() if keys["nuisance"] != arms[records.arms[0]]["nuisance"]}
        cells = levels({arm: keys for arm, keys in arms.items() if arm not in repeats})
        if cells.shape[1] < 2:
            raise NotDrawable(f"an interaction needs two factors that vary; here: {', '.join(cells.columns) or 'none'}")
        data = series.interaction_means(records.done, cells, quantity.name, quantity.is_ratio, quantity.keeps_unlearned)
        if len(data) == 0:
            raise NotDrawable(f"no two factors are crossed in the finished runs that have the {quantity.words}")
        for most, column, what in ((PANELS, "panel", "panels"), (ROWS, "line", "lines"), (ROWS, "x", "levels")):
            if (found := data[column].nunique()) > most:
                raise NotDrawable(f"a figure of two factors shows at most {most} {what}; these arms have {found}")
        data.insert(0, "quantity", quantity.name)
        return interaction_words(quantity, data), data, interaction_figure(quantity, data)

    return draw


def interaction_words(quantity: Quantity, data: pd.DataFrame) -> str:
    x, line = data[["x_factor", "line_factor"]].iloc[0]
    n = f"{data['n'].min()} to {data['n'].max()}" if data["n"].nunique() > 1 else str(data["n"].iloc[0])
    text = (
        f"{quantity.words[0].upper()}{quantity.words[1:]} by {x} and {line}: mean over seeds (n = {n}) with its 95 % "
        f"interval within seeds{' on the logarithm' if quantity.is_ratio else ''} (Morey 2008): the spread that all "
        "cells of a panel share is removed, so the intervals show differences between its cells, not the accuracy of "
        "a single one. If the distance between the marks differs from level to level, the factors interact. Lines "
        "join levels of one option in numeric order; other levels have no order."
    )
    if data["unlearned"].any():
        left = "" if quantity.keeps_unlearned else ", which the means leave out"
        text += f" Open marks: cells with runs that did not learn{left}."
    return text


def interaction_figure(quantity: Quantity, data: pd.DataFrame) -> Figure:
    x, line = data[["x_factor", "line_factor"]].iloc[0]
    names = list(dict.fromkeys(data["panel"]))
    style_of = line_styles(data["line"])
    levels = series.sorted_levels(data["x"])
    crowded = len(names) * len(levels) > 6
    columns = min(len(names), 2 if len(levels) > 4 else 3)
    width = WIDE if columns > 2 or crowded else WIDTH
    rows = math.ceil(len(names) / columns)
    legend = legend_for({f"{line} {level}": style for level, style in style_of.items()}, width)
    slanted = 0.6 if len(levels) > plots.SLANTED else 0
    figure = Figure((width, rows * (2.8 + slanted) + legend.height), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for i, (ax, name) in enumerate(zip(used(grid, len(names)), names, strict=True)):
        plots.draw_interaction(data[data["panel"] == name], ax, style_of, levels)
        literal(ax.set_title(wrapped(name, 90 // columns)))
        ax.set(xlabel=x, ylabel="" if i % columns else quantity.axis_label)
        if quantity.is_ratio:
            log_axis(ax.yaxis)
    add_legend(figure, legend)
    return figure
