"""The log of looks, outputs/<study>/looks.jsonl: every time a claim was judged with its planned number of seeds.

A p value is valid for a number of seeds that was fixed in advance. Adding seeds after seeing the results and judging
again is an extra test: such later looks are exploratory, unless the claims file planned them. Judging the same seeds
again is the same look.
"""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablate.config.wording import printable
from ablate.files.reading import Damaged, hashed, parse_json, read_regular, unhashed

FILE = "looks.jsonl"


@dataclass(frozen=True)
class Look:
    """One judgement of a claim: name of the claims file, id of the claim, seeds it was judged on, verdict."""

    claims: str
    claim: str
    seeds: tuple[int, ...]
    verdict: str

    def is_of(self, claims: str, claim: str) -> bool:
        return (self.claims, self.claim) == (claims, claim)


def read_looks(folder: Path) -> tuple[Look, ...]:
    """The looks at the study in `folder`, in order.

    Lines that are damaged or no looks are left out with a warning. Lines of older versions have no hash. Raises
    ValueError where the log is no regular file or cannot be read: a look must not be forgotten.
    """
    path = Path(folder) / FILE
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return ()
    except (Damaged, OSError) as error:
        raise ValueError(f"{path} must be the log of looks, a text file, but it cannot be read: {error}") from error
    looks = []
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            looks += [look_of(parse_json(line))] if line.strip() else []
        except Damaged as error:
            shown = printable(line[:80].decode(errors="replace"))
            warnings.warn(f"{path}: line {number} is not a look and is left out ({error}): {shown}", stacklevel=2)
    return tuple(looks)


def look_of(entry: Any) -> Look:
    """The look that a line of the log holds. Raises Damaged."""
    if not isinstance(entry, dict):
        raise Damaged("not an object")
    found = unhashed(entry)
    seeds = found.get("seeds")
    if wrong := [key for key in ("claims", "claim", "verdict") if not isinstance(found.get(key), str)]:
        raise Damaged(f"{' and '.join(wrong)} must be text")
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise Damaged("seeds must be a list of integers from 0")
    return Look(found["claims"], found["claim"], tuple(seeds), found["verdict"])


def append_looks(folder: Path, looks: Sequence[Look]) -> None:
    """Appends one line per look, with the present time, each in one call so that two writers do not mix lines.

    A last line that a killed writer left unfinished is ended first.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with (Path(folder) / FILE).open("ab+", buffering=0) as file:
        for look in looks:
            file.seek(-1 if file.seek(0, os.SEEK_END) else 0, os.SEEK_END)
            start = "\n" if file.read(1) not in (b"", b"\n") else ""
            file.write((start + json.dumps(hashed({"time": now, **asdict(look)}), ensure_ascii=False) + "\n").encode())


def exploratory(look: Look, earlier: Sequence[Look], planned: Sequence[int]) -> str | None:
    """A note on why the p value of this look is exploratory; None where it is not. `planned`: numbers of seeds."""
    others = [old for old in earlier if old.is_of(look.claims, look.claim) and old.seeds != look.seeds]
    if not others or (len(look.seeds) in planned and all(len(old.seeds) in planned for old in others)):
        return None
    first = others[0]
    return (
        f"exploratory: this claim was judged before, on {len(first.seeds)} seeds, as {first.verdict}; "
        "the claims file does not plan this look"
    )
