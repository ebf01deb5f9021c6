"""A study's report on disk: outputs/<study>/report/{tables,figures,verdicts.json}.

A finished study's report is written again only when its inputs change: the runs' record hashes and the claims file.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.claims import Claims
from analysis.export import save
from analysis.figures import Drawn, LeftOut, figures, forest_plot, hero
from analysis.findings import Finding, verdicts_json
from analysis.forest import COLUMNS
from analysis.judging import judge_claims
from analysis.load import Study
from analysis.looks import append_looks, read_looks
from analysis.plots import EFFECTS
from analysis.statistics import Interval
from analysis.tables import in_words, summary, to_csv, to_latex, to_markdown

STAMP = "inputs.sha256"


@dataclass(frozen=True)
class Report:
    """What was found, and the figures that the runs do not allow."""

    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]


def write_report(study: Study, claims: Claims) -> Report:
    """Judge the claims, log the looks, and write tables, figures and verdicts below the study's folder."""
    folder = study.folder / "report"
    judgement = judge_claims(study, claims, read_looks(study.folder))
    inputs = inputs_sha256(study, claims)
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text() == inputs:
        return Report(judgement.findings, tuple(read_left_out(folder)))
    stamp.unlink(missing_ok=True)  # from here on the report is of neither
    numbers = summary(study)
    write_table(folder / "tables", "summary", numbers, in_words(numbers))
    (folder / "verdicts.json").write_text(verdicts_json(judgement.findings), encoding="utf-8")
    left_out = tuple(draw_all(study, judgement.findings, folder / "figures"))
    (folder / "left_out.json").write_text(json.dumps(left_out, ensure_ascii=False), encoding="utf-8")
    append_looks(study.folder, judgement.looks)
    stamp.write_text(inputs)
    return Report(judgement.findings, left_out)


def read_left_out(folder: Path) -> list[LeftOut]:
    return [LeftOut(*item) for item in json.loads((folder / "left_out.json").read_text(encoding="utf-8"))]


def inputs_sha256(study: Study, claims: Claims) -> str:
    """Hash of all that the report is made of."""
    problems = study.problems.to_dict("list")
    what = {"runs": study.sha256, "problems": problems, "claims": claims.sha256}
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def write_table(folder: Path, name: str, numbers: pd.DataFrame, words: pd.DataFrame) -> None:
    """The numbers as CSV, the words as Markdown and LaTeX (booktabs)."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, content in (("csv", to_csv(numbers)), ("md", to_markdown(words)), ("tex", to_latex(words))):
        (folder / f"{name}.{kind}").write_text(content, encoding="utf-8")


def draw_all(study: Study, findings: Sequence[Finding], folder: Path) -> list[LeftOut]:
    """Draw and save every figure that the runs allow; returns the others, with the reason."""
    drawn = [*figures(study), hero(study), forest_plot(effects(findings))]
    for figure in drawn:
        if isinstance(figure, Drawn):
            save(figure.figure, figure.data, folder, figure.name)
    return [figure for figure in drawn if isinstance(figure, LeftOut)]


def effects(findings: Sequence[Finding]) -> pd.DataFrame:
    """The judged effects, parts one by one, as the forest plot takes them; NaN for what there is not."""
    judged = [finding for finding in flat(findings) if finding.verdict is not None]
    rows = [
        {
            "id": finding.id,
            "statement": finding.statement,
            "effect": finding.effect,
            **ends("", finding.interval),
            **ends("simultaneous_", finding.interval_simultaneous),
            "smallest_effect": finding.smallest_effect,
            "verdict": finding.verdict.value,
            "scale": finding.scale,
        }
        for finding in judged
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(EFFECTS, float))


def flat(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Findings, each followed by its parts and theirs."""
    for finding in findings:
        yield finding
        yield from flat(finding.parts)


def ends(prefix: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}
