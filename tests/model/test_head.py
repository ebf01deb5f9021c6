"""The classification head: its modules in each family and its initialisation."""

import math

import pytest
import torch
from torch import nn

from ablate.model.head import head_of, initialise_head
from ablate.seeds import stream
from tests.model.test_first_token import FAMILIES, classifier

HEADS = {
    "BERT": ["classifier"], "ALBERT": ["classifier"], "DeBERTa-v2": ["classifier"],
    "DistilBERT": ["pre_classifier", "classifier"],
    "RoBERTa": ["classifier.dense", "classifier.out_proj"], "ELECTRA": ["classifier.dense", "classifier.out_proj"],
    "ModernBERT": ["head.dense", "head.norm", "classifier"],
    "GPT-2": ["score"], "Llama": ["score"], "Qwen2": ["score"], "Qwen3": ["score"],
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_modules_of_the_head(family: str) -> None:
    model = classifier(family)
    names = {module: name for name, module in model.named_modules()}
    assert [names[module] for module in head_of(model)] == HEADS[family]


def started(family: str, rule: str, seed: int) -> dict[str, torch.Tensor]:
    model = classifier(family)
    for module in head_of(model):
        for parameter in module.parameters(recurse=False):
            nn.init.constant_(parameter, 7)
    initialise_head(model, rule, seed)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("family", ["BERT", "RoBERTa"])
def test_xavier_uniform_weights_and_zero_biases(family: str) -> None:
    """Glorot & Bengio 2010: U(−a, a) with a = √(6 / (fan in + fan out)), drawn from the head's own stream."""
    found, generator = started(family, "xavier", 5), torch.Generator().manual_seed(stream("head", 5))
    for name in found:
        if not name.startswith("classifier"):
            assert not (found[name] == 7).any()
        elif name.endswith("bias"):
            assert not found[name].any()
        else:
            bound = math.sqrt(6 / sum(found[name].shape))
            expected = torch.empty_like(found[name]).uniform_(-bound, bound, generator=generator)
            torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=0)


def test_each_seed_has_its_own_stream() -> None:
    one, same, other = (started("BERT", "xavier", seed)["classifier.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_default_leaves_the_head_as_it_is() -> None:
    found = started("BERT", "default", 1)
    assert (found["classifier.weight"] == 7).all() and (found["classifier.bias"] == 7).all()


def test_a_norm_in_the_head_stays_a_norm() -> None:
    found = started("ModernBERT", "xavier", 1)
    assert (found["head.norm.weight"] == 7).all()
    assert found["head.dense.weight"].abs().max() <= math.sqrt(6 / 64)
