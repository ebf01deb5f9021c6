"""Over the complete factorial of the techniques: which of them makes the gain, and whether they act on each other."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from analysis.claims.answer import FLIPS, LEAST_LEARNED, distinguishing_settings
from analysis.claims.pairing import Refused
from analysis.stats.effects import Array, Effect, one_sample_effect
from analysis.stats.factorials import blocked_anova, shapley
from analysis.tables.formats import Table, number
from analysis.tables.numbers import ends, figure, p_text, with_span
from analysis.tables.techniques import Techniques

LEAST = 2
"""Seeds without which there is no error to hold anything against."""

TOGETHER = "all together"

ANOVA = (
    "Analysis of variance of {words} over the complete factorial of {factors}, the seed as block ({n} seeds). "
    "Sums of squares in {unit}; p as they are, not adjusted for the number of terms; partial omega²: the term's share "
    "of the variance that the other terms leave, about 0 where there is nothing."
)

ATTRIBUTION = (
    "Gain from {off} to {on}, split by Shapley's rule: a technique's part is what switching it on adds, averaged over "
    "all orders of switching on. Means over seeds with their 95 % intervals (Student's t). Accuracy: over all runs, "
    "the parts add up. Jitter of the probe loss: over seeds whose runs all learn, as ratios, which multiply."
)


def anova_accuracy(techniques: Techniques) -> Table:
    values = techniques.factorial("test_accuracy", "points", LEAST)
    return anova("anova_accuracy", values, techniques.factors, "the test accuracy, all runs,", "squared points")


def anova_jitter(techniques: Techniques) -> Table:
    values = techniques.factorial("probe_jitter", "log", LEAST)
    words = "the logarithm of the probe loss's jitter, seeds whose runs all learn,"
    return anova("anova_jitter", values, techniques.factors, words, "squared logarithms")


def anova(name: str, values: Array, factors: tuple[str, ...], words: str, unit: str) -> Table:
    """Numbers: term, df, sum_of_squares, f, p, partial_omega_squared; NaN for what the residual has not."""
    rows = blocked_anova(values, factors)
    numbers = pd.DataFrame(
        {
            "term": [row.term for row in rows],
            "df": [row.df for row in rows],
            "sum_of_squares": [row.sum_of_squares for row in rows],
            **{key: [float_or_nan(getattr(row, key)) for row in rows] for key in ("f", "p", "partial_omega_squared")},
        }
    )
    words_frame = pd.DataFrame(
        {
            "term": numbers["term"],
            "df": numbers["df"].map(str),
            "sum of squares": numbers["sum_of_squares"].map(figure),
            "F": [number(value, 2) for value in numbers["f"]],
            "p": numbers["p"].map(p_text),
            # + 0.0: there is no -0.00
            "partial omega²": [number(value + 0.0, 2) for value in numbers["partial_omega_squared"].round(2)],
        }
    )
    caption = ANOVA.format(words=words, factors=" × ".join(factors), n=len(values), unit=unit)
    return Table(name, caption, numbers, words_frame)


def float_or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def attribution(techniques: Techniques) -> Table:
    """One row a technique, then all together; the jitter's columns stay empty where it can't be split.

    Numbers: technique; accuracy_part (points), accuracy_low, accuracy_high, accuracy_n; jitter_part (difference of
    logarithms), jitter_low, jitter_high, jitter_n (0 where it is left out). Raises Refused where the accuracy can't
    be split.
    """
    factors = techniques.factors
    on, off = distinguishing_settings([techniques.switched_on(factors), techniques.switched_on([])])
    caption = ATTRIBUTION.format(off=off, on=on)
    accuracy = parts("accuracy", techniques.factorial("test_accuracy", "points", LEAST), factors)
    try:
        jitter = parts("jitter", techniques.factorial("probe_jitter", "log", LEAST_LEARNED), factors)
    except Refused as reason:
        jitter = [part("jitter", None)] * len(accuracy)
        caption += f" Left out: the jitter {reason}."
    names = pd.DataFrame({"technique": [*factors, TOGETHER]})
    numbers = pd.concat([names, pd.DataFrame(accuracy), pd.DataFrame(jitter)], axis=1)
    return Table("attribution", caption, numbers, attribution_in_words(numbers))


def parts(name: str, values: Array, factors: Sequence[str]) -> list[dict[str, float]]:
    """Each factor's part of the gain over the seeds, then the whole gain."""
    of_seed = shapley(values, factors)
    gains = [*of_seed.values(), sum(of_seed.values())]
    return [part(name, one_sample_effect(gain, 0.0, np.random.default_rng(FLIPS))) for gain in gains]


def part(name: str, effect: Effect | None) -> dict[str, float]:
    estimate, interval, n = (effect.estimate, effect.interval(), effect.n) if effect else (math.nan, None, 0)
    return {f"{name}_part": estimate, **ends(f"{name}_", interval), f"{name}_n": n}


def attribution_in_words(numbers: pd.DataFrame) -> pd.DataFrame:
    def read(name: str, back: Callable[[float], float], write: Callable[[float], str]) -> list[str]:
        columns = numbers[[f"{name}_part", f"{name}_low", f"{name}_high"]].to_numpy()
        return [with_span(*(back(value) for value in row), write) for row in columns]

    return pd.DataFrame(
        {
            "technique": numbers["technique"],
            "accuracy, points": read("accuracy", float, lambda value: number(value, 2)),
            "seeds": numbers["accuracy_n"].map(str),
            "jitter, ratio": read("jitter", np.exp, figure),
            "seeds that learn": numbers["jitter_n"].map(str),
        }
    )
