"""Data sets: reading, checking, splitting, tokens, batches. The tests make files, and use real ones if present."""

import gzip
import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ablate.data import synthetic
from ablate.data.batches import Examples, collate, planned_order
from ablate.data.corpus import Corpus, warn_about_texts
from ablate.data.labels import check_splits
from ablate.data.sources import CUT, Data, Files, Hub, MovieSnippets, Synthetic, cut_groups, load_splits
from ablate.data.texts import Texts, overlap, sample, stratified_order, whole_groups
from ablate.data.tokens import tokenise
from ablate.experiment import build_option
from ablate.files.assets import ASSETS, fetch
from ablate.model.word_tokenizer import word_tokenizer
from tests.tools import make_odd

ROOT = Path(__file__).parents[2]
SHARED = Path(__file__).parents[3] / "shared" / "data"
ALL = {"max_length": 16, "train_examples": None, "test_examples": None}
COLUMNS = {"text": "text", "label": "label"}
GOOD = [(f"review {i}", i % 2) for i in range(40)]


def write(path: Path, rows=GOOD) -> Path:
    """Write rows as a file, in the format of its suffix."""
    text, label = [row[0] for row in rows], [row[1] for row in rows]
    match path.suffix:
        case ".csv":
            path.write_text("text,label\n" + "".join(f'"{t}",{y}\n' for t, y in rows), encoding="utf-8")
        case ".tsv":
            path.write_text("text\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in rows), encoding="utf-8")
        case ".jsonl":
            path.write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps([{"text": t, "label": y} for t, y in rows]), encoding="utf-8")
        case ".parquet":
            pq.write_table(pa.table({"text": text, "label": label}), path)
    return path


def files(train: Path, test: Path | None = None, **settings) -> Files:
    paths = {"train": str(train), "validation": None, "test": test and str(test)}
    return Files(**{**ALL, **COLUMNS, "files": paths, **settings})


def rows_of(texts: Texts) -> list[tuple[str, int]]:
    return list(zip(texts.text, texts.label, strict=True))


def refused(source: Data) -> str:
    with pytest.raises(ValueError) as error:
        load_splits(source)
    return str(error.value)


# --- formats ---


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_formats_read_the_same(tmp_path, suffix):
    tricky = [
        ("NA", 0),
        ("None", 1),
        ("null", 0),
        ("nan", 1),
        ("12", 0),
        ("2020-01-01", 1),
        ("éß 影 😀", 0),
        (" x ", 1),
    ]
    splits = load_splits(
        files(write(tmp_path / f"train.{suffix}", tricky * 3), write(tmp_path / f"test.{suffix}", tricky))
    )
    assert rows_of(splits["test"]) == tricky
    assert Counter(rows_of(splits["train"]) + rows_of(splits["validation"])) == Counter(tricky * 3)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_compressed_and_with_a_byte_order_mark(tmp_path, suffix):
    plain = write(tmp_path / f"plain.{suffix}")
    marked, packed = tmp_path / f"marked.{suffix}", tmp_path / f"packed.{suffix}.gz"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert (
        rows_of(load_splits(files(plain, marked))["test"]) == rows_of(load_splits(files(plain, packed))["test"]) == GOOD
    )


def test_csv_quotes_line_ends_and_other_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,stars,said\r\n1,0,"dull, very\r\n""dull"""\r\n\r\n2, 1 ,fine\r\n')
    texts = files(path, text="said", label="stars").read()["train"]
    assert rows_of(texts) == [('dull, very\r\n"dull"', 0), ("fine", 1)]


def test_name_with_wildcards(tmp_path):
    assert rows_of(load_splits(files(write(tmp_path / "a [1]*.parquet")))["train"])


# --- broken files: file, row and value ---

