"""Findings as sentences: "macro F1 is 1.2 percentage points higher than in the control (0.3 to 2.1)".

Effects are on the scale of their claim; logarithms are written as ratios, logits as ratios of odds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ablate.config.wording import count
from ablate.schema import TASKS
from analysis.claims.contrast import ROLES_OF_ARMS
from analysis.claims.contrasts import (
    BestValue,
    Contrast,
    Datasets,
    Equality,
    Failures,
    GridMean,
    Interactions,
    Sensitivity,
    Sizes,
    Tuned,
    Variance,
)
from analysis.claims.finding import Finding
from analysis.claims.power import LEAST_POWER
from analysis.claims.reading import Claims, Question
from analysis.claims.verdict_rule import Direction, Verdict
from analysis.page.scale_sentences import SENTENCES
from analysis.page.tuned_arms import grid_in_words, tuning_in_words
from analysis.quantities.registry import REGISTRY
from analysis.records.arms import words
from analysis.stats.interval import Interval
from analysis.tables.numbers import p_text, ratio_text, rounded

MEANING: Mapping[Verdict, str] = {
    Verdict.SUPPORTED: "The effect is there and is estimated to be at least as large as asked for.",
    Verdict.SMALLER: "There is an effect, and effects as large as asked for are ruled out.",
    Verdict.UNDECIDED: "There is an effect; the data do not show whether it is as large as asked for.",
    Verdict.EQUIVALENT: "There is no difference as large as asked for, in either direction.",
    Verdict.RULED_OUT: "An effect as large as asked for is ruled out in the claimed direction; a harmful one is not.",
    Verdict.OPPOSITE: "The effect goes the other way.",
    Verdict.INCONCLUSIVE: "The data are compatible with both an effect and no effect.",
    Verdict.NOT_TESTED: "Runs that the claim needs are missing or cannot be compared, or there are too few seeds.",
}
"""The meaning of each verdict for a reader; `analysis.claims.verdict_rule.judge` has the rules."""

SUBJECTS: Mapping[type[Contrast], str] = {
    Variance: "variance across seeds of {}",
    Sensitivity: "mean minus best over the grid of {}",
    GridMean: "mean over the grid of {}",
    Sizes: "rise, per tenfold number of parameters, of the gain in {}",
}
"""The subject of a contrast's sentence; for all other contrasts it is the quantity itself."""


UNPAIRED = "unpaired, by Welch's t"
"""What the sentence of an effect adds where its runs do not belong together in pairs."""


def tally(findings: Sequence[Finding]) -> str:
    """The number of claims per verdict.

    >>> tally([Finding(name, "up", None, verdict=Verdict.EQUIVALENT) for name in "AB"])
    '2 claims: 2 are equivalent.'
    """
    found = Counter(finding.verdict for finding in findings)
    words = [f"{found[word]} {'is' if found[word] == 1 else 'are'} {word.value}" for word in Verdict if found[word]]
    return f"{count(len(findings), 'claim')}: {', '.join(words) or 'none judged'}."


@dataclass(frozen=True)
class FindingText:
    """A finding in words.

    compared        the arms that it compares
    effect          the effect with its 95 % interval
    at_once         the interval that holds for all claims simultaneously
    bound           the largest effect in the claimed direction that is not ruled out
    asked           the smallest effect of interest, and where it comes from
    chance          p values, and the probability of improvement
    tuning          how each arm was tuned; empty where it was not
    seeds           numbers of seeds: compared, not learned, missing
    judged, beside  the judged parts of its claim, and the comparisons that are shown with it but not judged
    """

    finding: Finding
    compared: str
    effect: str | None
    at_once: str | None
    bound: str | None
    asked: str | None
    chance: str | None
    seeds: str
    judged: tuple["FindingText", ...]
    beside: tuple["FindingText", ...]
    tuning: tuple[str, ...] = ()

    @property
    def with_parts(self) -> Iterator["FindingText"]:
        """The finding, then its parts and their parts."""
        yield self
        for part in (*self.judged, *self.beside):
            yield from part.with_parts


def findings_in_words(findings: tuple[Finding, ...], claims: Claims) -> tuple[FindingText, ...]:
    """All findings in words; `claims` is the claims file that they were judged by."""
    questions = {question.id: question for question in claims.questions}
    return tuple(finding_in_words(finding, questions, None) for finding in findings)


