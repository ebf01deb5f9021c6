"""The ablation table: a reference recipe, and each arm that differs from it in exactly one factor."""

import math
from collections import defaultdict

import pandas as pd

from analysis.claims.estimand import Settings
from analysis.claims.pairing import Refused
from analysis.quantities.chance import TASK_KINDS
from analysis.quantities.outcomes import outcomes
from analysis.records.arms import words
from analysis.records.study import Study
from analysis.tables.ablation_arms import AblatedArm, ablated, ablation_reference, techniques_on
from analysis.tables.ablation_formats import ablation_in_words, ablation_latex
from analysis.tables.ablation_numbers import ablated_quantities, column_of
from analysis.tables.formats import Table

_CAPTION = (
    "Reference: {reference}, {why}. Each other row is an arm that differs from it in one factor{empty}. Mean ± "
    "standard deviation over seeds; the best mean is bold. Difference: row − reference of the same seed, or the ratio "
    "of geometric means, with its interval, which is simultaneous over the rows (Bonferroni, separately per quantity; "
    "{error}). Lower, higher: p < .05 after Holm's adjustment over the rows, an asterisk in LaTeX. Diverged runs "
    "count with the {metric} of {guess}; the loss at the end is that of runs that learn."
)
_TABLE_CAPTION = (
    "Reference: {reference}, {why}. Each other row is an arm that differs from it in one factor{empty}. Mean ± "
    "standard deviation over the rows of the table; the best mean is bold where it is known whether more is better. "
    "Difference: row − reference {how}, with its interval, which is simultaneous over the rows (Bonferroni, separately "
    "per metric). Lower, higher: p < .05 after Holm's adjustment over the rows, an asterisk in LaTeX."
)
_ERROR = "paired, over seeds; for the {test} over seeds and test examples, where predictions are recorded"


def ablation(study: Study, reference: Settings | None = None) -> Table:
    """The ablation table. Raises Refused if no arm differs from the reference in one factor alone.

    Numbers: row, arm, then for each quantity q of `ablated_quantities` that the study has: q_n (runs), q_mean, q_sd
    (shares are 0 to 1); against the reference q_paired (seeds), q_effect (points, or a ratio), q_low and q_high (its
    simultaneous interval), q_p, q_p_holm, and q_mark (lower, higher, no difference shown).

    `reference`: settings of the reference arm; `ablation_reference` chooses it otherwise.
    """
    arm, why = ablation_reference(study, reference)
    rows = [AblatedArm("reference", "reference", arm, ()), *ablated(study, arm)]
    if not any(len(row.changes) == 1 for row in rows):
        raise Refused(f"no arm differs from {arm} in exactly one factor of the recipe")
    columns = ablated_quantities(study)
    measured = outcomes(study, [column.quantity.name for column in columns])
    numbers = pd.DataFrame({"row": [row.plain for row in rows], "arm": [row.arm for row in rows]})
    shown, refused, lacking = [], defaultdict(list), []
    for column in columns:
        cells, reasons = column_of(column, rows, study, measured)
        if all(math.isnan(cell["mean"]) for cell in cells):
            reason = "not recorded" if any(cell["n"] for cell in cells) else "no run learns"
            lacking.append(f"{column.quantity.words} ({reason})")
            continue
        shown.append(column)
        for row, reason in reasons.items():
            refused[row, reason].append(column.quantity.words)
        numbers = numbers.join(pd.DataFrame(cells).add_prefix(f"{column.quantity.name}_"))
    is_whole = any(len(row.changes) > 1 for row in rows)
    caption = _TABLE_CAPTION if study.table else _CAPTION
    caption = caption.format(
        reference=f"{arm} ({words(techniques_on(study.arms[arm]))})" if techniques_on(study.arms[arm]) else arm,
        why=why,
        empty="; the last has none of the techniques that vary" if is_whole else "",
        error=_ERROR.format(test=columns[0].quantity.words),
        metric=columns[0].quantity.metric.words,
        guess=TASK_KINDS[study.kind].guess,
        how="of the same seed" if study.is_paired else "over unpaired runs, by Welch's t",
    )
    if refused:
        reasons = (f"{row}, {', '.join(names)}: {reason}" for (row, reason), names in refused.items())
        caption += f" Not compared: {'; '.join(reasons)}."
    if lacking:
        caption += f" Left out: {', '.join(lacking)}."
    texts, bold = ablation_in_words(numbers, rows, shown)
    return Table("ablation", caption, numbers, texts, bold, ablation_latex(numbers, rows, shown, caption))
