"""Figures of a quantity against a number: the learning rate, any other numeric setting, the mean rate of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.claims.pairing import rest_of
from analysis.figures import plots, series
from analysis.figures.by_step import named
from analysis.figures.data import CAPPED_LOSS, Contents, NotDrawable, Records
from analysis.figures.panels import WIDE
from analysis.figures.style import add_legend, legend_for, line_styles, literal, log_axis, wrapped
from analysis.quantities.registry import Quantity
from analysis.records.arms import canonical, labels
from analysis.stats.effects import exact_rate
from analysis.tables.numbers import plain_number

LEARNING_RATE = "optimizer.lr"
LEARNED = "learned"
JITTER = "probe_jitter"


def by_rate(primary: str) -> tuple[str, ...]:
    return CAPPED_LOSS, f"test_{primary}", LEARNED


def by_setting(primary: str) -> tuple[str, ...]:
    return JITTER, "mean_probe_loss", f"test_{primary}"


MOST_SETTINGS = 3
"""Most settings in one figure of dose and response."""

LEAST = 3
"""Fewest values of a setting whose response is drawn."""

ROW_HEIGHT = 2.7
"""Height of a row of panels, in inches."""


@dataclass(frozen=True)
class Family:
    """Arms that are alike but for one numeric setting: its values, increasing, and the arm of each.

    others: name of another option of the setting's factor -> the arm that has it and is alike in all other factors
    """

    name: str
    arms: Mapping[float, str]
    others: Mapping[str, str]


def families(records: Records, key: str, least: int) -> list[Family]:
    """The families of a setting with at least `least` values, in the study's order."""
    arms = {label: records.study.arms[label] for label in records.arms}
    groups: dict[str, dict[float, str]] = {}
    for label, arm in arms.items():
        if is_number(arm.get(key)):
            groups.setdefault(canonical(rest_of(arm, [key])), {})[float(arm[key])] = label
    found = [dict(sorted(group.items())) for group in groups.values() if len(group) >= least]
    if not found:
        return []
    factor = key.partition(".")[0]
    names = labels([rest_of(arms[next(iter(group.values()))], [key]) for group in found])
    return [Family(name, group, other_options(arms, group, factor)) for name, group in zip(names, found, strict=True)]


def other_options(arms: Mapping[str, Mapping[str, object]], group: Mapping[float, str], factor: str) -> dict[str, str]:
    """The arms that differ from a family in the option of its factor alone, by that option; the first of each."""
    own = arms[next(iter(group.values()))]
    rest = canonical(rest_of(own, [factor]))
    alike = [label for label, arm in arms.items() if canonical(rest_of(arm, [factor])) == rest]
    found: dict[str, str] = {}
    for label in alike:
        option = str(arms[label][factor])
        if option != own[factor]:
            found.setdefault(option, label)
    return found


def is_number(value: object) -> bool:
    """
    >>> is_number(50), is_number(1e-4), is_number(True), is_number("50"), is_number(None)
    (True, True, False, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numeric_settings(records: Records) -> list[str]:
    """Settings of factors that take LEAST or more values in otherwise equal arms; those with the most arms first.

    The learning rate has a figure of its own.
    """
    keys = {key for label in records.arms for key, value in records.study.arms[label].items() if is_number(value)}
    sizes = {
        key: sum(len(family.arms) for family in families(records, key, LEAST)) for key in sorted(keys) if "." in key
    }
    return sorted((key for key, size in sizes.items() if size and key != LEARNING_RATE), key=lambda key: -sizes[key])


# --- Numbers ---


def dose_data(records: Records, found: Sequence[Family], quantities: Sequence[str]) -> pd.DataFrame:
    """One row per run and quantity: quantity, family, level, dose, arm, seed, value, learned, mean, low, high, n.

    dose is NaN for the other options, which come first. The mean is over all runs for quantities of how well a run
    does (losses, the primary metric), else over the runs that learn. A share that learns has its exact interval.
    """
    frames = []
    for name in quantities:
        values = of_runs(records, records.quantity(name))
        for family in found:
            cells = [(option, np.nan, arm) for option, arm in family.others.items()]
            cells += [(plain_number(dose), dose, arm) for dose, arm in family.arms.items()]
            frames += [
                values[values["arm"] == arm].assign(quantity=name, family=family.name, level=level, dose=dose)
                for level, dose, arm in cells
            ]
    columns = ["quantity", "family", "level", "dose", "arm", "seed", "value", "learned", "mean", "low", "high", "n"]
    return pd.concat(frames, ignore_index=True)[columns]


def of_runs(records: Records, quantity: Quantity) -> pd.DataFrame:
    """arm, seed, value, learned of each run, and its arm's mean, low, high, n."""
    if quantity.name == LEARNED:
        values = records.scored[["arm", "seed", "learned"]].assign(value=records.scored["learned"].astype(float))
        counts = values.groupby("arm", sort=False)["learned"].agg(["sum", "size"])
        rates = [exact_rate(int(count), int(n)) for count, n in zip(counts["sum"], counts["size"], strict=True)]
        means = pd.DataFrame(
            [(rate.count / rate.n, rate.interval.low, rate.interval.high, rate.n) for rate in rates],
            columns=["mean", "low", "high", "n"],
            index=counts.index,
        )
        return values.merge(means.reset_index(), on="arm")
    return series.per_seed(records.scored, quantity.name, quantity.is_ratio, quantity.keeps_unlearned)


