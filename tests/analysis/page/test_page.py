"""The text of the report's page: its content, no markup from names, one file of limited size."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis.claims.finding import Finding
from analysis.claims.looks import Look
from analysis.claims.reading import read_claims
from analysis.claims.verdict_rule import Verdict
from analysis.page.page import PROBLEM_KINDS, SIGNS, Page, columns, render, sortable_cells
from analysis.page.pictures import Picture, pictures
from analysis.page.provenance import differences, extent, facts, shared, varied
from analysis.page.sentences import MEANING, findings_in_words
from analysis.records.study import load
from analysis.stats.interval import Interval
from analysis.tables.formats import LeftOut, Table
from tests.analysis.runs import change, write_run
from tests.analysis.studies import PAPER

CLAIMS = read_claims(PAPER)
NASTY = """</script><script>alert(1)</script><img src=x onerror='alert(2)'> "&amp;<b>{{ 7 * 7 }}"""

POINTS = Finding(
    id="B",
    statement="accuracy rises",
    section="4.3",
    treatment={"clip": "fixed"},
    control={"clip": "none"},
    quantity="test_accuracy",
    scale="points",
    effect=1.2,
    interval=Interval(0.3, 2.1, 0.95),
    interval_simultaneous=Interval(-0.1, 2.5, 0.9955),
    p=0.012,
    p_adjusted=0.13,
    n=10,
    n_unlearned=1,
    n_missing=2,
    smallest_effect=3.0,
    verdict=Verdict.INCONCLUSIVE,
    further_seeds=7,
    command="python -m ablate -m 'seed=range(10,17)' clip=none,fixed",
    notes=("one note",),
)


def page(*findings: Finding, **changed: object) -> str:
    words = pd.DataFrame({"arm": ["none", "fixed"], "accuracy %": ["9.5 ± 0.1", "84.3 ± –"], "of": ["–", "3/3"]})
    usual = {
        "study": "mine",
        "extent": "two arms",
        "differences": "",
        "findings": findings_in_words(findings or (POINTS,), CLAIMS),
        "tables": (Table("summary", "what it shows", words, words),),
        "pictures": (),
        "facts": (),
        "varied": {},
        "shared": {},
        "left_out": (),
        "problems": pd.DataFrame(columns=["run", "kind", "problem"]),
    }
    return render(Page(**usual | changed))


class Seen(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


# --- Verdicts in words ---


def test_a_claim_in_plain_words():
    text = Seen(page()).text
    assert "1 claim: 1 is inconclusive." in text
    assert "? inconclusive B: accuracy rises (section 4.3)" in text
    assert "test accuracy is 1.2 percentage points higher than in the control (0.3 to 2.1)." in text
    assert "claimed: at least 3 percentage points higher" in text
    assert "simultaneous interval over all claims: from 0.1 lower to 2.5 higher" in text
    assert "10 paired seeds, 1 with a run that did not learn, 2 missing" in text
    assert "p 0.012, Holm over all claims 0.13" in text
    assert "clip=fixed against clip=none" in text
    asked = "About 7 more seeds are needed to detect the smallest effect of interest"
    assert f"{asked}: python -m ablate -m 'seed=range(10,17)' clip=none,fixed" in text
    assert "one note" in text


def test_a_card_without_an_effect_says_why() -> None:
    """The shares of runs that learn are no reason; they are among the numbers for experts."""
    learned = "runs that learn: clip=none 10 of 10"
    bare = replace(POINTS, effect=None, interval=None, interval_simultaneous=None, n_unlearned=0)
    for notes, said in ((("the effect cannot be computed: x", learned), True), ((learned,), False)):
        found = page(replace(bare, notes=notes))
        assert '<p class="effect">10 paired seeds, all runs learned, 2 missing.</p>' in found
        assert ('<p class="effect">the effect cannot be computed: x.</p>' in found) == said
        assert f'<p class="effect">{learned}.</p>' not in found


@pytest.mark.parametrize(
    ("id", "effect", "interval", "sentence"),
    [
        ("A2", np.log(0.5), (np.log(0.4), np.log(0.62)), "is 0.5 times as large as in the control (0.4 to 0.62)"),
        ("C.1", np.log(3), (np.log(2), np.log(4)), "the odds of the share of steps with G_MLP below 1 are 3 times"),
        ("D", np.log(1.5), (np.log(1.2), np.log(1.9)), "1.5 times as large as 1 (1.2 to 1.9)"),
        ("E", -0.0021, (-0.0022, -0.002), "0.0021 per step lower than 0 (0.002 to 0.0022)"),
        ("I", np.log(2), (np.log(0.9), np.log(5)), "variance across seeds of test accuracy is 2 times"),
        ("G.2", -0.5, (-1.5, 0.5), "lower than the factors' separate effects give (from 1.5 lower to 0.5 higher)"),
        ("B", 0.0, None, "test accuracy is equal in every pair."),
        ("B", 0.0, (-1.0, 1.0), "test accuracy is as large as in the control (from 1 lower to 1 higher)"),
        ("B", None, None, "10 paired seeds"),
    ],
)
def test_effects_are_worded_by_their_scale(id, effect, interval, sentence):
    found = replace(POINTS, id=id, effect=effect, interval=interval and Interval(*interval, 0.95))
    assert sentence in Seen(page(found)).text


def test_every_verdict_has_a_meaning_and_a_sign():
    assert set(MEANING) == set(SIGNS) == set(Verdict)
    assert len(set(SIGNS.values())) == len(Verdict)


FLOATS = st.floats(allow_nan=False)
INTERVALS = st.none() | st.tuples(FLOATS, FLOATS).map(lambda ends: Interval(min(ends), max(ends), 0.95))
FINDINGS = st.builds(
    Finding,
    id=st.sampled_from([question.id for question in CLAIMS.questions] + ["F", "other"]),
    statement=st.text(),
    section=st.none() | st.text(),
    treatment=st.none() | st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False)),
    effect=st.none() | FLOATS,
    interval=INTERVALS,
    interval_simultaneous=INTERVALS,
    p=st.none() | st.floats(0, 1),
    n=st.integers(0, 100),
    n_unlearned=st.integers(0, 3),
    smallest_effect=st.none() | FLOATS,
    further_seeds=st.none() | st.integers(0, 50),
    command=st.none() | st.text(),
    notes=st.lists(st.text(), max_size=2).map(tuple),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(FINDINGS, st.sampled_from(Verdict), st.lists(FINDINGS, max_size=2)), max_size=3))
