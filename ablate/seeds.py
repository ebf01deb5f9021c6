"""Random streams: one each for the head's start, the order of examples and dropout, derived from a run's seed.

The streams are independent of each other and of the arm, so that all arms of a seed share all three: that is
what makes their comparison paired.
"""

import hashlib


def stream(name: str, seed: int, nuisance: int = 0, rank: int = 0) -> int:
    """A 63-bit seed for the stream `name` of a run.

    `nuisance` belongs to the dropout stream only: another value gives a run that differs in nothing else, the
    A/A control. So does `rank`: of several processes each draws masks of its own.

    >>> stream("head", 0) == stream("head", 0), stream("head", 0) == stream("order", 0)
    (True, False)
    """
    place = f":{rank}" if rank else ""  # one process draws as before there could be several
    digest = hashlib.sha256(f"{name}:{seed}:{nuisance}{place}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
