"""Draw the effects of claims with their intervals and verdicts, one row per claim."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.curve_plots import BEHIND
from analysis.figures.interval_marks import Limits, name_rows
from analysis.figures.style import GREY, inches, literal, log_axis, wrapped

EFFECTS = ("effect", "low", "high", "simultaneous_low", "simultaneous_high", "smallest_effect")
"""Columns of numbers that a row of the forest plot shows."""

NUMBERS_OF_A_ROW = ("side", "aa", "aa_low", "aa_high")
MORE_OF_A_ROW = ("quantity", "parent", *NUMBERS_OF_A_ROW)
"""Further columns of a row, where they are known: quantity; id of the claim that it is a part of; claimed side (1 above
0, −1 below, 0 either); A/A effect with its interval."""

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
    no effect, to the end, and both sides where a claim names neither. With `ratio` the effects are logarithms and are
    drawn as ratios on a log axis. `limits`: of the axis, on the scale; an interval that extends further ends in an
    arrow. `room`: inches for the names.
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
        draw_claimed_sides(ax, row, claim, ends, ratio)
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


def claimed_signs(side: float, smallest: float | None) -> tuple[float, ...]:
    """The signs of the claimed sides: both where either side is claimed (0), that of the smallest effect if unknown.

    >>> claimed_signs(1, None), claimed_signs(0, 2), claimed_signs(0, None), claimed_signs(math.nan, -2)
    ((1,), (-1.0, 1.0), (), (-1.0,))
    """
    if side in (-1, 1):
        return (side,)
    if smallest is None or math.isnan(smallest):
        return ()
    return (-1.0, 1.0) if side == 0 else (math.copysign(1, smallest),)


def draw_claimed_sides(ax: Axes, row: int, claim: Mapping[str, Any], ends: Limits, ratio: bool) -> None:
    """Shade a row's claimed sides from its smallest effect, a tick, or from no effect where the claim names no size."""
    smallest, side = claim["smallest_effect"], claim.get("side", np.nan)
    has_size = not pd.isna(smallest)
    if not has_size and pd.isna(claim["effect"]):
        return
    for sign in claimed_signs(side, smallest):
        start = sign * abs(smallest) if has_size else 0.0
        start = np.exp(start) if ratio else start
        end = ends[1] if sign > 0 else ends[0]
        ax.fill_betweenx([row - 0.38, row + 0.38], start, end, color=CLAIMED, alpha=SHADE, linewidth=0)
        if has_size:
            at = [row - 0.38, row + 0.38]
            ax.plot([start, start], at, color=CLAIMED, linewidth=2, label=f"{claim['id']} smallest")


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