def test_any_findings_make_a_page_that_shows_them(found):
    findings = [replace(finding, verdict=verdict, parts=tuple(parts)) for finding, verdict, parts in found]
    html = render(
        Page(
            *("mine", "arms", "", findings_in_words(tuple(findings), CLAIMS), (), (), (), {}, {}, ()),
            problems=pd.DataFrame(columns=["run", "kind", "problem"]),
        )
    )
    seen = Seen(html)
    articles = [attributes["class"] for tag, attributes in seen.tags if tag == "article"]
    assert len(articles) == len(findings)
    for finding in findings:
        assert f"{SIGNS[finding.verdict]} {finding.verdict.value}" in seen.text
    assert sum(tag == "script" for tag, _ in seen.tags) == 2
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


# --- Names stay names ---


def nasty_page() -> str:
    words = pd.DataFrame({NASTY: [NASTY], "n": ["1"]})
    finding = replace(POINTS, statement=NASTY, section=NASTY, command=NASTY, notes=(NASTY,), treatment={NASTY: NASTY})
    part = replace(finding, id=NASTY, verdict=None)
    return page(
        replace(finding, parts=(part, replace(part, verdict=Verdict.OPPOSITE))),
        study=NASTY,
        extent=NASTY,
        differences=NASTY,
        tables=(Table("summary", NASTY, words, words),),
        pictures=(Picture("one", NASTY, "data:image/png;base64,", 10, {"svg": NASTY}),),
        varied={NASTY: NASTY},
        shared={NASTY: NASTY},
        left_out=(LeftOut(NASTY, NASTY),),
        problems=pd.DataFrame([(NASTY, "partial", NASTY), (NASTY, NASTY, NASTY)], columns=["run", "kind", "problem"]),
    )


def test_markup_in_names_stays_text():
    seen = Seen(nasty_page())
    assert sum(tag == "script" for tag, _ in seen.tags) == 2
    assert [attributes.get("alt") for tag, attributes in seen.tags if tag == "img"] == [NASTY]
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
    assert "b" not in {tag for tag, _ in seen.tags}
    assert seen.text.count(" ".join(NASTY.split())) >= 20
    assert "49" not in seen.text


def test_the_policy_allows_the_one_script_and_no_request():
    html = nasty_page()
    (policy,) = [tag["content"] for name, tag in Seen(html).tags if tag.get("http-equiv") == "Content-Security-Policy"]
    script = re.search(r'<script type="module">(.*?)</script>', html, re.DOTALL)[1]
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{sha256}' blob:;" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "connect-src" not in policy and "unsafe-eval" not in policy


def test_nothing_is_fetched():
    seen = Seen(page(pictures=(Picture("one", "caption", "data:image/png;base64,", 10, {"svg": "figures/one.svg"}),)))
    sources = [tag[key] for _, tag in seen.tags for key in ("src", "href", "srcset", "action", "data") if key in tag]
    assert [source for source in sources if re.match(r"(\w+:)?//", source)] == []
    assert {source.partition(":")[0] for source in sources if ":" in source} == {"data"}
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in seen.tags}


