"""Compares every arm of a study with a reference arm: the claims of a study that has none of its own.

A claims file may have such a section in place of `claims` (conf/claims/auto.yaml):

    compare:
      reference: {clip: none}    # settings that choose an arm; null: the first arm of the study
      quantities: {primary: usual, last_training_loss: log}

`primary` is the metric that the runs name as such, on the test split, and `usual` the usual scale of a quantity.
`comparison_claims` writes it as claims, one per arm and quantity, once the study's arms are known.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ablate.config.checks import refusal
from analysis.claims import values
from analysis.claims.estimand import Settings
from analysis.quantities.registry import REGISTRY, primary_quantity, run_quantities
from analysis.records.arms import AS_BEFORE, Arm, fits, flat, is_under, labels, varying, words
from analysis.stats.scales import SCALES

PRIMARY_METRIC, USUAL = "primary", "usual"

QUANTITY_KEYS = ("scale", "smallest_effect", "why")
ONE_ARM = "settings that choose one arm; in quotes, as in 'reference={clip: none}'"


@dataclass(frozen=True)
class Comparison:
    """A `compare` section. `reference`: settings that choose an arm; `quantities`: keys of a claim by quantity."""

    reference: Settings | None
    quantities: Mapping[str, Mapping[str, Any]]

    def for_metric(self, primary: str) -> "Comparison":
        """The section with the quantity of this primary metric and its usual scale in place of the words for them."""
        found = {}
        for name, keys in self.quantities.items():
            quantity = primary_quantity(primary) if name == PRIMARY_METRIC else REGISTRY[name]
            found[quantity.name] = {**keys, "scale": quantity.scale if keys["scale"] == USUAL else keys["scale"]}
        return replace(self, quantities=found)

    def for_table(self, primary: str, metrics: Collection[str] = ()) -> "Comparison":
        """The section for a table of results: with its `metrics`, each on its usual scale, if they are given."""
        if not metrics:
            return self.for_metric(primary)
        return replace(self, quantities={name: {"scale": REGISTRY[name].scale} for name in metrics})


def comparison_of(section: Any) -> Comparison:
    """Checks a `compare` section. Raises ValueError for a wrong value."""
    section = values.mapping("compare", section, ("reference", "quantities"))
    quantities = {}
    for name, given in values.mapping("compare.quantities", section.get("quantities", {})).items():
        values.one_of("compare.quantities", name, (PRIMARY_METRIC, *run_quantities()))
        key = f"compare.quantities.{name}"
        quantities[name] = values.mapping(key, given if isinstance(given, Mapping) else {"scale": given}, QUANTITY_KEYS)
        values.one_of(f"{key}.scale", quantities[name].get("scale"), (USUAL, *SCALES))
    if not quantities:
        raise refusal("compare.quantities", {}, "a mapping of quantities to their scales")
    return Comparison(reference_settings("compare.reference", section.get("reference")), quantities)


def reference_settings(key: str, value: Any) -> Settings | None:
    """The settings that choose the reference, flat; None for the first arm. Raises ValueError for anything else."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value:
        raise refusal(key, value, f"null, or {ONE_ARM}")
    return values.settings(key, flat(value))


def arms_that_fit(arms: Mapping[str, Arm], reference: Settings) -> list[str]:
    """Labels of the arms with these settings; an A/A arm, with another nuisance seed, only if they name its seed.

    >>> arms = {"none": {"clip": "none", "nuisance": 0}, "none-1": {"clip": "none", "nuisance": 1}}
    >>> arms_that_fit(arms, {"clip": "none"}), arms_that_fit(arms, {"nuisance": 1}), arms_that_fit(arms, {"clip": "x"})
    (['none'], ['none-1'], [])
    """
    wanted = {"nuisance": 0} | dict(reference)
    return [label for label, arm in arms.items() if fits(completed(arm, wanted), wanted)]


def reference_arm(arms: Mapping[str, Arm], reference: Settings | None) -> str:
    """The label of the reference: the first arm that fits; without settings, the first that is no A/A control.

    Raises ValueError where no arm fits.
    """
    if reference is None:
        return next((label for label, arm in arms.items() if not arm["nuisance"]), next(iter(arms)))
    if found := arms_that_fit(arms, reference):
        return found[0]
    raise refusal("compare.reference", words(reference), f"settings of an arm: {', '.join(arms)}")


def check_reference(reference: Settings, sweep: Mapping[str, Arm], recorded: Mapping[str, Arm]) -> None:
    """Raises ValueError unless the settings choose one arm of a sweep, or else one that the study has already."""
    found = arms_that_fit(sweep, reference) or arms_that_fit(recorded, reference)
    if len(found) != 1:
        known = ", ".join(found or sweep)
        fitted = f"{words(reference)}, which fits {len(found) or 'none'} of the arms"
        raise refusal("reference", f"{fitted}: {known}", ONE_ARM)


