"""How figures look: one style, arms told apart with and without colour, names that never act as markup."""

import math
import textwrap
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

# Okabe & Ito 2008, "Color universal design", less the yellow, which white paper swallows
COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ((), (5, 1.5), (1.3, 1.3), (6, 1.5, 1.3, 1.5))
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">", "p", "h", "*", "d")
"""Of 7, 4 and 12: it takes 84 arms until two look the same, and 28 until two have the same line."""

GREY = "#767676"
RC = {
    **{"font.size": 9, "axes.labelsize": 9, "axes.titlesize": 9, "axes.titlelocation": "left"},
    **{"xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.edgecolor": "#444444"},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6},
    **{"lines.linewidth": 1.5, "text.parse_math": False, "text.usetex": False},
    **{"svg.fonttype": "none", "pdf.fonttype": 42},  # text stays text; TrueType, which journals ask for
}

_alone = threading.RLock()


@contextmanager
def applied() -> Iterator[None]:
    """Matplotlib's defaults with ours on top, whatever the user has set, and then the user's again.

    matplotlib keeps its settings once a process: threads of ours wait here for one another.
    """
    with _alone, matplotlib.style.context(["default", RC]):
        yield


@dataclass(frozen=True)
class Look:
    """How an arm is drawn: any two of a study's arms differ in colour, and in line or marker."""

    color: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def linestyle(self) -> tuple[float, tuple[float, ...] | None]:
        return 0, self.dashes or None


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, by its place: the same in every figure that is given the same names."""
    return {
        name: Look(COLORS[i % len(COLORS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(dict.fromkeys(names))
    }


def literal(text: Text, words: str | None = None) -> Text:
    """Text that is shown sign for sign: `$x$` and `_` are no formulas."""
    text.set_parse_math(False)
    text.set_usetex(False)
    if words is not None:
        text.set_text(words)
    return text


def wrapped(name: str, width: int) -> str:
    """A name in lines of at most `width` signs, broken at spaces, after hyphens, or where it has neither.

    >>> wrapped("embeddings_attention-fixed-warmup_linear", 24)
    'embeddings_attention-\\nfixed-warmup_linear'
    """
    lines = textwrap.wrap(name, width, break_long_words=True, drop_whitespace=False, replace_whitespace=False)
    return "\n".join(lines)


# --- Legends: above the axes, never over them ---

SIGN = 0.068
"""Width of an average sign of the legend in inches, 0.6 em of 8 points."""

LINE = 0.17
"""Height of a line of the legend, in inches."""


@dataclass(frozen=True)
class Key:
    """A legend laid out in rows and columns, before the figure that makes room for it."""

    looks: Mapping[str, Look]
    columns: int
    width: int

    @property
    def height(self) -> float:
        """In inches."""
        names = [wrapped(name, self.width).count("\n") + 1 for name in self.looks]
        rows = math.ceil(len(names) / self.columns)
        columns = [names[i : i + rows] for i in range(0, len(names), rows)]
        return max(sum(column) for column in columns) * LINE + 0.1


def key(looks: Mapping[str, Look], inches: float) -> Key:
    """As many columns as fit into so many inches; a name longer than that is wrapped."""
    handle = 0.6
    longest = max(map(len, looks)) * SIGN + handle
    columns = max(1, min(len(looks), int(inches / longest)))
    return Key(looks, columns, int((inches - handle) / SIGN))


def add_key(figure: Figure, key: Key, marked: bool) -> None:
    """Write the legend above the figure's axes; `marked`: with the arms' markers, as the figure has them."""
    handles = [
        Line2D([], [], color=look.color, linestyle=look.linestyle, marker=look.marker if marked else "", ms=4)
        for look in key.looks.values()
    ]
    placeholders = [str(i) for i in range(len(handles))]  # a label with a leading _ would be passed over
    legend = figure.legend(
        handles, placeholders, loc="outside upper left", ncols=key.columns, handlelength=3.2, borderaxespad=0.2
    )
    for text, name in zip(legend.get_texts(), key.looks, strict=True):
        literal(text, wrapped(name, key.width))


# --- Axes ---


def number(value: float) -> str:
    """
    >>> number(0.0002), number(-1.50), number(3e-5)
    ('0.0002', '−1.5', '3e−05')
    """
    return f"{value:g}".replace("-", "−")


PLAIN = FuncFormatter(lambda value, _: number(value))


def plain_axis(axis: Axis) -> None:
    """Ticks as plain numbers: no formulas, no offset or factor that hides at the axis's end."""
    axis.set_major_formatter(PLAIN)


def log_axis(axis: Axis) -> None:
    """A log axis, for its present limits, with enough labelled ticks and not too many."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    digits = (1.0, 2.0, 5.0) if decades < 1.7 else (1.0, 3.0) if decades < 3 else (1.0,)
    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def reference(ax: Axes, value: float, name: str) -> None:
    """A horizontal line across the axes, named beside them."""
    ax.axhline(value, color=GREY, linewidth=1, zorder=1.5)
    place = {"xy": (1, value), "xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    literal(ax.annotate(name, xytext=(3, 0), va="center", fontsize=8, color=GREY, annotation_clip=False, **place))


def moment(ax: Axes, step: float, name: str) -> None:
    """A vertical line through the axes, named above them."""
    ax.axvline(step, color=GREY, linewidth=1, linestyle=(0, (1, 1.5)), zorder=1.5)
    place = {"xy": (step, 1), "xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    literal(ax.annotate(name, xytext=(0, 2), ha="center", fontsize=8, color=GREY, annotation_clip=False, **place))
