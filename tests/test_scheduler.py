"""Schedules against the write-up's numbers and against transformers' own schedule."""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_wsd_schedule,
)

from ablate.scheduler import (
    WSD,
    Constant,
    ConstantScaled,
    Cosine,
    InverseSqrt,
    OneCycle,
    Polynomial,
    Scheduler,
    WarmupConstant,
    WarmupLinear,
    WarmupLinearHF,
    step_count,
)

STEPS = st.integers(1, 2000)
WARMUPS = st.floats(0, 1)
HORIZONS = st.floats(1, 5, exclude_min=True)


def reaches_0(horizon: float, steps: int) -> bool:
    """True if the rounded horizon is the last step, so that the schedule ends at 0 (such as 1.001 with 300 steps)."""
    return step_count(horizon, steps) == steps


def factors(schedule: Scheduler, steps: int) -> list[float]:
    return [schedule.factor(t, steps) for t in range(1, steps + 1)]


@pytest.mark.parametrize(("t", "factor"), [(1, 1 / 15), (15, 1.0), (16, 1 - 16 / 450), (300, 1 / 3)])
def test_warmup_linear_at_the_write_ups_steps(t: int, factor: float) -> None:
    assert WarmupLinear().factor(t, steps=300) == pytest.approx(factor, rel=1e-15)


def test_warmup_linear_is_also_a_lower_learning_rate() -> None:
    """Fair controls of the schedule use a constant rate of .643 (its mean) or .333 (its last value) of the peak."""
    found = factors(WarmupLinear(), 300)
    assert round(fmean(found), 3) == 0.643
    assert round(found[-1], 3) == 0.333


@pytest.mark.parametrize("first_update", [0, 1])
@pytest.mark.parametrize(("warmup", "horizon", "warm", "total"), [(0.05, 1.5, 15, 450), (0, 1, 0, 300)])
def test_warmup_linear_hf_is_transformers_schedule(
    first_update: int, warmup: float, horizon: float, warm: int, total: int
) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_linear_schedule_with_warmup(optimizer, warm, total)
    theirs = []
    for _ in range(300 + first_update):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert factors(WarmupLinearHF(warmup, horizon, first_update), 300) == theirs[first_update:]


def test_the_notebooks_order_has_a_first_update_of_0() -> None:
    after, before = (factors(WarmupLinearHF(first_update=first), 300) for first in (0, 1))
    assert after == [0.0, *before[:-1]]


def test_the_two_schedules_differ_after_warmup() -> None:
    write_up, continuous = factors(WarmupLinear(), 300), factors(WarmupLinearHF(), 300)
    assert write_up[:15] == continuous[:15]
    assert all(a < b for a, b in zip(write_up[15:], continuous[15:], strict=True))


@given(steps=STEPS, warmup=WARMUPS, horizon=HORIZONS)
def test_warmup_linear_never_reaches_0(steps: int, warmup: float, horizon: float) -> None:
    assume(not reaches_0(horizon, steps))
    assert all(0 < factor <= 1 for factor in factors(WarmupLinear(warmup, horizon), steps))


