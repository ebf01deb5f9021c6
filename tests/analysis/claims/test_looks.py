"""Looks are logged once each and read back as written; a later look is exploratory unless it was planned."""

import json

import pytest

from analysis.claims.looks import Look, append_looks, exploratory, read_looks

FIRST = Look("paper", "A1", (0, 1, 2), "inconclusive")
ADDED = Look("paper", "A1", (0, 1, 2, 3), "supported")


def test_looks_come_back_as_written_in_order(tmp_path):
    assert read_looks(tmp_path) == ()
    append_looks(tmp_path, [FIRST])
    append_looks(tmp_path, [])
    append_looks(tmp_path, [ADDED])
    assert read_looks(tmp_path) == (FIRST, ADDED)
    entry = json.loads((tmp_path / "looks.jsonl").read_text().splitlines()[0])
    assert list(entry) == ["time", "claims", "claim", "seeds", "verdict"] and entry["time"].endswith("+00:00")


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"claims": "paper"}', "\udce9"])
def test_a_line_that_cannot_be_read_is_left_out_with_a_warning(tmp_path, line):
    append_looks(tmp_path, [FIRST])
    with (tmp_path / "looks.jsonl").open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    append_looks(tmp_path, [ADDED])
    with pytest.warns(UserWarning, match=r"looks.jsonl: line 2 is not a look and is left out"):
        assert read_looks(tmp_path) == (FIRST, ADDED)


@pytest.mark.parametrize(
    ("look", "earlier", "planned", "is_exploratory"),
    [
        (FIRST, [], [3], False),
        (FIRST, [FIRST], [3], False),  # the same look
        (ADDED, [FIRST], [3], True),
        (ADDED, [FIRST], [3, 4], False),
        (ADDED, [FIRST], [4], True),  # the first look was not planned
        (ADDED, [Look("paper", "A2", (0, 1, 2), "refuted")], [3], False),
        (ADDED, [Look("mine", "A1", (0, 1, 2), "refuted")], [3], False),
        (Look("paper", "A1", (4, 5, 6), "supported"), [FIRST, ADDED], [3], True),
    ],
)
def test_seeds_added_after_a_look_make_the_next_exploratory_unless_it_was_planned(
    look, earlier, planned, is_exploratory
):
    assert (exploratory(look, earlier, planned) is not None) == is_exploratory
