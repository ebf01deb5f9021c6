"""Write data sets for four kinds of task, made of the rated snippets that ablate fetches: python make_data.py

    topics.*        where a snippet comes from, in words: film, product, tweet or editorial
    pairs.*         whether two sentences are from the same product review
    similarity.*    how close the ratings of two sentences are: 8 minus their distance
    names.*         the names in a sentence, by their capitals, as B-NAME, I-NAME and O

Each is a train and a test file in JSON lines. Labels are made by rules, so they are no gold standard; they show that
each kind of task runs on real text.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path

from ablate.data import AmazonSnippets, EditorialSnippets, MovieSnippets, Tweets
from ablate.data.sources import load_splits

SOURCES = {"film": MovieSnippets, "product": AmazonSnippets, "tweet": Tweets, "editorial": EditorialSnippets}
SIZES = {"train": 600, "test": 200}


def rated(name: str, split: str) -> list[dict]:
    """The snippets of a source's split with their ratings and documents, in a fixed order."""
    texts = load_splits(SOURCES[name](128, None, None), "regression")[split]
    documents = texts.cluster or [""] * len(texts.text)
    rows = zip(texts.text, texts.label, documents, strict=True)
    found = [{"text": text, "rating": rating, "document": document} for text, rating, document in rows]
    random.Random(split).shuffle(found)
    return found


def topics(split: str) -> Iterable[dict]:
    for name in SOURCES:
        for row in rated(name, split)[: SIZES[split]]:
            yield {"text": row["text"], "label": name}


def pairs(split: str) -> Iterable[dict]:
    rows, draw = rated("product", split), random.Random(0)
    for one in rows[: 2 * SIZES[split]]:
        same = draw.random() < 0.5
        others = [row for row in rows if (row["document"] == one["document"]) == same and row is not one]
        if others:
            yield {"first": one["text"], "second": draw.choice(others)["text"], "label": "same" if same else "other"}


def similarity(split: str) -> Iterable[dict]:
    rows, draw = rated("product", split), random.Random(0)
    for one in rows[: 2 * SIZES[split]]:
        other = draw.choice(rows)
        yield {"first": one["text"], "second": other["text"], "score": 8 - abs(one["rating"] - other["rating"])}


def names(split: str) -> Iterable[dict]:
    for row in rated("editorial", split):
        words = row["text"].split()
        if sum(word.istitle() for word in words) < len(words) / 2:  # not a headline
            yield {"words": words, "labels": name_labels(words)}


def name_labels(words: list[str]) -> list[str]:
    """
    >>> name_labels("The new Canon EOS is good".split())
    ['O', 'O', 'B-NAME', 'I-NAME', 'O', 'O']
    """
    found: list[str] = []
    for place, word in enumerate(words):
        capital = word[0].isupper() and len(word) > 1 and place > 0 and words[place - 1][-1] not in '.!?:"'
        found.append("O" if not capital else "I-NAME" if found[-1] != "O" else "B-NAME")
    return found


def main() -> None:
    for make in (topics, pairs, similarity, names):
        for split in SIZES:
            rows = list(make(split))
            Path(f"{make.__name__}.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            print(f"{make.__name__}.{split}.jsonl: {len(rows)} rows")


if __name__ == "__main__":
    main()