def finding_in_words(finding: Finding, questions: Mapping[str, Question], above: Question | None) -> FindingText:
    """A finding and its parts in words. A part without a question of its own shares `above`, that of its claim."""
    question = questions.get(finding.id, above)
    parts = [finding_in_words(part, questions, question) for part in finding.parts]
    return FindingText(
        finding=finding,
        compared=arms_against(finding),
        effect=None if question is None else effect_sentence(finding, question),
        at_once=None if question is None else interval_in_words(finding.interval_simultaneous, finding, question),
        bound=None if question is None else bound_in_words(finding, question),
        asked=None if question is None else smallest_effect_in_words(finding, question),
        chance="; ".join(filter(None, (p_values_in_words(finding), improvement_in_words(finding)))) or None,
        seeds=seeds_in_words(finding, question),
        judged=tuple(part for part in parts if part.finding.verdict),
        beside=tuple(part for part in parts if not part.finding.verdict),
        tuning=tuning_in_words(finding, TASKS[0] if question is None else question.kind),
    )


def arms_against(finding: Finding) -> str:
    """Treatment, control, and the settings that both share."""
    if finding.treatment is None:
        return ""
    arms = [words(arm) for arm in (finding.treatment, finding.control) if arm is not None]
    return " against ".join(arms) + (f"; within {words(finding.within)}" if finding.within else "")


def seeds_in_words(finding: Finding, question: Question | None) -> str:
    """Numbers of seeds: those compared, those with a run that did not learn, those missing."""
    if question is not None and isinstance(question.contrast, Equality):
        return count(finding.n, "run")
    numbers = [count(finding.n, "seed" if finding.treatment and not finding.control else "paired seed")]
    if finding.control and (runs := finding.details.get("unpaired")):
        numbers = [f"{' against '.join(map(str, runs))} runs, unpaired"]
    if finding.n_unlearned:
        numbers.append(f"{finding.n_unlearned} with a run that did not learn")
    if finding.n_unknown:
        numbers.append(
            f"{finding.n_unknown} with a run whose predictions are missing, so that it may have learned or not"
        )
    if finding.n and not finding.n_unlearned and not finding.n_unknown and "from_table" not in finding.details:
        numbers.append("all runs learned")
    return ", ".join([*numbers, f"{finding.n_missing or 'none'} missing"])


def p_values_in_words(finding: Finding) -> str | None:
    """p unadjusted, adjusted for all claims by Holm, and from sign flips, as far as they are known."""
    if finding.p is None and finding.p_sign_flip is None:
        return None
    found = {"p": finding.p, "Holm over all claims": finding.p_adjusted, "by sign flips": finding.p_sign_flip}
    return ", ".join(f"{name} {p_text(p)}" for name, p in found.items() if p is not None)


def improvement_in_words(finding: Finding) -> str | None:
    """The probability of improvement of the effect on a metric of the test split; None for other effects.

    >>> improvement_in_words(Finding("A", "up", None, scale="points", improvement=0.85))
    'probability of improvement 85% over seeds'
    """
    is_metric = finding.quantity in REGISTRY and REGISTRY[finding.quantity].metric is not None
    if finding.improvement is None or (finding.scale != "points" and not is_metric):
        return None
    return f"probability of improvement {finding.improvement:.0%} over seeds"


# --- Effects ---


def effect_sentence(finding: Finding, question: Question) -> str | None:
    """The effect with its 95 % interval; None without an effect."""
    if finding.effect is None:
        return None
    quantity = question.described
    subject = subject_of(question)
    if finding.effect == 0 and finding.interval is None and finding.n > 1:
        value = getattr(question.contrast, "reference", None)
        same = "is equal in every pair" if value is None else f"is {rounded(value)} in every run"
        return framed(f"{subject} {same}", finding, question)
    sentence = SENTENCES[question.scale].effect(subject, quantity.unit, reference_words(question), finding.effect)
    limits = interval_in_words(finding.interval, finding, question)
    return framed(f"{sentence} ({limits})" if limits else sentence, finding, question)


def subject_of(question: Question) -> str:
    """The subject of an effect's sentence: the quantity, or what the contrast makes of it."""
    words = question.described.words
    if isinstance(question.contrast, BestValue):
        return f"best {grid_in_words(question.contrast.over)}, chosen by the validation value of {words},"
    return SUBJECTS.get(type(question.contrast), "{}").format(words)


