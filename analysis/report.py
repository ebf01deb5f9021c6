"""A study's report on disk: outputs/<study>/report/{index.html,tables,figures,verdicts.json}.

A finished study's report is written again only when its inputs change: the runs' record hashes and the claims file.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ablate.files.atomic import write_together
from analysis.claims.finding import Finding, verdicts_json, with_parts
from analysis.claims.judge import judge_claims
from analysis.claims.looks import append_looks, read_looks
from analysis.claims.reading import Claims
from analysis.figures.all import FIGURES, Drawn, figures, forest_plot
from analysis.figures.export import save
from analysis.figures.forest import COLUMNS
from analysis.figures.plots import EFFECTS
from analysis.page.page import Page, render
from analysis.page.pictures import pictures
from analysis.page.provenance import compared, facts, shared, varied
from analysis.page.sentences import findings_in_words
from analysis.records.study import Study
from analysis.tables.all import report_tables
from analysis.tables.formats import LeftOut, Table, save_table, summary_table
from analysis.tables.numbers import interval_columns

STAMP = "inputs.sha256"
PAGE = "index.html"

MANY_ARMS = 8
"""From so many on a second process draws half of the figures: it takes two seconds to start."""

FORMAT = 4
"""Raised when equal inputs make another report: older ones are then written again."""


@dataclass(frozen=True)
class Report:
    """What was found, the tables and figures that the runs do not allow, and whether anything had to be written."""

    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]
    is_new: bool


def write_report(study: Study, claims: Claims) -> Report:
    """Judge the claims, log the looks, and write tables, figures, verdicts and page below the study's folder."""
    folder = study.folder / "report"
    earlier = read_looks(study.folder)
    judgement = judge_claims(study, claims, earlier)
    inputs = inputs_sha256(study, claims)
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text() == inputs:
        return Report(judgement.findings, tuple(read_left_out(folder)), is_new=False)
    stamp.unlink(missing_ok=True)  # from here on the report is of neither
    tables, no_tables = write_tables(study, claims, judgement.findings, folder / "tables")
    captions, no_figures = draw_all(study, judgement.findings, folder / "figures")
    left_out = (*no_tables, *no_figures)
    append_looks(study.folder, judgement.looks)
    page = Page(
        study=study.folder.resolve().name,
        compared=compared(study),
        findings=findings_in_words(judgement.findings, claims),
        tables=tables,
        pictures=pictures(folder / "figures", captions),
        facts=facts(study, claims, (*earlier, *judgement.looks)),
        varied=varied(study),
        shared=shared(study),
        left_out=left_out,
        problems=study.problems,
    )
    texts = {
        "verdicts.json": verdicts_json(judgement.findings),
        "left_out.json": json.dumps(left_out, ensure_ascii=False),
        PAGE: render(page),
    }
    write_together(folder, {name: text.encode(errors="backslashreplace") for name, text in texts.items()})
    write_together(folder, {STAMP: inputs.encode()})
    return Report(judgement.findings, left_out, is_new=True)


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


def read_left_out(folder: Path) -> list[LeftOut]:
    return [LeftOut(*item) for item in json.loads((folder / "left_out.json").read_text(encoding="utf-8"))]


def inputs_sha256(study: Study, claims: Claims) -> str:
    """Hash of all that the report is made of."""
    problems = study.problems.to_dict("list")
    what = {"format": FORMAT, "runs": study.sha256, "problems": problems, "claims": claims.sha256}
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def write_tables(
    study: Study, claims: Claims, findings: Sequence[Finding], folder: Path
) -> tuple[tuple[Table, ...], tuple[LeftOut, ...]]:
    """Make and save every table that the runs allow; returns them, and the others with the reason."""
    made = [summary_table(study), *report_tables(study, claims, findings)]
    tables = tuple(table for table in made if isinstance(table, Table))
    for table in tables:
        save_table(folder, table.name, table.numbers, table.words)
    return tables, tuple(table for table in made if isinstance(table, LeftOut))


def draw_all(study: Study, findings: Sequence[Finding], folder: Path) -> tuple[Mapping[str, str], tuple[LeftOut, ...]]:
    """Draw and save every figure that the runs allow; returns captions by name, and the others with the reason."""
    names = tuple(FIGURES)
    made = saved([forest_plot(effects(findings))], folder)
    if len(study.arms) < MANY_ARMS:
        made |= draw(study, names, folder)
    else:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as beside:
            others = beside.submit(draw, study, names[1::2], folder)
            made |= draw(study, names[::2], folder) | others.result()
    in_order = [(name, made[name]) for name in ("forest", *names)]
    captions = {name: figure for name, figure in in_order if isinstance(figure, str)}
    return captions, tuple(figure for _, figure in in_order if isinstance(figure, LeftOut))


def draw(study: Study, names: Sequence[str], folder: Path) -> dict[str, str | LeftOut]:
    """Draw and save the named figures; returns each one's caption, or why it can't be drawn."""
    return saved(figures(study, names), folder)


def saved(drawn: Iterable[Drawn | LeftOut], folder: Path) -> dict[str, str | LeftOut]:
    made: dict[str, str | LeftOut] = {}
    for figure in drawn:
        if isinstance(figure, Drawn):
            save(figure.figure, figure.data, folder, figure.name)
        made[figure.name] = figure.caption if isinstance(figure, Drawn) else figure
    return made


def effects(findings: Sequence[Finding]) -> pd.DataFrame:
    """The judged effects, parts one by one, as the forest plot takes them; NaN for what there is not."""
    judged = [finding for finding in with_parts(findings) if finding.verdict is not None]
    rows = [
        {
            "id": finding.id,
            "statement": finding.statement,
            "effect": finding.effect,
            **interval_columns("", finding.interval),
            **interval_columns("simultaneous_", finding.interval_simultaneous),
            "smallest_effect": finding.smallest_effect,
            "verdict": finding.verdict.value,
            "scale": finding.scale,
        }
        for finding in judged
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(EFFECTS, float))


def limits(study: Study) -> tuple[str, ...]:
    """What can be said all the same, what cannot, and what it would take; empty for two arms on two seeds.

    Only runs that count are asked.
    """
    arms, seeds = study.runs["arm"].unique(), study.runs["seed"].unique()
    found = []
    if len(arms) == 1:
        found.append(
            f"one arm only ({arms[0]}): what it did to each step is shown, and claims about a single arm are judged; "
            "nothing can be compared. Run another arm beside it, such as clip=none,fixed,delayed"
        )
    if len(seeds) == 1:
        found.append(
            f"one seed only ({seeds[0]}): what each technique did to the steps is shown; no difference can be told "
            "from chance, and no claim is judged. Add seeds to the same command: seed=0,1,2,3,4"
        )
    return tuple(found)
