"""Clipping rules against torch's own and against the write-up's formulas."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from ablate.clip import (
    AutoClip,
    Delayed,
    Fixed,
    NormRule,
    Nothing,
    Soft,
    Until,
    ZClip,
    apply,
    check_rule,
    checked_scale,
)

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


# --- Rules that adapt, soften or end ---

HISTORIES = st.lists(st.floats(0, 1e6), min_size=1, max_size=60)
ADAPTIVE = (AutoClip(), AutoClip(0), AutoClip(75.5), ZClip(), ZClip(warmup_steps=2), ZClip(0.5, 0.5, 3, max_norm=2.0))


def scales(rule: NormRule, norms: list[float]) -> list[float]:
    return [scale for scale, _ in fold(rule, norms)]


@given(norms=HISTORIES, last=st.integers(1, 40), threshold=THRESHOLDS)
def test_until_is_its_rule_up_to_its_last_step_and_nothing_after_it(
    norms: list[float], last: int, threshold: float
) -> None:
    rule = Fixed(threshold)
    assert fold(Until(last, rule), norms) == fold(rule, norms)[:last] + fold(Nothing(), norms)[last:]


def test_until_ends_the_rules_state_and_mirrors_delayed() -> None:
    norms = [3.0, 9.0, 4.0, 5.0]
    assert fold(Until(2, Diary()), norms)[1:] == [(1 / 3, ((1, 3.0), (2, 9.0))), (1.0, None), (1.0, None)]
    assert scales(Delayed(2, Until(3, Fixed())), norms) == [1.0, 1 / 9, 1 / 4, 1.0]
    late = scales(Delayed(3, Fixed()), norms)
    assert [a * b for a, b in zip(scales(Until(2, Fixed()), norms), late, strict=True)] == scales(Fixed(), norms)


@given(norm=NORMS, threshold=THRESHOLDS)
def test_soft_is_between_half_of_fixed_and_fixed(norm: float, threshold: float) -> None:
    """Zhang et al. 2020, after their equation of normalised gradient descent."""
    soft, fixed = (rule(threshold).scale(norm, t=1, state=None)[0] for rule in (Soft, Fixed))
    assert fixed / 2 * (1 - 1e-15) <= soft <= fixed * (1 + 1e-15)
    assert soft * norm <= threshold * (1 + 1e-15)


@pytest.mark.parametrize(("norm", "after"), [(0.0, 0.0), (1.0, 2 / 3), (2.0, 1.0), (6.0, 1.5), (1e9, 2.0)])
def test_soft_by_hand(norm: float, after: float) -> None:
    assert Soft(2.0).scale(norm, t=1, state=None)[0] * norm == pytest.approx(after, rel=1e-8)


@given(one=st.floats(1e-6, 1e6), other=st.floats(1e-6, 1e6))
def test_soft_keeps_the_order_of_norms_where_fixed_makes_them_equal(one: float, other: float) -> None:
    assume(one < other * (1 - 1e-3))
    soft = [norm * Soft().scale(norm, t=1, state=None)[0] for norm in (one, other)]
    assert soft[0] < soft[1]


def test_autoclip_by_hand() -> None:
    """The median of 4; 4, 2; 4, 2, 10; and 4, 2, 10, 1, each with the current norm."""
    assert scales(AutoClip(50), [4.0, 2.0, 10.0, 1.0]) == [1.0, 1.0, 4 / 10, 1.0]
    assert scales(AutoClip(10), [10.0, 20.0]) == [1.0, pytest.approx(11 / 20)]
    assert fold(AutoClip(10), [3.0, 1.0, 2.0])[-1][1] == [1.0, 2.0, 3.0]


@given(norms=HISTORIES, percentile=st.floats(0, 100))
def test_autoclip_is_numpys_percentile_with_the_current_norm(norms: list[float], percentile: float) -> None:
    for t, scale in enumerate(scales(AutoClip(percentile), norms), start=1):
        norm, threshold = norms[t - 1], np.percentile(norms[:t], percentile)
        assert scale * norm == pytest.approx(min(norm, threshold), rel=1e-9, abs=1e-9)


def test_autoclips_history_without_the_current_norm_is_another_rule() -> None:
    norms = [1.0, 2.0, 3.0, 50.0]
    without = min(1.0, np.percentile(norms[:3], 90) / norms[3])
    assert scales(AutoClip(90), norms)[3] > 10 * without


@given(norms=HISTORIES)
def test_at_the_highest_percentile_or_z_score_nothing_is_clipped(norms: list[float]) -> None:
    assert set(scales(AutoClip(100), norms)) == {1.0}
    assert set(scales(ZClip(z_max=1e30), norms)) == {1.0}


def zclip_reference(norms: list[float], alpha: float, z_max: float, warmup: int, largest: float) -> list[float]:
    """Norms after ZClip, written from the formulas of arXiv 2504.02507 with numpy."""
    mean, variance = np.mean(norms[:warmup]), np.var(norms[:warmup])
    after = [min(norm, largest) for norm in norms[:warmup]]
    for norm in norms[warmup:]:
        z = (norm - mean) / (np.sqrt(variance) + 1e-6)
        kept = mean + z_max * np.sqrt(variance) / (z / z_max) if z > z_max else norm
        mean = alpha * mean + (1 - alpha) * kept
        variance = alpha * variance + (1 - alpha) * (kept - mean) ** 2
        after.append(min(kept, largest))
    return after


@pytest.mark.parametrize("largest", [None, 1.5])
@pytest.mark.parametrize(("alpha", "z_max", "warmup"), [(0.97, 2.5, 25), (0.9, 1.0, 2), (0.5, 3.0, 10)])
def test_zclip_is_the_papers_rule(alpha: float, z_max: float, warmup: int, largest: float | None) -> None:
    draw = np.random.default_rng(0)
    norms = (draw.lognormal(size=300) * np.where(draw.random(300) < 0.05, 20, 1)).tolist()
    after = [s * n for s, n in zip(scales(ZClip(alpha, z_max, warmup, largest), norms), norms, strict=True)]
    assert after == pytest.approx(zclip_reference(norms, alpha, z_max, warmup, largest or math.inf), rel=1e-9)
    assert sum(a < n for a, n in zip(after, norms, strict=True)) > 5  # the control: it does clip


def test_zclip_by_hand() -> None:
    """Warm-up 1, 3: mean 2, variance 1. The norm 7 has z = 5, so the bound is 2 + 2.5 / (5 / 2.5) = 3.25."""
    found = fold(ZClip(warmup_steps=2), [1.0, 3.0, 7.0, 3.0])
    assert [scale for scale, _ in found] == [1.0, 1.0, pytest.approx(3.25 / 7, rel=1e-6), 1.0]
    assert [state for _, state in found[:2]] == [{"norms": [1.0]}, {"mean": 2.0, "variance": 1.0}]
    mean = 0.97 * 2 + 0.03 * 3.25
    expected = {"mean": mean, "variance": 0.97 + 0.03 * (3.25 - mean) ** 2}
    assert found[2][1] == pytest.approx(expected, rel=1e-6)
    assert scales(ZClip(warmup_steps=2), [1.0, 3.0, 7.0, 7.0])[2] < scales(ZClip(warmup_steps=2), [1.0, 3.0, 5.0])[2]


def test_zclip_clips_less_at_a_norm_that_it_has_seen_coming() -> None:
    """The control of the moving mean: the same norm is no outlier after a slow rise."""
    assert scales(ZClip(), [1.0, 1.1] * 15 + [3.0])[-1] < 0.5
    assert scales(ZClip(), [1.0 + 0.05 * i for i in range(40)] + [3.0])[-1] == 1.0


@pytest.mark.parametrize("rule", ADAPTIVE, ids=repr)
@given(norms=HISTORIES)
def test_a_fold_that_is_replayed_from_any_state_is_the_same(rule: NormRule, norms: list[float]) -> None:
    """A state is not changed by the steps after it, survives a checkpoint, and is plain data."""
    whole = fold(rule, norms)
    texts = [json.dumps(state) for _, state in whole]
    for t in range(1, len(norms)):
        assert rule.scale(norms[t], t + 1, json.loads(texts[t - 1])) == whole[t]
        assert rule.scale(norms[t], t + 1, whole[t - 1][1]) == whole[t]
    assert [json.dumps(state) for _, state in whole] == texts


@pytest.mark.parametrize("rule", [*ADAPTIVE, Soft(), Until(3, AutoClip())], ids=repr)
@given(norms=HISTORIES)
def test_new_rules_only_ever_shorten(rule: NormRule, norms: list[float]) -> None:
    state: Any = None
    for t, norm in enumerate(norms, start=1):
        _, state = checked_scale(rule, norm, t, state)  # raises for a factor outside (0, 1]


def test_a_bound_of_0_leaves_next_to_nothing() -> None:
    """A factor of 0 is not allowed, and 1 would mean that the rule does not clip."""
    assert 0 < scales(AutoClip(10), [0.0, 0.0, 5.0])[-1] < 1e-300
    assert 0 < scales(ZClip(warmup_steps=2), [0.0, 0.0, 5.0])[-1] < 1e-300


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Until(0, Fixed()), r"^last must be a step, at least 1 \(got 0\)$"),
        (lambda: Soft(0), r"^threshold must be a finite number above 0 \(got 0\)$"),
        (lambda: AutoClip(101), r"^percentile must be a number from 0 to 100 \(got 101\)$"),
        (lambda: AutoClip(math.nan), r"^percentile must be"),
        (lambda: ZClip(alpha=1), r"^alpha must be a number in \[0, 1\) \(got 1\)$"),
        (lambda: ZClip(z_max=0), r"^z_max must be a finite number above 0 \(got 0\)$"),
        (lambda: ZClip(warmup_steps=1), r"^warmup_steps must be at least 2, .* \(got 1\)$"),
        (lambda: ZClip(max_norm=0), r"^max_norm must be a finite number above 0, or null \(got 0\)$"),
    ],
)
def test_settings_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rule", [*ADAPTIVE, Soft(), Until(1, Fixed()), Until(5, Delayed(2, ZClip()))], ids=repr)
def test_new_rules_are_norm_rules_and_pass_the_check(rule: object) -> None:
    assert isinstance(rule, NormRule)
    check_rule(rule)
    with pytest.raises(ValueError, match="Returning"):
        check_rule(Until(5, Returning(2.0)))
