"""The formats of numbers: counts, estimates, intervals and p values as text; intervals as columns."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from analysis.stats.interval import Interval

DASH = "–"
"""The text of a missing number."""

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


# --- Single numbers ---


def fixed(value: float, decimals: int) -> str:
    """A number with a fixed number of decimals.

    >>> fixed(84.26, 1), fixed(math.nan, 1)
    ('84.3', '–')
    """
    return DASH if math.isnan(value) else f"{value:.{decimals}f}"


def significant(value: float) -> str:
    """A number with three significant digits, and with all digits before the point.

    >>> [significant(value) for value in (0.31886, 1.1, 363.2, 1752.4, 0.0000312, math.nan)]
    ['0.319', '1.10', '363', '1752', '3.12e-05', '–']
    """
    if math.isnan(value):
        return DASH
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def as_minus(text: str) -> str:
    """The text of a number with a minus sign in place of the hyphen.

    >>> as_minus("-0.5"), as_minus("+0.5")
    ('−0.5', '+0.5')
    """
    return text.replace("-", "−")


def plain_number(value: float) -> str:
    """A number without trailing zeros, as a power of ten if it is very small or large.

    >>> plain_number(0.002), plain_number(-1.50), plain_number(3e-5), plain_number(10_000)
    ('0.002', '−1.5', '3×10⁻⁵', '10000')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:g}".replace("-", "−")
    return power_of_ten(value)


def power_of_ten(value: float) -> str:
    """
    >>> power_of_ten(-0.00012)
    '−1.2×10⁻⁴'
    """
    digits, exponent = f"{value:.4e}".split("e")
    return f"{float(digits):g}×10".replace("-", "−") + str(int(exponent)).translate(RAISED)


def rounded(value: float, digits: int = 3) -> str:
    """A plain number rounded to `digits` significant digits, for sentences.

    >>> [rounded(value) for value in (1.2345, 0.0000312, 81234.0, math.inf)]
    ['1.23', '3.12×10⁻⁵', '81200', '∞']
    """
    number = float(f"{value:.{digits}g}")
    return plain_number(number) if math.isfinite(number) else "∞"


def ratio_text(logarithm: float) -> str:
    """The ratio with this logarithm; it has one digit more near 1, where ratios crowd.

    >>> ratio_text(math.log(0.0555)), ratio_text(math.log(1.0283)), ratio_text(0.0)
    ('0.0555', '1.028', '1')
    """
    with np.errstate(over="ignore"):
        ratio = float(np.exp(logarithm))
    return rounded(ratio, digits=4 if 0.95 < ratio < 1.05 else 3)


def p_text(p: float) -> str:
    """
    >>> p_text(0.0312), p_text(0.8), p_text(2e-7), p_text(math.nan)
    ('0.031', '0.80', '< 0.0001', '–')
    """
    if math.isnan(p):
        return DASH
    return "< 0.0001" if p < 0.0001 else f"{p:#.2g}".rstrip(".")


def cell_text(value: Any) -> str:
    """A table's cell: words unchanged, numbers with four significant digits, a dash for a missing value.

    >>> cell_text("arm"), cell_text(1 / 3), cell_text(12345), cell_text(None)
    ('arm', '0.3333', '12345', '–')
    """
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return DASH
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- Means and intervals ---


def mean_and_sd(mean: float, sd: float, decimals: int) -> str:
    """
    >>> mean_and_sd(84.26, 0.5, 1), mean_and_sd(84.26, float("nan"), 1), mean_and_sd(*2 * [float("nan")], 1)
    ('84.3 ± 0.5', '84.3 ± –', '–')
    """
    return f"{fixed(mean, decimals)} ± {fixed(sd, decimals)}" if not math.isnan(mean) else DASH


def interval_text(low: float, high: float, write: Callable[[float], str] = significant) -> str:
    """
    >>> interval_text(-0.25, 1.5), interval_text(math.nan, math.nan)
    ('-0.250 to 1.50', '–')
    """
    return DASH if math.isnan(low) else f"{write(low)} to {write(high)}"


def estimate_text(estimate: float, low: float, high: float, write: Callable[[float], str] = significant) -> str:
    """
    >>> estimate_text(0.5, 0.25, 1.0), estimate_text(0.5, math.nan, math.nan), estimate_text(*3 * [math.nan])
    ('0.500 [0.250 to 1.00]', '0.500 [–]', '–')
    """
    return DASH if math.isnan(estimate) else f"{write(estimate)} [{interval_text(low, high, write)}]"


def interval_columns(prefix: str, interval: Interval | None) -> dict[str, float]:
    """The limits of an interval as two columns, NaN without an interval.

    >>> interval_columns("simultaneous_", Interval(-1.0, 2.0, 0.95))
    {'simultaneous_low': -1.0, 'simultaneous_high': 2.0}
    """
    low, high = (interval.low, interval.high) if interval else (math.nan, math.nan)
    return {f"{prefix}low": low, f"{prefix}high": high}