BROKEN_ROWS = {
    "missing text": ((None, 1), "row 3", "None"),
    "empty text": (("", 1), "row 3", "''"),
    "blank text": (("  ", 1), "row 3", "'  '"),
    "missing label": (("x", None), "row 3", "None"),
    "float label": (("x", 0.5), "row 3", "0.5"),
    "nan label": (("x", float("nan")), "row 3", "nan"),
    "negative label": (("x", -1), "row 3", "-1"),
    "gap in labels": (("x", 3), "row 3", "(got 3, but no row has 2)"),
    "NUL": (("a\0b", 1), "row 3", r"'a\x00b'"),
    "too long": (("x" * 10_000_000, 1), "row 3", "at most 1,000,000 characters, not 10,000,000"),
}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("fault", BROKEN_ROWS)
def test_broken_row(tmp_path, suffix, fault):
    row, where, value = BROKEN_ROWS[fault]
    path = write(tmp_path / f"train.{suffix}", [*GOOD[:2], row, *GOOD[3:]])
    message = refused(files(path))
    assert str(path) in message and where in message and value in message


def test_words_for_labels(tmp_path):
    for suffix in ("csv", "jsonl", "parquet"):
        path = write(tmp_path / f"train.{suffix}", [("a", "0"), ("b", "good"), ("c", "1")])
        message = refused(files(path))
        assert f"{path}, row 2: the label must be a whole number 0..k-1 (got 'good')" in message


BROKEN_BYTES = {
    "not UTF-8": (b"text,label\nok,0\nb\xe9d,1\n", "line 3 must be UTF-8 (byte 2 is 0xe9)"),
    "UTF-16": ("text,label\nok,0\n".encode("utf-16"), "line 1 must be UTF-8 (byte 1 is 0xff)"),
    "NUL": (b"text,label\nok,0\nb\0d,1\n", r"line 3 must not contain a NUL character (got 'b\x00d,1\n')"),
    "10 MB line": (b"text,label\nok,0\n" + b"x" * 10_000_000 + b",1\n", "line 3: field larger than"),
    "open quote": (b'text,label\nok,0\n"bad,1\nok,1\n', "Is a quote not closed?"),
    "surplus fields": (b"text,label\ngood, really,1\nbad, x,0\n", "line 2 must have 2 fields like the header (got 3)"),
    "too few fields": (b"text,label\nok,0\nbad\n", "line 3 must have 2 fields like the header (got 1)"),
    "missing label": (b"text,label\nok,0\nbad,\n", "row 2: the label must be a whole number 0..k-1 (got '')"),
    "endless label": (
        b"text,label\nok,0\nbad," + b"9" * 5000 + b"\n",
        "row 2: the label must be a whole number 0..k-1",
    ),
    "float label": (b"text,label\nok,0\nbad,1.0\n", "row 2: the label must be a whole number 0..k-1 (got '1.0')"),
    "missing text": (b"text,label\nok,0\n,1\n", "row 2: the text must not be empty (got '')"),
    "no such column": (b"review,label\nok,0\n", "must have the column 'text' (got review, label)"),
    "nothing": (b"", "must have the column 'text' (got none)"),
    "header only": (b"text,label\n", "no rows"),
    "one class": (b"text,label\na,1\nb,1\n", "all 2 labels are 1"),
}


@pytest.mark.parametrize("fault", BROKEN_BYTES)
def test_broken_csv(tmp_path, fault):
    content, expected = BROKEN_BYTES[fault]
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    message = refused(files(path))
    assert str(path) in message and expected in message and len(message) < 1000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"text": "a", "label": 0}\n{"text": "b", "label": \n', "line 2 must be JSON"),
        (b'{"text": "a", "label": 0}\n{"text": "b"}\n', "line 2"),
        (b'{"text": "a", "label": 0}\n[1]\n', "line 2"),
        (b'{"text": "a", "label": 0}\n{"text": "\xe9", "label": 1}\n', "line 2 must be UTF-8 (byte 11 is 0xe9)"),
        (
            b'{"text": "a", "label": 0}\n{"text": "\\ud800", "label": 1}\n',
            "row 2: the text must not contain half a surrogate pair, which is no character (got '\\ud800')",
        ),
        (b'{"text": "a", "label": 0}\n{"text": 7, "label": 1}\n', "row 2: the text must be a string (got 7)"),
    ],
)
def test_broken_json_lines(tmp_path, content, expected):
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    message = refused(files(path))
    assert str(path) in message and expected in message


def test_broken_parquet(tmp_path):
    path = tmp_path / "train.parquet"
    raw = pa.array([b"ok", b"b\xe9d"], pa.binary())
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers()), "label": [0, 1]}), path)
    message = refused(files(path))
    assert f"{path}, row 2: b'b\\xe9d'" in message
    path.write_bytes(write(tmp_path / "whole.parquet").read_bytes()[:-20])
    assert f"{path} cannot be read: " in refused(files(path))


