"""Learning-rate schedules: pure functions of the step that return a factor of the optimizer's learning rate.

Steps count from 1. Lengths are fractions of the run's `steps`, rounded half up: with 300 steps, a warm-up of 0.05
lasts 15 steps and a horizon of 1.5 is 450 steps.

    >>> write_up = WarmupLinear(warmup=0.05, horizon=1.5)
    >>> [round(write_up.factor(t, steps=300), 4) for t in (1, 15, 16, 300)]
    [0.0667, 1.0, 0.9644, 0.3333]
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

from ablate.config.checks import require


@runtime_checkable
class Scheduler(Protocol):
    """Interface of a schedule."""

    def factor(self, t: int, steps: int) -> float:
        """Return η_t / η_max for step t, 1 ≤ t ≤ steps."""
        ...


def step_count(fraction: float, steps: int) -> int:
    """`fraction` of `steps` as a whole number, rounded half up (Python's own round rounds half to even).

    The fraction is the decimal number that the user wrote: as a float, 0.29 of 50 would be just below 14.5.
    """
    return math.floor(Fraction(str(fraction)) * steps + Fraction(1, 2))


def check_lengths(warmup: float, horizon: float) -> None:
    require("warmup", warmup, 0 <= warmup <= 1, "a share of trainer.steps from 0 to 1")
    require("horizon", horizon, 1 <= horizon < math.inf, "at least 1, so that the learning rate does not reach 0 early")
    require("warmup", warmup, warmup < horizon, f"less than horizon={horizon}")


@dataclass(frozen=True)
class Constant:
    """η_t = η_max."""

    def factor(self, t: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class WarmupLinear:
    """The write-up's formula, with its two pieces exactly as written.

    η_t = η_max · t / T_warm          for t ≤ T_warm = warmup · steps
    η_t = η_max · (1 − t / T_sched)   afterwards, with T_sched = horizon · steps

    The first update uses η_max / T_warm. After warm-up η drops by T_warm / T_sched (3.6 % for 16 of 450).
    """

    warmup: float = 0.05
    horizon: float = 1.5

    def __post_init__(self) -> None:
        check_lengths(self.warmup, self.horizon)

    def factor(self, t: int, steps: int) -> float:
        warm, horizon = step_count(self.warmup, steps), step_count(self.horizon, steps)
        return t / warm if t <= warm else 1.0 - t / horizon


@dataclass(frozen=True)
class WarmupLinearHF:
    """The continuous version of the formula: `transformers.get_linear_schedule_with_warmup`.

    transformers counts k = t − 1 + first_update:

    η = η_max · k / T_warm                             for k < T_warm
    η = η_max · (T_sched − k) / (T_sched − T_warm)     afterwards

    first_update=1 sets the rate before the update, as the write-up does. first_update=0 follows the original notebook,
    which steps the schedule after the update, so that its first update has η = 0.
    """

    warmup: float = 0.05
    horizon: float = 1.5
    first_update: int = 1

    def __post_init__(self) -> None:
        check_lengths(self.warmup, self.horizon)
        require("first_update", self.first_update, self.first_update in (0, 1), "0 or 1")

    def factor(self, t: int, steps: int) -> float:
        warm, horizon, k = step_count(self.warmup, steps), step_count(self.horizon, steps), t - 1 + self.first_update
        return k / warm if k < warm else max(0.0, (horizon - k) / max(1, horizon - warm))
