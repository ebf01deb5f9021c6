"""The cache of hidden states: rows come back bit for bit or not at all, whoever writes, and the folder stays small."""

import errno
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate.data.hidden_states import STATE_FILE, StateCache, bytes_used, example_digest, states_folder

WIDTH = 3
TEXTS = {"train": [[1, 2], [3], [1, 2], [4, 5, 6]], "test": [[7, 8], [3]]}
KEY = "weights"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path))
    return states_folder()


def cache(key: str = KEY, limit: int = 10**6, first_only: bool = False, texts: dict = TEXTS) -> StateCache:
    return StateCache(key, texts, WIDTH, first_only, limit)


def digest(ids: Sequence[int]) -> bytes:
    return example_digest(np.array(ids, dtype=np.int64))


def states(ids: Sequence[int]) -> np.ndarray:
    """Some states [L, WIDTH] that depend on the example."""
    return np.random.default_rng(ids).standard_normal((len(ids), WIDTH), dtype=np.float32)


def fill(into: StateCache) -> None:
    for ids in (*TEXTS["train"], *TEXTS["test"]):
        into.put(digest(ids), states(ids))


def kept(of: StateCache) -> list[list[int]]:
    """The examples whose states the cache has; each must have the bits that were put."""
    found = {tuple(ids): of.get(digest(ids)) for ids in (*TEXTS["train"], *TEXTS["test"])}
    assert all(each is None or each.tobytes() == states(ids).tobytes() for ids, each in found.items())
    return [list(ids) for ids, each in found.items() if each is not None]


def test_what_one_process_puts_the_next_gets() -> None:
    first = cache()
    assert kept(first) == []
    fill(first)
    assert kept(first) == kept(cache()) == [[1, 2], [3], [4, 5, 6], [7, 8]]
    assert kept(cache(key="other weights")) == []


def test_an_example_of_no_split_is_not_kept() -> None:
    here = cache()
    here.put(digest([9]), states([9]))
    assert here.get(digest([9])) is None


def test_another_training_split_reads_the_same_test_split() -> None:
    fill(cache())
    assert kept(cache(texts={"train": [[9]], "test": TEXTS["test"]})) == [[3], [7, 8]]


def test_only_the_first_token() -> None:
    here = cache(first_only=True)
    here.put(digest([4, 5, 6]), states([4, 5, 6])[:1])
    found = cache(first_only=True).get(digest([4, 5, 6]))
    assert found is not None and found.tobytes() == states([4, 5, 6])[:1].tobytes()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_row_is_absent(folder: Path, data: st.DataObject) -> None:
    """Any byte that is changed costs at most the row that it is in, and the row can be written again."""
    fill(cache())
    (file,) = (path for path in folder.iterdir() if path.stat().st_size == 2 * 32 + 3 * WIDTH * 4)  # of the test split
    content = bytearray(file.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    content[start] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    damaged = cache()
    assert len(kept(damaged)) == 3
    fill(damaged)
    assert len(kept(cache())) == 4


@pytest.mark.parametrize("kind", ["short", "fifo", "folder", "link"])
def test_a_file_of_another_kind(folder: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is not the file that we made is made again, or nothing is kept; nothing else is written or waited for."""
    fill(cache())
    outside = folder.parent / "outside"
    outside.write_bytes(b"mine")
    for path in [path for path in folder.iterdir() if STATE_FILE.fullmatch(path.name)]:
        path.unlink()
        if kind == "short":
            path.write_bytes(b"x")
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(outside)
    caplog.clear()
    again = cache()
    assert kept(again) == []
    fill(again)
    assert len(kept(again)) == (4 if kind in ("short", "fifo") else 0)
    assert ("damaged" if kind in ("short", "fifo") else "cannot be cached") in caplog.text
    assert outside.read_bytes() == b"mine"


def test_a_full_disk_is_a_warning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    here = cache()
    monkeypatch.setattr("ablate.data.hidden_states.StatesFile.put", full)
    fill(here)
    assert kept(here) == []
    assert caplog.text.count("No space left on device") == 1


def test_the_limit_holds(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files take whole blocks of the disk, at most one block more than what is written."""
    wide, limit = 512, 100_000
    texts = {"train": [[k] for k in range(200)]}
    here = StateCache(KEY, texts, wide, False, limit)
    assert "trainer.frozen_prefix_gb" in caplog.text
    for ids in texts["train"]:
        here.put(digest(ids), np.full((1, wide), ids[0], dtype=np.float32))
    assert 0.5 * limit < bytes_used(folder) < 1.1 * limit < here.needs
    rows = [here.get(digest(ids)) for ids in texts["train"]]
    assert [row is not None for row in rows] == sorted((row is not None for row in rows), reverse=True)
    assert rows[0] is not None and rows[-1] is None


def test_no_room_keeps_nothing_and_makes_no_folder(folder: Path) -> None:
    none = cache(limit=0)
    fill(none)
    assert kept(none) == [] and not folder.exists()


def test_the_least_recently_used_files_go_first(folder: Path) -> None:
    for age, key in enumerate(("oldest", "old")):
        fill(cache(key))
        for path in folder.iterdir():
            os.utime(path, (10 * age, 10 * age)) if path.stat().st_mtime > 1000 else None
    (folder / "mine").write_bytes(bytes(50_000))
    fill(cache("old"))
    limit = bytes_used(folder) - 1
    now = cache("new", limit=limit)
    fill(now)
    assert len(kept(now)) == 4 and len(kept(cache("old"))) == 4
    assert (folder / "mine").exists()
    assert len(kept(cache("oldest"))) < 4


def test_a_removed_file_is_no_longer_written(folder: Path) -> None:
    here = cache()
    for path in folder.iterdir():
        path.unlink()
    fill(here)
    assert kept(here) == [] and not any(folder.iterdir())


def write_often(seed: int) -> None:
    """In a process: put all rows in an order of its own, many times, and check what is there in between."""
    draw = np.random.default_rng(seed)
    texts = [*TEXTS["train"], *TEXTS["test"]]
    for _ in range(50):
        here = cache()
        for k in draw.permutation(len(texts)):
            here.put(digest(texts[k]), states(texts[k]))
            kept(here)


def test_processes_write_at_the_same_time() -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(seed,)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(kept(cache())) == 4
