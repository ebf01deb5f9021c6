"""An interval of confidence. Alone in its module, so that what only writes numbers need not load scipy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """`low` to `high`: the true value is inside in a share `level` of studies."""

    low: float
    high: float
    level: float
