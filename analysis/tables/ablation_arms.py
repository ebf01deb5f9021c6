"""The rows of the ablation table: the reference arm, and the arms that differ from it in one factor."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.schema import NO_TECHNIQUES, NONE
from analysis.claims.estimand import Settings
from analysis.claims.pairing import Refused, nearest_arm
from analysis.records.arms import Arm, canonical, fits, in_order, is_under, levels, words
from analysis.records.study import Study

NO_COMPONENTS = ("data", "trainer")
"""Factors that are no part of a recipe: other data and other numbers of steps are other experiments."""


@dataclass(frozen=True)
class AblatedArm:
    """An arm of the table.

    name   as it is shown: "− clip", "+ clip", "clip: delayed"
    plain  without a sign in front, for CSV: "without clip"
    """

    name: str
    plain: str
    arm: str
    changes: tuple[str, ...]


def ablation_reference(study: Study, settings: Settings | None = None) -> tuple[str, str]:
    """The label of the reference arm, and why it is the one.

    Among the arms with these `settings` (all, without settings): the one from which single arms remove or exchange the
    most components; of several, the one with the most techniques on, then with the most such arms, then the first.
    Where arms differ in one component only, no arm is a recipe, and the techniques do not count. Raises Refused without
    an arm.
    """
    counting = set(study.runs["arm"])
    found = [label for label, arm in study.arms.items() if label in counting and fits(arm, settings or {})]
    if not found:
        known = [study.arms[label] for label in study.arms if label in counting]
        lacking = f"no arm has {words(settings)}{nearest_arm(settings, known)}" if settings else "no finished run"
        raise Refused(lacking)
    counted = {label: study.arms[label] for label in study.arms if label in counting}
    near = {
        label: others | settings_off(study, counted, label)
        for label, others in neighbours(study).items()
        if label in found
    }

    def rank(label: str) -> tuple[bool, int, int, int]:
        arm, others = study.arms[label], near[label]
        parts = len(techniques_on(arm)) if len(others) > 1 else 0
        return (arm["nuisance"] == 0, len(others), parts, sum(map(len, others.values())))

    chosen = max(found, key=rank)
    if settings:
        return chosen, "the reference of the claims"
    if len(near[chosen]) < 2:
        return chosen, "the first arm that the most others differ from in one component"
    return chosen, "the arm from which the most factors are changed one at a time"


def neighbours(study: Study) -> dict[str, dict[str, list[str]]]:
    """Arm -> factor -> the arms that count and differ from it in this component alone.

    Components are the techniques that vary; where none does, optimizer and model with their settings.
    """
    counting = set(study.runs["arm"])
    arms = {label: arm for label, arm in study.arms.items() if label in counting}
    techniques = [factor for factor in study.techniques if len({arm[factor] for arm in arms.values()}) > 1]
    factors = techniques or [factor for factor in study.factors if factor not in NO_COMPONENTS]
    found: dict[str, dict[str, list[str]]] = {label: {} for label in study.arms}
    for factor in factors:
        for group in alike_but_for(arms, (factor,)):
            for label in group:
                if others := [other for other in group if other != label]:
                    found[label][factor] = others
    return found


def alike_but_for(arms: Mapping[str, Arm], but: Sequence[str]) -> list[list[str]]:
    """Groups of arms that agree in everything `but` these factors."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label, arm in arms.items():
        groups[canonical({key: value for key, value in arm.items() if not is_under(key, but)})].append(label)
    return list(groups.values())


def techniques_on(arm: Arm) -> dict[str, str]:
    """The techniques that an arm has, with their options.

    >>> techniques_on({"clip": "fixed", "clip.threshold": 1.0, "freeze": "none", "optimizer": "adamw", "nuisance": 0})
    {'clip': 'fixed'}
    """
    options = {key: value for key, value in arm.items() if "." not in key and key not in (*NO_TECHNIQUES, "nuisance")}
    return {factor: option for factor, option in options.items() if option != NONE}


def ablated(study: Study, reference: str) -> list[AblatedArm]:
    """The rows below the reference: arms that differ in one component, in the order of the factors; then the arm
    without any technique that the study varies.

    Optimizers and models with another option are rows too.
    """
    counting = set(study.runs["arm"])
    arms = {label: arm for label, arm in study.arms.items() if label in counting}
    near = neighbours(study)[reference]
    for factor in set(study.factors) - set(study.techniques) - set(NO_COMPONENTS) - near.keys():
        group = next(group for group in alike_but_for(arms, (factor,)) if reference in group)
        near[factor] = [other for other in group if arms[other][factor] != arms[reference][factor]]
    settings = settings_off(study, arms, reference)
    changed = {factor: near[factor] for factor in study.factors if near.get(factor)} | settings
    options = {factor: [NONE, *(arms[other].get(factor) for other in others)] for factor, others in changed.items()}
    grouped = [  # by option, "− clip" before other clipping
        (factor, other)
        for factor, others in changed.items()
        for other in sorted(others, key=lambda other: options[factor].index(arms[other].get(factor)))
    ]
    factor_of = {other: factor for factor, other in grouped}
    chosen = in_order({label: arms[label] for label in (reference, *factor_of)})
    level = levels(chosen)
    rows = []
    for other in list(chosen)[1:]:
        factor = factor_of[other]
        if factor in settings:
            rows.append(AblatedArm(f"− {factor}", f"without {factor}", other, (factor,)))
        else:
            short = str(level.loc[other, factor])
            rows.append(named_row(factor, arms[other], arms[reference], short, other, len(changed[factor])))
    return rows + empty_recipe(study, arms, reference)


def settings_off(study: Study, arms: Mapping[str, Arm], reference: str) -> dict[str, list[str]]:
    """Setting of optimizer or model -> the arms that differ from the reference in it alone, and in which it is 0.

    Such a setting is a component that the arm leaves out: weight decay, dropout.
    """
    owners = [factor for factor in study.factors if factor not in (*study.techniques, *NO_COMPONENTS)]
    keys = {key for arm in arms.values() for key in arm if "." in key and arm[key] == 0 and is_under(key, owners)}
    found = {}
    for key in sorted(keys):
        group = next(group for group in alike_but_for(arms, (key,)) if reference in group)
        others = [other for other in group if other != reference and arms[other].get(key) == 0]
        if others and arms[reference].get(key) != 0:
            found[key] = others
    return found


def named_row(factor: str, arm: Arm, reference: Arm, level: str, label: str, several: int) -> AblatedArm:
    """The row of an arm that differs in `factor`; `level`: its option of it, by a short name."""
    if factor in NO_TECHNIQUES or NONE not in (arm[factor], reference[factor]):
        return AblatedArm(f"{factor}: {level}", f"{factor}: {level}", label, (factor,))
    if arm[factor] == NONE:
        return AblatedArm(f"− {factor}", f"without {factor}", label, (factor,))
    added = factor if several == 1 else f"{factor}: {level}"
    return AblatedArm(f"+ {added}", f"with {added}", label, (factor,))


def empty_recipe(study: Study, arms: Mapping[str, Arm], reference: str) -> list[AblatedArm]:
    """The arm without any technique that varies, if it differs from the reference in more than one of them."""
    varied = [factor for factor in study.techniques if len({arm[factor] for arm in arms.values()}) > 1]
    changes = tuple(factor for factor in varied if arms[reference][factor] != NONE)
    if len(changes) < 2:
        return []
    group = next(group for group in alike_but_for(arms, varied) if reference in group)
    empty = [label for label in group if all(arms[label][factor] == NONE for factor in varied)]
    return [AblatedArm("none of them", "none of them", label, changes) for label in empty]
