"""Clipping of a step's gradient by the rules of an arm, and the norms after it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ablate import clip
from ablate.clip import GradientRule, NormRule, rule_name
from ablate.distributed.parallel import local_shard
from ablate.model.parameter_roles import Role
from ablate.training.norms import Norms, gradient_norms


@dataclass(frozen=True)
class Clipped:
    """The gradient after clipping: `norms` as last measured, and the factor by which all of it was multiplied since."""

    norms: Norms
    scale: float = 1.0
    shares: dict[str, float] = field(default_factory=dict)  # share of tensors that a rule shortened, by group

    @property
    def total(self) -> float:
        """‖g'‖ over all trained parameters."""
        return self.scale * self.norms.total

    def of(self, names: Iterable[str]) -> float:
        """Joint norm of the parameters `names` after clipping."""
        return self.scale * self.norms.of(names)


def clip_gradient(
    rules: Mapping[str, NormRule | GradientRule],
    trained: Mapping[str, nn.Parameter],
    roles: Mapping[str, Role],
    norms: Norms,
    t: int,
    states: Mapping[str, Any],
) -> tuple[Clipped, dict[str, Any]]:
    """Apply the rules one after the other, in place; return what is left and the next state of each rule.

    Args:
        rules: by group, in the order in which they act.
        trained: the parameters with gradients, by name; `roles` has their places.
        norms: of the gradient before clipping.
        states: of each rule after the step before.
    """
    found, next_states = Clipped(norms), dict(states)
    for group, rule in rules.items():
        if isinstance(rule, NormRule):
            scale, next_states[group] = clip.checked_scale(rule, found.total, t, states.get(group), group)
            clip.apply(scale, (local_shard(p.grad) for p in trained.values() if p.grad is not None))
            found = Clipped(found.norms, found.scale * scale if found.scale != 1.0 else scale, found.shares)
        else:
            found, next_states[group] = clip_tensors(group, rule, trained, roles, found, t, states.get(group))
    return found, next_states


def clip_tensors(
    group: str,
    rule: GradientRule,
    trained: Mapping[str, nn.Parameter],
    roles: Mapping[str, Role],
    before: Clipped,
    t: int,
    state: Any,
) -> tuple[Clipped, Any]:
    """Apply a rule on tensors and measure the gradient again. Raises ValueError if the gradient is not finite then."""
    active = {name: p for name, p in trained.items() if p.grad is not None}
    gradients: dict[str, Tensor] = {name: p.grad for name, p in active.items()}  # type: ignore[misc]
    state = rule.clip(gradients, {name: p.detach() for name, p in active.items()}, roles, t, state)
    after = gradient_norms(active)
    if not math.isfinite(after.total):
        raise ValueError(f"{group}: {rule_name(rule)} must leave a finite gradient (got {after.total} at step {t})")
    shorter = sum(after.squares[name] < before.norms.squares[name] * before.scale**2 * (1 - 1e-6) for name in active)
    return Clipped(after, 1.0, before.shares | {group: shorter / len(active)}), state
