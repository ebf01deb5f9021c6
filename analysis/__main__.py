"""The command: `python -m analysis outputs/<study>`: the summary, a verdict on each claim, tables and figures.

With `--against outputs/<another>`: what changed between the two, arm by arm and claim by claim.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from analysis.claims.judge import unregistered
from analysis.claims.reading import Claims, read_claims
from analysis.compare.compare import compare
from analysis.compare.words import arms_in_words, claims_in_words, headlines, settings_in_words, write_comparison
from analysis.page.sentences import findings_in_words
from analysis.records.study import Study, load
from analysis.report import PAGE, Report, limits, named_claims, write_report
from analysis.tables.formats import summary, summary_in_words


def main() -> None:
    """Exit code 0: a report was written; 2: it could not be, or can compare nothing, and why."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    parser.add_argument("study", type=Path, help="a study's folder, outputs/<study>")
    parser.add_argument("--claims", type=Path, help="a claims file; by default the one that the runs name")
    parser.add_argument("--against", type=Path, help="another study's folder: what changed from it to this one")
    arguments = parser.parse_args()
    try:
        study = finished(arguments.study)
        claims = read_claims(arguments.claims or named_claims(study))
        if arguments.against:
            show_comparison(study, finished(arguments.against), claims)
        else:
            show(study, claims, write_report(study, claims))
            if lacking := limits(study):
                raise ValueError("; ".join(lacking))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def finished(folder: Path) -> Study:
    study = load(folder)
    if study.runs.empty:
        raise ValueError(f"{folder}: no finished run; {len(study.problems)} folders are not usable")
    return study


def show(study: Study, claims: Claims, report: Report) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    words = summary_in_words(summary(study))
    console.print(as_table(words.columns.tolist(), words.to_numpy().tolist()))
    console.print(as_table(["claim", "statement", "found (95 % interval)", "n", "verdict"], verdicts(report, claims)))
    lines = [f"{problem.kind}: {problem.run}: {problem.problem}" for problem in study.problems.itertuples()]
    lines += [f"left out: {name}: {reason}" for name, reason in report.left_out]
    if len(others := unregistered(study, claims)):
        lines.append(f"{len(others)} runs were not started with this claims file: it was not written down before them")
    print_lines(console, [*lines, f"report: {study.folder / 'report' / PAGE}"])


def show_comparison(study: Study, other: Study, claims: Claims) -> None:
    comparison = compare(study, other, claims)
    folder = study.folder / "report" / f"against-{other.folder.resolve().name}"
    write_comparison(comparison, folder)
    console = Console(width=None if sys.stdout.isatty() else 140)
    print_lines(console, headlines(comparison))
    for words in (settings_in_words(comparison), arms_in_words(comparison), claims_in_words(comparison)):
        if not words.empty:
            console.print(as_table(words.columns.tolist(), words.to_numpy().tolist()))
    lines = []
    for one in (study, other):
        if len(one.problems):
            lines.append(f"{one.folder}: there are runs that do not count, or are missing; its own report names them")
        if len(others := unregistered(one, claims)):
            lines.append(f"{one.folder}: {len(others)} runs were not started with this claims file")
    print_lines(console, [*lines, f"tables: {folder}/"])


def print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def verdicts(report: Report, claims: Claims) -> list[list[str]]:
    """One row a finding, its parts below it."""
    rows, left = [], list(findings_in_words(report.findings, claims))
    while left:
        said, *left = left
        left = [*said.judged, *said.beside, *left]
        verdict = said.finding.verdict.value if said.finding.verdict else "shown, not judged"
        rows.append([said.finding.id, said.finding.statement, said.effect or "", str(said.finding.n), verdict])
    return rows


def as_table(headings: list[str], rows: list[list[str]]) -> Table:
    table = Table(*(Column(heading, overflow="fold") for heading in headings))  # no label is cut short
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


if __name__ == "__main__":
    main()
