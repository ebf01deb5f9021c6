"""Regularizers against torch, against formulas by hand and against automatic differentiation."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ablate.data.batches import Batch
from ablate.experiment import build_options
from ablate.regularizer import L2SP, LabelSmoothing, LossRule, Mixout, RDrop, WeightRule
from ablate.sweep.technique_check import check_sharding
from ablate.training.dropout import FastDropout, TorchDropout
from ablate.training.step import changed_weights, train
from tests.tools import compose_settings
from tests.training.test_step import small_learner

LABELS = torch.tensor([0, 2, 1, 2])


def logits(seed: int = 0, size: float = 1.0) -> Tensor:
    return (size * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def batch() -> Batch:
    ids = torch.ones(4, 2, dtype=torch.long)
    return Batch(ids, torch.ones_like(ids), LABELS)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of, retain_graph=True)[0]


@settings(max_examples=25)
@given(smoothing=st.floats(0, 0.99), seed=st.integers(0, 99), size=st.floats(0.1, 30))
def test_label_smoothing_is_torchs(smoothing: float, seed: int, size: float) -> None:
    found = logits(seed, size)
    plain = F.cross_entropy(found, LABELS)
    ours = LabelSmoothing(smoothing).loss(plain, found, batch(), nn.Identity(), 1)
    expected = F.cross_entropy(found, LABELS, label_smoothing=smoothing)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient(ours, found), gradient(expected, found), rtol=1e-4, atol=1e-6)
    more = LabelSmoothing(smoothing).loss(plain + 7, found, batch(), nn.Identity(), 1)
    assert float((more - ours).detach()) == pytest.approx(7, rel=1e-4)  # the penalty of another rule stays


def test_label_smoothing_of_0_is_none_and_another_is_not() -> None:
    found = logits()
    plain = F.cross_entropy(found, LABELS)
    same, other = (LabelSmoothing(s).loss(plain, found, batch(), nn.Identity(), 1) for s in (0.0, 0.1))
    assert torch.equal(same, plain) and abs(float((other - plain).detach())) > 1e-3


class Second(nn.Module):
    """A model whose logits are given."""

    def __init__(self, found: Tensor) -> None:
        super().__init__()
        self.found = found

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.found)


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(p ‖ q) = Σ_k p_k · log(p_k / q_k), the mean over the examples."""
    return float((p * (p / q).log()).sum(-1).mean())


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_r_drop_by_hand(alpha: float) -> None:
    one, two = logits(0), logits(1)
    losses = [F.cross_entropy(found, LABELS) for found in (one, two)]
    p, q = one.softmax(-1), two.softmax(-1)
    expected = float(sum(losses)) / 2 + alpha * (divergence(p, q) + divergence(q, p)) / 2
    found = RDrop(alpha).loss(losses[0], one, batch(), Second(two), 1)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    swapped = RDrop(alpha).loss(losses[1], two, batch(), Second(one), 1)
    assert float(swapped) == pytest.approx(expected, rel=1e-5)
    assert all(gradient(found, logit).abs().sum() > 0 for logit in (one, two))  # both passes are trained


def test_r_drop_of_equal_predictions_is_the_loss() -> None:
    one = logits()
    loss = F.cross_entropy(one, LABELS)
    assert float(RDrop(9.0).loss(loss, one, batch(), Second(one), 1)) == pytest.approx(float(loss), rel=1e-6)


def test_r_drop_draws_other_masks_in_its_second_pass() -> None:
    """The first passes of all pieces have the masks, and so the loss, of a run without it."""
    added, losses = {}, []
    for dropout, option in ((0, "r_drop"), (0.3, "r_drop"), (0.3, "none")):
        learner, batches = small_learner(f"regularizer={option}", f"model.dropout={dropout}", "trainer.steps=1")
        moment = next(train(learner, batches))
        losses.append(moment.row.loss)
        added[option, dropout] = {name: value for name, _, value in moment.measures.rows}.get("added_loss")
    assert added["r_drop", 0] == pytest.approx(0, abs=1e-6) and abs(added["r_drop", 0.3]) > 1e-4
    assert losses[1] == losses[2] != losses[0] and added["none", 0.3] is None


