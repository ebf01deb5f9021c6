"""The techniques of an arm and the hooks by which the training step calls them.

A technique is an object with one or more hooks. Each config group of techniques has the hooks named here; a group of
the user's own (`ablate.experiment`) may have any of them, and acts after the group whose hook it shares.

    freeze        freezes(name, role)                   ablate.freeze.FreezeRule, FreezeSchedule
    adapter       wrap(model)                           ablate.adapter.Adapter
    init          initialise(model)                     ablate.init.Initialiser
    clip          scale(norm, t, state) or clip(...)    ablate.clip.NormRule, GradientRule
    regularizer   loss(...) and/or weights(...)         ablate.regularizer.LossRule, WeightRule
    average       update(...) and evaluating(...)       ablate.average.Average

Two further hooks are for techniques that need more than the step: `Begins` and `Stateful`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from ablate.adapter import Adapter
from ablate.average import Average
from ablate.clip import GradientRule, NormRule
from ablate.freeze import FreezeRule, FreezeSchedule
from ablate.init import Initialiser
from ablate.regularizer import LossRule, WeightRule

if TYPE_CHECKING:
    from torch import nn

Hook = TypeVar("Hook")

Technique = (
    Initialiser | Adapter | FreezeRule | FreezeSchedule | NormRule | GradientRule | LossRule | WeightRule | Average
)
"""An object with any of the hooks: what an option of a user's own config group must be."""


@dataclass(frozen=True)
class Nothing:
    """The option "none" of a user's own group: it has no hook."""


@runtime_checkable
class Begins(Protocol):
    """A technique that is called once with the model's weights before the first step, also where a run resumes."""

    def begin(self, trained: "Mapping[str, nn.Parameter]", seed: int) -> None:
        """Take what the technique needs from the initial values of the trained parameters.

        `seed` is that of a random stream of the technique's own, which differs from run to run as the run's seed does.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """A technique whose state a checkpoint keeps, by torch's convention."""

    def state_dict(self) -> dict[str, Any]:
        """The state after the last step: tensors, numbers, texts, and lists and dicts of these."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the state to what `state_dict` returned after the step from which the run goes on."""
        ...


@runtime_checkable
class NeedsRoles(Protocol):
    """A technique or an optimizer whose choice depends on the roles of parameters (`ablate.model.parameter_roles`).

    It refuses a model with parameters whose role is unknown, where `needs_roles` is true. A technique without this
    attribute gets the block `ablate.schema.OTHER` for them.
    """

    @property
    def needs_roles(self) -> bool: ...


def needs_roles(rule: object) -> bool:
    """Whether a rule, or one that it contains, needs the roles of all parameters."""
    inner = getattr(rule, "rule", None)
    return (isinstance(rule, NeedsRoles) and rule.needs_roles) or (inner is not None and needs_roles(inner))


@dataclass(frozen=True)
class TechniqueSet:
    """The techniques of one arm by group: those of conf/ first, then the user's own, each in the order of run.json."""

    groups: Mapping[str, object]

    def having(self, *hooks: type[Hook]) -> dict[str, Hook]:
        """The techniques that have one of the hooks, by group."""
        return {group: each for group, each in self.groups.items() if isinstance(each, hooks)}

    def begin(self, trained: "Mapping[str, nn.Parameter]", seeds: Mapping[str, int]) -> None:
        for group, each in self.having(Begins).items():
            each.begin(trained, seeds[group])

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The states of the techniques that keep one themselves, by group."""
        return {group: each.state_dict() for group, each in self.having(Stateful).items()}

    def load_state_dict(self, states: Mapping[str, dict[str, Any]]) -> None:
        for group, each in self.having(Stateful).items():
            each.load_state_dict(states[group])
