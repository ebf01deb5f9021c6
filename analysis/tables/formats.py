"""The summary of a study, and tables as CSV, Markdown and LaTeX.

>>> print(to_markdown(summary_in_words(summary(load(Path("outputs/default"))))))  # doctest: +SKIP
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd

from ablate.config.wording import printable
from ablate.files.atomic import write_together
from ablate.schema import TASKS
from analysis.quantities.measure import measure
from analysis.quantities.recorded import use_quantities_of
from analysis.quantities.registry import REGISTRY, Quantity, of_kind, primary_quantity, selected
from analysis.records.study import Study
from analysis.tables.numbers import DASH, RAISED, cell_text, fixed, mean_and_sd, significant

_CAPTION = (
    "Means over the finished runs of each arm, one run per seed. {metric}: mean ± standard deviation over seeds; "
    "settings are to be chosen by the {validation}, never by the {test}. "
    "Last loss: training loss over the last tenth of the steps. ‖g‖: norm of the gradient before clipping, over all "
    "steps. Clip rate: share of steps in which clipping shortened the gradient. Δg: reduction of the norm by clipping. "
    "Training s: seconds per run."
)

TABLE_CAPTION = "Mean ± standard deviation over the rows of each arm in the table of results, one row per run."

TABLE_TYPES = ("csv", "md", "tex")
"""File types of a table."""

FORMULA = "=+-@\t\r\n"
"""First characters by which a spreadsheet takes a cell for a formula."""

NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")

LEADING = re.compile(r"\s*[<>≤≥≈×]?\s*([+−-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\d.]|,\d|\s*×)")
"""The number at the start of a cell."""

# character -> its escape; a line break would end the table's row
MARKDOWN = str.maketrans(
    {sign: f"\\{sign}" for sign in "\\`*_[|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "}
)
LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "_%$#&{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"±": r"$\pm$", "×": r"$\times$", "‖": r"$\Vert$", "Δ": r"$\Delta$", DASH: "--"}
    | {"−": "$-$", "≥": r"$\ge$", "≤": r"$\le$", "≠": r"$\ne$", "≈": r"$\approx$", "∞": r"$\infty$", "→": r"$\to$"}
    | {"η": r"$\eta$", "θ": r"$\theta$", "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "σ": r"$\sigma$"}
    | {chr(raised): f"$^{{{chr(sign)}}}$" for sign, raised in RAISED.items()}
    | {"[": "{[}", "\n": " ", "\r": " "}  # LaTeX reads a bracket after a row's end as its height
)


Made = TypeVar("Made")
Bold = frozenset[tuple[int, int]]
NOT_BOLD: Bold = frozenset()


class Table(NamedTuple):
    """A table of the report.

    name     of its files, without ending
    caption  in plain words
    numbers  the frame that is saved as CSV
    words    the same rows as text, for readers
    bold     cells of `words` in bold, as (row, column)
    latex    its LaTeX, where that has another layout than `words`
    """

    name: str
    caption: str
    numbers: pd.DataFrame
    words: pd.DataFrame
    bold: Bold = NOT_BOLD
    latex: str | None = None


class LeftOut(NamedTuple):
    """A table or figure that the runs do not allow, and why."""

    name: str
    reason: str


def made_or_left_out(name: str, make: Callable[[], Made], refusal: type[Exception]) -> Made | LeftOut:
    """What `make` returns, or why it cannot: the message of the `refusal` that it raises."""
    try:
        return make()
    except refusal as reason:
        return LeftOut(name, str(reason))


# --- The summary ---


def summary_table(study: Study) -> Table:
    """The summary with its caption."""
    numbers = summary(study)
    if study.table is not None:
        return Table("summary", TABLE_CAPTION, numbers, summary_in_words(numbers))
    validation, test = primary_shown(study.primary)
    caption = _CAPTION.format(metric=several(test.metric.words), validation=validation.words, test=test.words)
    return Table("summary", caption, numbers, summary_in_words(numbers))


def several(words: str) -> str:
    """The name of a metric at the start of a sentence on several of its values.

    >>> several("perplexity"), several("macro F1")
    ('Perplexities', 'Macro F1')
    """
    plural = f"{words[:-1]}ies" if words.endswith("y") else words
    return f"{plural[0].upper()}{plural[1:]}"


def primary_shown(primary: str) -> tuple[Quantity, Quantity]:
    """The primary metric in the summary: what settings may be chosen by, directly before what they may not be."""
    return primary_quantity(primary, "validation"), primary_quantity(primary)


def summary(study: Study) -> pd.DataFrame:
    """One row per arm, in order of first appearance; every mean is over the arm's finished runs, one per seed.

    Columns: arm; done, diverged, planned (numbers of seeds, planned being all seeds of the study); the primary metric
    on validation and test with their standard deviations (shares are 0 to 1; sd over seeds with ddof 1, NaN below two);
    the quantities with `in_summary` in the registry. NaN if no run of the arm is done, or if one of them lacks the
    quantity.
    """
    use_quantities_of(study)
    names = [quantity.name for quantity in selected("in_summary")]
    primary = [quantity.name for quantity in primary_shown(study.primary)]
    if study.table is not None:
        names, primary = [], [metric.quantity for metric in study.table.metrics]
    values = measure(study, [*names, *primary]).values
    runs = study.runs.set_index("run")[["arm", "status"]].join(values, how="inner")
    planned = pd.concat([study.runs["seed"], study.left_out["seed"]]).nunique()
    rows = []
    runs_of = dict(iter(runs.groupby("arm")))
    for arm in study.arms:
        of_arm = runs_of.get(arm, runs[:0])
        done = of_arm[of_arm["status"] == "done"]
        rows.append(
            {
                "arm": arm,
                "done": len(done),
                "diverged": len(of_arm) - len(done),
                "planned": planned if study.is_paired else len(of_arm),
                **means_and_sds(done, primary),
                **{name: done[name].mean(skipna=False) for name in names},
            }
        )
    of_metric = [column for name in primary for column in (name, f"{name}_sd")]
    return pd.DataFrame(rows, columns=["arm", "done", "diverged", "planned", *of_metric, *names])


def means_and_sds(runs: pd.DataFrame, names: Iterable[str]) -> dict[str, float]:
    """Mean and standard deviation of each named quantity over runs, as the columns `name` and `name_sd`."""
    found = {}
    for name in names:
        found |= {name: runs[name].mean(skipna=False), f"{name}_sd": runs[name].std(skipna=False)}
    return found


def summary_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The summary as text: the primary metric as mean ± sd, `2/3` seeds if one of three is not done.

    A missing number, such as the sd of a single seed, is a dash. Without any value on validation there is no column.
    """
    *others, last = (name for name in table if f"{name}_sd" in table)
    shown = [*(name for name in others if table[name].notna().any()), last]
    return pd.DataFrame(
        {
            "arm": table["arm"],
            "seeds": list(map(seeds_done, table["done"], table["planned"], table["diverged"])),
            **{heading: texts for name in shown for heading, texts in mean_column(table, name).items()},
            **quantity_columns(table, [q.name for q in selected("in_summary") if q.name in table]),
        }
    )


