"""Atomic writes: what a failed one leaves, and what its message names."""

import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablate.files.atomic import replacing, write_together
from ablate.files.sealed import Sealing


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file may be larger than this, as after `ulimit -f 100`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Python does so in every command
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, before[1]))
    yield 100 * 1024
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [24_000, 26_000, 1_000_000])
def test_a_limit_on_the_size_of_files(size: int, small_files: int, tmp_path: Path) -> None:
    """torch's own error, of which a user understands nothing, is not shown, and the former file stays."""
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"former")
    tensors = [torch.randn(size // 10) for _ in range(11)]
    with pytest.raises(OSError, match=r"checkpoint.pt cannot be written: File too large$"), replacing(path) as file:
        torch.save(tensors, Sealing(file))  # type: ignore[arg-type]
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("checkpoint.pt", b"former")]


def test_a_folder_in_a_files_place(tmp_path: Path) -> None:
    (tmp_path / "b/mine").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"/b cannot be written: Is a directory$"):
        write_together(tmp_path, {"a": b"1", "b": b"2"})
    with pytest.raises(IsADirectoryError, match=r"/b cannot be written: Is a directory$"), replacing(tmp_path / "b"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "mine"]


def test_a_file_in_a_folders_place(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("mine")
    with pytest.raises(FileExistsError, match=r"/tables cannot be written: File exists$"):
        write_together(tmp_path / "tables", {"a": b"1"})
    assert (tmp_path / "tables").read_text() == "mine"


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), replacing(tmp_path / "a"):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(RuntimeError, match=r"^no error of the system$"), replacing(tmp_path / "a"):
        raise RuntimeError("no error of the system")
    assert not os.listdir(tmp_path)


def test_a_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(paths[0]))

    for change in ("replace", "unlink"):
        monkeypatch.setattr(os, change, refuse)
    with pytest.raises(OSError, match=r"/a cannot be written: Read-only file system$"), replacing(tmp_path / "a"):
        pass
