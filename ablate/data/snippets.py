"""Short texts with the mean rating of 20 people each, from -4 to 4 (Hutto and Gilbert 2014), as splits.

Source: C.J. Hutto and E. Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text
(ICWSM 2014). The source archive of their package vaderSentiment has the files, with one line per text: its number,
rating and text, separated by tabs. A number such as 12_3 is that of the third sentence of document 12.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.data.texts import Texts, letters_of, select, stratified_order


@dataclass(frozen=True)
class Snippet:
    """A text, its mean rating, and the document that it is a sentence of ("" = the texts are single ones)."""

    text: str
    rating: float
    document: str


def read_snippets(file: Path, alike: bool) -> list[Snippet]:
    """The snippets with a rating other than 0. Of equal texts the first stays.

    alike: whether texts that differ only in case, spaces and punctuation count as equal.
    """
    found: dict[str, Snippet] = {}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            number, rating, text = line.rstrip("\n").split("\t")
            document, _, sentence = number.partition("_")
            snippet = Snippet(text.strip(), float(rating), document if sentence else "")
            if snippet.rating:
                found.setdefault(letters_of(text) if alike else text, snippet)
    return list(found.values())


def single_texts(snippets: Sequence[Snippet], name: str, sizes: Mapping[str, int]) -> dict[str, list[int]]:
    """Split -> numbers of its snippets: splits of these sizes, stratified by the rating's sign; train has the rest."""
    texts = Texts([s.text for s in snippets], [int(s.rating > 0) for s in snippets], name)
    order, found, start = stratified_order(texts, name), {}, 0
    for split, size in sizes.items():
        found[split] = order[start : start + size]
        start += size
    return found | {"train": order[start:]}


def whole_documents(snippets: Sequence[Snippet], name: str, sizes: Mapping[str, int]) -> dict[str, list[int]]:
    """Split -> numbers of its snippets: whole documents until a split has its size; train has the rest.

    The sha256 of name and document gives the order of documents. Within a document the sentences stay in order.
    """
    documents: dict[str, list[int]] = {}
    for number, snippet in enumerate(snippets):
        documents.setdefault(snippet.document, []).append(number)
    queue = sorted(documents, key=lambda document: hashlib.sha256(f"{name}\n{document}".encode()).digest())
    found: dict[str, list[int]] = {split: [] for split in (*sizes, "train")}
    for document in queue:
        split = next((split for split, size in sizes.items() if len(found[split]) < size), "train")
        found[split] += documents[document]
    return found


def as_splits(
    snippets: Sequence[Snippet], name: str, index: Mapping[str, Sequence[int]], kind: str, labels: Sequence[str]
) -> dict[str, Texts]:
    """The splits for a task of this kind: the label is the rating, or 1 for a rating above 0 and 0 for one below.

    `labels` are the names of the classes.
    """
    ratings = [s.rating for s in snippets]
    label = ratings if kind == "regression" else [int(rating > 0) for rating in ratings]
    cluster = [s.document for s in snippets if s.document]
    texts = Texts([s.text for s in snippets], label, name, cluster, labels)
    return {split: select(texts, numbers, split) for split, numbers in index.items()}
