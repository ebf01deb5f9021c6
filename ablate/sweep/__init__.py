"""All runs of one command.

callback     before the first run and after the last
compose      the jobs of a sweep, composed as Hydra composes them
arms         sweeps over listed arms: leave one out, add one in
overrides    Hydra's overrides as text
preflight    checks before the first run
model_check  checks of a model against the data and the settings
plan         what would run, what is shared, and the costs
sizes        bytes that a run needs
core_use     what other processes leave of the cores
launchers    where runs go: one by one, workers, SLURM, Ray
workers      parallel runs on one machine
summary      the table that ends a sweep, and the report
"""
