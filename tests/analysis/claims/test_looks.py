"""Looks are logged once each and read back as written; each spends a part of alpha."""

import json
import math
import warnings

import pytest

from ablate.files.reading import hashed
from analysis.claims.looks import Look, LookPlan, append_looks, deviations, occasion, read_looks, seeds_of
from analysis.stats.spending import alphas
from tests.tools import make_odd

FIRST = Look("paper", "A1", (0, 1, 2), "inconclusive")
ADDED = Look("paper", "A1", (0, 1, 2, 3), "supported")


def test_looks_come_back_as_written_in_order(tmp_path):
    assert read_looks(tmp_path) == ()
    append_looks(tmp_path, [FIRST])
    append_looks(tmp_path, [])
    append_looks(tmp_path, [ADDED])
    assert read_looks(tmp_path) == (FIRST, ADDED)
    entry = json.loads((tmp_path / "looks.jsonl").read_text().splitlines()[0])
    assert list(entry) == ["time", "claims", "claim", "seeds", "verdict", "claims_sha256", "kind", "sha256"] and entry[
        "time"
    ].endswith("+00:00")


FIELDS = {"claims": "paper", "claim": "A1", "seeds": [0, 1], "verdict": "supported"}


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", "3", "null", "[" * 9999, '{"claims": "paper"}', "\udce9",
        *(json.dumps(FIELDS | {"seeds": seeds}) for seeds in (None, "01", [math.inf], [10**30], [-1], [True], [[0]])),
        json.dumps(FIELDS | {"claim": ["A1"]}),
        json.dumps(hashed(FIELDS) | {"verdict": "refuted"}),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_left_out_with_a_warning(tmp_path, line):
    append_looks(tmp_path, [FIRST])
    with (tmp_path / "looks.jsonl").open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    append_looks(tmp_path, [ADDED])
    with pytest.warns(UserWarning, match=r"looks.jsonl: line 2 is not a look and is left out"):
        assert read_looks(tmp_path) == (FIRST, ADDED)


def test_lines_of_older_versions_have_no_hash(tmp_path):
    (tmp_path / "looks.jsonl").write_text(json.dumps(FIELDS) + "\n")
    assert read_looks(tmp_path) == (Look("paper", "A1", (0, 1), "supported"),)


def test_a_torn_last_line_does_not_swallow_the_next_look(tmp_path):
    append_looks(tmp_path, [FIRST])
    path = tmp_path / "looks.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    append_looks(tmp_path, [ADDED])
    with pytest.warns(UserWarning, match=r"line 1 is not a look"):
        assert read_looks(tmp_path) == (ADDED,)


def test_no_flipped_bit_changes_a_look(tmp_path):
    append_looks(tmp_path, [FIRST])
    content = (tmp_path / "looks.jsonl").read_bytes().rstrip()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        (tmp_path / "looks.jsonl").write_bytes(flipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert read_looks(tmp_path) in ((), (FIRST,)), bytes(flipped)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "huge"])
def test_a_log_of_another_kind_is_refused(tmp_path, kind):
    make_odd(tmp_path / "looks.jsonl", kind)
    with pytest.raises(ValueError, match=r"looks.jsonl must be the log of looks"):
        read_looks(tmp_path)


# --- Which look it is ---


def now(plan, seeds, earlier=(), peek=False, sha256="a"):
    return occasion(plan, "paper", "A1", sha256, tuple(range(seeds)), earlier, peek)


def look(seeds, kind="planned", sha256="a"):
    return Look("paper", "A1", tuple(range(seeds)), "inconclusive", sha256, kind)


ONE = LookPlan((10,), "obrien_fleming", 10)
THREE = LookPlan((5, 10, 20), "pocock", 5)
UNPLANNED = LookPlan((), "obrien_fleming", 3)


@pytest.mark.parametrize(
    ("plan", "seeds", "found"),  # number of the look, and its seeds
    [(ONE, 9, None), (ONE, 10, (1, 10)), (ONE, 13, (1, 10)), (THREE, 4, None), (THREE, 7, (1, 5)), (THREE, 10, (2, 10)),
     (THREE, 99, (3, 20)), (UNPLANNED, 2, None), (UNPLANNED, 7, (1, 7))],
)  # fmt: skip
def test_a_planned_look_uses_the_seeds_of_its_plan(plan, seeds, found):
    assert (lambda o: o and (o.k, o.n))(now(plan, seeds)) == found


def test_levels_of_looks():
    assert now(ONE, 10).level() == pytest.approx(0.05)
    assert now(THREE, 10).level(0.05) == alphas([5, 10, 20], "pocock")[1]
    assert now(UNPLANNED, 7).level(0.04) == 0.02
    assert now(UNPLANNED, 7, [look(4), look(5)]).level(0.04) == 0.005
    assert now(UNPLANNED, 5, [look(4), look(5)]).level(0.04) == 0.01  # the second look again
    assert now(UNPLANNED, 4, [look(4, sha256="b")]).level(0.04) == 0.01  # another file is another look


def test_each_peek_halves_what_is_left():
    assert now(ONE, 4) is None
    first = now(ONE, 4, peek=True)
    assert (first.kind, first.k, first.level()) == ("peek", 1, 0.025)
    second = now(ONE, 6, [look(4, "peek")], peek=True)
    assert second.level() == 0.0125
    assert now(ONE, 10, [look(4, "peek"), look(6, "peek")]).level() == 0.0125
    assert now(ONE, 1, peek=True) is None


def test_all_looks_together_spend_at_most_alpha():
    spent, earlier = 0.0, []
    for n in range(3, 40):
        found = now(UNPLANNED, n, earlier)
        spent, earlier = spent + found.level(), [*earlier, look(n)]
    assert spent < 0.05
    peeks = [look(n, "peek") for n in range(2, 9)]
    levels = [now(ONE, n, peeks[:i], peek=True).level() for i, n in enumerate(range(2, 9))]
    assert sum(levels) + now(ONE, 10, peeks).level() == pytest.approx(0.05)


def test_seeds_of_an_earlier_look_come_first():
    plan = LookPlan((3, 5), "equal", 3)
    earlier = [Look("paper", "A1", (4, 5, 9), "inconclusive", "a")]
    found = occasion(plan, "paper", "A1", "a", range(12), earlier, False)
    assert seeds_of(found, range(12), "paper", "A1", earlier) == {4, 5, 9, 0, 1}
    assert seeds_of(found, range(12), "paper", "A1", []) == {0, 1, 2, 3, 4}


def test_deviations_are_told_per_claim():
    assert deviations([look(10)]) == []
    others = [Look("paper", "B", (0, 1, 2), "", "b", "exploratory")]
    assert deviations([look(4, "peek"), look(10), look(10, sha256="b"), *others]) == [
        "judged under more than one version of the claims file: claim A1",
        "effects were shown with 4 seeds, before the plan: claim A1",
        "explored with 3 seeds, beyond the plan: claim B",
    ]
    assert deviations([Look("p", "C", (0, 1), ""), Look("p", "C", (1, 2, 3), "")]) == [
        "a later look left out seeds of an earlier one: claim C"
    ]
