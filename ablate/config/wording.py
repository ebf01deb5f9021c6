"""Counts, durations and likely intended names, as words for messages and pages."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that are close to `name`, or else all of them.

    >>> nearest("stesp", ["steps", "batch_size"]), nearest("x", ["steps", "batch_size"])
    ('did you mean steps?', 'allowed: batch_size, steps')
    """
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"allowed: {', '.join(sorted(known))}"


def count(number: int, thing: str) -> str:
    """A number with its noun, in the plural where needed.

    >>> count(1, "run"), count(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A duration in its two largest units.

    >>> duration(75), duration(4000)
    ('1 min 15 s', '1 h 06 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
