"""Draw numbers: each function draws one frame of `analysis.figures.series` on one Axes and returns that Axes.

These functions compute no results and touch no other Axes. `style_of` gives arms the line styles that they have in
the study's other figures (`analysis.figures.style.line_styles`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from ablate.config.wording import printable
from analysis.figures.style import GREY, LineStyle, inches, line_styles, literal, log_axis, plain_axis, wrapped

BAND = 0.13
"""Opacity of an interval's band in a panel of up to four arms; half of it in a panel of more."""

BEHIND = "#a8a8a8"
"""Grey of the first arm's curve behind another arm's."""

FAILED = "#D55E00"
"""Colour of the crosses of runs that did not learn."""

HEAT = "viridis"
"""A colour map whose lightness rises from end to end: readable in grey and with any colour vision."""

ROW_NAME = 36
"""Characters per line of a row's name."""

NAMES = 26
"""Most row names of a heat map."""

LineStyles = Mapping[str, LineStyle]


def draw_curves(curve: pd.DataFrame, ax: Axes, style_of: LineStyles | None = None) -> Axes:
    """Draw one line per arm with its interval as a band, and a cross where a seed diverged and leaves the mean.

    curve: arm, step, mean, low, high, n, diverged (`series.by_step`) and, where runs may have failed, unlearned: an
    open circle is drawn where it is above 0.
    """
    arms = list(dict.fromkeys(curve["arm"]))
    style_of = style_of or line_styles(arms)
    for i, (arm, part) in enumerate(curve.groupby("arm", sort=False, observed=True)):
        style = style_of[arm]
        every = max(1, len(part) // 6)
        first = i * every // len(arms)  # shift the markers, so that those of overlapping lines do not coincide
        ax.plot(
            part["step"],
            part["mean"],
            color=style.color,
            linestyle=style.linestyle,
            marker=style.marker,
            markersize=4,
            markevery=slice(first, None, every),
            label=arm,
        )
        opacity = BAND if len(arms) <= 4 else BAND / 2
        ax.fill_between(part["step"], part["low"], part["high"], color=style.color, alpha=opacity, linewidth=0)
        ends = part[part["diverged"] > 0]
        ax.plot(ends["step"], ends["mean"], "x", color=style.color, markersize=7, markeredgewidth=1.8, zorder=4)
        if "unlearned" in part and (failed := part["unlearned"] > 0).any():
            look = {"mfc": "white", "mec": style.color, "ms": 7, "mew": 1.4, "zorder": 4, "label": "not all learned"}
            ax.plot(part["step"][failed], part["mean"][failed], "o", **look)
    ax.set_xlabel("training step")
    ax.margins(x=0.01)
    plain_axis(ax.xaxis)
    plain_axis(ax.yaxis)
    return ax


def draw_behind(curve: pd.DataFrame, ax: Axes) -> Axes:
    """Draw one arm's mean (step, mean) as a grey line, behind the arm that is compared with it."""
    ax.plot(curve["step"], curve["mean"], color=BEHIND, linewidth=1.5, zorder=1.8, label="behind")
    return ax


def draw_shares(share: pd.DataFrame, ax: Axes, style_of: LineStyles | None = None) -> Axes:
    """Draw one point with its interval per arm and time bin, arms side by side.

    share: arm, bin, mean, low, high, in per cent.
    """
    arms = list(dict.fromkeys(share["arm"]))
    style_of = style_of or line_styles(arms)
    for i, (arm, part) in enumerate(share.groupby("arm", sort=False, observed=True)):
        x = part["bin"] + (i - (len(arms) - 1) / 2) * 0.6 / len(arms)
        draw_intervals(ax, x, part, style_of[arm], linewidth=0.8, elinewidth=1.2, markersize=4, label=arm)
    ax.set_xticks(range(1, int(share["bin"].max()) + 1))
    plain_axis(ax.yaxis)
    return ax


def draw_heat_map(
    grid: pd.DataFrame, ax: Axes, norm: Normalize | None = None, places: Sequence[str] | None = None
) -> Axes:
    """Draw one arm's gradient norm by layer (y) and step (x); hatched: not trained, or a norm of 0.

    grid: place, step, mean (`series.layer_grid`). `norm` maps gradient norms to colours; `places` are the rows from
    the bottom up.
    """
    places = list(dict.fromkeys(grid["place"])) if places is None else list(places)
    steps = np.sort(grid["step"].unique())
    table = grid.pivot(index="place", columns="step", values="mean").reindex(index=places, columns=steps)
    cells = np.ma.masked_invalid(table.to_numpy(float))
    mesh = ax.pcolormesh(
        edges(steps), np.arange(len(places) + 1) - 0.5, np.ma.masked_equal(cells, 0), norm=norm, cmap=HEAT
    )
    mesh.set_rasterized(True)
    ax.patch.set(hatch="////", edgecolor="#c8c8c8", linewidth=0)
    ax.grid(False)
    some = slice(None, None, -(-len(places) // NAMES))
    ax.set_yticks(range(len(places))[some], [printable(place) for place in places[some]])
    literal(*ax.get_yticklabels())
    plain_axis(ax.xaxis)
    return ax


def edges(centres: np.ndarray) -> np.ndarray:
    """Cell borders halfway between the centres; the outer cells are symmetric around their centres.

    >>> edges(np.array([10, 20, 30]))
    array([ 5., 15., 25., 35.])
    """
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


Limits = tuple[float, float]
"""Ends of an axis; values beyond them are drawn at the nearer end, with open marks."""


def draw_slopes(
    values: pd.DataFrame, ax: Axes, style_of: LineStyles | None = None, limits: Limits | None = None
) -> Axes:
    """Draw one thin line per seed through its value in each arm, and below it the arm's mean with its interval.

    values: arm, seed, value, mean, low, high and, where runs may have failed, learned (`series.per_seed`). The line
    breaks at an arm without that seed, at a run that did not learn (a cross) and at a value beyond `limits` (an open
    circle at the edge).
    """
    values = values if "learned" in values else values.assign(learned=True)
    arms = list(style_of) if style_of else list(dict.fromkeys(values["arm"]))
    style_of = style_of or line_styles(arms)
    rows = {arm: i for i, arm in enumerate(arms)}
    usual = values["learned"] & inside(values["value"], limits)
    table = values.assign(value=values["value"].where(usual)).pivot(index="seed", columns="arm", values="value")
    for seed, line in table.reindex(columns=arms).iterrows():
        ax.plot(
            line.to_numpy(float), range(len(arms)), "-o", color=GREY, lw=0.8, ms=2.5, alpha=0.7, label=f"seed {seed}"
        )
    among = values.groupby("arm").cumcount().map(lambda i: 0.3 * (i * 0.6180339887498949 % 1 - 0.5))  # as `spread`
    draw_apart(ax, values["value"], values["arm"].map(rows) + among, values["learned"], limits)
    for arm, part in values.drop_duplicates("arm").set_index("arm").iterrows():
        draw_mean(ax, part, rows[arm] + 0.25, style_of[arm], arm, limits)
    name_rows(ax, arms)
    return ax


def draw_differences(
    values: pd.DataFrame,
    ax: Axes,
    style_of: LineStyles | None = None,
    none: float = 0.0,
    limits: Limits | None = None,
) -> Axes:
    """Draw each seed's difference as a dot, with the arm's mean and interval below; arms from the top down.

    values: treatment, seed, effect, mean, low, high and, where runs may have failed, learned
    (`series.paired_differences`). A vertical line marks `none`, the value that means no effect. Pairs with a run that
    did not learn are crosses, and values beyond `limits` open circles at the edge.
    """
    values = values if "learned" in values else values.assign(learned=True)
    arms = list(style_of) if style_of else list(dict.fromkeys(values["treatment"]))
    style_of = style_of or line_styles(arms)
    ax.axvline(none, color=GREY, linewidth=1, zorder=1.5)
    for row, arm in enumerate(arms):
        part = values[values["treatment"] == arm]
        if len(part) == 0:
            continue
        height = pd.Series(row - 0.12 - 0.2 * spread(len(part)), index=part.index)
        usual = part["learned"] & inside(part["effect"], limits)
        ax.plot(
            part["effect"][usual], height[usual], "o", color=style_of[arm].color, ms=3.5, alpha=0.6, mew=0, label=arm
        )
        draw_apart(ax, part["effect"], height, part["learned"], limits)
        draw_mean(ax, part.iloc[0], row + 0.2, style_of[arm], arm, limits)
    name_rows(ax, arms)
    return ax


def inside(values: pd.Series, limits: Limits | None) -> pd.Series:
    return values.between(*limits) if limits else values.notna()


def draw_apart(ax: Axes, values: pd.Series, height: pd.Series, learned: pd.Series, limits: Limits | None) -> None:
    """Draw crosses for runs that did not learn and open circles for other values beyond the limits, at the edge."""
    at = values.clip(*limits) if limits else values
    far = learned & ~inside(values, limits)
    ax.plot(at[~learned], height[~learned], "x", color=FAILED, ms=4.5, mew=1, alpha=0.8, label="not learned")
    ax.plot(at[far], height[far], "o", mfc="white", mec=GREY, ms=3.5, mew=0.8, zorder=3, label="beyond")


def spread(n: int) -> np.ndarray:
    """n distinct heights from 0 to 1 that keep dots of similar value apart: multiples of the golden ratio, modulo 1.

    >>> spread(3).round(2)
    array([0.  , 0.62, 0.24])
    """
    return np.arange(n) * 0.6180339887498949 % 1


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


# --- Against a number ---


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


SLANTED = 5
"""Most levels of an axis whose names are horizontal."""

DOSES = 7
"""Most families of arms in one figure of dose and response."""

EFFECTS = ("effect", "low", "high", "simultaneous_low", "simultaneous_high", "smallest_effect")
"""Columns of numbers that a row of the forest plot shows."""

NUMBERS_OF_A_ROW = ("side", "aa", "aa_low", "aa_high")
MORE_OF_A_ROW = ("quantity", "parent", *NUMBERS_OF_A_ROW)
"""Further columns of a row, where they are known: quantity; id of the claim that it is a part of; claimed side (1 above
0, −1 below); A/A effect with its interval."""

BAR, CLAIMED, SHADE = "#0072B2", "#D55E00", 0.1
"""Colours of the forest plot's thick bars and of the claimed side, and the opacity of its shading."""

VERDICTS: Mapping[str, tuple[str, str, bool]] = {
    "supported": ("o", "#009E73", True),
    "smaller than claimed": ("v", "#0072B2", True),
    "real, size undecided": ("D", "#0072B2", False),
    "equivalent": ("s", "#000000", True),
    "ruled out": ("X", "#D55E00", True),
    "opposite": ("<", "#CC79A7", True),
    "inconclusive": ("o", "#000000", False),
    "not tested": ("_", "#767676", True),
}
"""Verdict -> marker, colour, and whether it is filled: markers and filling are distinguishable in grey."""

INDENT = "    "
"""Before the name of a part in the forest plot."""


def draw_forest(
    claims: pd.DataFrame, ax: Axes, ratio: bool = False, limits: Limits | None = None, room: float | None = None
) -> Axes:
    """Draw each claim's effect with its own interval (thick) and the simultaneous one (thin), from the top down.

    claims: id, statement, EFFECTS, verdict and, where known, side, aa, aa_low, aa_high, depth (0, or more for parts);
    all on one scale. smallest_effect has the sign of the claimed effect; the claimed side is shaded from there, or from
    no effect, to the end. With `ratio` the effects are logarithms and are drawn as ratios on a log axis. `limits`: of
    the axis, on the scale; an interval that extends further ends in an arrow. `room`: inches for the names.
    """
    numbers = [*EFFECTS, *NUMBERS_OF_A_ROW[1:]]
    values = claims.reindex(columns=numbers).astype(float)
    values = np.exp(values) if ratio else values
    if limits:
        ax.set_xlim(*(np.exp(limits) if ratio else limits))
    ax.axvline(1.0 if ratio else 0.0, color=GREY, linewidth=1, zorder=1.5)
    for row, (name, verdict, value) in enumerate(
        zip(claims["id"], claims["verdict"], values.to_dict("records"), strict=True)
    ):
        draw_claim(ax, row, name, value, verdict)
    if ratio:
        log_axis(ax.xaxis)
    ends = ax.get_xlim()
    for row, (claim, value) in enumerate(zip(claims.to_dict("records"), values.to_dict("records"), strict=True)):
        draw_claimed_side(ax, row, claim, value, ends, 1.0 if ratio else 0.0)
        for low, high in ((value["simultaneous_low"], value["simultaneous_high"]), (value["low"], value["high"])):
            draw_arrows(ax, row, low, high, ends)
    ax.set_xlim(ends)
    name_claims(ax, claims, room)
    for row, verdict in enumerate(claims["verdict"]):
        place = {"xy": (1, row), "xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        word = "" if pd.isna(verdict) else verdict
        literal(ax.annotate(word, xytext=(18, 0), va="center", fontsize=8, annotation_clip=False, **place))
        if word:
            look = mark_of(verdict)
            ax.plot(1.018, row, transform=ax.get_yaxis_transform(), clip_on=False, linestyle="", label="key", **look)
    return ax


def mark_of(verdict: Any) -> dict[str, Any]:
    """How the mark of a verdict looks; a black dot for another word."""
    marker, color, filled = VERDICTS.get(verdict, ("o", "#000000", True))
    return {"marker": marker, "ms": 6, "mec": color, "mfc": color if filled else "white", "mew": 1.2}


def draw_claim(ax: Axes, row: int, name: str, value: Mapping[str, float], verdict: Any) -> None:
    """Draw the intervals, the estimate and the A/A effect of one row of the forest plot."""
    simultaneous, plain = [value["simultaneous_low"], value["simultaneous_high"]], [value["low"], value["high"]]
    if not np.isnan(value["aa"]):
        at = row + 0.28
        ax.plot([value["aa_low"], value["aa_high"]], [at, at], color=BEHIND, linewidth=2, label=f"{name} A/A interval")
        ax.plot(value["aa"], at, "d", color=BEHIND, ms=3.5, label=f"{name} A/A")
    ax.plot(simultaneous, [row, row], "-|", color="black", linewidth=0.9, label=f"{name} simultaneous")
    ax.plot(plain, [row, row], color=BAR, linewidth=3.2, solid_capstyle="butt", label=f"{name} plain")
    ax.plot(value["effect"], row, zorder=4, linestyle="", label=name, **mark_of(verdict))


def draw_claimed_side(
    ax: Axes, row: int, claim: Mapping[str, Any], value: Mapping[str, float], ends: Limits, none: float
) -> None:
    """Shade a row's claimed side from its smallest effect, a tick, or from no effect; nothing if no side is claimed."""
    signed, side = claim["smallest_effect"], claim.get("side", np.nan)
    if pd.isna(signed) and (pd.isna(side) or np.isnan(value["effect"])):
        return
    start = none if pd.isna(signed) else value["smallest_effect"]
    end = ends[1] if (side if pd.isna(signed) else signed) > 0 else ends[0]
    ax.fill_betweenx([row - 0.38, row + 0.38], start, end, color=CLAIMED, alpha=SHADE, linewidth=0)
    if pd.notna(signed):
        ax.plot([start, start], [row - 0.38, row + 0.38], color=CLAIMED, linewidth=2, label=f"{claim['id']} smallest")


def draw_arrows(ax: Axes, row: int, low: float, high: float, ends: Limits) -> None:
    for beyond, end, marker in ((low < ends[0], ends[0], "<"), (high > ends[1], ends[1], ">")):
        if beyond:
            ax.plot(end, row, marker, color="black", ms=5, clip_on=False, zorder=5, label="arrow")


def name_claims(ax: Axes, claims: pd.DataFrame, room: float | None = None) -> None:
    """Write ids and statements at the rows, parts indented; the id of an interaction ends in its statement."""
    names = claim_names(claims)
    name_rows(ax, names)
    ax.set_yticks(range(len(names)), names)
    literal(*ax.get_yticklabels())
    ax.tick_params(axis="y", pad=72 * (names_width(claims) if room is None else room) + 4, length=0)
    for label in ax.get_yticklabels():
        label.set_horizontalalignment("left")


def claim_names(claims: pd.DataFrame) -> list[str]:
    depths = claims["depth"] if "depth" in claims else [0] * len(claims)
    names = []
    for name, statement, depth in zip(claims["id"], claims["statement"], depths, strict=True):
        whole = name if name.endswith(statement) else f"{name}: {statement}"
        indent = INDENT * int(depth)
        names.append("\n".join(indent + line for line in wrapped(shorter(whole), 46 - len(indent)).split("\n")))
    return names


def names_width(claims: pd.DataFrame) -> float:
    """Width in inches of the names of some claims."""
    return max(inches(line) for name in claim_names(claims) for line in name.split("\n"))


def shorter(text: str, most: int = 88) -> str:
    """The text, cut after a word at most `most` characters.

    >>> shorter("one two three", 8)
    'one two …'
    """
    return text if len(text) <= most else text[:most].rpartition(" ")[0] + " …"
