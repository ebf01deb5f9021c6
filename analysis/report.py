"""Write a study's report: outputs/<study>/report/{index.html,tables,figures,verdicts.json}; list what it cannot show.

A finished study's report is written again only when its inputs change: the runs' record hashes, the claims file, and
the code that writes it.
"""

import hashlib
import json
import multiprocessing
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from ablate.config.checks import require
from ablate.files.atomic import write_together
from ablate.files.links import refuse_links
from ablate.files.reading import LARGEST_TABLE, parse_json, read_regular
from analysis.claims.finding import Finding, verdicts_json
from analysis.claims.judge import judge_claims, problems_for
from analysis.claims.looks import append_looks, read_looks
from analysis.claims.reading import Claims
from analysis.figures.all import FIGURES, OF_CLAIMS, DrawnFigure, claim_figures, figure_names, figures
from analysis.figures.export import save_figure
from analysis.page.headline import StudyAnswer, answer
from analysis.page.page import Page, first_screen, render
from analysis.page.pictures import FILE_TYPES, pictures
from analysis.page.provenance import differences, extent, facts, shared, varied
from analysis.page.sentences import findings_in_words
from analysis.page.what_next import why_differences_wait
from analysis.records.short_names import renamed, short_names
from analysis.records.source import LOOKS
from analysis.records.study import Study
from analysis.tables.all import report_tables
from analysis.tables.formats import TABLE_TYPES, LeftOut, Table, save_table, summary_table
from analysis.tables.macros import MACROS, macros

STAMP = "inputs.sha256"
PAGE = "index.html"

MANY_ARMS = 8
"""Number of arms from which a second process draws half of the figures; starting it takes two seconds."""

CODE = ("*.py", "*.j2", "*.css", "*.js")
"""Files of the packages `ablate` and `analysis` that determine a report."""


@dataclass(frozen=True)
class Report:
    """The findings, the tables and figures that the runs do not allow, and whether the report had to be written.

    answer  what the report opens with; None where an earlier report is still good
    """

    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]
    is_new: bool
    answer: StudyAnswer | None = None


def write_report(study: Study, claims: Claims, peek: bool = False) -> Report:
    """Judge the claims, log the looks, and write tables, figures, verdicts and page into the study's folder.

    Below the planned number of seeds it shows no differences between arms; with `peek` it does, which is a look.
    """
    folder = study.folder / "report"
    refuse_links(folder, study.folder / LOOKS)
    earlier = read_looks(study.folder, study.source)
    judgement = judge_claims(study, claims, earlier, peek)
    inputs = inputs_sha256(study, claims, peek)
    waits = None if peek else why_differences_wait(study, claims)
    if is_current(folder, inputs):
        return Report(judgement.findings, tuple(read_left_out(folder)), is_new=False)
    with suppress(OSError):  # until it is rewritten, the report matches neither the old nor the new inputs
        (folder / STAMP).unlink()
    tables, no_tables = write_tables(study, claims, judgement.findings, folder / "tables", waits)
    write_together(
        folder / "tables",
        {MACROS: macros(study, claims, judgement.findings, tables).encode(errors="backslashreplace")},
    )
    captions, no_figures = draw_all(study, judgement.findings, folder / "figures", claims, waits)
    left_out = (*no_tables, *no_figures)
    append_looks(study.folder, judgement.looks)
    shown = answer(study, claims, judgement.findings, table_named(tables, "ablation"))
    page = Page(
        study=study.folder.resolve().name,
        extent=extent(study),
        differences=differences(study),
        findings=findings_in_words(judgement.findings, claims),
        tables=tables,
        pictures=pictures(folder / "figures", captions),
        facts=facts(study, claims, (*earlier, *judgement.looks)),
        varied=varied(study),
        shared=shared(study),
        left_out=left_out,
        problems=problems_for(study, claims),
        **first_screen(study, claims, judgement.findings, shown, table_named(tables, "ablation")),
    )
    texts = {
        "verdicts.json": verdicts_json(judgement.findings),
        "left_out.json": json.dumps(left_out, ensure_ascii=False),
        PAGE: render(page),
    }
    write_together(folder, {name: text.encode(errors="backslashreplace") for name, text in texts.items()})
    files = [
        *texts,
        *(f"tables/{table.name}.{kind}" for table in tables for kind in TABLE_TYPES),
        f"tables/{MACROS}",
        *(f"figures/{name}.{kind}" for name in captions for kind in FILE_TYPES),
    ]
    stamp = {"inputs": inputs, "files": {name: report_file_sha256(folder / name) for name in files}}
    try:
        write_together(folder, {STAMP: json.dumps(stamp, indent=1).encode()})
    except OSError as error:  # the report is complete
        warnings.warn(f"{error}: the next report is written again", stacklevel=2)
    return Report(judgement.findings, left_out, is_new=True, answer=shown)


