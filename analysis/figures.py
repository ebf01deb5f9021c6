"""A study -> its figures, each with a caption and the numbers that it shows; what cannot be drawn, and why.

>>> for item in figures(load(Path("outputs/paper"))):  # doctest: +SKIP
...     if isinstance(item, Drawn):
...         save(item.figure, item.data, Path("report/figures"), item.name)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from analysis import forest, seedwise, stepwise
from analysis.load import Study
from analysis.reduced import Contents, NotDrawable, Records
from analysis.style import applied

FIGURES: Mapping[str, Callable[[Records], Contents]] = {
    "training_loss": stepwise.training_loss,
    "probe_loss": stepwise.probe_loss,
    "probe_accuracy": stepwise.probe_accuracy,
    "gradient_norm": stepwise.gradient_norm,
    "tracked_norms": stepwise.tracked_norms,
    "delta_g": stepwise.delta_g,
    "delta_g_share": stepwise.delta_g_share,
    "learning_rate": stepwise.learning_rate,
    "layers": stepwise.layers,
    "seeds": seedwise.seeds,
    "differences": seedwise.differences,
    "interaction_test_accuracy": seedwise.interaction(seedwise.TEST_ACCURACY),
    "interaction_probe_jitter": seedwise.interaction(seedwise.PROBE_JITTER),
    "hero": stepwise.hero,
}
"""Name of the files -> what draws it."""


class Drawn(NamedTuple):
    """A figure, its caption in plain words, and the frame of numbers that it shows."""

    name: str
    caption: str
    data: pd.DataFrame
    figure: Figure


class LeftOut(NamedTuple):
    """A figure that the runs do not allow."""

    name: str
    reason: str


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
    """The effects of all claims: see `analysis.forest.forest` for the columns."""
    return drawn("forest", lambda: forest.forest(claims))


def drawn(name: str, draw: Callable[[], Contents]) -> Drawn | LeftOut:
    try:
        with applied():
            return Drawn(name, *draw())
    except NotDrawable as reason:
        return LeftOut(name, str(reason))
