"""How much of alpha each look at a growing study may spend: planned looks by spending functions, open-ended looks.

A look judges a claim on the seeds that are there. Under the null, the test statistics Z_k of looks at n_1 < ... < n_K
seeds are jointly normal with correlations √(n_j / n_k), so the chance of a wrong verdict at any look can be computed
and kept at alpha. The levels are then used as nominal levels of t tests, though these have fewer degrees of freedom
at early looks (Jennison & Turnbull 2000, Group Sequential Methods with Applications to Clinical Trials, chapter 3: the
"significance level approach"). Simulated (tests/analysis/stats/test_spending.py), t tests at 5, 10 and 20 seeds spend
1.02 (O'Brien-Fleming), 1.06 (Pocock) and 0.87 alpha (equal); with a look at 3 seeds Pocock's spend 1.11 alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from scipy import optimize, special

from ablate.config.checks import refusal, require
from analysis.stats.effects import ALPHA, Array

SPENDINGS = ("obrien_fleming", "pocock", "equal")

_TINY = 1e-300  # smaller probabilities are 0
_BEYOND = 38.0  # |Z| with a probability below _TINY
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(12)  # per panel of an integral


def alphas(looks: Sequence[int], spending: str, alpha: float = ALPHA) -> tuple[float, ...]:
    """Nominal two-sided level of each planned look, such that all looks together reject a true null at most at `alpha`.

    Args: `looks`, the increasing numbers of seeds n_1 < ... < n_K at which the study is judged; `spending`, one of
    SPENDINGS. By look k, at the share t = n_k / n_K of all seeds, the two-sided alpha that is spent in all is

        obrien_fleming   4 (1 − Φ(z / √t)) with Φ(z) = 1 − alpha / 4: little at first, almost all of alpha at the end
        pocock           alpha ln(1 + (e − 1) t): levels that are almost the same at all looks
        equal            alpha / K at each look (Bonferroni), which ignores that the looks share seeds

    The first is 2 (1 − Φ(z_{a/2} / √t)) for each side's a = alpha / 2, as in R's ldbounds and gsDesign. The last look
    spends all that is left. Raises ValueError for looks that do not increase and for an unknown spending.
    Lan & DeMets 1983, Biometrika 70:659; the levels by recursive integration: Armitage, McPherson & Rowe 1969, J. R.
    Stat. Soc. A 132:235.

    >>> [round(level, 4) for level in alphas([5, 10, 20], "obrien_fleming")]
    [0.0, 0.003, 0.049]
    >>> [round(level, 4) for level in alphas([10], "pocock")]
    [0.05]
    """
    looks = _checked(looks)
    require("spending", spending, spending in SPENDINGS, f"one of {', '.join(SPENDINGS)}")
    require("alpha", alpha, 0 < alpha < 1, "a level between 0 and 1")
    return _alphas(looks, spending, float(alpha))


def open_alpha(k: int, alpha: float = ALPHA) -> float:
    """Level alpha · 2⁻ᵏ of the k-th look, k = 1, 2, ...: any number of looks spends less than `alpha` (union bound).

    Raises ValueError for k below 1.

    >>> [open_alpha(k) for k in (1, 2, 3)]
    [0.025, 0.0125, 0.00625]
    """
    require("k", k, k >= 1, "the number of a look, at least 1")
    return alpha * 2.0**-k


def first_rejections(looks: Sequence[int], levels: Sequence[float]) -> tuple[float, ...]:
    """Chance that look k is the first to reject a true null; the sum over looks is the alpha that they spend in all.

    Args: `looks`, increasing numbers of seeds; `levels`, the nominal two-sided level of each look.

    >>> round(sum(first_rejections([10, 20], [0.05, 0.05])), 3)  # two looks, each at the full alpha
    0.083
    """
    looks = _checked(looks)
    if len(levels) != len(looks):
        raise refusal("levels", len(levels), f"as many as looks, {len(looks)}")
    path, found = _Path.start(), []
    for n, following, level in zip(looks, [*looks[1:], None], levels, strict=True):
        bound = -float(special.ndtri(level / 2))
        found.append(path.exits(n, bound))
        path = path.within(n, bound, following)
    return tuple(found)


def _checked(looks: Sequence[int]) -> tuple[int, ...]:
    looks = tuple(looks)
    rises = bool(looks) and looks[0] > 0 and all(a < b for a, b in pairwise(looks))
    require("looks", list(looks), rises, "numbers of seeds above 0, each larger than the one before")
    return looks


def _obrien_fleming(share: float, alpha: float) -> float:
    return 4 * float(special.ndtr(special.ndtri(alpha / 4) / np.sqrt(share)))


def _pocock(share: float, alpha: float) -> float:
    return alpha * float(np.log1p((np.e - 1) * share))


@cache
def _alphas(looks: tuple[int, ...], spending: str, alpha: float) -> tuple[float, ...]:
    if spending == "equal":
        return (alpha / len(looks),) * len(looks)
    spend: Callable[[float, float], float] = {"obrien_fleming": _obrien_fleming, "pocock": _pocock}[spending]
    spent = [0.0, *(spend(n / looks[-1], alpha) for n in looks[:-1]), alpha]
    path, levels = _Path.start(), []
    for n, following, part in zip(looks, [*looks[1:], None], np.diff(spent), strict=True):
        bound = path.bound(n, float(part))
        levels.append(2 * float(special.ndtr(-bound)))
        path = path.within(n, bound, following)
    return tuple(levels)


@dataclass(frozen=True)
class _Path:
    """The sum S = Z √n of n differences with sd 1, on the studies that no earlier look has rejected.

    Its density is held as weighted points: `mass[i]` at `sums[i]`, (points,) each, so that sums over points are
    integrals (Gauss-Legendre on panels that are at most as wide as the standard deviation of what a look adds).
    """

    n: int
    sums: Array
    mass: Array

    @classmethod
    def start(cls) -> _Path:
        return cls(0, np.zeros(1), np.ones(1))

    def exits(self, n: int, bound: float) -> float:
        """Chance that |Z| is above `bound` at n seeds, after no earlier rejection; exact for small chances, too."""
        edge, step = bound * np.sqrt(n), np.sqrt(n - self.n)
        outside = special.ndtr((self.sums - edge) / step) + special.ndtr((-self.sums - edge) / step)
        return float(self.mass @ outside)

    def bound(self, n: int, part: float) -> float:
        """The bound on |Z| at n seeds that spends `part` of alpha; _BEYOND where that is too little to be a number."""
        if part < _TINY:
            return _BEYOND
        top = -float(special.ndtri(part / 2))  # the bound if no earlier look could have rejected
        if self.exits(n, top) >= part:
            return top
        return float(optimize.brentq(lambda z: np.log(max(self.exits(n, z), _TINY) / part), 0.0, top, xtol=1e-10))

    def within(self, n: int, bound: float, following: int | None) -> _Path:
        """The path on to n seeds, where |Z| is at most `bound`, in points for a look at `following` seeds, if any."""
        if following is None:
            return self
        edge, step = min(bound, _BEYOND) * np.sqrt(n), np.sqrt(n - self.n)
        panels = int(np.ceil(2 * edge / min(step, np.sqrt(following - n))))
        half = edge / panels
        centres = -edge + half * (2 * np.arange(panels) + 1)
        sums = (centres[:, None] + half * _POINTS).ravel()
        away = (sums[:, None] - self.sums) / step
        density = np.exp(-(away**2) / 2) @ self.mass / (step * np.sqrt(2 * np.pi))
        return _Path(n, sums, density * np.tile(half * _WEIGHTS, panels))
