"""Freezing on a small random BERT: θ is the disjoint union of θ_frozen and θ_trained."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from ablate.freeze import Blocks, FreezeRule, Nothing, freeze
from ablate.schema import BLOCKS

WRITE_UP = Blocks(("embedding", "attention"))
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 64,
}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SMALL))


def loss(model: nn.Module) -> torch.Tensor:
    words = torch.randint(64, (4, 6), generator=torch.Generator().manual_seed(0))
    return model(input_ids=words, labels=torch.tensor([0, 1, 1, 0])).loss


def frozen(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def test_the_write_ups_rule_freezes_what_the_notebook_froze(model: nn.Module) -> None:
    names = [name for name, _ in model.named_parameters()]
    trained = freeze(model, WRITE_UP)
    assert frozen(model) == {name for name in names if "attention" in name or "embeddings" in name}
    assert list(trained) == [name for name in names if name not in frozen(model)]  # the rest, in the model's order
    assert all(p is dict(model.named_parameters())[name] for name, p in trained.items())


def test_the_write_ups_share_of_bert_base() -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    trained = sum(p.numel() for p in freeze(model, WRITE_UP).values())
    total = sum(p.numel() for p in model.parameters())
    assert (trained, total) == (57_279_746, 109_483_778)


def test_none_freezes_nothing(model: nn.Module) -> None:
    assert freeze(model, Nothing()) == dict(model.named_parameters())
    assert frozen(model) == set()


def test_a_rule_does_not_depend_on_the_one_before(model: nn.Module) -> None:
    freeze(model, WRITE_UP)
    freeze(model, Blocks(("head",)))
    assert frozen(model) == {"classifier.weight", "classifier.bias"}


def test_frozen_parameters_get_no_gradient(model: nn.Module) -> None:
    trained = freeze(model, WRITE_UP)
    loss(model).backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == frozen(model)
    assert all(p.grad.abs().sum() > 0 for p in trained.values())


def test_frozen_parameters_keep_every_bit(model: nn.Module) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = freeze(model, WRITE_UP)
    optimizer = torch.optim.AdamW(trained.values(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        loss(model).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert {name for name, p in model.named_parameters() if torch.equal(p, before[name])} == frozen(model)


@pytest.mark.parametrize("block", ["attentions", "Attention", "", "classifier"])
def test_unknown_block(block: str) -> None:
    with pytest.raises(ValueError, match=rf"^blocks must be one of {', '.join(BLOCKS)} \(got {block}\)$"):
        Blocks(("embedding", block))


def test_nothing_left_to_train(model: nn.Module) -> None:
    with pytest.raises(
        ValueError, match=r"^freeze must be a rule that leaves at least one parameter to train \(got Blocks\(.*\)\)$"
    ):
        freeze(model, Blocks(BLOCKS))


def test_a_parameter_of_unknown_role_is_named() -> None:
    with pytest.raises(ValueError, match="'weight'"):
        freeze(nn.Linear(2, 2), Nothing())


@pytest.mark.parametrize("rule", [Nothing(), WRITE_UP])
def test_rules_are_freeze_rules(rule: object) -> None:
    assert isinstance(rule, FreezeRule)
