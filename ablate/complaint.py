"""Hydra's and OmegaConf's errors in words that help: what was wrong, and what was probably meant."""

from typing import Any

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ablate.build import nearest


def complaint(error: BaseException) -> str:
    """A message for a person: the error's own first line, its cause, and the nearest names."""
    parts = [f"error: {str(error).splitlines()[0] if str(error) else type(error).__name__}"]
    cause = error.__cause__ or error
    if isinstance(cause, OmegaConfBaseException) and cause is not error:
        parts.append(str(cause).splitlines()[0])
    parts.append(hint(error, cause))
    return "\n  ".join(part for part in parts if part)


def hint(error: BaseException, cause: Any) -> str:
    if isinstance(error, MissingConfigException) and error.options:
        asked = (error.missing_cfg_file or "").rpartition("/")[2]
        return nearest(asked, error.options)
    parent = getattr(cause, "parent_node", None)
    if isinstance(parent, DictConfig) and getattr(cause, "key", None) is not None:
        words = nearest(str(cause.key), map(str, parent.keys()))
        rule = " (a rule's key exists only where that rule is chosen: clip=delayed clip.start=50,100)"
        return words + (rule if "_target_" in parent else "")
    return ""