def test_a_further_pass_leaves_later_masks_as_they_are() -> None:
    for dropout in (FastDropout(3), TorchDropout(3)):
        found = []
        for passes in ((), (0,), (1,)):
            with dropout.at(7):
                first, further = F.dropout(torch.ones(99)), []
                for piece in passes:
                    with dropout.again(7, piece):
                        further.append(F.dropout(torch.ones(99)))
                found.append((first, F.dropout(torch.ones(99)), *further))
        for first, second, *_ in found[1:]:
            assert torch.equal(first, found[0][0]) and torch.equal(second, found[0][1])
        assert len({tuple(mask.tolist()) for masks in found for mask in masks}) == 4


class Net(nn.Module):
    """Parameters of every kind that mixout and L2-SP tell apart, with names that have roles."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bert = nn.ModuleDict({"embeddings": nn.ModuleDict({"word_embeddings": nn.Embedding(7, 5)})})
        self.bert["pooler"] = nn.ModuleDict({"dense": nn.Linear(5, 4)})
        self.classifier = nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.classifier(self.bert["pooler"]["dense"](self.bert["embeddings"]["word_embeddings"](ids)).tanh())


def moved(model: nn.Module) -> nn.Module:
    """Move a model away from where it began."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))
    return model


def test_l2_sp_by_hand() -> None:
    model, rule = Net(), L2SP(alpha=0.3, beta=0.7)
    start = copy.deepcopy(dict(model.named_parameters()))
    rule.begin(dict(model.named_parameters()), 0)
    moved(model)
    loss = rule.loss(torch.tensor(2.0), logits(), batch(), model, 1)
    loss.backward()
    expected = 2.0
    for name, p in model.named_parameters():
        head = name.startswith("classifier")
        pull = 0.7 * p if head else 0.3 * (p - start[name])
        expected += float((pull * (p if head else p - start[name])).sum()) / 2
        torch.testing.assert_close(p.grad, pull.detach())
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_l2_sp_leaves_frozen_weights_out_and_begins_anew() -> None:
    model, rule = Net(), L2SP()
    rule.begin(dict(moved(model).named_parameters()), 0)  # as the check before a run does, with other weights
    rule.begin({name: p for name, p in model.named_parameters() if "pooler" in name}, 0)
    model.requires_grad_(False)
    model.bert["pooler"].requires_grad_(True)
    assert float(rule.loss(torch.tensor(2.0), logits(), batch(), model, 1)) == 2.0
    moved(model)
    assert float(rule.loss(torch.tensor(2.0), logits(), batch(), model, 1).detach()) > 2.0


def mixed_by_formula(
    model: nn.Module, start: dict[str, Tensor], masks: dict[str, Tensor], p: float
) -> dict[str, Tensor]:
    """(m · w⁰ + (1 − m) · w − p · w⁰) / (1 − p), as arXiv 1909.11299 has it."""
    weights = dict(model.named_parameters())
    mixed = {name: (m * start[name] + (1 - m) * weights[name] - p * start[name]) / (1 - p) for name, m in masks.items()}
    return weights | mixed


@pytest.mark.parametrize("p", [0.25, 0.875])
def test_mixout_is_the_papers_by_automatic_differentiation(p: float) -> None:
    model, rule, ids = Net(), Mixout(p), torch.arange(4)
    rule.begin(dict(model.named_parameters()), 11)
    start = copy.deepcopy({name: w.detach() for name, w in model.named_parameters()})
    own = copy.deepcopy(dict(moved(model).named_parameters()))
    linear = {name: own[name] for name in ("bert.pooler.dense.weight", "classifier.weight")}
    masks = {name: (kept == 0).float() for name, kept in rule.masks(linear, 3).items()}
    assert all(0 < float(m.mean()) < 1 for m in masks.values())
    expected = F.cross_entropy(torch.func.functional_call(model, mixed_by_formula(model, start, masks, p), ids), LABELS)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    with rule.weights(model, 3):
        for name, w in model.named_parameters():
            assert torch.equal(w, own[name]) == (name not in linear)
        loss = F.cross_entropy(model(ids), LABELS)
        loss.backward()
    torch.testing.assert_close(loss, expected)
    for (name, w), reference in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(w.grad, reference)
        assert torch.equal(w, own[name])


def test_mixouts_masks_depend_on_seed_and_step_alone() -> None:
    model = Net()
    weights = dict(model.named_parameters())
    found = {}
    for seed, t in ((1, 1), (1, 1), (1, 2), (2, 1)):
        rule = Mixout(0.5)
        rule.begin(weights, seed)
        found.setdefault((seed, t), []).append(rule.masks(weights, t)["classifier.weight"])
    one, again = found[1, 1]
    assert torch.equal(one, again)
    assert not torch.equal(one, found[1, 2][0]) and not torch.equal(one, found[2, 1][0])


