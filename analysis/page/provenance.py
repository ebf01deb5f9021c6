"""How a study was run, in facts that a reader can check: runs, settings, versions, machines, claims file, looks."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from ablate.config.wording import count
from analysis.claims.judge import unregistered
from analysis.claims.looks import Look
from analysis.claims.pairing import moved
from analysis.claims.reading import Claims
from analysis.records.arms import ranges, unsaid, value_text, varying
from analysis.records.study import Study

VERSIONS = ("torch", "transformers", "numpy", "python")
MACHINE = {"environment.device": "", "environment.cpu.model": "", "environment.threads": "threads: "}


class Fact(NamedTuple):
    """What, and what there is to say of it, line by line. `amiss`: whoever reads the verdicts should know."""

    term: str
    lines: tuple[str, ...]
    amiss: bool = False


def compared(study: Study) -> str:
    """What the study compares, in words.

    >>> compared(load(Path("outputs/quick")))  # doctest: +SKIP
    '3 arms on seeds 0–2: 9 finished runs of model tiny on data synthetic, 120 steps each. The arms differ in clip.'
    """
    runs = study.runs
    what = f"{count(len(study.arms), 'arm')} on seeds {ranges(runs['seed'])}: {count(len(runs), 'finished run')}"
    each = f"{recorded(runs['trainer.steps'])} steps each"
    of = f" of model {recorded(runs['model'])} on data {recorded(runs['data'])}, {each}."
    differ = [key for key in varied(study) if key.rpartition(".")[0] not in varied(study)]
    words = f" The arms differ in {', '.join(differ)}." if differ else ""
    usual = unsaid(list(study.arms.values()))
    return what + of + words + (f" Where a name says nothing else: {', '.join(usual)}." if usual else "")


def varied(study: Study) -> dict[str, str]:
    """Each setting in which the arms differ, and its values; a setting that only some arms have is one, too."""
    arms = list(study.arms.values())
    return {key: few(distinct(arm[key] for arm in arms if key in arm)) for key in ordered(varying(arms), study)}


def shared(study: Study) -> dict[str, str]:
    """Each setting that all arms have, and its value."""
    arms = list(study.arms.values())
    same = {key for arm in arms for key in arm} - varying(arms)
    return {key: value_text(arms[0][key]) for key in ordered(same, study)}


def facts(study: Study, claims: Claims, looks: Sequence[Look]) -> tuple[Fact, ...]:
    """All but the settings. `looks`: those that were logged, this one's included."""
    return (
        of_runs(study),
        Fact("Seeds", (ranges(study.runs["seed"]),)),
        of_time(study),
        Fact("Versions", tuple(f"{name} {recorded(column(study, f'environment.{name}'))}" for name in VERSIONS)),
        Fact("Hardware", tuple(said + recorded(column(study, name)) for name, said in MACHINE.items())),
        of_code(study),
        of_claims(study, claims),
        of_environments(study),
        of_resumed(study),
        of_looks(looks),
    )


def of_runs(study: Study) -> Fact:
    status = Counter(study.runs["status"])
    lines = [f"{status['done']} done, {status['diverged']} diverged, in {count(len(study.arms), 'arm')}"]
    if n := len(study.left_out):
        lines.append(f"{n} more do not count: see what is missing")
    if forked := int(column(study, "forked_from.run").notna().sum()):
        lines.append(f"{forked} took over their first steps from another run that had the very same")
    return Fact("Runs", tuple(lines), amiss=n > 0)


def of_time(study: Study) -> Fact:
    seconds = pd.to_numeric(column(study, "timing.seconds")).dropna()
    started = column(study, "timing.started").dropna().astype(str).str[:16].str.replace("T", " ")
    lines = []
    if len(seconds):
        lines.append(f"{duration(seconds.sum())} in all, {duration(seconds.median())} the median run")
    if len(started):
        lines.append(f"first run begun {started.min()}, last run {started.max()} (UTC)")
    return Fact("Time", tuple(lines) or ("not recorded",))


