"""The token cache: same tokens with and without it, never out of date, and no harm if it is missing."""

import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ablate.data import corpus as module
from ablate.data import sources, token_cache
from ablate.data.batches import collate
from ablate.data.corpus import Corpus, build_corpus, corpus, pack
from ablate.data.sources import Data, Files, Hub, MovieSnippets, Synthetic
from ablate.model.loading import Model, Pretrained, Tiny
from ablate.run import process, run
from tests.faults.models import save_model
from tests.tools import ROOT, compose_settings, make_odd, run_settings

ALL = {"max_length": 16, "train_examples": None, "test_examples": None}
COLUMNS = {"text": "text", "label": "label"}
TINY = Tiny(lr=1e-3)
SYNTHETIC = Synthetic(max_length=64, train_examples=100, test_examples=40, seed=0)
HUB = Hub(
    **ALL, **COLUMNS, path="owner/name", name=None, revision="0" * 40,
    splits={"train": "train", "validation": None, "test": "test"},
)  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the cache, empty."""
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    yield token_cache.folder()


@pytest.fixture
def reviews(tmp_path: Path) -> Files:
    """A user's own files: 30 and 4 texts, one of them in both."""
    rows = [(f"{word} film number {i}", label) for i in range(15) for label, word in enumerate(("dull", "fine"))]
    return files_of(tmp_path / "train.csv", rows, [("Fine film number 7.", 1), ("new " * 20, 0), ("a", 0), ("b", 1)])


def files_of(train: Path, rows: list[tuple[str, int]], test_rows: list[tuple[str, int]]) -> Files:
    paths = {"train": train, "test": train.with_name(f"test{train.suffix}")}
    for path, content in zip(paths.values(), (rows, test_rows), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in content))
    return Files(**ALL, **COLUMNS, files={"validation": None, **{split: str(path) for split, path in paths.items()}})


@pytest.fixture
def pretrained(tmp_path: Path) -> Pretrained:
    save_model(tmp_path / "model")
    return Pretrained(str(tmp_path / "model"), None, lr=1e-3)


def again(model: Model, source: Data, monkeypatch: pytest.MonkeyPatch, kind: str = "classification") -> Corpus:
    """The corpus as another process finds it: no text is read."""
    with monkeypatch.context() as patch:
        patch.setattr(sources, "load_splits", lambda *_: pytest.fail("texts were read"))
        return corpus(model, source, kind=kind)


