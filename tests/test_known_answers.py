"""The second published study: the tables of its page in the documentation have the numbers of its verdicts."""

import json
import re
from typing import Any

import pytest

from analysis.claims.finding import Finding
from analysis.page.claim_pictures import effect_in_brief
from analysis.stats.interval import Interval
from tests.tools import ROOT

PAGE = (ROOT / "docs/explanation/known_answers.md").read_text(encoding="utf-8")
VERDICTS = json.loads((ROOT / "outputs/reference/known/report/verdicts.json").read_text(encoding="utf-8"))
JUDGED = {each["id"]: each for each in VERDICTS if each["verdict"] != "not tested"}
BESIDE = {part["id"]: part for each in VERDICTS for part in each["parts"] if part["effect"] is not None}


def effect_in_words(found: dict[str, Any]) -> str:
    """'−15.8 points (−16.6 to −14.9)', or a ratio without a unit."""
    interval = found["interval"] and Interval(*found["interval"], 0.95)
    text = effect_in_brief(Finding("", "", None, effect=found["effect"], interval=interval, scale=found["scale"]))
    if interval is None:
        return f"{text} in every pair"
    return text.replace(" (", " points (", 1) if found["scale"] == "points" else text


def table_rows(columns: int) -> dict[str, list[str]]:
    """The rows of the results whose first cell is an id, and that have so many cells."""
    results = PAGE.partition("## Results")[2]
    rows = re.findall(r"^\| `([\w+]+)`.*? \| (.*) \|$", results, re.MULTILINE)
    found = {name: rest.split(" | ") for name, rest in rows}
    return {name: cells for name, cells in found.items() if len(cells) == columns - 1}


def test_every_claim_that_is_judged_has_its_row() -> None:
    rows = table_rows(6)
    assert rows.keys() == JUDGED.keys()
    for name, (_, effect, seeds, power, verdict) in rows.items():
        found = JUDGED[name]
        assert effect == effect_in_words(found), name
        assert (seeds, power) == (str(found["n"]), f"{found['power']:.2f}"), name
        assert re.fullmatch(rf"{found['verdict']}\b.*", verdict), name


def test_what_is_shown_beside_the_claims_has_its_row() -> None:
    rows = table_rows(3)
    assert rows.keys() == BESIDE.keys()
    assert {name: effect for name, (_, effect) in rows.items()} == {
        name: effect_in_words(found) for name, found in BESIDE.items()
    }


def test_the_page_says_how_many_claims_wait() -> None:
    waiting = [each["id"] for each in VERDICTS if each["verdict"] == "not tested"]
    named = re.search(r"Not judged before their planned seeds are complete: (.*?)\.\s", PAGE, re.DOTALL)
    assert (re.findall(r"`(\w+)`", named[1]) if named else []) == waiting


@pytest.mark.parametrize(("scale", "text"), [("points", "−2 points (−3 to 1)"), ("log", "× 0.135 (0.0498 to 2.72)")])
def test_effects_in_words(scale: str, text: str) -> None:
    assert effect_in_words({"effect": -2.0, "interval": [-3.0, 1.0], "scale": scale}) == text
