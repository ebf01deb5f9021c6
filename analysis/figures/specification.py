"""The specification curve: how a claim's effect and word change with choices that others could have made.

It draws all of a claim's `analysis.claims.specifications`, sorted by their effect, with the choices as dots below.
Simonsohn, Simmons & Nelson 2020, Nat. Hum. Behav. 4:1208.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.claims.contrasts import Paired, Sensitivity
from analysis.claims.finding import Finding
from analysis.claims.reading import Claims, Question
from analysis.claims.specifications import CHOICES, judged_cases, places, specifications
from analysis.figures import plots
from analysis.figures.data import Contents, NotDrawable
from analysis.figures.forest import SIDES, with_parents
from analysis.figures.panels import WIDE
from analysis.figures.style import GREY, literal, log_axis, plain_axis, wrapped
from analysis.records.study import Study
from analysis.stats.effects import ALPHA

MOST = 4
"""Most claims in the figure: those with the most specifications."""


def specification_curve(study: Study, findings: Sequence[Finding], claims: Claims) -> Contents:
    """The specification curves of the tested paired and sensitivity claims with the most specifications."""
    if not study.is_paired:
        raise NotDrawable("the specifications are of paired runs, and those of the table are unpaired")
    tested = {finding.id for finding, _ in with_parents(findings) if finding.interval is not None}
    questions = [
        question
        for claim in claims.claims
        for question in claim.questions
        if question.id in tested and isinstance(question.contrast, (Paired, Sensitivity))
    ]
    cases = judged_cases(study, claims, findings) if questions else []  # it takes as long as judging all claims
    judged = places(cases)
    questions = [question for question in questions if question.id in judged]
    found = {question.id: specifications(question, study, cases) for question in questions}
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
        "(scale, runs, points of the grid, test, error, level), sorted, with its interval at that level. Marks: the "
        "word that follows by the rules of the verdicts, as in the forest plot; ringed: the claim's own choices. Dots "
        f"below: the choices. Tick and shading: smallest effect of interest and the claimed side. Words by number of "
        f"choices: {words}. α = {ALPHA:g}, m = {len(cases)}; by Holm, the other claims keep their own effects; on the "
        "raw scale a ratio of means."
    )
    if left := [question.id for question in questions if question.id not in shown]:
        caption += f" Not shown: {', '.join(left)}."
    return caption, data[["claim", *data.columns.drop("claim")]], figure


def word_counts(frame: pd.DataFrame) -> str:
    """
    >>> word_counts(pd.DataFrame({"word": ["supported", "opposite", "supported"]}))
    'supported 2, opposite 1'
    """
    return ", ".join(f"{word} {count}" for word, count in frame["word"].value_counts().items())


def choice_rows(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Kind and choice of each row of dots: the kinds in which the specifications differ."""
    return [(kind, choice) for kind in CHOICES if frame[kind].nunique() > 1 for choice in dict.fromkeys(frame[kind])]


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
    names = [f"{kind} {choice}" if kind in ("scale", "error", "level") else choice for kind, choice in rows]
    ax.set_yticks(range(len(rows)), names)
    literal(*ax.get_yticklabels())
    ax.tick_params(axis="y", labelsize=7, length=0)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(ends_of_row(frame))
    ax.set_xticks([])
    ax.set_xlabel(f"{len(frame)} specifications, sorted by their effect")
    ax.grid(False)
