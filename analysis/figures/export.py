"""Figures -> files for a paper (PDF), a page (SVG) and a slide (PNG), with their numbers beside them (CSV)."""

import io
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ablate.files.atomic import write_together
from analysis.figures.style import applied
from analysis.tables.formats import to_csv

DPI = 200


def save(figure: Figure, data: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write `name`.svg, .pdf, .png and .csv into the folder, which is made, and return them.

    Text is text in the SVG, fonts are embedded in the PDF, the PNG has 200 dots an inch. All four are put in place
    together, each whole (`ablate.files.atomic.write_together`).
    Raises ValueError where `name` is no plain file name.
    """
    if not name or Path(name).name != name:
        raise ValueError(f"name = {name!r}: only a file's name, without folder or ending, is allowed")
    contents = rendered(figure, name) | {"csv": to_csv(data).encode()}
    return write_together(folder, {f"{name}.{kind}": content for kind, content in contents.items()})


def rendered(figure: Figure, name: str) -> dict[str, bytes]:
    """The figure in each format. Equal figures of one name give equal bytes under one version of matplotlib.

    Each format's own printer is called: Figure.savefig lays out and draws a figure twice for each.
    """
    canvas, layout, dpi = figure.canvas, figure.get_layout_engine(), figure.dpi
    png, svg, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    try:
        with applied(), matplotlib.rc_context({"svg.hashsalt": name}):  # an SVG's ids, told apart within one page
            figure.dpi = DPI
            FigureCanvasAgg(figure).print_png(png)
            figure.set_layout_engine("none")  # laid out once, for all formats alike
            FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
            FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    finally:
        figure.set_layout_engine(layout)
        figure.dpi = dpi
        figure.set_canvas(canvas)
    return {"png": png.getvalue(), "svg": svg.getvalue(), "pdf": pdf.getvalue()}
