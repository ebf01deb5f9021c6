"""The table that ends a sweep in a terminal: what each arm reaches, and how it differs from the reference arm."""

from typing import Any, NamedTuple

from ablate.config.wording import count
from analysis.claims.comparison import outermost, reference_arm
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims
from analysis.quantities.outcomes import outcomes
from analysis.quantities.registry import Quantity, of_kind, primary_quantity
from analysis.records.arms import varying
from analysis.records.study import Study
from analysis.tables.ablation_arms import AblatedArm, ablation_reference
from analysis.tables.ablation_formats import effect_text, limits_text
from analysis.tables.ablation_numbers import AblatedQuantity, column_of
from analysis.tables.numbers import DASH


class Differences(NamedTuple):
    """The column of differences.

    reference  label of the arm that the others are compared with
    heading    of the column
    texts      label of each other arm -> its difference
    caption    what the column is, in a sentence
    """

    reference: str
    heading: str
    texts: dict[str, str]
    caption: str


def arm_differences(study: Study, claims: Claims) -> Differences | None:
    """The difference of each arm from the reference in the primary metric on the test split.

    Its interval is that of the ablation table. None without another arm that has runs.
    """
    try:
        reference = reference_label(study, claims)
    except (Refused, ValueError):
        return None
    others = [arm for arm in study.arms if arm != reference and arm in set(study.runs["arm"])]
    quantity = of_kind(primary_quantity(study.primary), study.kind)
    if not others or reference not in set(study.runs["arm"]):
        return None
    rows = [changed_arm(study, arm, reference) for arm in (reference, *others)]
    measured = outcomes(study, [quantity.name])
    cells, _ = column_of(AblatedQuantity(quantity), rows, study, measured)
    texts = {row.arm: difference_in_words(cell, quantity) for row, cell in zip(rows[1:], cells[1:], strict=True)}
    with_interval = any("(" in text for text in texts.values())
    word = "ratio" if quantity.is_ratio else "difference"
    heading = f"{word} (95 % interval)" if with_interval else word
    return Differences(reference, heading, texts, caption(quantity, len(others), with_interval))


def reference_label(study: Study, claims: Claims) -> str:
    """The reference of the claims, or else that of the ablation table."""
    if claims.compare is not None:
        return reference_arm(study.arms, claims.compare.reference)
    return ablation_reference(study)[0]


def changed_arm(study: Study, arm: str, reference: str) -> AblatedArm:
    changes = outermost(varying([study.arms[arm], study.arms[reference]]))
    return AblatedArm(arm, arm, arm, tuple(changes))


def difference_in_words(cell: dict[str, Any], quantity: Quantity) -> str:
    """The effect with its interval, where there is one."""
    if not cell["paired"]:
        return DASH
    limits = limits_text(cell["low"], cell["high"], quantity)
    return effect_text(cell["effect"], quantity) + (f" ({' to '.join(limits)})" if limits else "")


def caption(quantity: Quantity, others: int, with_interval: bool) -> str:
    """
    >>> caption(of_kind(primary_quantity("accuracy"), "classification"), 2, True)
    'difference in test accuracy from the reference, in points, on the same seeds; intervals adjusted for 2 comparisons'
    """
    if quantity.is_ratio:
        text = f"ratio of {quantity.words} to that of the reference, on the same seeds"
    else:
        unit = "points" if quantity.scale == "points" else quantity.unit
        text = f"difference in {quantity.words} from the reference, {f'in {unit}, ' if unit else ''}on the same seeds"
    return f"{text}; intervals adjusted for {count(others, 'comparison')}" if with_interval and others > 1 else text