def same(one: Corpus, other: Corpus) -> bool:
    first, second = pack(one), pack(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def entry(place: Path) -> Path:
    (found,) = place.iterdir()
    return found


def test_what_is_read_is_what_was_made(reviews: Files, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (TINY, pretrained):
        for source in (SYNTHETIC, reviews):
            plain, first = build_corpus(model, source), corpus(model, source)
            assert same(first, plain) and same(again(model, source, monkeypatch), plain)
            for split in sources.SPLITS:  # the types are the same too, as far as they matter
                mine, theirs = getattr(first, split), getattr(plain, split)
                assert all(map(np.array_equal, mine.input_ids, theirs.input_ids))
                assert mine.label == theirs.label and type(mine.label[0]) is int
                one, other = collate(mine, [2, 0], 0), collate(theirs, [2, 0], 0)
                assert one.input_ids.dtype == other.input_ids.dtype and one.input_ids.equal(other.input_ids)
            assert (len(first.tokenizer), first.tokenizer.pad_token_id) == (len(plain.tokenizer), 0)
            assert (first.classes, first.overlap) == (plain.classes, int(source is reviews))
    assert not same(corpus(TINY, SYNTHETIC), corpus(TINY, reviews))  # the control


def test_large_ids_fit() -> None:
    plain = build_corpus(TINY, SYNTHETIC)
    for largest in (255, 256, 65_535, 65_536, 2**40):
        rows = [[0, largest], *plain.train.input_ids[1:]]
        packed = pack(replace(plain, train=replace(plain.train, input_ids=rows)))
        assert module.unpack(packed).train.input_ids[0].tolist() == [0, largest]


def test_a_run_does_not_depend_on_the_cache(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = compose_settings(
        "model=tiny", "data=synthetic", "data.train_examples=40", "data.test_examples=20", "trainer.threads=1",
        "trainer.steps=3", "trainer.batch_size=4", "trainer.probe_every=1", "trainer.probe_examples=4",
    )  # fmt: skip

    def tables(name: str) -> list:
        process.current.corpora.clear()
        run_settings(settings, tmp_path / name)
        found = [pq.read_table(tmp_path / name / f"{table}.parquet") for table in ("steps", "evals", "predictions")]
        return [found[0].drop_columns(["seconds"]), *found[1:]]

    made = tables("made")
    assert entry(place).is_file()
    with monkeypatch.context() as patch:
        patch.setattr(sources, "load_splits", lambda *_: pytest.fail("texts were read"))
        assert tables("read") == made
    with monkeypatch.context() as patch:
        patch.setattr(
            run, "corpus", lambda model, source, known, kind: build_corpus(model, source, kind)
        )  # what no cache has touched
        assert tables("plain") == made
    settings["seed"] = 1
    assert tables("control") != made


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:3000] + bytes([content[3000] ^ 16]) + content[3001:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["empty", "shorter than a hash", "a byte less", "half", "first byte", "a byte in it", "the hash"],
)
def test_damage_is_found_and_mended(
    place: Path, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = corpus(TINY, SYNTHETIC)
    path = entry(place)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert same(corpus(TINY, SYNTHETIC), made)
    assert caplog.messages == [f"{path} is damaged (its hash does not match); we tokenise the data again"]
    assert entry(place).read_bytes() == whole
    assert same(again(TINY, SYNTHETIC, monkeypatch), made)


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_an_entry_that_is_no_regular_file_is_not_read(tmp_path, monkeypatch, kind):
    """A reader of a FIFO would wait for a writer."""
    monkeypatch.setattr(token_cache, "folder", lambda: tmp_path)
    make_odd(tmp_path / "entry", kind)
    assert token_cache.load_entry("entry") is None


def test_two_processes_at_once(place: Path) -> None:
    """Both write the entry at the same moment; both get the right tokens, and one complete entry stays."""
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(2), context.Queue()
    both = [context.Process(target=make_at_once, args=(barrier, found)) for _ in range(2)]
    for child in both:
        child.start()
    answers = [found.get(timeout=300) for _ in both]
    for child in both:
        child.join()
    assert [child.exitcode for child in both] == [0, 0]
    assert answers == [(True, len(corpus(TINY, SYNTHETIC).train.label))] * 2
    assert entry(place).name == token_cache.entry_key(TINY, SYNTHETIC)


def make_at_once(barrier, found) -> None:
    store = token_cache.store_entry

    def meet(key: str, arrays: dict) -> None:
        barrier.wait(300)
        store(key, arrays)

    token_cache.store_entry = meet
    made = corpus(TINY, SYNTHETIC)
    read = token_cache.load_entry(token_cache.entry_key(TINY, SYNTHETIC))
    found.put((read is not None and same(module.unpack(read), made), len(made.train.label)))


def no_folder(place: Path, patch: pytest.MonkeyPatch) -> None:
    place.parents[1].write_text("a file in the cache's place")


def no_room(place: Path, patch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr(os, "fsync", full)


def no_home(place: Path, patch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ABLATE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        patch.delenv(name, raising=False)
    patch.setattr(Path, "home", unknown)


def no_right(place: Path, patch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write anywhere")
    place.mkdir(parents=True)
    place.chmod(0o500)


@pytest.mark.parametrize("fault", [no_folder, no_room, no_home, no_right])
def test_works_without_a_cache(
    place: Path, fault: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        fault(place, patch)
        assert same(corpus(TINY, SYNTHETIC), build_corpus(TINY, SYNTHETIC))
    (message,) = caplog.messages
    assert "cannot be cached" in message and "ABLATE_CACHE" in message
    assert not place.is_dir() or not list(place.iterdir())  # no incomplete file


def test_a_file_that_another_user_may_not_read_is_made_again(place: Path) -> None:
    corpus(TINY, SYNTHETIC)
    path = entry(place)
    path.unlink()
    path.mkdir()  # unreadable for root, too
    assert same(corpus(TINY, SYNTHETIC), build_corpus(TINY, SYNTHETIC))


def test_the_folder_may_go_at_any_time(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = compose_settings(
        "model=tiny", "data=synthetic", "data.train_examples=40", "data.test_examples=20", "trainer.threads=1",
        "trainer.steps=3", "trainer.batch_size=4", "trainer.probe_examples=4",
    )  # fmt: skip
    undisturbed = run_settings(settings, tmp_path / "undisturbed")["metrics"]
    train = run.train

    def disturbed(*arguments: object) -> Iterator:
        for moment in train(*arguments):
            shutil.rmtree(place, ignore_errors=True)
            yield moment

    monkeypatch.setattr(run, "train", disturbed)
    assert run_settings(settings, tmp_path / "disturbed")["metrics"] == undisturbed
    assert not place.exists()


def test_what_the_key_counts(tmp_path: Path, reviews: Files, pretrained: Pretrained, monkeypatch) -> None:
    """Everything that the tokens depend on; each change gives another key."""
    keys = [token_cache.entry_key(pretrained, reviews)]

    def counts(model: Model = pretrained, source: Data = reviews) -> None:
        key = token_cache.entry_key(model, source)
        assert key not in keys
        keys.append(key)

    for change in ({"max_length": 17}, {"train_examples": 8}, {"test_examples": 2}, {"text": "other"}):
        counts(source=replace(reviews, **change))
    counts(model=TINY)
    counts(model=replace(TINY, vocabulary=50))
    counts(source=SYNTHETIC)
    counts(source=replace(SYNTHETIC, seed=1))
    counts(source=HUB)
    counts(source=replace(HUB, revision="1" * 40))
    counts(source=replace(HUB, name="other"))
    counts(source=replace(HUB, splits=HUB.splits | {"test": "validation"}))
    with monkeypatch.context() as patch:
        patch.setattr(token_cache, "version", lambda package: "0")
        counts()
    with monkeypatch.context() as patch:
        patch.setattr(token_cache, "MAKERS", token_cache.MAKERS[1:])  # as if it had other content
        counts()
    path = Path(reviews.files["train"])
    typed = path.with_suffix(".tsv")  # the same bytes, read in another way
    shutil.copy(path, typed)
    counts(source=replace(reviews, files=reviews.files | {"train": str(typed)}))
    path.write_text(path.read_text().replace("film number 7,1", "film number 7,0"))  # one label
    counts()
    tokenizer = Path(pretrained.path) / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["normalizer"] = None
    tokenizer.write_text(json.dumps(content))
    counts()


def test_what_the_key_leaves_out(tmp_path: Path, reviews: Files, pretrained: Pretrained) -> None:
    """Settings that the tokens do not depend on: the data are not tokenised again."""
    key = token_cache.entry_key(pretrained, reviews)
    assert token_cache.entry_key(replace(pretrained, lr=0.5, head_init="default"), reviews) == key
    assert token_cache.entry_key(pretrained, replace(reviews, group_by_length=True)) == key
    moved = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-moved"))
    there = {split: path and str(moved / Path(path).name) for split, path in reviews.files.items()}
    save_model(moved / "model", scale=2)  # other weights, the same tokenizer
    assert replace(pretrained, path=str(moved / "model")).identity() != pretrained.identity()
    assert token_cache.entry_key(replace(pretrained, path=str(moved / "model")), replace(reviews, files=there)) == key
    assert token_cache.entry_key(replace(TINY, lr=0.5, dropout=0.5, layers=1), SYNTHETIC) == token_cache.entry_key(
        TINY, SYNTHETIC
    )


def test_a_sweep_over_other_settings_reads_texts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, Corpus] = {}
    first = corpus(TINY, SYNTHETIC, known)
    monkeypatch.setattr(sources, "load_splits", lambda *_: pytest.fail("texts were read"))
    assert corpus(replace(TINY, lr=0.5), SYNTHETIC, known) is first


def test_every_option_has_a_key() -> None:
    for source in (SYNTHETIC, HUB, MovieSnippets(**ALL)):
        assert len(token_cache.entry_key(TINY, source)) == 64


def test_modules_that_make_tokens_are_counted() -> None:
    """The modules that `corpus.build_corpus` imports directly or indirectly, without those that make no tokens."""
    found, left = set(), {"data/batches", "data/sources", "model/loading", "data/texts", "data/tokens"}
    while left:
        found |= left
        code = "\n".join((ROOT / "ablate" / f"{name}.py").read_text() for name in left)
        named = re.findall(r"^from ablate(?:\.([\w.]+))? import (.+)", code, re.MULTILINE)
        modules = {f"{name.replace('.', '/')}/{each}" for name, what in named for each in ["", *what.split(", ")]}
        left = {
            module.rstrip("/") for module in modules if (ROOT / "ablate" / f"{module.rstrip('/')}.py").exists()
        } - found
    make_none = {f"files/{name}" for name in ("assets", "atomic", "hashing", "hub", "links", "reading")}
    make_none |= {f"model/{name}" for name in ("head", "parameter_roles", "weights")}
    make_none |= {"config/checks", "config/paths", "config/wording", "distributed/ranks", "schema", "seeds"}
    assert found - make_none == set(token_cache.MAKERS) - {"data/corpus", "data/token_cache"}


def test_a_branch_of_the_hub_is_not_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its texts can change tomorrow under the same name."""
    splits = {split: Synthetic.read(SYNTHETIC)[split] for split in ("train", "test")}
    monkeypatch.setattr(Hub, "read", lambda self: dict(splits))
    for revision in (None, "main"):
        corpus(TINY, replace(HUB, revision=revision))
        assert not place.exists()
    corpus(TINY, HUB)
    assert entry(place).is_file()


def test_every_process_warns(reviews: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    known: dict[str, Corpus] = {}
    corpus(TINY, reviews, known)
    warned = list(caplog.messages)
    assert warned == [
        "data: 1 of 4 test texts are also in the training split",
        "data: 1 of 4 test texts are longer than data.max_length=16 tokens and were cut",
    ]
    corpus(TINY, reviews, known)
    assert caplog.messages == warned  # once per process
    again(TINY, reviews, monkeypatch)
    assert caplog.messages == warned * 2


def test_nothing_to_warn_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"film number {i}", i % 2) for i in range(30)]
    corpus(TINY, files_of(tmp_path / "train.csv", rows, [("new", 0), ("newer", 1)]))
    assert caplog.messages == []


def test_the_folder_has_a_limit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used entry is removed first."""
    sources = [replace(SYNTHETIC, seed=seed) for seed in range(3)]
    names = [token_cache.entry_key(TINY, source) for source in sources]
    for age, source in enumerate(sources[:2]):
        corpus(TINY, source)
        os.utime(place / names[age], (age, age))
    again(TINY, sources[0], monkeypatch)  # used now, so the second is the oldest
    monkeypatch.setattr(token_cache, "LIMIT", sum(path.stat().st_size for path in place.iterdir()) + 1000)
    corpus(TINY, sources[2])
    assert sorted(path.name for path in place.iterdir()) == sorted([names[0], names[2]])
