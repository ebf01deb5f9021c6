"""Where the files of a study are: in its folder, outputs/<study>, or in its archive, <study>.zip."""

import re
from pathlib import Path
from typing import Protocol

from ablate.config.paths import KEPT_CLAIMS
from ablate.files.archive import Archive, open_archive
from ablate.files.reading import LARGEST_TEXT, read_regular
from ablate.schema import TABLES

SUFFIX = ".zip"
REPORT = "report"
LOOKS = "looks.jsonl"
"""The log of looks at the study's claims (`analysis.claims.looks`)."""

RUN_FILES = ("run.json", "config.yaml", "run.log", *(f"{table}.parquet" for table in TABLES))
"""The files of a run that an archive holds: all but checkpoints, locks and what others put there."""


class Source(Protocol):
    """The files of a study, by names such as "none-s0-1a8d10e33d/steps.parquet" with "/" between folder and file."""

    @property
    def path(self) -> Path: ...

    def folders(self) -> list[str]:
        """The names of its folders, which may be runs, sorted."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        ...

    def read(self, name: str, limit: int = LARGEST_TEXT) -> bytes:
        """The content of a file. Raises OSError, and Damaged for one of more than `limit` bytes."""
        ...


class StudyFolder:
    """The files of a study in its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def folders(self) -> list[str]:
        return [path.name for path in sorted(self.path.iterdir()) if path.is_dir()]

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read(self, name: str, limit: int = LARGEST_TEXT) -> bytes:
        return read_regular(self.path / name, limit)


def source_of(path: Path) -> StudyFolder | Archive:
    """The study at `path`, a folder or an archive, of which every byte is checked here.

    Raises ValueError where there is none.
    """
    if path.is_dir():
        return StudyFolder(path)
    if not path.exists():
        raise ValueError(f"no study in {path}: there is no such folder or archive")
    if path.suffix != SUFFIX:
        raise ValueError(f"a study must be a folder, or an archive with a name that ends in {SUFFIX} (got {path})")
    return open_study_archive(path)


def open_study_archive(path: Path) -> Archive:
    """A study's archive, of which every byte is checked. Raises ValueError for a file that is no part of a study."""
    archive = open_archive(path)
    if foreign := next((name for name in archive.members if not is_of_study(name)), None):
        raise ValueError(f"{path} cannot be used: it holds {foreign}, which is no file of a study that we know")
    return archive


def is_of_study(name: str) -> bool:
    """Whether an archive of a study may hold a file of this name.

    >>> is_of_study("none-s0/steps.parquet"), is_of_study("none-s0/checkpoint.pt"), is_of_study(".git/config.yaml")
    (True, False, False)
    """
    folder, _, file = name.partition("/")
    if folder == REPORT:
        return re.fullmatch(r"((tables|figures)/)?\w[\w.-]*", file) is not None
    if folder == KEPT_CLAIMS:
        return "/" not in file and file.endswith(".yaml")
    return name == LOOKS or (not folder.startswith(".") and file in RUN_FILES)


def folder_of(path: Path) -> Path:
    """The folder of a study: for an archive the one next to it, outputs/mine for outputs/mine.zip.

    It holds what is written about the study: its report and the log of looks.
    """
    return path if path.is_dir() else path.with_suffix("")


def archive_of(folder: Path) -> Path:
    """The archive next to a study's folder.

    >>> archive_of(Path("outputs/lr=.1")).as_posix()
    'outputs/lr=.1.zip'
    """
    return folder.with_name(folder.name + SUFFIX)


def possible_runs(source: Source) -> list[str]:
    """The folders that may be runs: neither hidden nor the report."""
    return [name for name in source.folders() if not name.startswith(".") and name != REPORT]