def test_other_columns_of_parquet(tmp_path):
    path = write(tmp_path / "train.parquet")
    assert f"{path} must have the column 'review' (got text, label)" in refused(files(path, text="review"))


def test_classes_of_test_are_those_of_train(tmp_path):
    test = write(tmp_path / "test.csv", [("a", 0), ("b", 1), ("c", 2)])
    assert f"{test}, row 3: the label must occur in the training split (got 2)" in refused(
        files(write(tmp_path / "train.csv"), test)
    )
    test = write(tmp_path / "test.csv", [("a", 0), ("b", 0)])
    assert "all 2 labels are 0" in refused(files(write(tmp_path / "train.csv"), test))


# --- splits ---

corpora = st.lists(st.tuples(st.text("abcd", min_size=1, max_size=6), st.integers(0, 2)), min_size=1, max_size=60)


@given(corpora)
def test_every_head_of_the_order_is_stratified(rows):
    texts = Texts([t for t, _ in rows], [y for _, y in rows], "")
    order = stratified_order(texts, "salt")
    assert sorted(order) == list(range(len(rows)))
    shares = {label: count / len(rows) for label, count in Counter(texts.label).items()}
    for n in range(len(rows) + 1):
        taken = Counter(texts.label[i] for i in order[:n])
        assert all(abs(taken[label] - n * share) <= 1 for label, share in shares.items())


@given(corpora, st.randoms(use_true_random=False))
def test_choice_does_not_depend_on_the_files_order(rows, random):
    shuffled = random.sample(rows, len(rows))
    chosen = [
        [rows[i] for i in stratified_order(Texts([t for t, _ in rows], [y for _, y in rows], ""), "salt")]
        for rows in (sorted(rows), shuffled)
    ]
    assert chosen[0] == chosen[1]


def test_choice_is_fixed():
    texts = Texts([f"review {i}" for i in range(10)], [i % 2 for i in range(10)], "")
    assert stratified_order(texts, "test") == [0, 5, 8, 1, 4, 3, 6, 9, 2, 7]
    assert stratified_order(texts, "other") != stratified_order(texts, "test")


def test_splits_cut_from_a_file_sorted_by_class(tmp_path):
    rows = sorted(((f"review {i}", int(i % 10 < 3)) for i in range(1000)), key=lambda row: row[1])
    splits = load_splits(files(write(tmp_path / "a.parquet", rows)))
    assert {split: len(texts.text) for split, texts in splits.items()} == {"train": 810, "validation": 90, "test": 100}
    assert [sum(splits[split].label) for split in ("train", "validation", "test")] == [243, 27, 30]
    assert Counter(row for texts in splits.values() for row in rows_of(texts)) == Counter(rows)


def test_cut_has_a_limit(tmp_path):
    splits = load_splits(files(write(tmp_path / "a.parquet", [(f"review {i}", i % 2) for i in range(30_000)])))
    assert [len(splits[split].text) for split in CUT] == list(CUT.values())


@pytest.mark.parametrize("rare", [3, 5, 12])
def test_rare_class_is_in_each_cut_split(tmp_path, rare):
    rows = [(f"review {i}", int(i >= 200 - rare)) for i in range(200)]
    splits = load_splits(files(write(tmp_path / "a.csv", rows)))
    assert {split: len(texts.text) for split, texts in splits.items()} == {"train": 162, "validation": 18, "test": 20}
    assert all(set(texts.label) == {0, 1} for texts in splits.values())
    assert Counter(row for texts in splits.values() for row in rows_of(texts)) == Counter(rows)


def test_rare_class_is_in_each_sample(tmp_path):
    rows = [(f"review {i}", int(i >= 196) + int(i >= 198)) for i in range(200)]
    path, test = write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", rows)
    splits = load_splits(files(path, test, train_examples=10, test_examples=10))
    assert [len(splits[split].text) for split in ("train", "test")] == [10, 10]
    assert all(set(splits[split].label) == {0, 1, 2} for split in ("train", "test"))


