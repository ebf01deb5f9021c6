"""Compare two studies: `python -m analysis outputs/after --against outputs/before`.

Typical pairs are a study before and after an upgrade, the same arms with another model, data set or learning rate, a
sweep repeated on another machine, or someone else's study. Arms are matched by their settings and then compared.

    >>> after, before = load(Path("outputs/after")), load(Path("outputs/before"))  # doctest: +SKIP
    >>> compare(after, before, read_claims(Path("conf/claims/paper.yaml"))).arms  # doctest: +SKIP

A difference is the first study's value minus the second's. The comparison logs no look at the claims.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from ablate.config.checks import refusal
from ablate.metrics import PRIMARY
from analysis.claims.contrasts import Equality
from analysis.claims.finding import Finding, with_parts
from analysis.claims.judge import judge_claims
from analysis.claims.pairing import unshared
from analysis.claims.reading import Claims
from analysis.claims.verdict_rule import Verdict
from analysis.compare.bit_identity import identity
from analysis.compare.matching import Matching, match
from analysis.quantities.outcomes import outcomes
from analysis.records.arms import merged_order, value_text, varying, with_factors
from analysis.records.source import folder_of
from analysis.records.study import Study
from analysis.stats.effects import ALPHA, EQUAL, student_half_width
from analysis.stats.interval import Interval

ARMS_COLUMNS = (
    *("arm", "arm_against", "match", "value", "value_against", "difference", "low", "high"),
    *("comparison", "runs", "runs_against", "diverged", "diverged_against"),
    *("common_seeds", "identical", "first_difference"),
)
SETTINGS_COLUMNS = ("key", "value", "value_against", "where")
CLAIMS_COLUMNS = (
    *("change", "id", "statement", "scale", "effect", "low", "high", "n", "verdict", "reason"),
    *("effect_against", "low_against", "high_against", "n_against", "verdict_against", "reason_against"),
)
CHANGES = FLIPPED, HALF_TESTED, HELD, UNTESTED = "flipped", "tested in one only", "the same", "tested in neither"
SAME, ALONE, PAIRED = "same settings", "alone", "paired"


@dataclass(frozen=True, eq=False)
class StudyComparison:
    """Two studies, called `names`, side by side; columns that end in `_against` belong to the second study.

    settings  one row per key that differs: its values in each study (text, several joined by " / ") and where they
              differ: throughout all matched arms, in some of them, or in the environment of the runs (versions,
              hardware, git state, claims file)
    primary   the primary metric of the first study, which the arms of both are compared by
    arms      one row per matched pair, then the ambiguous arms and those of only one study: test_<primary> (a share is
              0 to 1) and test_<primary>_against; a diverged run counts as a guess. `difference`, ours − theirs, has a
              95 % interval, paired over seeds or Welch's, as `comparison` says. `identical` of the `common_seeds`
              agree to the bit; `first_difference` is the first step at which any other differs
    claims    one row per claim, part, or contrast shown with one: `effect` and its 95 % interval on `scale`; `reason`
              says why it is not tested; rows are sorted by `change`, one of CHANGES, in this order
    """

    names: tuple[str, str]
    matching: Matching
    settings: pd.DataFrame
    arms: pd.DataFrame
    claims: pd.DataFrame
    primary: str = PRIMARY


def compare(ours: Study, theirs: Study, claims: Claims) -> StudyComparison:
    """Compare `ours` with `theirs`, both judged by one claims file.

    Raises ValueError if they are the same folder or archive.
    """
    if ours.source.path.resolve() == theirs.source.path.resolve():
        raise refusal("--against", theirs.source.path, "another study, in a folder or an archive of its own")
    factors = merged_order([ours.factors, theirs.factors])
    ours, theirs = (with_all_factors(study, factors) for study in (ours, theirs))
    matching = match(ours.arms, theirs.arms)
    return StudyComparison(
        names=names(ours.source.path, theirs.source.path),
        matching=matching,
        settings=pd.concat([changed_settings(ours, theirs, matching), changed_environment(ours.runs, theirs.runs)]),
        arms=compared_arms(ours, theirs, matching),
        claims=compared_claims(*(judge_claims(study, claims).findings for study in (ours, theirs)), claims),
        primary=ours.primary,
    )


def with_all_factors(study: Study, factors: Sequence[str]) -> Study:
    """The study with the factors of both: those that it lacks are "none" in all of its arms."""
    return replace(study, arms={label: with_factors(arm, factors) for label, arm in study.arms.items()})


def names(ours: Path, theirs: Path) -> tuple[str, str]:
    """The names of the two studies; where these are the same, their paths as the user gave them."""
    short = folder_of(ours.resolve()).name, folder_of(theirs.resolve()).name
    return short if len(set(short)) == 2 else (str(ours), str(theirs))


# --- Differences in settings and environment ---


def changed_settings(ours: Study, theirs: Study, matching: Matching) -> pd.DataFrame:
    """The keys in which matched arms differ, with the values of those arms."""
    differing = defaultdict(list)
    for pair in matching.pairs:
        for key in varying([ours.arms[pair[0]], theirs.arms[pair[1]]]):
            differing[key].append(pair)
    order = (*ours.factors, "nuisance")
    rows = []
    for key in sorted(differing, key=lambda key: (order.index(key.partition(".")[0]), key)):
        ours_of, theirs_of = zip(*differing[key], strict=True)
        if len(ours_of) == len(matching.pairs):
            where = "throughout"
        else:
            where = "in " + (
                ", ".join(ours_of) if len(ours_of) < 4 else f"{len(ours_of)} of {len(matching.pairs)} arms"
            )
        rows.append((key, values_of(key, ours, ours_of), values_of(key, theirs, theirs_of), where))
    return pd.DataFrame(rows, columns=list(SETTINGS_COLUMNS))


def values_of(key: str, study: Study, arms: Sequence[str]) -> str:
    """The distinct values of a key in some arms of a study, as text."""
    found = [value_text(study.arms[arm][key]) if key in study.arms[arm] else "not set" for arm in arms]
    return " / ".join(dict.fromkeys(found))


def changed_environment(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """The differences in code, versions, hardware and claims file between the runs (Study.runs) of two studies."""
    rows = []
    for key in dict.fromkeys([*ours, *theirs]):
        if key in ("numerics", "claims.name", "claims.sha256") or key.startswith("environment."):
            values = values_in_runs(key, ours), values_in_runs(key, theirs)
            if values[0] != values[1] and key != "environment.key":  # a hash of the others
                rows.append((key, *values, "environment"))
    return pd.DataFrame(rows, columns=list(SETTINGS_COLUMNS))


def values_in_runs(key: str, runs: pd.DataFrame) -> str:
    """The distinct values of a column of Study.runs, as text."""
    found = sorted({value_text(value) for value in runs[key].dropna()}) if key in runs else []
    return " / ".join(found) or "not recorded"


# --- The primary metric ---


def compared_arms(ours: Study, theirs: Study, matching: Matching) -> pd.DataFrame:
    """The table `StudyComparison.arms`."""
    first, second = (runs_by_arm(study, ours.primary) for study in (ours, theirs))
    rows = []
    for a, b in matching.pairs:
        differing = varying([ours.arms[a], theirs.arms[b]])
        row = {"arm": a, "arm_against": b, "match": "settings differ" if differing else SAME}
        row |= compared_means(first[a], second[b], differing) | identity(ours, first[a], theirs, second[b])
        rows.append(row)
    unmatched = [("ambiguous", a, b) for a, b, _ in matching.ambiguous] + [(ALONE, *matching.only)]
    for why, of_first, of_second in unmatched:
        rows += [{"arm": a, "match": why} | side("", first[a]) for a in of_first]
        rows += [{"arm_against": b, "match": why} | side("_against", second[b]) for b in of_second]
    counts = [
        column for column in ARMS_COLUMNS if column.startswith(("runs", "diverged", "common", "identical", "first"))
    ]
    names = {f"value{suffix}": f"test_{ours.primary}{suffix}" for suffix in ("", "_against")}
    return pd.DataFrame(rows, columns=list(ARMS_COLUMNS)).astype(dict.fromkeys(counts, "Int64")).rename(columns=names)


def runs_by_arm(study: Study, primary: str) -> dict[str, pd.DataFrame]:
    """Rows of Study.runs by arm, indexed by seed; `value`, of the primary metric, is known for diverged runs, too."""
    values = outcomes(study, {f"test_{primary}"}).values[f"test_{primary}"]
    runs = study.runs.assign(value=study.runs["run"].map(values)).dropna(subset="value").set_index("seed")
    return {label: runs[runs["arm"] == label] for label in study.arms}


def side(suffix: str, runs: pd.DataFrame) -> dict[str, Any]:
    """Mean of the primary metric and number of runs of an arm in one study."""
    return {
        f"value{suffix}": runs["value"].mean(),
        f"runs{suffix}": len(runs),
        f"diverged{suffix}": int((runs["status"] == "diverged").sum()),
    }


def compared_means(ours: pd.DataFrame, theirs: pd.DataFrame, differing: Collection[str]) -> dict[str, Any]:
    """An arm's means in two studies: over the seeds that pair its runs if there are at least two, else over all.

    A seed pairs two runs whose hashes of batches, head and dropout are equal, apart from those that the keys in
    `differing` necessarily change: another model has another head (`analysis.claims.pairing.PAIRING`). Versions and
    hardware may differ within a pair, since the comparison may be about them.
    """
    common = ours.index.intersection(theirs.index)
    differences = {
        seed: [key for key in unshared([ours.loc[seed], theirs.loc[seed]], differing) if key.startswith("pairing.")]
        for seed in common
    }
    seeds = [seed for seed in common if not differences[seed]]
    is_paired = len(seeds) >= max(1, min(2, len(ours), len(theirs)))
    if is_paired:
        ours, theirs = ours.loc[seeds], theirs.loc[seeds]
        comparison, interval = PAIRED, paired_interval
    else:
        reasons = dict.fromkeys(key.removeprefix("pairing.") for keys in differences.values() for key in keys)
        why = f"{', '.join(reasons)} differ" if reasons else f"{len(common) or 'no'} common seed"
        comparison, interval = f"unpaired: {why}", welch_interval
    found = interval(ours["value"], theirs["value"])
    return {
        **side("", ours),
        **side("_against", theirs),
        "difference": ours["value"].mean() - theirs["value"].mean(),
        **({"low": found.low, "high": found.high} if found else {}),
        "comparison": comparison,
    }


def paired_interval(a: ArrayLike, b: ArrayLike) -> Interval | None:
    """Student's 95 % interval of the mean of a − b, both (seeds,); None where all differences are equal.

    >>> paired_interval([0.81, 0.84, 0.86], [0.80, 0.82, 0.83])
    Interval(low=-0.0048..., high=0.0448..., level=0.95)
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if len(a) < 2 or np.ptp(a - b) <= EQUAL * max(np.abs(a).max(), np.abs(b).max()):
        return None
    mean, half = float((a - b).mean()), float(student_half_width((a - b).std(ddof=1), len(a)))
    return Interval(mean - half, mean + half, 1 - ALPHA)


