"""Save a figure for a paper (PDF), a web page (SVG) and a slide (PNG), together with its numbers (CSV)."""

import io
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

from ablate.config.checks import refusal
from ablate.config.wording import printable
from ablate.files.atomic import write_together
from analysis.figures.style import applied
from analysis.tables.formats import to_csv

DPI = 200


def save_figure(figure: Figure, data: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write `name`.svg, .pdf, .png and .csv into the folder, which is created, and return their paths.

    The SVG keeps text as text, the PDF embeds its fonts, the PNG has 200 dots per inch. The four files are complete
    before they replace older ones (`ablate.files.atomic.write_together`). Raises ValueError unless `name` is a plain
    file name.
    """
    if not name or Path(name).name != name:
        raise refusal("name", repr(name), "a file name without folder or extension")
    contents = rendered(figure, name) | {"csv": to_csv(data).encode()}
    return write_together(folder, {f"{name}.{kind}": content for kind, content in contents.items()})


def rendered(figure: Figure, name: str) -> dict[str, bytes]:
    """The figure's bytes in each format. Equal figures of one name have equal bytes under one matplotlib version.

    This calls each format's own printer, since Figure.savefig lays out and draws the figure twice per format.
    """
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
    canvas, layout, dpi = figure.canvas, figure.get_layout_engine(), figure.dpi
    png, svg, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    try:
        with applied(), matplotlib.rc_context({"svg.hashsalt": name}):  # distinct SVG ids per figure of a page
            figure.dpi = DPI
            FigureCanvasAgg(figure).print_png(png)
            figure.set_layout_engine("none")  # all formats share the layout computed for the PNG
            FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
            FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    finally:
        figure.set_layout_engine(layout)
        figure.dpi = dpi
        figure.set_canvas(canvas)
    return {"png": png.getvalue(), "svg": svg.getvalue(), "pdf": pdf.getvalue()}
