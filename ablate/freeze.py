"""Freezing: which parameters a run trains. θ is the disjoint union of θ_frozen and θ_trained.

A rule may change the set during the run (`FreezeSchedule`). A parameter that is frozen at a step gets no gradient and
no update in it; the optimizer's state for it begins with its first update, and rests while it is frozen.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ablate.config.checks import refusal, require
from ablate.model.parameter_roles import Role, role
from ablate.schema import BLOCKS

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


@dataclass(frozen=True)
class Nothing:
    """Trains every parameter."""

    def freezes(self, name: str, role: Role) -> bool:
        return False


@dataclass(frozen=True)
class Blocks:
    """Freezes whole blocks; [embedding, attention] is the write-up's rule.

    In BERT that rule freezes every parameter with "embeddings" or "attention" in its name, including
    `attention.output` with its LayerNorm.
    """

    blocks: tuple[str, ...]

    def __post_init__(self) -> None:
        for block in self.blocks:
            require("blocks", block, block in BLOCKS, f"one of {', '.join(BLOCKS)}")

    def freezes(self, name: str, role: Role) -> bool:
        return role.block in self.blocks


Rule = FreezeRule | FreezeSchedule


def freeze(model: "nn.Module", *rules: Rule) -> "dict[str, nn.Parameter]":
    """Freeze what the rules name at all steps; return the parameters that are trained at any, in the model's order.

    Raises ValueError if no parameter is left to train at some step, or if the role of a parameter is unknown.
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


# --- Rules by layer, kind and name ---


@runtime_checkable
class FittedRule(Protocol):
    """Interface of a freezing rule that depends on the whole model, for example on its number of layers."""

    def for_model(self, names: Sequence[str]) -> "Rule":
        """Return the rule for a model whose parameters are `names`.

        Raises ValueError if the rule's settings do not fit the model.
        """
        ...


def fit_rule(rule: "Rule", names: Sequence[str]) -> "Rule":
    """The rule for a model whose parameters are `names`; most rules are the same for all models."""
    return rule.for_model(names) if isinstance(rule, FittedRule) else rule


def layer_count(names: Iterable[str]) -> int:
    """The number of transformer layers that have their own parameters among `names`; 0 where layers share them."""
    return max((layer + 1 for name in names if (layer := role(name).layer) is not None), default=0)


def check_layers(n: int, names: Sequence[str]) -> int:
    """Return the number of layers of a model. Raises ValueError unless it has n layers, at least one."""
    layers = layer_count(names)
    what = f"at most {layers}, the number of the model's layers that have their own parameters"
    require("freeze.n", n, n <= layers > 0, what)
    return layers


@dataclass(frozen=True)
class FirstLayers:
    """Freezes the embeddings and the first n layers; trains later layers, a final norm, the pooler and the head.

    n=0 freezes the embeddings alone. With n = all layers, only what comes after the layers is trained.
    """

    n: int

    def __post_init__(self) -> None:
        require("n", self.n, self.n >= 0, "a number of layers, at least 0")

    def freezes(self, name: str, role: Role) -> bool:
        if role.block in ("attention", "mlp"):
            return (role.layer or 0) < self.n  # without a number: DeBERTa's convolution, a part of layer 0
        return role.block == "embedding"

    def for_model(self, names: Sequence[str]) -> FreezeRule:
        check_layers(self.n, names)
        return self


@dataclass(frozen=True)
class LastLayers:
    """Trains the last n layers and what follows them (a final norm, the pooler, the head); freezes everything before.

    Lee et al. 2019 (arXiv 1911.03090): a fourth of the layers gave 90 % of the quality. In a model of L layers this is
    `FirstLayers(L - n)`.
    """

    n: int

    def __post_init__(self) -> None:
        require("n", self.n, self.n >= 0, "a number of layers, at least 0")

    def freezes(self, name: str, role: Role) -> bool:
        raise ValueError("last_n depends on the number of layers: call fit_rule(rule, names) before freezes")

    def for_model(self, names: Sequence[str]) -> FreezeRule:
        return FirstLayers(check_layers(self.n, names) - self.n)


@dataclass(frozen=True)
class AllBut:
    """Freezes everything but the head and the parameters of some kinds.

    bias   every bias, also those of the norms: BitFit, Ben Zaken et al. 2022 (arXiv 2106.10199)
    norm   weights and biases of the normalisation layers: Zhao et al. 2024 (arXiv 2312.11420)
    """

    kinds: tuple[str, ...]

    def __post_init__(self) -> None:
        for kind in self.kinds:
            require("kinds", kind, kind in ("bias", "norm"), "bias or norm")

    def freezes(self, name: str, role: Role) -> bool:
        return role.block != "head" and not self.is_of_kinds(name, role)

    def is_of_kinds(self, name: str, role: Role) -> bool:
        return role.kind in self.kinds or ("bias" in self.kinds and name.endswith("bias"))

    def for_model(self, names: Sequence[str]) -> FreezeRule:
        for kind in self.kinds:  # Llama has no biases
            rest = AllBut((kind,))
            has = any(role(name).block != "head" and rest.is_of_kinds(name, role(name)) for name in names)
            require("freeze.kinds", kind, has, "a kind of parameter that the model has outside of its head")
        return self


