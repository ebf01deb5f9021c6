"""Data sets: what a study trains and tests on. The only place that knows how `datasets` loads them.

An option (`MovieSnippets`, `Synthetic`, `Hub`, `Files`) says where texts are and what identifies them; `load`
gives the three splits of any of them, checked.

    splits = load(Synthetic(max_length=64, train_examples=100, test_examples=None, seed=0))
    len(splits["train"].text)      # 100

Nothing heavy is imported at the top: the identity of the data is in a run's name, before anything is loaded.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.config.checks import require
from ablate.data import synthetic
from ablate.data.readers import local, read_files, split_files
from ablate.data.texts import Texts, check_classes, sample, select, stratified_order
from ablate.files.assets import ASSETS, fetch
from ablate.files.hashing import file_sha256, tree_sha256
from ablate.files.hub import snapshot

SPLITS = ("train", "validation", "test")
CUT = {"test": 2000, "validation": 500}  # where a source has no such split: a tenth of train, at most so many


@dataclass(frozen=True)
class Data(ABC):
    """What the options of all data sets share.

    max_length: tokens a text is cut to. train_examples, test_examples: how many to use, None = all.
    group_by_length: batches of texts of like length (`batches.grouped_order`); no matter to what is read.
    """

    max_length: int
    train_examples: int | None
    test_examples: int | None
    group_by_length: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        require("max_length", self.max_length, self.max_length >= 3, "a number of tokens, at least 3")
        for key in ("train_examples", "test_examples"):
            value = getattr(self, key)
            require(key, value, value is None or value >= 2, "null or a whole number, at least 2")

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells these texts from others, whatever place they lie in; cheap, loads nothing."""

    def pinned(self) -> bool:
        """Whether `identity` means the same texts for ever, so that what is made of them may be kept."""
        return True

    @abstractmethod
    def read(self) -> dict[str, Texts]:
        """The split "train", and "validation" and "test" where the source has them; at most once a run."""


@dataclass(frozen=True)
class MovieSnippets(Data):
    """10,605 snippets of film reviews, each with the mean of 20 people's ratings from -4 to 4.

    Label = rating > 0; the 37 with rating 0 and two repeats are left out. Fixed splits: 8,066, 500 and 2,000.
    Source: C.J. Hutto and E. Gilbert, VADER (ICWSM 2014), over snippets collected by Pang and Lee (ACL 2005).
    """

    def identity(self) -> dict[str, Any]:
        return {"sha256": ASSETS["movie_snippets"].sha256}

    def read(self) -> dict[str, Texts]:
        asset = ASSETS["movie_snippets"]
        (member,) = asset.members
        labels: dict[str, int] = {}
        with (fetch(asset) / member.name).open(encoding="utf-8") as lines:
            for line in lines:
                _, rating, text = line.rstrip("\n").split("\t")
                if float(rating) != 0:
                    labels.setdefault(text, int(float(rating) > 0))
        texts = Texts(list(labels), list(labels.values()), "movie_snippets")
        order = stratified_order(texts, "movie_snippets")
        ends = {"test": order[:2000], "validation": order[2000:2500], "train": order[2500:]}
        return {split: select(texts, index, split) for split, index in ends.items()}


@dataclass(frozen=True)
class Synthetic(Data):
    """Sentences on films from a small grammar (`ablate.data.synthetic`): 2,000, 200 and 400, balanced."""

    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require("seed", self.seed, self.seed >= 0, "a whole number, at least 0")

    def identity(self) -> dict[str, Any]:
        return {"version": synthetic.VERSION, "seed": self.seed}

    def read(self) -> dict[str, Texts]:
        return {
            split: Texts([text for text, _ in rows], [label for _, label in rows], f"synthetic, {split}")
            for split, rows in synthetic.generate(self.seed).items()
        }


