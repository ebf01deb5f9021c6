"""Pictures of claims: the effects of one with its parts, for its card, and those of all claims below each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from analysis.claims.finding import Finding
from analysis.claims.reading import Claims, Question
from analysis.figures.forest import axis_key, side_of
from analysis.figures.forest_plots import claimed_signs
from analysis.page.effect_pictures import RATIO_SCALES, EffectPicture, Mark, effect_picture
from analysis.quantities.registry import REGISTRY, of_kind
from analysis.tables.numbers import ratio_text, rounded

Row = tuple[Finding, Question | None]
"""An effect of a picture, and the question that it answers."""


def claim_pictures(finding: Finding, claims: Claims) -> tuple[EffectPicture, ...]:
    """A claim's own effect, or else those of its judged parts: one picture per axis."""
    found = []
    for rows in by_axis(own_effects(finding, questions_by_id(claims))):
        named = len(rows) > 1
        marks = [replace(mark_of(*row), name=name_with_statement(row[0]) if named else row[0].id) for row in rows]
        found.append(picture_of(rows, marks, claims))
    return tuple(filter(None, found))


def claims_forest(findings: Sequence[Finding], claims: Claims) -> tuple[EffectPicture, ...]:
    """The effects of all claims below each other, named by their ids: one picture per axis."""
    questions = questions_by_id(claims)
    judged = (row for finding in findings for row in own_effects(finding, questions) if row[0].verdict is not None)
    found = (picture_of(rows, [replace(mark_of(*row), seeds=()) for row in rows], claims) for rows in by_axis(judged))
    return tuple(filter(None, found))


def questions_by_id(claims: Claims) -> dict[str, Question]:
    return {question.id: question for question in claims.questions}


def by_axis(rows: Iterable[Row]) -> list[list[Row]]:
    """The effects that share an axis (`axis_key`)."""
    found: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        found.setdefault(axis_key(row[0].scale or "raw", row[0].quantity), []).append(row)
    return list(found.values())


def own_effects(finding: Finding, questions: Mapping[str, Question], above: Question | None = None) -> Iterator[Row]:
    """The finding if it has an effect that no part repeats, else its judged parts; data sets follow their mean.

    Each with its question; a part without one of its own has that of its claim, `above`.
    """
    question = questions.get(finding.id, above)
    parts = [part for part in finding.parts if part.verdict is not None and not part.exploratory]
    if parts:
        for part in parts:
            yield from own_effects(part, questions, question)
        return
    if finding.effect is not None:
        yield finding, question
        of_data_sets = (part for part in finding.parts if "data_set" in part.details and part.effect is not None)
        yield from ((part, question) for part in of_data_sets)


def picture_of(rows: Sequence[Row], marks: Sequence[Mark], claims: Claims) -> EffectPicture | None:
    scale, quantity = rows[0][0].scale or "raw", of_kind(REGISTRY[rows[0][0].quantity or ""], claims.kind)
    names = {of_kind(REGISTRY[finding.quantity or ""], claims.kind).words for finding, _ in rows}
    words = quantity.words if len(names) == 1 else "each quantity"
    suffix = {"log": "ratio", "logit": "odds ratio", "points": "points"}.get(scale, quantity.unit)
    return effect_picture(marks, scale, f"{words}, {suffix}" if suffix else words)


def name_with_statement(finding: Finding) -> str:
    return finding.id if finding.statement in finding.id else f"{finding.id}: {finding.statement}"


def mark_of(finding: Finding, question: Question | None) -> Mark:
    smallest = finding.smallest_effect
    signs = claimed_signs(side_of(question), smallest)
    interval, wide = finding.interval, finding.interval_simultaneous
    return Mark(
        name=finding.id,
        text=effect_in_brief(finding),
        effect=finding.effect,
        interval=interval and (interval.low, interval.high),
        wide=wide and (wide.low, wide.high),
        seeds=finding.differences,
        claimed=tuple((sign * abs(smallest or 0.0), sign) for sign in signs),
        smallest=tuple(sign * abs(smallest) for sign in signs) if smallest else (),
        verdict=finding.verdict,
    )


def effect_in_brief(finding: Finding) -> str:
    """An effect and its 95 % interval, without words.

    >>> from analysis.stats.interval import Interval
    >>> effect_in_brief(Finding("A", "", None, scale="points", effect=-0.1, interval=Interval(-0.9, 0.7, 0.95)))
    '−0.1 (−0.9 to 0.7)'
    """
    if finding.effect is None:
        return ""
    write = ratio_text if finding.scale in RATIO_SCALES else rounded
    start = "× " if finding.scale in RATIO_SCALES else "+" if finding.effect > 0 else ""
    limits = finding.interval and f" ({write(finding.interval.low)} to {write(finding.interval.high)})"
    return f"{start}{write(finding.effect)}{limits or ''}"
