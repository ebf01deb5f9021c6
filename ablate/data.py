"""Data sets: what a study trains and tests on. The only place that knows how `datasets` loads them.

An option (`MovieSnippets`, `Synthetic`, `Hub`, `Files`) says where texts are and what identifies them; `load`
gives the three splits of any of them, checked; `tokenise` makes them numbers and `collate` batches of these.

What is cut or sampled is chosen by a hash of the text itself, class by class: the choice depends neither on a
library's version nor on the file's order, and a file sorted by class does no harm.

    splits = load(Synthetic(max_length=64, train_examples=100, test_examples=None, seed=0))
    len(splits["train"].text)      # 100

Nothing heavy is imported at the top: the identity of the data is in a run's name, before anything is loaded.
"""

import csv
import glob
import hashlib
import json
import logging
import re
import string
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate import synthetic
from ablate.assets import ASSETS, fetch, file_sha256
from ablate.checks import require

if TYPE_CHECKING:
    import pyarrow
    import torch
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("ablate")

SPLITS = ("train", "validation", "test")
CUT = {"test": 2000, "validation": 500}  # where a source has no such split: a tenth of train, at most so many
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
MAX_CHARACTERS = 1_000_000  # more in one text is a broken file (an unclosed quote, say)


@dataclass(frozen=True)
class Texts:
    """A split: texts and their classes, 0..k-1. `source` says where they are from, for messages."""

    text: list[str]
    label: list[int]
    source: str


@dataclass(frozen=True)
class Data(ABC):
    """What the options of all data sets share.

    max_length: tokens a text is cut to. train_examples, test_examples: how many to use, None = all.
    """

    max_length: int
    train_examples: int | None
    test_examples: int | None

    def __post_init__(self) -> None:
        require("max_length", self.max_length, self.max_length >= 3, "a number of tokens, from 3 on")
        for key in ("train_examples", "test_examples"):
            value = getattr(self, key)
            require(key, value, value is None or value >= 2, "null or a whole number from 2 on")

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells these texts from others, whatever place they lie in; cheap, loads nothing."""

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
        return {split: _select(texts, index, split) for split, index in ends.items()}


@dataclass(frozen=True)
class Synthetic(Data):
    """Sentences on films from a small grammar (`ablate.synthetic`): 2,000, 200 and 400, balanced."""

    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require("seed", self.seed, self.seed >= 0, "a whole number from 0 on")

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
    splits: which of its splits is train, validation and test; null = cut from train.
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
        local = _local(self.path)
        if local is None:
            return {"path": self.path, "name": self.name, "revision": self.revision}
        return {"sha256": _tree_sha256(local), "name": self.name}

    def read(self) -> dict[str, Texts]:
        files = _split_files(_local(self.path) or _from_hub(self.path, self.revision), self.name)
        wanted = {split: there for split, there in self.splits.items() if there is not None}
        for split, there in wanted.items():
            allowed = f"one that {self.path} has: {', '.join(files)}; or null: cut from train"
            require(f"data.splits.{split}", there, there in files, allowed)
        return {split: _read_files(files[there], self.text, self.label) for split, there in wanted.items()}


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
        return {split: _read_files([path], self.text, self.label) for split, path in self._paths().items()}

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
            splits[split] = _select(whole, order[:size], f"{split} split cut from it")
            splits["train"] = _select(whole, order[size:], f"less the {split} split")
    for split, count in (("train", source.train_examples), ("test", source.test_examples)):
        if count is not None:
            splits[split] = sample(splits[split], f"{split}_examples", count)
    check_classes(splits)
    if common := overlap(splits["train"].text, splits["test"].text):
        log.warning("data: %d of %d test texts are in the training split, too", common, len(splits["test"].text))
    return {split: splits[split] for split in SPLITS}


def stratified_order(texts: Texts, salt: str) -> list[int]:
    """All rows, ordered so that the first n, for any n, are a stratified sample (each class to within one).

    Within a class by the sha256 of salt and text; the j-th of a class of m comes at (j + 1/2) / m of the way.
    """
    members = defaultdict(list)
    for row, (text, label) in enumerate(zip(texts.text, texts.label, strict=True)):
        members[label].append((hashlib.sha256(f"{salt}\n{text}".encode()).digest(), row))
    ranked = [
        ((place + 0.5) / len(rows), label, row)
        for label, rows in members.items()
        for place, (_, row) in enumerate(sorted(rows))
    ]
    return [row for _, _, row in sorted(ranked)]


def sample(texts: Texts, key: str, count: int) -> Texts:
    """`count` of the texts, stratified; `key` is the setting that asks for it, and the hash's salt."""
    require(f"data.{key}", count, count <= len(texts.text), f"at most the {len(texts.text)} there are")
    return _select(texts, stratified_order(texts, key)[:count], f"{key}={count}")


