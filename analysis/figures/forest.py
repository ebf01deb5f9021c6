"""The forest plot: the effects of all claims in one figure, all ratios on one axis, and differences by quantity."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablate.config.checks import refusal
from ablate.schema import TASKS
from analysis.claims.contrasts import Paired
from analysis.claims.finding import Finding
from analysis.claims.reading import Claims, Question
from analysis.claims.verdict_rule import Direction
from analysis.figures import plots
from analysis.figures.data import Contents, NotDrawable
from analysis.figures.panels import WIDE
from analysis.quantities.registry import REGISTRY, of_kind
from analysis.tables.numbers import interval_columns


class Axis(NamedTuple):
    """The label of a scale's axis, without a quantity, and whether effects on it are logarithms."""

    label: str
    is_ratio: bool


AXES = {
    "log": Axis("ratio (log axis)", True),
    "logit": Axis("odds ratio (log axis)", True),
    "points": Axis("difference (percentage points)", False),
    "raw": Axis("difference (in the quantity's own unit)", False),
}
"""Scale of a claim -> its axis."""

FOREST_COLUMNS = ("id", "statement", *plots.EFFECTS, "verdict", "scale", *plots.MORE_OF_A_ROW)

SIDES = {Direction.ABOVE: 1.0, Direction.BELOW: -1.0, Direction.EITHER: 0.0}


def judged_effects(
    findings: Sequence[Finding], claims: Claims | None = None, aa: pd.DataFrame | None = None
) -> pd.DataFrame:
    """FOREST_COLUMNS of every judged finding, each followed by its parts; NaN for missing numbers.

    claims: gives the claimed side. aa: quantity, scale, effect, low, high of another dropout stream
    (`analysis.tables.controls.aa_effects`), for the rows that compare paired arms in that quantity and scale. A
    finding that repeats the effect of one of its parts has none here.
    """
    questions = {} if claims is None else {question.id: question for question in claims.questions}
    of_aa = {} if aa is None else {(row["quantity"], row["scale"]): row for row in aa.to_dict("records")}
    rows = [
        forest_row(
            finding, parent, side_of(questions.get(finding.id, questions.get(parent))), aa_of(finding, questions, of_aa)
        )
        for finding, parent in with_parents(findings)
    ]
    numbers = [*plots.EFFECTS, *plots.NUMBERS_OF_A_ROW]
    return pd.DataFrame(rows, columns=list(FOREST_COLUMNS)).astype(dict.fromkeys(numbers, float))


def with_parents(findings: Sequence[Finding], parent: str | None = None) -> list[tuple[Finding, str | None]]:
    """The judged findings, each followed by its parts, with the id of the finding that they are parts of.

    Parts are those that are judged, and the effects on single data sets that are shown with their mean.
    """
    found: list[tuple[Finding, str | None]] = []
    for finding in findings:
        if finding.verdict is not None or (parent is not None and "data_set" in finding.details):
            found += [(finding, parent), *with_parents(finding.parts, finding.id)]
    return found


def forest_row(finding: Finding, parent: str | None, side: float, aa: Mapping[str, float]) -> dict[str, object]:
    repeats = any(part.verdict is not None and part.effect == finding.effect for part in finding.parts)
    own = None if repeats else finding
    return {
        "id": finding.id,
        "statement": finding.statement,
        "effect": own and own.effect,
        **interval_columns("", own and own.interval),
        **interval_columns("simultaneous_", own and own.interval_simultaneous),
        "smallest_effect": own and own.smallest_effect,
        "verdict": finding.verdict and finding.verdict.value,
        "scale": finding.scale,
        "quantity": finding.quantity,
        "parent": parent,
        "side": side,
        "aa": aa.get("effect"),
        "aa_low": aa.get("low"),
        "aa_high": aa.get("high"),
    }


