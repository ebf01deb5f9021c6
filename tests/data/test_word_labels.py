"""Words with labels, in CoNLL files and in columns; and data in several files or saved by `datasets`."""

import gzip
import json
from pathlib import Path

import datasets
import pytest

from ablate.data.conll import ENDINGS
from ablate.data.corpus import corpus
from ablate.data.sources import Files, Hub, load_splits
from ablate.model.loading import Tiny
from tests.data.tables import SIZES, own, pairs_of, refusal_of, save

SENTENCES = [(["Ada", "lives", "in", f"Paris{i}"], ["B-PER", "O", "O", "B-LOC"]) for i in range(12)]
CLASSES = ("B-LOC", "B-PER", "O")


def conll(path: Path, documents: int = 0, between: str = " ") -> Path:
    """SENTENCES as a CoNLL file with a column of parts of speech."""
    lines = []
    for number, (words, labels) in enumerate(SENTENCES):
        if documents and number % (len(SENTENCES) // documents) == 0:
            lines += [f"-DOCSTART-{between}-X-{between}O", ""]
        lines += [f"{word}{between}NN{between}{label}" for word, label in zip(words, labels, strict=True)] + [""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("between", [" ", "\t", "  "])
def test_conll_files(tmp_path, ending, between):
    path = conll(tmp_path / f"a{ending}", between=between)
    splits = load_splits(own(path, path), "token_classification")
    assert splits["test"].text == [words for words, _ in SENTENCES]
    assert [[CLASSES[k] for k in label] for label in splits["test"].label] == [labels for _, labels in SENTENCES]
    assert splits["test"].labels == CLASSES and splits["test"].cluster == []


def test_documents_of_conll_files_are_clusters(tmp_path):
    path = conll(tmp_path / "a.conll", documents=3)
    one = load_splits(own(path, path), "token_classification")["test"]
    assert [one.cluster.index(name) for name in one.cluster] == [i // 4 * 4 for i in range(12)]
    both = own([path, conll(tmp_path / "b.conll", documents=2)]).read("token_classification")["train"]
    assert len(set(both.cluster)) == 5 and len(both.text) == 24


def test_groups_that_are_in_two_splits_are_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    path, test = conll(tmp_path / "a.conll", documents=2), conll(tmp_path / "b.conll", documents=3)
    for source, expected in ((own(path), "1 of 1 groups of test texts are also in"), (own(path, test), None)):
        caplog.clear()
        for _ in range(2):  # also where the tokens are cached
            corpus(Tiny(lr=1e-3), source, kind="token_classification")
        found = [message for message in caplog.messages if "groups" in message]
        assert len(found) == (2 if expected else 0) and all(expected in message for message in found)


def test_conll_files_may_be_packed_and_end_without_a_blank_line(tmp_path):
    content = conll(tmp_path / "a.conll").read_bytes().rstrip()
    (tmp_path / "b.conll.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")))
    found = own(tmp_path / "b.conll.gz").read("token_classification")["train"]
    assert found.text == [words for words, _ in SENTENCES]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_words_in_columns(tmp_path, suffix):
    table = {"tokens": [words for words, _ in SENTENCES], "tags": [labels for _, labels in SENTENCES]}
    path = save(tmp_path / f"a.{suffix}", table)
    splits = load_splits(own(path, path, text="tokens", label="tags"), "token_classification")
    assert splits["test"].text == table["tokens"] and splits["test"].labels == CLASSES


def test_numbers_with_names_for_words(tmp_path):
    """As data sets on the hub have them."""
    table = {"text": [words for words, _ in SENTENCES], "label": [[2, 0, 0, 1]] * len(SENTENCES)}
    features = {"text": datasets.List(datasets.Value("string"))}
    features["label"] = datasets.List(datasets.ClassLabel(names=["O", "B-LOC", "B-PER"]))
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(table, features=datasets.Features(features)).to_parquet(path)
    splits = load_splits(own(path, path), "token_classification")
    assert splits["test"].labels == ("O", "B-LOC", "B-PER") and splits["test"].label == table["label"]


def test_a_rare_word_label_may_be_in_a_cut_split_alone(tmp_path):
    rows = [(["a", "b"], ["X", "O"]) for _ in range(40)]
    for rare in range(40):
        labels = [label if i != rare else ["Y", "O"] for i, (_, label) in enumerate(rows)]
        path = save(tmp_path / "a.jsonl", {"text": [[f"a{i}", "b"] for i in range(40)], "label": labels})
        splits = load_splits(own(path), "token_classification")
        assert splits["train"].labels == ("O", "X", "Y")


# --- several files ---

ROWS = {"text": [f"text {i}" for i in range(30)], "label": ["ab"[i % 2] for i in range(30)]}


def part(start: int, end: int) -> dict[str, list[str]]:
    return {name: column[start:end] for name, column in ROWS.items()}


def test_several_files_are_read_in_order(tmp_path):
    whole = save(tmp_path / "whole.csv", ROWS)
    two = [save(tmp_path / "a.csv", part(0, 20)), save(tmp_path / "b.jsonl", part(20, 30))]
    for one, other in zip(load_splits(own(two)).values(), load_splits(own(whole)).values(), strict=True):
        assert pairs_of(one) == pairs_of(other)


def test_the_identity_of_a_list_with_one_file_is_that_of_the_file(tmp_path):
    a, b = save(tmp_path / "a.csv", part(0, 20)), save(tmp_path / "b.csv", part(20, 30))
    assert own([a]).identity() == own(a).identity()
    hashes = [own(path).identity()["sha256"]["train"] for path in (a, b)]
    assert own([a, b]).identity()["sha256"]["train"] == hashes
    assert own([b, a]).identity() != own([a, b]).identity()


def test_errors_name_the_file_and_its_own_row(tmp_path):
    a, b = save(tmp_path / "a.csv", part(0, 20)), save(tmp_path / "b.csv", {"text": ["x", "y"], "label": ["a", "b"]})
    test = [save(tmp_path / "c.csv", part(0, 5)), save(tmp_path / "d.csv", {"text": ["x", "y"], "label": ["a", "c"]})]
    paths = {"train": [str(a), str(b)], "test": [str(path) for path in test]}
    message = refusal_of(Files(**SIZES, files=paths, text="text", label="label"))
    assert f"{test[1]}, row 2: the label must occur in the training split (got 'c')" in message


# --- folders that datasets saved ---


def saved(folder: Path, rows: dict[str, list[str]] = ROWS, shards: int = 1) -> Path:
    datasets.Dataset.from_dict(rows).save_to_disk(folder, num_shards=shards)
    return folder


def hub(path: Path, **splits: str | None) -> Hub:
    named = {"train": "train", "validation": None, "test": None} | splits
    return Hub(**SIZES, text="text", label="label", path=str(path), name=None, revision=None, splits=named)


@pytest.mark.parametrize("shards", [1, 3])
def test_saved_data_sets(tmp_path, shards):
    folder = saved(tmp_path / "saved", shards=shards)
    expected = load_splits(own(save(tmp_path / "a.csv", ROWS)))
    for source in (own(folder), hub(folder)):
        found = load_splits(source)
        assert all(pairs_of(found[split]) == pairs_of(texts) for split, texts in expected.items())
    again = saved(tmp_path / "again", shards=shards)
    assert json.loads((again / "state.json").read_text())  # its fingerprint may differ: it does not count
    (again / "state.json").write_text((again / "state.json").read_text().replace("_fingerprint", "_other"))
    assert hub(folder).identity() == hub(again).identity() and own(folder).identity() == own(again).identity()
    assert own(folder).identity() != own(saved(tmp_path / "less", part(0, 20), shards)).identity()


def test_saved_dictionaries_of_data_sets(tmp_path):
    whole = datasets.Dataset.from_dict(ROWS)
    datasets.DatasetDict(train=whole, dev=whole.select(range(6))).save_to_disk(tmp_path / "both")
    splits = load_splits(hub(tmp_path / "both", test="dev"))
    assert splits["test"].text == ROWS["text"][:6]
    assert "a split of" in refusal_of(hub(tmp_path / "both", test="test"))
    assert "data.files.train must be an existing file, or a folder" in refusal_of(own(tmp_path / "both"))
    one = own(tmp_path / "both" / "train", tmp_path / "both" / "dev")
    assert load_splits(one)["test"].text == ROWS["text"][:6]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "inside its own folder (got '../x.arrow')"),
        ('{"_data_files": [{"filename": "x.arrow"}]}', "must exist (got x.arrow)"),
        ('{"_data_files": []}', "must name the data's files (got [])"),
        ('{"_data_files": 7}', "must name the data's files (got 7)"),
        ("[]", "must be a JSON object (got list)"),
        ("{", "must be JSON"),
    ],
)
def test_broken_saved_folders(tmp_path, state, expected):
    folder = saved(tmp_path / "saved")
    (folder / "state.json").write_text(state)
    for source in (own(folder), hub(folder)):
        message = refusal_of(source)
        assert expected in message and "state.json" in message
