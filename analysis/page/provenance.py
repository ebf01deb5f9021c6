"""How a study was run, as facts that a reader can check: runs, settings, versions, hardware, claims file, looks."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from ablate.config.wording import count, duration
from analysis.claims.judge import unregistered
from analysis.claims.looks import Look, deviations
from analysis.claims.pairing import moved
from analysis.claims.reading import Claims
from analysis.records.arms import ranges, unsaid, value_text, varying
from analysis.records.study import Study

VERSIONS = ("torch", "transformers", "numpy", "python")
MACHINE = {"environment.device": "", "environment.cpu.model": "", "environment.threads": "threads: "}


class Fact(NamedTuple):
    """A term and its description, line by line. `flagged`: readers of the verdicts should notice it."""

    term: str
    lines: tuple[str, ...]
    flagged: bool = False


def extent(study: Study) -> str:
    """What was run, as a sentence.

    >>> extent(load(Path("outputs/quick")))  # doctest: +SKIP
    '3 arms on seeds 0–2: 9 finished runs of model tiny on data synthetic, 60 steps each.'
    """
    runs = study.runs
    if study.table is not None:
        return extent_of_table(study)
    what = f"{count(len(study.arms), 'arm')} on seeds {ranges(runs['seed'])}: {count(len(runs), 'finished run')}"
    each = f"{recorded_values(runs['trainer.steps'])} steps each"
    return f"{what} of model {recorded_values(runs['model'])} on data {recorded_values(runs['data'])}, {each}."


def differences(study: Study) -> str:
    """In which settings the arms differ, and what their names leave out; "" for a table of results.

    >>> differences(load(Path("outputs/quick")))  # doctest: +SKIP
    'The arms differ in clip.'
    """
    if study.table is not None:
        return ""
    differ = [key for key in varied(study) if key.rpartition(".")[0] not in varied(study)]
    said = [f"The arms differ in {', '.join(differ)}."] if differ else []
    if usual := unsaid(list(study.arms.values())):
        said.append(f"Unless its name says otherwise, an arm has {', '.join(usual)}.")
    return " ".join(said)


def extent_of_table(study: Study) -> str:
    """What was run and how it is compared, of a table of results, whose runs were made elsewhere."""
    runs, data = study.runs, study.runs["data"].nunique()
    arms = len(study.arms) // data if data > 1 else len(study.arms)
    on = f" on {count(data, 'data set')}" if data > 1 else ""
    seeds = f", seeds {ranges(runs['seed'])}" if study.table and study.table.has_seeds else ""
    differ = [factor for factor in study.factors if factor in varied(study) and factor != "data"]
    how = "compared seed by seed" if study.is_paired else "compared unpaired (Welch's t)"
    return (
        f"{count(arms, 'arm')}{on}{seeds}: {count(len(runs), 'run')} that were made elsewhere. The arms differ in "
        f"{', '.join(differ)}; they are {how}."
    )


def varied(study: Study) -> dict[str, str]:
    """Each setting in which the arms differ, including those that only some arms have, and its values."""
    arms = list(study.arms.values())
    return {key: few(distinct(arm[key] for arm in arms if key in arm)) for key in ordered(varying(arms), study)}


def shared(study: Study) -> dict[str, str]:
    """Each setting that all arms have, and its value."""
    arms = list(study.arms.values())
    same = {key for arm in arms for key in arm} - varying(arms)
    return {key: value_text(arms[0][key]) for key in ordered(same, study)}


def facts(study: Study, claims: Claims, looks: Sequence[Look]) -> tuple[Fact, ...]:
    """All facts but the settings. `looks`: all looks at the claims, including this report's."""
    if study.table is not None:
        return facts_of_table(study, claims, looks)
    return (
        runs_fact(study),
        Fact("Seeds", (ranges(study.runs["seed"]),)),
        time_fact(study),
        Fact("Versions", tuple(f"{name} {recorded_values(column(study, f'environment.{name}'))}" for name in VERSIONS)),
        Fact("Hardware", tuple(said + recorded_values(column(study, name)) for name, said in MACHINE.items())),
        code_fact(study),
        *makers_fact(study),
        claims_fact(study, claims),
        environments_fact(study),
        resumed_fact(study),
        looks_fact(looks),
        deviations_fact(looks),
    )


def facts_of_table(study: Study, claims: Claims, looks: Sequence[Look]) -> tuple[Fact, ...]:
    """What a table of results says of its runs, and what it cannot say."""
    assert study.table is not None
    pairs = "rows with the same seed are taken as pairs: the table does not prove that they share head and batches"
    return (
        Fact("Table", study.table.summary),
        Fact("Pairing", (pairs if study.is_paired else "none: unpaired runs, compared by Welch's t",), flagged=True),
        Fact(
            "Claims file",
            (
                f"{claims.name}, sha256 {claims.sha256}",
                "a table does not record whether it was written before the runs",
            ),
        ),
        Fact("Not recorded", ("steps, predictions, times, versions, hardware, code, and which runs learned",)),
        looks_fact(looks),
        deviations_fact(looks),
    )


def runs_fact(study: Study) -> Fact:
    status = Counter(study.runs["status"])
    lines = [f"{status['done']} done, {status['diverged']} diverged, in {count(len(study.arms), 'arm')}"]
    if n := len(study.left_out):
        lines.append(f"{count(n, 'more run')} not counted (see What is missing)")
    if forked := int(column(study, "forked_from.run").notna().sum()):
        lines.append(f"{count(forked, 'run')} reused the first steps of another run with an identical start")
    return Fact("Runs", tuple(lines), flagged=n > 0)