def overlap(train: Sequence[str], test: Sequence[str]) -> int:
    """How many of the test texts are in train, case, spaces and punctuation aside.

    >>> overlap(["A dull film."], ["a dull film .", "A fine film."])
    1
    """
    drop = str.maketrans("", "", string.whitespace + string.punctuation)
    known = {text.casefold().translate(drop) for text in train}
    return sum(text.casefold().translate(drop) in known for text in test)


def check_classes(splits: dict[str, Texts]) -> None:
    """Train has the classes 0..k-1, the others no further ones, and each split two at least."""
    known = set(splits["train"].label)
    for texts in splits.values():
        if not texts.text:
            raise ValueError(f"{texts.source}: no rows")
        if len(set(texts.label)) == 1:
            raise ValueError(f"{texts.source}: all {len(texts.label)} labels are {texts.label[0]}; need two classes")
    absent = next(label for label in range(len(known) + 1) if label not in known)
    if absent < max(known):
        row, label = next((row, label) for row, label in enumerate(splits["train"].label, 1) if label > absent)
        raise ValueError(
            f"{splits['train'].source}, row {row}: label {label}, but no row has {absent}; allowed are 0..k-1"
        )
    for texts in splits.values():
        for row, label in enumerate(texts.label, 1):
            if label not in known:
                raise ValueError(f"{texts.source}, row {row}: label {label}, which no row of the training split has")


def _select(texts: Texts, index: Sequence[int], how: str) -> Texts:
    return Texts([texts.text[i] for i in index], [texts.label[i] for i in index], f"{texts.source}, {how}")


def _require_splits(key: str, named: dict[str, str | None]) -> None:
    for split in named:
        require(f"{key}.{split}", named[split], split in SPLITS, f"{key} of {', '.join(SPLITS)}")
    require(f"{key}.train", named.get("train"), bool(named.get("train")), "the training split, it can't be null")


# --- files ---


def _local(path: str) -> Path | None:
    """`path` as a local file or folder, or None where it can only be the hub's ("owner/name")."""
    local = Path(path).expanduser()
    if local.exists():
        return local
    hub = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", path) is not None
    require("data.path", path, hub, "a file or folder that exists, or a data set of the hub (owner/name)")
    return None


def _tree_sha256(path: Path) -> str:
    """The hash of a file, or of the names and contents of all files in a folder (hidden ones aside)."""
    if path.is_file():
        return file_sha256(path)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    return hashlib.sha256("".join(f"{name} {file_sha256(path / name)}\n" for name in shown).encode()).hexdigest()


def _from_hub(path: str, revision: str | None) -> Path:
    """The repository in the hub's cache, downloaded unless there (`load_dataset` retries 23 s offline)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(path, repo_type="dataset", revision=revision))
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise ValueError(
            f"data.path={path}, data.revision={revision}: no file or folder, not in the hub's cache, not to "
            f"be had from the hub ({str(error).splitlines()[0]}); a local copy: data.path=<folder or file>"
        ) from error


def _split_files(path: Path, name: str | None) -> dict[str, list[Path]]:
    """The files of each split, as `datasets` tells them by the folder's README and the files' names."""
    if path.is_file():
        return {"train": [path]}
    import datasets

    try:
        found = datasets.load_dataset_builder(str(path.resolve()), name).config.data_files
    except (OSError, ValueError) as error:
        raise ValueError(f"data.path={path}: {error}") from error
    return {str(split): [Path(file) for file in files] for split, files in (found or {}).items()}


class FileError(ValueError):
    """A data file that can't be used; the message names the file, and the row where there is one."""


