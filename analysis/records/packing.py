"""A study as one file: outputs/<study> -> <study>.zip, which `analysis.records.study.load` reads, and back.

An archive holds run.json, config.yaml, run.log and the tables of each run, the study's own claims files and its log of
looks. Checkpoints, locks and files of others stay behind, and so does the report unless it is asked for.
"""

import os
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ablate.config.paths import KEPT_CLAIMS
from ablate.config.wording import count
from ablate.files.archive import Archive, write_archive
from ablate.files.atomic import write
from ablate.files.hashing import file_sha256
from ablate.files.links import refuse_links
from ablate.files.reading import LARGEST_TABLE, Damaged
from ablate.files.run_record import RUN_JSON
from analysis.records.source import (
    LOOKS,
    REPORT,
    SUFFIX,
    StudyFolder,
    archive_of,
    is_of_study,
    open_study_archive,
    possible_runs,
)


@dataclass(frozen=True)
class Packed:
    """An archive that was written.

    runs  its runs
    left  what of the study's folder it does not hold, as paths below the folder
    """

    path: Path
    runs: tuple[str, ...]
    left: tuple[str, ...]


def pack_study(folder: Path, path: Path | None = None, report: bool = False) -> Packed:
    """Write the archive of a study, by default <study>.zip next to its folder; `report`: with the study's report.

    Runs may be written meanwhile; each is packed as it is. Raises ValueError where the folder has no run, and rather
    than replace a file that is no archive of this study or has runs that the folder lacks.
    """
    if not folder.is_dir():
        raise ValueError(f"no study in {folder}: there is no such folder")
    path = path or archive_of(folder if folder.name not in ("", "..") else folder.resolve())
    if path.suffix != SUFFIX:
        raise ValueError(f"the name of an archive must end in {SUFFIX} (got {path})")
    source = StudyFolder(folder)
    runs = [run for run in possible_runs(source) if source.has(f"{run}/{RUN_JSON}")]
    if not runs:
        raise ValueError(f"{folder} has no run to pack")
    check_replaced(path, folder, runs)
    names, others = files_in(folder, runs, report)

    def read(name: str) -> bytes:
        try:
            return source.read(name, LARGEST_TABLE)
        except FileNotFoundError as error:
            raise ValueError(f"{folder / name} vanished while the study was packed; pack it again") from error
        except Damaged as error:
            raise ValueError(f"{folder / name} cannot be packed: {error}") from error

    # before the tables, so that no run counts as done with a table from before it ended
    records = {name: read(name) for name in names if name.endswith(f"/{RUN_JSON}")}
    write_archive(path, names, lambda name: records[name] if name in records else read(name))
    return Packed(path, tuple(runs), tuple(others))


def check_replaced(path: Path, folder: Path, runs: Collection[str]) -> None:
    """Raise ValueError unless all runs of the archive that `path` replaces, if any, are among `runs`."""
    refuse_links(path)
    if not path.exists():
        return
    if lost := [run for run in possible_runs(open_study_archive(path)) if run not in runs]:
        raise ValueError(
            f"{path} holds {count(len(lost), 'run')} that {folder} lacks ({lost[0]}): unpack it first with "
            f"python -m analysis unpack {path} -o {folder}, or write another file with -o"
        )


def files_in(folder: Path, runs: Collection[str], report: bool) -> tuple[list[str], list[str]]:
    """The files of a study's folder that are packed, and what is not: files, and folders of which nothing is."""
    packed = {*runs, KEPT_CLAIMS, *([REPORT] if report else [])}
    taken, left = [], []
    for path in sorted(folder.iterdir()):
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.name in packed else [path]
        for file in files:
            name = file.relative_to(folder).as_posix()
            (taken if file.is_file() and is_of_study(name) else left).append(name)
    return taken, left


# --- Unpacking ---


def unpack_study(archive: Archive, folder: Path) -> tuple[str, ...]:
    """Write the runs and other files of an archive that `folder` lacks, and return the runs that were written.

    Files that are there stay; the two logs of looks become one. A run appears in the folder as a whole. A killed call
    is completed by the next one. Raises ValueError rather than write through a link.
    """
    refuse_links(folder, *sorted({(folder / name).parent for name in archive.members}), folder / LOOKS)
    folder.mkdir(parents=True, exist_ok=True)
    here = StudyFolder(folder)
    runs = tuple(run for run in possible_runs(archive) if not here.has(f"{run}/{RUN_JSON}"))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as temporary:
        for name in archive.members:
            of = name.partition("/")[0]
            if of in runs or (of in (KEPT_CLAIMS, REPORT) and not here.has(name)):
                made = Path(temporary, name)
                made.parent.mkdir(parents=True, exist_ok=True)
                made.write_bytes(archive.read(name, LARGEST_TABLE))  # not flushed: the archive has it, too
        for made in sorted(Path(temporary).iterdir()):
            move(made, folder / made.name)
    if archive.has(LOOKS):
        unpack_looks(archive, here)
    return runs


def move(made: Path, target: Path) -> None:
    """Move a folder, at once where there is none of its name, else file by file and run.json last."""
    with suppress(OSError):
        os.rename(made, target)
        return
    target.mkdir(exist_ok=True)
    for path in sorted(made.iterdir(), key=lambda path: path.name == RUN_JSON):
        if path.is_dir():
            move(path, target / path.name)
        else:
            os.replace(path, target / path.name)


def unpack_looks(archive: Archive, here: StudyFolder) -> None:
    before = here.read(LOOKS) if here.has(LOOKS) else b""
    merged = merged_logs(archive.read(LOOKS), before)
    if merged != before:
        write(here.path / LOOKS, lambda file: file.write(merged))


def merged_logs(first: bytes, second: bytes) -> bytes:
    r"""Two logs of one study as one: the first, then the lines that only the second has.

    A log that has all lines of the other stays as it is, to the byte.

    >>> merged_logs(b"a\nb\n", b"b\nc"), merged_logs(b"a\n", b"b\na"), merged_logs(b"a", b"")
    (b'a\nb\nc\n', b'b\na', b'a')
    """
    lines, others = ([line for line in log.split(b"\n") if line.strip()] for log in (first, second))
    if set(lines) <= set(others):
        return second
    new = [line for line in others if line not in set(lines)]
    return b"\n".join([first.rstrip(b"\n"), *new, b""]) if new else first


def differing_files(archive: Archive, folder: Path) -> list[str]:
    """Files of runs and claims in `folder` whose content is another than in the archive."""
    return [
        name
        for name, member in archive.members.items()
        if name != LOOKS and not name.startswith(f"{REPORT}/")
        if (folder / name).exists() and file_sha256(folder / name) != member.sha256
    ]


def unpack_missing(folder: Path) -> str | None:
    """Unpack the runs that only the archive next to a study's folder has; return a line about it if there were any."""
    path = archive_of(folder)
    if not path.is_file():
        return None
    runs = unpack_study(open_study_archive(path), folder)
    return f"{path}: {count(len(runs), 'run')} unpacked into {folder}" if runs else None
