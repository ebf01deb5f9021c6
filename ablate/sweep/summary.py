"""The table that ends a sweep: one line an arm, where the records are, and what needs attention."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from rich.markup import escape
from rich.table import Table

from ablate.config.wording import duration
from ablate.run.job import rerun_folder
from ablate.run.progress import table_console
from ablate.run.records import BrokenRecord, read_run
from ablate.tracker import Tracker, publish
from analysis.records.study import load
from analysis.tables.formats import summary, summary_in_words

NOT_BEGUN = "not begun"


def close(folders: Sequence[Path], rerun: bool = False) -> bool:
    """Print the table of these runs and what is amiss; False if one (or its rerun) failed or was left unfinished."""
    console = table_console()
    study = load(folders[0].parent, only={folder.name for folder in folders})
    table = summary(study)
    if len(study.runs):
        console.print(as_rich(summary_in_words(table)))
    states = {folder: state(folder, rerun) for folder in folders}
    for folder, (status, message) in states.items():
        if status not in ("done", "diverged", NOT_BEGUN):
            console.print(f"{status}: {folder.name}{message}", markup=False, highlight=False, soft_wrap=True)
    if waiting := [status for status, _ in states.values()].count(NOT_BEGUN):
        console.print(f"{NOT_BEGUN}: {waiting} run{'s' if waiting > 1 else ''}; run the same command again")
    console.print(f"records: {folders[0].parent}/", markup=False, highlight=False)
    if len(table) and (table["done"] == 1).all():
        console.print(more_seeds(table), markup=False, highlight=False, soft_wrap=True)
    return not any(status in ("failed", "interrupted", NOT_BEGUN) for status, _ in states.values())


def as_rich(words: pd.DataFrame) -> Table:
    table = Table()
    for name in words:
        table.add_column(str(name), justify="left" if name == "arm" else "right", no_wrap=name != "arm")
    for row in words.itertuples(index=False):
        table.add_row(*(escape(str(value)) for value in row))
    return table


def state(folder: Path, rerun: bool) -> tuple[str, str]:
    """A run's status as the disk has it, and what there is to say of it; if a rerun was asked for, of that."""
    beside = rerun_folder(folder)
    told_by = beside if rerun and beside.exists() else folder
    found = recorded(told_by)
    if found[0] in ("running", NOT_BEGUN) and folder.exists():
        try:
            with FileLock(folder / ".lock", timeout=0):
                found = recorded(told_by)  # again: its holder may have ended it since
        except Timeout:
            return "held", ": another process is at it"
    return ("interrupted", ": run the same command again") if found[0] == "running" else found


def recorded(folder: Path) -> tuple[str, str]:
    """Status and message of a folder's run.json."""
    try:
        record: dict[str, Any] = read_run(folder) or {"status": NOT_BEGUN}
    except BrokenRecord as error:
        return "failed", f": {error}"
    if record["status"] == "failed":
        return "failed", f": {record['error']['message']} (traceback in {folder / 'run.json'})"
    return record["status"], ""


def report(study: Path, tracker: Tracker) -> None:
    """Write the study's report where its runs changed, and say where it is; what stands in its way costs no run."""
    from analysis.claims.reading import read_claims  # here, or a plan would wait for what draws the figures
    from analysis.page.sentences import tally
    from analysis.report import PAGE, named_claims, write_report

    console = table_console()
    try:
        found = load(study)
        if found.runs.empty:
            return
        written = write_report(found, read_claims(named_claims(found)))
        if written.is_new:
            publish(tracker, study.name, study / "report")
        line = f"report: {study / 'report' / PAGE}: {tally(written.findings)}"
    except Exception as error:
        line = f"no report: {error}; the runs are not touched by that, python -m analysis {study} tries again"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def more_seeds(table: pd.DataFrame) -> str:
    """One seed tells nothing of chance: the way to more, and what it takes."""
    seconds = table["training_seconds"].sum() * 4
    return f"one seed has no spread: add seed=0,1,2,3,4 to the command (about {duration(seconds)} more)"
