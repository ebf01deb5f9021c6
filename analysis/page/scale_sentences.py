"""The sentence of an effect on each scale, with the words of its interval: "the loss is 0.1 nats lower than ..."."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from analysis.tables.numbers import ratio_text, rounded


def difference_sentence(subject: str, unit: str, other: str, effect: float) -> str:
    """
    >>> difference_sentence("mean probe loss", "nats", "in the control", -0.125)
    'mean probe loss is 0.125 nats lower than in the control'
    """
    if effect == 0:
        return f"{subject} is as large as {other}"
    size = f"{rounded(abs(effect))} {unit}".strip()
    return f"{subject} is {size} {'lower' if effect < 0 else 'higher'} than {other}"


def points_sentence(subject: str, unit: str, other: str, effect: float) -> str:
    return difference_sentence(subject, "percentage points", other, effect)


def ratio_sentence(subject: str, unit: str, other: str, effect: float) -> str:
    """
    >>> from math import log
    >>> ratio_sentence("jitter", "nats²", "in the control", log(0.5))
    'jitter is 0.5 times as large as in the control'
    """
    return f"{subject} is {ratio_text(effect)} times as large as {other}"


def odds_sentence(subject: str, unit: str, other: str, effect: float) -> str:
    """The odds of a share p are p / (1 − p).

    >>> from math import log
    >>> odds_sentence("share of steps", "", "for 0.5", log(2))
    'the odds of the share of steps are 2 times as large as for 0.5'
    """
    return f"the odds of the {subject} are {ratio_text(effect)} times as large as {other}"


def difference_interval(effect: float, low: float, high: float) -> str:
    """The interval of a difference, in the direction of the effect.

    >>> difference_interval(-1.25, -2.0, -0.5), difference_interval(0.2, -0.5, 0.9)
    ('0.5 to 2', 'from 0.5 lower to 0.9 higher')
    """
    if low < 0 < high:
        return f"from {rounded(-low)} lower to {rounded(high)} higher"
    return " to ".join(map(rounded, sorted((abs(low), abs(high)))))


def ratio_interval(effect: float, low: float, high: float) -> str:
    return f"{ratio_text(low)} to {ratio_text(high)}"


class ScaleSentences(NamedTuple):
    """The sentence of an effect on a scale, and the words of its interval."""

    effect: Callable[[str, str, str, float], str]
    interval: Callable[[float, float, float], str]


SENTENCES: Mapping[str, ScaleSentences] = {
    "raw": ScaleSentences(difference_sentence, difference_interval),
    "points": ScaleSentences(points_sentence, difference_interval),
    "log": ScaleSentences(ratio_sentence, ratio_interval),
    "logit": ScaleSentences(odds_sentence, ratio_interval),
}
