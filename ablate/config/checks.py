"""The one way in which a setting says that its value is out of range."""


def require(key: str, value: object, allowed: bool, what: str) -> None:
    """Raise ValueError "key=value: allowed is what" unless `allowed`.

    >>> require("start", 0, 0 >= 1, "a step, from 1 on")
    Traceback (most recent call last):
    ValueError: start=0: allowed is a step, from 1 on
    """
    if not allowed:
        raise ValueError(f"{key}={value}: allowed is {what}")