def seeds_done(done: int, planned: int, diverged: int = 0) -> str:
    """
    >>> seeds_done(3, 3), seeds_done(2, 3), seeds_done(1, 3, diverged=2)
    ('3', '2/3', '1/3 (2 diverged)')
    """
    count = str(done) if done == planned else f"{done}/{planned}"
    return f"{count} ({diverged} diverged)" if diverged else count


def mean_column(numbers: pd.DataFrame, name: str) -> dict[str, list[str]]:
    """Heading -> mean ± sd, shares in per cent, from the columns `name` and `name_sd`."""
    quantity = REGISTRY[name]
    return {quantity.heading or quantity.row_heading: means_in_words(numbers[name], numbers[f"{name}_sd"], quantity)}


def means_in_words(means: pd.Series, sds: pd.Series, quantity: Quantity) -> list[str]:
    """Mean ± sd of each row, shares in per cent, in the decimals of the quantity."""
    factor = 100 if quantity.scale == "points" else 1
    means, sds = factor * means, factor * sds
    decimals = quantity.decimals
    if decimals is None:
        decimals = decimals_of(means.max())
    return [mean_and_sd(mean, sd, decimals) for mean, sd in zip(means, sds, strict=True)]


def decimals_of(largest: float) -> int:
    """Number of decimals that gives the largest number of a column three significant digits.

    >>> decimals_of(0.0432), decimals_of(12.3), decimals_of(4000.0)
    (4, 1, 0)
    """
    return max(0, 2 - math.floor(math.log10(largest))) if 0 < largest < math.inf else 0


def quantity_columns(numbers: pd.DataFrame, names: Iterable[str], kind: str = TASKS[0]) -> dict[str, list[str]]:
    """Heading -> texts of each named quantity's column, in the format that the registry gives it."""
    return {
        quantity.heading: [
            significant(value) if quantity.decimals is None else fixed(value, quantity.decimals)
            for value in numbers[quantity.name]
        ]
        for quantity in (of_kind(REGISTRY[name], kind) for name in names)
    }


