"""What a step does to the gradients of a loop's model: their norms before anything acts, and after clipping."""

from collections.abc import Iterable, Mapping
from typing import Any

from accelerate.utils import extract_model_from_parallel
from torch import nn
from torch.distributed.tensor import DTensor

from ablate.clip import GradientRule, NormRule, rule_name
from ablate.config.checks import require
from ablate.model.parameter_roles import Role, check_known, role
from ablate.run.records import Layer, layers_of
from ablate.techniques import needs_roles
from ablate.training.clipping import Clipped, clip_gradient
from ablate.training.norms import Norms, gradient_norms


class Gradients:
    """The gradients of the current step, measured and clipped.

    norms    before anything acts on them; None until they are measured
    clipped  after clipping; None if the step does not clip
    model    whose gradients they are, without what DDP or compile wrap around it
    """

    def __init__(self) -> None:
        self.norms: Norms | None = None
        self.clipped: Clipped | None = None
        self.model: nn.Module
        self._given: nn.Module | None = None
        self._roles: dict[str, Role] = {}
        self._states: dict[str, Any] = {}

    def measure(self, model: nn.Module) -> Norms:
        """The norms of a model's gradients, which become those of the step when `norms` is set to them."""
        if model is not self._given:
            self._given, self.model = model, extract_model_from_parallel(model, keep_torch_compile=False)
        return measured(self.model)

    def clip(self, rule: NormRule | GradientRule, t: int) -> Clipped:
        """Apply a rule at step t, in place."""
        require("rule", rule_name(rule), isinstance(rule, (NormRule, GradientRule)), "a rule of ablate.clip")
        trained = trained_of(self.model)
        roles = self._roles_of(trained)
        if needs_roles(rule):
            check_known("clip", rule_name(rule), roles, type(self.model).__name__)
        self.clipped, self._states = clip_gradient({"clip": rule}, trained, roles, self.norms, t, self._states)
        return self.clipped

    def layers(self) -> dict[tuple[int | None, str], Layer]:
        """The trained parameters by layer and block."""
        trained = trained_of(self.model)
        return layers_of({name: p.numel() for name, p in trained.items()}, self._roles_of(trained))

    def next_step(self) -> None:
        self.norms = self.clipped = None

    def _roles_of(self, trained: Iterable[str]) -> dict[str, Role]:
        """The roles of parameters, read from their names once."""
        self._roles |= {name: role(name) for name in trained if name not in self._roles}
        return {name: self._roles[name] for name in trained}


def trained_of(model: nn.Module) -> Mapping[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def measured(model: nn.Module) -> Norms:
    """Norms of the trained parameters' gradients. Raises ValueError where there are none."""
    trained = trained_of(model)
    gradients = [p.grad for p in trained.values() if p.grad is not None]
    if not gradients:
        what = "call recorder.gradients after backward and before zero_grad"
        raise ValueError(f"the model must have gradients: {what} ({len(trained)} trained parameters, none has one)")
    if any(isinstance(g, DTensor) or g.is_sparse for g in gradients):
        raise ValueError("the model's gradients must be whole dense tensors: sharded and sparse ones are not measured")
    return gradient_norms(trained)
