"""Evaluation in batches sorted by length gives what single examples give, in the order of the split."""

import math
import time
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ablate.data.batches import Examples, collate
from ablate.training.evaluation import evaluate, probe_index
from tests.tools import compose_settings


@pytest.fixture(scope="module")
def trained():
    """A model in training mode (dropout on) and a split of mixed lengths."""
    from ablate.data.corpus import corpus
    from ablate.experiment import build_options

    options = build_options(compose_settings("model=tiny", "data=synthetic", "model.head_init=default"))
    texts = corpus(options.model, options.data)
    model = options.model.build(texts.classes, 0, texts.tokenizer).train()
    return model, Examples(texts.test.input_ids[:50], texts.test.label[:50], 0), texts.tokenizer.pad_token_id


@torch.no_grad()
def one_by_one(model, examples, pad_id) -> torch.Tensor:
    """Logits [N, K], without sorting or padding."""
    model.eval()
    batches = [collate(examples, [i], pad_id) for i in range(len(examples.label))]
    logits = [model(input_ids=b.input_ids, attention_mask=b.attention_mask).logits for b in batches]
    model.train()
    return torch.cat(logits)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_give_the_predictions_of_single_examples(trained, batch_size: int) -> None:
    model, examples, pad_id = trained
    logits, found = one_by_one(model, examples, pad_id), evaluate(model, examples, batch_size, pad_id)
    label = torch.tensor(examples.label)
    assert torch.equal(found.columns["prediction"], logits.argmax(-1))
    assert torch.equal(found.columns["label"], label)
    torch.testing.assert_close(found.columns["probability"], logits.softmax(-1).amax(-1))
    expected = torch.nn.functional.cross_entropy(logits, label, reduction="none").double()
    torch.testing.assert_close(found.losses, expected, rtol=1e-5, atol=1e-6)
    assert found.accuracy == float((logits.argmax(-1) == label).double().mean())
    assert found.loss == pytest.approx(float(expected.mean()), rel=1e-6)
    by_length = sorted(range(50), key=lambda i: len(examples.input_ids[i]))
    assert not torch.allclose(expected[by_length], expected, rtol=1e-3)  # the control: a wrong order would be noticed


def test_evaluation_keeps_the_models_mode_and_the_random_state(trained) -> None:
    model, examples, pad_id = trained
    for training in (True, False):
        model.train(training)
        before = torch.get_rng_state()
        evaluate(model, examples, 16, pad_id)
        assert model.training is training
        assert torch.equal(torch.get_rng_state(), before)
    model.train()


class Sizes(TorchDispatchMode):
    """Keeps the largest number of elements that an operation returns."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.largest = max([self.largest, *(leaf.numel() for leaf in tree_leaves(found) if torch.is_tensor(leaf))])
        return found


class Sure(torch.nn.Module):
    """A model whose texts name their class as their only token."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.scale = classes, torch.nn.Parameter(torch.tensor(5.0))

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.scale * F.one_hot(input_ids[:, 0], self.classes))


def test_no_tensor_has_a_number_per_example_and_class() -> None:
    """With 50,000 examples and classes it would have 10 GB, and four copies of it were made."""
    classes, batch_size = 300, 16
    examples = Examples([[k] for k in range(classes)], list(range(classes)), 0)

    with Sizes() as sizes:
        found = evaluate(Sure(classes), examples, batch_size, 0)
    assert sizes.largest == batch_size * classes
    assert found.accuracy == 1 and found.loss == pytest.approx(math.log(1 + (classes - 1) * math.exp(-5)), rel=1e-4)


def test_the_probe_of_many_classes_takes_no_pass_per_class() -> None:
    started = time.process_time()
    assert probe_index([k % 30_000 for k in range(60_000)], 3) == [0, 1, 2]
    assert time.process_time() - started < 20  # a pass per class takes a minute


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 40))
def test_the_probe_is_as_balanced_as_the_classes_allow(label: list[int], count: int) -> None:
    index = probe_index(label, count)
    assert len(set(index)) == len(index) == min(count, len(label))
    taken = {k: sum(label[i] == k for i in index) for k in set(label)}
    assert all(taken[k] in (label.count(k), max(taken.values()), max(taken.values()) - 1) for k in taken)
