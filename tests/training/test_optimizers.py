"""Optimizers that torch lacks, against their formulas in numpy."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ablate.training.optimizers import BertAdam, Joined, LionOptimizer

STEPS, DECAY, EPS = 12, 0.1, 1e-6
RATES = [0.01 * (1 + t % 3) for t in range(STEPS)]  # a schedule
GRADIENTS = np.random.default_rng(0).normal(size=(STEPS, 3, 2)) * np.logspace(-3, 1, 6).reshape(3, 2)
START = np.random.default_rng(1).normal(size=(3, 2))


def trained_by(optimizer: Callable[[nn.Parameter], torch.optim.Optimizer]) -> np.ndarray:
    parameter = nn.Parameter(torch.tensor(START))
    built = optimizer(parameter)
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        built.param_groups[0]["lr"], parameter.grad = rate, torch.tensor(gradient)
        built.step()
    return parameter.detach().numpy()


def bert_adam(beta1: float, beta2: float) -> np.ndarray:
    theta, m, v = START.copy(), np.zeros((3, 2)), np.zeros((3, 2))
    for rate, g in zip(RATES, GRADIENTS, strict=True):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        theta = theta - rate * (m / (np.sqrt(v) + EPS) + DECAY * theta)
    return theta


def lion(beta1: float, beta2: float) -> np.ndarray:
    theta, m = START.copy(), np.zeros((3, 2))
    for rate, g in zip(RATES, GRADIENTS, strict=True):
        theta = theta - rate * (np.sign(beta1 * m + (1 - beta1) * g) + DECAY * theta)
        m = beta2 * m + (1 - beta2) * g
    return theta


def test_adamw_without_bias_correction() -> None:
    how = {"betas": (0.9, 0.999), "eps": EPS}
    found = trained_by(lambda p: BertAdam([{"params": [p], "lr": 1.0, "weight_decay": DECAY}], how))
    np.testing.assert_allclose(found, bert_adam(0.9, 0.999), rtol=1e-12)
    corrected = trained_by(lambda p: torch.optim.AdamW([p], weight_decay=DECAY, **how))
    assert not np.allclose(corrected, found, rtol=1e-2)


def test_its_first_step_is_three_times_as_large() -> None:
    """(1 − β1) / √(1 − β2) = 3.16 times that of AdamW, for a gradient well above ε."""
    moved = []
    for build in (BertAdam, lambda groups, defaults: torch.optim.AdamW(groups, **defaults)):
        p = nn.Parameter(torch.zeros(4))
        p.grad = torch.ones(4)
        build([{"params": [p], "lr": 0.1, "weight_decay": 0.0}], {"betas": (0.9, 0.999), "eps": EPS}).step()
        moved.append(float(p.detach().abs().max()))
    assert moved[0] / moved[1] == pytest.approx(0.1 / 0.001**0.5, rel=1e-3)


def test_lion() -> None:
    def build(p: nn.Parameter, betas: tuple[float, float] = (0.9, 0.99)) -> torch.optim.Optimizer:
        return LionOptimizer([{"params": [p], "lr": 1.0, "weight_decay": DECAY}], {"betas": betas})

    found = trained_by(build)
    np.testing.assert_allclose(found, lion(0.9, 0.99), rtol=1e-12)
    assert not np.allclose(trained_by(lambda p: build(p, (0.99, 0.9))), found)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(1e-4, 1.0))
def test_lion_moves_each_entry_by_its_rate(size: float, rate: float) -> None:
    p = nn.Parameter(torch.zeros(5))
    p.grad = size * torch.tensor([1.0, -1.0, 2.0, -3.0, 0.5])
    LionOptimizer([{"params": [p], "lr": rate, "weight_decay": 0.0}], {"betas": (0.9, 0.99)}).step()
    torch.testing.assert_close(p.detach(), -rate * p.grad.sign())


def test_a_parameter_without_a_gradient_rests() -> None:
    still, moving = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    moving.grad = torch.ones(2)
    group = {"params": [still, moving], "lr": 0.1, "weight_decay": 0.5}
    optimizer = BertAdam([group], {"betas": (0.9, 0.999), "eps": EPS})
    optimizer.step()
    assert torch.equal(still, torch.ones(2)) and not torch.equal(moving, torch.ones(2))
    assert list(optimizer.state) == [moving]


def parts(parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    return [
        torch.optim.SGD([{"params": parameters[:1], "lr": 0.1}], momentum=0.9),
        torch.optim.AdamW([{"params": parameters[1:2], "lr": 0.01}, {"params": parameters[2:], "lr": 0.02}]),
    ]


def gradients(parameters: list[nn.Parameter], t: int) -> None:
    draw = torch.Generator().manual_seed(t)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=draw)


def test_joined_optimizers_do_what_each_does_alone_and_resume() -> None:
    ours, theirs = ([nn.Parameter(torch.ones(4)) for _ in range(3)] for _ in range(2))
    joined, alone = Joined(*parts(ours)), parts(theirs)
    for t in range(10):
        if t == 5:  # a new process
            state = copy.deepcopy(joined.state_dict())
            ours = [nn.Parameter(p.detach().clone()) for p in ours]
            joined = Joined(*parts(ours))
            joined.load_state_dict(state)
        gradients(ours, t)
        gradients(theirs, t)
        for group in joined.param_groups:
            group["lr"] *= 0.9
        for group in (group for part in alone for group in part.param_groups):
            group["lr"] *= 0.9
        joined.step()
        for part in alone:
            part.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert [group["lr"] for group in joined.param_groups] == [g["lr"] for part in alone for g in part.param_groups]
    assert sorted(joined.state_dict()["state"]) == [0, 1, 2]