@dataclass(frozen=True)
class Hub(Data):
    """A data set of the Hugging Face hub, or a local copy in any format that `datasets` reads.

    path: a local folder or file, else the hub's id. name, revision: its configuration and commit there.
    splits: which of its splits is train, validation and test, or which rows of it, "train[5000:20000]", from 0 on,
    the last not included, as `datasets` writes them; null = cut from train.
    text, label: names of the two columns.
    """

    path: str
    name: str | None
    revision: str | None
    splits: dict[str, str | None]
    text: str
    label: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_splits("splits", self.splits)

    def identity(self) -> dict[str, Any]:
        here = local(self.path)
        if here is None:
            return {"path": self.path, "name": self.name, "revision": self.revision}
        return {"sha256": tree_sha256(here), "name": self.name}

    def pinned(self) -> bool:
        """A file is, and a commit on the hub; a branch moves on."""
        commit = re.fullmatch("[0-9a-f]{40}", self.revision or "")
        return local(self.path) is not None or commit is not None

    def read(self) -> dict[str, Texts]:
        folder = local(self.path) or snapshot("data.path", self.path, self.revision, "dataset")
        files = split_files(folder, self.name)
        wanted = {split: there for split, there in self.splits.items() if there is not None}
        found = {}
        for split, there in wanted.items():
            name, rows = rows_named(there)
            allowed = f"one that {self.path} has: {', '.join(files)}; or null: cut from train"
            require(f"data.splits.{split}", there, name in files, allowed)
            whole = read_files(files[name], self.text, self.label)
            found[split] = whole if rows == slice(None) else select(whole, range(len(whole.text))[rows], there)
        return found


@dataclass(frozen=True)
class Files(Data):
    """Your own data, a file a split: CSV, TSV, JSON lines, Parquet (what else `datasets` reads will do, too).

    files: paths of train, validation and test; null = cut from train. text, label: names of the two columns.
    """

    files: dict[str, str | None]
    text: str
    label: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_splits("files", self.files)

    def identity(self) -> dict[str, Any]:
        return {"sha256": {split: file_sha256(path) for split, path in self._paths().items()}}

    def read(self) -> dict[str, Texts]:
        return {split: read_files([path], self.text, self.label) for split, path in self._paths().items()}

    def _paths(self) -> dict[str, Path]:
        paths = {split: Path(path).expanduser() for split, path in self.files.items() if path is not None}
        for split, path in paths.items():
            require(f"data.files.{split}", path, path.is_file(), "a file that exists")
        return paths


def load(source: Data) -> dict[str, Texts]:
    """The splits train, validation and test of a data set, checked.

    A missing validation or test split is cut from train: a tenth, stratified, at most 500 or 2,000. Then
    train and test are cut down to `train_examples` and `test_examples`, stratified. What is whole keeps its
    order.

    Errors: ValueError with file, row and value for a missing column, labels other than 0..k-1, empty texts
    and such; for a split that is empty or has one class only; for classes in the others that train lacks.
    """
    splits = source.read()
    check_classes(splits)
    for split, at_most in CUT.items():
        if split not in splits:
            whole = splits["train"]
            size = max(len(set(whole.label)), min(at_most, len(whole.text) // 10))
            order = stratified_order(whole, split)
            splits[split] = select(whole, order[:size], f"{split} split cut from it")
            splits["train"] = select(whole, order[size:], f"less the {split} split")
    for split, count in (("train", source.train_examples), ("test", source.test_examples)):
        if count is not None:
            splits[split] = sample(splits[split], f"{split}_examples", count)
    check_classes(splits)
    return {split: splits[split] for split in SPLITS}


def rows_named(split: str) -> tuple[str, slice]:
    """A split's name and which of its rows.

    >>> rows_named("train"), rows_named("train[5000:]")
    (('train', slice(None, None, None)), ('train', slice(5000, None, None)))
    """
    found = re.fullmatch(r"(.+)\[(\d*):(\d*)\]", split)
    if not found:
        return split, slice(None)
    first, last = (int(number) if number else None for number in found.groups()[1:])
    return found[1], slice(first, last)


def _require_splits(key: str, named: dict[str, str | None]) -> None:
    for split in named:
        require(f"{key}.{split}", named[split], split in SPLITS, f"{key} of {', '.join(SPLITS)}")
    require(f"{key}.train", named.get("train"), bool(named.get("train")), "the training split, it can't be null")
