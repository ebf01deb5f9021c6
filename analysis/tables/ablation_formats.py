"""The ablation table in words and as LaTeX."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ablate.config.wording import count, printable
from analysis.quantities.registry import Quantity
from analysis.tables.ablation_arms import AblatedArm
from analysis.tables.ablation_numbers import MARKED, AblatedQuantity
from analysis.tables.formats import latex_text, means_in_words
from analysis.tables.numbers import DASH, as_minus, fixed, significant


def ablation_in_words(
    numbers: pd.DataFrame, rows: Sequence[AblatedArm], shown: Sequence[AblatedQuantity]
) -> tuple[pd.DataFrame, frozenset[tuple[int, int]]]:
    """The table as text, and the cells (row, column) in bold."""
    columns = {"recipe": [row.name for row in rows], "seeds": numbers_of_seeds(numbers, shown)}
    bold = set()
    for column in shown:
        name = column.quantity.name
        means = column_in_words(numbers, column.quantity)
        bold |= {(i, len(columns)) for i in best_rows(numbers[f"{name}_mean"].tolist(), means, column)}
        columns[column.quantity.heading or column.quantity.row_heading] = means
        columns[difference_heading(column.quantity)] = [
            difference_text(row, name, column.quantity) for row in numbers.to_dict("records")
        ]
    return pd.DataFrame(columns), frozenset(bold)


def numbers_of_seeds(numbers: pd.DataFrame, shown: Sequence[AblatedQuantity]) -> list[str]:
    return numbers[[f"{column.quantity.name}_n" for column in shown]].max(axis=1).map(str).tolist()


def difference_heading(quantity: Quantity) -> str:
    """
    >>> from analysis.quantities.registry import REGISTRY
    >>> difference_heading(REGISTRY["test_accuracy"]), difference_heading(REGISTRY["last_training_loss"])
    ('test accuracy, difference in points', 'loss at the end, ratio')
    """
    short = (quantity.heading or quantity.words).removesuffix(" %")
    return f"{short}, {difference_words(quantity)}"


def difference_words(quantity: Quantity) -> str:
    return {"log": "ratio", "points": "difference in points"}.get(quantity.scale, "difference")


def column_in_words(numbers: pd.DataFrame, quantity: Quantity) -> list[str]:
    return means_in_words(numbers[f"{quantity.name}_mean"], numbers[f"{quantity.name}_sd"], quantity)


def best_rows(means: Sequence[float], texts: Sequence[str], column: AblatedQuantity) -> list[int]:
    """The rows whose mean is the best, or is written as the best one is; none if all are written alike."""
    known = [mean for mean in means if not math.isnan(mean)]
    if not known or column.best is None:
        return []
    best = texts[list(means).index(column.best(known))].partition(" ")[0]
    found = [i for i, text in enumerate(texts) if text.partition(" ")[0] == best]
    return found if len(found) < len(texts) else []


def effect_text(value: float, quantity: Quantity) -> str:
    """A difference with its sign, or a ratio.

    >>> from analysis.quantities.registry import REGISTRY
    >>> effect_text(-0.52, REGISTRY["test_accuracy"]), effect_text(1.0434, REGISTRY["last_training_loss"])
    ('−0.5', '×1.043')
    """
    text = limit_text(value, quantity)
    return f"×{text}" if quantity.is_ratio else f"+{text}" if float(text.replace("−", "-")) > 0 else text


def limit_text(value: float, quantity: Quantity) -> str:
    """A difference in the decimals of its quantity, or a ratio in three decimals.

    >>> from analysis.quantities.registry import REGISTRY
    >>> limit_text(-0.04, REGISTRY["test_accuracy"]), limit_text(25.04, REGISTRY["last_training_loss"])
    ('0.0', '25.0')
    """
    if quantity.is_ratio:
        return fixed(value, 3) if 0.1 <= value < 10 else significant(value)
    decimals = quantity.decimals or 0
    return as_minus(fixed(round(value, decimals) + 0.0, decimals))  # + 0.0 turns -0.0 into 0.0


def limits_text(low: float, high: float, quantity: Quantity) -> list[str]:
    """The limits of an interval, without the × of ratios; none without an interval."""
    return [] if math.isnan(low) else [limit_text(end, quantity) for end in (low, high)]


def difference_text(row: Mapping[str, Any], name: str, quantity: Quantity) -> str:
    """Effect, interval and mark; the number of seeds where it is not that of the row."""
    effect = row[f"{name}_effect"]
    if math.isnan(effect):
        return DASH
    limits = " to ".join(limits_text(row[f"{name}_low"], row[f"{name}_high"], quantity)) or DASH
    fewer = f", {count(row[f'{name}_paired'], 'seed')}" if row[f"{name}_paired"] != row[f"{name}_n"] else ""
    return f"{effect_text(effect, quantity)} [{limits}{fewer}] {row[f'{name}_mark']}"


def ablation_latex(
    numbers: pd.DataFrame, rows: Sequence[AblatedArm], shown: Sequence[AblatedQuantity], caption: str
) -> str:
    r"""A tabular with booktabs: mean ± sd per quantity, and below it the difference with its mark and interval.

    The caption is a comment at the top. Marks are superscripts, the best mean is \textbf.
    """
    names = [column.quantity.name for column in shown]
    texts = {column.quantity.name: column_in_words(numbers, column.quantity) for column in shown}
    best = {
        (name, i)
        for name, column in zip(names, shown, strict=True)
        for i in best_rows(numbers[f"{name}_mean"].tolist(), texts[name], column)
    }
    heads = [latex_text(column.quantity.heading or column.quantity.row_heading) for column in shown]
    below = [small(difference_words(column.quantity)) for column in shown]
    lines = [
        f"% {' '.join(printable(caption).split())}",
        r"% Needs \usepackage{booktabs}. In a narrow column: \resizebox{\linewidth}{!}{\input{ablation}}",
        rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
        r"\toprule",
        rf"recipe & {' & '.join(heads)} \\",
        rf" & {' & '.join(below)} \\",
        r"\midrule",
    ]
    for i, (row, values) in enumerate(zip(rows, numbers.to_dict("records"), strict=True)):
        means = [latex_text(texts[name][i]) for name in names]
        means = [rf"\textbf{{{mean}}}" if (name, i) in best else mean for name, mean in zip(names, means, strict=True)]
        lines += [r"\addlinespace[2pt]"] if i else []
        lines += [rf"{' & '.join([latex_text(row.name), *means])} \\"]
        if i:
            differences = [latex_difference(values, column.quantity) for column in shown]
            lines += [rf" & {' & '.join(differences)} \\"]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def latex_difference(values: Mapping[str, Any], quantity: Quantity) -> str:
    """Effect, mark and interval of one row, in small type; a dash where it is not compared."""
    name = quantity.name
    effect, limits = values[f"{name}_effect"], limits_text(values[f"{name}_low"], values[f"{name}_high"], quantity)
    if math.isnan(effect):
        return small(latex_text(DASH))
    star = "$^{*}$" if values[f"{name}_mark"] in MARKED else ""
    interval = latex_text(f"[{', '.join(limits) or DASH}]")
    return small(f"{latex_text(effect_text(effect, quantity))}{star} {interval}")


def small(latex: str) -> str:
    return rf"{{\scriptsize {latex}}}"
