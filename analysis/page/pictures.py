"""Saved figures -> pictures that a page holds in itself: as SVG, and the largest ones as WebP where room is short."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from analysis.figures.export import DPI

ROOM = 1_200_000
"""Bytes for all figures of a page; as data URIs they take a third more."""

COLORS = 64
"""Of a WebP: as many as figures of ours need, edges smoothed."""

KINDS = ("svg", "pdf", "png", "csv")


class Picture(NamedTuple):
    """A figure in a page. `uri`: the picture itself; `width`: in CSS pixels; `links`: kind -> relative path."""

    name: str
    caption: str
    uri: str
    width: int
    links: Mapping[str, str]


def pictures(folder: Path, captions: Mapping[str, str], room: int = ROOM) -> tuple[Picture, ...]:
    """The figures that `analysis.figures.export.save` wrote into the folder, by name, each with its caption.

    As images and not as markup: an SVG in an <img> runs no script, and its ids are its own. All are SVG if they fit
    into `room` bytes; else the largest ones become WebP, one after the other, until they do.
    """
    vectors = {name: (folder / f"{name}.svg").read_bytes() for name in captions}
    small = too_large({name: len(content) for name, content in vectors.items()}, folder, room)
    return tuple(
        Picture(
            name=name,
            caption=caption,
            uri=data_uri("image/webp", small[name]) if name in small else data_uri("image/svg+xml", vectors[name]),
            width=width(folder / f"{name}.png"),
            links={kind: f"{folder.name}/{name}.{kind}" for kind in KINDS},
        )
        for name, caption in captions.items()
    )


def too_large(sizes: Mapping[str, int], folder: Path, room: int) -> dict[str, bytes]:
    """WebPs in place of the largest SVGs, as many as it takes; `sizes`: name -> bytes of the SVG."""
    taken, found = sum(sizes.values()), {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if taken <= room:
            break
        webp = fewer_colors(folder / f"{name}.png")
        if len(webp) < sizes[name]:
            found[name] = webp
            taken += len(webp) - sizes[name]
    return found


def fewer_colors(path: Path) -> bytes:
    """A PNG as a lossless WebP of few colours, pixel for pixel: a quarter of its size, three quarters of a PNG's."""
    packed = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLORS).convert("RGB").save(packed, "webp", lossless=True)
    return packed.getvalue()


def width(path: Path) -> int:
    """Of a PNG, in CSS pixels, 96 to the inch."""
    with Image.open(path) as image:
        return round(image.width * 96 / DPI)


def data_uri(kind: str, content: bytes) -> str:
    """
    >>> data_uri("image/webp", b"...")
    'data:image/webp;base64,Li4u'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
