"""The ablation table as the page shows it: rows in words, the better side of each column, differences in brief."""

from collections.abc import Mapping, Sequence

from analysis.page.metric_effects import INSTEAD, brief, is_more_better, removed_parts, together
from analysis.quantities.registry import Quantity
from analysis.records.short_names import change_phrase
from analysis.records.study import Study
from analysis.tables.ablation_formats import difference_heading, difference_words
from analysis.tables.ablation_numbers import UNMARKED, ablated_quantities
from analysis.tables.formats import Table

ARROWS: Mapping[bool | None, str] = {True: "\N{NO-BREAK SPACE}↑", False: "\N{NO-BREAK SPACE}↓", None: ""}
"""Whether more is better -> the sign after a heading."""


def ablation_view(table: Table, study: Study, names: Mapping[str, str]) -> Table:
    """The table with the same rows and columns in a reader's words; `names`: short names of arms by label."""
    arms = table.numbers["arm"].tolist()
    words = table.words.rename(columns=headings([column.quantity for column in ablated_quantities(study)]))
    for before, after in ((f" {UNMARKED}", ""), (" [", " ("), ("]", ")")):
        words = words.apply(lambda column: column.str.replace(before, after, regex=False))  # noqa: B023
    words[words.columns[0]] = [f"{names[arms[0]]} (reference)", *(row_words(arm, arms[0], study) for arm in arms[1:])]
    caption = table.caption.replace(f"Reference: {arms[0]}", f"Reference: {names[arms[0]]}", 1)
    return table._replace(words=words, caption=caption)


def headings(quantities: Sequence[Quantity]) -> dict[str, str]:
    """The heading of each column -> the same with a sign for the better side, and that of its difference alone."""
    found = {"recipe": "arm"}
    for quantity in quantities:
        heading = quantity.heading or quantity.row_heading
        found[heading] = f"{heading}{ARROWS[is_more_better(quantity)]}"
        found[difference_heading(quantity)] = difference_words(quantity)
    return found


def row_words(arm: str, reference: str, study: Study) -> str:
    """What an arm has otherwise than the reference: "without freezing", "with clipping at 1"."""
    arms = study.arms
    phrase, is_removal = change_phrase(arms[arm], arms[reference], list(arms.values()), study.factors)
    if not is_removal:
        return brief(phrase) if INSTEAD in phrase else f"with {phrase}"
    parts = removed_parts(arms[arm], arms[reference], study.factors)
    return f"without {phrase}" if parts == 1 else f"without {together(parts).partition(' ')[0]} of them"
