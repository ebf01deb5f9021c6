"""The options of the group `data`: the data sets that a study trains and tests on.

An option (`MovieSnippets`, `Synthetic`, `Hub`, `Files`) defines where texts are and what identifies them; `load_splits`
returns its three checked splits.

    splits = load_splits(Synthetic(max_length=64, train_examples=100, test_examples=None, seed=0))
    len(splits["train"].text)      # 100

Nothing heavy is imported at the top: a run's name contains the identity of the data before anything is loaded.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.config.checks import require
from ablate.data import synthetic
from ablate.data.readers import local_path, read_files, split_files
from ablate.data.texts import Texts, check_classes, sample, select, stratified_order, with_all_classes
from ablate.files.assets import ASSETS, fetch
from ablate.files.hashing import file_sha256, tree_sha256
from ablate.files.hub import snapshot

SPLITS = ("train", "validation", "test")
CUT = {"test": 2000, "validation": 500}
"""Splits that are cut from train where a source lacks them -> most examples; the split is at most a tenth of train."""


@dataclass(frozen=True)
class Data(ABC):
    """Settings and methods that the options of all data sets share.

    max_length: longer texts are cut to this number of tokens. train_examples, test_examples: number to use, None = all.
    group_by_length: a batch has texts of similar length (`batches.grouped_order`). The texts themselves do not change.
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
        """The values that identify these texts, wherever they are stored. Cheap: loads nothing."""

    def pinned(self) -> bool:
        """Whether `identity` always means the same texts, so that their tokens may be cached."""
        return True

    @abstractmethod
    def read(self) -> dict[str, Texts]:
        """The split "train", and "validation" and "test" if the source has them. Called at most once per run."""


@dataclass(frozen=True)
class MovieSnippets(Data):
    """10,605 snippets of film reviews, each with the mean rating of 20 people, from -4 to 4.

    Label = rating > 0; 37 snippets with rating 0 and two duplicates are left out. Fixed splits: 8,066 for training, 500
    for validation and 2,000 for test.
    Source: C.J. Hutto and E. Gilbert, VADER (ICWSM 2014), with snippets collected by Pang and Lee (ACL 2005).
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
    """Balanced sentences from a grammar (`ablate.data.synthetic`): 2,000 train, 200 validation and 400 test."""

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
    """A data set on the Hugging Face hub, or a local copy in any format that `datasets` reads.

    path: a local folder or file, else a hub id. name, revision: its configuration and commit on the hub.
    splits: our split -> the data set's split, or rows of one: "train[5000:20000]" has the rows 5000 to 19999, counted
    from 0, as in `datasets`. null = cut from train.
    text, label: names of the two columns. cluster: that of a column of groups, such as documents; null = no groups.
    """

    path: str
    name: str | None
    revision: str | None
    splits: dict[str, str | None]
    text: str
    label: str
    cluster: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_splits("splits", self.splits)
        require("text", self.text, self.text != self.label, "another column than data.label names")
        require("cluster", self.cluster, self.cluster not in (self.text, self.label), "null, or a third column")

    def identity(self) -> dict[str, Any]:
        found = local_path(self.path)
        if found is None:
            return {"path": self.path, "name": self.name, "revision": self.revision}
        return {"sha256": tree_sha256(found), "name": self.name}

    def pinned(self) -> bool:
        """True for a local file and for a commit on the hub; False for a branch, which can change."""
        commit = re.fullmatch("[0-9a-f]{40}", self.revision or "")
        return local_path(self.path) is not None or commit is not None

    def read(self) -> dict[str, Texts]:
        folder = local_path(self.path) or snapshot("data.path", self.path, self.revision, "dataset")
        files = split_files(folder, self.name)
        wanted = {split: theirs for split, theirs in self.splits.items() if theirs is not None}
        found = {}
        for split, theirs in wanted.items():
            name, rows = rows_named(theirs)
            allowed = f"a split of {self.path} ({', '.join(files)}), or null, which cuts it from train"
            require(f"data.splits.{split}", theirs, name in files, allowed)
            whole = read_files(files[name], self.text, self.label, self.cluster)
            found[split] = whole if rows == slice(None) else select(whole, range(len(whole.text))[rows], theirs)
        return found


@dataclass(frozen=True)
class Files(Data):
    """Your own data, one file per split: CSV, TSV, JSON lines, Parquet, or another format that `datasets` reads.

    files: paths of train, validation and test; null = cut from train. text, label: names of the two columns.
    cluster: name of a column of groups, such as documents; null = no groups.
    """

    files: dict[str, str | None]
    text: str
    label: str
    cluster: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_splits("files", self.files)
        require("text", self.text, self.text != self.label, "another column than data.label names")
        require("cluster", self.cluster, self.cluster not in (self.text, self.label), "null, or a third column")

    def identity(self) -> dict[str, Any]:
        return {"sha256": {split: file_sha256(path) for split, path in self._paths().items()}}

    def read(self) -> dict[str, Texts]:
        columns = (self.text, self.label, self.cluster)
        return {split: read_files([path], *columns) for split, path in self._paths().items()}

    def _paths(self) -> dict[str, Path]:
        paths = {split: Path(path).expanduser() for split, path in self.files.items() if path is not None}
        for split, path in paths.items():
            require(f"data.files.{split}", path, path.is_file(), "an existing file")
        return paths


def load_splits(source: Data) -> dict[str, Texts]:
    """The splits train, validation and test of a data set, checked.

    A missing validation or test split is cut from train: a tenth, at most 500 or 2,000 texts, stratified. Then train
    and test are reduced to `train_examples` and `test_examples`, stratified. Each split gets at least one text of each
    class where there are enough. A split that is not cut keeps its order.

    Raises ValueError with file, row and value for a missing column, labels other than 0..k-1, empty texts and the like;
    for a split that is empty or has only one class; and for a class that train lacks.
    """
    splits = source.read()
    check_classes(splits)
    for split, at_most in CUT.items():
        if split not in splits:
            whole = splits["train"]
            size = max(len(set(whole.label)), min(at_most, len(whole.text) // 10))
            order = with_all_classes(whole, stratified_order(whole, split), size, keep=1)
            splits[split] = select(whole, order[:size], f"{split} split cut from it")
            splits["train"] = select(whole, order[size:], f"without the {split} split")
    for split, count in (("train", source.train_examples), ("test", source.test_examples)):
        if count is not None:
            splits[split] = sample(splits[split], f"{split}_examples", count)
    try:
        check_classes(splits)
    except ValueError as error:  # the splits were fine before they were cut and sampled
        raise ValueError(
            f"{error}. Name a file or split of your own (data.files or data.splits), use more examples "
            "(data.train_examples, data.test_examples), or add texts of the rare class"
        ) from error
    return {split: splits[split] for split in SPLITS}


def rows_named(split: str) -> tuple[str, slice]:
    """A split's name and the slice of its rows.

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
        if split not in SPLITS:
            raise ValueError(f"{key}.{split} is no split (got {named[split]}); allowed: {', '.join(SPLITS)}")
    require(f"{key}.train", named.get("train"), bool(named.get("train")), "the training split, not null")
