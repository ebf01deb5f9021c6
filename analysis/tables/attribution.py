"""Attribution over the complete factorial: each technique's share of the gain, and the techniques' interactions."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from analysis.claims.answer import LEAST_LEARNED
from analysis.claims.evidence import FLIPS, distinguishing_settings
from analysis.claims.pairing import Refused
from analysis.quantities.registry import REGISTRY, Quantity, primary_quantity
from analysis.stats.effects import Array, Effect, one_sample_effect
from analysis.stats.factorials import repeated_measures_anova, shapley
from analysis.tables.formats import Table
from analysis.tables.numbers import estimate_text, fixed, interval_columns, p_text, significant
from analysis.tables.techniques import Techniques

_JITTER = REGISTRY["probe_jitter"]

_LEAST = 2
"""Fewest seeds that leave an error to test against."""

_ANOVA_CAPTION = (
    "Repeated-measures analysis of variance of the {words} over the complete factorial of {factors} ({n} seeds"
    "{learning}). Each term is tested against its own interaction with the seed, so that F is t² of the term's "
    "contrast over seeds. Sums of squares are in squared {unit}; p values are not adjusted for the number of terms. "
    "Partial "
    "omega²: the term's share of the variance that the other terms leave, about 0 without an effect."
)

_ATTRIBUTION_CAPTION = (
    "Gain from {off} to {on}, split by Shapley values: a technique's share is the gain from switching it on, averaged "
    "over all orders in which the techniques can be switched on. Means over seeds with their 95 % intervals (Student's "
    "t of one share per seed, as in the analysis of variance). {metric}: over all runs; the shares {combine}. Jitter "
    "of the probe loss: over the seeds whose runs all "
    "learn; the shares are ratios and multiply."
)


def anova_jitter(techniques: Techniques) -> Table:
    return anova("anova_jitter", _JITTER, techniques)


def anova(name: str, quantity: Quantity, techniques: Techniques) -> Table:
    """Numbers: the fields of `AnovaRow` but epsilon, which is 1 for two levels; NaN for the seed's test."""
    values = techniques.factorial(quantity, _LEAST)
    rows = repeated_measures_anova(values, techniques.factors)
    tested = ("df_error", "error_sum_of_squares", "f", "p", "partial_omega_squared")
    numbers = pd.DataFrame(
        {
            "term": [row.term for row in rows],
            "df": [row.df for row in rows],
            "sum_of_squares": [row.sum_of_squares for row in rows],
            **{key: [float_or_nan(getattr(row, key)) for row in rows] for key in tested},
        }
    )
    words_frame = pd.DataFrame(
        {
            "term": numbers["term"],
            "df": numbers["df"].map(str),
            "error df": [fixed(value, 0) for value in numbers["df_error"]],
            "sum of squares": numbers["sum_of_squares"].map(significant),
            "error": numbers["error_sum_of_squares"].map(significant),
            "F": [fixed(value, 2) for value in numbers["f"]],
            "p": numbers["p"].map(p_text),
            # + 0.0 turns -0.00 into 0.00
            "partial omega²": [fixed(value + 0.0, 2) for value in numbers["partial_omega_squared"].round(2)],
        }
    )
    caption = _ANOVA_CAPTION.format(
        words=f"logarithm of the {quantity.words}" if quantity.is_ratio else quantity.words,
        factors=" × ".join(techniques.factors),
        n=len(values),
        learning="" if quantity.keeps_unlearned else " whose runs all learn",
        unit={"log": "logarithms", "points": "points"}.get(quantity.scale, "units"),
    )
    return Table(name, caption, numbers, words_frame)


def float_or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def attribution(techniques: Techniques) -> Table:
    """One row per technique, then all together; the jitter's columns are empty if it cannot be split.

    Numbers: technique; of the primary metric m m_part (on its usual scale), m_low, m_high, m_n; jitter_part (difference
    of logarithms), jitter_low, jitter_high, jitter_n (0 if it is left out). Raises Refused if the metric cannot be
    split.
    """
    quantity = primary_quantity(techniques.study.primary)
    name = quantity.metric.name
    factors = techniques.factors
    on, off = distinguishing_settings([techniques.switched_on(factors), techniques.switched_on([])])
    caption = _ATTRIBUTION_CAPTION.format(
        off=off,
        on=on,
        metric=f"{quantity.words[0].upper()}{quantity.words[1:]}",
        combine="are ratios and multiply" if quantity.is_ratio else "add up",
    )
    of_metric = shapley_shares(name, techniques.factorial(quantity, _LEAST), factors)
    try:
        jitter = shapley_shares("jitter", techniques.factorial(_JITTER, LEAST_LEARNED), factors)
    except Refused as reason:
        jitter = [share_columns("jitter", None)] * len(of_metric)
        caption += f" Left out: the jitter {reason}."
    names = pd.DataFrame({"technique": [*factors, "all together"]})
    numbers = pd.concat([names, pd.DataFrame(of_metric), pd.DataFrame(jitter)], axis=1)
    return Table("attribution", caption, numbers, attribution_in_words(numbers, quantity))


def shapley_shares(name: str, values: Array, factors: Sequence[str]) -> list[dict[str, float]]:
    """Each factor's share of the gain over the seeds, then the whole gain."""
    of_seed = shapley(values, factors)
    gains = [*of_seed.values(), sum(of_seed.values())]
    return [share_columns(name, one_sample_effect(gain, 0.0, np.random.default_rng(FLIPS))) for gain in gains]


def share_columns(name: str, effect: Effect | None) -> dict[str, float]:
    estimate, interval, n = (effect.estimate, effect.interval(), effect.n) if effect else (math.nan, None, 0)
    return {f"{name}_part": estimate, **interval_columns(f"{name}_", interval), f"{name}_n": n}


def attribution_in_words(numbers: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    def read(name: str, back: Callable[[float], float], write: Callable[[float], str]) -> list[str]:
        columns = numbers[[f"{name}_part", f"{name}_low", f"{name}_high"]].to_numpy()
        return [estimate_text(*(back(value) for value in row), write) for row in columns]

    name = quantity.metric.name
    if quantity.is_ratio:
        shares = read(name, np.exp, significant)
    else:
        shares = read(name, float, lambda value: fixed(value, 2 if quantity.scale == "points" else 3))

    return pd.DataFrame(
        {
            "technique": numbers["technique"],
            f"{quantity.words}, ratio" if quantity.is_ratio else quantity.effect_words: shares,
            "seeds": numbers[f"{name}_n"].map(str),
            f"{_JITTER.words}, ratio": read("jitter", np.exp, significant),
            "seeds that learn": numbers["jitter_n"].map(str),
        }
    )
