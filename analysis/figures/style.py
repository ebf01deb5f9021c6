"""The look of all figures: one style sheet, a line style per arm that also works in grey, names shown literally."""

import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.textpath import TextToPath
from matplotlib.ticker import Formatter, Locator, MaxNLocator, NullFormatter, NullLocator

from ablate.config.wording import printable
from analysis.tables.numbers import plain_number, power_of_ten

# Okabe & Ito 2008, "Color universal design", without yellow, which is hard to see on white
COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ((), (5, 1.5), (1.3, 1.3), (6, 1.5, 1.3, 1.5))
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">", "p", "h", "*", "d")
"""With 7 colours, 4 dashes and 12 markers, 84 arms look different, and 28 have different lines without markers."""

GREY = "#767676"
RC = {
    **{"font.size": 9, "axes.labelsize": 9, "axes.titlesize": 9, "axes.titlelocation": "left"},
    **{"xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.edgecolor": "#444444"},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6},
    **{"lines.linewidth": 1.5, "text.parse_math": False, "text.usetex": False},
    **{"svg.fonttype": "none", "pdf.fonttype": 42},  # SVG keeps text as text; PDF embeds TrueType, as journals ask
}

_settings_lock = threading.RLock()


@contextmanager
def applied() -> Iterator[None]:
    """Use matplotlib's defaults and RC inside the block, whatever the user has set; restore the user's settings after.

    matplotlib's settings are global to the process, so a lock lets one thread at a time draw.
    """
    with _settings_lock, matplotlib.style.context(["default", RC]):
        yield


@dataclass(frozen=True)
class LineStyle:
    """Colour, dashes and marker of an arm; dashes and marker tell arms apart in grey print."""

    color: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def linestyle(self) -> tuple[float, tuple[float, ...] | None]:
        return 0, self.dashes or None


