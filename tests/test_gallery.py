"""The gallery: a page of every option, written by the tool."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.gallery import TECHNIQUE_GROUPS, by_group, options, page
from tests.tools import ROOT


def test_the_page_in_docs_is_of_the_options_that_there_are() -> None:
    assert (ROOT / "docs/gallery.md").read_text() == "\n".join(page(options())) + "\n"
    assert (
        {path.stem for path in (ROOT / "docs/gallery").glob("*.svg")} == set(TECHNIQUE_GROUPS) == {*by_group(options())}
    )


def test_every_option_is_described_with_its_source_or_formula() -> None:
    for each in options():
        assert each.summary() and len(each.description()) > 60, each.name


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^clip/nothing must be an option, as group/option \(known: "):
        options(["clip/nothing"])


def test_a_page_of_one_option_is_drawn(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ablate.gallery", "page", "clip/value"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "### `clip=value clip.threshold=0.01`" in (tmp_path / "page/gallery.md").read_text()
    assert (tmp_path / "page/gallery/clip.svg").read_text().count("training loss") == 1
