"""The forest plot: what all claims come to, at a glance."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import plots
from analysis.figures.data import Contents, NotDrawable
from analysis.figures.panels import WIDE

SCALES = {
    "log": ("ratio (log axis)", True),
    "logit": ("odds ratio (log axis)", True),
    "points": ("difference (percentage points)", False),
    "raw": ("difference (in the quantity's own unit)", False),
}
"""Scale of a claim -> its axis, and whether effects on it are logarithms."""

COLUMNS = ("id", "statement", *plots.EFFECTS, "verdict", "scale")


def forest(claims: pd.DataFrame) -> Contents:
    """Every claim's effect with its intervals and its smallest effect of interest, panels by scale and size.

    claims: COLUMNS; all numbers on the scale (log: natural logarithms), NaN where there is none; smallest_effect
    with the sign of what is claimed. Claims without a scale, such as those with parts, have no effect to draw.
    Raises NotDrawable without any claim on a scale, ValueError for an unknown scale.
    """
    without = list(claims["id"][claims["scale"].isna()])
    claims = claims[claims["scale"].notna()]
    if len(claims) == 0:
        raise NotDrawable("no claim has an effect")
    if unknown := set(claims["scale"]) - set(SCALES):
        raise ValueError(f"scale = {', '.join(map(str, unknown))}; only {', '.join(SCALES)} are allowed")
    parts = panels_of(claims)
    heights = [0.4 * len(part) + 0.1 for part in parts]
    figure = Figure((WIDE, sum(heights) + 0.5 * len(parts) + 0.2), layout="constrained")
    axes = figure.subplots(len(parts), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, part in zip(axes, parts, strict=True):
        label, ratio = SCALES[part["scale"].iloc[0]]
        plots.forest(part, ax, ratio)
        ax.set_xlabel(label)
    caption = (
        "Effects of the claims, each on its stated scale. Dot: estimate. Thick bar: 95 % interval; thin bar: interval "
        "that is simultaneous over all judged claims. Diamond: smallest effect of interest; in the shaded part beyond "
        "it an effect is as large as claimed. Vertical line: no effect."
    )
    if without:
        caption += f" Not shown, as they have no effect of their own: {', '.join(without)}."
    return caption, claims[list(COLUMNS)], figure


def panels_of(claims: pd.DataFrame) -> list[pd.DataFrame]:
    """Claims that can stand on one axis: of one scale, and none reaches less than a fifth as far as another.

    Else the wide ones would press the narrow ones flat. Raw claims have units of their own, and a panel each.
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
