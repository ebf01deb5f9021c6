"""Freezing rules: by block, layer, kind, name or chance, and rules that change during the run."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablate.config.checks import refusal, require
from ablate.freeze.freezing import FreezeRule
from ablate.model.parameter_roles import Role, role
from ablate.schema import BLOCKS


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

    needs_roles = True

    def __post_init__(self) -> None:
        for block in self.blocks:
            require("blocks", block, block in BLOCKS, f"one of {', '.join(BLOCKS)}")

    def freezes(self, name: str, role: Role) -> bool:
        return role.block in self.blocks


# --- Rules by layer, kind and name ---


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

    needs_roles = True

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

    needs_roles = True

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

    @property
    def needs_roles(self) -> bool:
        """Whether the kinds of parameters count; a name may not say its kind in a family that is not known."""
        return bool(self.kinds)

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
        what = f"an expression that matches some parameters and not all; it matches {frozen} of the {len(names)} names"
        require("freeze.pattern", self.pattern, 0 < frozen < len(names), f"{what}, which begin with {names[0]}")
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
        what = f"enough to freeze one of {len(names)} tensors"
        require("freeze.share", self.share, frozen > 0, what)
        return self


# --- Rules that change during the run ---


@dataclass(frozen=True)
class Gradual:
    """Unfreezes the model from the top down: gradual unfreezing, Howard & Ruder 2018 (arXiv 1801.06146, ULMFiT).

    Steps 1 to `every` train what follows the layers (a final norm, the pooler, the head). Each further `every` steps
    add one layer, the top one first; the embeddings come last. In a model of L layers everything is trained from step
    (L + 1) · every + 1 on. Layers that share their weights, as in ALBERT, count as one.
    """

    needs_roles = True

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

    needs_roles = True

    steps: int

    def __post_init__(self) -> None:
        require("steps", self.steps, self.steps >= 1, "a number of steps, at least 1")

    def freezes(self, name: str, role: Role, t: int) -> bool:
        return t <= self.steps and role.block != "head"

    def changes(self) -> list[int]:
        return [self.steps + 1]
