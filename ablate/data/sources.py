"""The options of the group `data`: the data sets that a study trains and tests on.

An option (`MovieSnippets`, `Synthetic`, `Hub`, `Files`, ...) defines where texts are and what identifies them;
`load_splits` returns its three splits, checked for a kind of task.

    splits = load_splits(Synthetic(max_length=64, train_examples=100, test_examples=None, seed=0))
    len(splits["train"].text)      # 100

Nothing heavy is imported at the top: a run's name contains the identity of the data before anything is loaded.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ablate.config.checks import refusal, require
from ablate.data import snippets, synthetic
from ablate.data.labels import check_splits, class_labels, numbered
from ablate.data.readers import local_path, read_files, split_files
from ablate.data.saved import STATE, saved_files, saved_splits
from ablate.data.texts import Texts, sample, select, stratified_order, whole_groups, with_all_classes
from ablate.files.assets import ASSETS, fetch
from ablate.files.hashing import file_sha256, files_sha256, tree_sha256
from ablate.files.hub import snapshot

SPLITS = ("train", "validation", "test")
SENTIMENTS = ("negative", "positive")
"""Names of the classes 0 and 1 of our own data sets."""

CUT = {"test": 2000, "validation": 500}
"""Splits that are cut from train where a source lacks them -> most examples; the split is at most a tenth of train."""


@dataclass(frozen=True)
class Data(ABC):
    """Settings and methods that the options of all data sets share.

    max_length: longer texts are cut to this number of tokens. train_examples, test_examples: number to use, None = all.
    group_by_length: a batch has texts of similar length (`batches.grouped_order`). The texts themselves do not change.
    kinds: the kinds of tasks that a class has labels for.
    """

    kinds: ClassVar[Sequence[str]] = ("classification",)

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
    def read(self, kind: str = "classification") -> dict[str, Texts]:
        """The split "train", and "validation" and "test" if the source has them. Called at most once per run.

        `kind` is one of `kinds`; a class with no other kind than classification may leave the argument out.
        """


@dataclass(frozen=True)
class Snippets(Data):
    """Texts with the mean rating of 20 people each (`ablate.data.snippets`): class = rating above 0, target = rating.

    Texts with the rating 0 and duplicates are left out, whatever the task.
    name: of the option. asset: the artefact with the file. file: the file's name.
    sizes: least sizes of the splits test and validation.
    documents: whether texts are sentences of documents, which are the clusters and stay whole when splits are made.
    """

    kinds: ClassVar[Sequence[str]] = ("classification", "regression", "causal_lm")
    name: ClassVar[str]
    file: ClassVar[str]
    sizes: ClassVar[Mapping[str, int]]
    asset: ClassVar[str] = "snippets"
    documents: ClassVar[bool] = False
    alike: ClassVar[bool] = True

    def identity(self) -> dict[str, Any]:
        return {"sha256": next(member.sha256 for member in ASSETS[self.asset].members if member.name == self.file)}

    def read(self, kind: str = "classification") -> dict[str, Texts]:
        found = snippets.read_snippets(fetch(ASSETS[self.asset]) / self.file, self.alike)
        cut = snippets.whole_documents if self.documents else snippets.single_texts
        return snippets.as_splits(found, self.name, cut(found, self.name, self.sizes), kind, SENTIMENTS)


@dataclass(frozen=True)
class MovieSnippets(Snippets):
    """10,605 snippets of film reviews: 8,066 for training, 500 for validation and 2,000 for test.

    37 snippets with rating 0 and two duplicates are left out. Pang and Lee (ACL 2005) collected the snippets.
    """

    name = "movie_snippets"
    asset = "movie_snippets"
    file = "movieReviewSnippets_GroundTruth.txt"
    sizes: ClassVar = {"test": 2000, "validation": 500}
    alike = False

    def identity(self) -> dict[str, Any]:
        return {"sha256": ASSETS[self.asset].sha256}


@dataclass(frozen=True)
class AmazonSnippets(Snippets):
    """Sentences of 300 customer reviews of five products, collected by Hu and Liu (KDD 2004)."""

    name = "amazon_snippets"
    file = "amazonReviewSnippets_GroundTruth.txt"
    sizes: ClassVar = {"test": 700, "validation": 350}
    documents = True


@dataclass(frozen=True)
class Tweets(Snippets):
    """4,000 tweets and 200 made-up ones."""

    name = "tweets"
    file = "tweets_GroundTruth.txt"
    sizes: ClassVar = {"test": 800, "validation": 400}


@dataclass(frozen=True)
class EditorialSnippets(Snippets):
    """Sentences of 498 opinion articles of the New York Times."""

    name = "editorial_snippets"
    file = "nytEditorialSnippets_GroundTruth.txt"
    sizes: ClassVar = {"test": 1000, "validation": 500}
    documents = True


@dataclass(frozen=True)
class Synthetic(Data):
    """Balanced sentences from a grammar (`ablate.data.synthetic`): 2,000 train, 200 validation and 400 test."""

    kinds: ClassVar[Sequence[str]] = ("classification", "causal_lm")

    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require("seed", self.seed, self.seed >= 0, "a whole number, at least 0")

    def identity(self) -> dict[str, Any]:
        return {"version": synthetic.VERSION, "seed": self.seed}

    def read(self, kind: str = "classification") -> dict[str, Texts]:
        return {
            split: Texts(
                [text for text, _ in rows], [label for _, label in rows], f"synthetic, {split}", labels=SENTIMENTS
            )
            for split, rows in synthetic.generate(self.seed).items()
        }


@dataclass(frozen=True)
class Tabular(Data):
    """Data in columns, for every kind of task.

    text: name of the column of texts, or the two of the texts of pairs. label: that of the classes, target numbers or
    lists of word labels; null for language modelling. cluster: that of groups, such as documents; null = no groups.
    """

    kinds: ClassVar[Sequence[str]] = ("classification", "regression", "token_classification", "causal_lm")

    text: str | list[str]
    label: str | None
    cluster: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        texts = [self.text] if isinstance(self.text, str) else self.text
        require("text", self.text, len(texts) in (1, 2), "the name of a column, or a list of two")
        require("text", self.text, len({*texts}) == len(texts), "two different columns")
        require("text", self.text, self.label not in texts, "another column than data.label names")
        require("cluster", self.cluster, self.cluster not in (*texts, self.label) or self.cluster is None,
                "null, or a further column")  # fmt: skip

    def cut_identity(self, splits: Mapping[str, Any]) -> dict[str, Any]:
        """What the identity has where splits are cut: groups stay whole, which they did not in earlier versions."""
        return {"cut": "whole groups"} if self.cluster and any(splits.get(split) is None for split in CUT) else {}

    def texts_of(self, files: Sequence[Path], kind: str) -> Texts:
        """The rows of a split's files."""
        return read_files(files, self.text, self.label, self.cluster, kind)


