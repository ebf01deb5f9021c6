"""Hydra's and OmegaConf's errors in words that help: what was wrong, and what was probably meant."""

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ablate.config.wording import nearest


def complaint(error: BaseException) -> str:
    """A message for a person: the error's own first line, its cause, and the nearest names."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, MissingMandatoryValue):
        return f"error: {cause.full_key} is missing: set {cause.full_key}=<value>"
    if type(error).__name__ == "TerminatedWorkerError":  # joblib's, which may not be installed
        return (
            "error: a worker was killed, by a signal or for want of memory, and its launcher ended the others; "
            "the same command goes on from the last checkpoints"
        )
    lines = [first_line(error), first_line(cause) if cause is not error else "", hint(error, cause)]
    return "error: " + "\n  ".join(line for line in lines if line)


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def hint(error: BaseException, cause: BaseException) -> str:
    if isinstance(error, MissingConfigException) and error.options:
        return nearest((error.missing_cfg_file or "").rpartition("/")[2], error.options)
    if "Config group override must be a string" in str(error):
        return "a group's option is named; the one that does nothing is called none: clip=none"
    if "Could not override 'claims'" in str(error):  # Hydra takes the folder conf/claims for a group
        return "claims are named in an experiment's file (claims: <name>), where they stand before the study runs"
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        known = [str(key) for key in cause.parent_node if not str(key).startswith("_")]
        rule = "_target_" in cause.parent_node  # a rule's key exists only where that rule is chosen
        example = "; other rules have other settings: clip=delayed clip.start=50,100" if rule else ""
        return (nearest(str(cause.key), known) if known else "it has no settings") + example
    return ""