def table_named(tables: Sequence[Table], name: str) -> Table | None:
    return next((table for table in tables if table.name == name), None)


# --- Inputs ---


@cache
def code_sha256() -> str:
    """Hash of the code: another version of it may write another report from equal inputs."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for name in ("ablate", "analysis") for kind in CODE for path in (root / name).rglob(kind)):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def inputs_sha256(study: Study, claims: Claims, peek: bool = False) -> str:
    """Hash of everything that determines the report."""
    problems = study.problems.to_dict("list")
    inputs = {"code": code_sha256(), "runs": study.sha256, "problems": problems, "claims": claims.sha256}
    inputs |= {"peek": True} if peek else {}
    inputs |= {} if study.is_paired else {"unpaired": True}
    inputs |= {"metrics": claims.metrics.sources} if claims.metrics.sources else {}
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def is_current(folder: Path, inputs: str) -> bool:
    """Whether the report in `folder` was written from these inputs, and its files are still what was written."""
    try:
        stamp = parse_json(read_regular(folder / STAMP))
        files = stamp["files"]
        return (
            stamp["inputs"] == inputs
            and {PAGE, "verdicts.json", "left_out.json"} <= files.keys()
            and all(report_file_sha256(folder / name) == files[name] for name in files)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, damaged, or an older version's
        return False


def report_file_sha256(path: Path) -> str:
    return hashlib.sha256(read_regular(path, LARGEST_TABLE)).hexdigest()


def read_left_out(folder: Path) -> list[LeftOut]:
    """The tables and figures that an earlier report left out, with the reasons."""
    return [LeftOut(*item) for item in parse_json(read_regular(folder / "left_out.json"))]


# --- Tables and figures ---

DIFFERENCES = {
    *("ablation", "{primary}", "roles", "controls", "attribution", "anova_{primary}", "anova_jitter"),
    *("differences", "best_by_budget", "specification_curve"),
}
"""Tables and figures of differences between arms; {primary} is the primary metric."""


def shows_differences(name: str, study: Study) -> bool:
    """Whether a table or figure shows differences between arms."""
    return name in {each.format(primary=study.primary) for each in DIFFERENCES}


def made_tables(
    study: Study, claims: Claims, findings: Sequence[Finding], waits: str | None = None
) -> Iterator[Table | LeftOut]:
    """All tables of the report, each made on demand, or the reason why it is left out.

    `waits`: why no differences between arms are shown.
    """
    for table in chain([summary_table(study)], report_tables(study, claims, findings)):
        yield LeftOut(table.name, waits) if waits and shows_differences(table.name, study) else table


def made_figure(
    study: Study, claims: Claims, findings: Sequence[Finding], name: str, waits: str | None = None
) -> DrawnFigure | LeftOut:
    """One figure of the report, or the reason why it is left out. Raises ValueError for a name that no figure has."""
    every = (*OF_CLAIMS, *figure_names(study, FIGURES))
    require("figure", name, name in every, f"one of {', '.join(every)}")
    if waits and shows_differences(name, study):
        return LeftOut(name, waits)
    if name in OF_CLAIMS:
        drawn = claim_figures(study, findings, None if waits else claims)
        return next(figure for figure in drawn if figure.name == name)
    return next(named_figures(study, [name]))


def write_tables(
    study: Study, claims: Claims, findings: Sequence[Finding], folder: Path, waits: str | None = None
) -> tuple[tuple[Table, ...], tuple[LeftOut, ...]]:
    """Save every table that the runs allow; returns these tables, and the others with the reasons.

    `waits`: why no differences between arms are shown.
    """
    made = [*made_tables(study, claims, findings, waits)]
    tables = tuple(table for table in made if isinstance(table, Table))
    for table in tables:
        save_table(folder, table.name, table.numbers, table.words, table.bold, table.latex)
    return tables, tuple(table for table in made if isinstance(table, LeftOut))


def draw_all(
    study: Study, findings: Sequence[Finding], folder: Path, claims: Claims | None = None, waits: str | None = None
) -> tuple[Mapping[str, str], tuple[LeftOut, ...]]:
    """Draw and save every figure that the runs allow; returns captions by name, and the others with the reasons.

    Figures have short names of arms, and their CSV files the labels. `waits`: why no differences are shown.
    """
    every = (*OF_CLAIMS, *figure_names(study, FIGURES))
    waiting = {name: LeftOut(name, waits) for name in every if waits and shows_differences(name, study)}
    claims = None if waits else claims
    names = tuple(name for name in every if name not in (*waiting, *OF_CLAIMS))
    of_claims = claim_figures(study, findings, claims)
    if len(study.arms) < MANY_ARMS or not may_start_processes():
        made = save_all(of_claims, folder) | draw_and_save(study, names, folder)
    else:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as second:
            others = second.submit(draw_and_save, study, names[::2], folder)
            made = save_all(of_claims, folder) | draw_and_save(study, names[1::2], folder) | others.result()
    made |= waiting
    ordered = [(name, made[name]) for name in every]
    captions = {name: figure for name, figure in ordered if isinstance(figure, str)}
    return captions, tuple(figure for _, figure in ordered if isinstance(figure, LeftOut))


def may_start_processes() -> bool:
    """Whether another process may import the main module, as Python does there; a user's own script would run again."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    name = spec.name if spec else Path(getattr(main, "__file__", None) or "").stem
    return name in ("", "ablate", "ablate.__main__", "analysis.__main__")  # "": a notebook has no file


