"""Draw numbers: each function draws one frame of `analysis.figures.series` on one Axes and returns that Axes.

These functions compute no results and touch no other Axes. `style_of` gives arms the line styles that they have in
the study's other figures (`analysis.figures.style.line_styles`). Figures use them by the names below.
"""

from analysis.figures.curve_plots import (
    BEHIND,
    HEAT,
    draw_behind,
    draw_curves,
    draw_heat_map,
    draw_run_ends,
    draw_shares,
)
from analysis.figures.dose_plots import DOSES, SLANTED, draw_doses, draw_interaction, draw_scatter
from analysis.figures.forest_plots import (
    BAR,
    CLAIMED,
    EFFECTS,
    MORE_OF_A_ROW,
    NUMBERS_OF_A_ROW,
    SHADE,
    VERDICTS,
    draw_forest,
    mark_of,
    names_width,
    shorter,
)
from analysis.figures.interval_marks import ROW_NAME, Limits, draw_intervals, draw_mean, name_rows
from analysis.figures.seed_plots import draw_differences, draw_slopes, inside

__all__ = [
    "BAR",
    "BEHIND",
    "CLAIMED",
    "DOSES",
    "EFFECTS",
    "HEAT",
    "MORE_OF_A_ROW",
    "NUMBERS_OF_A_ROW",
    "ROW_NAME",
    "SHADE",
    "SLANTED",
    "VERDICTS",
    "Limits",
    "draw_behind",
    "draw_curves",
    "draw_differences",
    "draw_doses",
    "draw_forest",
    "draw_heat_map",
    "draw_interaction",
    "draw_intervals",
    "draw_mean",
    "draw_run_ends",
    "draw_scatter",
    "draw_shares",
    "draw_slopes",
    "inside",
    "mark_of",
    "name_rows",
    "names_width",
    "shorter",
]
