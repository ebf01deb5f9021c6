"""Draw all figures of a study, each with a caption and its numbers; say which cannot be drawn, and why.

>>> for item in figures(load(Path("outputs/paper"))):  # doctest: +SKIP
...     if isinstance(item, DrawnFigure):
...         save_figure(item.figure, item.data, Path("report/figures"), item.name)
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from ablate.metrics import METRICS, PRIMARY
from ablate.schema import TASKS
from analysis.claims.finding import Finding
from analysis.claims.reading import Claims
from analysis.figures import by_class, by_seed, by_step, dose, forest
from analysis.figures.budget import best_by_budget
from analysis.figures.data import Contents, NotDrawable, Records
from analysis.figures.export import DPI
from analysis.figures.specification import specification_curve
from analysis.figures.style import applied
from analysis.quantities.by_class import shows_classes
from analysis.quantities.recorded import use_quantities_of
from analysis.quantities.registry import REGISTRY, run_quantities
from analysis.records.study import Study
from analysis.tables.controls import aa_effects
from analysis.tables.formats import LeftOut, made_or_left_out

Draw = Callable[[Records], Contents]


TALLEST = 16_383 / DPI
"""Greatest height of a figure, in inches: that of a WebP image, which the page may need (`analysis.page.pictures`)."""


def in_panels(draw: Draw) -> Draw:
    """A figure with one panel per arm; of many arms it shows those that differ only in the techniques, and not all."""

    @wraps(draw)
    def few(records: Records) -> Contents:
        return draw(records.in_panels)

    return few


def in_rows(draw: Draw) -> Draw:
    """A figure with one row or line per arm; of very many arms it shows those that differ most."""

    @wraps(draw)
    def few(records: Records) -> Contents:
        return draw(records.in_rows)

    return few


FIGURES: Mapping[str, Draw] = {
    "training_loss": in_panels(by_step.training_loss),
    "probe_loss": in_panels(by_step.probe_loss),
    "probe_accuracy": in_panels(by_step.probe_accuracy),
    "probe_{primary}": in_panels(by_step.probe_primary),
    "gradient_norm": in_panels(by_step.gradient_norm),
    "tracked_norms": in_panels(by_step.tracked_norms),
    "delta_g": in_panels(by_step.delta_g),
    "delta_g_share": in_panels(by_step.delta_g_share),
    "learning_rate": in_rows(by_step.learning_rate),
    "by_learning_rate": dose.by_learning_rate,
    "dose_response": dose.dose_response,
    "jitter_by_rate": in_rows(dose.jitter_by_rate),
    "layers": in_panels(by_step.layers),
    "seeds": in_rows(by_seed.seeds_figure),
    "differences": in_rows(by_seed.differences_figure),
    "interaction_test_{primary}": by_seed.interaction_of_primary,
    "interaction_probe_jitter": by_seed.interaction_of(REGISTRY["probe_jitter"]),
    "confusion": by_class.confusion,
    "calibration": by_class.calibration,
    "predicted_against_true": by_class.predicted_against_true,
    "hero": by_step.hero,
}
"""Name of a figure and its files -> the function that draws it; {primary} is the study's primary metric."""


OF_TABLES = ("seeds", "differences")
"""Names of the figures that need no steps and predictions, which a table of results has not; the last needs pairs."""


def figure_names(study: Study, among: Collection[str] = tuple(FIGURES)) -> tuple[str, ...]:
    """The names of the figures that a study of this kind of task can have."""
    if study.table is not None:
        return tuple(name for name in among if name in OF_TABLES[: 2 if study.is_paired else 1])
    return tuple(name.format(primary=study.primary) for name in among if APPLIES.get(name, always)(study))


def drawing(name: str, study: Study) -> Draw:
    """The function that draws the figure of this name."""
    return next(draw for generic, draw in FIGURES.items() if generic.format(primary=study.primary) == name)


def always(study: Study) -> bool:
    return True


APPLIES: Mapping[str, Callable[[Study], bool]] = {
    "probe_accuracy": lambda study: study.kind in METRICS[PRIMARY].kinds,
    "probe_{primary}": lambda study: study.primary != PRIMARY,
    "confusion": shows_classes,
    "calibration": shows_classes,
    "predicted_against_true": lambda study: study.kind == "regression",
}
"""Name of a figure -> whether studies of this kind have it; the others have all."""


class DrawnFigure(NamedTuple):
    """A figure, its caption in plain words, and the numbers that it shows."""

    name: str
    caption: str
    data: pd.DataFrame
    figure: Figure


def figures(study: Study, names: Sequence[str] | None = None) -> Iterator[DrawnFigure | LeftOut]:
    """Draw all `figure_names` of a study, or the named ones, in that order; a generator that draws each on demand."""
    use_quantities_of(study)
    names = figure_names(study) if names is None else names
    try:
        records = Records(study)
    except NotDrawable as reason:
        yield from (LeftOut(name, str(reason)) for name in names)
        return
    for name in names:
        yield drawn(name, partial(drawing(name, study), records))


OF_CLAIMS = ("forest", "best_by_budget", "specification_curve")
"""Names of the figures of a study's claims."""


def claim_figures(
    study: Study, findings: Sequence[Finding], claims: Claims | None = None
) -> Iterator[DrawnFigure | LeftOut]:
    """Draw OF_CLAIMS; `claims`: the file that the findings are judged by, which gives the claimed sides."""
    use_quantities_of(study, claims.metrics.quantities if claims else None)
    quantities = {row.quantity for row, _ in forest.with_parents(findings) if row.quantity in run_quantities()}
    yield forest_plot(forest.judged_effects(findings, claims, aa_effects(study, quantities)), study.kind)
    yield drawn("best_by_budget", lambda: best_by_budget(findings, claims))
    if claims is None:
        yield LeftOut("specification_curve", "no claims file is given")
    else:
        yield drawn("specification_curve", lambda: specification_curve(study, findings, claims))


def forest_plot(claims: pd.DataFrame, kind: str = TASKS[0]) -> DrawnFigure | LeftOut:
    """The figure of all claims' effects; `analysis.figures.forest.forest` lists the columns of `claims`."""
    return drawn("forest", lambda: forest.forest(claims, kind))


def drawn(name: str, draw: Callable[[], Contents]) -> DrawnFigure | LeftOut:
    """Draw one figure in the style of all; if the runs do not allow it, say why."""

    def make() -> DrawnFigure:
        with applied():
            made = DrawnFigure(name, *draw())
        if (height := made.figure.get_figheight()) > TALLEST:
            raise NotDrawable(f"a figure is at most {TALLEST:.0f} inches high; with all its rows it has {height:.0f}")
        return made

    return made_or_left_out(name, make, NotDrawable)
