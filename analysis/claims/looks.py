"""Looks at a claim: when it is judged, at which level, and the log of every time it was, outputs/<study>/looks.jsonl.

A p value is valid for a number of seeds that was fixed in advance. Judging again with more seeds is another test, so
each look spends a part of alpha:

    looks: [10]         one look with ten seeds spends all of it; seeds that are added later are only explored
    looks: [5, 10, 20]  each planned look spends a part by `spending` (`analysis.stats.spending`)
    looks: open         look k spends alpha · 2⁻ᵏ, so that any number of looks spends at most alpha
    --peek              effects below the planned number of seeds: each peek halves what is left

A look is one claims file (its hash), one claim and one set of seeds. Judging the same again is the same look.
"""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from ablate.config.wording import printable
from ablate.files.reading import Damaged, hashed, parse_json, unhashed
from analysis.records.packing import merged_logs
from analysis.records.source import LOOKS, Source, StudyFolder
from analysis.stats.effects import ALPHA
from analysis.stats.spending import alphas, open_alpha

PLANNED, PEEK, EXPLORATORY = "planned", "peek", "exploratory"
KINDS = (PLANNED, PEEK, EXPLORATORY)

OPEN = "open"
"""The value of `looks` for a study that grows without a plan."""


@dataclass(frozen=True)
class Look:
    """One judgement of a claim: the claims file's name, the claim's id, its seeds, the verdict, and the file's hash.

    kind    planned; peek: effects were shown below the planned number of seeds; exploratory: with seeds beyond the plan
    claims_sha256  "" in logs of version 0.1, which did not record it
    """

    claims: str
    claim: str
    seeds: tuple[int, ...]
    verdict: str
    claims_sha256: str = ""
    kind: str = PLANNED

    def is_of(self, claims: str, claim: str) -> bool:
        return (self.claims, self.claim) == (claims, claim)

    def is_same(self, other: "Look") -> bool:
        """Whether both judge the same claim of the same file on the same seeds."""
        return self.is_of(other.claims, other.claim) and (self.claims_sha256, self.seeds) == (
            other.claims_sha256,
            other.seeds,
        )


@dataclass(frozen=True)
class LookPlan:
    """When a claim is judged.

    looks   planned numbers of seeds, empty for open
    least   fewest seeds of an open look
    """

    looks: tuple[int, ...]
    spending: str
    least: int

    @property
    def is_open(self) -> bool:
        return not self.looks


@dataclass(frozen=True)
class Occasion:
    """One look of a plan: its kind, its number k from 1, how many seeds it uses, and the peeks before it."""

    plan: LookPlan
    kind: str
    k: int
    n: int
    peeks: int = 0

    def level(self, alpha: float = ALPHA) -> float:
        """The part of `alpha` that this look has: that of one claim, or of one of j claims for ALPHA / j."""
        if self.kind == PEEK or self.plan.is_open:
            return open_alpha(self.k, alpha)
        left = alpha * 2.0**-self.peeks
        return alphas(self.plan.looks, self.plan.spending, left)[self.k - 1] if len(self.plan.looks) > 1 else left

    @property
    def is_last(self) -> bool:
        return not self.plan.is_open and self.kind == PLANNED and self.k == len(self.plan.looks)

    def following(self) -> "Occasion":
        """The look after this one; after the last planned one, a look with the whole alpha of a new study."""
        if self.plan.is_open:
            return Occasion(self.plan, PLANNED, self.k + 1, self.n, self.peeks)
        k = 1 if self.kind == PEEK else min(self.k + 1, len(self.plan.looks))
        return Occasion(self.plan, PLANNED, k, self.plan.looks[k - 1], self.peeks + (self.kind == PEEK))


def occasion(
    plan: LookPlan, claims: str, claim: str, sha256: str, present: Sequence[int], earlier: Sequence[Look], peek: bool
) -> Occasion | None:
    """The look that the seeds `present` allow; None where they are too few and nobody wants to peek.

    Args: `earlier`, the log. Looks of the same claim under another version of the file count as well.
    """
    own = [look for look in earlier if look.is_of(claims, claim)]
    now = Look(claims, claim, tuple(present), "", sha256)
    peeks = distinct_looks([look for look in own if look.kind == PEEK])
    n = len(present)
    reached = [k for k, planned in enumerate(plan.looks, 1) if planned <= n]
    if plan.is_open and n >= plan.least:
        return Occasion(plan, PLANNED, number_of(now, distinct_looks(own)), n)
    if reached:
        return Occasion(plan, PLANNED, reached[-1], plan.looks[reached[-1] - 1], len(peeks))
    return Occasion(plan, PEEK, number_of(now, peeks), n) if peek and n >= 2 else None


def distinct_looks(looks: Sequence[Look]) -> list[Look]:
    return [look for i, look in enumerate(looks) if not any(look.is_same(other) for other in looks[:i])]