# --- Figures ---


def by_learning_rate(records: Records) -> Contents:
    """Capped test loss, primary metric and share of runs that learn against the learning rate, per family of arms."""
    found = families(records, LEARNING_RATE, least=2)
    if not found:
        raise NotDrawable(f"no arms differ only in {LEARNING_RATE}")
    found = found[: plots.DOSES]
    names = by_rate(records.study.primary)
    data = dose_data(records, [Family(f.name, f.arms, {}) for f in found], names)
    style_of = line_styles(family.name for family in found)
    legend = legend_for(style_of, WIDE)
    figure = Figure((WIDE, ROW_HEIGHT + legend.height), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names)), names, strict=True):
        part = data[data["quantity"] == name]
        plots.draw_doses(part.assign(place=part["dose"]), ax, style_of, log=True, dots=name != LEARNED)
        ax.set_xlabel("learning rate (log axis)")
        ax.set_ylabel(wrapped(records.quantity(name).axis_label, 36))
        log_axis(ax.xaxis)
        if records.quantity(name).is_ratio:
            log_axis(ax.yaxis)
    add_legend(figure, legend)
    caption = (
        f"Test loss, {records.quantity(names[1]).words} and share of runs that learn against the learning rate, for "
        "arms that are alike but for it. Small dots: seeds; crosses: runs that did not learn. Lines: mean over all "
        "runs (the loss: geometric mean) with its 95 % interval (Student's t; shares: exact). "
        + seeds_per_mean(data)
        + not_shown(records)
    )
    return caption.rstrip(), data, figure


def dose_response(records: Records) -> Contents:
    """Jitter, mean probe loss and primary metric against each numeric setting; the other options are references."""
    keys = numeric_settings(records)
    if not keys:
        raise NotDrawable(f"no setting takes {LEAST} or more values in arms that are otherwise alike")
    shown, left = keys[:MOST_SETTINGS], keys[MOST_SETTINGS:]
    quantities = by_setting(records.study.primary)
    parts = {key: dose_data(records, families(records, key, LEAST)[: plots.DOSES], quantities) for key in shown}
    parts = {key: part[part["value"].notna()] for key, part in parts.items()}
    names = list(dict.fromkeys(name for part in parts.values() for name in part["family"]))
    style_of = line_styles(names)
    legend = legend_for(style_of, WIDE)
    figure = Figure((WIDE, ROW_HEIGHT * len(shown) + legend.height), layout="constrained")
    grid = figure.subplots(len(shown), len(quantities), squeeze=False)
    for row, (key, part) in zip(grid, parts.items(), strict=True):
        for ax, name in zip(row, quantities, strict=True):
            of_quantity = part[part["quantity"] == name]
            if len(of_quantity) == 0:
                ax.remove()
                continue
            levels = in_numeric_order(part)
            place = of_quantity["level"].map({level: i for i, level in enumerate(levels)})
            plots.draw_doses(of_quantity.assign(place=place), ax, style_of)
            ax.set_xticks(range(len(levels)), [wrapped(level, 9) for level in levels])
            literal(*ax.get_xticklabels())
            ax.set_xlim(-0.5, len(levels) - 0.5)
            ax.set_xlabel(key)
            ax.set_ylabel(records.quantity(name).axis_label)
            if records.quantity(name).is_ratio:
                log_axis(ax.yaxis)
    add_legend(figure, legend)
    data = pd.concat([part.assign(setting=key) for key, part in parts.items()], ignore_index=True)
    caption = (
        f"Response to {', '.join(shown)}, for arms that are alike but for it: seeds (small dots; crosses: runs that "
        "did not learn, which the mean of the jitter leaves out), and their mean with its 95 % interval (Student's t, "
        "on the logarithm if the axis is logarithmic). The values are in numeric order and evenly spaced; left of "
        "them, not joined, other options of the same factor. " + seeds_per_mean(data)
    )
    if left:
        caption += f"Not shown: {', '.join(left)}. "
    return (caption + not_shown(records)).rstrip(), data[["setting", *data.columns.drop("setting")]], figure