# --- Files ---


def to_csv(table: pd.DataFrame) -> str:
    """Comma-separated values in full precision; a missing value is empty.

    A name that a spreadsheet would compute, such as "=1+1", begins with an apostrophe, as spreadsheets write text.
    Read it with `keep_default_na=False`: otherwise pandas reads arms named None, NA or null as missing values.
    """
    words = [column for column in table if table[column].dtype.kind not in "biufcmM"]
    texts = {column: pd.Series([*map(as_text, table[column])], table.index, object) for column in words}
    return table.assign(**texts).rename(columns=as_text).to_csv(index=False, lineterminator="\n")


def as_text(value: object) -> object:
    """A cell that no spreadsheet computes and no terminal obeys; numbers stay, also those written as text.

    >>> [as_text(value) for value in ("=1+1", "-x", "-0.5", "none", -1, None)]
    ["'=1+1", "'-x", '-0.5', 'none', -1, None]
    """
    if not isinstance(value, str):
        return value
    is_formula = len(value) > 1 and value[0] in FORMULA and not NUMBER.fullmatch(value)
    return printable(f"'{value}" if is_formula else value)


def to_markdown(table: pd.DataFrame, bold: Bold = NOT_BOLD) -> str:
    """A table in GitHub's Markdown, with every character escaped that would act as markup."""
    head, *body = emphasised(escaped_rows(table, MARKDOWN), bold, "**{}**")
    rule = ["--:" if side == "r" else "---" for side in sides(table)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *body])


def to_latex(table: pd.DataFrame, bold: Bold = NOT_BOLD) -> str:
    r"""A tabular with the rules of `\usepackage{booktabs}`, with every character escaped that would act as markup."""
    cells = emphasised(escaped_rows(table, LATEX), bold, r"\textbf{{{}}}")
    head, *body = (rf"{' & '.join(row)} \\" for row in cells)
    begin = rf"\begin{{tabular}}{{{sides(table)}}}"
    rows = [begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "".join(f"{row}\n" for row in rows)


def sides(table: pd.DataFrame) -> str:
    """Alignment as LaTeX writes it, one letter per column: l for the first and for words, r for numbers.

    >>> sides(pd.DataFrame({"arm": ["1"], "quantity": ["loss"], "effect": ["×0.83"], "interval": ["–"]}))
    'llrr'
    """
    columns = ([cell_text(value) for value in table.iloc[:, i]] for i in range(1, len(table.columns)))
    return "l" + "".join("r" if are_numbers(column) else "l" for column in columns)


def are_numbers(texts: Iterable[str]) -> bool:
    """Whether each text begins with a number, is empty, or is a dash.

    >>> are_numbers(["84.3 ± 0.5", "–", "< 0.001"]), are_numbers(["1 of 2", "none"])
    (True, False)
    """
    return all(LEADING.match(text) or text.strip() in ("", DASH) for text in texts)


def escaped_rows(table: pd.DataFrame, escapes: Mapping[int, str]) -> list[list[str]]:
    """Heading and rows as escaped text."""
    rows = [table.columns, *table.to_numpy(object)]
    return [[printable(cell_text(value)).translate(escapes) for value in row] for row in rows]


def emphasised(rows: Sequence[Sequence[str]], bold: Bold, form: str) -> list[list[str]]:
    """Escaped rows, heading first, with the cells in bold, (row below the heading, column), put into `form`."""
    return [
        [form.format(cell) if (i, j) in bold else cell for j, cell in enumerate(row)] for i, row in enumerate(rows, -1)
    ]


def latex_text(text: str) -> str:
    r"""Text with every character escaped that LaTeX would obey, or that its usual fonts lack.

    >>> print(latex_text("50 % of a_b, −1.2×10⁻⁵"))
    50 \% of a\_b, $-$1.2$\times$10$^{-}$$^{5}$
    """
    return printable(text).translate(LATEX)


def save_table(
    folder: Path,
    name: str,
    numbers: pd.DataFrame,
    words: pd.DataFrame,
    bold: Bold = NOT_BOLD,
    latex: str | None = None,
) -> None:
    """Write the numbers as CSV, and the words as Markdown and LaTeX (booktabs); `latex` replaces the latter."""
    contents = (to_csv(numbers), to_markdown(words, bold), latex or to_latex(words, bold))
    texts = dict(zip(TABLE_TYPES, contents, strict=True))
    write_together(folder, {f"{name}.{kind}": text.encode(errors="backslashreplace") for kind, text in texts.items()})
