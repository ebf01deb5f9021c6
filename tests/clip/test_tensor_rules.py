"""Rules on the gradient's tensors against torch, timm's formula and the papers, and rules that contain them."""

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ablate.clip import (
    AdaGC,
    AdaptiveClip,
    AutoClip,
    Delayed,
    DelayedGradientRule,
    Fixed,
    GradientRule,
    Normalize,
    NormRule,
    Nothing,
    PerRole,
    PerTensor,
    Until,
    UntilGradientRule,
    Value,
)
from ablate.experiment import build_options
from ablate.model.parameter_roles import role
from ablate.run.fork import PlannedArm, Rates, shared_steps
from ablate.scheduler import Constant
from ablate.sweep.technique_check import check_gradient_rule
from tests.tools import compose_settings

SHAPES = {
    "bert.embeddings.word_embeddings.weight": (5, 3),
    "bert.encoder.layer.0.attention.self.query.weight": (3, 3),
    "bert.encoder.layer.0.output.dense.weight": (3, 4),
    "bert.encoder.layer.0.output.dense.bias": (3,),
    "bert.encoder.layer.1.output.dense.weight": (3, 4),
    "classifier.weight": (2, 3),
    "classifier.bias": (2,),
}
ROLES = {name: role(name) for name in SHAPES}
RULES = (Value(), PerTensor(), PerRole(), PerRole(by_layer=True), AdaptiveClip(), AdaGC(warmup_steps=2), Normalize())
LENGTHS = st.floats(1e-6, 1e6)
Tensors = dict[str, Tensor]


def tensors(seed: int = 0, size: float = 1.0) -> Tensors:
    draw = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}


def clipped(
    rule: GradientRule, before: Tensors, weights: Tensors | None = None, t: int = 1, state: Any = None
) -> Tensors:
    after = {name: g.clone() for name, g in before.items()}
    rule.clip(after, weights or tensors(99), ROLES, t, state)
    return after


def norm(found: Tensors, names: Any = None) -> float:
    return math.sqrt(sum(float(found[name].double().square().sum()) for name in names or found))


def by_torch(before: Tensors, groups: list[list[str]], bound: float) -> Tensors:
    """`clip_grad_norm_` on each group of tensors."""
    parameters = {name: torch.nn.Parameter(torch.zeros_like(g)) for name, g in before.items()}
    for name, parameter in parameters.items():
        parameter.grad = before[name].clone()
    for names in groups:
        torch.nn.utils.clip_grad_norm_([parameters[name] for name in names], bound)
    return {name: parameter.grad for name, parameter in parameters.items()}  # type: ignore[misc]


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in SHAPES)


# --- Each rule against its reference ---


@pytest.mark.parametrize("threshold", [0.3, 1.0, 100.0])
def test_value_is_torchs_bit_for_bit(threshold: float) -> None:
    before = tensors()
    parameters = {name: torch.nn.Parameter(torch.zeros_like(g)) for name, g in before.items()}
    for name, parameter in parameters.items():
        parameter.grad = before[name].clone()
    torch.nn.utils.clip_grad_value_(parameters.values(), threshold)
    after = clipped(Value(threshold), before)
    assert equal(after, {name: p.grad for name, p in parameters.items()})
    assert equal(after, before) == (threshold == 100)


BLOCKS = [[0], [1], [2, 3, 4], [5, 6]]
BLOCKS_BY_LAYER = [[0], [1], [2, 3], [4], [5, 6]]


@pytest.mark.parametrize("bound", [0.5, 2.0])
@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        (PerTensor, [[i] for i in range(len(SHAPES))]),
        (PerRole, BLOCKS),
        (lambda bound: PerRole(bound, by_layer=True), BLOCKS_BY_LAYER),
    ],
)
def test_rules_per_group_are_torchs_on_each_group(
    rule: Callable[[float], GradientRule], groups: list[list[int]], bound: float
) -> None:
    names = [[list(SHAPES)[i] for i in group] for group in groups]
    before = tensors()
    after, expected = clipped(rule(bound), before), by_torch(before, names, bound)
    for name in SHAPES:
        torch.testing.assert_close(after[name], expected[name], rtol=1e-5, atol=0)
    assert all(norm(after, group) <= bound * (1 + 1e-6) for group in names)
    assert not all(norm(before, group) <= bound for group in names)  # the control: it has something to do
    wrong = by_torch(before, [list(SHAPES)], bound)
    assert any((after[name] - wrong[name]).abs().max() > 1e-2 for name in SHAPES)


def timms_agc(weight: Tensor, gradient: Tensor, clipping: float, eps: float) -> Tensor:
    """Written from timm's `adaptive_clip_grad`."""

    def unitwise(x: Tensor) -> Tensor:
        return x.norm() if x.ndim <= 1 else x.norm(dim=tuple(range(1, x.ndim)), keepdim=True)

    bound = unitwise(weight).clamp(min=eps) * clipping
    length = unitwise(gradient)
    return torch.where(length < bound, gradient, gradient * (bound / length.clamp(min=1e-6)))