def in_numeric_order(part: pd.DataFrame) -> list[str]:
    """The levels: other options first, as they come, then the values of the setting, increasing."""
    one_each = part.drop_duplicates("level")
    others = list(one_each["level"][one_each["dose"].isna()])
    return others + list(one_each.dropna(subset=["dose"]).sort_values("dose")["level"])


def jitter_by_rate(records: Records) -> Contents:
    """Jitter of the probe loss against the mean learning rate of the run: one dot per run, a panel per optimizer."""
    values = of_runs(records, records.quantity(JITTER))
    rates = records.rates.groupby("arm", sort=False, observed=True)["lr"].mean()
    optimizer = {arm: str(records.study.arms[arm].get("optimizer", "")) for arm in records.arms}
    data = values.assign(rate=values["arm"].map(rates), optimizer=values["arm"].map(optimizer))
    data = data[data["rate"] > 0]
    if data.groupby("optimizer")["rate"].nunique().max() < 2 or not data["learned"].any():
        raise NotDrawable("all arms that learn have the same mean learning rate")
    groups, style_of = records.combinations
    data = data.assign(group=data["arm"].map(groups))
    limits = series.fences(data["value"][data["learned"]], log=True)
    data = data.assign(shown=data["value"].clip(*limits))
    names = list(dict.fromkeys(data["optimizer"]))
    rooms = [1 + data["rate"][data["optimizer"] == name].nunique() for name in names]
    legend = legend_for(style_of, WIDE)
    figure = Figure((WIDE, 3.6 + legend.height), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False, width_ratios=rooms)[0]
    for ax, name in zip(axes, names, strict=True):
        plots.draw_scatter(data[data["optimizer"] == name], ax, style_of)
        literal(ax.set_title(name))
        if data["rate"][data["optimizer"] == name].nunique() == 1:  # else the distance between groups sets the scale
            ax.margins(x=1)
        log_axis(ax.xaxis)
        ax.grid(axis="x", visible=False)
    log_axis(axes[0].yaxis)
    axes[0].set(ylim=(limits[0] / 1.15, limits[1] * 1.15), ylabel=records.quantity(JITTER).axis_label)
    figure.supxlabel("mean learning rate of the run (log axis)", fontsize=9)
    add_legend(figure, legend)
    caption = (
        f"{records.shown}Jitter of the probe loss against the mean learning rate over a run's steps: seeds (small "
        "dots), and per arm the geometric mean over the runs that learn with its 95 % interval (Student's t on the "
        "logarithm). Crosses: runs that did not learn, which are steady because nothing changes; values below the "
        "axis are at its edge. Arms of nearly the same rate are side by side. If the means rise with the rate, a "
        "lower rate alone lowers the jitter. "
        f"{records.combinations_in_words}{seeds_per_mean(data)}{not_shown(records)}"
    )
    columns = ["optimizer", "group", "arm", "rate", "seed", "value", "learned", "mean", "low", "high", "n"]
    return caption.rstrip(), data[columns], figure


# --- Words ---


def seeds_per_mean(data: pd.DataFrame) -> str:
    """Number of seeds per mean."""
    n = data["n"][data["n"] > 0]
    return f"n = {int(n.min())} to {int(n.max())} seeds. " if n.nunique() > 1 else f"n = {int(n.max())} seeds. "


def not_shown(records: Records) -> str:
    """Diverged runs by name: they count at chance where the mean is over all runs."""
    if len(records.diverged) == 0:
        return ""
    return f"Diverged, and counted as a guess by chance where a mean is over all runs: {named(records.diverged)}. "
