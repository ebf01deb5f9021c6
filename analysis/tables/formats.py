"""A study's tables: frames of numbers, then of words, then CSV, Markdown or LaTeX. Each step a pure function.

>>> print(to_markdown(in_words(summary(load(Path("outputs/default"))))))  # doctest: +SKIP
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ablate.files.atomic import write_together
from analysis.quantities.measure import measure
from analysis.records.study import Study

SUMMARY = {
    "last_training_loss": ("last loss", 3),
    "mean_grad_norm": ("‖g‖", 2),
    "clip_rate": ("clip rate", 2),
    "mean_delta_g": ("Δg", 2),
    "training_seconds": ("training s", 1),
}
"""Quantities of the summary: their heading and decimals."""

SUMMARY_CAPTION = (
    "Each arm's finished runs, one a seed, and their means. Test accuracy: mean ± standard deviation over seeds. Last "
    "loss: training loss over the last tenth of the steps. ‖g‖: norm of the gradient before clipping, over all steps. "
    "Clip rate: share of steps whose gradient was cut. Δg: what clipping took off the norm. Training s: seconds a run."
)

DASH = "–"

LEADING = re.compile(r"\s*[<>≤≥≈×]?\s*([+−-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\d.]|,\d|\s*×)")
"""The number that a cell begins with."""

# sign -> what it takes to have it stand for itself; a line break would end the table's row
MARKDOWN = str.maketrans(
    {sign: f"\\{sign}" for sign in "\\`*_[|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "}
)
LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "_%$#&{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"±": r"$\pm$", "×": r"$\times$", "‖": r"$\Vert$", "Δ": r"$\Delta$", DASH: "--"}
    | {"[": "{[}", "\n": " ", "\r": " "}  # a bracket after a row's end would be read as its height
)


class Table(NamedTuple):
    """A table of the report: `numbers` are its CSV, `words` what people read: row for row, a text a cell.

    name: of its files, without ending. caption: plain words.
    """

    name: str
    caption: str
    numbers: pd.DataFrame
    words: pd.DataFrame


def summary_table(study: Study) -> Table:
    """The summary with its caption."""
    numbers = summary(study)
    return Table("summary", SUMMARY_CAPTION, numbers, in_words(numbers))


def summary(study: Study) -> pd.DataFrame:
    """One row an arm, in order of first appearance; every mean is over its done runs, one a seed.

    Columns: arm; done, diverged, planned (numbers of seeds; planned: all seeds of the study); test_accuracy
    and test_accuracy_sd (share, 0 to 1; the sd over seeds, ddof 1, NaN below two); the quantities of SUMMARY
    (see `analysis.quantities.formulas`). NaN where no run of the arm is done, or where one of them lacks the quantity.
    """
    values = measure(study, SUMMARY).values
    runs = study.runs.set_index("run").join(values, how="inner")
    planned = pd.concat([study.runs["seed"], study.left_out["seed"]]).nunique()
    rows = []
    for arm in study.arms:
        of_arm = runs[runs["arm"] == arm]
        done = of_arm[of_arm["status"] == "done"]
        rows.append(
            {
                "arm": arm,
                "done": len(done),
                "diverged": len(of_arm) - len(done),
                "planned": planned,
                "test_accuracy": done["test_accuracy"].mean(skipna=False),
                "test_accuracy_sd": done["test_accuracy"].std(skipna=False),
                **{name: done[name].mean(skipna=False) for name in SUMMARY},
            }
        )
    columns = ["arm", "done", "diverged", "planned", "test_accuracy", "test_accuracy_sd", *SUMMARY]
    return pd.DataFrame(rows, columns=columns)


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The summary as people read it: accuracy in per cent as mean ± sd, `2/3` seeds where one is not done.

    A dash stands for what there is not, such as the sd of a single seed.
    """
    return pd.DataFrame(
        {
            "arm": table["arm"],
            "seeds": list(map(seeds, table["done"], table["planned"], table["diverged"])),
            "test accuracy %": [
                mean_and_sd(100 * mean, 100 * sd, 1)
                for mean, sd in zip(table["test_accuracy"], table["test_accuracy_sd"], strict=True)
            ],
            **{
                heading: [number(value, decimals) for value in table[name]]
                for name, (heading, decimals) in SUMMARY.items()
            },
        }
    )


