"""Counts, durations and likely intended names, as words for messages and pages."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    r"\u2028\u2029\u202a-\u202e\u2066-\u2069"  # line breaks, and signs that turn the direction of text
    r"\ud800-\udfff\ufffe\uffff]"  # no characters at all
)


def printable(text: str) -> str:
    r"""Text from a file or setting, with an escape for each character that acts on a terminal or breaks a page.

    >>> printable("\x1b[31mred\u202e")
    '\\x1b[31mred\\u202e'
    """
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def excerpt(value: Any) -> str:
    """A value as Python writes it, cut to 60 characters.

    >>> excerpt("x" * 100)[-12:], excerpt(None)
    ("xxxxxxxx'...", 'None')
    """
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}{text[0]}..."


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
