"""Clipping rules against torch's own and against the write-up's formulas."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ablate.clip import Delayed, Fixed, NormRule, Nothing, apply, check_rule, checked_scale

NORMS = st.floats(0, 1e12)
THRESHOLDS = st.floats(1e-6, 1e12)
SHAPES = [(4, 3), (5,), (), (2, 2, 2)]


def gradients(seed: int = 0, length: float = 1.0) -> list[Tensor]:
    """Random tensors of several shapes whose joint norm is `length`."""
    draw = torch.Generator().manual_seed(seed)
    raw = [torch.randn(shape, generator=draw) for shape in SHAPES]
    return [g * (length / joint_norm(raw)) for g in raw]


def joint_norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in tensors))


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([g.reshape(-1) for g in tensors])


@pytest.mark.parametrize("threshold", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("length", [0.5, 0.999, 1.0, 3.0, 1000.0])
def test_fixed_agrees_with_torch(length: float, threshold: float) -> None:
    ours = gradients(length=length)
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in ours]
    for parameter, g in zip(parameters, ours, strict=True):
        parameter.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(parameters, threshold)
    scale, _ = Fixed(threshold).scale(joint_norm(ours), t=1, state=None)
    apply(scale, ours)
    torch.testing.assert_close(flat(ours), flat([p.grad for p in parameters]), rtol=1e-5, atol=0)


@given(norm=NORMS, threshold=THRESHOLDS)
def test_fixed_gives_at_most_c_and_only_ever_shortens(norm: float, threshold: float) -> None:
    scale, state = Fixed(threshold).scale(norm, t=1, state=None)
    assert 0 < scale <= 1
    assert scale * norm <= threshold * (1 + 1e-15)
    assert norm - scale * norm == pytest.approx(max(0.0, norm - threshold), rel=1e-12, abs=1e-15 * norm)  # Δg
    assert state is None


@given(norm=NORMS, threshold=THRESHOLDS)
def test_clipping_twice_is_clipping_once(norm: float, threshold: float) -> None:
    rule = Fixed(threshold)
    once, _ = rule.scale(norm, t=1, state=None)
    again, _ = rule.scale(once * norm, t=1, state=None)
    assert again == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("length", [0.5, 7.0])
def test_fixed_keeps_the_direction(length: float) -> None:
    before, after = gradients(length=length), gradients(length=length)
    scale, _ = Fixed().scale(joint_norm(before), t=1, state=None)
    apply(scale, after)
    assert joint_norm(after) == pytest.approx(min(length, 1.0), rel=1e-6)
    assert float(torch.cosine_similarity(flat(before), flat(after), dim=0)) == pytest.approx(1.0, abs=1e-6)


@given(norm=st.floats(0, 1e30))
def test_a_huge_threshold_is_no_clipping(norm: float) -> None:
    huge, none = Fixed(threshold=1e30), Nothing()
    assert huge.scale(norm, t=1, state=None) == none.scale(norm, t=1, state=None) == (1.0, None)


def test_a_huge_threshold_changes_no_bit() -> None:
    before, after = gradients(length=1e6), gradients(length=1e6)
    scale, _ = Fixed(threshold=1e30).scale(joint_norm(after), t=1, state=None)
    apply(scale, after)
    assert torch.equal(flat(before), flat(after))


@dataclass(frozen=True)
class Diary:
    """A rule with state: it keeps every (t, norm) it has seen and scales by 1 / (1 + their number)."""

    def scale(self, norm: float, t: int, state: Any) -> tuple[float, Any]:
        seen = (*(state or ()), (t, norm))
        return 1 / (1 + len(seen)), seen


def fold(rule: NormRule, norms: list[float]) -> list[tuple[float, Any]]:
    results, state = [], None
    for t, norm in enumerate(norms, start=1):
        scale, state = rule.scale(norm, t, state)
        results.append((scale, state))
    return results


def test_delayed_begins_the_rules_fold_at_its_start() -> None:
    norms = [3.0, 9.0, 4.0, 5.0, 8.0]
    assert fold(Delayed(start=4, rule=Diary()), norms) == [
        (1.0, None),
        (1.0, None),
        (1.0, None),
        (1 / 2, ((4, 5.0),)),
        (1 / 3, ((4, 5.0), (5, 8.0))),
    ]
    assert fold(Diary(), norms)[3][0] == 1 / 5  # the control: where a fold begins matters


@given(norms=st.lists(NORMS, max_size=30), start=st.integers(1, 40), threshold=THRESHOLDS)
def test_delayed_is_nothing_before_its_start_and_its_rule_from_then_on(
    norms: list[float], start: int, threshold: float
) -> None:
    rule = Fixed(threshold)
    expected = fold(Nothing(), norms)[: start - 1] + fold(rule, norms)[start - 1 :]
    assert fold(Delayed(start, rule), norms) == expected


@pytest.mark.parametrize("threshold", [0, 0.0, -1.0, math.inf, -math.inf, math.nan])
def test_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(ValueError, match=rf"^threshold must be a finite number above 0 \(got {threshold}\)$"):
        Fixed(threshold)


@pytest.mark.parametrize("start", [0, -1])
def test_start_out_of_range(start: int) -> None:
    with pytest.raises(ValueError, match=rf"^start must be a step, at least 1 \(got {start}\)$"):
        Delayed(start, Fixed())


def test_apply_multiplies_in_place() -> None:
    tensors, before = gradients(length=2.0), gradients(length=2.0)
    where = [g.data_ptr() for g in tensors]
    apply(0.25, iter(tensors))
    assert [g.data_ptr() for g in tensors] == where
    assert torch.equal(flat(tensors), flat(before) * 0.25)


def test_apply_touches_nothing_at_scale_1() -> None:
    tensors = gradients()
    apply(1.0, tensors)
    assert [g._version for g in tensors] == [0] * len(tensors)
    apply(0.5, tensors)
    assert [g._version for g in tensors] == [1] * len(tensors)  # the control: the version does change


@pytest.mark.parametrize("rule", [Nothing(), Fixed(), Delayed(1, Fixed())])
def test_rules_are_norm_rules(rule: object) -> None:
    assert isinstance(rule, NormRule)


@dataclass(frozen=True)
class Returning:
    """A user's rule that returns what it is told to."""

    found: object

    def scale(self, norm: float, t: int, state: None) -> object:
        return self.found if isinstance(self.found, tuple) else (self.found, state)


