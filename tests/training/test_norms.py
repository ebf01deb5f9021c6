"""Gradient norms against float64 references, also where torch's float32 norm is inexact."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ablate.training.norms import Norms, gradient_norms

SHAPES = [
    (1_000,),
    (2, 384),  # a head
    (384, 384),  # MiniLM's attention
    (3_072, 768),  # BERT-base's MLP
    (384, 3, 5, 7),
    (100, 200_000),  # few, long rows
    (50_000, 400),  # an embedding
    (20_000_000,),
]


def with_gradient(gradient: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(torch.empty_like(gradient))
    parameter.grad = gradient
    return parameter


def random_gradient(shape: tuple[int, ...]) -> Tensor:
    return 0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def exactly(norm: float) -> object:
    return pytest.approx(norm, rel=1e-9, abs=0)


def reference(*gradients: Tensor) -> float:
    """The joint norm in float64, computed by numpy."""
    return math.sqrt(sum(float(np.square(g.numpy(), dtype=np.float64).sum()) for g in gradients))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norm_of_one_tensor(shape: tuple[int, ...]) -> None:
    g = random_gradient(shape)
    assert gradient_norms({"w": with_gradient(g)}).total == exactly(reference(g))


def test_torchs_own_norm_is_inexact_on_large_tensors() -> None:
    g = random_gradient((50_000, 400))
    theirs = float(torch.nn.utils.clip_grad_norm_([with_gradient(g)], max_norm=1e30))
    assert theirs != pytest.approx(reference(g), rel=1e-6)
    assert theirs == pytest.approx(reference(g), rel=1e-2)


def test_layers_and_the_whole_come_from_the_same_squares() -> None:
    gradients = {f"layer.{i}": random_gradient((10 + i, 7)) * i for i in range(1, 6)}
    norms = gradient_norms({name: with_gradient(g) for name, g in gradients.items()})
    assert norms.total**2 == pytest.approx(math.fsum(norms.squares.values()), rel=1e-15)
    assert norms.total == exactly(reference(*gradients.values()))
    some = ["layer.2", "layer.5"]
    assert norms.of(some) == exactly(reference(*(gradients[name] for name in some)))
    assert norms.of(gradients) == norms.total


@pytest.mark.parametrize("g", [torch.tensor(-3.0), torch.tensor([3.0]), torch.tensor([[3.0]])], ids=str)
def test_small_shapes(g: Tensor) -> None:
    assert gradient_norms({"w": with_gradient(g)}).total == 3.0


def test_a_transposed_gradient() -> None:
    g = random_gradient((300, 200)).T
    assert not g.is_contiguous()
    assert gradient_norms({"w": with_gradient(g)}).total == exactly(reference(g))


def test_a_parameter_without_gradient_counts_0() -> None:
    parameters = {"a": with_gradient(torch.tensor([3.0, 4.0])), "b": nn.Parameter(torch.ones(2))}
    norms = gradient_norms(parameters)
    assert (norms.total, norms.of(["a"]), norms.of(["b"]), norms.of([])) == (5.0, 5.0, 0.0, 0.0)
    assert norms.squares == {"a": 25.0}


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1.0, 1e19, 1e30])
def test_squares_neither_overflow_nor_vanish(size: float) -> None:
    """A finite gradient has a finite norm: float32 can hold 1e30 but not its square."""
    g = torch.full((3, 5), size)
    assert gradient_norms({"w": with_gradient(g)}).total == exactly(reference(g))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_one_non_finite_value_gives_a_non_finite_norm(value: float) -> None:
    g = torch.zeros(1_000, 20)
    g[999, 3] = value
    norms = gradient_norms({"w": with_gradient(g), "b": with_gradient(torch.ones(3))})
    assert not math.isfinite(norms.total)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), min_size=1, max_size=5))
def test_the_norm_is_that_of_all_values_together(values: list[list[float]]) -> None:
    parameters = {str(i): with_gradient(torch.tensor(row)) for i, row in enumerate(values)}
    expected = math.hypot(*(v for row in values for v in row))
    assert gradient_norms(parameters).total == exactly(expected)


def test_norms_do_not_change_the_gradients() -> None:
    g = random_gradient((30, 20))
    before = g.clone()
    gradient_norms({"w": with_gradient(g)})
    assert torch.equal(g, before)


def test_names_without_a_gradient_count_0() -> None:
    assert Norms({"a": 4.0}).of(["a", "frozen"]) == 2.0