def number_of(now: Look, before: Sequence[Look]) -> int:
    """The number, from 1, of a look: its place in the log, or the next one."""
    return next((i for i, look in enumerate(before, 1) if look.is_same(now)), len(before) + 1)


def seeds_of(found: Occasion, present: Sequence[int], claims: str, claim: str, earlier: Sequence[Look]) -> set[int]:
    """The seeds of a look: those of the latest planned look before it, then the smallest others, as many as planned."""
    looks = [look for look in earlier if look.is_of(claims, claim) and look.kind == PLANNED]
    before = [seed for seed in (looks[-1].seeds if looks else ()) if seed in set(present)]
    others = [seed for seed in sorted(present) if seed not in set(before)]
    return set([*before, *others][: found.n])


def deviations(looks: Sequence[Look]) -> list[str]:
    """What departs from the plan, as the log has it: changed files, changed seeds, peeks and added seeds."""
    found: dict[str, list[str]] = {}
    by_claim: dict[tuple[str, str], list[Look]] = {}
    for look in looks:
        by_claim.setdefault((look.claims, look.claim), []).append(look)
    for (_, claim), own in by_claim.items():
        for words in dict.fromkeys(departures(own)):
            found.setdefault(words, []).append(claim)
    return [f"{words}: claim{'s' if len(claims) > 1 else ''} {', '.join(claims)}" for words, claims in found.items()]


def departures(looks: Sequence[Look]) -> list[str]:
    """The deviations of one claim from its plan; `looks` in the order of the log."""
    found = []
    if len({look.claims_sha256 for look in looks}) > 1:
        found.append("judged under more than one version of the claims file")
    planned = [look for look in looks if look.kind == PLANNED]
    if any(not set(a.seeds) <= set(b.seeds) for a, b in pairwise(planned)):
        found.append("a later look left out seeds of an earlier one")
    told = {
        PEEK: "effects were shown with {} seeds, before the plan",
        EXPLORATORY: "explored with {} seeds, beyond the plan",
    }
    return found + [told[look.kind].format(len(look.seeds)) for look in looks if look.kind in told]


# --- The log ---


def read_looks(folder: Path, source: Source | None = None) -> tuple[Look, ...]:
    """The looks in the log of a study's folder, in order; before them those in its archive, if that is the `source`.

    Raises ValueError as `log_in` does.
    """
    log = log_in(StudyFolder(Path(folder)))
    return looks_in(merged_logs(log_in(source), log) if source else log, Path(folder) / LOOKS)


def log_in(source: Source) -> bytes:
    """The log of looks, empty where there is none.

    Raises ValueError where it is no regular file or cannot be read: a look must not be forgotten.
    """
    try:
        return source.read(LOOKS)
    except FileNotFoundError:
        return b""
    except (Damaged, OSError) as error:
        path = source.path / LOOKS
        raise ValueError(f"{path} must be the log of looks, a text file, but it cannot be read: {error}") from error


def looks_in(log: bytes, path: Path) -> tuple[Look, ...]:
    """The looks in a log, in order; `path` is where warnings say it is.

    Lines that are damaged or no looks are left out with a warning. Lines of older versions have no hash.
    """
    looks = []
    for number, line in enumerate(log.split(b"\n"), 1):
        try:
            looks += [look_of(parse_json(line))] if line.strip() else []
        except Damaged as error:
            shown = printable(line[:80].decode(errors="replace"))
            warnings.warn(f"{path}: line {number} is not a look and is left out ({error}): {shown}", stacklevel=3)
    return tuple(looks)


def look_of(entry: Any) -> Look:
    """The look that a line of the log holds. Raises Damaged."""
    if not isinstance(entry, dict):
        raise Damaged("not an object")
    found = {"claims_sha256": "", "kind": PLANNED} | unhashed(entry)
    seeds = found.get("seeds")
    if wrong := [key for key in ("claims", "claim", "verdict", "claims_sha256") if not isinstance(found.get(key), str)]:
        raise Damaged(f"{' and '.join(wrong)} must be text")
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise Damaged("seeds must be a list of integers from 0")
    if found["kind"] not in KINDS:
        raise Damaged(f"kind must be one of {', '.join(KINDS)}")
    return Look(found["claims"], found["claim"], tuple(seeds), found["verdict"], found["claims_sha256"], found["kind"])


def append_looks(folder: Path, looks: Sequence[Look]) -> None:
    """Appends one line per look, with the present time, each in one call so that two writers do not mix lines.

    A last line that a killed writer left unfinished is ended first.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with (Path(folder) / LOOKS).open("ab+", buffering=0) as file:
        for look in looks:
            file.seek(-1 if file.seek(0, os.SEEK_END) else 0, os.SEEK_END)
            start = "\n" if file.read(1) not in (b"", b"\n") else ""
            file.write((start + json.dumps(hashed({"time": now, **asdict(look)}), ensure_ascii=False) + "\n").encode())