def time_fact(study: Study) -> Fact:
    seconds = pd.to_numeric(column(study, "timing.seconds")).dropna()
    started = column(study, "timing.started").dropna().astype(str).str[:16].str.replace("T", " ")
    lines = []
    if len(seconds):
        lines.append(f"{duration(seconds.sum())} in total, {duration(seconds.median())} for the median run")
    if len(started):
        lines.append(f"first run started {started.min()}, last run started {started.max()} (UTC)")
    return Fact("Time", tuple(lines) or ("not recorded",))


def code_fact(study: Study) -> Fact:
    commits = column(study, "environment.git.commit")
    dirty = column(study, "environment.git.dirty").eq(True).sum()
    lines = [f"git commit {recorded_values(commits)}"]
    if dirty:
        lines.append(f"{count(int(dirty), 'run')} with uncommitted changes")
    return Fact("Code", tuple(lines), flagged=bool(dirty) or commits.nunique() > 1)


def makers_fact(study: Study) -> tuple[Fact, ...]:
    """Which programs other than our trainer made runs, and what pairs these; nothing where there are none."""
    makers = column(study, "made_by").dropna()
    if makers.empty:
        return ()
    lines = [f"{maker}: {count(n, 'run')}" for maker, n in makers.value_counts(sort=False).items()]
    own = study.runs.loc[makers.index]
    lacking = [key for key in ("batches", "head", "dropout") if own[f"pairing.{key}"].isna().any()]
    lines += [f"paired by the seed that they declare: not all record the pairing of {', '.join(lacking)}"] * bool(
        lacking
    )
    return (Fact("Made by", tuple(lines), flagged=bool(lacking)),)


def claims_fact(study: Study, claims: Claims) -> Fact:
    others = unregistered(study, claims)
    lines = [f"{claims.name}, sha256 {claims.sha256}"]
    if len(others):
        lines.append(f"{len(others)} of {len(study.runs)} runs were not started with this file:")
        for (name, sha256), group in others.groupby(["claims.name", "claims.sha256"], dropna=False, sort=False):
            what = "no claims file" if pd.isna(sha256) else f"{name}, sha256 {sha256}"
            lines.append(f"{what}: {few(group['run'].tolist())}")
    else:
        lines.append("all runs were started with this file, so its claims were written before them")
    return Fact("Claims file", tuple(lines), flagged=len(others) > 0)


def environments_fact(study: Study) -> Fact:
    keys = column(study, "environment.key")
    found = keys.value_counts(dropna=False, sort=False)
    if len(found) == 1 and keys.notna().all():
        return Fact("Environments", (f"the same for all runs ({found.index[0]})",))
    lines = [f"{'not recorded' if pd.isna(key) else key}: {count(n, 'run')}" for key, n in found.items()]
    return Fact("Environments", ("mixed: runs are paired only within an environment", *lines), flagged=True)


def resumed_fact(study: Study) -> Fact:
    runs = [row["run"] for row in study.rows.values() if moved(row)]
    if not runs:
        return Fact("Resumed elsewhere", ("none: every run stayed in one environment from its first step to its last",))
    what = f"{count(len(runs), 'run')} continued in another environment (trainer.resume=any), hence not paired"
    return Fact("Resumed elsewhere", (f"{what}: {few(runs)}",), flagged=True)


def looks_fact(looks: Sequence[Look]) -> Fact:
    """Every look at the claims: the seeds that they were judged on and the verdicts."""
    judged: dict[tuple[str, tuple[int, ...]], list[Look]] = {}
    for look in looks:
        judged.setdefault((look.claims, look.seeds), []).append(look)
    lines = [
        f"{claims}, seeds {ranges(seeds)}: " + ", ".join(f"{look.claim} {look.verdict or look.kind}" for look in group)
        for (claims, seeds), group in judged.items()
    ]
    return Fact("Looks", tuple(lines) or ("none: no claim has been judged with its planned number of seeds yet",))


def deviations_fact(looks: Sequence[Look]) -> Fact:
    """What departs from the plan of looks: changed claims files, changed seeds, peeks, seeds beyond the plan."""
    found = deviations(looks)
    return Fact("Deviations from the plan", tuple(found) or ("none in the log of looks",), flagged=bool(found))


# --- In words ---


def column(study: Study, name: str) -> pd.Series:
    """A column of Study.runs; all values are missing where no run has this entry."""
    return study.runs[name] if name in study.runs else pd.Series(None, study.runs.index, dtype=object)


def ordered(keys: Iterable[str], study: Study) -> list[str]:
    """Keys of arms, sorted by factor in the study's order, then by name."""
    places = (*study.factors, "nuisance")
    return sorted(keys, key=lambda key: (places.index(key.partition(".")[0]), key))


def recorded_values(values: pd.Series) -> str:
    """The distinct values of a column of Study.runs, as text."""
    return few(distinct(values.dropna())) or "not recorded"


def distinct(values: Iterable[Any]) -> list[str]:
    """Distinct values as text: numbers by size, then all others in order of first appearance.

    >>> distinct(["fixed", 1.0, "fixed", 0.5, None])
    ['0.5', '1', 'fixed', 'null']
    """
    by_size = sorted(values, key=lambda value: value if isinstance(value, (int, float)) else math.inf)
    return list(dict.fromkeys(map(value_text, by_size)))


def few(texts: Sequence[str], most: int = 8) -> str:
    """The first texts, and how many more there are.

    >>> few("abc"), few("abc", most=2)
    ('a, b, c', 'a, b and 1 more')
    """
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
