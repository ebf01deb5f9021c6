"""Weights & Biases' export of the run table: a CSV in which columns of its own stand next to configs and metrics."""

from dataclasses import replace

from analysis.records.result_rows import ResultRows

OWN_COLUMNS = (
    *("Name", "State", "Notes", "User", "Tags", "Created", "Runtime", "Sweep", "ID", "Group", "Job Type", "Project"),
    *(
        "Agent",
        "Commit",
        "GitHub",
        "Description",
        "Hostname",
        "OS",
        "Python version",
        "Updated",
        "End Time",
        "GPU Type",
    ),
)
FINISHED_STATE = "finished"


def is_wandb_export(rows: ResultRows) -> bool:
    return {"Name", "State"} <= rows.columns.keys() and {"Created", "Runtime", "User"} & rows.columns.keys() != set()


def without_wandb_columns(rows: ResultRows) -> ResultRows:
    """The finished runs, without the columns that are Weights & Biases' own, and without empty ones.

    Raises ValueError where no run is finished.
    """
    done = [i for i, state in enumerate(rows.columns["State"]) if state == FINISHED_STATE]
    if not done:
        states = ", ".join(sorted({str(state) for state in rows.columns["State"]}))
        raise ValueError(f"{rows.path} must have finished runs (the column State has {states})")
    columns = {name: [values[i] for i in done] for name, values in rows.columns.items()}
    ignored = {name: "Weights & Biases' own" for name in columns if name in OWN_COLUMNS or name.startswith("_")}
    ignored |= {name: "empty" for name, values in columns.items() if not any(value is not None for value in values)}
    if left := len(rows.places) - len(done):
        ignored["State"] = f"{left} runs that are not finished are left out"
    return replace(rows, columns=columns, places=[rows.places[i] for i in done], ignored=ignored)
