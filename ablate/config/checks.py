"""Errors for settings out of range: the rule first, then the value."""


def require(key: str, value: object, allowed: bool, what: str) -> None:
    """Raise ValueError unless `allowed`; `what` describes the values that are.

    >>> require("start", 0, 0 >= 1, "a step, at least 1")
    Traceback (most recent call last):
    ValueError: start must be a step, at least 1 (got 0)
    """
    if not allowed:
        raise refusal(key, value, what)


def refusal(key: str, value: object, what: str) -> ValueError:
    """The error for a value that is not what its key allows.

    >>> refusal("clip.threshold", None, "a finite number above 0")
    ValueError('clip.threshold must be a finite number above 0 (got null)')
    """
    return ValueError(f"{key} must be {what} (got {'null' if value is None else value})")
