"""The command: `python -m analysis outputs/<study>`: the summary, a verdict on each claim, tables and figures."""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.claims import Claims, read_claims
from analysis.findings import Finding
from analysis.judging import unregistered
from analysis.load import Study, load
from analysis.report import Report, flat, write_report
from analysis.tables import in_words, summary


def main() -> None:
    """Exit code 0: a report was written; 2: it could not be, and why."""
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    parser.add_argument("study", type=Path, help="a study's folder, outputs/<study>")
    parser.add_argument("--claims", type=Path, help="a claims file; by default the one that the runs name")
    arguments = parser.parse_args()
    try:
        study = load(arguments.study)
        if study.runs.empty:
            raise ValueError(f"{arguments.study}: no finished run; {len(study.problems)} folders are not usable")
        claims = read_claims(arguments.claims or named_claims(study))
        report = write_report(study, claims)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    show(study, claims, report)


def named_claims(study: Study) -> Path:
    """The claims file that the runs name: conf/claims/<name>.yaml, here or beside the code."""
    names = set(study.runs["claims.name"].dropna()) if "claims.name" in study.runs else set()
    if len(names) != 1:
        raise ValueError(
            f"the runs name {len(names)} claims files ({', '.join(sorted(names))}): choose with --claims FILE"
        )
    package = Path(__file__).resolve().parents[1]
    places = [Path("conf"), package / "ablate/conf", package / "conf"]
    found = [place / "claims" / f"{next(iter(names))}.yaml" for place in places]
    for path in found:
        if path.is_file():
            return path
    raise ValueError(f"claims file {found[0]}: not there, nor beside the code; name it with --claims FILE")


def show(study: Study, claims: Claims, report: Report) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    words = in_words(summary(study))
    console.print(as_table(words.columns.tolist(), words.to_numpy().tolist()))
    headings = ["claim", "statement", "effect", "95 % interval", "n", "verdict"]
    console.print(as_table(headings, [verdict_row(finding) for finding in flat(report.findings)]))
    lines = [f"{problem.kind}: {problem.run}: {problem.problem}" for problem in study.problems.itertuples()]
    lines += [f"not drawn: {name}: {reason}" for name, reason in report.left_out]
    if len(others := unregistered(study, claims)):
        lines.append(f"{len(others)} runs were not started with this claims file: it was not written down before them")
    lines.append(f"tables, figures, verdicts.json: {study.folder / 'report'}/")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def verdict_row(finding: Finding) -> list[str]:
    interval = f"{finding.interval.low:.3g} to {finding.interval.high:.3g}" if finding.interval else ""
    effect = "" if finding.effect is None else f"{finding.effect:.3g} ({finding.scale})"
    verdict = finding.verdict.value if finding.verdict else "shown, not judged"
    return [finding.id, finding.statement, effect, interval, str(finding.n), verdict]


def as_table(headings: list[str], rows: list[list[str]]) -> Table:
    table = Table(*headings)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


if __name__ == "__main__":
    main()
