"""Looks are logged once each and read back as written; a later look is exploratory unless it was planned."""

import json
import math
import warnings

import pytest

from ablate.files.reading import hashed
from analysis.claims.looks import Look, append_looks, exploratory, read_looks
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
    assert list(entry) == ["time", "claims", "claim", "seeds", "verdict", "sha256"] and entry["time"].endswith("+00:00")


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