def test_it_is_a_document_that_can_be_read_without_looking():
    seen = Seen(nasty_page())
    tags = dict(seen.tags)
    assert tags["html"]["lang"] == "en" and "viewport" in {tag.get("name") for name, tag in seen.tags if name == "meta"}
    sections = [tag["id"] for name, tag in seen.tags if name == "section"]
    assert sections == ["answer", "verdicts", "tables", "figures", "run", "missing"]
    assert sum(name == "table" for name, _ in seen.tags) == sum(name == "caption" for name, _ in seen.tags)
    assert next(tag["href"] for name, tag in seen.tags if name == "a") == "#answer"
    ids = {tag["id"] for _, tag in seen.tags if "id" in tag}
    named = {tag["aria-labelledby"] for _, tag in seen.tags if "aria-labelledby" in tag}
    inner = {tag["href"][1:] for name, tag in seen.tags if name == "a" and tag["href"].startswith("#")}
    assert named | inner <= ids


# --- Tables ---


@pytest.mark.parametrize(
    ("texts", "orders"),
    [
        (["9.5 ± 0.1", "84.3 ± –", "–"], ["9.5", "84.3", ""]),
        (["3", "2/3 (1 diverged)"], ["3", "2"]),
        (["< 0.0001", "0.031", "2e-05"], ["0.0001", "0.031", "2e-05"]),
        (["−1.5 [-2 to 1]", "-0.5", ""], ["-1.5", "-0.5", ""]),
        (["×0.98", "1.02"], ["0.98", "1.02"]),
        (["none", "3"], [None, None]),
        (["3×10⁻⁵", "1"], [None, None]),
        (["1,000", "2"], [None, None]),
        (["–", ""], ["", ""]),
        ([], []),
    ],
)
def test_numbers_sort_as_numbers(texts, orders):
    assert [cell.order for cell in sortable_cells(texts)] == orders


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_the_order_of_numbers_is_theirs(values):
    assert [float(cell.order) for cell in sortable_cells([f"{value:.6g} ± 1" for value in values])] == [
        float(f"{value:.6g}") for value in values
    ]


def test_a_table_in_the_page():
    html = page()
    assert '<td class="number" data-order="9.5">9.5 ± 0.1</td>' in html
    assert "<th scope=row>none</th>" in html
    frame = pd.DataFrame({"a": ["x"], "b": ["2"]})
    assert [column.numeric for column in columns(Table("t", "c", frame, frame))] == [False, True]
    links = [tag["href"] for name, tag in Seen(html).tags if name == "a" and not tag["href"].startswith("#")]
    assert links[:3] == ["tables/summary.csv", "tables/summary.md", "tables/summary.tex"]


def test_cells_in_bold():
    frame = pd.DataFrame({"arm": ["a", "b"], "x": ["1", "2"]})
    table = Table("t", "c", frame, frame, frozenset({(1, 1)}))
    found = columns(table)
    assert [[cell.bold for cell in column.cells] for column in found] == [[False, False], [False, True]]
    assert page(tables=(table,)).count("<strong>") == page().count("<strong>") + 1


# --- Figures ---


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """A large SVG, a small one, and their PNGs."""
    for name, size in (("large", 30_000), ("small", 1_000)):
        (tmp_path / f"{name}.svg").write_bytes(b"<svg/>".ljust(size))
        Image.new("RGBA", (400, 100), "white").save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("room", "kinds"),
    [(40_000, ["svg+xml", "svg+xml"]), (30_000, ["webp", "svg+xml"]), (0, ["webp", "webp"])],
)
def test_the_largest_figures_become_webp_where_room_is_short(figures, room, kinds):
    made = pictures(figures, {"large": "one", "small": "two"}, room)
    assert [picture.uri.partition(";")[0] for picture in made] == [f"data:image/{kind}" for kind in kinds]
    assert [picture.width for picture in made] == [192, 192]
    assert base64.b64decode(made[0].uri.partition(",")[2])[:4] in (b"<svg", b"RIFF")


def test_a_figure_in_the_page(figures):
    made = pictures(figures, {"small": "what it shows"})
    html = page(pictures=made)
    assert 'alt="what it shows"' in html and f'href="{figures.name}/small.pdf"' in html


# --- How it was run, and what is missing ---


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    environment = {
        **{"key": "e0", "device": "cpu", "cpu": {"model": "Some CPU"}, "threads": 2, "torch": "2.13.0"},
        **{"git": {"commit": "abc", "dirty": False}, "earlier": []},
    }
    timing = {"started": "2026-01-01T00:00:00Z", "seconds": 90.0}
    for seed in range(3):
        for clip in ("none", "fixed"):
            claims = {"name": "paper", "sha256": CLAIMS.sha256}
            run = f"{clip}-s{seed}"
            write_run(
                *(folder, {"clip": clip}), seed=seed, run=run, environment=environment, timing=timing, claims=claims
            )
    return folder


