"""Small pictures of effects: where their marks are, on made-up effects and on findings."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.claims.finding import Finding
from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.page.claim_pictures import claim_pictures, claims_forest
from analysis.page.effect_pictures import Mark, effect_picture
from analysis.records.study import load
from tests.analysis.studies import MINIMAL, NOISE, write_two, written

NUMBERS = st.floats(-1e6, 1e6)
ENDS = st.none() | st.tuples(NUMBERS, NUMBERS).map(lambda ends: (min(ends), max(ends)))
MARKS = st.builds(
    Mark,
    name=st.just("a"),
    text=st.just(""),
    effect=NUMBERS,
    interval=ENDS,
    wide=ENDS,
    seeds=st.lists(NUMBERS, max_size=5).map(tuple),
    smallest=st.lists(NUMBERS, max_size=2).map(tuple),
    claimed=st.lists(st.tuples(NUMBERS, st.sampled_from([1.0, -1.0])), max_size=2).map(tuple),
)


@given(st.lists(MARKS, min_size=1, max_size=4), st.sampled_from(["points", "log"]))
def test_every_mark_is_inside_and_order_is_kept(marks, scale):
    marks = marks if scale == "points" else [replace(mark, effect=mark.effect / 1e5) for mark in marks]
    found = effect_picture(marks, scale, "x")
    assert 0 <= found.none <= 100 and all(0 <= place <= 100 for place, _ in found.ticks)
    for row in found.rows:
        spans = [span for span in (row.interval, row.wide, *row.claimed) if span]
        assert all(0 <= low <= high <= 100 for low, high in spans)
        assert all(0 <= x <= 100 and 0 <= at < 1 for x, at in row.dots) and len(row.dots) == len(row.mark.seeds)
    effects = sorted(zip((mark.effect for mark in marks), (row.effect for row in found.rows), strict=True))
    assert [place for _, place in effects] == sorted(place for _, place in effects)


def test_places_are_those_of_the_numbers():
    mark = Mark("a", "", 1.0, (0.0, 2.0), (-1.0, 3.0), claimed=((2.0, 1.0),), smallest=(2.0,))
    (row,) = effect_picture([mark], "points", "x").rows
    none = effect_picture([mark], "points", "x").none
    assert row.effect - none == pytest.approx(row.smallest[0] - row.effect, abs=0.02)
    assert row.interval == (none, row.smallest[0]) and row.claimed == ((row.smallest[0], 100.0),) and row.beyond == ()
    (less,) = effect_picture([replace(mark, claimed=((2.0, -1.0),))], "points", "x").rows
    assert less.claimed == ((0.0, row.smallest[0]),)


def test_an_interval_that_is_cut_off_is_marked_and_no_effect_is_no_picture():
    usual = [Mark("a", "", 1.0, (0.9, 1.1), (0.9, 1.1)) for _ in range(3)]
    found = effect_picture([*usual, Mark("b", "", 1.0, (-50.0, 60.0), (-50.0, 60.0))], "raw", "x")
    assert [row.beyond for row in found.rows] == [(), (), (), ("left", "right")]
    assert effect_picture([Mark("a", "", None)], "raw", "x") is None


def test_ratios_have_ticks_at_round_ratios():
    found = effect_picture([Mark("a", "", math.log(2), (math.log(0.5), math.log(8)))], "log", "x")
    assert {"0.5", "1", "5"} <= {text for _, text in found.ticks}
    assert dict((text, place) for place, text in found.ticks)["1"] == found.none


def test_the_dots_of_a_claim_are_its_paired_differences(tmp_path):
    write_two(tmp_path / "study", 0.85 + NOISE / 100, [0.8] * 10)
    claims = read_claims(written(tmp_path, MINIMAL + "    smallest_effect: 3\n    why: an example\n"))
    (finding,) = judge_claims(load(tmp_path / "study"), claims).findings
    assert sorted(finding.differences) == pytest.approx(sorted(5 + NOISE))
    (picture,) = claim_pictures(finding, claims)
    (row,) = picture.rows
    assert (
        len(row.dots) == 10 and row.claimed == ((row.smallest[0], 100.0),) and picture.label == "test accuracy, points"
    )
    both = Finding("x", "both", None, parts=(finding, replace(finding, id="two", scale="log", effect=0.1)))
    assert len(claim_pictures(both, claims)) == 2  # a picture per unit


def test_the_forest_of_claims_has_a_picture_per_unit_and_both_sides_where_a_claim_names_neither(tmp_path):
    write_two(tmp_path / "study", 0.85 + NOISE / 100, [0.8] * 10)
    text = MINIMAL + "    smallest_effect: 3\n    why: an example\n"
    claims = read_claims(written(tmp_path, text.replace("above", "either")))
    (finding,) = judge_claims(load(tmp_path / "study"), claims).findings
    ratio = replace(finding, id="two", scale="log", effect=0.1, interval=None, interval_simultaneous=None)
    untested = replace(finding, id="three", effect=None)
    points, ratios = claims_forest([finding, untested, ratio], claims)
    assert [row.mark.name for found in (points, ratios) for row in found.rows] == ["one", "two"]
    (row,) = points.rows
    assert row.mark.smallest == (-3.0, 3.0) and row.dots == ()
    assert row.claimed == ((0.0, row.smallest[0]), (row.smallest[1], 100.0))
