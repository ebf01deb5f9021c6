"""Figures of predictions: confusion matrix, calibration curve, and predicted against true numbers."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ablate.config.wording import printable
from ablate.metrics import CALIBRATION_BINS
from analysis.figures import series
from analysis.figures.curve_plots import HEAT
from analysis.figures.data import Contents, NotDrawable, Records
from analysis.figures.panels import FEW, WIDE, WIDTH, arm_title, used
from analysis.figures.style import GREY, add_legend, legend_for, literal, plain_axis, wrapped
from analysis.quantities.by_class import calibrations, confusions, pairs_of_numbers

MOST_IN_MATRIX = 20
"""Most classes of a confusion matrix."""

WRITTEN = 8
"""Most classes for which the cells have their numbers written in."""

FEWEST = 1.0
"""Least share of the predictions in a bin of confidence that is drawn, in per cent."""

POINTS = 3000
"""Most points of a scatter plot."""


def confusion(records: Records) -> Contents:
    """One matrix per arm, of at most FEW arms."""
    records = records.most_different(FEW)
    data = confusions(records.study, records.arms)
    if data.empty:
        raise NotDrawable("no finished run recorded predictions")
    of_arms = data.groupby("arm", sort=False)["label"].agg(lambda names: tuple(dict.fromkeys(names)))
    if (number := max(map(len, of_arms))) > MOST_IN_MATRIX:
        raise NotDrawable(f"a confusion matrix shows at most {MOST_IN_MATRIX} classes; there are {number}")
    arms = [arm for arm in records.arms if arm in set(data["arm"])]
    side = min(max(0.42 * number, 1.6), 4.2)
    columns = min(len(arms), 3 if side < 2.8 else 2)
    rows = math.ceil(len(arms) / columns)
    figure = Figure((min(WIDE, max(4.0, columns * (side + 1.1))), rows * (side + 0.6) + 0.9), layout="constrained")
    grid = used(figure.subplots(rows, columns, sharey=of_arms.nunique() == 1, squeeze=False), len(arms))
    for i, (ax, arm) in enumerate(zip(grid, arms, strict=True)):
        draw_confusion(data[data["arm"] == arm], ax)
        literal(ax.set_title(arm_title(arm, 36, records.failures), fontsize=8))
        ax.set(xlabel="predicted", ylabel="" if i % columns else "label")
    where = {"location": "top", "shrink": 0.5, "aspect": 40, "pad": 0.1 / figure.get_figheight()}
    figure.colorbar(ScalarMappable(Normalize(0, 100), HEAT), ax=grid, label="share of the label's units (%)", **where)
    units = "words" if records.study.kind == "token_classification" else "examples"
    caption = (
        f"Confusion matrix of the test split: of the {units} with the label of a row, the share in per cent that is "
        f"predicted as each class; all finished seeds together ({n_of_seeds(data)}). A row adds up to 100; the "
        f"diagonal is right. {records.shown}"
    )
    return caption.rstrip(), data, figure


def draw_confusion(cells: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one arm's matrix: label, prediction, share in per cent; NaN for a label without a unit."""
    names = list(dict.fromkeys(cells["label"]))
    table = cells.pivot(index="label", columns="prediction", values="share").loc[names, names].to_numpy(float)
    ax.imshow(np.ma.masked_invalid(table), cmap=HEAT, norm=Normalize(0, 100), aspect="equal")
    ax.grid(False)
    shown = [wrapped(printable(name), 14) for name in names]
    ax.set_xticks(range(len(names)), shown, rotation=45 if max(map(len, names)) > 3 else 0, ha="right")
    ax.set_yticks(range(len(names)), shown)
    literal(*ax.get_xticklabels(), *ax.get_yticklabels())
    for i, j in np.argwhere(np.isfinite(table)) if len(names) <= WRITTEN else ():
        ax.text(
            j,
            i,
            f"{table[i, j]:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if table[i, j] < 60 else "black",
        )
    return ax