@given(steps=STEPS, warmup=WARMUPS, horizon=HORIZONS, hf=st.booleans())
def test_rises_in_warmup_and_falls_after_it(steps: int, warmup: float, horizon: float, hf: bool) -> None:
    assume(not reaches_0(horizon, steps))
    found = factors(WarmupLinearHF(warmup, horizon) if hf else WarmupLinear(warmup, horizon), steps)
    peak = step_count(warmup, steps)
    rising, falling = found[:peak], found[peak:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


@given(steps=STEPS)
def test_constant_is_1(steps: int) -> None:
    assert set(factors(Constant(), steps)) == {1.0}


def test_no_warmup_starts_in_the_decay() -> None:
    assert WarmupLinear(warmup=0).factor(1, steps=300) == 1 - 1 / 450


def test_the_shortest_horizon_ends_at_0() -> None:
    found = factors(WarmupLinear(horizon=1), 300)
    assert found[-1] == 0.0
    assert min(found[:-1]) > 0


@pytest.mark.parametrize(
    ("fraction", "steps", "whole"),
    [(0.05, 300, 15), (1.5, 300, 450), (0.5, 5, 3), (0.25, 10, 3), (0.5, 1, 1), (0.49, 1, 0), (0, 300, 0)],
)
def test_shares_are_rounded_half_up(fraction: float, steps: int, whole: int) -> None:
    assert step_count(fraction, steps) == whole


def test_half_up_is_not_what_round_does() -> None:
    assert (round(0.5 * 5), step_count(0.5, 5)) == (2, 3)


SCHEDULES = pytest.mark.parametrize("schedule", [WarmupLinear, WarmupLinearHF])


@SCHEDULES
@pytest.mark.parametrize("warmup", [-0.1, 1.1, math.nan, math.inf])
def test_warmup_out_of_range(schedule: type, warmup: float) -> None:
    with pytest.raises(ValueError, match=rf"^warmup must be a share of trainer.steps from 0 to 1 \(got {warmup}\)$"):
        schedule(warmup=warmup)


@SCHEDULES
@pytest.mark.parametrize("horizon", [0.99, 0, -1, math.nan, math.inf])
def test_horizon_out_of_range(schedule: type, horizon: float) -> None:
    with pytest.raises(ValueError, match=rf"^horizon must be at least 1, so that .* \(got {horizon}\)$"):
        schedule(horizon=horizon)


@SCHEDULES
def test_a_warmup_as_long_as_the_horizon_is_refused(schedule: type) -> None:
    with pytest.raises(ValueError, match=r"^warmup must be less than horizon=1 \(got 1\)$"):
        schedule(warmup=1, horizon=1)


@pytest.mark.parametrize("first_update", [-1, 2])
def test_first_update_out_of_range(first_update: int) -> None:
    with pytest.raises(ValueError, match=rf"^first_update must be 0 or 1 \(got {first_update}\)$"):
        WarmupLinearHF(first_update=first_update)


@pytest.mark.parametrize("schedule", [Constant(), WarmupLinear(), WarmupLinearHF()])
def test_schedules_are_schedulers(schedule: object) -> None:
    assert isinstance(schedule, Scheduler)


# --- transformers' and torch's own schedules, at all steps ---

LENGTHS = (1, 2, 7, 40, 301)
NEW = (WarmupConstant, Cosine, Polynomial, InverseSqrt, WSD)


def transformers_factors(schedule: Callable[..., LambdaLR], steps: int, *lengths: object, **more: object) -> list:
    """Factors of a schedule of transformers at its steps k = 0, ..., steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    (factor,) = schedule(optimizer, *lengths, **more).lr_lambdas
    return [factor(k) for k in range(steps + 1)]


def theirs(schedule: Scheduler, steps: int) -> list[float]:
    """What transformers gives for one of our schedules, at k = 0, ..., steps."""
    warm = step_count(schedule.warmup, steps)
    if isinstance(schedule, WarmupLinearHF):
        end = step_count(schedule.horizon, steps)
        return transformers_factors(get_linear_schedule_with_warmup, steps, warm, end)
    if isinstance(schedule, Cosine):
        end, own = step_count(schedule.horizon, steps), get_cosine_with_min_lr_schedule_with_warmup
        if schedule.final == 0:
            return transformers_factors(get_cosine_schedule_with_warmup, steps, warm, end)
        return transformers_factors(own, steps, warm, end, min_lr_rate=schedule.final)
    if isinstance(schedule, Polynomial):
        shape = {"lr_end": schedule.final, "power": schedule.power}
        end, own = step_count(schedule.horizon, steps), get_polynomial_decay_schedule_with_warmup
        return transformers_factors(own, steps, warm, end, **shape)
    if isinstance(schedule, InverseSqrt):
        scale = warm if schedule.timescale is None else step_count(schedule.timescale, steps)
        return transformers_factors(get_inverse_sqrt_schedule, steps, warm, max(1, scale))
    if isinstance(schedule, WSD):
        decay = step_count(schedule.decay, steps)
        if decay == 0:  # ours stays constant, where theirs would be 0 at k = steps
            return transformers_factors(get_constant_schedule_with_warmup, steps, warm)
        return transformers_factors(get_wsd_schedule, steps, warm, decay, steps, decay_type=schedule.shape)
    return transformers_factors(get_constant_schedule_with_warmup, steps, warm)


SETTINGS = [
    WarmupLinearHF(),
    WarmupConstant(),
    WarmupConstant(warmup=0),
    Cosine(),
    Cosine(warmup=0.1, horizon=1.5, final=0.1),
    Polynomial(),
    Polynomial(warmup=0.3, horizon=1.2, final=0.2, power=0.5),
    InverseSqrt(),
    InverseSqrt(warmup=0.1, timescale=0.4),
    InverseSqrt(warmup=0, timescale=2.0),
    WSD(),
    WSD(warmup=0.5, decay=0.5, shape="linear"),
    WSD(warmup=0, decay=1.0, shape="cosine"),
]


@pytest.mark.parametrize("schedule", SETTINGS, ids=repr)
@pytest.mark.parametrize("steps", LENGTHS)
def test_step_t_has_transformers_step_t_minus_1_plus_first_update(schedule: Scheduler, steps: int) -> None:
    """transformers counts from 0: our step t is its step t - 1 if it is stepped after the update, and t if before."""
    expected = theirs(schedule, steps)
    assert factors(replace(schedule, first_update=0), steps) == expected[:-1]
    assert factors(replace(schedule, first_update=1), steps) == expected[1:]


@pytest.mark.parametrize("schedule", SETTINGS, ids=repr)
def test_first_update_is_not_without_effect(schedule: Scheduler) -> None:
    """The control of the test above: the two orders differ at some step."""
    before, after = (factors(replace(schedule, first_update=first), 40) for first in (1, 0))
    assert before != after or schedule == WarmupConstant(warmup=0)


@pytest.mark.parametrize("warmup", [0.05, 0.3])
def test_the_write_ups_schedule_differs_from_transformers_only_after_warmup(warmup: float) -> None:
    """warmup_linear is transformers' step t up to T_warm, and falls by T_warm / T_sched right after it."""
    ours, warm = factors(WarmupLinear(warmup), 300), step_count(warmup, 300)
    hf = transformers_factors(get_linear_schedule_with_warmup, 300, warm, 450)[1:]
    assert ours[:warm] == hf[:warm]
    assert ours[warm:] == [1 - t / 450 for t in range(warm + 1, 301)]
    assert all(a < b for a, b in zip(ours[warm:], hf[warm:], strict=True))


@pytest.mark.parametrize("new", NEW)
@settings(max_examples=20)
@given(steps=st.integers(1, 400), warmup=st.sampled_from([0, 0.05, 0.3, 0.5]))
def test_schedules_share_their_warmup_bit_for_bit(new: type, steps: int, warmup: float) -> None:
    """So arms that differ in the decay share the first steps."""
    schedule = new(warmup=warmup, **({"timescale": 0.1} if new is InverseSqrt else {}))
    warm = step_count(warmup, steps)
    assert factors(schedule, steps)[:warm] == factors(WarmupLinear(warmup), steps)[:warm]


@pytest.mark.parametrize("schedule", SETTINGS[1:], ids=repr)
@settings(max_examples=10)
@given(steps=st.integers(1, 400))
def test_new_schedules_rise_in_warmup_and_then_never_rise(schedule: Scheduler, steps: int) -> None:
    found, peak = factors(schedule, steps), step_count(schedule.warmup, steps)
    assert all(0 <= factor <= 1 for factor in found)
    assert found[:peak] == sorted(found[:peak])
    assert found[peak:] == sorted(found[peak:], reverse=True)


@pytest.mark.parametrize("steps", (3, 7, 40, 301))
@pytest.mark.parametrize("cycle", [(0.3, 25.0, 1e4), (0.5, 10.0, 1.0), (0.0, 1.0, 1e3), (1.0, 4.0, 2.0)], ids=repr)
def test_one_cycle_is_torchs(cycle: tuple[float, float, float], steps: int) -> None:
    warmup, div_factor, final_div_factor = cycle
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, steps, pct_start=warmup, div_factor=div_factor, final_div_factor=final_div_factor,
        cycle_momentum=False,
    )  # fmt: skip
    expected = []
    for t in range(1, steps + 1):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        if t < steps:
            schedule.step()
    assert factors(OneCycle(*cycle), steps) == pytest.approx(expected, rel=1e-14, abs=1e-16)


