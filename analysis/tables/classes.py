"""Precision, recall and F1 of each class, or of each type of entity, per arm."""

import pandas as pd

from analysis.claims.pairing import Refused
from analysis.quantities.by_class import furthest_arms, scores_by_class
from analysis.records.study import Study
from analysis.tables.formats import Table
from analysis.tables.numbers import mean_and_sd

MOST_ARMS, MOST_IN_TABLE = 6, 30
"""Most arms and most classes of the table."""

SCORES = {"precision": "precision %", "recall": "recall %", "f1": "F1 %"}

_CAPTION = (
    "{what} of the test split: mean ± standard deviation over the finished runs. Precision: share of the predictions "
    "of a {unit} that are right. Recall: share of the {unit}'s {of} that are predicted. F1: 2PR / (P + R). n: number "
    "of {of} with that label. A dash: no prediction, or no label, of that {unit}."
)


def classes(study: Study) -> Table:
    """One row per arm and class. Raises Refused without a prediction, and with too many classes.

    Numbers: arm, class, n, seeds, then precision, recall and f1 with their standard deviations (shares, 0 to 1).
    """
    arms = furthest_arms(study, list(study.arms), MOST_ARMS)
    found = scores_by_class(study, arms)
    if found.empty:
        raise Refused("no finished run recorded predictions")
    if (number := found["class"].nunique()) > MOST_IN_TABLE:
        raise Refused(f"a table has at most {MOST_IN_TABLE} classes; there are {number}")
    grouped = found.groupby(["arm", "class"], sort=False)
    numbers = grouped.agg(n=("n", "max"), seeds=("seed", "size")).reset_index()
    for name in SCORES:
        numbers[name], numbers[f"{name}_sd"] = grouped[name].mean().to_numpy(), grouped[name].std().to_numpy()
    order = {arm: i for i, arm in enumerate(study.arms)}
    numbers = numbers.sort_values("arm", key=lambda column: column.map(order), kind="stable", ignore_index=True)
    words = pd.DataFrame(
        {
            "arm": numbers["arm"],
            "class": numbers["class"],
            "n": numbers["n"].map(str),
            **{
                heading: [mean_and_sd(100 * row[name], 100 * row[f"{name}_sd"], 1) for _, row in numbers.iterrows()]
                for name, heading in SCORES.items()
            },
        }
    )
    caption = caption_of_classes(study, len(arms))
    return Table("classes", caption, numbers, words)


def caption_of_classes(study: Study, shown: int) -> str:
    entities = study.kind == "token_classification" and study.primary == "entity_f1"
    texts = ("Types of entities", "type", "entities") if entities else ("Classes", "class", "units")
    caption = _CAPTION.format(what=texts[0], unit=texts[1], of=texts[2])
    if shown < len(study.arms):
        caption += f" Shows the first arm and the {shown - 1} that differ most from it in the primary metric."
    return caption
