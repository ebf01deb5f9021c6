"""Numbers per run.

formulas     the formula of each quantity, a function from one run's records to a number
run_records  the records of one run, read when a formula needs them
chance       a guess that ignores the text: what it scores, and which runs learned more
example_metrics  what each test example adds to a metric
own_metrics  metrics of the user's own
by_class     predictions class by class
registry     every quantity: name, words, unit, scale, measurement, and where it is shown
recorded     metrics of tables of results
measure      the quantities of all runs of a study
outcomes     failed and diverged runs: the value each is scored with
"""
