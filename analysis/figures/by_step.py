"""Figures by step: one line per arm, the mean over seeds with its interval; and a heat map of layers by step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ablate.schema import NONE
from analysis.claims.pairing import rest_of
from analysis.figures import plots, series
from analysis.figures.data import Contents, NotDrawable, Records
from analysis.figures.panels import (
    FEW,
    HEIGHT,
    NO_MARKS,
    WIDE,
    WIDTH,
    Curve,
    Marks,
    Panel,
    arm_by_arm,
    arm_title,
    composed,
    draw_panel,
    limits_of,
    panel_data,
    shown_numbers,
    side_by_side,
    used,
    with_failures,
)
from analysis.figures.style import LineStyle, add_legend, legend_for, literal, log_axis
from analysis.quantities.chance import TASK_KINDS
from analysis.quantities.registry import primary_quantity
from analysis.records.arms import canonical, overlaid
from analysis.tables.numbers import plain_number

TRAINING_LOSS = Curve("loss", "training loss (nats)", least=0)
PROBE_LOSS = Curve("loss", "probe loss (nats)", least=0)
PROBE_ACCURACY = Curve("accuracy", "probe accuracy (%)", least=0, most=100)
BEFORE = Curve("grad_norm", "gradient norm", "‖g‖, before clipping", log=True)
AFTER = Curve("grad_norm_clipped", "gradient norm", "‖g′‖, after clipping", log=True)
G_MLP = Curve("mlp_grad_norm", "gradient norm", "G_MLP, an MLP layer's weight", log=True)
G_CLS = Curve("classifier_grad_norm", "gradient norm", "G_CLS, the classifier's weight", log=True)
DELTA_G = Curve("delta_g", "Δg = ‖g‖ − ‖g′‖", least=0)
SHARE = Curve("share", "share of ΣΔg (%)", least=0, most=100, x_label="tenth of the run")
RATE = Curve("lr", "learning rate η", least=0)
LOG_RATE = Curve("lr", "learning rate η", log=True)


def training_loss(records: Records) -> Contents:
    panel = panel_of(records, in_unit_of(records, TRAINING_LOSS))
    return (
        "Training loss by step. " + how_to_read(records, [panel]),
        shown_numbers([panel]),
        figure_of(records, [panel]),
    )


def probe_loss(records: Records) -> Contents:
    panel = panel_of(records, in_unit_of(records, PROBE_LOSS), on_probe=True)
    return (
        "Probe loss by step. " + how_to_read(records, [panel]),
        shown_numbers([panel]),
        figure_of(records, [panel]),
    )


def probe_accuracy(records: Records) -> Contents:
    panel = panel_of(records, PROBE_ACCURACY, on_probe=True)
    return (
        "Probe accuracy by step. " + how_to_read(records, [panel]),
        shown_numbers([panel]),
        figure_of(records, [panel]),
    )


def probe_primary(records: Records) -> Contents:
    """The primary metric where it is not the accuracy."""
    points, width = records.scores
    metric = primary_quantity(records.study.primary).metric
    unit = "%" if metric.scale == "points" else metric.unit
    label = f"probe {metric.words}" + (f" ({unit})" if unit else "")
    curve = Curve("score", label, most=100 if metric.scale == "points" else math.inf)
    panel = Panel(curve, curve_data(records, points, curve), (width, "probes"), run_ends(records, points, curve))
    return (
        f"Probe {metric.words} by step. " + how_to_read(records, [panel]),
        shown_numbers([panel]),
        figure_of(records, [panel]),
    )


def gradient_norm(records: Records) -> Contents:
    panels, marks = norm_panels(records, BEFORE, AFTER), clipping_marks(records)
    caption = "Norm of the whole gradient by step, before and after clipping. " + marks.caption
    return (
        caption + how_to_read(records, panels),
        shown_numbers(panels),
        figure_of(records, panels, marks),
    )


def tracked_norms(records: Records) -> Contents:
    panels, marks = norm_panels(records, G_MLP, G_CLS), Marks({1.0: "c = 1"})
    caption = (
        "Gradient norms of two single weights by step, before clipping. Clipping depends on the norm of the whole "
        f"gradient, not on these. {marks.caption}"
    )
    return (
        caption + how_to_read(records, panels),
        shown_numbers(panels),
        figure_of(records, panels, marks),
    )


def delta_g(records: Records) -> Contents:
    panel = panel_of(records, DELTA_G)
    caption = "Δg by step: the part of the gradient norm that clipping removes. "
    return (
        caption + how_to_read(records, [panel]),
        shown_numbers([panel]),
        figure_of(records, [panel]),
    )


def delta_g_share(records: Records) -> Contents:
    if len(records.shares) == 0:
        raise NotDrawable("clipping never acted in any finished run (Δg is always 0)")
    data = series.over_seeds(records.shares, ["arm", "bin"], "share")
    style_of = {arm: style for arm, style in records.line_styles.items() if arm in set(data["arm"])}
    panel, marks = Panel(SHARE, data), Marks({100 / series.BINS: "even"})
    limits = limits_of([panel], [*marks.levels])
    if len(style_of) > FEW:
        by_bin = data.rename(columns={"bin": "step"}).assign(diverged=0)
        figure = arm_by_arm(
            style_of, [replace(panel, data=by_bin)], limits, records.references, records.failures, marks
        )
    else:
        figure = shares_together(records, style_of, panel, limits, marks)
    interval = " with its 95 % interval (Student's t), which may extend beyond the panel" if data["n"].max() > 1 else ""
    caption = (
        "Share of a run's total Δg, the norm that clipping removes, in each tenth of its steps, for finished runs: "
        f"mean over seeds (n = {counts(data)}){interval}. Clipping that is spread evenly gives {100 // series.BINS} %. "
        f"{records.shown}"
    ).rstrip()
    if never := [arm for arm in records.arms if arm not in style_of]:
        caption += f" Clipping never acted in: {', '.join(never)}."
    return caption, data, figure


def shares_together(
    records: Records, style_of: Mapping[str, LineStyle], panel: Panel, limits: tuple[float, float], marks: Marks
) -> Figure:
    legend = legend_for(with_failures(style_of, records.failures), WIDTH)
    figure = Figure((WIDTH, HEIGHT + legend.height), layout="constrained")
    ax = figure.subplots()
    plots.draw_shares(panel.data, ax, style_of)
    marks.draw(ax, style_of)
    ax.set(xlabel=panel.curve.x_label, ylabel=panel.label, ylim=limits)
    add_legend(figure, legend)
    return figure


def learning_rate(records: Records) -> Contents:
    """Draw arms of the same schedule as one line, since the last of them would hide the others.

    The axis is logarithmic where the largest rate of one arm is at least ten times that of another: on a linear axis
    SGD's rates would flatten AdamW's.
    """
    curve = curve_data(records, records.rates, RATE).assign(diverged=0)
    alike: dict[bytes, list[str]] = {}
    rates_of = dict(tuple(curve.groupby("arm")))
    for arm in [arm for arm in records.arms if arm in rates_of]:
        alike.setdefault(rates_of[arm][["step", "mean"]].to_numpy(float).tobytes(), []).append(arm)
    names = {arms[0]: shortened(arms) for arms in alike.values()}
    one_each = curve[curve["arm"].isin(list(names))].assign(arm=lambda frame: frame["arm"].map(names))
    largest = curve.groupby("arm")["mean"].max()
    far_apart = 0 < 10 * largest.min() <= largest.max()
    panel = Panel(LOG_RATE if far_apart else RATE, one_each, (records.rate_width, "steps"))
    limits = limits_of([panel], [] if far_apart else [0])
    figure = side_by_side({names[arm]: records.line_styles[arm] for arm in names}, [panel], limits, {})
    groups = "; ".join(", ".join(arms) for arms in alike.values())
    caption = f"Learning rate of each update, the same for all seeds. {records.shown}The arms of each line: {groups}."
    return caption, curve[["arm", "step", "mean"]].rename(columns={"mean": "lr"}), figure


def shortened(arms: Sequence[str], characters: int = 60) -> str:
    """The names of arms in one line; where that is too long, the first and how many more there are.

    >>> shortened(["none", "fixed"]), shortened(["a" * 30, "b" * 30, "c"], characters=40)
    ('none, fixed', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa and 2 more')
    """
    whole = ", ".join(arms)
    return whole if len(whole) <= characters or len(arms) == 1 else f"{arms[0]} and {len(arms) - 1} more"


def layers(records: Records) -> Contents:
    """One heat map per arm, all with the same colour scale."""
    if len(records.layers) == 0:
        raise NotDrawable("no finished run recorded the norms of layers (see trainer.track.layers_every)")
    data = series.layer_grid(records.layers)
    arms = [arm for arm in records.arms if arm in set(data["arm"])]
    norms = data["mean"][data["mean"] > 0]
    if len(norms) == 0:
        raise NotDrawable("every recorded norm is 0")
    norm, places = LogNorm(norms.min(), norms.max()), series.in_network_order(data)
    averaged = records.layer_width > records.study.runs.get("trainer.track.layers_every", pd.Series([1])).max()
    x_label = "training step" + (f"\nmeans over {records.layer_width} steps" if averaged else "")
    columns = min(len(arms), 3)
    rows = math.ceil(len(arms) / columns)
    height = min(max(0.15 * len(places), 1.3), 3.4)
    figure = Figure((WIDE if columns > 1 else WIDTH, rows * (height + 0.5) + 0.9), layout="constrained")
    maps = used(figure.subplots(rows, columns, sharey=True, squeeze=False), len(arms))
    for i, (ax, arm) in enumerate(zip(maps, arms, strict=True)):
        plots.draw_heat_map(data[data["arm"] == arm], ax, norm, places)
        literal(ax.set_title(arm_title(arm, 36, records.failures), fontsize=8))
        ax.set_xlabel(x_label if i + columns >= len(arms) else "")
        ax.set_ylabel("" if i % columns else "layer and block")
    where = {"location": "top", "shrink": 0.5, "aspect": 40, "pad": 0.1 / figure.get_figheight()}
    bar = figure.colorbar(ScalarMappable(norm, plots.HEAT), ax=maps, label="gradient norm", **where)
    log_axis(bar.ax.xaxis)
    caption = (
        "Gradient norm of each layer's blocks by step, before clipping, from the input (bottom) to the head (top): "
        f"geometric mean over seeds (n = {counts(data)}), with the same colour scale for all arms. Hatched: not "
        f"trained, or a norm of 0. A block's norm grows with its number of parameters. {records.shown}"
    ).rstrip()
    if len(records.diverged):
        caption += f" Not shown, because they diverged: {named(records.diverged)}."
    return caption, data, figure


def hero(records: Records) -> Contents:
    """Gradient norm before and after clipping next to the probe loss: the effect of clipping in one picture."""
    records = clipping_alone(records)
    norms, marks = norm_panels(records, BEFORE, AFTER), clipping_marks(records)
    learning = panel_of(
        records, replace(in_unit_of(records, PROBE_LOSS), title="learning"), on_probe=True, name="probe_loss"
    )
    figure = Figure((WIDE, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[1].sharey(axes[0])
    of_norms = limits_of(norms, [*marks.levels])
    limits = [of_norms, of_norms, limits_of([learning])]
    for ax, panel, ends in zip(axes, [*norms, learning], limits, strict=True):
        draw_panel(panel, ax, records.line_styles, ends)
        ax.set_title(panel.curve.title, pad=14)
    for ax in axes[:2]:
        marks.draw(ax, records.arms)
    add_legend(figure, legend_for(with_failures(records.line_styles, records.failures), WIDE))
    caption = "Gradient norm before and after clipping, and probe loss, by step. " + marks.caption
    return caption + how_to_read(records, norms), shown_numbers([*norms, learning]), figure


def clipping_alone(records: Records) -> Records:
    """All arms where they fit into one panel, else one arm per clipping rule, alike in all else.

    They are pinned by settings, so that adding runs to a study does not change them: the other techniques are off (with
    no such arms, as in the arm that began first), and everything else is as in the arm that began first. Of several
    arms with one rule it is the one that began first.
    """
    if len(records.arms) <= FEW:
        return records
    begun = list(dict.fromkeys(records.study.runs["arm"]))
    first = records.study.arms[begun[0]]
    off = {factor: NONE for factor in records.study.techniques if factor != "clip"}
    rest = rest_of(first, ["clip"])
    chosen: dict[str, str] = {}
    for family in (overlaid(rest, off), rest):
        alike = [arm for arm in begun if canonical(rest_of(records.study.arms[arm], ["clip"])) == canonical(family)]
        chosen = {}
        for arm in alike:
            chosen.setdefault(str(records.study.arms[arm].get("clip")), arm)
        if 2 <= len(chosen) <= FEW:
            break
    else:
        raise NotDrawable(
            f"one panel shows at most {FEW} arms (the study has {len(records.arms)}), and no 2 to {FEW} of them differ "
            f"from {begun[0]}, or from it with the other techniques off, only in the clipping rule"
        )
    group = [arm for arm in records.arms if arm in chosen.values()]
    return records.only(group, f"a group of {len(group)} that differ only in clipping")


def figure_of(records: Records, panels: Sequence[Panel], marks: Marks = NO_MARKS) -> Figure:
    return composed(records.line_styles, panels, records.references, records.failures, marks)


# --- Numbers ---


def in_unit_of(records: Records, curve: Curve) -> Curve:
    """The curve of a loss, with the unit that losses have in the study's kind of task on its axis."""
    return replace(curve, label=curve.label.replace("nats", TASK_KINDS[records.study.kind].loss_unit))


def panel_of(records: Records, curve: Curve, on_probe: bool = False, name: str | None = None) -> Panel:
    """The panel of a curve over the steps, or over evaluations of the probe; `name`: its quantity among the numbers."""
    points = records.probe if on_probe else records.steps
    mean_of = (records.probe_width, "probes") if on_probe else (records.width, "steps")
    data, ends = curve_data(records, points, curve), run_ends(records, points, curve)
    if name:
        data, ends = data.assign(quantity=name), ends.assign(quantity=name)
    return Panel(curve, data, mean_of, ends)


def run_ends(records: Records, points: pd.DataFrame, curve: Curve) -> pd.DataFrame:
    """The last point of each run that failed, in the columns of `curve_data` and run: its value is the mean of one run.

    diverged, unlearned: 1 where the run diverged, or is done and did not learn; else 0.
    """
    failed = [*records.diverged["run"], *records.unlearned["run"]]
    last = points[points["run"].isin(failed)].groupby("run", sort=False, observed=True).tail(1)
    diverged = last["run"].isin(list(records.diverged["run"])).astype(int)
    found = last[["arm", "step"]].assign(quantity=curve.column, mean=last[curve.column].astype(float))
    found = found.assign(low=math.nan, high=math.nan, n=1, diverged=diverged, unlearned=1 - diverged, run=last["run"])
    return found[["quantity", "arm", "step", "mean", "low", "high", "n", "diverged", "unlearned", "run"]]


def curve_data(records: Records, points: pd.DataFrame, curve: Curve) -> pd.DataFrame:
    """The numbers of a curve: quantity, arm, step, mean, low, high, n, diverged, unlearned.

    unlearned: at an arm's last step, its finished runs that did not learn; 0 before.
    """
    if not points[curve.column].notna().any():
        raise NotDrawable(f"{curve.column} was not recorded in any run")
    data = series.by_step(points, records.diverged["run"], curve.column, curve.log)
    data.insert(0, "quantity", curve.column)
    last = data.groupby("arm", sort=False)["step"].transform("max") == data["step"]
    failed = data["arm"].map(records.unlearned["arm"].value_counts()).fillna(0)
    return data.assign(unlearned=failed.where(last, 0).astype(int))


def norm_panels(records: Records, *of: Curve) -> list[Panel]:
    return [panel_of(records, curve) for curve in of]


def clipping_marks(records: Records) -> Marks:
    """The arms' thresholds c, and those of their starts T0 that a run can reach."""
    arms = {arm: records.study.arms[arm] for arm in records.arms}
    levels = {arm[key] for arm in arms.values() for key in ("clip.threshold", "clip.rule.threshold") if key in arm}
    starts = {name: arm["clip.start"] for name, arm in arms.items() if "clip.start" in arm}
    named = {level: f"c = {plain_number(level)}" for level in sorted(levels)}
    return Marks(named, {name: start for name, start in starts.items() if start <= records.planned})


# --- Words ---


def how_to_read(records: Records, panels: Sequence[Panel]) -> str:
    """The sentences of a caption that explain lines, bands and crosses."""
    data, (width, points) = panel_data(panels), panels[0].mean_of
    mean = "geometric mean" if panels[0].curve.log else "mean"
    of = f" of means over {width} {points}" if width > 1 else ""
    text = f"{records.shown}Lines: {mean} over seeds (n = {counts(data)}){of}. "
    if data["n"].max() == 1:
        text += "Each arm has one seed, so there is no interval. "
    else:
        text += "Bands: 95 % interval of that mean at each point (Student's t); a band may extend beyond the panel. "
    if len(records.arms) > 1 and data["n"].max() > 1:
        text += (
            "Arms are paired by seed, so overlapping bands do not mean no difference; see the per-seed differences. "
        )
    if len(records.arms) > FEW and len(panels) == 1 and records.references:
        text += "Grey: the arm with the same freezing whose other techniques are those of the first arm. "
    if len(records.diverged):
        text += (
            f"Crosses: the last point of a run that diverged; the mean goes on without it ({named(records.diverged)}). "
        )
    if len(records.unlearned):
        by_arm = records.unlearned["arm"].value_counts(sort=False)
        text += (
            "Open circles: the last point of each run that did not learn; the mean includes it "
            f"({', '.join(f'{arm} {n}' for arm, n in by_arm.items())}). "
        )
    if records.failures:
        text += "Crosses and circles beyond the axis are at its edge. "
    return text.rstrip()


def counts(data: pd.DataFrame) -> str:
    """The number of seeds per arm at the start of its curve: one number where all are equal, a range for many arms."""
    most = data.groupby("arm", sort=False)["n"].max()
    if len(most) > FEW and most.nunique() > 1:
        return f"{most.min()} to {most.max()} per arm"
    return str(most.iloc[0]) if most.nunique() == 1 else ", ".join(f"{arm} {n}" for arm, n in most.items())


def named(runs: pd.DataFrame) -> str:
    """Arm and seed of each run, as text."""
    return ", ".join(f"{arm} seed {seed}" for arm, seed in zip(runs["arm"], runs["seed"], strict=True))