def _read_files(files: Sequence[Path], text: str, label: str) -> Texts:
    """The rows of some files, each checked by itself, so that an error names the file and its row."""
    parts = [_checked(list(_rows(file, text, label)), file) for file in files]
    source = ", ".join(str(file) for file in files)
    return Texts([t for part in parts for t in part.text], [y for part in parts for y in part.label], source)


def _rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Text and label of each row, as the file has them."""
    formats = [suffix for suffix in file.suffixes if suffix not in COMPRESSIONS][-1:]
    match formats:
        case [".csv"]:
            return _csv_rows(file, ",", text, label)
        case [".tsv"]:
            return _csv_rows(file, "\t", text, label)
        case [".jsonl"] | [".ndjson"]:
            return _json_rows(file, text, label)
        case _:
            return _datasets_rows(file, text, label)


def _csv_rows(file: Path, separator: str, text: str, label: str) -> Iterator[tuple[str, str]]:
    """By Python's reader, which leaves fields as they are: to pandas a review "NA" or "None" is missing."""
    csv.field_size_limit(MAX_CHARACTERS)
    reader = csv.reader(_lines(file), delimiter=separator, strict=True)
    try:
        header = next(reader, [])
        at = [_column(header, name, file) for name in (text, label)]
        for fields in reader:
            if fields and len(fields) != len(header):
                raise FileError(
                    f"{file}, line {reader.line_num}: {len(fields)} fields, the header has {len(header)}; "
                    "a text with the separator in it needs quotes"
                )
            if fields:
                yield fields[at[0]], fields[at[1]]
    except csv.Error as error:
        raise FileError(f"{file}, line {reader.line_num}: {error}; is a quote left open?") from error


