"""The table that ends a sweep: one line per arm, where the records are, and which runs need attention."""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ablate.config.wording import count, duration
from ablate.run.job import rerun_folder
from ablate.run.progress import table_console
from ablate.run.records import read_run
from ablate.tracker import Tracker, publish
from analysis.records.short_names import short_names
from analysis.records.study import Study, load
from analysis.tables.formats import summary, summary_in_words
from analysis.tables.numbers import DASH

if TYPE_CHECKING:  # scipy, which a plan does without
    from analysis.tables.closing import Differences

NOT_STARTED = "not started"
LEAST_HEADING = 10
"""Characters from which on a heading may be broken into lines."""


@dataclass(frozen=True)
class StudyReport:
    """A study's report, as far as the terminal shows it: where it is, its answer, and its table."""

    study: Study
    page: Path
    answer: str  # a sentence, and further lines
    differences: "Differences | None"
    waits: str = ""  # why no differences are shown


def print_summary(folders: Sequence[Path], rerun: bool = False, report: StudyReport | str = "") -> bool:
    """Print the table of these runs and list those with problems; return False if one failed or is unfinished.

    `rerun`: report the reruns instead of the runs that they repeat. `report`: of their study, why there is none, or ""
    if none is wanted.
    """
    console = table_console()
    names = {folder.name for folder in folders}
    has_report = isinstance(report, StudyReport)
    study = report.study if has_report else load(folders[0].parent, only=names)
    table = summary(study)
    if len(study.runs):
        print_table(console, study, table, names, report.differences if has_report else None)
    states = {folder: state(folder, rerun) for folder in folders}
    print_problems(console, states)
    if has_report:
        first, *others = report.answer.splitlines()
        for line in (report.waits, first):
            print_text(console, line)
        print_path(console, f"report: {report.page}")
        for line in others:
            print_path(console, line)
    else:
        print_path(console, report)
        print_path(console, f"records: {folders[0].parent}/")
        if len(table) and (table["done"] == 1).all():
            print_path(console, more_seeds(table))
    return not any(status in ("failed", "interrupted", NOT_STARTED) for status, _ in states.values())


def print_table(
    console: Console, study: Study, table: pd.DataFrame, runs: Collection[str], found: "Differences | None"
) -> None:
    """Print one row per arm of these runs, and what the column of differences is."""
    every = pd.concat([study.runs, study.left_out])
    shown = set(every["arm"][every["run"].isin(runs)])
    closing = closing_table(summary_in_words(table), shown, found)
    closing["arm"] = closing["arm"].map(short_names(study.arms))
    console.print(as_rich(closing, console.width))
    if found is not None:
        print_text(console, found.caption)


def closing_table(words: pd.DataFrame, shown: Collection[str], found: "Differences | None") -> pd.DataFrame:
    """The rows of the summary (`analysis.tables.formats.summary_in_words`) for the shown arms, with the differences and
    the reference first.

    Of the columns only seeds and primary metric stay.
    """
    rows = words[words["arm"].isin(shown)]
    metrics = [name for name in rows if str(name).startswith(("validation ", "test "))]
    table = rows[["arm", "seeds", *metrics]].replace(f" ± {DASH}$", "", regex=True)  # the sd of one seed
    if found is None:
        return table
    table = table.sort_values("arm", key=lambda arms: arms != found.reference, kind="stable")
    cells = ["reference" if arm == found.reference else found.texts.get(arm, DASH) for arm in table["arm"]]
    return table.assign(**{found.heading: cells})


def print_problems(console: Console, states: Mapping[Path, tuple[str, str]]) -> None:
    for folder, (status, message) in states.items():
        if status not in ("done", "diverged", NOT_STARTED):
            print_path(console, f"{status}: {folder.name}{message}")
    if waiting := [status for status, _ in states.values()].count(NOT_STARTED):
        print_path(console, f"{NOT_STARTED}: {count(waiting, 'run')}; run the same command again")


def print_text(console: Console, text: str) -> None:
    """Print sentences, broken at words in a terminal."""
    if text:
        console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def print_path(console: Console, line: str) -> None:
    """Print a line as it is: it has a path, or a command."""
    if line:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def as_rich(words: pd.DataFrame, width: int) -> Table:
    """The table for a console of this width: where it is narrow, headings are broken at spaces, and arms fold."""
    table, is_narrow = Table(), sum(3 + max(len(name), *words[name].map(len)) for name in words) >= width
    for name in words:
        heading = broken(name, max(LEAST_HEADING, *words[name].map(len))) if is_narrow else name
        if name == "arm":
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in words.itertuples(index=False):
        table.add_row(*(escape(str(value)) for value in row))
    return table


def broken(heading: str, width: int) -> str:
    """
    >>> broken("difference (95 % interval)", 19)
    'difference\\n(95 % interval)'
    """
    parts = heading.replace(" (", "\n(").splitlines()
    return "\n".join(textwrap.fill(part, width, break_long_words=False) for part in parts)


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


def write_study_report(folder: Path, claims: Path, tracker: Tracker, allow: Sequence[str] = ()) -> StudyReport | str:
    """Write the study's report if its runs have changed; return what the terminal shows of it.

    A failure here fails no run: the text returned then says what went wrong. "" where no run is finished.
    """
    try:
        from analysis.claims.reading import for_study, read_claims  # here, so that a plan does not wait for matplotlib
        from analysis.page.headline import answer
        from analysis.report import PAGE, why_differences_wait, write_report
        from analysis.tables.closing import arm_differences

        study = load(folder)
        if study.runs.empty:
            return ""
        judged_by = for_study(read_claims(claims, allow), study)
        written = write_report(study, judged_by)
        if written.is_new:
            publish(tracker, folder.name, folder / "report")
        waits = why_differences_wait(study, judged_by) or ""
        found = None if waits else arm_differences(study, judged_by)
        shown = written.answer or answer(study, judged_by, written.findings)
        return StudyReport(study, folder / "report" / PAGE, shown.brief, found, waits)
    except Exception as error:
        return f"no report: {error}; the runs are unaffected, and python -m analysis {folder} tries again"


def more_seeds(table: pd.DataFrame) -> str:
    """How to add four seeds to a sweep of one seed, and about how long they take."""
    seconds = table["training_seconds"].sum() * 4
    return (
        "one seed cannot separate an effect from chance: add seed=0,1,2,3,4 to the command "
        f"(about {duration(seconds)} more)"
    )
