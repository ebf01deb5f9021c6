"""Embed saved figures in a page: as SVG, and the largest ones as WebP where they take too much space."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from analysis.figures.export import DPI

ROOM = 1_200_000
"""Most bytes for all figures of a page, before base64 encoding, which adds a third."""

WEBP_COLORS = 64
"""Number of colours of a WebP image: enough for these figures with smoothed edges."""

FILE_TYPES = ("svg", "pdf", "png", "csv")


class Picture(NamedTuple):
    """A figure in a page. `uri`: the image data; `width`: in CSS pixels; `links`: file type -> relative path."""

    name: str
    caption: str
    uri: str
    width: int
    links: Mapping[str, str]


def pictures(folder: Path, captions: Mapping[str, str], room: int = ROOM) -> tuple[Picture, ...]:
    """The figures that `analysis.figures.export.save_figure` wrote into the folder; captions: name -> caption.

    They are embedded as images, not as markup: an SVG in an <img> runs no script, and its ids cannot clash with
    others. All are SVG if they fit into `room` bytes; else the largest become WebP, one by one, until they fit.
    """
    vectors = {name: (folder / f"{name}.svg").read_bytes() for name in captions}
    small = replacements({name: len(content) for name, content in vectors.items()}, folder, room)
    return tuple(
        Picture(
            name=name,
            caption=caption,
            uri=data_uri("image/webp", small[name]) if name in small else data_uri("image/svg+xml", vectors[name]),
            width=width(folder / f"{name}.png"),
            links={kind: f"{folder.name}/{name}.{kind}" for kind in FILE_TYPES},
        )
        for name, caption in captions.items()
    )


def replacements(sizes: Mapping[str, int], folder: Path, room: int) -> dict[str, bytes]:
    """WebP images for as many of the largest SVGs as necessary; `sizes`: name -> size of the SVG in bytes."""
    total, found = sum(sizes.values()), {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if total <= room:
            break
        webp = fewer_colors(folder / f"{name}.png")
        if len(webp) < sizes[name]:
            found[name] = webp
            total += len(webp) - sizes[name]
    return found


def fewer_colors(path: Path) -> bytes:
    """A PNG reduced to a few colours, as lossless WebP of the same pixels: about a quarter of the PNG's size.

    A PNG of the same few colours would be a third larger than the WebP.
    """
    packed = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").quantize(WEBP_COLORS).convert("RGB").save(packed, "webp", lossless=True)
    return packed.getvalue()


def width(path: Path) -> int:
    """Width of a PNG in CSS pixels, 96 per inch."""
    with Image.open(path) as image:
        return round(image.width * 96 / DPI)


def data_uri(kind: str, content: bytes) -> str:
    """The content as a data URI of that media type.

    >>> data_uri("image/webp", b"...")
    'data:image/webp;base64,Li4u'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