def lines_of(folder: Path, looks: tuple[Look, ...] = ()) -> dict[str, tuple[str, ...]]:
    return {fact.term: fact.lines for fact in facts(load(folder), CLAIMS, looks)}


def test_an_option_keeps_its_name_where_an_arm_has_the_same():
    words = pd.DataFrame({"arm": ["none"], "freeze": ["none"]})
    found = columns(Table("factorial", "", words, words), {"none": "no clipping"})
    assert [column.cells[0].text for column in found] == ["no clipping", "none"]


def test_what_names_of_arms_leave_out_is_named_once(study):
    write_run(study, settings={"optimizer": {"lr": 0.5}})
    found = differences(load(study))
    assert "The arms differ in clip, optimizer.lr." in found
    assert found.endswith("Unless its name says otherwise, an arm has adamw[lr=0.0001].")


def test_how_a_study_was_run(study):
    loaded = load(study)
    assert extent(loaded) == "2 arms on seeds 0–2: 6 finished runs of model tiny on data synthetic, 20 steps each."
    assert differences(loaded) == "The arms differ in clip."
    found = lines_of(study, (Look("paper", "B", (0, 1, 2), "supported"),))
    assert found["Runs"] == ("6 done, 0 diverged, in 2 arms",)
    assert found["Time"][0] == "9 min 00 s in total, 1 min 30 s for the median run"
    assert found["Versions"][0] == "torch 2.13.0" and found["Versions"][1] == "transformers not recorded"
    assert found["Hardware"] == ("cpu", "Some CPU", "threads: 2")
    assert found["Code"] == ("git commit abc",)
    assert found["Claims file"][0] == f"paper, sha256 {CLAIMS.sha256}" and "all runs" in found["Claims file"][1]
    assert found["Environments"] == ("the same for all runs (e0)",)
    assert found["Looks"] == ("paper, seeds 0–2: B supported",)
    assert varied(loaded) == {"clip": "fixed, none", "clip.threshold": "1"}
    assert shared(loaded)["optimizer.lr"] == "0.0001"
    assert not any(fact.flagged for fact in facts(loaded, CLAIMS, ()))


def test_facts_that_a_reader_should_notice_are_flagged(study):
    change(study / "none-s0", claims={"name": "other", "sha256": "f" * 64}, environment={"key": "e1", "earlier": []})
    earlier = {"key": "e0", "git": {"commit": "abc", "dirty": True}, "earlier": [{"key": "e7"}]}
    change(study / "none-s1", environment=earlier)
    change(study / "none-s2", status="failed", error={"message": "out of memory"})
    found = lines_of(study)
    assert found["Runs"][1] == "1 more run not counted (see What is missing)"
    assert found["Claims file"][1:] == (
        "1 of 5 runs were not started with this file:",
        f"other, sha256 {'f' * 64}: none-s0",
    )
    assert found["Environments"][0].startswith("mixed") and set(found["Environments"][1:]) == {
        "e1: 1 run",
        "e0: 4 runs",
    }
    assert found["Resumed elsewhere"][0].endswith(": none-s1")
    assert found["Code"][1] == "1 run with uncommitted changes"
    flagged = {fact.term for fact in facts(load(study), CLAIMS, ()) if fact.flagged}
    assert flagged == {"Runs", "Claims file", "Environments", "Resumed elsewhere", "Code"}


def test_what_is_missing_is_named(study):
    change(study / "none-s2", status="failed", error={"message": "out of memory"})
    (study / "stranger").mkdir()
    untested = replace(POINTS, verdict=Verdict.NOT_TESTED, effect=None)
    text = Seen(page(untested, left_out=(LeftOut("hero", "too many arms"),), problems=load(study).problems)).text
    missing = text.rpartition("What is missing")[2]
    assert f"{PROBLEM_KINDS['partial']}: 1" in missing and "out of memory" in missing
    assert f"{PROBLEM_KINDS['foreign']}: 1 stranger" in missing
    assert "hero: too many arms" in missing
    assert "B: accuracy rises python -m ablate -m" in missing
    assert "Nothing is missing: all runs count" not in missing
    assert "Nothing is missing: all runs count" in Seen(page()).text


def test_every_kind_of_problem_has_a_heading():
    assert set(re.findall(r"(\w+) \(", load.__globals__["Study"].__doc__.partition("Kinds:")[2])) == set(PROBLEM_KINDS)
