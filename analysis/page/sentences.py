"""Findings as sentences: "test accuracy is 1.2 points higher than in the control (0.3 to 2.1), 10 paired seeds".

Effects stand on their claim's scale; logarithms are said as ratios, logits as ratios of odds.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.claims.contrasts import Contrast, Equality, GridMean, Interactions, Sensitivity, Sizes, Variance
from analysis.claims.finding import Finding
from analysis.claims.reading import Claims, Question
from analysis.claims.verdict_rule import Direction, Verdict
from analysis.records.arms import words
from analysis.stats.effects import Interval
from analysis.tables.numbers import number, p_text

MEANING: Mapping[Verdict, str] = {
    Verdict.SUPPORTED: "the effect is there, and at least as large as the smallest that was asked for",
    Verdict.SMALLER: "the effect is there, but surely smaller than the smallest that was asked for",
    Verdict.UNDECIDED: "the effect is there; whether it is as large as asked for stays open",
    Verdict.REFUTED: "an effect as large as asked for, in the claimed direction, is ruled out",
    Verdict.INCONCLUSIVE: "the seeds tell neither that the effect is there nor that it is not",
    Verdict.NOT_TESTED: "runs that the claim needs are missing, or can't be compared",
}
"""What each word means to a reader; `analysis.claims.verdict_rule.judge` has the rules."""

QUANTITIES: Mapping[str, tuple[str, str]] = {
    "last_training_loss": ("training loss at the end", "nats"),
    "loss_variance": ("variance of the training loss", "nats²"),
    "last_loss_variance": ("variance of the last 50 training losses", "nats²"),
    "loss_jitter": ("jitter of the training loss", "nats²"),
    "spikes": ("share of steps with a loss spike", ""),
    "mean_grad_norm": ("mean gradient norm", ""),
    "clip_rate": ("share of steps that were clipped", ""),
    "mean_delta_g": ("mean Δg", ""),
    "delta_g_slope": ("slope of log(1 + Δg)", "per step"),
    "early_delta_g_share": ("share of all Δg in the first tenth of the steps", ""),
    "mlp_share_below_one": ("share of steps with G_MLP below 1", ""),
    "early_classifier_norm": ("median G_CLS over the first tenth of the steps", ""),
    "late_classifier_norm": ("median G_CLS over the last tenth of the steps", ""),
    "classifier_norm_fall": ("early G_CLS over late G_CLS", ""),
    "training_seconds": ("training time", "s"),
    "mean_probe_loss": ("mean probe loss", "nats"),
    "probe_jitter": ("jitter of the probe loss", "nats²"),
    "max_drawdown": ("largest rise of the probe loss", "nats"),
    "steps_to_probe_loss": ("number of steps to a probe loss of 0.5", "steps"),
    "capped_test_loss": ("test loss, capped at that of knowing nothing", "nats"),
    "learned": ("share of runs that learn", ""),
    "test_accuracy": ("test accuracy", ""),
    "test_loss": ("test loss", "nats"),
    "validation_accuracy": ("validation accuracy", ""),
    "validation_loss": ("validation loss", "nats"),
    "parameters.ratio": ("share of parameters that are trained", ""),
    "parameters.trained": ("number of trained parameters", ""),
    "parameters.total": ("number of parameters", ""),
    "memory_bytes.weights": ("memory for weights", "bytes"),
    "memory_bytes.gradients": ("memory for gradients", "bytes"),
    "memory_bytes.optimizer": ("memory for the optimizer", "bytes"),
    "timing.seconds": ("run time", "s"),
    "churn": ("share of test predictions on which two seeds differ", ""),
}
"""Each quantity in words, and its unit on the raw scale."""

SUBJECTS: Mapping[type[Contrast], str] = {
    Variance: "variance across seeds of {}",
    Sensitivity: "mean less best over the grid of {}",
    GridMean: "mean over the grid of {}",
    Sizes: "rise, for each tenfold of parameters, of the gain in {}",
}
"""What a contrast is of; of the quantity itself where it does not stand here."""


def tally(findings: Sequence[Finding]) -> str:
    """How many claims have which word.

    >>> tally([Finding("A", "up", None, verdict=Verdict.REFUTED), Finding("B", "down", None, verdict=Verdict.REFUTED)])
    'Of 2 claims 2 are refuted.'
    """
    found = Counter(finding.verdict for finding in findings)
    words = [f"{found[word]} {'is' if found[word] == 1 else 'are'} {word.value}" for word in Verdict if found[word]]
    return f"Of {count(len(findings), 'claim')} {', '.join(words)}."


@dataclass(frozen=True)
class Told:
    """A finding with what is said of it.

    effect, at_once    the effect with its 95 % interval, and the interval that holds for all claims at once
    judged, beside     the parts that it is made of, and those that are shown with it
    """

    finding: Finding
    compared: str
    effect: str | None
    at_once: str | None
    asked: str | None
    chance: str | None
    seeds: str
    judged: tuple["Told", ...]
    beside: tuple["Told", ...]


def told(findings: tuple[Finding, ...], claims: Claims) -> tuple[Told, ...]:
    """Findings with what is said of them, given the claims file that they were judged by."""
    questions = {question.id: question for question in claims.questions}
    return tuple(tell(finding, questions, None) for finding in findings)


def tell(finding: Finding, questions: Mapping[str, Question], above: Question | None) -> Told:
    """`above`: the question of the claim that the finding is a part of, which it shares if it has none of its own."""
    question = questions.get(finding.id, above)
    parts = [tell(part, questions, question) for part in finding.parts]
    return Told(
        finding=finding,
        compared=compared(finding),
        effect=None if question is None else effect(finding, question),
        at_once=None if question is None else span(finding.interval_simultaneous, finding, question),
        asked=None if question is None else asked(finding, question),
        chance=chance(finding),
        seeds=seeds(finding, question),
        judged=tuple(part for part in parts if part.finding.verdict),
        beside=tuple(part for part in parts if not part.finding.verdict),
    )


def compared(finding: Finding) -> str:
    """Which arms: treatment, control, and the settings that both have."""
    if finding.treatment is None:
        return ""
    arms = [words(arm) for arm in (finding.treatment, finding.control) if arm is not None]
    return " against ".join(arms) + (f"; within {words(finding.within)}" if finding.within else "")


def seeds(finding: Finding, question: Question | None) -> str:
    """The seeds that count, those on which a run did not learn, those that are missing."""
    if question is not None and isinstance(question.contrast, Equality):
        return count(finding.n, "run")
    learned = f"{finding.n_unlearned} with a run that did not learn" if finding.n_unlearned else "all runs learned"
    said = [count(finding.n, "seed" if finding.treatment and not finding.control else "paired seed")]
    said += [learned] if finding.n or finding.n_unlearned else []
    return ", ".join([*said, f"{finding.n_missing or 'none'} missing"])


def count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def chance(finding: Finding) -> str | None:
    """p, adjusted and exact."""
    if finding.p is None and finding.p_sign_flip is None:
        return None
    found = {"p": finding.p, "adjusted for all claims": finding.p_adjusted, "by sign flips": finding.p_sign_flip}
    return ", ".join(f"{name} {p_text(p)}" for name, p in found.items() if p is not None)


# --- Effects ---


def effect(finding: Finding, question: Question) -> str | None:
    """The effect with its 95 % interval, as far as there are any."""
    if finding.effect is None:
        return None
    name, unit = QUANTITIES[question.quantity]
    subject = SUBJECTS.get(type(question.contrast), "{}").format(name)
    said = SCALES[question.scale].say(subject, unit, other(question), finding.effect)
    bounds = span(finding.interval, finding, question)
    return f"{said} ({bounds})" if bounds else said


def span(interval: Interval | None, finding: Finding, question: Question) -> str | None:
    if interval is None or finding.effect is None:
        return None
    return SCALES[question.scale].span(finding.effect, interval.low, interval.high)


def other(question: Question) -> str:
    """What it is compared with: a number that the claim names, or the control."""
    if isinstance(question.contrast, Interactions):
        return "the factors' separate effects give"
    reference = getattr(question.contrast, "reference", None)
    return "in the control" if reference is None else f"{'for ' if question.scale == 'logit' else ''}{size(reference)}"


def difference(subject: str, unit: str, other: str, effect: float) -> str:
    """
    >>> difference("mean probe loss", "nats", "in the control", -0.125)
    'mean probe loss is 0.125 nats lower than in the control'
    """
    much = f"{size(abs(effect))} {unit}".strip()
    return f"{subject} is {much} {'lower' if effect < 0 else 'higher'} than {other}"


def points(subject: str, unit: str, other: str, effect: float) -> str:
    return difference(subject, "percentage points", other, effect)


def ratio(subject: str, unit: str, other: str, effect: float) -> str:
    """
    >>> ratio("jitter", "nats²", "in the control", math.log(0.5))
    'jitter is 0.5 times as large as in the control'
    """
    return f"{subject} is {factor(effect)} times as large as {other}"


def odds(subject: str, unit: str, other: str, effect: float) -> str:
    """Of a share p: p / (1 − p).

    >>> odds("share of steps", "", "for 0.5", math.log(2))
    'the odds of the share of steps are 2 times as large as for 0.5'
    """
    return f"the odds of the {subject} are {factor(effect)} times as large as {other}"


def apart(effect: float, low: float, high: float) -> str:
    """An interval of a difference, told in the direction of the effect.

    >>> apart(-1.25, -2.0, -0.5), apart(0.2, -0.5, 0.9)
    ('0.5 to 2', 'from 0.5 lower to 0.9 higher')
    """
    if low < 0 < high:
        return f"from {size(-low)} lower to {size(high)} higher"
    return " to ".join(map(size, sorted((abs(low), abs(high)))))


def by_times(effect: float, low: float, high: float) -> str:
    return f"{factor(low)} to {factor(high)}"


class Way(NamedTuple):
    """How a difference on a scale is said, and its interval."""

    say: Callable[[str, str, str, float], str]
    span: Callable[[float, float, float], str]


SCALES: Mapping[str, Way] = {
    "raw": Way(difference, apart),
    "points": Way(points, apart),
    "log": Way(ratio, by_times),
    "logit": Way(odds, by_times),
}


def asked(finding: Finding, question: Question) -> str | None:
    """The smallest effect of interest, in the claimed direction; None where any will do."""
    if finding.smallest_effect is None:
        return None
    least = finding.smallest_effect
    if question.scale in ("log", "logit"):
        bound = "at most" if least < 0 else "at least"
        return f"asked for: {bound} {factor(least)} times"
    unit = "percentage points" if question.scale == "points" else QUANTITIES[question.quantity][1]
    way = {Direction.ABOVE: "higher", Direction.BELOW: "lower", Direction.EITHER: "either way"}[question.direction]
    return " ".join(f"asked for: at least {size(abs(least))} {unit} {way}".split())


def factor(logarithm: float) -> str:
    """A ratio; by one digit finer near 1, where ratios crowd.

    >>> factor(math.log(0.0555)), factor(math.log(1.0283)), factor(0.0)
    ('0.0555', '1.028', '1')
    """
    with np.errstate(over="ignore"):
        ratio = float(np.exp(logarithm))
    return size(ratio, digits=4 if 0.95 < ratio < 1.05 else 3)


def size(value: float, digits: int = 3) -> str:
    """A number as it is read.

    >>> [size(value) for value in (1.2345, 0.0000312, 81234.0, math.inf)]
    ['1.23', '3.12×10⁻⁵', '81200', '∞']
    """
    rounded = float(f"{value:.{digits}g}")
    return number(rounded) if math.isfinite(rounded) else "∞"
