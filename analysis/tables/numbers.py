"""Estimates with their intervals and p, as columns of numbers and as people read them."""

import math
from collections.abc import Callable

from analysis.stats.effects import Interval
from analysis.tables.formats import DASH


def ends(prefix: str, interval: Interval | None) -> dict[str, float]:
    """
    >>> ends("simultaneous_", Interval(-1.0, 2.0, 0.95))
    {'simultaneous_low': -1.0, 'simultaneous_high': 2.0}
    """
    low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
    return {f"{prefix}low": low, f"{prefix}high": high}


def figure(value: float) -> str:
    """Three digits, and all of those before the point.

    >>> [figure(value) for value in (0.31886, 1.1, 363.2, 1752.4, 0.0000312, math.nan)]
    ['0.319', '1.10', '363', '1752', '3.12e-05', '–']
    """
    if math.isnan(value):
        return DASH
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def span(low: float, high: float, write: Callable[[float], str] = figure) -> str:
    """
    >>> span(-0.25, 1.5), span(math.nan, math.nan)
    ('-0.250 to 1.50', '–')
    """
    return DASH if math.isnan(low) else f"{write(low)} to {write(high)}"


def with_span(estimate: float, low: float, high: float, write: Callable[[float], str] = figure) -> str:
    """
    >>> with_span(0.5, 0.25, 1.0), with_span(0.5, math.nan, math.nan), with_span(*3 * [math.nan])
    ('0.500 [0.250 to 1.00]', '0.500 [–]', '–')
    """
    return DASH if math.isnan(estimate) else f"{write(estimate)} [{span(low, high, write)}]"


def p_text(p: float) -> str:
    """
    >>> p_text(0.0312), p_text(0.8), p_text(2e-7), p_text(math.nan)
    ('0.031', '0.80', '< 0.0001', '–')
    """
    if math.isnan(p):
        return DASH
    return "< 0.0001" if p < 0.0001 else f"{p:#.2g}".rstrip(".")


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """
    >>> number(0.002), number(-1.50), number(3e-5), number(10_000)
    ('0.002', '−1.5', '3×10⁻⁵', '10000')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:g}".replace("-", "−")
    return power_of_ten(value)


def power_of_ten(value: float) -> str:
    digits, exponent = f"{value:.4e}".split("e")
    return f"{float(digits):g}×10".replace("-", "−") + str(int(exponent)).translate(RAISED)