def first_arm_settings(arms: Mapping[str, Arm], techniques: Iterable[str]) -> Settings:
    """The settings that choose the first of some arms: those in which it differs, or its techniques if it is alone.

    >>> arms = {"none": {"clip": "none", "nuisance": 0}, "fixed": {"clip": "fixed", "clip.threshold": 1, "nuisance": 0}}
    >>> first_arm_settings(arms, ["clip"])
    {'clip': 'none'}
    """
    arm = arms[reference_arm(arms, None)]
    found = chosen_by(arm, arms.values(), outermost(varying(list(arms.values()))))
    if {"nuisance": 0} | found == {"nuisance": 0}:
        found = {name: arm[name] for name in techniques}
    return {key: value for key, value in found.items() if (key, value) != ("nuisance", 0)}


def comparison_claims(comparison: Comparison, arms: Mapping[str, Arm]) -> dict[str, dict[str, Any]]:
    """The claims by id, with the keys of a claims file: each arm but the reference, each quantity.

    An arm is named by the settings in which it differs from the reference, which are the `changes` of its claims. An
    A/A arm, which differs in its nuisance seed only, is a control. Raises ValueError where no arm fits the reference.
    """
    label = reference_arm(arms, comparison.reference)
    reference, known = arms[label], list(arms.values())
    claims: dict[str, dict[str, Any]] = {}
    for other, arm in arms.items():
        if other == label:
            continue
        changes = outermost(varying([arm, reference]))
        rest = outermost(key for key in varying(known) if not is_under(key, changes))
        treatment, control = (chosen_by(each, known, changes) for each in (arm, reference))
        same = {"nuisance": reference["nuisance"]} if "nuisance" not in changes else {}
        name = words_or_label(treatment, other)
        for quantity, keys in comparison.quantities.items():
            subject = REGISTRY[quantity].words
            control_word = "A/A control: " if changes == ["nuisance"] else ""
            claims[f"{name}: {subject}"] = {
                "statement": f"{control_word}{subject} differs between {name} and {words(control)}",
                "quantity": quantity,
                "treatment": treatment,
                "control": control,
                "within": chosen_by(reference, known, rest) | same,
                "changes": changes,
                "direction": "either",
                **keys,
            }
    return claims


def claims_on_data_sets(comparison: Comparison, arms: Mapping[str, Arm], paired: bool) -> dict[str, dict[str, Any]]:
    """The claims of a table of results: over all of its data sets at once, or on each where runs are not paired."""
    by_data: dict[str, dict[str, Arm]] = {}
    for label, arm in arms.items():
        by_data.setdefault(arm["data"], {})[label] = arm
    if len(by_data) == 1:
        return comparison_claims(comparison, arms)
    if paired:
        first = comparison_claims(comparison, next(iter(by_data.values())))
        return {key: {**entry, "contrast": "datasets"} for key, entry in first.items()}
    return {
        f"{key} on {data}": {**entry, **{arm: {**entry[arm], "data": data} for arm in ("treatment", "control")}}
        for data, of_data in by_data.items()
        for key, entry in comparison_claims(comparison, of_data).items()
    }


def words_or_label(settings: Settings, label: str) -> str:
    """The settings in words, or the arm's label where they have a hash."""
    return label if any("sha256" in key for key in settings) else words(settings)


def outermost(keys: Iterable[str]) -> list[str]:
    """The keys that are not settings below another one, sorted.

    >>> outermost(["clip.start", "clip", "optimizer.lr"])
    ['clip', 'optimizer.lr']
    """
    keys = sorted(keys)
    return [key for key in keys if not is_under(key, [other for other in keys if other != key])]


def chosen_by(arm: Arm, arms: Collection[Arm], keys: Collection[str]) -> dict[str, Any]:
    """The settings of `arm` at `keys`, with those below that tell it from other arms of the same options.

    >>> early, late = ({"clip": "delayed", "clip.start": start, "clip.rule": "fixed"} for start in (50, 100))
    >>> chosen_by(late, [early, late], ["clip"]), chosen_by(late, [late, {"clip": "none"}], ["clip"])
    ({'clip': 'delayed', 'clip.start': 100}, {'clip': 'delayed'})
    """
    own = completed(arm, keys)
    options = {key: own[key] for key in own if key in keys}
    alike = varying([other for other in arms if fits(completed(other, keys), options)])
    return {key: value for key, value in own.items() if key in options or (is_under(key, keys) and key in alike)}


def completed(arm: Arm, keys: Iterable[str]) -> dict[str, Any]:
    """The arm with those of `keys` that it lacks and that have a value "as before", which run.json leaves out."""
    return dict(arm) | {key: AS_BEFORE[key] for key in keys if key not in arm and key in AS_BEFORE}


def named_arms(arms: Iterable[Arm]) -> dict[str, Arm]:
    """Label -> arm, of each distinct arm."""
    arms = list(arms)
    return dict(zip(labels(arms), arms, strict=True))
