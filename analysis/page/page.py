"""Render the report as one HTML page: a self-contained file that opens from disk and fetches nothing.

All values from configs, names and errors are text: the template escapes them, and the page's policy allows its own
script only. The page can be read without scripts; with them its tables sort and filter.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ablate.config.wording import printable
from analysis.claims.finding import Finding
from analysis.claims.reading import Claims
from analysis.claims.verdict_rule import Verdict
from analysis.page.ablation_view import ablation_view
from analysis.page.claim_pictures import claim_pictures, claims_forest
from analysis.page.effect_pictures import EffectPicture, metric_picture
from analysis.page.effect_sentences import forest_words
from analysis.page.headline import StudyAnswer
from analysis.page.pictures import Picture
from analysis.page.provenance import Fact
from analysis.page.sentences import MEANING, FindingText, tally
from analysis.records.short_names import short_names
from analysis.records.study import Study
from analysis.tables.formats import LEADING, LeftOut, Table, are_numbers

SIGNS: Mapping[Verdict, str] = {
    Verdict.SUPPORTED: "✓",
    Verdict.SMALLER: "↓",
    Verdict.UNDECIDED: "≈",
    Verdict.EQUIVALENT: "=",
    Verdict.RULED_OUT: "✕",
    Verdict.OPPOSITE: "↔",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_TESTED: "○",
}
"""A symbol next to each verdict, so that it does not depend on colour."""

PROBLEM_KINDS = {
    "foreign": "Folders without a run",
    "broken": "Runs whose files are damaged or were changed",
    "partial": "Unfinished or failed runs",
    "gone": "Runs that disappeared while they were read",
    "ambiguous": "Runs of the same arm and seed, of which only one can count",
    "missing": "Arms and seeds without a run",
}
"""Headings for the kinds of `Study.problems`."""


@dataclass(frozen=True)
class Page:
    """The content of the page.

    extent          what was run, in words; differences: in which settings the arms differ
    varied          setting in which the arms differ -> its values; shared: setting of all arms -> its value
    left_out        figures and tables that the runs do not allow
    problems        as in Study
    answer          what the study shows, and what to do next
    forest          the effects on the metric, with a title and a note; ablation: the table below it
    claims_forest   the effects of the claims, in place of the other two where the claims tune the arms
    names           label of an arm -> its short name on this page
    claim_pictures  id of a claim -> its pictures
    """

    study: str
    extent: str
    differences: str
    findings: tuple[FindingText, ...]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    facts: tuple[Fact, ...]
    varied: Mapping[str, str]
    shared: Mapping[str, str]
    left_out: tuple[LeftOut, ...]
    problems: pd.DataFrame
    answer: StudyAnswer | None = None
    forest: EffectPicture | None = None
    forest_title: str = ""
    forest_note: str = ""
    ablation: Table | None = None
    claims_forest: tuple[EffectPicture, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    claim_pictures: Mapping[str, tuple[EffectPicture, ...]] = field(default_factory=dict)

    @property
    def verdicts(self) -> set[Verdict | None]:
        return {item.finding.verdict for item in self.findings}

    @property
    def tally(self) -> str:
        return tally([item.finding for item in self.findings])

    @property
    def arms(self) -> tuple[tuple[str, str], ...]:
        """Short name and label of each arm that has another name on this page."""
        return tuple((short, label) for label, short in self.names.items() if short != label)

    @property
    def has_marks(self) -> bool:
        """Whether the ablation table marks a difference."""
        cells = [] if self.ablation is None else self.ablation.words.to_numpy().ravel()
        return any(str(cell).endswith(("higher", "lower")) for cell in cells)

    @property
    def untested(self) -> tuple[FindingText, ...]:
        return tuple(item for item in self.findings if item.finding.verdict is Verdict.NOT_TESTED)


def render(page: Page) -> str:
    """The page as HTML.

    Its content security policy allows embedded images, the one script whose hash it names and the modules that this
    script creates (blob: URLs, which markup cannot create), and no requests.
    """
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    return (
        page_templates()
        .get_template("page.html.j2")
        .render(
            page=page,
            script=script,
            script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            datatables=datatables(),
        )
    )


@cache
def page_templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: unbroken(printable(value)) if type(value) is str else value,
    )
    found.globals |= {
        "NOT_TESTED": Verdict.NOT_TESTED,
        "SIGNS": SIGNS,
        "MEANING": MEANING,
        "columns": columns,
        "by_kind": by_kind,
    }
    found.filters |= {"slug": slug}
    return found


@cache
def datatables() -> str:
    """DataTables (datatables.net, MIT) as packaged by itables: an ES module with its licences, gzip in base64."""
    module = files("itables").joinpath("html/dt_bundle.js").read_bytes()
    return base64.b64encode(gzip.compress(module, mtime=0)).decode()


def unbroken(text: str) -> str:
    """The text with no line break between a number and its percent sign.

    >>> unbroken("95 % of the runs")
    '95\\xa0% of the runs'
    """
    return re.sub(r"(?<=\d) %", "\u00a0%", text)


def slug(verdict: Verdict | None) -> str:
    """The verdict as a CSS class.

    >>> slug(Verdict.NOT_TESTED)
    'not-tested'
    """
    return re.sub(r"\W+", "-", verdict.value) if verdict else "shown"


def by_kind(problems: pd.DataFrame) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The heading of each kind of problem, and the runs that have it: (run, problem)."""
    for kind, group in problems.groupby("kind", sort=False):
        yield PROBLEM_KINDS.get(kind, kind), list(zip(group["run"], group["problem"], strict=True))