def test_one_cycle_by_hand() -> None:
    found = factors(OneCycle(), 300)
    assert found[0] == pytest.approx(1 / 25, rel=1e-15)
    assert (found[89], max(found)) == (1.0, 1.0)  # step 90 of 300
    assert found[-1] == pytest.approx(1 / 25e4, rel=1e-9)


def test_one_cycle_reaches_its_peak_at_once_where_torch_divides_by_0() -> None:
    assert factors(OneCycle(warmup=0.1), 10)[0] == 1.0


@pytest.mark.parametrize(
    ("schedule", "t", "factor"),
    [
        (Cosine(warmup=0.1), 100, 1.0),
        (Cosine(warmup=0.1), 550, 0.5),
        (Cosine(warmup=0.1), 1000, 0.0),
        (Cosine(warmup=0, final=0.1), 1000, 0.1),
        (Polynomial(warmup=0), 500, 0.25),
        (InverseSqrt(warmup=0.01), 40, 0.5),
        (WSD(), 800, 1.0),
        (WSD(), 850, 0.5),
        (WSD(shape="linear"), 850, 0.75),
        (WSD(), 1000, 0.0),
        (WSD(decay=0), 1000, 1.0),
        (ConstantScaled(0.333), 7, 0.333),
    ],
)
def test_by_hand(schedule: Scheduler, t: int, factor: float) -> None:
    assert schedule.factor(t, steps=1000) == pytest.approx(factor, abs=1e-15)