def of_code(study: Study) -> Fact:
    commits = column(study, "environment.git.commit")
    dirty = column(study, "environment.git.dirty").eq(True).sum()
    lines = [f"git commit {recorded(commits)}"]
    if dirty:
        lines.append(f"{count(int(dirty), 'run')} with changes that were not committed")
    return Fact("Code", tuple(lines), amiss=bool(dirty) or commits.nunique() > 1)


def of_claims(study: Study, claims: Claims) -> Fact:
    others = unregistered(study, claims)
    lines = [f"{claims.name}, sha256 {claims.sha256}"]
    if len(others):
        lines.append(f"{len(others)} of {len(study.runs)} runs were not started with this file:")
        for (name, sha256), group in others.groupby(["claims.name", "claims.sha256"], dropna=False, sort=False):
            what = "no claims file" if pd.isna(sha256) else f"{name}, sha256 {sha256}"
            lines.append(f"{what}: {few(group['run'].tolist())}")
    else:
        lines.append("all runs carry this hash: the claims were written down before them")
    return Fact("Claims file", tuple(lines), amiss=len(others) > 0)


def of_environments(study: Study) -> Fact:
    keys = column(study, "environment.key")
    found = keys.value_counts(dropna=False, sort=False)
    if len(found) == 1 and keys.notna().all():
        return Fact("Environments", (f"one for all runs ({found.index[0]})",))
    lines = [f"{'not recorded' if pd.isna(key) else key}: {count(n, 'run')}" for key, n in found.items()]
    return Fact("Environments", ("mixed: the arms of a seed are compared within one only", *lines), amiss=True)


def of_resumed(study: Study) -> Fact:
    runs = [row["run"] for row in study.runs.to_dict("records") if moved(row)]
    if not runs:
        return Fact("Resumed elsewhere", ("no run: each was made in one environment, from the first step to the last",))
    said = f"{count(len(runs), 'run')} went on in another environment (trainer.resume=any), and are not paired"
    return Fact("Resumed elsewhere", (f"{said}: {few(runs)}",), amiss=True)


def of_looks(looks: Sequence[Look]) -> Fact:
    """How often the claims were judged, and on how many seeds."""
    judged: dict[tuple[str, tuple[int, ...]], list[Look]] = {}
    for look in looks:
        judged.setdefault((look.claims, look.seeds), []).append(look)
    lines = [
        f"{claims}, seeds {ranges(seeds)}: " + ", ".join(f"{look.claim} {look.verdict}" for look in group)
        for (claims, seeds), group in judged.items()
    ]
    return Fact("Looks", tuple(lines) or ("none: no claim was judged at its full number of seeds yet",))


# --- In words ---


def column(study: Study, name: str) -> pd.Series:
    """A column of the runs; all missing where no run has such an entry."""
    return study.runs[name] if name in study.runs else pd.Series(None, study.runs.index, dtype=object)


def ordered(keys: Iterable[str], study: Study) -> list[str]:
    """The keys of arms by factor, in the study's order, then by name."""
    places = (*study.factors, "nuisance")
    return sorted(keys, key=lambda key: (places.index(key.partition(".")[0]), key))


def recorded(values: pd.Series) -> str:
    """The distinct values of a column of the runs."""
    return few(distinct(values.dropna())) or "not recorded"


def distinct(values: Iterable[Any]) -> list[str]:
    """As text: numbers by size, all else in order of first appearance.

    >>> distinct(["fixed", 1.0, "fixed", 0.5, None])
    ['0.5', '1', 'fixed', 'null']
    """
    ordered = sorted(values, key=lambda value: value if isinstance(value, (int, float)) else math.inf)
    return list(dict.fromkeys(map(value_text, ordered)))


def few(texts: Sequence[str], most: int = 8) -> str:
    """
    >>> few("abc"), few("abc", most=2)
    ('a, b, c', 'a, b and 1 more')
    """
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def duration(seconds: float) -> str:
    """
    >>> duration(42.3), duration(300), duration(20_000)
    ('42 s', '5.0 min', '5.6 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