def first_screen(
    study: Study, claims: Claims, findings: Sequence[Finding], shown: StudyAnswer, table: Table | None
) -> dict[str, Any]:
    """The fields of the page for its first screen and its cards."""
    names = short_names(study.arms)
    title, texts, note = forest_words(shown.found, names) if shown.found else ("", (), "")
    return {
        "answer": shown,
        "forest": metric_picture(shown.found, texts) if shown.found else None,
        "forest_title": title,
        "forest_note": note,
        "ablation": ablation_view(table, study, names) if table and not shown.is_on_claims else None,
        "claims_forest": claims_forest(findings, claims) if shown.is_on_claims else (),
        "names": names,
        "claim_pictures": {finding.id: claim_pictures(finding, claims) for finding in findings},
    }


# --- Tables ---

ARM = "arm"
"""The heading of a column with arms."""


@dataclass(frozen=True)
class Cell:
    """A cell's text, and the number it sorts by: "" sorts first, None where the column holds no numbers."""

    text: str
    order: str | None
    bold: bool = False

    @property
    def pieces(self) -> list[str]:
        """The text in pieces that no line break divides: a number, its interval, a word.

        >>> Cell("+0.3 (−0.4 to 0.9) higher", "0.3").pieces
        ['+0.3', '(−0.4 to 0.9)', 'higher']
        """
        return re.split(r" (?=\()|(?<=\)) ", self.text)


@dataclass(frozen=True)
class Column:
    """A column of a table: either all of its cells have an order, or none has."""

    heading: str
    cells: tuple[Cell, ...]

    @property
    def numeric(self) -> bool:
        return any(cell.order is not None for cell in self.cells)


def columns(table: Table, names: Mapping[str, str] | None = None) -> list[Column]:
    """The columns of a table as people read it, with short names of arms; `names`: these by label."""
    found = []
    for j, heading in enumerate(table.words):
        shown = names if names and heading == ARM else {}  # an option may have the name of an arm: none
        cells = sortable_cells([shown.get(str(value), str(value)) for value in table.words.iloc[:, j]])
        cells = tuple(replace(cell, bold=(i, j) in table.bold) for i, cell in enumerate(cells))
        found.append(Column(str(heading), cells))
    return found


def sortable_cells(texts: Sequence[str]) -> tuple[Cell, ...]:
    """A column's cells, with the numbers they sort by where each cell begins with a number or is empty or a dash.

    >>> [cell.order for cell in sortable_cells(["84.3 ± 0.5", "–", "9.0 ± 1.2"])]
    ['84.3', '', '9.0']
    >>> [cell.order for cell in sortable_cells(["1 of 2", "none"])]
    [None, None]
    """
    if not are_numbers(texts):
        return tuple(Cell(text, None) for text in texts)
    found = [LEADING.match(text) for text in texts]
    orders = [number[1].replace("−", "-") if number else "" for number in found]
    return tuple(Cell(text, order) for text, order in zip(texts, orders, strict=True))