@dataclass(frozen=True)
class Hub(Tabular):
    """A data set on the Hugging Face hub, or a local copy in any format that `datasets` reads.

    path: a local folder or file, among them what `save_to_disk` wrote, else a hub id. name, revision: its
    configuration and commit on the hub.
    splits: our split -> the data set's split, or rows of one: "train[5000:20000]" has the rows 5000 to 19999, counted
    from 0, as in `datasets`. null = cut from train.
    """

    path: str
    name: str | None
    revision: str | None
    splits: dict[str, str | None]

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_splits("splits", self.splits)

    def identity(self) -> dict[str, Any]:
        found, cut = local_path(self.path), self.cut_identity(self.splits)
        if found is None:
            return {"path": self.path, "name": self.name, "revision": self.revision} | cut
        if found.is_dir() and (saved := saved_splits(found)):
            names = [file.relative_to(found).as_posix() for files in saved.values() for file in files]
            return {"sha256": files_sha256(found, names), "name": self.name} | cut
        return {"sha256": tree_sha256(found), "name": self.name} | cut

    def pinned(self) -> bool:
        """True for a local file and for a commit on the hub; False for a branch, which can change."""
        commit = re.fullmatch("[0-9a-f]{40}", self.revision or "")
        return local_path(self.path) is not None or commit is not None

    def read(self, kind: str = "classification") -> dict[str, Texts]:
        folder = local_path(self.path) or snapshot("data.path", self.path, self.revision, "dataset")
        files = split_files(folder, self.name)
        wanted = {split: theirs for split, theirs in self.splits.items() if theirs is not None}
        found = {}
        for split, theirs in wanted.items():
            name, rows = rows_named(theirs)
            allowed = f"a split of {self.path} ({', '.join(files)}), or null, which cuts it from train"
            require(f"data.splits.{split}", theirs, name in files, allowed)
            whole = self.texts_of(files[name], kind)
            found[split] = whole if rows == slice(None) else select(whole, range(len(whole.text))[rows], theirs)
        return found