def draw_and_save(study: Study, names: Sequence[str], folder: Path) -> dict[str, str | LeftOut]:
    """Draw and save the named figures; returns each one's caption, or why it cannot be drawn."""
    return save_all(named_figures(study, names), folder)


COLUMNS_OF_ARMS = ("arm", "treatment", "control", "reference")
"""Columns with arms in the numbers of a figure."""


def named_figures(study: Study, names: Sequence[str]) -> Iterator[DrawnFigure | LeftOut]:
    """Draw the named figures with short names of arms; their numbers have the labels."""
    short = short_names(study.arms)
    labels = {name: label for label, name in short.items()}
    for figure in figures(renamed(study, short), names):
        if isinstance(figure, DrawnFigure):
            columns = figure.data.columns.intersection(COLUMNS_OF_ARMS)
            numbers = figure.data.assign(**{name: figure.data[name].replace(labels) for name in columns})
            yield figure._replace(data=numbers)
        else:
            yield figure


def save_all(drawn: Iterable[DrawnFigure | LeftOut], folder: Path) -> dict[str, str | LeftOut]:
    """Save figures; returns the caption of each by name, or why it could not be drawn."""
    made: dict[str, str | LeftOut] = {}
    for figure in drawn:
        if isinstance(figure, DrawnFigure):
            save_figure(figure.figure, figure.data, folder, figure.name)
        made[figure.name] = figure.caption if isinstance(figure, DrawnFigure) else figure
    return made


# --- What the runs cannot show ---


def limits(study: Study) -> tuple[str, ...]:
    """What a study with a single arm or seed can and cannot show, and what to run next; empty for any other study.

    Only runs that count are considered.
    """
    arms, seeds = study.runs["arm"].unique(), study.runs["seed"].unique()
    if study.table is not None:
        return ("the table has one seed only: it cannot separate differences from chance",) if len(seeds) == 1 else ()
    found = []
    if len(arms) == 1:
        found.append(
            f"the study has one arm only ({arms[0]}): the report shows what it did to each step and judges claims "
            f"about a single arm, but it compares nothing. Add arms{by_command(study, 'clip=none,fixed,delayed')}"
        )
    if len(seeds) == 1:
        found.append(
            f"the study has one seed only ({seeds[0]}): the report shows what each technique did to the steps, but it "
            "cannot separate differences from chance and judges no claim. "
            f"Add seeds{by_command(study, 'seed=0,1,2,3,4')}"
        )
    return tuple(found)


def by_command(study: Study, override: str) -> str:
    return f" to the same command, such as {override}" if study.is_of_command else ""