def calibration(records: Records) -> Contents:
    """Share of right predictions by confidence, a line per arm, of at most FEW arms."""
    records = records.most_different(FEW)
    found = calibrations(records.study, records.arms)
    if found.empty:
        raise NotDrawable("no finished run recorded probabilities")
    data = series.over_seeds(found, ["arm", "bin"], "right")
    means = found.groupby(["arm", "bin"], sort=False)[["confidence", "units"]].mean().reset_index()
    data = data.merge(means, on=["arm", "bin"])
    order = {arm: i for i, arm in enumerate(records.arms)}
    data = data.sort_values("bin").sort_values("arm", key=lambda arms: arms.map(order), kind="stable")
    style_of = {arm: style for arm, style in records.line_styles.items() if arm in set(data["arm"])}
    legend = legend_for(style_of, WIDTH)
    figure = Figure((WIDTH, 4.4 + legend.height), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 100], [0, 100], color=GREY, linewidth=1, zorder=1.5)
    drawn = data[data["units"] >= FEWEST]
    for arm, part in drawn.groupby("arm", sort=False, observed=True):
        style = style_of[arm]
        look = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "markersize": 4.5}
        above.plot(part["confidence"], part["mean"], label=arm, **look)
        below.plot(part["confidence"], part["units"], **look)
    low = max(0.0, 10 * math.floor(drawn["confidence"].min() / 10))
    above.set(ylabel="right predictions (%)", xlim=(low, 101), ylim=(max(0.0, drawn["mean"].min() - 5), 101))
    below.set(xlabel="confidence: probability of the prediction (%)", ylabel="share of all\npredictions (%)")
    below.set_ylim(bottom=0)
    for axis in (below.xaxis, above.yaxis, below.yaxis):
        plain_axis(axis)
    add_legend(figure, legend)
    caption = (
        f"Calibration on the test split: share of right predictions against their confidence, in {CALIBRATION_BINS} "
        "bins of confidence, and below it the share of all predictions in each bin; means over the finished seeds "
        f"(n = {counted_seeds(found)}). On the grey diagonal a model is right as often as its probabilities say; below "
        f"it, it is too sure of itself. Bins with less than {FEWEST:g} % of the predictions are not drawn. The mean "
        "distance from the diagonal over all predictions is the expected calibration error. "
        f"{records.shown}"
    )
    return caption.rstrip(), data, figure


def predicted_against_true(records: Records) -> Contents:
    """A scatter plot per arm, of at most FEW arms: regression."""
    records = records.most_different(FEW)
    data = pairs_of_numbers(records.study, records.arms)
    if data.empty:
        raise NotDrawable("no finished run recorded predictions")
    arms = [arm for arm in records.arms if arm in set(data["arm"])]
    columns = min(len(arms), 3)
    rows = math.ceil(len(arms) / columns)
    figure = Figure((WIDE if columns > 2 else WIDTH, rows * 2.9), layout="constrained")
    grid = used(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False), len(arms))
    ends = data["label"].min(), data["label"].max()
    for i, (ax, arm) in enumerate(zip(grid, arms, strict=True)):
        part = data[data["arm"] == arm]
        part = part.sample(POINTS, random_state=0) if len(part) > POINTS else part
        color = records.line_styles[arm].color
        ax.plot(ends, ends, color=GREY, linewidth=1, zorder=1.5)
        ax.plot(part["label"], part["prediction"], ".", ms=4, alpha=0.5, mew=0, color=color, rasterized=True)
        literal(ax.set_title(arm_title(arm, 36, records.failures), fontsize=8))
        ax.set(xlabel="label", ylabel="" if i % columns else "prediction")
        plain_axis(ax.xaxis)
        plain_axis(ax.yaxis)
    caption = (
        f"Prediction against label of each test example, mean over the finished seeds ({n_of_seeds(data)}). On the "
        "grey diagonal a prediction is exact; a cloud flatter than it predicts numbers too close to the mean. "
        f"{records.shown}"
    )
    return caption.rstrip(), data, figure


def counted_seeds(data: pd.DataFrame) -> str:
    """The number of seeds per arm.

    >>> counted_seeds(pd.DataFrame({"arm": ["a", "a", "b"], "seed": [0, 1, 0]}))
    '1 to 2'
    """
    return n_of_seeds(data.groupby("arm")["seed"].nunique().to_frame("seeds")).removeprefix("n = ")


def n_of_seeds(data: pd.DataFrame) -> str:
    """
    >>> n_of_seeds(pd.DataFrame({"seeds": [3, 3]})), n_of_seeds(pd.DataFrame({"seeds": [2, 3]}))
    ('n = 3', 'n = 2 to 3')
    """
    low, high = int(data["seeds"].min()), int(data["seeds"].max())
    return f"n = {high}" if low == high else f"n = {low} to {high}"
