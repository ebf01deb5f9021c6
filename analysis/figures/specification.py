"""The specification curve: how a claim's effect and word change with choices that others could have made.

Each specification is one combination of choices: the scale, the runs, the points of a grid, the test, the level. All
are drawn, sorted by their effect, with the choices as dots below. Simonsohn, Simmons & Nelson 2020, Nat. Hum. Behav.
4:1208.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.claims.contrasts import Paired, Sensitivity
from analysis.claims.estimand import Sample
from analysis.claims.finding import Finding
from analysis.claims.grid_contrasts import Grid
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims, Question
from analysis.claims.samples import collect
from analysis.claims.verdict_rule import Alphas, Direction, Verdict, judge
from analysis.figures import plots
from analysis.figures.data import Contents, NotDrawable
from analysis.figures.forest import SIDES, with_parents
from analysis.figures.panels import WIDE
from analysis.figures.style import GREY, literal, log_axis, plain_axis, wrapped
from analysis.quantities.outcomes import outcomes
from analysis.records.arms import value_text
from analysis.records.study import Study
from analysis.stats.effects import ALPHA, Array, paired_effect
from analysis.stats.interval import Interval
from analysis.stats.scales import Log, Raw

MOST = 4
"""Most claims in the figure: those with the most specifications."""

FLIPS_SEED = 0
"""Of the sign flips of more than 20 seeds."""

KINDS = ("scale", "runs", "grid", "test", "level")
"""The choices, in the order of their rows."""


@dataclass(frozen=True)
class Spread:
    """What a word is chosen from: effect and interval in the claimed direction, and the smallest effect, or None.

    rejected: whether the test rejects that there is no effect
    """

    effect: float
    low: float
    high: float
    smallest: float | None
    rejected: bool


Rule = Callable[[Spread], str]


def word_of(found: Spread) -> str:
    """The word for one interval, as the verdicts are defined; a test that does not reject makes it inconclusive.

    >>> word_of(Spread(-0.3, -0.4, -0.2, 0.5, True)), word_of(Spread(0.3, 0.1, 0.45, 0.5, True))
    ('opposite', 'smaller than claimed')
    >>> word_of(Spread(0.3, 0.1, 0.45, 0.5, False)), word_of(Spread(0.6, 0.1, 0.9, None, True))
    ('inconclusive', 'supported')
    """
    if (found.low > 0 or found.high < 0) and not found.rejected:
        return Verdict.INCONCLUSIVE.value
    at_any_level = partial(Interval, found.low, found.high)
    return judge(found.effect, at_any_level, found.smallest, Direction.ABOVE, Alphas.all_at(ALPHA)).value


# --- Specifications ---


def specifications(question: Question, study: Study, judged: int, rule: Rule = word_of) -> pd.DataFrame:
    """All specifications of a paired or sensitivity question: KINDS, effect, low, high, p, n, word, is_own.

    Effects are treatment − control on the question's scale; on the raw scale of a question of ratios, the logarithm of
    1 + difference / mean of the control, so that all are comparable. The scale is log or raw for ratios, else the
    question's; runs are all or those that learn, where both differ; grids leave out one point each; the test is
    Student's t or the sign flips; the level is ALPHA or ALPHA / `judged`. `is_own`: the question's own choices.
    Combinations that the data do not allow are left out; the frame is empty if none is allowed.
    """
    measured = outcomes(study, [question.measured])
    rows = []
    for grid, asked in grids_of(question):
        try:
            drawn = collect(asked, asked.contrast.cells(asked, study), study, measured)
        except Refused:
            continue
        samples = {"all runs": drawn.kept}
        if isinstance(asked.contrast, Paired) and drawn.keeps and len(drawn.learned.seeds) < len(drawn.compared.seeds):
            samples["runs that learn"] = drawn.learned
        for runs, sample in samples.items():
            rows += rows_of_sample(question, sample, {"runs": runs, "grid": grid}, judged, rule)
    columns = [*KINDS, "effect", "low", "high", "p", "n", "word", "is_own"]
    return pd.DataFrame(rows, columns=columns)


def grids_of(question: Question) -> Iterator[tuple[str, Question]]:
    """The question, and for a grid the same without each of its points where three or more are left."""
    contrast = question.contrast
    yield ("all of the grid" if isinstance(contrast, Grid) else ""), question
    if isinstance(contrast, Grid):
        for key, values in contrast.over.items():
            for value in values if len(values) > 2 else ():
                over = dict(contrast.over) | {key: tuple(other for other in values if other != value)}
                yield f"without {value_text(value)}", replace(question, contrast=replace(contrast, over=over))


def rows_of_sample(
    question: Question, sample: Sample, chosen: dict[str, str], judged: int, rule: Rule
) -> list[dict[str, Any]]:
    """One row per scale, test and level, for one sample."""
    rows = []
    for scale in ("log", "raw") if question.scale == "log" else (question.scale,):
        try:
            differences = differences_of(question, sample, scale)
            effect = paired_effect(differences, np.zeros_like(differences), np.random.default_rng(FLIPS_SEED))
        except ValueError:
            continue
        for (test, p), (level, alpha) in product(
            (("t", effect.p), ("sign flips", effect.p_sign_flip)), (("α", ALPHA), ("α / m", ALPHA / judged))
        ):
            interval = effect.interval(1 - alpha)
            if interval is None:
                continue
            own = (scale, chosen["runs"], test, level) == (question.scale, "all runs", "t", "α / m")
            rows.append(
                {
                    **chosen,
                    **{"scale": scale, "test": test, "level": level, "effect": effect.estimate, "p": p, "n": effect.n},
                    **{"low": interval.low, "high": interval.high},
                    "word": rule(turned(question, effect.estimate, interval.low, interval.high, p < alpha)),
                    "is_own": own and not chosen["grid"].startswith("without"),
                }
            )
    return rows


def differences_of(question: Question, sample: Sample, scale: str) -> Array:
    """treatment − control of each seed, comparable between the scales (see `specifications`)."""
    values = sample.values
    if isinstance(question.contrast, Sensitivity):
        loss = values.reshape(len(values), 2, values.shape[1] // 2)
        values = loss.mean(axis=2) - loss.min(axis=2)
    if scale == "log":
        x = Log().forward(values)
        return x[:, 0] - x[:, 1]
    if question.scale == "log":
        relative = (values[:, 0] - values[:, 1]) / values[:, 1].mean()
        mean = relative.mean()
        if mean <= -1:
            raise ValueError("the mean difference is the control's whole mean")
        # the delta method: log(1 + mean), with the spread of the differences at its slope there
        return np.log1p(mean) + (relative - mean) / (1 + mean)
    x = (Raw() if scale == "raw" else sample.scale).forward(values)
    return x[:, 0] - x[:, 1]


def turned(question: Question, effect: float, low: float, high: float, rejected: bool) -> Spread:
    """Effect and interval with the claimed direction as the positive one."""
    side = SIDES.get(question.direction, math.copysign(1.0, effect))
    low, high = (low, high) if side > 0 else (-high, -low)
    return Spread(side * effect, low, high, question.smallest, rejected)


# --- Figure ---


def specification_curve(study: Study, findings: Sequence[Finding], claims: Claims, rule: Rule = word_of) -> Contents:
    """The specification curves of the tested paired and sensitivity claims with the most specifications."""
    tested = {finding.id for finding, _ in with_parents(findings) if finding.interval is not None}
    questions = [
        question
        for claim in claims.claims
        for question in claim.questions
        if question.id in tested and isinstance(question.contrast, (Paired, Sensitivity))
    ]
    m = judged_claims(findings)
    found = {question.id: specifications(question, study, m, rule) for question in questions}
    found = {name: frame for name, frame in found.items() if len(frame) > 1}
    if not found:
        raise NotDrawable("no tested claim compares paired arms, over a grid or not")
    largest = sorted(found, key=lambda name: -len(found[name]))[:MOST]
    shown = {question.id: question for question in questions if question.id in largest}
    figure = draw_specifications({name: found[name] for name in shown}, shown)
    data = pd.concat([found[name].assign(claim=name) for name in shown], ignore_index=True)
    words = "; ".join(f"{name}: {word_counts(found[name])}" for name in shown)
    caption = (
        "Specification curve: the effect of a claim under each combination of choices that others could have made "
        "(scale, runs, points of the grid, test, level), sorted, with its interval at that level (Student's t). Marks: "
        "the word that follows, as in the forest plot; ringed: the claim's own choices. Dots below: the choices. "
        f"Tick and shading: smallest effect of interest and the claimed side. Words by number of choices: {words}. α = "
        f"{ALPHA:g}, m = {m}; on the raw scale a ratio of means."
    )
    if left := [question.id for question in questions if question.id not in shown]:
        caption += f" Not shown: {', '.join(left)}."
    return caption, data[["claim", *data.columns.drop("claim")]], figure


def judged_claims(findings: Sequence[Finding]) -> int:
    """The number of claims that the simultaneous intervals hold for: m, where their level is 1 − ALPHA / m."""
    levels = [f.interval_simultaneous.level for f, _ in with_parents(findings) if f.interval_simultaneous]
    return max(1, round(ALPHA / (1 - min(levels, default=0.0))))


def word_counts(frame: pd.DataFrame) -> str:
    """
    >>> word_counts(pd.DataFrame({"word": ["supported", "opposite", "supported"]}))
    'supported 2, opposite 1'
    """
    return ", ".join(f"{word} {count}" for word, count in frame["word"].value_counts().items())


def choice_rows(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Kind and choice of each row of dots: the kinds in which the specifications differ."""
    return [(kind, choice) for kind in KINDS if frame[kind].nunique() > 1 for choice in dict.fromkeys(frame[kind])]