def _json_rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """By Python's parser: Arrow's makes floats of all labels if one is, and dates of some texts."""
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FileError(f"{file}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict) or not {text, label} <= row.keys():
            raise FileError(f"{file}, line {number}: {_short(line)}: needs {text!r} and {label!r}")
        yield row[text], row[label]


def _lines(file: Path) -> Iterator[str]:
    """The lines of a text file, UTF-8 without NUL (a byte order mark in front is no part of the text)."""
    from fsspec.implementations.local import LocalFileSystem

    with LocalFileSystem().open(str(file), "rb", compression="infer") as lines:
        for number, line in enumerate(lines, 1):
            try:
                decoded = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
                raise FileError(f"{file}, line {number}: {wrong}: not UTF-8; save it as UTF-8") from error
            if "\0" in decoded:
                raise FileError(f"{file}, line {number}: {_short(decoded)}: a NUL in a text file")
            yield decoded


def _datasets_rows(file: Path, text: str, label: str) -> Iterator[tuple[Any, Any]]:
    """By `datasets`, which tells the format by the name; streamed, as its cache may be out of date."""
    import datasets

    try:
        pattern = glob.escape(str(file.absolute()))  # as datasets takes a name for one
        rows = datasets.load_dataset(str(file.parent), data_files=pattern, split="train", streaming=True)
        row = 1
        for table in rows.with_format("arrow").iter(batch_size=1000):
            columns = [table[_column(table.column_names, name, file)] for name in (text, label)]
            yield from zip(*(_values(column, file, row) for column in columns), strict=True)
            row += len(table)
    except FileError:
        raise
    except Exception as error:  # whatever a library makes of a broken file
        raise FileError(f"{file}: can't be read: {str(error) or type(error).__name__}") from error


def _values(column: "pyarrow.ChunkedArray", file: Path, first: int) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for row, value in enumerate(column, first):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise FileError(f"{file}, row {row}: {_short(error.object)}: {error}") from error
        raise


def _column(names: Sequence[str], name: str, file: Path) -> int:
    if name not in names:
        has = ", ".join(names) or "none"
        raise FileError(f"{file}: no column {name!r}, it has {has}; see data.text and data.label")
    return list(names).index(name)


def _checked(rows: list[tuple[Any, Any]], file: Path) -> Texts:
    """The rows as a split, or an error for the first that is no use (counted from 1, less a header)."""
    text, label = [value for value, _ in rows], [value for _, value in rows]
    for row, value in enumerate(text, 1):
        if problem := _text_problem(value):
            raise FileError(f"{file}, row {row}: text {_short(value)}: {problem}")
    numbers = [_whole(value) for value in label]
    wrong = [row for row, number in enumerate(numbers) if number is None or number < 0]
    if wrong:
        # In Parquet one label of 0.5 makes floats of the whole column: name that one.
        row = next((row for row in wrong if not _is_whole_float(label[row])), wrong[0])
        raise FileError(
            f"{file}, row {row + 1}: label {_short(label[row])}: allowed are whole numbers 0..k-1 "
            "(-1 marks labels that are kept secret)"
        )
    return Texts(text, numbers, str(file))


def _text_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return "not a string"
    if not value.strip():
        return "empty"
    if "\0" in value:
        return "holds a NUL character"
    if re.search("[\ud800-\udfff]", value):
        return "holds half a surrogate pair, which is no character"
    if len(value) > MAX_CHARACTERS:
        return f"{len(value):,} characters, allowed are {MAX_CHARACTERS:,}; is a quote left open?"
    return None


def _whole(value: Any) -> int | None:
    """A label as an integer: an integer, or (as CSV has it) its digits. No floats, no booleans."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]+\s*", value) else None


def _is_whole_float(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _short(value: Any) -> str:
    """
    >>> _short("x" * 100)[-12:]
    "xxxxxxxx'..."
    """
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:56]}{repr(value)[0]}..."


# --- tokens ---


@dataclass(frozen=True)
class Examples:
    """A tokenised split; `truncated` counts the texts that were longer than allowed."""

    input_ids: list[list[int]]
    label: list[int]
    truncated: int


@dataclass(frozen=True, eq=False)
class Batch:
    """LongTensors of B examples, padded on the right to the longest, L."""

    input_ids: "torch.Tensor"  # [B, L]
    attention_mask: "torch.Tensor"  # [B, L], 1 = token, 0 = padding
    labels: "torch.Tensor"  # [B]

    def to(self, device: "torch.device | str") -> "Batch":
        return Batch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device))


def tokenise(texts: Texts, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Examples:
    """Token ids by a fast tokenizer, its special tokens included, at most `max_length` a text."""
    encoded = tokenizer(texts.text, truncation=True, max_length=max_length)
    truncated = sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    return Examples(encoded["input_ids"], texts.label, truncated)


def collate(examples: Examples, index: Sequence[int], pad_id: int) -> Batch:
    """The examples `index` as one batch."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    rows = [torch.tensor(examples.input_ids[i]) for i in index]
    lengths = torch.tensor([len(row) for row in rows])
    input_ids = pad_sequence(rows, batch_first=True, padding_value=pad_id)  # [B, L]
    mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()  # [B, L]
    return Batch(input_ids, mask, torch.tensor([examples.label[i] for i in index]))


def planned_order(examples: int, count: int, seed: int) -> "torch.Tensor":
    """The first `count` example numbers [count] of endless epochs, each a fresh permutation of 0..examples-1.

    Step t takes the next batch of them, across the edge of an epoch, too. The order for a smaller count is
    the head of that for a larger.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    epochs = -(-count // examples)
    return torch.cat([torch.randperm(examples, generator=generator) for _ in range(epochs)])[:count]