def side_of(question: Question | None) -> float:
    """1 for a claimed effect above 0, −1 for one below, 0 for either; NaN without the question."""
    return math.nan if question is None else SIDES[question.direction]


def aa_of(finding: Finding, questions: Mapping[str, object], of_aa: Mapping[tuple, Mapping]) -> Mapping[str, float]:
    """The A/A effect in a paired finding's quantity and scale; empty without one."""
    question = questions.get(finding.id)
    if question is None or not isinstance(question.contrast, Paired):
        return {}
    return of_aa.get((finding.quantity, finding.scale), {})


def forest(claims: pd.DataFrame, kind: str = TASKS[0]) -> Contents:
    """Every claim's effect with its intervals, smallest effect of interest and verdict: a panel per axis.

    claims: id, statement, EFFECTS, verdict, scale and, where known, plots.MORE_OF_A_ROW; numbers are on the claim's
    scale (log: natural logarithms), NaN where missing; smallest_effect has the sign of the claimed effect. Claims
    without a scale are headings of their parts; those without parts have nothing to draw. Raises NotDrawable if no
    claim has a scale, ValueError for an unknown scale.
    """
    claims = claims.reindex(columns=list(FOREST_COLUMNS)).reset_index(drop=True)
    if unknown := set(claims["scale"].dropna()) - set(AXES):
        raise refusal("scale", ", ".join(map(str, unknown)), f"one of {', '.join(AXES)}")
    parts = panels_of(claims)
    if not parts:
        raise NotDrawable("no claim has an effect")
    drawn = {name for part in parts for name in part["id"]}
    without = [name for name in claims["id"] if name not in drawn]
    heights = [0.36 * len(part) + 0.1 for part in parts]
    figure = Figure((WIDE, sum(heights) + 0.5 * len(parts) + 0.6), layout="constrained")
    axes = figure.subplots(len(parts), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    room = max(plots.names_width(part) for part in parts)
    for ax, part in zip(axes, parts, strict=True):
        label, ratio = axis_of(part, kind)
        plots.draw_forest(part, ax, ratio, limits_of_effects(part), room)
        ax.set_xlabel(label)
    has_aa = claims["aa"].notna().any()
    add_key(figure, has_aa)
    caption = (
        "Effect of each claim: ratios on one axis, differences on one per quantity; the claims are in the order of "
        "their file, parts are below their claim. Mark: estimate, by verdict. Thick bar: 95 % interval; thin bar: "
        "simultaneous interval over all judged claims; an arrow: it extends beyond the axis. Shaded: the claimed side, "
        "from the smallest effect of interest (tick) on where the claim names one. Vertical line: no effect."
    )
    if has_aa:
        caption += (
            " Grey below a row: the effect of another dropout stream (A/A), on the same quantity, with its 95 % "
            "interval: as much as chance alone does."
        )
    if (claims["verdict"].isna() & claims["effect"].notna()).any():
        caption += " A black dot without a word: the effect on one data set, shown with the mean, not judged."
    if without:
        caption += f" Not shown, because they have no effect of their own: {', '.join(without)}."
    return caption, claims[list(FOREST_COLUMNS)], figure


def panels_of(claims: pd.DataFrame) -> list[pd.DataFrame]:
    """Group the rows by axis (`axis_key`), in the order of the file.

    Each panel has the headings of its rows: the claims that they are parts of, once, with the verdict where it first
    appears.
    """
    parent_of = dict(zip(claims["id"], claims["parent"], strict=True))
    units = [axis_key(*row) if pd.notna(row[0]) else None for row in claims[["scale", "quantity"]].to_numpy()]
    panels, seen = [], set()
    for unit in dict.fromkeys(unit for unit in units if unit is not None):
        chosen = {claims.at[i, "id"] for i, found in enumerate(units) if found == unit}
        headings = {name for own in chosen for name in ancestors(own, parent_of)} - chosen
        own_unit = pd.Series([found == unit for found in units], index=claims.index)
        rows = claims[own_unit | claims["id"].isin(headings)].copy()
        rows.loc[~own_unit, list(plots.EFFECTS)] = np.nan
        rows.loc[~own_unit, "side"] = np.nan
        rows.loc[~own_unit & rows["id"].isin(seen), "verdict"] = None
        depth = [sum(name in headings | chosen for name in ancestors(own, parent_of)) for own in rows["id"]]
        panels.append(rows.assign(depth=depth))
        seen |= set(rows["id"])
    return panels


def axis_key(scale: str, quantity: str | None) -> tuple[str, str | None]:
    """What the effects on one axis share: ratios the scale, differences the quantity, too.

    Points of accuracy next to points of runs that learn would be too small to see.

    >>> axis_key("log", "test_loss") == axis_key("log", "test_accuracy")
    True
    >>> axis_key("points", "learned") == axis_key("points", "test_accuracy")
    False
    """
    return scale, None if AXES[scale].is_ratio else quantity


def ancestors(name: str, parent_of: Mapping[str, str | None]) -> list[str]:
    """The claims that a row is a part of, the nearest first."""
    found = []
    while pd.notna(name := parent_of.get(name)):
        found.append(name)
    return found


def axis_of(part: pd.DataFrame, kind: str) -> tuple[str, bool]:
    """The label of a panel's axis, and whether its effects are logarithms."""
    row = part[part["scale"].notna()].iloc[-1]
    label, ratio = AXES[row["scale"]]
    if not ratio and row["quantity"] in REGISTRY:
        quantity = of_kind(REGISTRY[row["quantity"]], kind)
        unit = "points" if row["scale"] == "points" else quantity.unit
        label = f"difference: {quantity.words}" + (f", {unit}" if unit else "")
    return label, ratio


def limits_of_effects(part: pd.DataFrame) -> tuple[float, float]:
    """Ends of an axis, on the claims' scale: all estimates, smallest effects and 0, and intervals of usual width.

    Where either side is claimed (side 0), the smallest effect is on both.

    Beyond the estimates the axis extends by at most twice the median half-width of the intervals, so that one very
    wide interval does not make the others too narrow to read.
    """
    either = part["smallest_effect"].where(part["side"] == 0) if "side" in part else part["smallest_effect"][:0]
    points = np.append(part[["effect", "smallest_effect"]].to_numpy(float), -either.to_numpy(float))
    ends = part[["low", "high", "simultaneous_low", "simultaneous_high"]].to_numpy(float)
    points = np.append(points[np.isfinite(points)], 0.0)
    half = (part["simultaneous_high"] - part["simultaneous_low"]).astype(float).dropna() / 2
    spare = 2 * half.median() if len(half) else 0.0
    low, high = points.min() - spare, points.max() + spare
    fitting = np.append(ends[np.isfinite(ends)].clip(low, high), points)
    low, high = fitting.min(), fitting.max()
    margin = 0.04 * (high - low) or 0.1 * (abs(high) or 1)
    return low - margin, high + margin


def add_key(figure: Figure, has_aa: bool) -> None:
    """The key of bars, tick, shading and A/A effect, above the panels."""
    handles = {
        "95 % interval": Line2D([], [], color=plots.BAR, linewidth=3.2),
        "simultaneous interval": Line2D([], [], color="black", linewidth=0.9, marker="|"),
        "smallest effect of interest": Line2D([], [], color=plots.CLAIMED, linestyle="", marker="|", ms=9, mew=2),
        "claimed side": Patch(color=plots.CLAIMED, alpha=plots.SHADE, linewidth=0),
    }
    if has_aa:
        handles["A/A: dropout alone"] = Line2D([], [], color=plots.BEHIND, linewidth=2.5, marker="d", ms=4)
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper left", ncols=len(handles), borderaxespad=0.2,
        columnspacing=1.4,
    )  # fmt: skip
