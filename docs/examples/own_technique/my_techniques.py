"""Four techniques of one's own: a clip rule per tensor, a regularizer with state, an optimizer with two learning rates,
and a technique with two hooks in a config group of its own.

Each is a dataclass: its fields are the settings that conf/<group>/<option>.yaml lists. Attributes with `init=False` are
its memory. `ablate.techniques` lists the hooks.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.func import functional_call

from ablate.config.checks import require


@dataclass(frozen=True)
class RunningMean:
    """Clips each tensor of the gradient at `ratio` times the running mean of its own norm.

    The state is the running mean per tensor. It is None at the first step, and whatever `clip` returns afterwards; a
    checkpoint keeps it.
    """

    ratio: float = 1.0
    decay: float = 0.9

    def __post_init__(self):
        require("ratio", self.ratio, self.ratio > 0, "a number above 0")
        require("decay", self.decay, 0 <= self.decay < 1, "a number in [0, 1)")

    def clip(self, gradients, weights, roles, t, state):
        means = dict(state or {})
        for name, gradient in gradients.items():
            norm = float(gradient.norm())
            mean = means.get(name, norm)
            if norm > self.ratio * mean:
                gradient.mul_(self.ratio * mean / norm)
            means[name] = self.decay * mean + (1 - self.decay) * norm
        return means


@dataclass
class Anchor:
    """Adds strength/2 · ‖θ − a‖² to the loss, where the anchor a follows the weights: a ← decay · a + (1 − decay) · θ.

    `begin` is called before the first step, also where a run resumes; then `load_state_dict` puts back what
    `state_dict` returned. A step in pieces calls `loss` for each piece, so the anchor moves at its first one only.
    """

    strength: float = 0.01
    decay: float = 0.9
    anchor: dict = field(default_factory=dict, init=False, repr=False)
    step: int = field(default=0, init=False, repr=False)

    def begin(self, trained, seed):
        self.trained = trained
        self.anchor, self.step = {name: p.detach().clone() for name, p in trained.items()}, 0

    def loss(self, loss, logits, batch, model, t):
        if t > self.step:
            self.step = t
            for name, p in self.trained.items():
                self.anchor[name].lerp_(p.detach(), 1 - self.decay)
        distance = sum((p - self.anchor[name]).square().sum() for name, p in self.trained.items())
        return loss + self.strength / 2 * distance

    def state_dict(self):
        return {"anchor": self.anchor, "step": self.step}

    def load_state_dict(self, state):
        self.anchor, self.step = state["anchor"], state["step"]


@dataclass(frozen=True)
class HeadFirst:
    """AdamW with another learning rate for the head than for the rest of the model."""

    lr: float
    head_lr: float
    weight_decay: float = 0.01

    def build(self, parameters):
        from ablate.model.parameter_roles import role

        groups = {"body": [], "head": []}
        for name, p in parameters:
            groups["head" if role(name).block == "head" else "body"].append(p)
        rates = {"body": self.lr, "head": self.head_lr}
        settings = [{"params": found, "lr": rates[name], "name": name} for name, found in groups.items() if found]
        return torch.optim.AdamW(settings, weight_decay=self.weight_decay)


@dataclass
class MeanTeacher:
    """Pulls the model to its own average over the steps, the teacher, with which it is evaluated.

    loss' = loss + weight · mean((p − p_teacher)²), with θ_teacher ← decay · θ_teacher + (1 − decay) · θ after each step
    (Tarvainen & Valpola 2017, arXiv 1703.01780). Two hooks: `loss`, and `update` with `evaluating`.
    """

    weight: float = 1.0
    decay: float = 0.9
    teacher: dict = field(default_factory=dict, init=False, repr=False)

    def begin(self, trained, seed):
        self.teacher = {name: p.detach().clone() for name, p in trained.items()}

    def loss(self, loss, logits, batch, model, t):
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        with torch.no_grad():
            target = functional_call(model, self.teacher, (), inputs).logits.float().softmax(-1)
        return loss + self.weight * (logits.softmax(-1) - target).square().mean()

    def update(self, trained, t, state):
        for name, p in trained.items():
            self.teacher[name].lerp_(p.detach(), 1 - self.decay)

    @contextmanager
    def evaluating(self, trained, state):
        own = {name: p.detach().clone() for name, p in trained.items()}
        self.copy(self.teacher, trained)
        try:
            yield
        finally:
            self.copy(own, trained)

    def state_dict(self):
        return {"teacher": self.teacher}

    def load_state_dict(self, state):
        self.teacher = state["teacher"]

    @staticmethod
    def copy(values, trained):
        with torch.no_grad():
            for name, p in trained.items():
                p.copy_(values[name])
