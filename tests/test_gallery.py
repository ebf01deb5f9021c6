"""The gallery: a page of every option, written by the tool."""

import re
import sys
from pathlib import Path

import pytest

from ablate import gallery
from ablate.gallery import TECHNIQUE_GROUPS, options, page
from tests.tools import ROOT, ablate


def test_the_page_has_every_option_of_every_technique() -> None:
    written = "\n".join(page(options()))
    files = [path for group in TECHNIQUE_GROUPS for path in (ROOT / "conf" / group).glob("*.yaml")]
    shown = re.findall(r"^### `(\w+)=(\w+)", written, re.MULTILINE)
    assert {*shown} == {(path.parent.name, path.stem) for path in files if path.stem != "none"}
    assert {*re.findall(r"\(gallery/(\w+)\.svg\)", written)} == {*TECHNIQUE_GROUPS}


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
