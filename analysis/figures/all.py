"""A study -> its figures, each with a caption and the numbers that it shows; what cannot be drawn, and why.

>>> for item in figures(load(Path("outputs/paper"))):  # doctest: +SKIP
...     if isinstance(item, Drawn):
...         save(item.figure, item.data, Path("report/figures"), item.name)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import by_seed, by_step, forest
from analysis.figures.data import Contents, NotDrawable, Records
from analysis.figures.style import applied
from analysis.quantities.registry import selected
from analysis.records.study import Study
from analysis.tables.formats import LeftOut, made_or_left_out

Draw = Callable[[Records], Contents]


def of_techniques(draw: Draw) -> Draw:
    """With a panel an arm: of many arms those that differ in the techniques alone."""

    @wraps(draw)
    def few(records: Records) -> Contents:
        return draw(records.of_techniques)

    return few


FIGURES: Mapping[str, Draw] = {
    "training_loss": of_techniques(by_step.training_loss),
    "probe_loss": of_techniques(by_step.probe_loss),
    "probe_accuracy": of_techniques(by_step.probe_accuracy),
    "gradient_norm": of_techniques(by_step.gradient_norm),
    "tracked_norms": of_techniques(by_step.tracked_norms),
    "delta_g": of_techniques(by_step.delta_g),
    "delta_g_share": of_techniques(by_step.delta_g_share),
    "learning_rate": by_step.learning_rate,
    "layers": of_techniques(by_step.layers),
    "seeds": by_seed.seeds_figure,
    "differences": by_seed.differences_figure,
    **{f"interaction_{quantity.name}": by_seed.interaction_of(quantity) for quantity in selected("has_interaction")},
    "hero": by_step.hero,
}
"""Name of the files -> what draws it."""


class Drawn(NamedTuple):
    """A figure, its caption in plain words, and the frame of numbers that it shows."""

    name: str
    caption: str
    data: pd.DataFrame
    figure: Figure


def figures(study: Study, names: Sequence[str] = tuple(FIGURES)) -> Iterator[Drawn | LeftOut]:
    """All of FIGURES, or the named ones, in that order, each drawn when it is asked for."""
    try:
        records = Records(study)
    except NotDrawable as reason:
        yield from (LeftOut(name, str(reason)) for name in names)
        return
    for name in names:
        yield drawn(name, lambda draw=FIGURES[name]: draw(records))


def forest_plot(claims: pd.DataFrame) -> Drawn | LeftOut:
    """The effects of all claims: see `analysis.figures.forest.forest` for the columns."""
    return drawn("forest", lambda: forest.forest(claims))


def drawn(name: str, draw: Callable[[], Contents]) -> Drawn | LeftOut:
    def make() -> Drawn:
        with applied():
            return Drawn(name, *draw())

    return made_or_left_out(name, make, NotDrawable)
