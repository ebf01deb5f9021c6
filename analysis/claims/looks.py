"""The log of looks: which seeds a claim was judged on, each time at full number, in outputs/<study>/looks.jsonl.

A p holds for a number of seeds that was fixed before. Whoever adds seeds because of what was seen, and judges
again, tests more often than was planned: later looks are exploratory, unless the claims file planned them. Judging
the same seeds again is the same look.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

FILE = "looks.jsonl"


@dataclass(frozen=True)
class Look:
    """A claim, by the name of its file and its own, the seeds it was judged on, and what was said."""

    claims: str
    claim: str
    seeds: tuple[int, ...]
    verdict: str

    def is_of(self, claims: str, claim: str) -> bool:
        return (self.claims, self.claim) == (claims, claim)


def read_looks(folder: Path) -> tuple[Look, ...]:
    """The looks at the study in `folder`, in order; a line that cannot be read is warned of and left out."""
    path = Path(folder) / FILE
    looks = []
    for number, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else [], 1
    ):
        try:
            entry = json.loads(line)
            looks.append(Look(entry["claims"], entry["claim"], tuple(entry["seeds"]), entry["verdict"]))
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{path}: line {number} is no look and is left out: {line[:80]}", stacklevel=2)
    return tuple(looks)


def append_looks(folder: Path, looks: Sequence[Look]) -> None:
    """Add lines with the present time. Each look is written in one call, so that two writers don't mix."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with (Path(folder) / FILE).open("a", encoding="utf-8") as file:
        for look in looks:
            file.write(json.dumps({"time": now, **asdict(look)}, ensure_ascii=False) + "\n")
            file.flush()


def exploratory(look: Look, earlier: Sequence[Look], planned: Sequence[int]) -> str | None:
    """Why this look's p is exploratory; None where it is not."""
    others = [old for old in earlier if old.is_of(look.claims, look.claim) and old.seeds != look.seeds]
    if not others or (len(look.seeds) in planned and all(len(old.seeds) in planned for old in others)):
        return None
    first = others[0]
    return (
        f"exploratory: it was judged before, on {len(first.seeds)} seeds, as {first.verdict}; this look was not planned"
    )
