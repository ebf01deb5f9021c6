"""The interfaces of freezing rules, and the freezing of a model by them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.config.checks import refusal
from ablate.model.parameter_roles import Role, role

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class FreezeRule(Protocol):
    """Interface of a freezing rule."""

    def freezes(self, name: str, role: Role) -> bool:
        """Return True if the parameter `name`, whose role in the model is `role`, keeps its pretrained value."""
        ...


@runtime_checkable
class FreezeSchedule(Protocol):
    """Interface of a freezing rule that changes what it freezes during the run."""

    def freezes(self, name: str, role: Role, t: int) -> bool:
        """Return True if the parameter keeps its value at step t, from 1."""
        ...

    def changes(self) -> Iterable[int]:
        """The steps at which the frozen set changes: it is the same from one of them to the next."""
        ...


Rule = FreezeRule | FreezeSchedule


@runtime_checkable
class FittedRule(Protocol):
    """Interface of a freezing rule that depends on the whole model, for example on its number of layers."""

    def for_model(self, names: Sequence[str]) -> Rule:
        """Return the rule for a model whose parameters are `names`.

        Raises ValueError if the rule's settings do not fit the model.
        """
        ...


def freeze(model: "nn.Module", *rules: Rule) -> "dict[str, nn.Parameter]":
    """Freeze what the rules name at all steps; return the parameters that are trained at any, in the model's order.

    Raises ValueError if no parameter is left to train at some step.
    """
    return Freezing(model, rules).trained


class Freezing:
    """The freezing of one model by the rules of an arm.

    adapted: an adapter has frozen all but its own weights and the head. Then there is nothing for the rules to decide.
    """

    def __init__(self, model: "nn.Module", rules: Sequence[Rule], adapted: bool = False) -> None:
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad or not adapted}
        rules = [] if adapted else [fit_rule(rule, list(parameters)) for rule in rules]
        self.changes = sorted({1, *(t for rule in rules if isinstance(rule, FreezeSchedule) for t in rule.changes())})
        self.frozen = {t: frozen_names(parameters, rules, t) for t in self.changes}
        for t, frozen in self.frozen.items():
            if len(frozen) == len(parameters):
                when = f" at step {t}" if len(self.changes) > 1 else ""
                raise refusal("freeze", rules[0], f"a rule that leaves at least one parameter to train{when}")
        always = frozenset.intersection(*self.frozen.values())
        for name, parameter in parameters.items():
            parameter.requires_grad_(name not in always)
        self.trained = {name: p for name, p in parameters.items() if name not in always}

    def at(self, t: int) -> frozenset[str]:
        """The parameters that are frozen at step t."""
        return self.frozen[max(change for change in self.changes if change <= t)]

    def enter(self, t: int, trained: "Mapping[str, nn.Parameter]", resuming: bool = False) -> bool:
        """Freeze and unfreeze the `trained` parameters for step t; return whether the set changes at this step."""
        changes = t in self.frozen
        if changes or resuming:
            frozen = self.at(t)
            for name, parameter in trained.items():
                parameter.requires_grad_(name not in frozen)
        return changes


def frozen_names(names: Iterable[str], rules: Sequence[Rule], t: int) -> frozenset[str]:
    """The parameters that any of the rules freezes at step t."""
    return frozenset(name for name in names if any(freezes(rule, name, t) for rule in rules))


def freezes(rule: Rule, name: str, t: int) -> bool:
    """Whether a rule freezes a parameter at step t."""
    when = (t,) if isinstance(rule, FreezeSchedule) else ()
    return bool(rule.freezes(name, role(name), *when))


def fit_rule(rule: Rule, names: Sequence[str]) -> Rule:
    """The rule for a model whose parameters are `names`; most rules are the same for all models."""
    return rule.for_model(names) if isinstance(rule, FittedRule) else rule