def test_class_too_rare_to_be_cut(tmp_path, caplog):
    """One text of a class belongs to train, and we warn; with two classes, the remedy is given."""
    rows = [(f"review {i}", min(i, 199) % 2 if i < 199 else 2) for i in range(200)]
    source = files(write(tmp_path / "a.csv", rows))
    splits = load_splits(source)
    assert [2 in splits[split].label for split in ("train", "validation", "test")] == [True, False, False]
    tokenizer = word_tokenizer(splits["train"].text, vocabulary=50, max_length=16)
    examples = {split: tokenise(texts, tokenizer, 16) for split, texts in splits.items()}
    warn_about_texts(Corpus(**examples, tokenizer=None, overlap=0), source)
    assert "the test split has no example of class 2" in caplog.text
    message = refused(files(write(tmp_path / "b.csv", [(f"review {i}", int(i == 7)) for i in range(200)])))
    assert "must have at least two classes" in message and "data.files" in message
    message = refused(files(write(tmp_path / "c.csv", rows), write(tmp_path / "d.csv", rows), train_examples=2))
    assert "use more examples (data.train_examples" in message


def test_own_splits_stay_as_they_are(tmp_path):
    paths = {s: str(write(tmp_path / f"{s}.csv", [(f"{s} {t}", y) for t, y in GOOD])) for s in ("validation", "test")}
    splits = load_splits(Files(**ALL, **COLUMNS, files={"train": str(write(tmp_path / "train.csv")), **paths}))
    assert rows_of(splits["train"]) == GOOD
    assert splits["validation"].text[0] == "validation review 0"
    assert list(splits) == ["train", "validation", "test"]


def test_samples_are_stratified_and_nested(tmp_path):
    path, test = write(tmp_path / "a.csv"), write(tmp_path / "b.csv", [(f"test {t}", y) for t, y in GOOD])
    small, large = (load_splits(files(path, test, train_examples=n, test_examples=n))["train"] for n in (10, 20))
    assert small.text == large.text[:10] and sum(small.label) == 5
    assert len(load_splits(files(path, test, test_examples=6))["test"].text) == 6
    message = refused(files(path, test, train_examples=37))
    assert "data.train_examples must be at most 36, the number of texts (got 37)" in message
    with pytest.raises(ValueError, match="at most 2, the number of texts"):
        sample(Texts(["a", "b"], [0, 1], ""), "test_examples", 3)


def test_good_splits_are_accepted():
    splits = {"train": Texts(["a", "b", "c"], [2, 0, 1], ""), "test": Texts(["a", "b"], [0, 2], "")}
    check_splits(splits, "classification")


# --- options ---