def test_mixout_restores_the_weights_after_an_error_and_leaves_the_expectation() -> None:
    rule, model = Mixout(0.9), nn.Linear(200, 50, bias=False)
    rule.begin(dict(model.named_parameters()), 0)
    own = moved(model).weight.detach().clone()
    with pytest.raises(ZeroDivisionError), rule.weights(model, 1):
        raise ZeroDivisionError
    assert torch.equal(model.weight, own)
    total, replaced = torch.zeros_like(own), []
    for t in range(1, 401):
        with torch.no_grad(), rule.weights(model, t):
            total += model.weight
            replaced.append(float((model.weight == rule.beginning.weights["weight"]).float().mean()))
    assert sum(replaced) / 400 == pytest.approx(0.9, abs=1e-3)
    distance = own - rule.beginning.weights["weight"]  # each entry of the mean has a standard error of 3/20 of this
    assert float(((total / 400 - own) / distance).abs().mean()) < 0.15


def first_moments(*overrides: str, steps: int = 2) -> list:
    learner, batches = small_learner("model.dropout=0", "optimizer.lr=0.01", f"trainer.steps={steps}", *overrides)
    return list(train(learner, batches))


@pytest.mark.parametrize("option", ["l2_sp", "mixout", "label_smoothing", "r_drop"])
def test_pieces_have_the_steps_penalty(option: str) -> None:
    """The sum over 4 pieces is that of the whole batch, up to rounding."""
    chosen = (f"regularizer={option}", *(["regularizer.beta=1", "regularizer.alpha=1"] if option == "l2_sp" else []))
    whole, pieces = (first_moments(*chosen, f"trainer.length_splits={splits}") for splits in (1, 4))
    plain = first_moments("trainer.length_splits=4")
    for one, other, none in zip(whole, pieces, plain, strict=True):
        assert other.row.loss == pytest.approx(one.row.loss, rel=1e-5)
        assert other.norms.total == pytest.approx(one.norms.total, rel=1e-4)
        added = [value for name, _, value in other.measures.rows if name == "added_loss"]
        assert added == pytest.approx(
            [v for name, _, v in one.measures.rows if name == "added_loss"], rel=1e-4, abs=1e-6
        )
        assert len(added) == (option != "mixout") and "added_loss" not in [name for name, _, _ in none.measures.rows]
    assert option == "r_drop" or pieces[1].norms.total != pytest.approx(plain[1].norms.total, rel=1e-4)  # it acts


def test_in_a_run_mixout_changes_the_linear_layers_that_are_trained() -> None:
    learner, batches = small_learner("regularizer=mixout", "trainer.steps=3", "optimizer.lr=0.01")
    list(train(learner, batches))
    own = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    with changed_weights(learner, 4):
        changed = {name for name, p in learner.model.named_parameters() if not torch.equal(p, own[name])}
    assert changed == {name for name, p in learner.trained.items() if p.ndim == 2}
    assert all(torch.equal(p, own[name]) for name, p in learner.model.named_parameters())


@pytest.mark.parametrize("option", ["l2_sp", "mixout"])
def test_rules_that_need_whole_tensors_are_refused_where_ranks_have_shards(option: str) -> None:
    for chosen in (option, "label_smoothing"):
        options = build_options(compose_settings(f"regularizer={chosen}", "trainer.distributed=fsdp"))
        if chosen == option:
            with pytest.raises(ValueError, match=r"must be ddp with regularizer: ablate\.regularizer"):
                check_sharding(options)
        else:
            check_sharding(options)  # the control


def test_protocols_and_settings_out_of_range() -> None:
    assert all(isinstance(rule, LossRule) for rule in (LabelSmoothing(), RDrop(), L2SP()))
    assert isinstance(Mixout(), WeightRule) and not isinstance(Mixout(), LossRule)
    for make, message in (
        (lambda: LabelSmoothing(1.0), r"^smoothing must be a number in \[0, 1\) \(got 1\.0\)$"),
        (lambda: RDrop(-1), r"^alpha must be a finite number, at least 0 \(got -1\)$"),
        (lambda: L2SP(beta=math.inf), r"^beta must be a finite number, at least 0 \(got inf\)$"),
        (lambda: Mixout(1.0), r"^p must be a number from 0 to 0\.999 \(got 1\.0\)$"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
