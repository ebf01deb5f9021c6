"""Numbers per run.

formulas     the formula of each quantity, a function from one run's records to a number
run_records  the records of one run, read when a formula needs them
registry     every quantity: name, words, unit, scale, measurement, and where it is shown
measure      the quantities of all runs of a study
outcomes     failed and diverged runs: the value each is scored with
"""