@pytest.mark.parametrize("found", [math.nan, 0.0, -0.5, 1.5, math.inf, None, "1", (1.0,), (1.0, None, 2)])
def test_a_factor_outside_its_range_is_an_error_that_names_the_rule(found: object) -> None:
    """It is found by a call before the first run, also inside another rule, and again in each step."""
    rule = Returning(found)
    for use in (
        lambda: check_rule(rule),
        lambda: check_rule(Delayed(50, rule)),
        lambda: checked_scale(rule, 4.0, 7, None),
    ):
        with pytest.raises(ValueError, match=r"Returning"):
            use()


def test_the_message_gives_step_norm_and_factor() -> None:
    with pytest.raises(ValueError, match=r"Returning returns must be in \(0, 1\] at step 7, .* norm of 4 \(got nan\)"):
        checked_scale(Returning(math.nan), 4.0, 7, None)


def test_a_rule_that_raises_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Returning must accept .* \(got ZeroDivisionError"):
        check_rule(type("Returning", (), {"scale": lambda self, norm, t, state: (norm / (t - 1), state)})())


@pytest.mark.parametrize("rule", [Nothing(), Fixed(0.1), Delayed(3, Fixed()), Returning(1), Returning(0.5)])
def test_right_rules_pass(rule: NormRule) -> None:
    check_rule(rule)
    assert checked_scale(rule, 4.0, 1, None) == rule.scale(4.0, 1, None)
