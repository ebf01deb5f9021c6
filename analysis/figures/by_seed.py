"""Figures that compare runs seed by seed, and cells of a factorial: each run is one number."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import plots, series
from analysis.figures.by_step import named
from analysis.figures.data import Contents, NotDrawable, Records
from analysis.figures.panels import FEW, WIDE, WIDTH, used
from analysis.figures.style import add_legend, legend_for, line_styles, literal, log_axis, wrapped
from analysis.records.arms import levels


@dataclass(frozen=True)
class Quantity:
    """One number a run: its name, its axis, the axis of differences, whether these are ratios."""

    name: str
    label: str
    difference: str
    log: bool = False
    most: float = math.inf

    @property
    def words(self) -> str:
        return self.label.split(" (")[0]


TEST_ACCURACY = Quantity("test_accuracy", "test accuracy (%)", "test accuracy,\ndifference (points)", most=100)
MEAN_PROBE_LOSS = Quantity("mean_probe_loss", "mean probe loss (nats)", "mean probe loss,\nratio", log=True)
PROBE_JITTER = Quantity(
    "probe_jitter", "jitter of the probe loss (nats²)", "jitter of the probe loss,\nratio", log=True
)
QUANTITIES = (TEST_ACCURACY, MEAN_PROBE_LOSS, PROBE_JITTER)


def seeds(records: Records) -> Contents:
    """Slope graphs: one panel a quantity, a line a seed through all arms."""
    needs_two_arms(records)
    values = {q: series.per_seed(records.done, q.name, q.log) for q in QUANTITIES}
    values = {q: frame for q, frame in values.items() if frame["arm"].nunique() > 1}
    if not values:
        raise NotDrawable("fewer than two arms have a finished run with a test accuracy or a probe loss")
    figure, axes = rows_figure(records.arms, len(values))
    for ax, (quantity, frame) in zip(axes, values.items(), strict=True):
        plots.draw_slopes(frame, ax, records.line_styles)
        ax.set_xlabel(quantity.label)
        if quantity.log:
            log_axis(ax.xaxis)
        elif ax.get_xlim()[1] > quantity.most:
            ax.set_xlim(right=quantity.most + 0.02 * (quantity.most - ax.get_xlim()[0]))
    data = stacked(values)
    interval = " with its 95 % interval (Student's t, on the logarithm where the axis is logarithmic)"
    caption = (
        f"Each seed through all arms (grey); below it the arm's mean{interval if data['n'].max() > 1 else ''}. "
        f"{lacking(records, data, 'arm')}"
    )
    return caption, data, figure


def differences(records: Records) -> Contents:
    """Distribution of the per-seed differences of each arm from the study's first."""
    needs_two_arms(records)
    control, *treatments = records.arms
    pairs, unpaired = records.pairs
    done = records.done.set_index("run")
    values = {q: series.paired_differences(done[q.name], pairs, q.log) for q in QUANTITIES}
    values = {q: frame for q, frame in values.items() if len(frame) and frame["n"].max() > 1}
    if not values:
        raise NotDrawable("; ".join([f"no arm has two finished seeds that pair with {control}'s", *unpaired]))
    style_of = {arm: style for arm, style in records.line_styles.items() if arm != control}
    figure, axes = rows_figure(treatments, len(values))
    for ax, (quantity, frame) in zip(axes, values.items(), strict=True):
        plots.draw_differences(frame, ax, style_of, none=1.0 if quantity.log else 0.0)
        ax.set_xlabel(quantity.difference)
        if quantity.log:
            log_axis(ax.xaxis)
    data = stacked(values)
    caption = (
        f"Each arm against {control}: differences, or ratios, of the same seed (dots), and their mean with its 95 % "
        "interval (paired t, ratios on the logarithm; not adjusted for the number of comparisons). "
        f"{lacking(records, data, 'treatment')}"
    )
    if unpaired:
        caption += f" Not compared: {'; '.join(unpaired)}."
    return caption, data, figure


def needs_two_arms(records: Records) -> None:
    if len(records.arms) < 2:
        raise NotDrawable(f"one arm only ({', '.join(records.arms)}): there is nothing to compare it with")


