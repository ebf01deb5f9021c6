"""Commands that turn a study's folder into one file and back: `python -m analysis pack` and `unpack`."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ablate.config.wording import count
from analysis.records.packing import differing_files, pack_study, unpack_study
from analysis.records.source import folder_of, open_study_archive, possible_runs
from analysis.records.study import load


def archive_command(name: str, *words: str) -> list[str]:
    """Run one of COMMANDS; return the lines to print. Raises ValueError, also for what the system refuses."""
    try:
        return COMMANDS[name](words)
    except OSError as error:
        raise ValueError(str(error)) from error


def pack_command(words: Sequence[str]) -> list[str]:
    """Write a study's archive, and say what it holds, which runs in it do not count, and what it leaves out."""
    parser = argparse.ArgumentParser(prog="python -m analysis pack", description="Write a study as one file.")
    parser.add_argument("study", type=Path, help="the study's folder, outputs/<study>")
    parser.add_argument("-o", "--output", type=Path, help="the archive; by default <study>.zip next to the folder")
    parser.add_argument("--report", action="store_true", help="put the study's report in, too")
    arguments = parser.parse_args(words)
    packed = pack_study(arguments.study, arguments.output, arguments.report)
    lines = [f"{packed.path}: {count(len(packed.runs), 'run')}, {packed.path.stat().st_size / 1e6:.1f} MB"]
    lines += [
        f"{problem.kind}: {problem.run}: {problem.problem}"
        for problem in load(packed.path).problems.itertuples()
        if problem.kind != "missing"
    ]
    left = Counter(name.rpartition("/")[2] for name in packed.left)
    lines += [f"left out: {', '.join(f'{n} {name}' if n > 1 else name for name, n in left.items())}"] if left else []
    return lines


def unpack_command(words: Sequence[str]) -> list[str]:
    """Write the runs that an archive has and a folder lacks; ValueError where a file in both differs."""
    parser = argparse.ArgumentParser(prog="python -m analysis unpack", description="Make an archive a folder again.")
    parser.add_argument("archive", type=Path, help="the archive, <study>.zip")
    parser.add_argument("-o", "--output", type=Path, help="the folder; by default <study> next to the archive")
    arguments = parser.parse_args(words)
    archive, folder = open_study_archive(arguments.archive), arguments.output or folder_of(arguments.archive)
    if others := differing_files(archive, folder):
        raise ValueError(f"{folder / others[0]} is not what {archive.path} holds: choose another folder with -o")
    runs = unpack_study(archive, folder)
    return [f"{folder}: {count(len(runs), 'run')} unpacked, {len(possible_runs(archive)) - len(runs)} there already"]


COMMANDS = {"pack": pack_command, "unpack": unpack_command}
