"""Bad inputs of every kind of task: each is refused with the file, the row and the value, and what is allowed."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from ablate.data.sources import Files, load_splits
from tests.data.tables import own, refusal_of, save

TEXTS = [f"text {i}" for i in range(20)]
CLASSES = ["yes", "no"] * 10
WORDS = [["a", f"b{i}"] for i in range(20)]
TAGS = [["B-X", "O"] for _ in range(20)]
NUMBERS = [i / 2 for i in range(20)]


class Bad(NamedTuple):
    """A bad input: the kind of task, the columns of the training file, and the words of the message."""

    kind: str
    table: dict[str, list[Any]]
    expected: str
    suffix: str = "jsonl"
    settings: Mapping[str, Any] = MappingProxyType({})


def at(column: list[Any], value: Any, row: int = 3) -> list[Any]:
    """The column with another value in one row, counted from 1."""
    return [*column[: row - 1], value, *column[row:]]


def classes(label: list[Any], expected: str, suffix: str = "jsonl", text: list[Any] = TEXTS) -> Bad:
    return Bad("classification", {"text": text, "label": label}, expected, suffix)


def targets(value: Any, expected: str, suffix: str = "jsonl") -> Bad:
    return Bad("regression", {"text": TEXTS, "label": at(NUMBERS, value)}, expected, suffix)


def words(text: Any, label: Any, expected: str, suffix: str = "jsonl") -> Bad:
    return Bad("token_classification", {"text": at(WORDS, text), "label": at(TAGS, label)}, expected, suffix)


def pair(value: Any, expected: str, column: str = "text") -> Bad:
    table = {"text": TEXTS, "other": TEXTS[::-1], "label": CLASSES}
    return Bad(
        "classification", table | {column: at(table[column], value)}, expected, "jsonl", {"text": ["text", "other"]}
    )


NUMBER = "row 3: the label must be a whole number 0..k-1"
WORD = "row 3: the label must be a word like those before it"
PER_WORD = "row 3: there must be one label per word"
TARGET = "row 3: the target must be a finite number"
BAD = {
    # classes
    "word among numbers": classes(at([0, 1] * 10, "good"), f"{NUMBER} (got 'good')"),
    "number among words": classes(at(CLASSES, 1), WORD),
    "digits among words": classes(at(CLASSES, "7"), "labels are all words, or all whole numbers", "csv"),
    "boolean among numbers": classes(at([0, 1] * 10, True), f"{NUMBER} (got True)"),
    "float": classes(at([0, 1] * 10, 0.5), "(got 0.5); numbers that are no classes need task=regression"),
    "float in CSV": classes(at([0, 1] * 10, "0.5"), f"{NUMBER} (got '0.5')", "csv"),
    "secret labels": classes([-1] * 20, "row 1: the label must be a whole number 0..k-1 (got -1); -1 usually marks"),
    "empty word": classes(at(CLASSES, ""), WORD, "csv"),
    "blank word": classes(at(CLASSES, "  "), WORD),
    "missing label": classes(at(CLASSES, None), "(got None)"),
    "nan among words": classes(at(CLASSES, "nan"), WORD, "csv"),
    "list as a label": classes(at(CLASSES, ["yes"]), WORD),
    "escape in a word": classes(at(CLASSES, "y\x1b[31m"), WORD),
    "NUL in a word": classes(at(CLASSES, "y\0"), WORD),
    "text as a label": classes(["x" * 300] * 20, "at most 200 characters; is data.label the column of the texts?"),
    "gap": classes(at([0, 1] * 10, 5), "row 3: labels must be 0..k-1 without gaps (got 5, but no row has 2)"),
    "one class": classes(["yes"] * 20, "must have at least two classes (all 20 labels are yes)"),
    "a different class per text": classes(TEXTS, "row 1: the labels must be classes, but all 20 rows"),
    # targets
    "NaN": targets(float("nan"), f"{TARGET} of at most 1e+30 (got nan)"),
    "nan in CSV": targets("nan", f"{TARGET} of at most 1e+30 (got 'nan')", "csv"),
    "infinity": targets("-inf", f"{TARGET} of at most 1e+30 (got '-inf')", "csv"),
    "empty target": targets("", f"{TARGET} of at most 1e+30 (got '')", "csv"),
    "missing target": targets(None, f"{TARGET} of at most 1e+30 (got None)"),
    "decimal comma": targets("3,5", f"{TARGET} of at most 1e+30 (got '3,5'); decimals follow a point", "csv"),
    "huge target": targets(1e300, f"{TARGET} of at most 1e+30 (got 1e+300)"),
    "word as a target": targets("high", f"{TARGET} of at most 1e+30 (got 'high')"),
    "boolean as a target": targets(True, f"{TARGET} of at most 1e+30 (got True)"),
    "constant target": Bad(
        "regression", {"text": TEXTS, "label": [2.5] * 20}, "at least two different targets (all 20 labels are 2.5)"
    ),
    # words with labels
    "ragged labels": words(["a", "b", "c"], ["O", "O"], f"{PER_WORD} (got 3 words and 2 labels)"),
    "ragged labels in CSV": words("a b", "O", f"{PER_WORD} (got 2 words and 1 labels)", "csv"),
    "empty sentence": words([], [], "row 3: the words must not be an empty list (got [])"),
    "empty word of a sentence": words(["a", ""], ["O", "O"], "row 3: word 2 must not be empty (got '')"),
    "word that is no string": words(["a", 7], ["O", "O"], "row 3: word 2 must be a string (got 7)"),
    "number among word labels": words(["a", "b"], ["O", 1], WORD),
    "missing word label": words(["a", "b"], ["O", None], "(got None)"),
    "words that are no list": words(7, ["O"], "row 3: the words must be a list, or a text with spaces"),
    # pairs
    "empty first text": pair("", "row 3: the first text must not be empty (got '')"),
    "blank second text": pair("  ", "row 3: the second text must not be empty (got '  ')", "other"),
    "missing second text": pair(None, "row 3: the second text must be a string (got None)", "other"),
    # running text
    "empty text of a language model": Bad(
        "causal_lm", {"text": at(TEXTS, " ")}, "row 3: the text must not be empty (got ' ')", "jsonl", {"label": None}
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_bad_rows(tmp_path: Path, fault: str) -> None:
    bad = BAD[fault]
    path = save(tmp_path / f"train.{bad.suffix}", bad.table)
    message = refusal_of(own(path, **bad.settings), bad.kind)
    assert bad.expected in message and str(path) in message


def test_good_rows_are_accepted(tmp_path: Path) -> None:
    """The control: the tables without their bad value."""
    for kind, text, label in (
        ("classification", TEXTS, CLASSES), ("regression", TEXTS, NUMBERS), ("token_classification", WORDS, TAGS),
    ):  # fmt: skip
        assert load_splits(own(save(tmp_path / "a.jsonl", {"text": text, "label": label})), kind)


def second_lacks_a_column(folder: Path) -> Files:
    return own([good(folder), save(folder / "b.csv", {"text": TEXTS, "stars": CLASSES})])


def second_has_another_kind(folder: Path) -> Files:
    return own([good(folder), save(folder / "b.csv", {"text": TEXTS, "label": [0, 1] * 10})])


def other_kind_for_test(folder: Path) -> Files:
    return own(good(folder), save(folder / "b.csv", {"text": TEXTS, "label": [0, 1] * 10}))


def unknown_class(folder: Path) -> Files:
    return own(good(folder), save(folder / "b.csv", {"text": TEXTS, "label": at(CLASSES, "maybe")}))


def second_is_missing(folder: Path) -> Files:
    return own([good(folder), folder / "b.csv"])


def a_file_twice(folder: Path) -> Files:
    return own([good(folder), folder / ".." / folder.name / "a.csv"])


def no_files(folder: Path) -> Files:
    return own([])


def good(folder: Path) -> Path:
    return save(folder / "a.csv", {"text": TEXTS, "label": CLASSES})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (second_lacks_a_column, "b.csv must have the column 'label' (got text, stars)"),
        (second_has_another_kind, "b.csv, row 1: the label must be a word like those before it"),
        (other_kind_for_test, "b.csv, row 1: the label must occur in the training split (got 0)"),
        (unknown_class, "b.csv, row 3: the label must occur in the training split (got 'maybe')"),
        (second_is_missing, "data.files.train must be an existing file, or a folder"),
        (a_file_twice, "data.files.train must be a list that names each file once"),
        (no_files, "files.train must be the training split"),
    ],
)
def test_bad_files(tmp_path: Path, make: Callable[[Path], Files], expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        load_splits(make(tmp_path))


CONLL = "Ada B-PER\nlives O\n\nBob B-PER\nleft O\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.conll", CONLL.replace("left O", "left"), "line 5 must have 2 columns like the lines before"),
        ("a.conll", CONLL.replace("left O", "left VB O"), "line 5 must have 2 columns like the lines before it"),
        ("a.iob", "Ada\nlives\n", "line 1 must have a word and its label (got 'Ada')"),
        ("a.bio", "\n\n", "a.bio: the split must not be empty"),
        ("a.txt", CONLL, "must end with .conll or .iob or .bio if it has one word per line; rename it"),
        ("a.conll", CONLL.replace("left O", "left 3"), "row 2: the label must be a word like those before it"),
        ("a.conll", CONLL.replace("left", "l\0ft"), "line 5 must not contain a NUL character"),
    ],
)  # fmt: skip
def test_bad_conll_files(tmp_path: Path, name: str, content: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    message = refusal_of(own(path, path), "token_classification")
    assert expected in message and str(path) in message


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (
            "classification",
            {"label": None},
            "labels for task=classification (got null)",
        ),
        ("regression", {"label": None}, "data.label must be the name of the column of labels for task=regression"),
        ("token_classification", {"text": ["text", "other"]}, "data.text must name one column for task=token_class"),
        (
            "causal_lm",
            {"text": ["text", "other"]},
            "must name one column for task=causal_lm (got text, other)",
        ),
        ("causal_lm", {"cluster": "other"}, "data.cluster must be null for task=causal_lm"),
    ],
)
def test_settings_that_do_not_suit_the_task(tmp_path: Path, kind: str, settings: dict, expected: str) -> None:
    assert expected in refusal_of(own(good(tmp_path), **settings), kind)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"text": ["a", "b", "c"]}, r"text must be the name of a column, or a list of two"),
        ({"text": []}, r"text must be the name of a column, or a list of two \(got \[\]\)"),
        ({"text": ["a", "a"]}, r"text must be two different columns"),
        ({"text": ["a", "label"]}, r"text must be another column than data.label names"),
        ({"text": ["a", "b"], "cluster": "b"}, r"cluster must be null, or a further column \(got b\)"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        own(Path("a.csv"), **settings)


def test_a_conll_file_for_another_task(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(CONLL)
    assert "has one word per line, for task=token_classification (got task=classification)" in refusal_of(own(path))
    assert "data.cluster must be null for" in refusal_of(own(path, cluster="doc"), "token_classification")


def test_a_dictionary_key_twice(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", {"text": TEXTS, "label": CLASSES})
    path.write_text(path.read_text() + '{"text": "x", "label": "yes", "label": "no"}\n')
    assert "line 21 must be JSON" in refusal_of(own(path)) and json.loads(path.read_text().splitlines()[0])
