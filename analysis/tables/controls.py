"""The table of controls: comparisons that test other explanations of a difference."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from analysis.claims.answer import distinguishing_settings
from analysis.claims.estimand import Settings
from analysis.claims.pairing import Refused
from analysis.quantities.registry import REGISTRY, Quantity
from analysis.records.arms import fits, overlaid, words
from analysis.tables.formats import Table
from analysis.tables.numbers import significant
from analysis.tables.technique_effects import effect_columns, effect_in_words
from analysis.tables.techniques import Techniques
from analysis.write_up import CONTROLS_EXPERIMENT


class Control(NamedTuple):
    """Two arms that differ in no technique, or only in the suspected mechanism of one."""

    words: str
    treatment: Settings
    control: Settings
    changes: tuple[str, ...]


_COMPARED = ("test_accuracy", "probe_jitter")

_CAPTION = (
    "Other explanations of a difference. Compared with the arm {base}: another dropout stream (A/A: the difference "
    "between two runs of one arm; an effect here speaks against the pairing) and another initialisation of the head. "
    "The schedule is compared with constant learning rates, such as its own mean and its last rate. Effect: "
    "difference, or ratio of geometric means, with its 95 % interval (paired t, not adjusted), not judged."
)


def controls(techniques: Techniques) -> Table:
    """Two rows per control: test accuracy and jitter. Raises Refused if the study has no control.

    Numbers: control, settings (of the treatment, against those of the control), quantity, off, on, kind of effect
    (ratio or difference), effect, low, high, n (paired seeds).
    """
    base, rows, refused = base_arm(techniques), [], []
    if not any(fits(arm, base) for arm in techniques.study.arms.values()):
        raise Refused(f"no arm has {words(base)}")
    for control in controls_of(techniques, base):
        for quantity in map(REGISTRY.__getitem__, _COMPARED):
            try:
                rows.append(control_row(control, quantity, techniques))
            except Refused as reason:
                refused.append(f"{control.words}, {quantity.effect_words}: {reason}")
    if not rows:
        lacking = f"no arm differs from {words(base)} in nuisance, in model.head_init or in a lower learning rate alone"
        raise Refused("; ".join(refused) or f"{lacking}: {CONTROLS_EXPERIMENT} makes such runs")
    numbers, caption = pd.DataFrame(rows), _CAPTION.format(base=words(base))
    caption += f" Not compared: {'; '.join(refused)}." if refused else ""
    return Table("controls", caption, numbers, controls_in_words(numbers))


def base_arm(techniques: Techniques, *on: str) -> Settings:
    """The arm with freezing, if the claim freezes, and the techniques in `on`; all other techniques are off."""
    among = [factor for factor in techniques.factors if factor in ("freeze", *on)]
    return overlaid(techniques.question.within, techniques.switched_on(among))


def controls_of(techniques: Techniques, base: Settings) -> Iterator[Control]:
    """The controls for which the study has arms."""
    for value in other_values("nuisance", techniques, base):
        yield Control("another dropout stream (A/A)", base | {"nuisance": value}, base, ("nuisance",))
    for value in other_values("model.head_init", techniques, base):
        yield Control(f"the head's start: {value}", base | {"model.head_init": value}, base, ("model.head_init",))
    if "scheduler" in techniques.factors:
        scheduled = base_arm(techniques, "scheduler")
        for value in reversed(other_values("optimizer.lr", techniques, base)):
            if value < base["optimizer.lr"]:
                name = f"schedule against a constant rate of {significant(value)}"
                yield Control(name, scheduled, base | {"optimizer.lr": value}, ("scheduler", "optimizer.lr"))


def other_values(key: str, techniques: Techniques, base: Settings) -> list[Any]:
    """Values of `key` in arms that share all other settings of the base arm, without its own value."""
    rest = {name: value for name, value in base.items() if name != key}
    found = {arm[key] for arm in techniques.study.arms.values() if key in arm and fits(arm, rest)}
    return sorted(found - {base[key]}) if key in base else []


def control_row(control: Control, quantity: Quantity, techniques: Techniques) -> dict[str, Any]:
    drawn = techniques.paired(control.treatment, control.control, control.changes, quantity)
    return {
        "control": control.words,
        "settings": " against ".join(distinguishing_settings([control.treatment, control.control])),
        "quantity": quantity.effect_words,
        **effect_columns(drawn.kept, drawn.notes),
    }


def controls_in_words(numbers: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {"control": numbers["control"], "quantity": numbers["quantity"], **effect_in_words(numbers)},
    )