def rows_figure(names: Sequence[str], columns: int) -> tuple[Figure, Sequence[Axes]]:
    """Panels side by side, a row a name, high enough for the name of most lines."""
    lines = max(wrapped(name, plots.ROW_NAME).count("\n") + 1 for name in names)
    height = 0.75 + max(0.42, 0.14 * lines + 0.1) * len(names)
    figure = Figure((WIDE if columns > 2 else WIDTH, height), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def stacked(values: Mapping[Quantity, pd.DataFrame]) -> pd.DataFrame:
    """quantity, then the frames' columns."""
    data = pd.concat([frame.assign(quantity=q.name) for q, frame in values.items()], ignore_index=True)
    return data[["quantity", *data.columns.drop("quantity")]]


def lacking(records: Records, data: pd.DataFrame, column: str) -> str:
    """n by arm, where these are few, the diverged by name, and the quantities that are not shown."""
    planned = records.study.runs["seed"].nunique()
    n = data.groupby(column, sort=False)["n"].min()
    if n.nunique() == 1:
        words = f"n = {n.iloc[0]}" + (f" of {planned}" if n.iloc[0] < planned else "")
        words += " seed: no interval can be given." if n.iloc[0] == 1 else " seeds."
    elif len(n) > FEW:
        words = f"n = {n.min()} to {n.max()} of {planned} seeds by arm."
    else:
        words = f"n of {planned} seeds: {', '.join(f'{arm} {count}' for arm, count in n.items())}."
    if len(records.diverged):
        words += f" Diverged, and not shown: {named(records.diverged)}."
    if absent := [q.words for q in QUANTITIES if q.name not in set(data["quantity"])]:
        words += f" Not shown, as too few runs have it: {', '.join(absent)}."
    return words


# --- Interactions ---


def interaction(quantity: Quantity) -> Callable[[Records], Contents]:
    """The figure of one quantity by two factors, in each setting of the others."""

    def draw(records: Records) -> Contents:
        arms = {arm: records.study.arms[arm] for arm in records.arms}
        repeats = {arm for arm, keys in arms.items() if keys["nuisance"] != arms[records.arms[0]]["nuisance"]}
        cells = levels({arm: keys for arm, keys in arms.items() if arm not in repeats})
        if cells.shape[1] < 2:
            raise NotDrawable(f"an interaction needs two factors that vary; here: {', '.join(cells.columns) or 'none'}")
        data = series.interaction_means(records.done, cells, quantity.name, quantity.log)
        if len(data) == 0:
            raise NotDrawable(f"no two factors are crossed in finished runs with the {quantity.words}")
        data.insert(0, "quantity", quantity.name)
        return interaction_words(quantity, data), data, interaction_figure(quantity, data)

    return draw


def interaction_words(quantity: Quantity, data: pd.DataFrame) -> str:
    x, line = data[["x_factor", "line_factor"]].iloc[0]
    n = f"{data['n'].min()} to {data['n'].max()}" if data["n"].nunique() > 1 else str(data["n"].iloc[0])
    return (
        f"{quantity.words[0].upper()}{quantity.words[1:]} by {x} and {line}: mean over seeds (n = {n}) with its 95 % "
        f"interval (Student's t{', on the logarithm' if quantity.log else ''}). Lines that are not parallel show an "
        "interaction. Cells share seeds, so the intervals say little of the differences between them."
    )


def interaction_figure(quantity: Quantity, data: pd.DataFrame) -> Figure:
    x, line = data[["x_factor", "line_factor"]].iloc[0]
    names = list(dict.fromkeys(data["panel"]))
    style_of = line_styles(data["line"])
    columns = min(len(names), 3)
    width = WIDE if columns > 2 else WIDTH
    rows = math.ceil(len(names) / columns)
    legend = legend_for({f"{line} {level}": style for level, style in style_of.items()}, width)
    figure = Figure((width, rows * 2.8 + legend.height), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for i, (ax, name) in enumerate(zip(used(grid, len(names)), names, strict=True)):
        plots.draw_interaction(data[data["panel"] == name], ax, style_of)
        literal(ax.set_title(wrapped(name, 90 // columns)))
        ax.set(xlabel=x, ylabel="" if i % columns else quantity.label)
        if quantity.log:
            log_axis(ax.yaxis)
    add_legend(figure, legend)
    return figure
