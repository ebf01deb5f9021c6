"""What runs recorded.

source      where a study's files are: in its folder or its archive
packing     from a study's folder to its archive, and back
run_folder  one run's folder, verified against its own hashes
study       all runs of a study, as tidy frames
result_rows    rows of a table of results that others wrote
column_roles   which of its columns are arms, seed, data set and metrics
table_study    the table as a study
mlflow_store, optuna_storage, wandb_export  rows from there; sqlite_copy reads databases without changing them
arms        when two arms are the same, and labels for them
short_names  names of arms for readers: "clipping at 1", "no clipping"
"""
