"""Optimizers: those of torch, with the settings given; values out of range are refused."""

import functools
import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from ablate.model.parameter_roles import role
from ablate.optimizer import (
    SGD,
    Adafactor,
    AdamW,
    AdamWNoBiasCorrection,
    Lion,
    Muon,
    OptimizerRule,
    group_names,
    set_lr,
)
from ablate.scheduler import WarmupLinear
from ablate.training.optimizers import BertAdam, LionOptimizer

ALL = (AdamW, SGD, AdamWNoBiasCorrection, Lion, Adafactor, Muon)
OPTIMIZERS = pytest.mark.parametrize("optimizer", ALL)
Build = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def after_twenty_steps(build: Build) -> Tensor:
    """Weights [14] of a small regression after 20 steps of full-batch gradient descent."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 4, generator=draw), torch.randn(32, 2, generator=draw)
    parameters = [nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((4, 2), (2, 2), (2,))]
    names = ("bert.pooler.dense.weight", "classifier.weight", "classifier.bias")
    optimizer = build(list(zip(names, parameters, strict=True)))
    for _ in range(20):
        optimizer.zero_grad()
        first, second, bias = parameters
        (torch.tanh(x @ first) @ second + bias - y).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().reshape(-1) for p in parameters])


def test_adamw_has_its_settings() -> None:
    rule = AdamW(lr=3e-4, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    built = rule.build([("classifier.bias", nn.Parameter(torch.zeros(2)))])
    assert type(built) is torch.optim.AdamW
    (group,) = built.param_groups
    assert {key: group[key] for key in ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")} == {
        "lr": 3e-4, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1,
        "amsgrad": False, "maximize": False,
    }  # fmt: skip


def test_sgd_has_its_settings() -> None:
    rule = SGD(lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.2)
    built = rule.build([("classifier.bias", nn.Parameter(torch.zeros(2)))])
    assert type(built) is torch.optim.SGD
    (group,) = built.param_groups
    assert {key: group[key] for key in ("lr", "momentum", "nesterov", "weight_decay", "dampening")} == {
        "lr": 0.1, "momentum": 0.5, "nesterov": True, "weight_decay": 0.2, "dampening": 0
    }  # fmt: skip


@pytest.mark.parametrize("key", ["betas", "eps", "weight_decay"])
def test_adamws_defaults_are_torchs(key: str) -> None:
    theirs = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    assert getattr(AdamW(lr=1e-3), key) == theirs.defaults[key]


def test_fused_adamw_is_adamw() -> None:
    rule = AdamW(lr=0.05, weight_decay=0.1)

    def plain(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1, foreach=False)

    expected = after_twenty_steps(plain)
    torch.testing.assert_close(after_twenty_steps(rule.build), expected, rtol=1e-5, atol=1e-6)
    other = after_twenty_steps(AdamW(lr=0.05, weight_decay=0.11).build)
    assert not torch.allclose(other, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_fused_sgd_is_sgd(nesterov: bool) -> None:
    def plain(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=nesterov, foreach=False)

    expected = after_twenty_steps(plain)
    torch.testing.assert_close(after_twenty_steps(SGD(0.1, nesterov=nesterov).build), expected, rtol=1e-5, atol=1e-6)
    other = after_twenty_steps(SGD(0.1, nesterov=not nesterov).build)
    assert not torch.allclose(other, expected, rtol=1e-5, atol=1e-6)


@OPTIMIZERS
@pytest.mark.parametrize("lr", [0, -1e-3, math.nan, math.inf, -math.inf])
def test_lr_out_of_range(optimizer: type, lr: float) -> None:
    with pytest.raises(ValueError, match=rf"^lr must be a finite number above 0 \(got {lr}\)$"):
        optimizer(lr=lr)


@OPTIMIZERS
@pytest.mark.parametrize("weight_decay", [-0.01, math.nan, math.inf])
def test_weight_decay_out_of_range(optimizer: type, weight_decay: float) -> None:
    with pytest.raises(ValueError, match=rf"^weight_decay must be a finite number, at least 0 \(got {weight_decay}\)$"):
        optimizer(lr=1e-3, weight_decay=weight_decay)


@pytest.mark.parametrize("betas", [(1.0, 0.999), (0.9, 1.0), (-0.1, 0.9), (0.9, math.nan)])
def test_betas_out_of_range(betas: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"^betas must be two numbers in \[0, 1\) \(got \(.*\)\)$"):
        AdamW(lr=1e-3, betas=betas)


@pytest.mark.parametrize("eps", [0, -1e-8, math.nan, math.inf])
def test_eps_out_of_range(eps: float) -> None:
    with pytest.raises(ValueError, match=rf"^eps must be a finite number above 0 \(got {eps}\)$"):
        AdamW(lr=1e-3, eps=eps)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_momentum_out_of_range(momentum: float) -> None:
    with pytest.raises(ValueError, match=rf"^momentum must be a number in \[0, 1\) \(got {momentum}\)$"):
        SGD(lr=0.1, momentum=momentum)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match=r"^nesterov must be false where momentum=0 \(got True\)$"):
        SGD(lr=0.1, momentum=0.0, nesterov=True)


def test_torch_itself_takes_an_infinite_lr() -> None:
    """This is why `ablate.optimizer` checks the ranges."""
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=math.inf)


def test_each_group_keeps_its_own_rate_and_the_schedule_multiplies_it() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.2)]
    optimizer = torch.optim.SGD(groups)
    for factor in (0.5, 0.25):
        assert set_lr(optimizer, (0.1, 0.2), factor) == 0.2 * factor
        assert [group["lr"] for group in optimizer.param_groups] == [0.1 * factor, 0.2 * factor]


@OPTIMIZERS
def test_rules_are_optimizer_rules(optimizer: type) -> None:
    assert isinstance(optimizer(lr=1e-3), OptimizerRule)


# --- Rates by layer ---

LAYERS, STEPS = 4, 300


@functools.cache
def bert() -> dict[str, nn.Parameter]:
    """The parameters of a BERT of four layers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 32}
    return dict(BertForSequenceClassification(BertConfig(num_hidden_layers=LAYERS, **sizes)).named_parameters())


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rate of each parameter."""
    name_of = {id(p): name for name, p in bert().items()}
    return {name_of[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def by_hand(name: str, lr: float, decay: float, head_lr: float) -> float:
    """lr for the pooler, lr · d for layer 3, ..., lr · d⁴ for layer 0, lr · d⁵ for the embeddings."""
    places = {"classifier": head_lr, "bert.pooler": lr, "bert.encoder.layer.3": lr * decay}
    places |= {"bert.encoder.layer.2": lr * decay * decay, "bert.encoder.layer.1": lr * decay * decay * decay}
    places |= {"bert.encoder.layer.0": lr * decay**4, "bert.embeddings": lr * decay**5}
    return next(rate for beginning, rate in places.items() if name.startswith(beginning))


@OPTIMIZERS
def test_rates_by_layer_at_steps_1_15_and_300(optimizer: type) -> None:
    """The schedule's factors: 1/30, 15/30 in a warm-up of 10 % of 300 steps, and 0 at the end."""
    rule, schedule = optimizer(lr=1e-3, layer_decay=0.9, head_lr=5e-3), WarmupLinear(warmup=0.1)
    built = rule.build(list(bert().items()))
    peaks = [group["lr"] for group in built.param_groups]
    for t, factor in ((1, 1 / 30), (15, 0.5), (300, schedule.factor(300, STEPS))):
        largest = set_lr(built, peaks, schedule.factor(t, STEPS))
        assert largest == pytest.approx(5e-3 * factor)
        found = rates(built)
        assert found.keys() == bert().keys()
        for name, rate in found.items():
            assert rate == pytest.approx(factor * by_hand(name, 1e-3, 0.9, 5e-3), rel=1e-12), (t, name)
    assert len(set(group_names(built))) == len(built.param_groups)