def test_every_option_file_builds():
    options = sorted((ROOT / "conf" / "data").glob("*.yaml"))
    names = [
        "amazon_snippets",
        "editorial_snippets",
        "files",
        "imdb",
        "movie_snippets",
        "rotten_tomatoes",
        "sst2",
        "synthetic",
        "tweets",
    ]
    assert [path.stem for path in options] == names
    for path in options:
        config = OmegaConf.load(path)
        if path.stem == "files":
            config.files.train = config.files.test = "some.csv"
        settings = {"data": OmegaConf.to_container(config, throw_on_missing=True), "allow_targets": []}
        assert isinstance(build_option("data", settings), Data)
        keys = [line for line in path.read_text().splitlines() if line[0] not in "# _"]
        assert all("#" in line for line in keys), "a key without a comment"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 2}, "max_length must be"),
        ({"train_examples": 1}, "train_examples must be"),
        ({"test_examples": 0}, "test_examples must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_ranges(settings, message):
    with pytest.raises(ValueError, match=message):
        Synthetic(**{**ALL, "seed": 0, **settings})


def test_names_of_splits():
    with pytest.raises(ValueError, match=r"files\.train must be the training split"):
        Files(**ALL, **COLUMNS, files={"train": None, "test": "a.csv"})
    with pytest.raises(ValueError, match=r"files\.dev is no split \(got a.csv\); allowed: train, validation, test"):
        Files(**ALL, **COLUMNS, files={"train": "a.csv", "dev": "a.csv"})


def hub(path, name=None, revision="abc", **splits) -> Hub:
    splits = splits or {"train": "train", "validation": None, "test": "test"}
    return Hub(**ALL, **COLUMNS, path=str(path), name=name, revision=revision, splits=splits)


@pytest.mark.parametrize("source", [files, hub], ids=["files", "hub"])
def test_text_and_label_are_two_columns(source):
    with pytest.raises(ValueError, match=r"text must be another column than data.label names \(got label\)"):
        replace(source("owner/name"), text="label")


def test_identity_is_of_the_content(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        write(folder / "train.csv")
        write(folder / "test.csv")
    assert hub(one).identity() == hub(two).identity()
    assert files(one / "train.csv").identity() == files(two / "train.csv").identity()
    before = hub(two).identity(), files(two / "train.csv").identity()
    write(two / "train.csv", [(t, 1 - y if t == "review 7" else y) for t, y in GOOD])  # one label edited
    assert hub(two).identity() != before[0] and files(two / "train.csv").identity() != before[1]
    assert hub(one / "train.csv").identity()["sha256"] == files(one / "train.csv").identity()["sha256"]["train"]


def test_identity_without_files():
    assert hub("owner/name").identity() == {"path": "owner/name", "name": None, "revision": "abc"}
    assert MovieSnippets(**ALL).identity() == {"sha256": ASSETS["movie_snippets"].sha256}
    assert Synthetic(**ALL, seed=3).identity() == {"version": synthetic.VERSION, "seed": 3}


def test_missing_paths(tmp_path):
    with pytest.raises(ValueError, match=r"data\.files\.train must be an existing file, .* \(got .*gone\.csv\)"):
        files(tmp_path / "gone.csv").identity()
    for path in (tmp_path / "gone", "./gone/here", "gone"):
        with pytest.raises(ValueError, match=r"data\.path must be an existing file or folder.*got .*gone.*"):
            hub(path).identity()


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_data_file_is_refused_at_once(tmp_path, kind):
    make_odd(tmp_path / "odd.csv", kind)
    with pytest.raises(ValueError, match=r"data\.files\.train must be an existing file, .* \(got .*odd\.csv\)"):
        files(tmp_path / "odd.csv").identity()
    if kind != "folder":
        with pytest.raises(ValueError, match=r"data\.path must be an existing file or folder.*\(got .*odd\.csv\)"):
            hub(tmp_path / "odd.csv").identity()


def test_hub_out_of_reach(tmp_path):
    """In a separate process, because the hub's settings are read on import."""
    code = f"from ablate.data import Hub; {hub('nobody/nothing')!r}.read()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    assert "ValueError: data.path must be a local file or folder, or a repository" in done.stderr
    assert "data.path=<path>" in done.stderr


def test_hub_repository(tmp_path, monkeypatch):
    """As in the hub's cache: links to files without a suffix, and splits defined in the README."""
    for number, split in enumerate(("train", "test", "unsupervised")):
        write(tmp_path / f"{split}.parquet", [(f"{split} {t}", y) for t, y in GOOD]).rename(tmp_path / str(number))
        folder = tmp_path / "snapshot" / "plain_text"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}-00000-of-00001.parquet").symlink_to(tmp_path / str(number))
    named = "".join(f"  - split: {s}\n    path: plain_text/{s}-*\n" for s in ("train", "test", "unsupervised"))
    readme = f"---\nconfigs:\n- config_name: plain_text\n  data_files:\n{named}  default: true\n---\n"
    (tmp_path / "snapshot" / "README.md").write_text(readme)
    asked = {}
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: None)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda path, **how: asked.update(how, path=path) or str(tmp_path / "snapshot"),
    )
    splits = load_splits(hub("owner/name"))
    assert rows_of(splits["test"]) == [(f"test {t}", y) for t, y in GOOD]
    assert (asked["path"], asked["repo_type"], asked["revision"]) == ("owner/name", "dataset", "abc")
    assert "data.splits.test must be a split of owner/name (train, test, unsupervised)" in refused(
        hub("owner/name", train="train", test="dev")
    )


