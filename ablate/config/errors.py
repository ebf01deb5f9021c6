"""Messages for errors, Hydra's and OmegaConf's among them: the first line says what is wrong, the next what to do."""

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from ablate.config.wording import nearest, printable


def complaint(error: BaseException) -> str:
    """The message for a user, without a traceback: what is wrong, then the remedy where one is known."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    return printable("error: " + "\n  ".join(line for line in explain(error, cause) if line))


def explain(error: BaseException, cause: BaseException) -> tuple[str, str]:
    """What is wrong, and the remedy ("" for none). `cause` is OmegaConf's error behind Hydra's, or `error` itself."""
    first_line = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key} is missing", f"set {cause.full_key}=<value>"
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and isinstance(cause.parent_node, DictConfig):
        return f"there is no setting {cause.full_key}", other_keys(cause.parent_node, str(cause.key))
    if isinstance(cause, InterpolationResolutionError):
        return f"{cause.full_key} cannot be resolved: {first_line}", "an interpolation is written ${key} or ${oc.env:X}"
    if isinstance(error, MissingConfigException) and error.options:
        name = error.missing_cfg_file or ""
        return f"there is no option {name}", nearest(name.rpartition("/")[2], error.options)
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be parsed: {first_line}", "put special characters into quotes: 'key=\"a b\"'"
    if "Config group override must be a string" in first_line:
        return "a group must be set to the name of an option", "the option that does nothing is called none: clip=none"
    if "Could not override 'claims'" in first_line:  # Hydra takes the folder conf/claims for a group
        return (
            "claims cannot be set on the command line",
            "claims are named in an experiment's file (claims: <name>), before the study runs",
        )
    if type(error).__name__ == "TerminatedWorkerError":  # joblib's, which may not be installed
        return (
            "a worker was killed, by a signal or because memory ran out, and its launcher ended the other workers",
            "repeat the command: runs continue from their last checkpoints",
        )
    return first_line, ""


def other_keys(node: DictConfig, key: str) -> str:
    """The keys that a user may have meant, or, for a key of another option, how to choose that option."""
    known = [str(name) for name in node if not str(name).startswith("_")]
    near = nearest(key, known) if known else "there are no settings to choose from"
    if "_target_" not in node or near.startswith("did you mean"):
        return near
    return f"{near}; another option may have it: clip=delayed clip.start=50,100"
