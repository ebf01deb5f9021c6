"""Schedules against the write-up's numbers and against transformers' own schedule."""

import math
from statistics import fmean

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers.optimization import get_linear_schedule_with_warmup

from ablate.scheduler import Constant, Scheduler, WarmupLinear, WarmupLinearHF, step_count

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