@dataclass(frozen=True)
class NamePattern:
    r"""Freezes the parameters whose name contains a match of a regular expression (`re.search`).

    >>> rule = NamePattern(r"\.layer\.[01]\.|embeddings")
    >>> rule.freezes("bert.encoder.layer.1.output.dense.weight", role=None)
    True

    It asks for no role. An expression that names what is trained begins with a negative lookahead: ^(?!.*classifier).
    """

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise refusal("pattern", self.pattern, f"a regular expression, but {error}") from error

    def freezes(self, name: str, role: Role | None) -> bool:
        return re.search(self.pattern, name) is not None

    def for_model(self, names: Sequence[str]) -> FreezeRule:
        frozen = sum(self.freezes(name, None) for name in names)
        what = f"an expression that matches some parameters and not all; it matches {frozen} of {len(names)}"
        require("freeze.pattern", self.pattern, 0 < frozen < len(names), f"{what}, such as {names[0]}")
        return self


@dataclass(frozen=True)
class RandomTensors:
    """Freezes tensors at random, but never the head: the control for a rule that chooses them with a reason.

    A tensor is frozen if u(draw, name) < share, where u in [0, 1) is the first 64 bits of the sha256 of "draw:name". So
    the choice depends on neither the seed of the run nor the order of names; another `draw` is another choice; and a
    larger share freezes the same tensors and more. The share is of tensors, in expectation, not of their elements.
    """

    share: float = 0.5
    draw: int = 0

    def __post_init__(self) -> None:
        require("share", self.share, 0 < self.share < 1, "a share of the tensors between 0 and 1")
        require("draw", self.draw, self.draw >= 0, "a whole number, at least 0")

    def freezes(self, name: str, role: Role) -> bool:
        digest = hashlib.sha256(f"{self.draw}:{name}".encode()).digest()
        return role.block != "head" and int.from_bytes(digest[:8], "big") / 2**64 < self.share

    def for_model(self, names: Sequence[str]) -> FreezeRule:
        frozen = sum(self.freezes(name, role(name)) for name in names)
        require(
            "freeze.share",
            self.share,
            frozen > 0,
            f"enough to freeze one of {len(names)} tensors",
        )
        return self


# --- Rules that change during the run ---


@dataclass(frozen=True)
class Gradual:
    """Unfreezes the model from the top down: gradual unfreezing, Howard & Ruder 2018 (arXiv 1801.06146, ULMFiT).

    Steps 1 to `every` train what follows the layers (a final norm, the pooler, the head). Each further `every` steps
    add one layer, the top one first; the embeddings come last. In a model of L layers everything is trained from step
    (L + 1) · every + 1 on. Layers that share their weights, as in ALBERT, count as one.
    """

    every: int

    def __post_init__(self) -> None:
        require("every", self.every, self.every >= 1, "a number of steps, at least 1")

    def freezes(self, name: str, role: Role, t: int) -> bool:
        raise ValueError("gradual depends on the number of layers: call fit_rule(rule, names) before freezes")

    def changes(self) -> Sequence[int]:
        raise ValueError("gradual depends on the number of layers: call fit_rule(rule, names) before changes")

    def for_model(self, names: Sequence[str]) -> "TopDown":
        return TopDown(self.every, max(layer_count(names), 1))


@dataclass(frozen=True)
class TopDown:
    """`Gradual` in a model of `layers` layers.

    >>> TopDown(every=10, layers=2).changes()
    [11, 21, 31]
    """

    every: int
    layers: int

    def freezes(self, name: str, role: Role, t: int) -> bool:
        added = (t - 1) // self.every  # layers, and then the embeddings
        return added <= self.layers and FirstLayers(self.layers - added).freezes(name, role)

    def changes(self) -> list[int]:
        return [1 + self.every * (i + 1) for i in range(self.layers + 1)]


@dataclass(frozen=True)
class ProbeFirst:
    """Trains the head alone for the first `steps` steps, then everything: LP-FT, Kumar et al. 2022 (arXiv 2202.10054).

    Linear probing first: the head no longer changes at random when the features begin to. The authors train the two
    phases one after the other, each with a schedule of its own; here one schedule goes through both.
    """

    steps: int

    def __post_init__(self) -> None:
        require("steps", self.steps, self.steps >= 1, "a number of steps, at least 1")

    def freezes(self, name: str, role: Role, t: int) -> bool:
        return t <= self.steps and role.block != "head"

    def changes(self) -> list[int]:
        return [self.steps + 1]
