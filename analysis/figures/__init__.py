"""Figures. `data` and `series` compute the numbers; `plots` and `panels` only draw them.

all       every figure of a report
data      a study's records, reduced to what figures need
series    the numbers that a figure shows
plots     draw one frame of numbers on one Axes: the functions of the next five modules
curve_plots     curves by step, shares by time, heat maps of layers
seed_plots      values and differences seed by seed
dose_plots      values against a factor's levels, a dose, a learning rate
forest_plots    effects of claims with their verdicts
interval_marks  means with intervals, names of rows
panels    lay out curves by step as a figure
by_step   figures of a quantity by step
by_seed   figures of a quantity by seed
by_class  confusion matrix, calibration, predicted against true numbers
dose      figures of a quantity against a number
forest    the effects of all claims
budget    the best of k trials of tuned arms
specification  the effects and words of claims under other choices
style     colours, line styles, legends and axes
export    write SVG, PDF, PNG and CSV
"""

import os

os.environ["MPLBACKEND"] = "agg"  # before matplotlib is imported: it refuses a notebook's backend that is not installed