@pytest.mark.parametrize("size", [1e-3, 1e-2, 10.0])
@pytest.mark.parametrize("head", [False, True])
def test_adaptive_clip_is_timms(head: bool, size: float) -> None:
    weights, before = tensors(1), tensors(0, size)
    weights["bert.encoder.layer.0.output.dense.bias"].zero_()  # eps counts in its place
    after = clipped(AdaptiveClip(head=head), before, weights)
    for name in SHAPES:
        left_out = name.startswith("classifier") and not head
        expected = before[name] if left_out else timms_agc(weights[name], before[name], 0.01, 1e-3)
        torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=0)


def test_adaptive_clip_treats_each_unit_by_itself() -> None:
    weights, before = tensors(1), tensors(0, 1e-4)
    name = "bert.encoder.layer.0.output.dense.weight"
    before[name][1] *= 1e6
    after = clipped(AdaptiveClip(), before, weights)
    assert torch.equal(after[name][[0, 2]], before[name][[0, 2]])
    assert float(after[name][1].norm()) == pytest.approx(0.01 * float(weights[name][1].norm()), rel=1e-5)


def adagc_reference(steps: list[Tensors], lambda_abs: float, lambda_rel: float, beta: float, warmup: int) -> list[Any]:
    """Gradients after algorithm 1 of arXiv 2502.11034, in numpy."""
    gamma: dict[str, float] = {}
    found = []
    for t, step in enumerate(steps, start=1):
        g = {name: tensor.double().numpy() for name, tensor in step.items()}
        if t < warmup:
            h = min(lambda_abs / np.sqrt(sum((x**2).sum() for x in g.values())), 1)
            g = {name: h * x for name, x in g.items()}
            gamma = {name: min(gamma.get(name, np.inf), np.linalg.norm(x.ravel())) for name, x in g.items()}
        else:
            g = {name: min(lambda_rel * gamma[name] / np.linalg.norm(x.ravel()), 1) * x for name, x in g.items()}
            gamma = {name: beta * gamma[name] + (1 - beta) * np.linalg.norm(x.ravel()) for name, x in g.items()}
        found.append(g)
    return found


@pytest.mark.parametrize("chosen", [(1.0, 1.05, 0.98, 4), (5.0, 1.5, 0.5, 2)])
def test_adagc_is_the_papers_algorithm(chosen: tuple[float, float, float, int]) -> None:
    steps = [tensors(seed, size) for seed, size in enumerate([1.0, 0.5, 0.7, 2.0, 0.1, 3.0, 0.1, 9.0])]
    state, shortened = None, 0
    for t, (before, expected) in enumerate(zip(steps, adagc_reference(steps, *chosen), strict=True), start=1):
        after = {name: g.clone() for name, g in before.items()}
        state = AdaGC(*chosen).clip(after, {}, ROLES, t, state)
        for name in SHAPES:
            np.testing.assert_allclose(after[name], expected[name], rtol=1e-5)
        shortened += not equal(after, before)
    assert 0 < shortened <= len(steps) and state["step"] == len(steps)


def test_adagc_begins_a_tensors_average_at_its_first_step_after_the_warm_up() -> None:
    rule, name = AdaGC(warmup_steps=1), "classifier.bias"
    first = {name: torch.tensor([3.0, 4.0])}
    state = rule.clip(first, {}, ROLES, 50, None)
    assert first[name].tolist() == [3.0, 4.0] and state == {"step": 1, "norms": {name: 5.0}}
    second = {name: torch.tensor([30.0, 40.0])}
    rule.clip(second, {}, ROLES, 51, state)
    assert norm(second, [name]) == pytest.approx(1.05 * 5, rel=1e-6)


@settings(max_examples=30)
@given(size=LENGTHS)
def test_normalize_gives_length_1_and_keeps_the_direction(size: float) -> None:
    before = tensors(0, size)
    after = clipped(Normalize(), before)
    assert norm(after) == pytest.approx(norm(before) / (norm(before) + 1e-8), rel=1e-6)
    flat = [torch.cat([found[name].flatten() for name in SHAPES]).double() for found in (before, after)]
    assert float(torch.cosine_similarity(*flat, dim=0)) == pytest.approx(1.0, abs=1e-6)


# --- What holds for all of them ---


@pytest.mark.parametrize("rule", [Value(1e30), PerTensor(1e30), PerRole(1e30), AdaptiveClip(1e30), AdaGC(1e30, 1e30)])
def test_a_huge_bound_changes_no_bit(rule: GradientRule) -> None:
    before = tensors(0, 1e6)
    assert equal(clipped(rule, before), before)
    assert not equal(clipped(type(rule)(1e-3), before), before)  # type: ignore[call-arg]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("size", [0.0, 1e-38, 1e30])
def test_the_gradient_stays_finite(rule: GradientRule, size: float) -> None:
    """In float32 the square of 1e30 is infinite."""
    after = clipped(rule, tensors(0, size))
    assert all(g.isfinite().all() for g in after.values())
    assert size > 0 or all((g == 0).all() for g in after.values())


