"""Modules under the names that they had in version 1, as `ablate.<name>`, for scripts that import them."""