def draw_specifications(found: dict[str, pd.DataFrame], questions: dict[str, Question]) -> Figure:
    """Two axes per claim, one below the other: effects, and dots for the choices."""
    columns = min(2, len(found))
    pairs = math.ceil(len(found) / columns)
    counts = [len(choice_rows(frame)) for frame in found.values()]
    rows = [max(counts[i * columns : (i + 1) * columns]) for i in range(pairs)]
    heights = [height for count in rows for height in (2.1, 0.17 * count + 0.1)]
    figure = Figure((WIDE, sum(heights) + 0.6 * pairs + 0.3), layout="constrained")
    grid = figure.subplots(2 * pairs, columns, squeeze=False, height_ratios=heights)
    for i, (name, frame) in enumerate(found.items()):
        above, below = grid[2 * (i // columns), i % columns], grid[2 * (i // columns) + 1, i % columns]
        frame = frame.sort_values("effect", kind="stable", ignore_index=True)
        draw_effects(frame, questions[name], above)
        draw_choices(frame, below)
        literal(above.set_title(wrapped(plots.shorter(f"{name}: {questions[name].statement}", 60), 52), fontsize=8))
    add_words(figure, list(dict.fromkeys(word for frame in found.values() for word in frame["word"])))
    for ax in grid[-2:, len(found) % columns or columns :].flat:
        ax.remove()
    return figure


def draw_effects(frame: pd.DataFrame, question: Question, ax: Axes) -> None:
    """The sorted effects with their intervals and words; ratios on a log axis."""
    ratio = question.scale in ("log", "logit")
    shown = np.exp(frame[["effect", "low", "high"]]) if ratio else frame[["effect", "low", "high"]]
    none = 1.0 if ratio else 0.0
    ax.vlines(frame.index, shown["low"], shown["high"], color="#b0b0b0", linewidth=1)
    for word, part in shown.groupby(frame["word"], sort=False):
        look = plots.mark_of(word) | {"ms": 4.5 if len(frame) < 30 else 3.2}
        ax.plot(part.index, part["effect"], linestyle="", label=word, zorder=3, **look)
    own = shown[frame["is_own"]]
    ax.plot(own.index, own["effect"], "o", mfc="none", mec="black", ms=9, mew=1, label="the claim's own", zorder=4)
    ax.axhline(none, color=GREY, linewidth=1, zorder=1.5)
    ax.set_xlim(ends_of_row(frame))
    if ratio:
        log_axis(ax.yaxis)
    else:
        plain_axis(ax.yaxis)
    ends = ax.get_ylim()
    side = SIDES.get(question.direction)
    if side is not None:
        signed = side * (question.smallest or 0.0)
        start = float(np.exp(signed)) if ratio else signed
        end = ends[1] if side > 0 else ends[0]
        if min(ends) < start < max(ends):
            ax.axhspan(start, end, color=plots.CLAIMED, alpha=plots.SHADE, linewidth=0)
            ax.axhline(start, color=plots.CLAIMED, linewidth=1)
    ax.set_ylim(ends)
    ax.set_ylabel({"points": "difference (points)", "raw": "difference"}.get(question.scale, "ratio (log axis)"))
    ax.set_xticks([])
    ax.grid(axis="x", visible=False)


def ends_of_row(frame: pd.DataFrame) -> tuple[float, float]:
    return -0.5, len(frame) - 0.5


def add_words(figure: Figure, words: Sequence[str]) -> None:
    """The key of the words, above the panels, in the order of the verdicts."""
    words = [
        *(word for word in plots.VERDICTS if word in words),
        *(word for word in words if word not in plots.VERDICTS),
    ]
    handles = [Line2D([], [], linestyle="", **plots.mark_of(word)) for word in words]
    ring = Line2D([], [], linestyle="", marker="o", mfc="none", mec="black", ms=9)
    drawn = figure.legend(
        [*handles, ring], [*words, "the claim's own"], loc="outside upper left", ncols=6, borderaxespad=0.2
    )
    literal(*drawn.get_texts())


def draw_choices(frame: pd.DataFrame, ax: Axes) -> None:
    """One row of dots per choice, the kinds of choices by turns on grey and white."""
    rows = choice_rows(frame)
    for row, (kind, choice) in enumerate(rows):
        places = frame.index[frame[kind] == choice]
        ax.plot(places, [row] * len(places), "s", color="black", ms=2.2, label=choice)
        if list(dict.fromkeys(kind for kind, _ in rows)).index(kind) % 2 == 0:
            ax.axhspan(row - 0.5, row + 0.5, color="#f0f0f0", linewidth=0, zorder=0)
    names = [f"{kind} {choice}" if kind in ("scale", "level") else choice for kind, choice in rows]
    ax.set_yticks(range(len(rows)), names)
    literal(*ax.get_yticklabels())
    ax.tick_params(axis="y", labelsize=7, length=0)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(ends_of_row(frame))
    ax.set_xticks([])
    ax.set_xlabel(f"{len(frame)} specifications, sorted by their effect")
    ax.grid(False)