@dataclass(frozen=True)
class Files(Tabular):
    """Your own data: CSV, TSV, JSON lines, Parquet, CoNLL, or another format that `datasets` reads.

    files: the path of each of train, validation and test, or a list of paths; null = cut from train. A path may be a
    folder that `Dataset.save_to_disk` wrote.
    """

    files: dict[str, str | list[str] | None]

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_splits("files", self.files)

    def identity(self) -> dict[str, Any]:
        found = {split: [file_sha256(path) for path in paths] for split, paths in self._paths().items()}
        sha256 = {split: hashes[0] if len(hashes) == 1 else hashes for split, hashes in found.items()}
        return {"sha256": sha256} | self.cut_identity(self.files)

    def read(self, kind: str = "classification") -> dict[str, Texts]:
        return {split: self.texts_of(paths, kind) for split, paths in self._paths().items()}

    def _paths(self) -> dict[str, list[Path]]:
        """The files of each split, in the order in which the setting names them."""
        found: dict[str, list[Path]] = {}
        for split, named in self.files.items():
            for path in [named] if isinstance(named, str) else named or ():
                place = Path(path).expanduser()
                saved = place.is_dir() and (place / STATE).is_file()
                what = "an existing file, or a folder that Dataset.save_to_disk wrote"
                require(f"data.files.{split}", place, place.is_file() or saved, what)
                found.setdefault(split, []).extend(saved_files(place) if saved else [place])
            if named == []:
                raise refusal(f"data.files.{split}", "[]", "a path, a list of paths, or null")
            once = len({path.resolve() for path in found.get(split, ())}) == len(found.get(split, ()))
            require(f"data.files.{split}", named, once, "a list that names each file once")
        return found


def load_splits(source: Data, kind: str = "classification") -> dict[str, Texts]:
    """The splits train, validation and test of a data set, checked for a task of this kind.

    Class names become numbers in sorted order. A missing validation or test split is cut from train: a tenth, at most
    500 or 2,000 texts, stratified where each text has a class; with `data.cluster` it has whole groups. Then train and
    test are reduced to `train_examples` and `test_examples`, stratified. Each split gets at least one text of each
    class where there are enough. A split that is not cut keeps its order, and so do the texts of language modelling:
    blocks are made of texts that follow each other.

    Raises ValueError with file, row and value for a missing column, labels of another kind, empty texts and the like;
    for a split that is empty or has only one class or target; and for a class that train lacks.
    """
    kinds = f"a data set with labels for task={kind}"
    require("data", f"{type(source).__name__}, for {' or '.join(source.kinds)}", kind in source.kinds, kinds)
    splits = numbered(source.read() if kind == "classification" else source.read(kind))
    check_splits(splits, kind)
    names = class_labels(splits["train"], kind)
    for split, texts in splits.items():
        splits[split] = replace(texts, labels=names, label=() if kind == "causal_lm" else texts.label)
    cut = [split for split in CUT if split not in splits]
    for split in cut:
        whole = splits["train"]
        least = 2 if kind == "regression" else len(set(whole.strata))
        size = max(least, min(CUT[split], len(whole.text) // 10))
        if isinstance(source, Tabular) and source.cluster:
            chosen, rest = cut_groups(whole, split, size)
        else:
            order = with_all_classes(whole, stratified_order(whole, split), size, keep=1)
            chosen, rest = (sorted(part) if kind == "causal_lm" else part for part in (order[:size], order[size:]))
        splits[split] = select(whole, chosen, f"{split} split cut from it")
        splits["train"] = select(whole, rest, f"without the {split} split")
    for split, count in (("train", source.train_examples), ("test", source.test_examples)):
        if count is not None:
            splits[split] = sample(splits[split], f"{split}_examples", count, in_order=kind == "causal_lm")
    try:
        check_splits(splits, kind, cut=bool(cut))
    except ValueError as error:  # the splits were fine before they were cut and sampled
        raise ValueError(
            f"{error}. Name a file or split of your own (data.files or data.splits), use more examples "
            "(data.train_examples, data.test_examples), or add texts of the rare class"
        ) from error
    return {split: splits[split] for split in SPLITS}


def cut_groups(texts: Texts, split: str, size: int) -> tuple[list[int], list[int]]:
    """The rows of a split with whole groups, and the others; at least one group, so `size` may be too small for it.

    Raises ValueError where the groups are so large that train would lack a class.
    """
    chosen = whole_groups(texts, split, max(size, min(Counter(texts.cluster).values())))
    if not chosen:
        what = f"a column with groups of which the {split} split can have one, and train keeps each class"
        raise ValueError(
            f"{texts.source}: data.cluster must be {what}: name a file or split of your own (data.files or data.splits)"
        )
    order = stratified_order(texts, split)
    return [row for row in order if row in chosen], [row for row in order if row not in chosen]


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


def _require_splits(key: str, named: Mapping[str, Any]) -> None:
    for split in named:
        if split not in SPLITS:
            raise ValueError(f"{key}.{split} is no split (got {named[split]}); allowed: {', '.join(SPLITS)}")
    require(f"{key}.train", named.get("train"), bool(named.get("train")), "the training split, not null")
