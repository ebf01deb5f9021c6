"""Analysis of a study's records: load, measure, compare statistically, judge claims, make tables, figures, a report.

It reads outputs/<study>/ and needs neither torch nor a model, so a study can be judged on another machine.
"""
