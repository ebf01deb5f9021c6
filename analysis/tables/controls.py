"""The table of controls: comparisons that test other explanations of a difference; the effects of A/A arms."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.claims.estimand import Settings
from analysis.claims.evidence import FLIPS, distinguishing_settings
from analysis.claims.pairing import Refused, pair
from analysis.quantities.outcomes import outcomes
from analysis.quantities.registry import REGISTRY, Quantity, primary_quantity, run_quantities
from analysis.records.arms import canonical, fits, overlaid, words
from analysis.records.study import Study
from analysis.stats.effects import Array, paired_effect
from analysis.stats.scales import SCALES
from analysis.tables.formats import Table
from analysis.tables.numbers import interval_columns, significant
from analysis.tables.technique_effects import effect_columns, effect_in_words
from analysis.tables.techniques import LEARNING_RATE, Techniques
from analysis.write_up import CONTROLS_EXPERIMENT


class Control(NamedTuple):
    """Two arms that differ in no technique, or only in the suspected mechanism of one."""

    words: str
    treatment: Settings
    control: Settings
    changes: tuple[str, ...]


_CAPTION = (
    "Other explanations of a difference. Compared with the arm {base}: another dropout stream (A/A: the difference "
    "between two runs of one arm; an effect here speaks against the pairing) and another initialisation of the head. "
    "The schedule is compared with constant learning rates, such as its own mean and its last rate. Effect: "
    "difference, or ratio of geometric means, with its 95 % interval (paired t, not adjusted), not judged."
)


def controls(techniques: Techniques) -> Table:
    """Two rows per control: primary metric and jitter. Raises Refused if the study has no control.

    Numbers: control, settings (of the treatment, against those of the control), quantity, off, on, kind of effect
    (ratio or difference), effect, low, high, n (paired seeds).
    """
    base, rows, refused = base_arm(techniques), [], []
    if not any(fits(arm, base) for arm in techniques.study.arms.values()):
        raise Refused(f"no arm has {words(base)}")
    for control in controls_of(techniques, base):
        for quantity in (primary_quantity(techniques.study.primary), REGISTRY["probe_jitter"]):
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
        for value in reversed(other_values(LEARNING_RATE, techniques, base)):
            if value < base[LEARNING_RATE]:
                name = f"schedule against a constant rate of {significant(value)}"
                yield Control(name, scheduled, base | {LEARNING_RATE: value}, ("scheduler", LEARNING_RATE))


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


# --- A/A ---

AA_COLUMNS = ("arm", "control", "quantity", "scale", "n", "effect", "low", "high", "p")


def aa_effects(study: Study, quantities: Collection[str] | None = None) -> pd.DataFrame:
    """The effect of another dropout stream: what a comparison of an arm with itself shows. One row per quantity.

    Columns: arm and control (labels of two arms that differ in the nuisance seed alone), quantity, its usual scale, n
    (paired seeds), effect (mean difference arm − control on that scale: points, a difference, or a logarithm of a
    ratio), low and high (its 95 % interval, paired t; NaN for one seed), p. The pair with the most seeds gives the
    rows; they are empty without an A/A arm. A quantity that these runs lack has no row.

    `quantities`: names of quantities of a run, by default all.
    """
    rows: list[dict[str, Any]] = []
    for arm, control, pairs in sorted(aa_pairs(study), key=lambda found: -len(found[2]))[:1]:
        runs = np.array(pairs, dtype=object)
        measured = outcomes(study, run_quantities() if quantities is None else quantities)
        learned = measured.learned.reindex(runs.ravel(), fill_value=False).to_numpy(bool).reshape(runs.shape)
        for name in run_quantities() if quantities is None else quantities:
            values = measured.values[name].reindex(runs.ravel()).to_numpy(float).reshape(runs.shape)
            usable = np.isfinite(values).all(axis=1) & (REGISTRY[name].keeps_unlearned | learned.all(axis=1))
            rows += aa_row(name, values[usable], {"arm": arm, "control": control})
    return pd.DataFrame(rows, columns=list(AA_COLUMNS))


def aa_pairs(study: Study) -> Iterator[tuple[str, str, tuple[tuple[str, ...], ...]]]:
    """Arm with another nuisance seed, the arm with the smallest one, and the names of their paired runs."""
    alike: dict[str, list[str]] = {}
    for label in sorted(study.arms, key=lambda label: study.arms[label]["nuisance"]):
        alike.setdefault(canonical(study.arms[label] | {"nuisance": None}), []).append(label)
    for control, *others in alike.values():
        for other in others:
            try:
                pairs = pair(study, (other, control), ("nuisance",))
            except Refused:  # runs of two machines show no effect of dropout
                continue
            if pairs.runs:
                yield other, control, pairs.runs


def aa_row(name: str, values: Array, arms: dict[str, str]) -> list[dict[str, Any]]:
    """The row of one quantity, values (seeds, 2); none if no value can be used, or one is not on the scale."""
    scale = REGISTRY[name].scale
    try:
        x = SCALES[scale](1).forward(values)
    except ValueError:
        return []
    if not len(x):
        return []
    effect = paired_effect(x[:, 0], x[:, 1], np.random.default_rng(FLIPS))
    limits = interval_columns("", effect.interval())
    p = np.nan if effect.p is None else effect.p
    return [arms | {"quantity": name, "scale": scale, "n": effect.n, "effect": effect.estimate, **limits, "p": p}]
