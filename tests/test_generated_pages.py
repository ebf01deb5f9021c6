"""docs/generated_pages.py: the pages of the documentation that are written when it is built."""

import doctest
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools import ROOT


@pytest.fixture
def pages() -> Any:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    spec = importlib.util.spec_from_file_location("generated_pages", ROOT / "docs/generated_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_their_examples(pages: Any) -> None:
    found = doctest.testmod(pages)
    assert found.failed == 0 and found.attempted > 0


def test_the_settings_page_has_every_key_with_its_meaning(pages: Any) -> None:
    page = "\n".join(pages.config_page())
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name in ("experiment", "claims", "roles"):
            continue
        rows = pages.settings(path.read_text())
        keys = {*yaml.safe_load(path.read_text())} - {"_target_", "defaults"}
        assert {row[0].strip("`").partition(".")[0] for row in rows} == keys, path
        explained = {row[0].strip("`") for row in rows if row[2]}  # a key, or the key that it is part of
        names = [row[0].strip("`") for row in rows]
        assert [name for name in names if not {name, name.rpartition(".")[0]} & explained] == [], path
        assert [row[0] for row in rows if list(pages.table((), [row]))[2] not in page] == [], path


def test_the_gallery_shows_only_pictures_that_are_there(pages: Any) -> None:
    with_one, without = (list(pages.gallery_page(pictures)) for pictures in ({"clip"}, set()))
    shown = [line for line in with_one if line.startswith("![")]
    assert shown == ["![What each option of clip does, by step](gallery/clip.svg)"]
    assert not any(line.startswith("![") for line in without) and "### `clip=fixed`" in without


def test_a_notebook_becomes_a_page_with_its_outputs(pages: Any, tmp_path: Path) -> None:
    from mkdocs.config.base import load_config
    from mkdocs.structure.files import get_files

    output = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": "2"}}
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "1 + 1", "outputs": [output]}
    notebook = {"cells": [cell | {"id": "a"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/first.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "mkdocs.yml").write_text("site_name: a site\nplugins: []\n")
    config = load_config(str(tmp_path / "mkdocs.yml"))
    config.plugins._current_plugin = "hook"  # as while mkdocs calls one
    files = get_files(config)
    pages.add_notebook(files, config, files.get_file_from_path("first.ipynb"))
    assert re.search(r"1 \+ 1.*\b2\b", files.get_file_from_path("first_notebook.md").content_string, re.DOTALL)