def test_local_folders_and_files(tmp_path):
    for suffix in ("csv", "jsonl", "parquet"):
        folder = tmp_path / suffix
        folder.mkdir()
        write(folder / f"train.{suffix}")
        write(folder / f"test.{suffix}", [(f"test {t}", y) for t, y in GOOD])
        assert rows_of(load_splits(hub(folder))["test"]) == [(f"test {t}", y) for t, y in GOOD]
    assert "or null, which cuts it from train" in refused(hub(tmp_path / "csv" / "train.csv"))
    splits = load_splits(hub(tmp_path / "csv" / "train.csv", train="train", validation=None, test=None))
    assert [len(texts.text) for texts in splits.values()] == [33, 3, 4]


@pytest.mark.parametrize("place", ["../outside.csv", "train/../../outside.csv", ".hidden/a.csv", "linked/a.csv"])
def test_a_readme_names_no_file_that_the_hash_leaves_out(tmp_path, place):
    """Such a file could change, and with it the labels of a run with the same id."""
    folder = tmp_path / "data"
    for name in ("train", ".hidden", "../elsewhere"):
        (folder / name).mkdir(parents=True)
    (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for name in ("../outside", "../elsewhere/a", ".hidden/a", "train/a", "test"):
        write(folder / f"{name}.csv")
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {}\n  - split: test\n"
    card += "    path: test.csv\n---\n"
    (folder / "README.md").write_text(card.format("train/a.csv"))
    assert rows_of(load_splits(hub(folder))["test"]) == GOOD
    (folder / "README.md").write_text(card.format(place))
    message = refused(hub(folder))
    assert "data.path must be a folder whose README and names lead to files inside it alone" in message
    assert f"whose split train has {folder / place}" in message


def test_a_readme_that_needs_a_connection(tmp_path, monkeypatch):
    def raise_other(*_):
        raise RuntimeError("Name or service not known")

    monkeypatch.setattr("datasets.load_dataset_builder", raise_other)
    assert refused(hub(tmp_path)) == f"data.path={tmp_path}: Name or service not known"


# --- the data sets themselves ---


@pytest.mark.parametrize(
    ("rows", "there"), [("train[4:10]", GOOD[4:10]), ("train[:10]", GOOD[:10]), ("train[30:]", GOOD[30:])]
)
def test_rows_of_a_split(tmp_path, rows, there):
    """From the first row to the last, which is not included, as in `datasets`."""
    write(tmp_path / "train.csv")
    splits = {"train": rows, "validation": "train[10:20]", "test": "train[20:30]"}
    source = Hub(**ALL, **COLUMNS, path=str(tmp_path), name=None, revision=None, splits=splits)
    assert rows_of(source.read()["train"]) == there
    assert rows_of(load_splits(source)["test"]) == GOOD[20:30]


def test_synthetic():
    splits = load_splits(Synthetic(**ALL, seed=0))
    assert {split: len(texts.text) for split, texts in splits.items()} == synthetic.SPLIT_SIZES
    assert all(sum(texts.label) * 2 == len(texts.label) for texts in splits.values())
    everything = [text for texts in splits.values() for text in texts.text]
    assert len(set(everything)) == len(everything)
    assert overlap(splits["train"].text, splits["test"].text) == 0
    assert load_splits(Synthetic(**ALL, seed=1))["train"].text != splits["train"].text


def test_synthetic_is_fixed():
    """If this fails, the data set has changed: raise synthetic.VERSION."""
    assert synthetic.VERSION == 1
    splits = synthetic.generate(0)
    assert hashlib.sha256(json.dumps(splits).encode()).hexdigest()[:16] == "80a4443a85b7d3ed"
    assert splits["train"][:3] == [
        ("The romance disappoints.", 0),
        ("This drama is rather warm, and this story is often inventive.", 1),
        ("The humor is remarkably stale.", 0),
    ]


def test_synthetic_labels_follow_the_main_clause():
    for text, label in synthetic.generate(0)["test"]:
        plain = text.lower().rstrip(".")
        main = plain.split(", ")[1] if plain.startswith("although") or ", but" in plain else plain.split(",")[0]
        words = main.split()
        positive = any(word in synthetic.ADJECTIVES[1] for word in words) or any(
            main.endswith(verb) for verb in synthetic.VERBS[1]
        )
        assert label == positive ^ any(word in synthetic.NEGATIONS for word in words), text


@pytest.mark.network
def test_movie_snippets(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path))
    splits = load_splits(MovieSnippets(**ALL))
    assert {split: len(texts.text) for split, texts in splits.items()} == {
        "train": 8066, "validation": 500, "test": 2000,
    }  # fmt: skip
    assert [sum(splits[split].label) for split in ("train", "validation", "test")] == [4001, 248, 992]
    assert overlap(splits["train"].text, splits["test"].text) == 0
    assert splits["test"].text[1].startswith("If you like blood, guts and crazy beasts")
    assert not any(text != text.strip() for texts in splits.values() for text in texts.text)
    if SHARED.exists():  # the two data sets share a source, so they must overlap
        rotten = load_splits(hub(SHARED / "rotten_tomatoes"))
        assert overlap(splits["train"].text, rotten["test"].text) > 700
    from transformers import AutoTokenizer

    examples = tokenise(splits["test"], AutoTokenizer.from_pretrained(fetch(ASSETS["minilm"])), max_length=32)
    assert max(map(len, examples.input_ids)) == 32 and 400 < examples.truncated < 800


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_rotten_tomatoes():
    splits = load_splits(hub(SHARED / "rotten_tomatoes", train="train", validation="validation", test="test"))
    assert [len(texts.text) for texts in splits.values()] == [8530, 1066, 1066]


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_imdb():
    splits = load_splits(hub(SHARED / "imdb"))
    assert [(len(texts.text), sum(texts.label)) for texts in splits.values()] == [
        (24500, 12250), (500, 250), (25000, 12500),
    ]  # fmt: skip
    assert overlap(splits["train"].text, splits["test"].text) == 121


