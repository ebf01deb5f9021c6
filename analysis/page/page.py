"""The report as one page: a file that opens from disk, holds all it needs and fetches nothing.

Everything that comes from configs, names and errors is text: the template escapes it, and no other script than the
page's own is allowed to run. Without scripts all is there to read; with them tables sort and filter.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.claims.verdict_rule import Verdict
from analysis.page.pictures import Picture
from analysis.page.provenance import Fact
from analysis.page.sentences import MEANING, FindingText, tally
from analysis.tables.formats import LEADING, LeftOut, Table, are_numbers

SIGNS: Mapping[Verdict, str] = {
    Verdict.SUPPORTED: "✓",
    Verdict.SMALLER: "↓",
    Verdict.UNDECIDED: "≈",
    Verdict.REFUTED: "✕",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_TESTED: "○",
}
"""A sign beside each word: colour alone tells nobody."""

KINDS = {
    "foreign": "Folders that hold no run",
    "broken": "Runs whose files are not what they wrote",
    "partial": "Runs that are not finished, or failed",
    "gone": "Runs that vanished while they were read",
    "ambiguous": "Runs of the same arm and seed: which to believe would be a guess",
    "missing": "Arms and seeds without any run",
}
"""Kinds of `Study.problems`, in words."""


@dataclass(frozen=True)
class Page:
    """What the report says. left_out: figures and tables that the runs do not allow. problems: as in Study."""

    study: str
    compared: str
    findings: tuple[FindingText, ...]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    facts: tuple[Fact, ...]
    varied: Mapping[str, str]
    shared: Mapping[str, str]
    left_out: tuple[LeftOut, ...]
    problems: pd.DataFrame

    @property
    def verdicts(self) -> set[Verdict | None]:
        return {told.finding.verdict for told in self.findings}

    @property
    def tally(self) -> str:
        return tally([told.finding for told in self.findings])

    @property
    def untested(self) -> tuple[FindingText, ...]:
        return tuple(told for told in self.findings if told.finding.verdict is Verdict.NOT_TESTED)


def render(page: Page) -> str:
    """The page as HTML.

    Its policy (CSP) allows images within the page, the one script whose hash it names and what that one makes (blob:,
    which no markup can), and no request of any kind.
    """
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            script=script,
            script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            datatables=datatables(),
        )
    )


@cache
def environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {
        "NOT_TESTED": Verdict.NOT_TESTED,
        "SIGNS": SIGNS,
        "MEANING": MEANING,
        "KINDS": KINDS,
        "columns": columns,
        "by_kind": by_kind,
    }
    found.filters |= {"slug": slug}
    return found


@cache
def datatables() -> str:
    """DataTables (datatables.net, MIT) as itables packs it: an ES module, its licences inside, gzip in base64."""
    module = files("itables").joinpath("html/dt_bundle.js").read_bytes()
    return base64.b64encode(gzip.compress(module, mtime=0)).decode()


def slug(verdict: Verdict | None) -> str:
    """The verdict as a CSS class.

    >>> slug(Verdict.NOT_TESTED)
    'not-tested'
    """
    return re.sub(r"\W+", "-", verdict.value) if verdict else "shown"


def by_kind(problems: pd.DataFrame) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What kind of problem, and which runs have it: (run, problem)."""
    for kind, group in problems.groupby("kind", sort=False):
        yield KINDS.get(kind, kind), list(zip(group["run"], group["problem"], strict=True))


# --- Tables ---


@dataclass(frozen=True)
class Cell:
    """A cell's text, and the number it sorts by ("" before all) where its column is one of numbers."""

    text: str
    order: str | None


@dataclass(frozen=True)
class Column:
    """A table's column: all cells have an order, or none."""

    heading: str
    cells: tuple[Cell, ...]

    @property
    def numeric(self) -> bool:
        return any(cell.order is not None for cell in self.cells)


def columns(table: Table) -> list[Column]:
    """The columns of a table's words."""
    return [
        Column(str(heading), cells([str(value) for value in table.words.iloc[:, i]]))
        for i, heading in enumerate(table.words)
    ]


def cells(texts: Sequence[str]) -> tuple[Cell, ...]:
    """A column's cells, with what they sort by where all are numbers.

    >>> [cell.order for cell in cells(["84.3 ± 0.5", "–", "9.0 ± 1.2"])], cells(["1 of 2", "none"])[0].order
    (['84.3', '', '9.0'], None)
    """
    if not are_numbers(texts):
        return tuple(Cell(text, None) for text in texts)
    found = [LEADING.match(text) for text in texts]
    orders = [number[1].replace("−", "-") if number else "" for number in found]
    return tuple(Cell(text, order) for text, order in zip(texts, orders, strict=True))
