"""The log of looks, outputs/<study>/looks.jsonl: every time a claim was judged with its planned number of seeds.

A p value is valid for a number of seeds that was fixed in advance. Adding seeds after seeing the results and judging
again is an extra test: such later looks are exploratory, unless the claims file planned them. Judging the same seeds
again is the same look.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

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
    """The looks at the study in `folder`, in order. Lines that cannot be read are left out with a warning."""
    path = Path(folder) / FILE
    looks = []
    for number, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else [], 1
    ):
        try:
            entry = json.loads(line)
            looks.append(Look(entry["claims"], entry["claim"], tuple(entry["seeds"]), entry["verdict"]))
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{path}: line {number} is not a look and is left out: {line[:80]}", stacklevel=2)
    return tuple(looks)


def append_looks(folder: Path, looks: Sequence[Look]) -> None:
    """Appends one line per look, with the present time, each in one call so that two writers do not mix lines."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with (Path(folder) / FILE).open("a", encoding="utf-8") as file:
        for look in looks:
            file.write(json.dumps({"time": now, **asdict(look)}, ensure_ascii=False) + "\n")
            file.flush()


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
