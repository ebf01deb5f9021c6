"""The summary of a study, and tables as CSV, Markdown and LaTeX.

>>> print(to_markdown(summary_in_words(summary(load(Path("outputs/default"))))))  # doctest: +SKIP
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd

from ablate.config.wording import printable
from ablate.files.atomic import write_together
from analysis.quantities.measure import measure
from analysis.quantities.registry import REGISTRY, selected
from analysis.records.study import Study
from analysis.tables.numbers import DASH, cell_text, fixed, mean_and_sd, significant

_CAPTION = (
    "Means over the finished runs of each arm, one run per seed. Test accuracy: mean ± standard deviation over seeds. "
    "Last loss: training loss over the last tenth of the steps. ‖g‖: norm of the gradient before clipping, over all "
    "steps. Clip rate: share of steps in which clipping shortened the gradient. Δg: reduction of the norm by clipping. "
    "Training s: seconds per run."
)

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
    | {"[": "{[}", "\n": " ", "\r": " "}  # LaTeX reads a bracket after a row's end as its height
)


Made = TypeVar("Made")


class Table(NamedTuple):
    """A table of the report.

    name     of its files, without ending
    caption  in plain words
    numbers  the frame that is saved as CSV
    words    the same rows as text, for readers
    """

    name: str
    caption: str
    numbers: pd.DataFrame
    words: pd.DataFrame


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
    return Table("summary", _CAPTION, numbers, summary_in_words(numbers))


def summary(study: Study) -> pd.DataFrame:
    """One row per arm, in order of first appearance; every mean is over the arm's finished runs, one per seed.

    Columns: arm; done, diverged, planned (numbers of seeds, planned being all seeds of the study); test_accuracy and
    test_accuracy_sd (share, 0 to 1; sd over seeds with ddof 1, NaN below two); the quantities with `in_summary` in the
    registry. NaN if no run of the arm is done, or if one of them lacks the quantity.
    """
    names = [quantity.name for quantity in selected("in_summary")]
    values = measure(study, [*names, "test_accuracy"]).values
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
                "planned": planned,
                "test_accuracy": done["test_accuracy"].mean(skipna=False),
                "test_accuracy_sd": done["test_accuracy"].std(skipna=False),
                **{name: done[name].mean(skipna=False) for name in names},
            }
        )
    columns = ["arm", "done", "diverged", "planned", "test_accuracy", "test_accuracy_sd", *names]
    return pd.DataFrame(rows, columns=columns)


def summary_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The summary as text: accuracy in per cent as mean ± sd, `2/3` seeds if one of three is not done.

    A missing number, such as the sd of a single seed, is a dash.
    """
    return pd.DataFrame(
        {
            "arm": table["arm"],
            "seeds": list(map(seeds_done, table["done"], table["planned"], table["diverged"])),
            **accuracy_column(table),
            **quantity_columns(table, [quantity.name for quantity in selected("in_summary")]),
        }
    )


def seeds_done(done: int, planned: int, diverged: int = 0) -> str:
    """
    >>> seeds_done(3, 3), seeds_done(2, 3), seeds_done(1, 3, diverged=2)
    ('3', '2/3', '1/3 (2 diverged)')
    """
    count = str(done) if done == planned else f"{done}/{planned}"
    return f"{count} ({diverged} diverged)" if diverged else count


def accuracy_column(numbers: pd.DataFrame) -> dict[str, list[str]]:
    """Heading -> mean ± sd in per cent, from the columns test_accuracy and test_accuracy_sd."""
    accuracy = REGISTRY["test_accuracy"]
    per_cent = 100 * numbers[["test_accuracy", "test_accuracy_sd"]]
    return {accuracy.heading: [mean_and_sd(mean, sd, accuracy.decimals) for mean, sd in per_cent.to_numpy()]}


def quantity_columns(numbers: pd.DataFrame, names: Iterable[str]) -> dict[str, list[str]]:
    """Heading -> texts of each named quantity's column, in the format that the registry gives it."""
    return {
        quantity.heading: [
            significant(value) if quantity.decimals is None else fixed(value, quantity.decimals)
            for value in numbers[quantity.name]
        ]
        for quantity in map(REGISTRY.__getitem__, names)
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


def to_markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown, with every character escaped that would act as markup."""
    head, *body = escaped_rows(table, MARKDOWN)
    rule = ["--:" if side == "r" else "---" for side in sides(table)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *body])


def to_latex(table: pd.DataFrame) -> str:
    r"""A tabular with the rules of `\usepackage{booktabs}`, with every character escaped that would act as markup."""
    head, *body = (rf"{' & '.join(row)} \\" for row in escaped_rows(table, LATEX))
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


def save_table(folder: Path, name: str, numbers: pd.DataFrame, words: pd.DataFrame) -> None:
    """Write the numbers as CSV, and the words as Markdown and LaTeX (booktabs)."""
    texts = dict(zip(TABLE_TYPES, (to_csv(numbers), to_markdown(words), to_latex(words)), strict=True))
    write_together(folder, {f"{name}.{kind}": text.encode(errors="backslashreplace") for kind, text in texts.items()})
