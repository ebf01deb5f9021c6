"""Judge a study: `python -m analysis outputs/<study>` prints its summary and verdicts and writes its report.

With `--against outputs/<another>` it prints and writes what changed between the two, arm by arm and claim by claim.
`python -m analysis results.csv` judges runs that were made elsewhere: one row per run, with the settings of its arm,
its seed and its metrics (CSV, TSV, JSON lines, Parquet; stores of MLflow and Optuna; exports of Weights & Biases).
`python -m analysis pack outputs/<study>` writes the study as one file, <study>.zip, which can be judged and compared as
its folder can, and `python -m analysis unpack <study>.zip` makes it a folder again.
"""

if __name__ == "__main__":
    from ablate.config.start import leave_folder

    leave_folder()

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ablate.config.checks import refusal
from ablate.config.output import use_lenient_output
from ablate.config.terminal import EscapingConsole
from ablate.config.wording import count, printable
from ablate.files.links import refuse_links
from ablate.files.reading import read_regular
from analysis.archive_commands import COMMANDS, archive_command
from analysis.claims.judge import problems_for, unregistered
from analysis.claims.reading import Claims
from analysis.compare.compare import compare
from analysis.compare.words import arms_in_words, claims_in_words, headlines, settings_in_words, write_comparison
from analysis.judged import check_output, chosen_claims, load_chosen, load_finished, read_claims_for, written_report
from analysis.page.headline import headline
from analysis.page.sentences import findings_in_words
from analysis.records.study import Study
from analysis.report import Report, limits
from analysis.result_tables import TableOptions, add_column_options, is_result_path
from analysis.tables.formats import summary, summary_in_words


def main() -> None:
    """Run the command. Exit code 0: the report was written; 2: it could not be, and the message says why."""
    use_lenient_output()
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    parser.add_argument(
        "study", type=Path, help="the study's folder, outputs/<study>, its archive, or a table of results"
    )
    parser.add_argument("--claims", help="the claims: a file, or a name in conf/claims; by default the runs' own")
    parser.add_argument("--against", type=Path, help="another study: show what changed from it to this")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of your own whose functions the claims file names as metrics; may be repeated",
    )
    parser.add_argument(
        "--peek", action="store_true", help="show effects below the planned number of seeds, which spends a look"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="the folder for the report of an archive; by default <study>",
    )
    add_column_options(parser)
    with exit_code_2():
        if sys.argv[1:2] and sys.argv[1] in COMMANDS:
            print(printable("\n".join(archive_command(*sys.argv[1:]))))
            return
        arguments = parser.parse_args()
        if arguments.against and is_result_path(arguments.study):
            raise refusal("--against", arguments.against, "left out for a table, which has no records to compare")
        study = load_chosen(arguments.study, TableOptions.typed(arguments), arguments.output)
        if study.table is not None:
            print(printable("\n".join(study.table.summary)))
        check_output(study)
        path = chosen_claims(study, arguments.claims)
        claims = read_claims_for(study, path, arguments.allow)
        if arguments.against:
            print_comparison(study, load_finished(arguments.against), claims)
            return
        report, line = written_report(study, claims, arguments.peek)
        print_report(study, claims, report, [*other_files(path, claims), line])
        if not line.startswith("report:"):
            sys.exit(2)


@contextmanager
def exit_code_2() -> Iterator[None]:
    """Print a ValueError, and exit with code 2."""
    try:
        yield
    except ValueError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(2)


def other_files(judged_by: Path, claims: Claims) -> list[str]:
    """A line if the user's own claims file is no longer what the study's copy of it is."""
    own = Path("conf/claims") / judged_by.name
    if (
        judged_by.parent.name != ".claims"
        or not own.is_file()
        or "compare" in read_regular(own).decode(errors="replace")
    ):
        return []
    if hashlib.sha256(own.read_bytes()).hexdigest() == claims.sha256:
        return []
    return [f"{own} is not what the runs were started with; --claims {own.stem} judges by it"]


def print_report(study: Study, claims: Claims, report: Report, last: Sequence[str]) -> None:
    console = EscapingConsole(width=None if sys.stdout.isatty() else 140)
    words = summary_in_words(summary(study))
    console.print(as_table(words.columns.tolist(), words.to_numpy().tolist()))
    if report.findings:
        headings = ["claim", "statement", "found (95 % interval)", "n", "verdict"]
        console.print(as_table(headings, verdicts(report, claims)))
    lines = tuning_lines(report, claims)
    lines += [
        f"{problem.kind}: {problem.run}: {problem.problem}" for problem in problems_for(study, claims).itertuples()
    ]
    lines += [f"left out: {name}: {reason}" for name, reason in report.left_out]
    if study.table is None and len(others := unregistered(study, claims)):
        lines.append(f"{started_with_others(others)}, so it may have been written after them")
    lacking = () if claims.compare else limits(study)  # the headline of a comparison has it
    shown = report.answer.text if report.answer else headline(study, claims, report.findings)
    print_lines(console, [*lines, *lacking, *last, shown])


def started_with_others(runs: pd.DataFrame) -> str:
    """
    >>> started_with_others(pd.DataFrame({"run": ["a", "b"]}))
    '2 runs were not started with this claims file'
    """
    return f"{count(len(runs), 'run')} {'was' if len(runs) == 1 else 'were'} not started with this claims file"


def print_comparison(study: Study, other: Study, claims: Claims) -> None:
    comparison = compare(study, other, claims)
    refuse_links(study.folder / "report")
    folder = study.folder / "report" / f"against-{other.folder.resolve().name}"
    written = f"tables: {folder}/"
    try:
        write_comparison(comparison, folder)
    except OSError as error:
        written = f"no tables could be written: {error}"
    console = EscapingConsole(width=None if sys.stdout.isatty() else 140)
    print_lines(console, headlines(comparison))
    for words in (settings_in_words(comparison), arms_in_words(comparison), claims_in_words(comparison)):
        if not words.empty:
            console.print(as_table(words.columns.tolist(), words.to_numpy().tolist()))
    lines = []
    for one in (study, other):
        if len(one.problems):
            lines.append(f"{one.source.path}: some runs do not count or are missing; the study's own report lists them")
        if len(others := unregistered(one, claims)):
            lines.append(f"{one.source.path}: {started_with_others(others)}")
    print_lines(console, [*lines, written])
    if not written.startswith("tables:"):
        sys.exit(2)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def verdicts(report: Report, claims: Claims) -> list[list[str]]:
    """One row per finding, with its parts below it: id, statement, effect, n, verdict."""
    rows = []
    for whole in findings_in_words(report.findings, claims):
        for said in whole.with_parts:
            verdict = said.finding.verdict.value if said.finding.verdict else "shown, not judged"
            rows.append([said.finding.id, said.finding.statement, said.effect or "", str(said.finding.n), verdict])
    return rows


def tuning_lines(report: Report, claims: Claims) -> list[str]:
    """How the arms of tuned claims were tuned, and the command that extends a grid whose best point is at its edge."""
    lines = []
    for whole in findings_in_words(report.findings, claims):
        for said in whole.with_parts:
            lines += [f"{said.finding.id}: {line}" for line in said.tuning]
            if extension := said.finding.details.get("extension"):
                lines += [
                    f"{said.finding.id}: extend the grid for both arms, then add its values to `over`:",
                    extension,
                ]
    return lines


def as_table(headings: list[str], rows: list[list[str]]) -> Table:
    table = Table(*(Column(heading, overflow="fold") for heading in headings))  # wrap long labels, do not cut them
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


if __name__ == "__main__":
    main()