def test_the_scaled_constant_is_the_mean_of_warmup_linear() -> None:
    assert round(fmean(factors(WarmupLinear(), 300)), 3) == ConstantScaled().factor(1, 300)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WarmupConstant(warmup=1.1), r"^warmup must be a share .* \(got 1.1\)$"),
        (lambda: Cosine(first_update=2), r"^first_update must be 0 or 1 \(got 2\)$"),
        (lambda: Cosine(horizon=0.9), r"^horizon must be at least 1"),
        (lambda: Cosine(final=1), r"^final must be a share of the learning rate in \[0, 1\) \(got 1\)$"),
        (lambda: Polynomial(power=0), r"^power must be a finite number above 0 \(got 0\)$"),
        (lambda: Polynomial(warmup=1), r"^warmup must be less than horizon=1.0 \(got 1\)$"),
        (lambda: InverseSqrt(warmup=0), r"^timescale must be a number above 0 where warmup=0 \(got null\)$"),
        (lambda: InverseSqrt(timescale=0), r"^timescale must be a finite number above 0, or null \(got 0\)$"),
        (lambda: WSD(warmup=0.3, decay=0.8), r"^decay must be at most 1 - warmup, 0.7 \(got 0.8\)$"),
        (lambda: WSD(decay=math.nan), r"^decay must be a share of trainer.steps from 0 to 1 \(got nan\)$"),
        (lambda: WSD(shape="sqrt"), r"^shape must be one of 1-sqrt, linear, cosine \(got sqrt\)$"),
        (lambda: OneCycle(warmup=-0.1), r"^warmup must be a share"),
        (lambda: OneCycle(div_factor=0.5), r"^div_factor must be a finite number, at least 1 \(got 0.5\)$"),
        (lambda: ConstantScaled(0), r"^scale must be a finite number above 0 \(got 0\)$"),
    ],
)
def test_settings_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("schedule", [*SETTINGS, OneCycle(), ConstantScaled()], ids=repr)
def test_new_schedules_are_schedulers(schedule: object) -> None:
    assert isinstance(schedule, Scheduler)
