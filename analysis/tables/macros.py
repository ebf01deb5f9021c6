r"""All numbers of a report as LaTeX macros, so that prose cannot disagree with the runs.

    \input{report/tables/ablate}
    Clipping costs \ablate{slows.effect} points (\ablate{slows.low} to \ablate{slows.high}, $p$ \ablate{slows.p}).

A key that is not in the file is an error of LaTeX that names the key. Keys, where B is a claim (F.1 its part):

    B.verdict, .statement, .sentence                in words
    B.effect, .low, .high                           with its 95 % interval; ratios where the scale is log
    B.simultaneous.low, .simultaneous.high          the interval that holds for all claims simultaneously
    B.p, .p_adjusted, .p_sign_flip, .n, .smallest
    <arm>.test_f1_macro.mean, .sd, .n               of the runs that count; shares in per cent
    ablation.<arm>.test_f1_macro.effect, .low, .high, .p, .mark, .n    the ablation table; p by Holm
    study.name, .runs, .arms, .seeds, .diverged, .claims; ablation.reference
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from analysis.claims.finding import Finding
from analysis.claims.reading import Claims
from analysis.page.sentences import FindingText, findings_in_words
from analysis.quantities.outcomes import outcomes
from analysis.quantities.registry import REGISTRY, Quantity, selected
from analysis.records.study import Study
from analysis.stats.interval import Interval
from analysis.tables.ablation_formats import effect_text, limits_text
from analysis.tables.ablation_numbers import ablated_quantities
from analysis.tables.formats import Table, decimals_of, latex_text
from analysis.tables.numbers import DASH, as_minus, fixed, p_text, ratio_text, rounded

MACROS = "ablate.tex"
"""Name of the file, next to the tables."""

_HEAD = r"""% All numbers of the report of {study}, written by ablate. Do not edit: it is written again with the report.
% Use: \input this file in the preamble, then \ablate{{key}} in the text, also in math. It needs no package.
\providecommand{{\ablate}}[1]{{%
  \ifcsname\detokenize{{ablate.#1}}\endcsname
    \csname\detokenize{{ablate.#1}}\endcsname
  \else
    \PackageError{{ablate}}{{No number has the key `\detokenize{{#1}}'}}{{The keys are in ablate.tex of the report.}}%
  \fi}}
\providecommand{{\ablatenumber}}[2]{{\expandafter\def\csname\detokenize{{ablate.#1}}\endcsname{{#2}}}}
"""

_MATH = re.compile(r"(?<!\\)\$(.+?)(?<!\\)\$")

Pair = tuple[str, str]
"""A key, and its text before it is escaped."""


def macros(study: Study, claims: Claims, findings: Sequence[Finding], tables: Iterable[Table] = ()) -> str:
    r"""The text of the file that defines `\ablate`. `tables`: those of the report, among them the ablation table.

    Numbers are formatted as on the page. A key that two numbers share is left out, so that using it is an error.
    """
    found = [*study_numbers(study, findings), *claim_numbers(findings, claims), *arm_numbers(study, findings)]
    for table in tables:
        found += ablation_numbers(table.numbers, study) if table.name == "ablation" else []
    keys = [(safe_key(key), text) for key, text in found]
    times = Counter(key for key, _ in keys)
    name = " ".join(study.folder.resolve().name.split())
    lines = [rf"\ablatenumber{{{key}}}{{{latex_anywhere(text)}}}" for key, text in keys if times[key] == 1]
    return _HEAD.format(study=name) + "\n".join([*lines, ""])


def safe_key(key: str) -> str:
    r"""A key without the characters that TeX reads differently in an argument: each becomes a hyphen.

    >>> safe_key("a  b#{x}%.n"), safe_key("delayed[start=50].n")
    ('a b--x--.n', 'delayed[start=50].n')
    """
    spaced = " ".join(key.split())
    return "".join("-" if sign in "\\{}%#^~$&" or not sign.isprintable() else sign for sign in spaced)


def latex_anywhere(text: str) -> str:
    r"""Escaped text for use in a paragraph and in math.

    >>> print(latex_anywhere("−1.2 %"))
    \ensuremath{-}1.2 \%
    """
    return _MATH.sub(r"\\ensuremath{\1}", latex_text(text))


# --- Study and claims ---


def study_numbers(study: Study, findings: Sequence[Finding]) -> list[Pair]:
    runs = study.runs
    return [
        ("study.name", study.folder.resolve().name),
        ("study.runs", str(len(runs))),
        ("study.arms", str(runs["arm"].nunique())),
        ("study.seeds", str(runs["seed"].nunique())),
        ("study.diverged", str(int((runs["status"] == "diverged").sum()))),
        ("study.claims", str(len(findings))),
    ]


def claim_numbers(findings: Sequence[Finding], claims: Claims) -> Iterator[Pair]:
    """The numbers of each finding and of its parts; what a finding lacks has no key."""
    left = list(findings_in_words(tuple(findings), claims))
    while left:
        said, *left = left
        left = [*said.judged, *said.beside, *left]
        yield from finding_numbers(said)


def finding_numbers(said: FindingText) -> Iterator[Pair]:
    finding = said.finding
    yield f"{finding.id}.statement", finding.statement
    yield f"{finding.id}.verdict", finding.verdict.value if finding.verdict else "shown, not judged"
    yield f"{finding.id}.n", str(finding.n)
    if said.effect:
        yield f"{finding.id}.sentence", said.effect
    if finding.effect is not None:
        yield f"{finding.id}.effect", on_scale(finding.effect, finding.scale)
    if finding.smallest_effect is not None:
        yield f"{finding.id}.smallest", on_scale(finding.smallest_effect, finding.scale)
    yield from limit_numbers(finding.id, finding.interval, finding.scale)
    yield from limit_numbers(f"{finding.id}.simultaneous", finding.interval_simultaneous, finding.scale)
    yield from limit_numbers(f"{finding.id}.seeds", finding.interval_seeds, finding.scale)
    if finding.why:
        yield f"{finding.id}.why", finding.why
    for name in ("power", "improvement", "skewness"):
        if (value := getattr(finding, name)) is not None:
            yield f"{finding.id}.{name}", rounded(value)
    for name in ("p", "p_adjusted", "p_sign_flip"):
        if (p := getattr(finding, name)) is not None:
            yield f"{finding.id}.{name}", p_text(p)


def limit_numbers(key: str, interval: Interval | None, scale: str | None) -> Iterator[Pair]:
    if interval is not None:
        yield f"{key}.low", on_scale(interval.low, scale)
        yield f"{key}.high", on_scale(interval.high, scale)


def on_scale(value: float, scale: str | None) -> str:
    """A number on the scale of its claim as the page writes it: logarithms as ratios.

    >>> on_scale(math.log(0.5), "log"), on_scale(-1.25, "points")
    ('0.5', '−1.25')
    """
    return ratio_text(value) if scale in ("log", "logit") else rounded(value)


# --- Arms and the ablation table ---


def arm_numbers(study: Study, findings: Sequence[Finding]) -> Iterator[Pair]:
    """Mean, standard deviation and number of runs of each arm: the quantities of the tables and of the claims.

    Means are over the runs that count; for a quantity that runs without learning distort, over those that learn.
    """
    claimed = [part.quantity for finding in findings for part in (finding, *finding.parts) if part.quantity]
    columns = ablated_quantities(study)
    known = [quantity.name for quantity in (*selected("in_summary"), *(column.quantity for column in columns))]
    names = [name for name in dict.fromkeys([*known, *claimed]) if REGISTRY[name].per_run]
    measured = outcomes(study, names)
    costs = {column.quantity.name for column in columns if column.is_cost} | {"training_seconds"}
    runs_of = {arm: runs["run"][runs["run"].isin(measured.values.index)] for arm, runs in study.runs.groupby("arm")}
    for arm, runs in runs_of.items():
        learned = runs[measured.learned.loc[runs].to_numpy()]
        for name in names:
            every = REGISTRY[name].keeps_unlearned or name in costs
            yield from mean_numbers(f"{arm}.{name}", measured.values[name].loc[runs if every else learned], name)


def mean_numbers(key: str, values: pd.Series, name: str) -> Iterator[Pair]:
    quantity = REGISTRY[name]
    mean, sd = (in_unit(value, quantity) for value in (values.mean(skipna=False), values.std(skipna=False)))
    yield f"{key}.n", str(len(values))
    if not math.isnan(mean):
        decimals = decimals_of(abs(mean)) if quantity.decimals is None else quantity.decimals
        yield f"{key}.mean", as_minus(fixed(mean, decimals))
        yield f"{key}.sd", fixed(sd, decimals)


def in_unit(value: float, quantity: Quantity) -> float:
    return 100 * value if quantity.scale == "points" else value


def ablation_numbers(numbers: pd.DataFrame, study: Study) -> Iterator[Pair]:
    """The differences of the ablation table."""
    yield "ablation.reference", str(numbers["arm"].iloc[0])
    columns = [column.quantity for column in ablated_quantities(study)]
    shown = [quantity for quantity in columns if f"{quantity.name}_effect" in numbers]
    for row in numbers.iloc[1:].to_dict("records"):
        for quantity in shown:
            cells = {name: row[f"{quantity.name}_{name}"] for name in ("effect", "low", "high", "p_holm", "mark")}
            key = f"ablation.{row['arm']}.{quantity.name}"
            yield f"{key}.mark", cells["mark"]
            yield f"{key}.n", str(row[f"{quantity.name}_paired"])
            if math.isnan(cells["effect"]):
                continue
            yield f"{key}.effect", effect_text(cells["effect"], quantity).removeprefix("×")
            for end, text in zip(("low", "high"), limits_text(cells["low"], cells["high"], quantity), strict=False):
                yield f"{key}.{end}", text
            if (text := p_text(cells["p_holm"])) != DASH:
                yield f"{key}.p", text
