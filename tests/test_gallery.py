"""The gallery: a page of every option, written by the tool."""

import sys
from pathlib import Path

import pytest

from ablate import gallery
from ablate.gallery import TECHNIQUE_GROUPS, by_group, options, page
from tests.tools import ROOT, ablate


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


def test_a_page_of_one_option_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few and small steps."""
    small = ("trainer.steps=12", "trainer.batch_size=4", "data.train_examples=40", "data.test_examples=10")

    def run(command: list[str], check: bool) -> None:
        assert check and command[:4] == [sys.executable, "-m", "ablate", "-m"]
        done = ablate(*command[3:], *small, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    monkeypatch.setattr(gallery.subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    gallery.main(["page", "clip/value"])
    assert "### `clip=value clip.threshold=0.01`" in (tmp_path / "page/gallery.md").read_text()
    assert (tmp_path / "page/gallery/clip.svg").read_text().count("training loss") == 1