# --- tokens and batches ---


def test_texts_are_tokenised_in_parts(monkeypatch):
    texts = Texts([f"{'a b c ' * (i % 4)}d" for i in range(25)], [0] * 25, "")
    tokenizer = word_tokenizer(texts.text, vocabulary=10, max_length=64)
    whole = tokenise(texts, tokenizer, max_length=6)
    monkeypatch.setattr("ablate.data.tokens.TOGETHER", 10)
    parts = tokenise(texts, tokenizer, max_length=6)
    assert [row.tolist() for row in parts.input_ids] == [row.tolist() for row in whole.input_ids]
    assert parts.truncated == whole.truncated > 0


def test_tokens_are_cut_and_counted():
    texts = Texts(["a b c", "a b c d", "a", "b " * 50], [0, 1, 0, 1], "")
    tokenizer = word_tokenizer(texts.text, vocabulary=10, max_length=64)
    examples = tokenise(texts, tokenizer, max_length=5)
    assert examples.truncated == 2  # of 6 and 52 tokens, [CLS] and [SEP] included
    assert examples.input_ids[0].tolist() == tokenizer("a b c")["input_ids"]
    assert [len(ids) for ids in examples.input_ids] == [5, 5, 3, 5]
    assert all(ids[-1] == tokenizer.sep_token_id for ids in examples.input_ids)
    assert examples.label == texts.label


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=8), st.data())
def test_batches_are_padded_to_their_own_longest(rows, data):
    examples = Examples(rows, [i % 2 for i in range(len(rows))], 0)
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    batch = collate(examples, index, pad_id=0)
    longest = max(len(rows[i]) for i in index)
    assert batch.input_ids.shape == batch.attention_mask.shape == (len(index), longest)
    assert {batch.input_ids.dtype, batch.attention_mask.dtype, batch.labels.dtype} == {torch.int64}
    assert [ids[: mask.sum()].tolist() for ids, mask in zip(*batch_rows(batch), strict=True)] == [
        rows[i] for i in index
    ]
    assert torch.equal(batch.attention_mask, (batch.input_ids != 0).long())  # no token here is 0
    assert batch.labels.tolist() == [i % 2 for i in index]
    assert torch.equal(batch.to("cpu").input_ids, batch.input_ids)


def batch_rows(batch):
    return batch.input_ids, batch.attention_mask


@given(st.integers(1, 20), st.integers(1, 60), st.integers(0, 2**63 - 1))
def test_order_is_of_whole_epochs(examples, count, seed):
    order = planned_order(examples, count, seed)
    assert order.dtype == torch.int64 and len(order) == count
    for start in range(0, count - examples + 1, examples):
        assert sorted(order[start : start + examples].tolist()) == list(range(examples))
    assert torch.equal(order, planned_order(examples, count + 7, seed)[:count])