def line_styles(names: Iterable[str]) -> dict[str, LineStyle]:
    """A line style per name, chosen by its position: equal lists of names have equal styles in every figure."""
    return {
        name: LineStyle(COLORS[i % len(COLORS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(dict.fromkeys(names))
    }


def literal(*texts: Text) -> None:
    """Show texts character by character: matplotlib reads no formula in `$x$` or `_`."""
    for text in texts:
        text.set_parse_math(False)
        text.set_usetex(False)


def wrapped(name: str, width: int) -> str:
    """A name in lines of at most `width` characters, broken after hyphens, commas and spaces, and before brackets.

    >>> wrapped("embeddings_attention-delayed[start=50]-none", 24)
    'embeddings_attention-\\ndelayed[start=50]-none'
    """
    lines = [""]
    for piece in re.split(r"(?<=[-, ])|(?=\[)", printable(name)):
        if len(lines[-1]) + len(piece.rstrip(" ")) > width and lines[-1]:
            lines.append("")
        while len(piece.rstrip(" ")) > width:
            lines[-1], piece = piece[:width], piece[width:]
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip(" ") for line in lines)


# --- Legends: above the axes, never over them ---

HANDLE = 0.68
"""Width of a legend entry without its name, in inches."""

LINE = 0.17
"""Height of a line of legend text, in inches."""

_text_to_path = TextToPath()


def inches(name: str) -> float:
    """Width of a name in the legend's font."""
    font = FontProperties(size=RC["legend.fontsize"])
    points, _, _ = _text_to_path.get_text_width_height_descent(printable(name), font, False)
    return points / 72


@dataclass(frozen=True)
class Legend:
    """A legend's layout, computed before its figure so that the figure is made high enough for it.

    styles   name -> its line style
    names    name -> the same name, wrapped
    columns  number of columns
    """

    styles: Mapping[str, LineStyle]
    names: Mapping[str, str]
    columns: int

    @property
    def height(self) -> float:
        """Height in inches."""
        lines = [name.count("\n") + 1 for name in self.names.values()]
        rows = math.ceil(len(lines) / self.columns)
        return max(sum(lines[i : i + rows]) for i in range(0, len(lines), rows)) * LINE + 0.1


def legend_for(styles: Mapping[str, LineStyle], width: float) -> Legend:
    """A legend with as many columns as fit into `width` inches; a name wider than that is wrapped."""
    room = width - HANDLE
    names = {name: wrapped(name, max(8, int(len(name) * min(1, room / max(inches(name), 0.1))))) for name in styles}
    longest = max(inches(line) for name in names.values() for line in name.split("\n"))
    return Legend(styles, names, max(1, min(len(names), int(width / (longest + HANDLE)))))


def add_legend(figure: Figure, legend: Legend) -> None:
    """Draw the legend above the figure's axes."""
    handles = [
        Line2D([], [], color=style.color, linestyle=style.linestyle, marker=style.marker, markersize=4)
        for style in legend.styles.values()
    ]
    placeholders = [str(i) for i in range(len(handles))]  # matplotlib skips labels that begin with _
    drawn = figure.legend(
        handles, placeholders, loc="outside upper left", ncols=legend.columns, handlelength=3.2, borderaxespad=0.2
    )
    for text, name in zip(drawn.get_texts(), legend.names.values(), strict=True):
        text.set_text(name)
    literal(*drawn.get_texts())


# --- Axes ---


class Plain(Formatter):
    """Tick labels as plain numbers: no formulas, no offset or factor at the end of the axis."""

    def __call__(self, value: float, position: int | None = None) -> str:
        return plain_number(value)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """
        >>> Plain().format_ticks([0, 0.0005, 0.001])
        ['0', '5×10⁻⁴', '1×10⁻³']
        """
        small = 0 < max(map(abs, values), default=0) < 0.01
        return [power_of_ten(value) if small and value else plain_number(value) for value in values]


def plain_axis(axis: Axis) -> None:
    axis.set_major_formatter(Plain())


class LogTicks(Locator):
    """Ticks of a log axis at round numbers: at least two for any limits, and few enough to read."""

    def __call__(self) -> Sequence[float]:
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """
        >>> [float(tick) for tick in LogTicks().tick_values(0.04, 30)]
        [0.1, 1.0, 10.0]
        >>> [float(tick) for tick in LogTicks().tick_values(0.4, 3)]
        [0.5, 1.0, 2.0]
        >>> [round(float(tick), 2) for tick in LogTicks().tick_values(0.88, 1.13)]
        [0.9, 1.0, 1.1]
        """
        decades = range(math.floor(math.log10(vmin)), math.ceil(math.log10(vmax)) + 1)
        powers = decades[:: math.ceil(len(decades) / 7)]
        for digits, fewest in (((1,), 3), ((1, 3), 3), ((1, 2, 5), 2)):
            ticks = ticks_within((digit * 10.0**power for power in powers for digit in digits), vmin, vmax)
            if len(ticks) >= fewest:
                return ticks
        return ticks_within(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(vmin, vmax), vmin, vmax)


def ticks_within(ticks: Iterable[float], low: float, high: float) -> list[float]:
    return [tick for tick in ticks if low <= tick <= high]


def log_axis(axis: Axis) -> None:
    name = axis.axis_name
    axis.axes.set(**{f"{name}scale": "log"})
    low, high = axis.get_view_interval()
    if high < 1.001 * low:  # nearly equal ends leave no room for ticks
        axis.axes.set(**{f"{name}lim": (low / 1.1, high * 1.1)})
    axis.set_major_locator(LogTicks())
    axis.set_major_formatter(Plain())
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def reference(ax: Axes, value: float, name: str) -> None:
    """Draw a horizontal line across the axes, with its name to the right of them."""
    ax.axhline(value, color=GREY, linewidth=1, zorder=1.5)
    place = {"xy": (1, value), "xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    literal(ax.annotate(name, xytext=(3, 0), va="center", fontsize=8, color=GREY, annotation_clip=False, **place))


def moment(ax: Axes, step: float, name: str) -> None:
    """Draw a vertical line through the axes, with its name above them."""
    ax.axvline(step, color=GREY, linewidth=1, linestyle=(0, (1, 1.5)), zorder=1.5)
    place = {"xy": (step, 1), "xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    literal(ax.annotate(name, xytext=(0, 2), ha="left", fontsize=8, color=GREY, annotation_clip=False, **place))
