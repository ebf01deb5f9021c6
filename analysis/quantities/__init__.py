"""Numbers per run.

formulas   each quantity as a function of one run's records
measure    all quantities of all runs
outcomes   failed and diverged runs: the value each is scored with
"""