def welch_interval(a: ArrayLike, b: ArrayLike) -> Interval | None:
    """Welch's 95 % interval of mean(a) − mean(b), each (runs,); None below two runs, or where neither varies.

    Welch 1947, Biometrika 34:28.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if min(len(a), len(b)) < 2 or all(np.ptp(x) <= EQUAL * np.abs(x).max() for x in (a, b)):
        return None
    found = stats.ttest_ind(a, b, equal_var=False).confidence_interval(1 - ALPHA)
    return Interval(float(found.low), float(found.high), 1 - ALPHA)


# --- Verdicts ---


def compared_claims(ours: Sequence[Finding], theirs: Sequence[Finding], claims: Claims) -> pd.DataFrame:
    """The table `StudyComparison.claims`."""
    # parts of a claim about an exact number are models in the study's own order, so two studies' parts do not match
    exact = {question.id for question in claims.questions if isinstance(question.contrast, Equality)}
    first, second = (
        {
            f.id: f
            for f in with_parts([replace(f, parts=()) if f.id in exact else f for f in found])
            if not f.exploratory
        }
        for found in (ours, theirs)
    )
    rows = [claim_row(first.get(id), second.get(id)) for id in dict.fromkeys([*first, *second])]
    rows.sort(key=lambda row: CHANGES.index(row["change"]))
    numbers = {column: float for column in CLAIMS_COLUMNS if column.startswith(("effect", "low", "high"))}
    return pd.DataFrame(rows, columns=list(CLAIMS_COLUMNS)).astype(numbers | {"n": "Int64", "n_against": "Int64"})


def claim_row(ours: Finding | None, theirs: Finding | None) -> dict[str, Any]:
    """The row of a claim or part in both studies; a finding is None where a study has no such part."""
    known = ours or theirs
    tested = [f is not None and f.verdict not in (None, Verdict.NOT_TESTED) for f in (ours, theirs)]
    if all(tested):
        change = HELD if ours.verdict is theirs.verdict else FLIPPED
    else:
        change = HALF_TESTED if any(tested) else UNTESTED
    row = {"id": known.id, "statement": known.statement, "scale": known.scale, "change": change}
    for suffix, finding in (("", ours), ("_against", theirs)):
        if finding is not None:
            row |= {f"effect{suffix}": finding.effect, f"n{suffix}": finding.n}
            row |= {f"verdict{suffix}": finding.verdict.value if finding.verdict else None}
            if finding.verdict is Verdict.NOT_TESTED:
                row |= {f"reason{suffix}": "; ".join(finding.notes) or None}
            if finding.interval:
                row |= {f"low{suffix}": finding.interval.low, f"high{suffix}": finding.interval.high}
    return row