@pytest.mark.parametrize("rule", [Value(0.4), PerTensor(0.4), PerRole(0.4), AdaptiveClip(), Normalize()], ids=repr)
@settings(max_examples=30)
@given(size=LENGTHS)
def test_clipping_twice_is_clipping_once(rule: GradientRule, size: float) -> None:
    once = clipped(rule, tensors(0, size))
    twice = clipped(rule, once)
    for name in SHAPES:
        torch.testing.assert_close(twice[name], once[name], rtol=1e-5 if size > 1e-3 else 1e-2, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_they_change_tensors_in_place_and_no_weights(rule: GradientRule) -> None:
    weights, gradients = tensors(1), tensors(0, 10)
    before = {name: (g.clone(), g.data_ptr()) for name, g in gradients.items()}
    rule.clip(gradients, weights, ROLES, 1, None)
    assert equal(weights, tensors(1)) and not equal(gradients, {name: g for name, (g, _) in before.items()})
    assert all(gradients[name].data_ptr() == place for name, (_, place) in before.items())
    assert isinstance(rule, GradientRule) and not isinstance(rule, NormRule)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Value(0), r"^threshold must be a finite number above 0 \(got 0\)$"),
        (lambda: PerTensor(math.inf), r"^threshold must be"),
        (lambda: PerRole(math.nan), r"^threshold must be"),
        (lambda: AdaptiveClip(clipping=-1), r"^clipping must be"),
        (lambda: AdaptiveClip(eps=0), r"^eps must be"),
        (lambda: Normalize(eps=0), r"^eps must be"),
        (lambda: AdaGC(beta=1), r"^beta must be a number in \[0, 1\) \(got 1\)$"),
        (lambda: AdaGC(lambda_rel=0), r"^lambda_rel must be"),
        (lambda: AdaGC(warmup_steps=-1), r"^warmup_steps must be"),
    ],
)
def test_settings_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- Rules that contain a rule on tensors ---


def test_a_rule_that_contains_another_has_its_hook() -> None:
    """Replay and shared starts ask for a NormRule, so a delayed rule on tensors must not be one."""
    for late in (Delayed(3, AdaptiveClip()), Until(3, AdaptiveClip()), Delayed(2, Until(5, Delayed(3, Value())))):
        assert isinstance(late, GradientRule) and not isinstance(late, NormRule)
        assert copy.deepcopy(late) == pickle.loads(pickle.dumps(late)) == late
    for late in (Delayed(3, Fixed()), Until(3, AutoClip()), Delayed(2, Until(5, Fixed()))):
        assert isinstance(late, NormRule) and not isinstance(late, GradientRule)
        assert copy.deepcopy(late) == pickle.loads(pickle.dumps(late)) == late
    assert type(Delayed(3, Fixed())) is Delayed and type(Delayed(3, Value())) is DelayedGradientRule
    assert type(Until(3, Fixed())) is Until and type(Until(3, Value())) is UntilGradientRule


def test_windows_let_a_rule_on_tensors_act_in_their_steps_only() -> None:
    before, state = tensors(0, 10), None
    for t in range(1, 7):
        after = {name: g.clone() for name, g in before.items()}
        state = Delayed(3, Until(4, AdaGC())).clip(after, {}, ROLES, t, state)
        assert equal(after, before) == (t not in (3, 4))
        assert (state and state["step"]) == {3: 1, 4: 2}.get(t)  # its fold begins with the window, and ends with it


def test_a_wrapped_rule_on_tensors_is_composed_and_shares_no_start() -> None:
    rule = build_options(
        compose_settings("clip=delayed", "clip@clip.rule=agc", "clip.rule.eps=0.5", "clip.start=9")
    ).clip
    assert rule == Delayed(9, AdaptiveClip(eps=0.5)) and type(rule) is DelayedGradientRule
    arms = [PlannedArm(str(clip), "", clip, Constant(), 20) for clip in (Nothing(), rule, Delayed(9, Fixed()))]
    assert shared_steps(arms[0], arms[1], Rates()) == 0
    assert shared_steps(arms[0], arms[2], Rates()) == 8  # the control
    with pytest.raises(ValueError, match=r"^clip\.rule\.clipping must be a finite number above 0 \(got -1\.0\)$"):
        build_options(compose_settings("clip=until", "clip@clip.rule=agc", "clip.rule.clipping=-1"))


@dataclass(frozen=True)
class Spoils:
    """A user's rule whose gradient is NaN."""

    def clip(self, gradients: Tensors, weights: Tensors, roles: Any, t: int, state: Any) -> None:
        next(iter(gradients.values())).fill_(math.nan)


def test_the_check_before_a_run_calls_the_rule_inside() -> None:
    trained = {name: torch.nn.Parameter(tensor) for name, tensor in tensors().items()}
    for rule in (Spoils(), Delayed(1000, Spoils())):
        with pytest.raises(ValueError, match="Spoils must leave finite values"):
            check_gradient_rule("clip", rule, trained)
    for rule in (*RULES, Delayed(1000, Value())):
        check_gradient_rule("clip", rule, trained)
