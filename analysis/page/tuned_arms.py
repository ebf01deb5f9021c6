"""How the arms of a claim were tuned, in words: best points of the grid, its edges, and the best of k trials."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablate.config.wording import count
from analysis.claims.contrast import ROLES_OF_ARMS
from analysis.claims.finding import Finding
from analysis.quantities.registry import REGISTRY, Quantity, of_kind
from analysis.records.arms import ranges, words
from analysis.tables.numbers import rounded

SETTINGS_IN_WORDS: Mapping[str, str] = {"optimizer.lr": "learning rate", "trainer.steps": "number of steps"}
"""Settings that people know by other names than their keys."""

BUDGETS_IN_WORDS = 4
"""Most numbers of trials in a sentence."""


def grid_in_words(grid: Mapping[str, Sequence[object]]) -> str:
    """
    >>> grid_in_words({"optimizer.lr": (1, 2)}), grid_in_words({"optimizer.lr": (1, 2), "clip.threshold": (1, 2)})
    ('learning rate', 'learning rate and clip.threshold')
    """
    return " and ".join(SETTINGS_IN_WORDS.get(key, key) for key in grid)


def tuning_in_words(finding: Finding, kind: str) -> tuple[str, ...]:
    """Each arm's best point of the grid, a best point at the edge, the best of k trials; empty for other findings."""
    if "validation" not in finding.details:
        return ()
    arms = {
        words(arm or {}): finding.details[role]
        for role, arm in zip(ROLES_OF_ARMS, (finding.treatment, finding.control), strict=True)
    }
    return (
        *(best_point_in_words(name, arm) for name, arm in arms.items()),
        budgets_in_words(arms, of_kind(REGISTRY[finding.details["validation"]], kind)),
    )


def best_point_in_words(name: str, arm: Mapping[str, Any]) -> str:
    """Where an arm is best, and for which seeds it is elsewhere; a point at the edge of the grid is flagged."""
    seeds_at: dict[str, list[int]] = {}
    for seed, point in arm["chosen"].items():
        seeds_at.setdefault(words(point), []).append(seed)
    usual = words(arm["usual"])
    places = [f"chosen for {len(seeds_at.pop(usual))} of {count(len(arm['chosen']), 'seed')}"]
    for point, seeds in seeds_at.items():
        places.append(f"{point} for seed{'' if len(seeds) == 1 else 's'} {ranges(seeds)}")
    text = f"{name} is best at {usual} ({'; '.join(places)})"
    if not arm["beyond"]:
        return text
    edges = words({key: arm["usual"][key] for key in arm["beyond"]})
    return f"{text}; {edges} is at the edge of the grid, so a better value may lie beyond it: {words(arm['beyond'])}"


def budgets_in_words(arms: Mapping[str, Mapping[str, Any]], quantity: Quantity) -> str:
    """The expected best validation value of 1, 2, 4, ... trials, and of as many as the grid has points."""
    factor, unit = (100, " %") if quantity.scale == "points" else (1, f" {quantity.unit}".rstrip())
    points = len(next(iter(arms.values()))["by_budget"])
    budgets = [2**i for i in range(BUDGETS_IN_WORDS - 1) if 2**i < points] + [points]
    best = (
        f"{', '.join(rounded(factor * arm['by_budget'][k - 1]) for k in budgets)}{unit} with {name}"
        for name, arm in arms.items()
    )
    trials = f"{', '.join(map(str, budgets[:-1]))} and {budgets[-1]} trials" if budgets[1:] else "1 trial"
    return f"expected best {quantity.words} of {trials}: {'; '.join(best)}"
