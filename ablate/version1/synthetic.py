"""Version 1's name of `ablate.data.synthetic`, for scripts that import it."""

from ablate.data.synthetic import generate

__all__ = ["generate"]