def framed(sentence: str, finding: Finding, question: Question) -> str:
    """The sentence of an effect with what its contrast adds: tuned arms, data sets, runs that did not learn."""
    match question.contrast:
        case BestValue():
            return sentence
        case Tuned(over=grid):
            best = f"each arm at its own best {grid_in_words(grid)} (chosen on validation by the other seeds)"
            return f"{best}: {sentence}"
        case Datasets() if "data_set" not in finding.details:
            sets = [part for part in finding.parts if "data_set" in part.details and part.effect is not None]
            each = ", ".join(f"{part.details['data_set']} {signed(part.effect, question)}" for part in sets)
            over = count(len(sets), "data set") if sets else "the data sets"
            return f"mean over {over}: {sentence}" + (f"; per data set: {each}" if each else "")
        case Failures() if "did_not_learn" in finding.details:
            failed = (f"{finding.details['did_not_learn'][role]} of {finding.n}" for role in ROLES_OF_ARMS)
            arms = (words(arm) for arm in (finding.treatment or {}, finding.control or {}))
            shown = " against ".join(f"{number} with {arm}" for number, arm in zip(failed, arms, strict=True))
            p = "" if finding.p is None else f" (exact McNemar test: p {p_text(finding.p)})"
            return f"runs that did not learn: {shown}{p}; the {sentence}"
    return f"{sentence}; {UNPAIRED}" if finding.control and "unpaired" in finding.details else sentence


def signed(effect: float, question: Question) -> str:
    """An effect without its unit: a difference with its sign, or a ratio."""
    if question.scale in ("log", "logit"):
        return f"× {ratio_text(effect)}"
    return f"{'+' if effect > 0 else ''}{rounded(effect)}"


def interval_in_words(interval: Interval | None, finding: Finding, question: Question) -> str | None:
    if interval is None or finding.effect is None:
        return None
    return SENTENCES[question.scale].interval(finding.effect, interval.low, interval.high)


def bound_in_words(finding: Finding, question: Question) -> str | None:
    """The effect beyond which all are ruled out in the claimed direction, in units that people know.

    Variances are given as standard deviations. None without a simultaneous interval.
    """
    interval = finding.interval_simultaneous
    if interval is None or finding.effect is None:
        return None
    sign = question.direction.sign(finding.effect)
    end = interval.high if sign > 0 else interval.low
    unit = question.described.unit
    if question.scale in ("log", "logit"):
        squared = unit.endswith("²") or isinstance(question.contrast, Variance)
        ratio = ratio_text(end / 2 if squared else end)
        what = "standard deviations" if squared else "odds" if question.scale == "logit" else "values"
        return f"{what} beyond × {ratio} are ruled out"
    side = "rise" if sign > 0 else "fall"
    if sign * end <= 0:
        return f"any {side} is ruled out"
    words = "percentage points" if question.scale == "points" else unit
    return f"a {side} of more than {rounded(abs(end))} {words}".strip() + " is ruled out"


def reference_words(question: Question) -> str:
    """The reference of the comparison: the control, or a number that the claim names."""
    if isinstance(question.contrast, Interactions):
        return "the factors' separate effects give"
    value = getattr(question.contrast, "reference", None)
    return "in the control" if value is None else f"{'for ' if question.scale == 'logit' else ''}{rounded(value)}"


def smallest_effect_in_words(finding: Finding, question: Question) -> str | None:
    """The smallest effect of interest, in the claimed direction; None if the claim names none."""
    if finding.smallest_effect is None:
        return None
    least = finding.smallest_effect
    if question.scale in ("log", "logit"):
        bound = "at most" if least < 0 else "at least"
        return with_reason(f"claimed: {bound} {ratio_text(least)} times", finding)
    unit = "percentage points" if question.scale == "points" else question.described.unit
    side = {Direction.ABOVE: "higher", Direction.BELOW: "lower", Direction.EITHER: "higher or lower"}[
        question.direction
    ]
    return with_reason(" ".join(f"claimed: at least {rounded(abs(least))} {unit} {side}".split()), finding)


def with_reason(asked: str, finding: Finding) -> str:
    """The smallest effect, where it comes from, and the power of the planned seeds where that is low."""
    reason = f" ({finding.why})" if finding.why else ""
    low = finding.power is not None and finding.power < LEAST_POWER
    return asked + reason + (f"; the planned seeds detect it with {finding.power:.0%} power only" if low else "")
