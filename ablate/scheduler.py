"""Learning-rate schedules: pure functions of the step that return a factor of the optimizer's learning rate.

Steps count from 1. Lengths are fractions of the run's `steps`, rounded half up: with 300 steps, a warm-up of 0.05
lasts 15 steps and a horizon of 1.5 is 450 steps. transformers counts steps from 0 and calls them k: its schedules are
the options here that have a `first_update`, with k = t − 1 + first_update.

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


@dataclass(frozen=True)
class ConstantScaled:
    """η_t = scale · η_max: the control for a schedule that is also a lower learning rate.

    The default is the mean factor of `warmup_linear` over 300 steps. Its last factor is 0.333.
    """

    scale: float = 0.643

    def __post_init__(self) -> None:
        require("scale", self.scale, 0 < self.scale < math.inf, "a finite number above 0")

    def factor(self, t: int, steps: int) -> float:
        return self.scale


@dataclass(frozen=True)
class WarmupConstant:
    """η = η_max · k / T_warm for k < T_warm, then η_max: `transformers.get_constant_schedule_with_warmup`.

    As in all schedules below that have a `first_update`, transformers counts k = t − 1 + first_update. With
    first_update=1, step t has the rate of transformers' step t (from 0), and the warm-up is that of `warmup_linear`:
    arms that differ in the decay only have the same first T_warm steps. With first_update=0, it has the rate of
    transformers' step t − 1, and the first update of a warm-up has η = 0.
    """

    warmup: float = 0.05
    first_update: int = 1

    def __post_init__(self) -> None:
        require("warmup", self.warmup, 0 <= self.warmup <= 1, "a share of trainer.steps from 0 to 1")
        require("first_update", self.first_update, self.first_update in (0, 1), "0 or 1")

    def factor(self, t: int, steps: int) -> float:
        warm, k = step_count(self.warmup, steps), t - 1 + self.first_update
        return k / warm if k < warm else self.after_warmup(k, warm, steps)

    def after_warmup(self, k: int, warm: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Decay(WarmupConstant):
    """The settings that cosine and polynomial decay share.

    After the warm-up, with progress p = (k − T_warm) / (T_sched − T_warm) and T_sched = horizon · steps:

    η = η_max · (final + (1 − final) · shape(p))
    """

    horizon: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lengths(self.warmup, self.horizon)
        require("final", self.final, 0 <= self.final < 1, "a share of the learning rate in [0, 1)")

    def after_warmup(self, k: int, warm: int, steps: int) -> float:
        progress = (k - warm) / max(1, step_count(self.horizon, steps) - warm)
        return self.shape(progress) * (1.0 - self.final) + self.final

    def shape(self, progress: float) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Cosine(Decay):
    """Warm-up, then half a cosine: shape(p) = (1 + cos πp) / 2.

    `transformers.get_cosine_with_min_lr_schedule_with_warmup` with min_lr_rate=final, and without `final`
    `transformers.get_cosine_schedule_with_warmup`. Loshchilov & Hutter 2017 (arXiv 1608.03983), equation 5, without
    restarts. At the horizon the rate is `final`; first_update decides whether a run's last step is there.
    """

    def shape(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Polynomial(Decay):
    """Warm-up, then a power of what is left: shape(p) = (1 − p)^power. A power of 1 is linear decay.

    `transformers.get_polynomial_decay_schedule_with_warmup` with lr_end = final · η_max. Its default power is 1.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require("power", self.power, 0 < self.power < math.inf, "a finite number above 0")

    def shape(self, progress: float) -> float:
        return (1.0 - progress) ** self.power


@dataclass(frozen=True)
class InverseSqrt(WarmupConstant):
    """Warm-up, then η = η_max / √(1 + (k − T_warm) / T_scale): the rate does not depend on the length of the run.

    T_scale = timescale · steps, and at least 1 step. Without a timescale it is T_warm, so that
    η = η_max · √(T_warm / k) as in Vaswani et al. 2017 (arXiv 1706.03762), equation 3.
    `transformers.get_inverse_sqrt_schedule`.
    """

    timescale: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        scale = self.timescale
        require("timescale", scale, scale is not None or self.warmup > 0, "a number above 0 where warmup=0")
        require("timescale", scale, scale is None or 0 < scale < math.inf, "a finite number above 0, or null")

    def after_warmup(self, k: int, warm: int, steps: int) -> float:
        scale = max(1, warm if self.timescale is None else step_count(self.timescale, steps))
        return 1.0 / math.sqrt((k + scale - warm) / scale)


@dataclass(frozen=True)
class WSD(WarmupConstant):
    """Warm-up, a stable phase at η_max, then a decay to 0 over the last T_decay = decay · steps steps.

    With progress p = (k − (steps − T_decay)) / T_decay in the decay, η = η_max · shape(p), and the shape is

    1-sqrt   1 − √p
    linear   1 − p
    cosine   (1 + cos πp) / 2

    `transformers.get_wsd_schedule`. Hu et al. 2024 (MiniCPM, arXiv 2404.06395) introduced it; Hägele et al. 2024 (arXiv
    2405.18392) found 1-sqrt over a fifth of the steps best.
    """

    decay: float = 0.2
    shape: str = "1-sqrt"

    def __post_init__(self) -> None:
        super().__post_init__()
        require("decay", self.decay, 0 <= self.decay <= 1, "a share of trainer.steps from 0 to 1")
        room = 1 - Fraction(str(self.warmup))
        require("decay", self.decay, Fraction(str(self.decay)) <= room, f"at most 1 - warmup, {float(room)}")
        require("shape", self.shape, self.shape in ("1-sqrt", "linear", "cosine"), "one of 1-sqrt, linear, cosine")

    def after_warmup(self, k: int, warm: int, steps: int) -> float:
        length = step_count(self.decay, steps)
        if k < steps - length or length == 0:
            return 1.0
        progress = (k - (steps - length)) / length
        if self.shape == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        return 1.0 - (math.sqrt(progress) if self.shape == "1-sqrt" else progress)


@dataclass(frozen=True)
class OneCycle:
    """A cosine up from η_max / div_factor to η_max, and a cosine down to η_max / (div_factor · final_div_factor).

    The rates of `torch.optim.lr_scheduler.OneCycleLR` with anneal_strategy="cos" and cycle_momentum=False, whose step
    is k = t − 1: the first update has the lowest rate of the way up, step warmup · steps the peak, and the last update
    the final rate. As in torch, warmup · steps is not rounded. Smith & Topin 2019 (arXiv 1708.07120) also cycle the
    momentum against the rate; a schedule here sets the rate only.
    """

    warmup: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        require("warmup", self.warmup, 0 <= self.warmup <= 1, "a share of trainer.steps from 0 to 1")
        for key in ("div_factor", "final_div_factor"):
            value = getattr(self, key)
            require(key, value, 1 <= value < math.inf, "a finite number, at least 1")

    def factor(self, t: int, steps: int) -> float:
        first, peak, k = 1.0 / self.div_factor, self.warmup * steps - 1, t - 1
        if k <= peak:
            return anneal(first, 1.0, k / peak if peak else 1.0)
        return anneal(1.0, first / self.final_div_factor, (k - peak) / (steps - 1 - peak))


def anneal(start: float, end: float, progress: float) -> float:
    """A value on the half cosine from `start` (progress 0) to `end` (progress 1)."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * progress) + 1)
