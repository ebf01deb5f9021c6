"""The forest plot: the effects of all claims in one figure."""

import pandas as pd
from matplotlib.figure import Figure

from ablate.config.checks import refusal
from analysis.figures import plots
from analysis.figures.data import Contents, NotDrawable
from analysis.figures.panels import WIDE

AXES = {
    "log": ("ratio (log axis)", True),
    "logit": ("odds ratio (log axis)", True),
    "points": ("difference (percentage points)", False),
    "raw": ("difference (in the quantity's own unit)", False),
}
"""Scale of a claim -> the label of its axis, and whether effects on it are logarithms."""

FOREST_COLUMNS = ("id", "statement", *plots.EFFECTS, "verdict", "scale")


def forest(claims: pd.DataFrame) -> Contents:
    """Every claim's effect with its intervals and smallest effect of interest, in panels by scale and size.

    claims: FOREST_COLUMNS; numbers are on the claim's scale (log: natural logarithms), NaN where missing;
    smallest_effect has the sign of the claimed effect. Claims without a scale, such as those judged by their parts,
    have no effect to draw. Raises NotDrawable if no claim has a scale, ValueError for an unknown scale.
    """
    without = list(claims["id"][claims["scale"].isna()])
    claims = claims[claims["scale"].notna()]
    if len(claims) == 0:
        raise NotDrawable("no claim has an effect")
    if unknown := set(claims["scale"]) - set(AXES):
        raise refusal("scale", ", ".join(map(str, unknown)), f"one of {', '.join(AXES)}")
    parts = panels_of(claims)
    heights = [0.4 * len(part) + 0.1 for part in parts]
    figure = Figure((WIDE, sum(heights) + 0.5 * len(parts) + 0.2), layout="constrained")
    axes = figure.subplots(len(parts), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, part in zip(axes, parts, strict=True):
        label, ratio = AXES[part["scale"].iloc[0]]
        plots.draw_forest(part, ax, ratio)
        ax.set_xlabel(label)
    caption = (
        "Effect of each claim on its own scale. Dot: estimate. Thick bar: 95 % interval; thin bar: simultaneous "
        "interval over all judged claims. Diamond: smallest effect of interest; in the shaded region beyond it an "
        "effect is as large as claimed. Vertical line: no effect."
    )
    if without:
        caption += f" Not shown, because they have no effect of their own: {', '.join(without)}."
    return caption, claims[list(FOREST_COLUMNS)], figure


def panels_of(claims: pd.DataFrame) -> list[pd.DataFrame]:
    """Group claims that share an axis: the same scale, and none extends less than a fifth as far as another.

    On a wider axis narrow intervals would be too small to read. Raw claims each have their own unit and panel.
    """
    far = claims[["effect", "simultaneous_low", "simultaneous_high", "smallest_effect"]].astype(float)
    reach = far.abs().max(axis=1).fillna(0)
    panels = []
    for scale, part in claims.groupby("scale", sort=False):
        while len(part):
            most = reach[part.index].max()
            alike = (reach[part.index] >= most / 5) | (reach[part.index] == 0)
            taken, part = part[alike], part[~alike]
            panels += [taken] if scale != "raw" else [taken.loc[[i]] for i in taken.index]
    return panels
