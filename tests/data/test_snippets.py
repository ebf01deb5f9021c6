"""The data sets of rated snippets: how splits are made, and, where a package index is there, what they are."""

from pathlib import Path

import pytest

from ablate.data.snippets import Snippet, as_splits, read_snippets, single_texts, whole_documents
from ablate.data.sources import AmazonSnippets, EditorialSnippets, MovieSnippets, Snippets, Tweets, load_splits
from ablate.data.texts import overlap
from tests.data.tables import SIZES
from tests.tools import compose_settings

LINES = "1_1\t0.5\ta fine day \n1_2\t0\tneutral\n2_1\t-1.5\tA dull day\n2_2\t2\tA fine day!\n"
MANY = [Snippet(f"text {i}", 1.0 + i if i % 3 else -1.0, str(i // 5)) for i in range(100)]


def test_lines_are_snippets(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(LINES)
    first = [Snippet("a fine day", 0.5, "1"), Snippet("A dull day", -1.5, "2")]
    assert read_snippets(path, alike=True) == first
    assert read_snippets(path, alike=False) == [*first, Snippet("A fine day!", 2.0, "2")]


def test_documents_stay_whole() -> None:
    index = whole_documents(MANY, "salt", {"test": 21, "validation": 7})
    assert {split: len(rows) for split, rows in index.items()} == {"test": 25, "validation": 10, "train": 65}
    documents = [{MANY[i].document for i in rows} for rows in index.values()]
    assert sum(map(len, documents)) == len(set.union(*documents)) == 20
    assert index != whole_documents(MANY, "other", {"test": 21, "validation": 7})
    shuffled = whole_documents(MANY[::-1], "salt", {"test": 21, "validation": 7})
    assert {99 - i for i in shuffled["test"]} == {*index["test"]}  # the file's order does not matter


@pytest.mark.parametrize("cut", [single_texts, whole_documents])
def test_the_task_changes_only_the_labels(cut) -> None:
    index = cut(MANY, "salt", {"test": 20, "validation": 10})
    classes, ratings = (as_splits(MANY, "x", index, kind, "ab") for kind in ("classification", "regression"))
    for split in index:
        assert classes[split].text == ratings[split].text and classes[split].cluster == ratings[split].cluster
        assert classes[split].label == [int(rating > 0) for rating in ratings[split].label]


def test_a_sweep_over_data_sets_composes() -> None:
    options = ("movie_snippets", "amazon_snippets", "tweets", "editorial_snippets")
    targets = [compose_settings(f"data={option}")["data"]["_target_"] for option in options]
    assert targets == [f"ablate.data.{c}" for c in ("MovieSnippets", "AmazonSnippets", "Tweets", "EditorialSnippets")]
    hashes = [
        source(**SIZES).identity()["sha256"] for source in (MovieSnippets, AmazonSnippets, Tweets, EditorialSnippets)
    ]
    assert len({*hashes}) == 4


COUNTS = {
    MovieSnippets: {"train": 8066, "validation": 500, "test": 2000},
    AmazonSnippets: {"train": 2534, "validation": 355, "test": 702},
    Tweets: {"train": 2842, "validation": 400, "test": 800},
    EditorialSnippets: {"train": 3377, "validation": 505, "test": 1002},
}


@pytest.mark.network
@pytest.mark.parametrize("source", COUNTS)
def test_the_data_sets(source: type[Snippets]) -> None:
    splits, ratings = (load_splits(source(**SIZES), kind) for kind in ("classification", "regression"))
    assert {split: len(texts.text) for split, texts in splits.items()} == COUNTS[source]
    assert all(texts.text == ratings[split].text for split, texts in splits.items())
    assert all(-4 <= rating <= 4 and rating for texts in ratings.values() for rating in texts.label)
    assert splits["test"].labels == ("negative", "positive") and ratings["test"].labels == ()
    assert (
        overlap(splits["train"].text, splits["test"].text)
        == overlap(splits["train"].text, splits["validation"].text)
        == 0
    )
    assert bool(len(splits["test"].cluster)) == source.documents
    groups = [{*texts.cluster} for texts in splits.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
