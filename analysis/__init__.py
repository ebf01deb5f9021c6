"""What the runs of a study say: load -> metrics -> statistics -> claims -> tables, plots -> report.

Reads outputs/<study>/ and needs neither torch nor a model: a study can be judged on another machine.
"""
