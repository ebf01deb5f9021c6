"""Adapters: a few new weights inside a pretrained model, which are trained in place of its own weights."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from ablate.config.checks import check_extra, refusal, require
from ablate.model.parameter_roles import Role

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn


@runtime_checkable
class Adapter(Protocol):
    """Interface of an adapter option."""

    def wrap(self, model: "nn.Module", roles: Mapping[str, Role]) -> "nn.Module":
        """Return the model with the adapter in it; `roles` has the place of each of the model's parameters, by name.

        Parameters that keep their value have `requires_grad` False. Random draws use torch's global generator, which
        is seeded for this call and put back after it.
        """
        ...


@dataclass(frozen=True)
class Nothing:
    """Leaves the model as it is."""

    def wrap(self, model: "nn.Module", roles: Mapping[str, Role]) -> "nn.Module":
        return model


# --- Adapters of peft ---

LORA_TARGETS = {"albert": ("query", "value"), "distilbert": ("q_lin", "v_lin"), "modernbert": ("Wqkv",)}
"""Modules that LoRA adapts in the families (transformers' model_type) for which peft has no default."""

IA3_TARGETS = {
    "albert": (("key", "value", "ffn_output"), ("ffn_output",)),
    "distilbert": (("k_lin", "v_lin", "ffn.lin2"), ("ffn.lin2",)),
    "electra": (("key", "value", "output.dense"), ("output.dense",)),
    "modernbert": (("Wqkv", "mlp.Wo"), ("mlp.Wo",)),  # query, key and value in one, as in peft's default for GPT-2
    "xlm-roberta": (("key", "value", "output.dense"), ("output.dense",)),
}
"""The same for (IA)³: modules, and those of them whose input is scaled."""


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation: Hu et al. 2022 (arXiv 2106.09685), by peft.

    A linear layer W x + b becomes W x + b + s · B A x. W and b are frozen; A [r, in] starts at random, B [out, r] at
    zero, so that the model starts as it was. The scale is s = alpha / r, or alpha / √r if `rank_stabilised`
    (Kalajdzievski 2023, arXiv 2312.03732). The head is trained, too; all else is frozen, a fresh pooler as well.

    r           rank of the update
    dropout     probability with which an entry of x is dropped on its way to A
    targets     ends of the names of the adapted modules; null: peft's default for the family (in BERT query and value)
    """

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rank_stabilised: bool = False
    targets: tuple[str, ...] | None = None

    weight_decomposed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_extra("peft", "adapters")
        require("r", self.r, self.r >= 1, "a rank, at least 1")
        require("alpha", self.alpha, 0 < self.alpha < math.inf, "a finite number above 0")
        require("dropout", self.dropout, 0 <= self.dropout < 1, "a number in [0, 1)")
        check_names("targets", self.targets)

    def wrap(self, model: "nn.Module", roles: Mapping[str, Role]) -> "nn.Module":
        from peft import LoraConfig

        targets = self.targets or LORA_TARGETS.get(family(model))
        config = LoraConfig(
            r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout, use_rslora=self.rank_stabilised,
            use_dora=self.weight_decomposed, target_modules=list(targets) if targets else None,
        )  # fmt: skip
        return inject(config, model, roles)


@dataclass(frozen=True)
class DoRA(LoRA):
    """Weight-decomposed low-rank adaptation: Liu et al. 2024 (arXiv 2402.09353), by peft.

    W' = m · V / ‖V‖ with V = W + s · B A and one norm per output of the layer. The magnitudes m [out] are trained with
    A and B, and start at ‖W‖. The gradient takes ‖V‖ as a constant (the paper's section on the training overhead).
    """

    weight_decomposed: ClassVar[bool] = True


@dataclass(frozen=True)
class IA3:
    """(IA)³: activations times a trained vector that starts at one; Liu et al. 2022 (arXiv 2205.05638), by peft.

    The outputs of keys and values and the input of the MLP's output layer are scaled; in BERT, peft's default scales
    the input of the attention's output layer, too. The head is trained; all else is frozen.

    targets         ends of the names of the scaled modules; null: peft's default for the family
    feedforward     those of the targets whose input is scaled instead of the output; null with targets: none
    """

    targets: tuple[str, ...] | None = None
    feedforward: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_extra("peft", "adapters")
        check_names("targets", self.targets)
        others = set(self.feedforward or ()) - set(self.targets or ())
        require("feedforward", self.feedforward, not others, "null or some of the targets")

    def wrap(self, model: "nn.Module", roles: Mapping[str, Role]) -> "nn.Module":
        from peft import IA3Config

        own = (self.targets, self.feedforward or ()) if self.targets else None
        targets, feedforward = own or IA3_TARGETS.get(family(model)) or (None, None)
        config = IA3Config(
            target_modules=list(targets) if targets else None,
            feedforward_modules=None if feedforward is None else list(feedforward),
        )
        return inject(config, model, roles)


def check_names(key: str, names: tuple[str, ...] | None) -> None:
    """Raise ValueError unless `names` is None or has names of modules."""
    fits = names is None or (len(names) > 0 and all(names))
    require(key, names, fits, "null or a list of names of modules")


def family(model: "nn.Module") -> str:
    """transformers' name for the architecture of a model."""
    return model.config.model_type


def inject(config: "PeftConfig", model: "nn.Module", roles: Mapping[str, Role]) -> "nn.Module":
    """Put an adapter of peft into a model, and freeze all but the adapter and the head. Names get no new beginning.

    A language model's own output layer is no new head: it is frozen, too.

    Raises ValueError if the model has no module that the adapter's targets name, or no known head.
    """
    from peft import inject_adapter_in_model

    predicts_tokens = getattr(model, "get_output_embeddings", lambda: None)() is not None
    heads = [] if predicts_tokens else [name for name, part in roles.items() if part.block == "head"]
    known = predicts_tokens or bool(heads)
    require("adapter", type(model).__name__, known, "none for a model whose head is not known")
    config.exclude_modules = sorted({name.rpartition(".")[0] for name in heads})  # the head is trained as it is
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")  # peft sets it right for GPT-2's transposed weights
        try:
            model = inject_adapter_in_model(config, model)
        except ValueError as error:
            what = "names of modules that the model has outside of its head, as far as peft can adapt them"
            shown = sorted(config.target_modules) if config.target_modules else None
            raise ValueError(f"{refusal('adapter.targets', shown, what)}: {error}") from error
    parameters = dict(model.named_parameters())
    for name in heads:
        parameters[name].requires_grad_(True)
    return model