@OPTIMIZERS
def test_groups_of_several_rates_are_not_flattened(optimizer: type) -> None:
    """Version 1 wrote the first group's rate into every group, so layer_decay had no effect at all."""
    built = optimizer(lr=1e-3, layer_decay=0.5).build(list(bert().items()))
    set_lr(built, [group["lr"] for group in built.param_groups], 0.5)
    found = rates(built)
    assert found["classifier.weight"] / found["bert.embeddings.word_embeddings.weight"] == pytest.approx(2**5)
    assert len(set(found.values())) == LAYERS + 2  # pooler and head share one

    def flattened(optimizer: torch.optim.Optimizer, lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr

    flattened(built, 0.5e-3)
    assert len(set(rates(built).values())) == 1


@OPTIMIZERS
def test_norms_and_biases_can_be_spared_from_weight_decay(optimizer: type) -> None:
    rule = optimizer(lr=1e-3, weight_decay=0.1, decay_norms_and_biases=False)
    for group in rule.build(list(bert().items())).param_groups:
        names = [name for name, p in bert().items() if any(p is each for each in group["params"])]
        assert {role(name).kind == "weight" for name in names} == {group["weight_decay"] == 0.1}


@OPTIMIZERS
def test_without_settings_by_layer_there_is_one_rate(optimizer: type) -> None:
    rule = optimizer(lr=1e-3)
    built = rule.build(list(bert().items()))
    assert {(group["lr"], group["weight_decay"]) for group in built.param_groups} == {(1e-3, rule.weight_decay)}
    assert len(built.param_groups) == (2 if optimizer is Muon else 1)


# --- Further optimizers ---


def test_adamw_without_bias_correction_has_its_settings() -> None:
    built = AdamWNoBiasCorrection(lr=3e-4, betas=(0.8, 0.95), weight_decay=0.1).build(list(bert().items()))
    assert type(built) is BertAdam
    assert [(g["lr"], g["betas"], g["eps"], g["weight_decay"]) for g in built.param_groups] == [
        (3e-4, (0.8, 0.95), 1e-6, 0.1)
    ]


def test_lion_has_its_settings() -> None:
    built = Lion(lr=3e-5, betas=(0.95, 0.98), weight_decay=0.1).build(list(bert().items()))
    assert type(built) is LionOptimizer
    assert [(g["lr"], g["betas"], g["weight_decay"]) for g in built.param_groups] == [(3e-5, (0.95, 0.98), 0.1)]


def adafactor(start: np.ndarray, gradients: list[np.ndarray], rule: Adafactor) -> np.ndarray:
    """Algorithm 4 of Shazeer & Stern 2018 for a matrix, with torch's largest relative step."""
    theta, rows, columns = start.copy(), np.zeros((len(start), 1)), np.zeros((1, len(start[0])))
    for t, g in enumerate(gradients, start=1):
        beta = 1 - t**rule.decay
        rows = beta * rows + (1 - beta) * (g**2).mean(1, keepdims=True)
        columns = beta * columns + (1 - beta) * (g**2).mean(0, keepdims=True)
        u = g / np.sqrt(rows * columns / rows.mean())
        u = u / max(1, np.sqrt((u**2).mean()) / rule.threshold)
        size = max(rule.eps, np.sqrt((theta**2).mean())) * min(rule.lr, 1 / math.sqrt(t))
        theta = theta * (1 - rule.lr * rule.weight_decay) - size * u
    return theta


def test_adafactor() -> None:
    draw = np.random.default_rng(0)
    start, gradients = draw.normal(size=(4, 3)), [draw.normal(size=(4, 3)) for _ in range(10)]
    rule = Adafactor(lr=0.1, weight_decay=0.1, threshold=1.2)
    parameter = nn.Parameter(torch.tensor(start))
    built = rule.build([("classifier.weight", parameter)])
    assert type(built) is torch.optim.Adafactor
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        built.step()
    np.testing.assert_allclose(parameter.detach().numpy(), adafactor(start, gradients, rule), rtol=1e-6)
    other = Adafactor(lr=0.1, weight_decay=0.1, threshold=1.0)
    assert not np.allclose(parameter.detach().numpy(), adafactor(start, gradients, other), rtol=1e-3)


def test_muon_updates_the_matrices_of_the_layers_and_adamw_the_rest() -> None:
    built = Muon(lr=1e-3).build(list(bert().items()))
    muon, adamw = built.parts
    assert (type(muon), type(adamw)) == (torch.optim.Muon, torch.optim.AdamW)
    assert Muon.needs_roles  # a matrix of unknown role is refused, not left to AdamW
    held = {id(p) for group in muon.param_groups for p in group["params"]}
    assert {name for name, p in bert().items() if id(p) in held} == {
        name
        for name, p in bert().items()
        if name.startswith("bert.encoder") and name.endswith("weight") and p.ndim == 2
    }
    (group,) = muon.param_groups
    assert (group["momentum"], group["nesterov"], group["adjust_lr_fn"]) == (0.95, True, "match_rms_adamw")
    assert [type(part) for part in Muon(1e-3).build([("classifier.bias", nn.Parameter(torch.zeros(2)))]).parts] == [
        torch.optim.AdamW
    ]


def test_muons_update_is_as_large_as_adamws() -> None:
    """Orthogonal up to bfloat16 and five iterations, times 0.2 √max(rows, columns): an RMS of 0.2."""
    torch.manual_seed(0)
    p = nn.Parameter(torch.zeros(64, 32))
    p.grad = torch.randn(64, 32)
    rule = Muon(lr=1.0, weight_decay=0.0)
    rule.build([("bert.encoder.layer.0.output.dense.weight", p)]).step()
    values = torch.linalg.svdvals(p.detach()) / (0.2 * math.sqrt(64))
    assert values.min() > 0.6 and values.max() < 1.3
    assert p.detach().square().mean().sqrt() == pytest.approx(0.2, rel=0.2)
    assert torch.linalg.cond(p.grad) > 2  # the gradient itself is far from orthogonal


@pytest.mark.parametrize(
    ("optimizer", "key", "value"),
    [
        (Lion, "betas", (0.9, 1.0)), (AdamWNoBiasCorrection, "eps", 0), (Adafactor, "decay", 0.0),
        (Adafactor, "threshold", 0.5), (Adafactor, "eps", 0), (Muon, "momentum", 1.0), (Muon, "adjustment", "keller"),
    ],
)  # fmt: skip
def test_settings_of_further_optimizers_out_of_range(optimizer: type, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{key} must be .* \(got "):
        optimizer(lr=1e-3, **{key: value})


def test_sharded_weights_are_refused_where_an_update_needs_the_whole_tensor() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        shard = nn.Parameter(torch.distributed.tensor.distribute_tensor(torch.zeros(2, 2), mesh))
        for optimizer in (Adafactor, Muon):
            with pytest.raises(ValueError, match=r"^trainer.distributed must be ddp with optimizer="):
                optimizer(lr=1e-3).build([("classifier.weight", shard)])
    finally:
        torch.distributed.destroy_process_group()
