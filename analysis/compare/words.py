"""A comparison of two studies as people read it: a few lines, and its tables in words."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.compare.compare import ALONE, CHANGES, PAIRED, SAME, UNTESTED, StudyComparison
from analysis.quantities.registry import primary_quantity
from analysis.tables.formats import save_table
from analysis.tables.numbers import DASH, fixed


def headlines(comparison: StudyComparison) -> list[str]:
    """What changed, in a few lines."""
    (ours, theirs), matching, arms = comparison.names, comparison.matching, comparison.arms
    same, identical, common = (arms["match"] == SAME).sum(), arms["identical"].sum(), arms["common_seeds"].sum()
    only = [f"{len(labels)} only in {name}" for name, labels in zip(comparison.names, matching.only, strict=True)]
    judged = comparison.claims[["verdict", "verdict_against"]].notna().any(axis=1)  # contrasts only shown have none
    count = comparison.claims["change"][judged].value_counts()
    verdicts = [f"{count[change]} {change}" for change in CHANGES if change in count]
    no_difference = "settings, versions, hardware and claims file are the same"
    return [
        f"{ours} against {theirs}",
        f"arms: {len(matching.pairs)} matched, {same} of them with the same settings; {', '.join(only)}",
        *(
            f"ambiguous, not compared: {', '.join(a)} of {ours} and {', '.join(b)} of {theirs}, which differ only in "
            f"{', '.join(keys)}, with no value in common"
            for a, b, keys in matching.ambiguous
        ),
        f"runs of the same arm and seed: {identical} of {common} identical to the bit",
        *([no_difference] if comparison.settings.empty and matching.pairs else []),
        f"verdicts on claims and their parts: {', '.join(verdicts)}",
    ]


def settings_in_words(comparison: StudyComparison) -> pd.DataFrame:
    """The differing settings and versions, with hashes and commits shortened to ten digits."""
    short = comparison.settings.map(lambda text: re.sub(r"\b[0-9a-f]{16,}\b", lambda found: f"{found[0][:10]}…", text))
    return short.set_axis(["setting or version", *comparison.names, "where it differs"], axis="columns")


def arms_in_words(comparison: StudyComparison) -> pd.DataFrame:
    """The primary metric and its difference with its interval; arms as the first study labels them.

    Shares are in per cent, and their difference is in points.
    """
    ours, theirs = comparison.names
    quantity = primary_quantity(comparison.primary)
    shares = quantity.scale == "points"
    name, unit = quantity.metric.words + (" %" if shares else ""), ", points" if shares else ""
    factor, decimals = (100, 1) if shares else (1, 3)
    rows = []
    for row in comparison.arms.itertuples():
        label, study = (row.arm_against, theirs) if pd.isna(row.arm) else (row.arm, ours)
        unmatched = f"only in {study}" if row.match == ALONE else f"{row.match}, of {study}"
        rows.append(
            {
                "arm": label,
                f"{name}, {ours}": fixed(factor * getattr(row, quantity.name), decimals),
                f"{name}, {theirs}": fixed(factor * getattr(row, f"{quantity.name}_against"), decimals),
                f"{ours} - {theirs}{unit} (95 %)": with_interval(
                    factor * row.difference, factor * row.low, factor * row.high, f"+.{decimals}f"
                ),
                "compared": unmatched if pd.isna(row.comparison) else how(row),
                "identical to the bit": DASH if pd.isna(row.identical) else identical_seeds(row),
            }
        )
    return pd.DataFrame(rows)


def how(row: Any) -> str:
    """How a row of StudyComparison.arms was compared, and on how many runs."""
    runs = f"{row.runs} seeds" if row.comparison == PAIRED else f"{row.runs} and {row.runs_against} runs"
    diverged = f"; {row.diverged} and {row.diverged_against} diverged" if row.diverged or row.diverged_against else ""
    return f"{row.comparison}; {runs}{diverged}"


def identical_seeds(row: Any) -> str:
    """How many seeds of a row of `StudyComparison.arms` are identical, and the first step at which another differs."""
    since = "" if pd.isna(row.first_difference) else f"; differs from step {row.first_difference}"
    return f"{row.identical} of {row.common_seeds} seeds{since}"


def claims_in_words(comparison: StudyComparison) -> pd.DataFrame:
    """The claims and parts that at least one study tests, with each study's verdict."""
    claims = comparison.claims[comparison.claims["change"] != UNTESTED]
    shown = claims[["change", "id", "statement"]].rename(columns={"id": "claim"})
    for name, suffix in zip(comparison.names, ("", "_against"), strict=True):
        shown[name] = [verdict_text(row, suffix) for row in claims.to_dict("records")]
    return shown


def verdict_text(row: Mapping[str, Any], suffix: str) -> str:
    """One study's verdict with the effect on its scale, its 95 % interval and n, or the reason why it is not tested."""
    verdict, effect, low, high, n, reason = (
        row[f"{key}{suffix}"] for key in ("verdict", "effect", "low", "high", "n", "reason")
    )
    if pd.isna(verdict):
        return DASH
    if not math.isnan(effect):
        return f"{verdict}: {with_interval(effect, low, high, '.3g')} {row['scale']}, n = {n}"
    return verdict if pd.isna(reason) else f"{verdict}: {reason}"


def with_interval(estimate: float, low: float, high: float, form: str) -> str:
    """A number and its interval in a given format; a dash where there is none.

    >>> with_interval(1.25, -0.5, 3.0, "+.1f"), with_interval(1.25, float("nan"), float("nan"), ".3g")
    ('+1.2 (-0.5 to +3.0)', '1.25')
    """
    if math.isnan(estimate):
        return DASH
    return f"{estimate:{form}}" if math.isnan(low) else f"{estimate:{form}} ({low:{form}} to {high:{form}})"


def write_comparison(comparison: StudyComparison, folder: Path) -> None:
    """Write the three tables into `folder`: numbers as CSV, words as Markdown and LaTeX."""
    save_table(folder, "settings", comparison.settings, settings_in_words(comparison))
    save_table(folder, "arms", comparison.arms, arms_in_words(comparison))
    save_table(folder, "claims", comparison.claims, claims_in_words(comparison))
