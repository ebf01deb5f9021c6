"""Version 1's name of `ablate.config.paths`, for scripts that import it."""

from ablate.config.paths import claims_file, conf

__all__ = ["claims_file", "conf"]
