"""Optimizers: those of torch, with the settings given; values out of range are refused."""

import math
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from ablate.optimizer import SGD, AdamW, OptimizerRule, set_lr

OPTIMIZERS = pytest.mark.parametrize("optimizer", [AdamW, SGD])
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


@pytest.mark.parametrize("rule", [AdamW(1e-3), SGD(0.1)])
def test_rules_are_optimizer_rules(rule: object) -> None:
    assert isinstance(rule, OptimizerRule)
