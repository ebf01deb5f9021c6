"""The table that ends a sweep: one line per arm, where the records are, and which runs need attention."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from rich.markup import escape
from rich.table import Table

from ablate.config.wording import count, duration
from ablate.run.job import rerun_folder
from ablate.run.progress import table_console
from ablate.run.records import read_run
from ablate.tracker import Tracker, publish
from analysis.records.study import load
from analysis.tables.formats import summary, summary_in_words

NOT_STARTED = "not started"
NARROW = 120
"""Characters of a line. With headings in one line, a narrower terminal would leave no room for the arms' names."""


def print_summary(folders: Sequence[Path], rerun: bool = False, advise: bool = True) -> bool:
    """Print the table of these runs and list those with problems; return False if one failed or is unfinished.

    `rerun`: report the reruns instead of the runs that they repeat. `advise`: add how to run more seeds, if one is not
    enough.
    """
    console = table_console()
    study = load(folders[0].parent, only={folder.name for folder in folders})
    table = summary(study)
    if len(study.runs):
        console.print(as_rich(summary_in_words(table), console.width))
    states = {folder: state(folder, rerun) for folder in folders}
    for folder, (status, message) in states.items():
        if status not in ("done", "diverged", NOT_STARTED):
            console.print(f"{status}: {folder.name}{message}", markup=False, highlight=False, soft_wrap=True)
    if waiting := [status for status, _ in states.values()].count(NOT_STARTED):
        console.print(f"{NOT_STARTED}: {count(waiting, 'run')}; run the same command again")
    console.print(f"records: {folders[0].parent}/", markup=False, highlight=False)
    if advise and len(table) and (table["done"] == 1).all():
        console.print(more_seeds(table), markup=False, highlight=False, soft_wrap=True)
    return not any(status in ("failed", "interrupted", NOT_STARTED) for status, _ in states.values())


def as_rich(words: pd.DataFrame, width: int) -> Table:
    """The table for a console of this width: a narrow one has headings broken at spaces and no padding; arms fold."""
    table = Table(padding=(0, 0) if width < NARROW else (0, 1))
    for name in words:
        heading = str(name).replace(" ", "\n") if width < NARROW else str(name)
        if name == "arm":
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in words.itertuples(index=False):
        table.add_row(*(escape(str(value)) for value in row))
    return table


def state(folder: Path, rerun: bool) -> tuple[str, str]:
    """The status of a run, or of its rerun if that was asked for, and a message that explains it."""
    other = rerun_folder(folder)
    source = other if rerun and other.exists() else folder
    found = recorded_status(source)
    if found[0] in ("running", NOT_STARTED) and folder.exists():
        try:
            with FileLock(folder / ".lock", timeout=0):
                found = recorded_status(source)  # again: the process with the lock may have finished the run since
        except Timeout:
            return "locked", ": another process is running it"
        except OSError:  # a disk that has become read-only: nobody can run it
            found = recorded_status(source)
    return ("interrupted", ": run the same command again") if found[0] == "running" else found


def recorded_status(folder: Path) -> tuple[str, str]:
    """The status in a folder's run.json, and a message that explains it."""
    try:
        record: dict[str, Any] = read_run(folder) or {"status": NOT_STARTED}
    except ValueError as error:
        return "failed", f": {error}"
    if record["status"] == "failed":
        return "failed", f": {(record.get('error') or {}).get('message')} (traceback in {folder / 'run.json'})"
    return record["status"], ""


def write_study_report(study: Path, claims: Path, tracker: Tracker, allow: Sequence[str] = ()) -> tuple[str, ...]:
    """Write the study's report if its runs have changed; return where it is and what it shows, as lines.

    A failure here fails no run: the only line then says what went wrong. No line where no run is finished.
    """
    try:
        from analysis.claims.reading import for_study, read_claims  # here, so that a plan does not wait for matplotlib
        from analysis.page.headline import headline
        from analysis.report import PAGE, write_report

        found = load(study)
        if found.runs.empty:
            return ()
        judged_by = for_study(read_claims(claims, allow), found)
        written = write_report(found, judged_by)
        if written.is_new:
            publish(tracker, study.name, study / "report")
        return f"report: {study / 'report' / PAGE}", headline(found, judged_by, written.findings)
    except Exception as error:
        return (f"no report: {error}; the runs are unaffected, and python -m analysis {study} tries again",)


def more_seeds(table: pd.DataFrame) -> str:
    """How to add four seeds to a sweep of one seed, and about how long they take."""
    seconds = table["training_seconds"].sum() * 4
    return (
        "one seed cannot separate an effect from chance: add seed=0,1,2,3,4 to the command "
        f"(about {duration(seconds)} more)"
    )
