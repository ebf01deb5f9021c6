"""Figures. Numbers are computed in `data` and `series`; `plots` and `panels` only draw.

all       every figure of a report
data      a study's records, reduced as far as figures need them
series    the numbers that a figure shows
plots     one frame of numbers on one Axes
panels    curves by step, laid out as a figure
by_step   figures of a quantity by step
by_seed   figures of a quantity by seed
forest    the effects of all claims
style     colours, lines, legends and axes
export    SVG, PDF, PNG and CSV
"""