def seeds(done: int, planned: int, diverged: int = 0) -> str:
    """
    >>> seeds(3, 3), seeds(2, 3), seeds(1, 3, diverged=2)
    ('3', '2/3', '1/3 (2 diverged)')
    """
    count = str(done) if done == planned else f"{done}/{planned}"
    return f"{count} ({diverged} diverged)" if diverged else count


def mean_and_sd(mean: float, sd: float, decimals: int) -> str:
    """
    >>> mean_and_sd(84.26, 0.5, 1), mean_and_sd(84.26, float("nan"), 1), mean_and_sd(*2 * [float("nan")], 1)
    ('84.3 ± 0.5', '84.3 ± –', '–')
    """
    return f"{number(mean, decimals)} ± {number(sd, decimals)}" if not math.isnan(mean) else DASH


def number(value: float, decimals: int) -> str:
    """
    >>> number(84.26, 1), number(float("nan"), 1)
    ('84.3', '–')
    """
    return DASH if math.isnan(value) else f"{value:.{decimals}f}"


def to_csv(table: pd.DataFrame) -> str:
    """Comma-separated, at full precision; a missing value is empty.

    Read it with `keep_default_na=False`, or pandas takes arms called None, NA or null for missing values.
    """
    return table.to_csv(index=False, lineterminator="\n")


def to_markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown; no sign of a name acts as markup."""
    head, *body = cells(table, MARKDOWN)
    rule = ["--:" if side == "r" else "---" for side in sides(table)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *body])


def to_latex(table: pd.DataFrame) -> str:
    r"""A tabular with the rules of `\usepackage{booktabs}`; no sign of a name acts as markup."""
    head, *body = (rf"{' & '.join(row)} \\" for row in cells(table, LATEX))
    begin = rf"\begin{{tabular}}{{{sides(table)}}}"
    rows = [begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "".join(f"{row}\n" for row in rows)


def sides(table: pd.DataFrame) -> str:
    """A letter a column, as LaTeX has them: the first and those of words stand left, those of numbers right.

    >>> sides(pd.DataFrame({"arm": ["1"], "quantity": ["loss"], "effect": ["×0.83"], "interval": ["–"]}))
    'llrr'
    """
    columns = ([text(value) for value in table.iloc[:, i]] for i in range(1, len(table.columns)))
    return "l" + "".join("r" if are_numbers(column) else "l" for column in columns)


def are_numbers(texts: Iterable[str]) -> bool:
    """Whether each begins with a number, or is empty or a dash.

    >>> are_numbers(["84.3 ± 0.5", "–", "< 0.001"]), are_numbers(["1 of 2", "none"])
    (True, False)
    """
    return all(LEADING.match(text) or text.strip() in ("", DASH) for text in texts)


def cells(table: pd.DataFrame, escapes: Mapping[int, str]) -> list[list[str]]:
    """Heading and rows as text: words as they are, numbers to four digits, a dash for what is missing."""
    return [[text(v).translate(escapes) for v in row] for row in [table.columns, *table.to_numpy(object)]]


def text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return DASH
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class LeftOut(NamedTuple):
    """A figure that the runs do not allow."""

    name: str
    reason: str


def write_table(folder: Path, name: str, numbers: pd.DataFrame, words: pd.DataFrame) -> None:
    """The numbers as CSV, the words as Markdown and LaTeX (booktabs)."""
    texts = {"csv": to_csv(numbers), "md": to_markdown(words), "tex": to_latex(words)}
    write_together(folder, {f"{name}.{kind}": text.encode(errors="backslashreplace") for kind, text in texts.items()})
