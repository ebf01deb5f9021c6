"""Small pictures of effects for the page: seeds as dots, intervals, the smallest effect of interest, no effect.

The template draws them as SVG whose x coordinates are percentages, so that they fill any width, and its colours are
those of the page, so that they are readable in dark mode. Names and numbers are text next to them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.ticker import MaxNLocator

from analysis.claims.verdict_rule import Verdict
from analysis.figures.forest import limits_of_effects
from analysis.figures.seed_plots import spread
from analysis.figures.style import LogTicks
from analysis.page.metric_effects import MetricEffects, brief, is_more_better
from analysis.quantities.registry import Quantity
from analysis.tables.numbers import plain_number

RATIO_SCALES = ("log", "logit")


@dataclass(frozen=True)
class Mark:
    """One row of a picture, on the scale of its effect. None for what is not known.

    interval, wide  the 95 % interval, and the simultaneous one
    seeds           the effect on each seed
    claimed         where each claimed side begins, and its sign: the smallest effect of interest, or no effect
    smallest        the smallest effect of interest, on both sides for a claim that names none
    """

    name: str
    text: str
    effect: float | None
    interval: tuple[float, float] | None = None
    wide: tuple[float, float] | None = None
    seeds: tuple[float, ...] = ()
    claimed: tuple[tuple[float, float], ...] = ()
    smallest: tuple[float, ...] = ()
    verdict: Verdict | None = None
    differs: bool = True


@dataclass(frozen=True)
class PictureRow:
    """A row in percent of the picture's width. `dots`: (x, height from 0 to 1); `beyond`: ends that are cut off."""

    mark: Mark
    effect: float | None
    interval: tuple[float, float] | None
    wide: tuple[float, float] | None
    dots: tuple[tuple[float, float], ...]
    claimed: tuple[tuple[float, float], ...]
    smallest: tuple[float, ...]
    beyond: tuple[str, ...]


@dataclass(frozen=True)
class EffectPicture:
    """Rows on one axis. `none`: the place of no effect; `ticks`: (place, label); `better`: the better side, or ""."""

    label: str
    rows: tuple[PictureRow, ...]
    none: float
    ticks: tuple[tuple[float, str], ...]
    better: str = ""


def effect_picture(marks: Sequence[Mark], scale: str, label: str, better: str = "") -> EffectPicture | None:
    """Marks of one scale on one axis; None where no mark has an effect."""
    if all(mark.effect is None for mark in marks):
        return None
    low, high = picture_limits(marks)

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    def span(ends: tuple[float, float] | None) -> tuple[float, float] | None:
        return None if ends is None else (place(ends[0]), place(ends[1]))

    rows = []
    for mark in marks:
        ends = [end for found in (mark.interval, mark.wide) if found for end in found]
        beyond = tuple(
            name
            for name, is_out in (("left", min(ends, default=0) < low), ("right", max(ends, default=0) > high))
            if is_out
        )
        heights = spread(len(mark.seeds))
        rows.append(
            PictureRow(
                mark=mark,
                effect=None if mark.effect is None else place(mark.effect),
                interval=span(mark.interval),
                wide=span(mark.wide),
                dots=tuple((place(seed), round(float(at), 2)) for seed, at in zip(mark.seeds, heights, strict=True)),
                claimed=tuple(
                    (place(start), 100.0) if sign > 0 else (0.0, place(start)) for start, sign in mark.claimed
                ),
                smallest=tuple(map(place, mark.smallest)),
                beyond=beyond,
            )
        )
    ticks = tuple((place(value), text) for value, text in ticks_of(low, high, scale in RATIO_SCALES))
    return EffectPicture(label, tuple(rows), place(0.0), ticks, better)


def picture_limits(marks: Sequence[Mark]) -> tuple[float, float]:
    """The ends of the axis: as those of the forest plot, and wide enough for most seeds."""
    rows = [
        {
            "effect": mark.effect,
            "smallest_effect": smallest,
            **dict(zip(("low", "high"), mark.interval or (math.nan, math.nan), strict=True)),
            **dict(
                zip(
                    ("simultaneous_low", "simultaneous_high"),
                    mark.wide or mark.interval or (math.nan,) * 2,
                    strict=True,
                )
            ),
        }
        for mark in marks
        for smallest in mark.smallest or (None,)
    ]
    low, high = limits_of_effects(pd.DataFrame(rows).astype(float))
    seeds = pd.Series([seed for mark in marks for seed in mark.seeds], dtype=float)
    if len(seeds):
        room = 0.03 * (high - low)
        low, high = min(low, seeds.quantile(0.1) - room), max(high, seeds.quantile(0.9) + room)
    return float(low), float(high)


def ticks_of(low: float, high: float, ratio: bool) -> Iterator[tuple[float, str]]:
    """Places and labels of an axis, in the middle 96 % of it, where a label has room."""
    room = 0.02 * (high - low)
    if ratio:
        ends = (math.exp(max(low, -300)), math.exp(min(high, 300)))
        values = [(math.log(tick), plain_number(tick)) for tick in LogTicks().tick_values(*ends) if tick > 0]
    else:
        values = [(tick, plain_number(round(tick, 12))) for tick in MaxNLocator(5).tick_values(low, high)]
    for value, text in values:
        if low + room <= value <= high - room:
            yield float(value), text


# --- The first screen: effects on the metric ---


def metric_picture(found: MetricEffects, texts: Sequence[str]) -> EffectPicture | None:
    """The forest plot of the techniques' effects; `texts`: the number of each in words."""
    marks = [
        Mark(
            name=brief(each.name),
            text=text,
            effect=none_if_nan(each.effect),
            interval=None if math.isnan(each.low) else (each.low, each.high),
            differs=each.differs,
        )
        for each, text in zip(found.effects, texts, strict=True)
    ]
    better = is_more_better(found.quantity)
    side = "" if better is None else "right" if better else "left"
    return effect_picture(marks, found.quantity.scale, axis_label(found.quantity), side)


def none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def axis_label(quantity: Quantity) -> str:
    return {"log": "ratio", "logit": "odds ratio", "points": "points"}.get(quantity.scale, quantity.unit)
