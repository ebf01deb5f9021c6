"""Skipping computation for tokens that the head ignores: the same logits and gradients with less work."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification

from ablate.model.first_token import first_token, skip_unread
from tests.model.test_families import FAMILIES

READ_FIRST = {"BERT", "RoBERTa", "ELECTRA", "DistilBERT"}
IDS = torch.tensor([[2, 5, 9, 7, 3], [2, 11, 3, 0, 0], [2, 8, 6, 3, 0]])  # [3, 5], 0 = padding
LABELS = torch.tensor([0, 1, 1])


def classifier(family: str) -> nn.Module:
    model_type, settings = FAMILIES[family]
    config = AutoConfig.for_model(model_type, vocab_size=20, pad_token_id=0, **settings)
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


def work(model: nn.Module) -> tuple[Tensor, dict[str, Tensor], int]:
    """Logits [3, 2], the gradients of their loss, and the floating-point operations of both."""
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=IDS, attention_mask=(IDS != 0).long()).logits
        F.cross_entropy(logits, LABELS).backward()
    return logits.detach(), {n: p.grad for n, p in model.named_parameters()}, counter.get_total_flops()


def compared(family: str, change: Callable[[nn.Module], Any]) -> tuple[float, float, float]:
    """Relative difference of the logits, largest one of a gradient, and the ratio of operations, changed / before."""
    changed = classifier(family)
    change(changed)
    (logits, gradients, flops), (others, other_gradients, fewer) = work(classifier(family)), work(changed)
    assert gradients.keys() == other_gradients.keys()
    errors = [distance(gradients[n], other_gradients[n]) for n in gradients if gradients[n] is not None]
    return distance(logits, others), max(errors), fewer / flops


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / max(float(a.norm()), 1e-6))  # the gradient of key biases is zero up to rounding


@pytest.mark.parametrize("family", FAMILIES)
def test_same_logits_and_gradients_with_less_work(family: str) -> None:
    logits, gradients, flops = compared(family, skip_unread)
    assert logits <= 1e-5 and gradients <= 1e-5
    assert flops < 0.9 if family in READ_FIRST else flops == 1


def test_another_token_is_another_model() -> None:
    """The negative control: it matters which token is kept."""

    def last_token(model: nn.Module) -> None:
        output = model.get_submodule("bert.encoder.layer.1.attention.output")
        output.register_forward_pre_hook(lambda _, inputs: tuple(x[:, -1:] for x in inputs))

    logits, gradients, flops = compared("BERT", last_token)
    assert logits > 1e-3 and gradients > 1e-3 and flops < 0.9


def test_the_first_token_of_all_inputs() -> None:
    found = first_token(nn.Identity(), (torch.arange(24).view(2, 3, 4), torch.zeros(2, 3, 1)))
    assert [x.shape for x in found] == [(2, 1, 4), (2, 1, 1)]
    assert found[0][1, 0].tolist() == [12, 13, 14, 15]
