"""Random streams, derived from a run's seed: head initialisation, order of examples, and dropout.

The streams are independent of each other and of the arm. All arms of a seed therefore share all three, which makes
their comparison paired.
"""

import hashlib


def stream(name: str, seed: int, nuisance: int = 0, rank: int = 0) -> int:
    """Return a 63-bit seed for the stream `name` of a run.

    `nuisance` and `rank` are used for the dropout stream only. Another `nuisance` gives a run that differs in nothing
    else (the A/A control). Another `rank` gives each rank its own masks.

    >>> stream("head", 0) == stream("head", 0), stream("head", 0) == stream("order", 0)
    (True, False)
    """
    place = f":{rank}" if rank else ""  # rank 0 keeps the stream that it had before there were ranks
    digest = hashlib.sha256(f"{name}:{seed}:{nuisance}{place}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
