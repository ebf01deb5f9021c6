"""The table of controls: what else could make a difference, in runs that were made to tell (`experiment=controls`)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from analysis.claims.answer import distinguishing_settings
from analysis.claims.estimand import Settings
from analysis.claims.pairing import Refused
from analysis.records.arms import fits, overlaid, words
from analysis.tables.formats import Table
from analysis.tables.numbers import figure
from analysis.tables.technique_effects import evidence, evidence_in_words
from analysis.tables.techniques import Techniques


class Control(NamedTuple):
    """Two arms; what they differ in is no technique, or is all that a technique is suspected to be."""

    words: str
    treatment: Settings
    control: Settings
    changes: tuple[str, ...]


QUANTITIES = (("test_accuracy", "points", "test accuracy, points"), ("probe_jitter", "log", "jitter of the probe loss"))

CAPTION = (
    "What else could make a difference. Against the arm {base}: another dropout stream (A/A: what two runs of one arm "
    "differ by; an effect here speaks against the pairing) and another start of the head; and the schedule against "
    "constant learning rates, such as its own mean and last one. Effect: difference, or ratio of geometric means, "
    "with its 95 % interval (paired t, not adjusted), not judged."
)


def controls(techniques: Techniques) -> Table:
    """Two rows a control: test accuracy and jitter. Raises Refused where the study has none.

    Numbers: control, settings (of the treatment, against those of the control), quantity, off, on, kind of effect
    (ratio or difference), effect, low, high, n (paired seeds).
    """
    base, rows, refused = frozen(techniques), [], []
    if not any(fits(arm, base) for arm in techniques.study.arms.values()):
        raise Refused(f"no arm has {words(base)}")
    for control in known(techniques, base):
        for quantity, scale, said in QUANTITIES:
            try:
                rows.append(row(control, quantity, scale, said, techniques))
            except Refused as reason:
                refused.append(f"{control.words}, {said}: {reason}")
    if not rows:
        lacking = f"no arm differs from {words(base)} in nuisance, in model.head_init or in a lower learning rate alone"
        raise Refused("; ".join(refused) or f"{lacking}: experiment=controls makes such runs")
    numbers = pd.DataFrame(rows)
    caption = CAPTION.format(base=words(base))
    return Table("controls", f"{caption} Not compared: {'; '.join(refused)}." if refused else caption, numbers,
                 in_words(numbers))  # fmt: skip


def frozen(techniques: Techniques, *on: str) -> Settings:
    """The arm with no technique but freezing, where the claim freezes, and those `on`; with what the claim fixes."""
    among = [factor for factor in techniques.factors if factor in ("freeze", *on)]
    return overlaid(techniques.question.within, techniques.switched_on(among))


def known(techniques: Techniques, base: Settings) -> Iterator[Control]:
    """The controls that the study has arms for."""
    for value in others("nuisance", techniques, base):
        yield Control("another dropout stream (A/A)", base | {"nuisance": value}, base, ("nuisance",))
    for value in others("model.head_init", techniques, base):
        yield Control(f"the head's start: {value}", base | {"model.head_init": value}, base, ("model.head_init",))
    if "scheduler" in techniques.factors:
        scheduled = frozen(techniques, "scheduler")
        for value in reversed(others("optimizer.lr", techniques, base)):
            if value < base["optimizer.lr"]:
                said = f"schedule against a constant rate of {figure(value)}"
                yield Control(said, scheduled, base | {"optimizer.lr": value}, ("scheduler", "optimizer.lr"))


def others(key: str, techniques: Techniques, base: Settings) -> list[Any]:
    """Values of `key` other than the base arm's, in arms that have all else that is said of it."""
    rest = {name: value for name, value in base.items() if name != key}
    found = {arm[key] for arm in techniques.study.arms.values() if key in arm and fits(arm, rest)}
    return sorted(found - {base[key]}) if key in base else []


def row(control: Control, quantity: str, scale: str, said: str, techniques: Techniques) -> dict[str, Any]:
    drawn = techniques.paired(control.treatment, control.control, control.changes, quantity, scale)
    settings = " against ".join(distinguishing_settings([control.treatment, control.control]))
    return {"control": control.words, "settings": settings, "quantity": said, **evidence(drawn.kept, drawn.notes)}


def in_words(numbers: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "control": numbers["control"],
            "quantity": numbers["quantity"],
            **evidence_in_words(numbers),
        }
    )