def test_order_draws_on_its_own_stream():
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    one = planned_order(50, 200, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one, planned_order(50, 200, seed=1))
    assert not torch.equal(one, planned_order(50, 200, seed=2))
    assert not torch.equal(one[:50], one[50:100])


# --- groups of texts ---


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_each_text_keeps_its_group(tmp_path, suffix):
    """Through the cut of the splits, the sample and the tokens; the control is the order, which the cut changes."""
    table = pd.DataFrame({"text": [t for t, _ in GOOD], "label": [y for _, y in GOOD]})
    table["group"] = [f"document {i // 4}" for i in range(len(GOOD))]
    path = tmp_path / f"train.{suffix}"
    match suffix:
        case "csv" | "tsv":
            table.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
        case "jsonl" | "json":
            table.to_json(path, orient="records", lines=suffix == "jsonl")
        case "parquet":
            table.to_parquet(path)
    splits = load_splits(files(path, cluster="group", train_examples=20))
    group = dict(zip(table["text"], table["group"], strict=True))
    for texts in splits.values():
        assert texts.cluster == [group[text] for text in texts.text]
    assert splits["train"].cluster != sorted(splits["train"].cluster)
    groups = [{*texts.cluster} for texts in splits.values()]
    assert not any(groups[i] & groups[j] for i, j in ((0, 1), (0, 2), (1, 2)))  # groups are whole
    assert [len({*texts.label}) for texts in splits.values()] == [2, 2, 2]
    examples = tokenise(splits["train"], word_tokenizer(splits["train"].text, 100, 16), 16)
    names = list(dict.fromkeys(splits["train"].cluster))
    assert [names[number] for number in examples.cluster] == splits["train"].cluster
    assert load_splits(files(path))["train"].cluster in ((), [])


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_takes_whole_groups_that_fit(seed):
    """At most the size, each class where a group of it fits, and one text of each class for the others."""
    draw = random.Random(seed)
    sizes = [draw.choice((1, 2, 3, 8, 60)) for _ in range(60)]
    cluster = [i for i, size in enumerate(sizes) for _ in range(size)]
    label = [int(draw.random() < 0.1) for _ in cluster]
    texts = Texts([f"text {i}" for i in range(len(cluster))], label, "here", cluster)
    chosen = whole_groups(texts, "test", len(cluster) // 10)
    assert 0.8 * (len(cluster) // 10) <= len(chosen) <= len(cluster) // 10
    rest = {*range(len(cluster))} - chosen
    assert not {cluster[i] for i in chosen} & {cluster[i] for i in rest}
    assert {label[i] for i in chosen} == {label[i] for i in rest} == {0, 1}
    assert chosen == whole_groups(texts, "test", len(cluster) // 10) != whole_groups(texts, "other", len(cluster) // 10)


def test_groups_that_are_cut_whole_make_another_run(tmp_path):
    """Earlier versions cut through groups: what a run's id covers differs, but only where groups are cut."""
    path = write(tmp_path / "train.csv")
    plain, grouped = files(path), files(path, cluster="group")
    assert plain.identity() | {"cut": "whole groups"} == grouped.identity() and "cut" not in plain.identity()


def test_groups_that_cannot_be_used_are_refused(tmp_path):
    one = Texts(["a", "b", "c", "d"] * 5, [0, 1] * 10, "here", ["one"] * 20)
    with pytest.raises(
        ValueError, match=r"here: data.cluster must be a column with groups of which the test split can"
    ):
        cut_groups(one, "test", 2)
    path = write(tmp_path / "train.csv")
    assert "must have the column 'group' (got text, label); data.text" in refused(files(path, cluster="group"))
    lines = write(tmp_path / "train.jsonl")
    assert "must have the keys 'text' and 'label' and 'group'" in refused(files(lines, cluster="group"))
    for value, shown in (("", "''"), (None, "None"), (0.5, "0.5"), (True, "True")):
        rows = [{"text": t, "label": y, "group": value} for t, y in GOOD]
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        expected = f"row 1: the cluster must be a text that is not empty, or a whole number (got {shown})"
        assert expected in refused(files(lines, cluster="group"))
    with pytest.raises(ValueError, match=r"cluster must be null, or a further column \(got label\)"):
        files(path, cluster="label")
