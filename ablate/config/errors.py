"""Messages for errors, Hydra's and OmegaConf's among them: the first line says what is wrong, the next what to do."""

import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from ablate.config.paths import known_groups
from ablate.config.wording import nearest, printable

INPUT_ERRORS = (ValueError, HydraException, OmegaConfBaseException)
"""The errors by which checks refuse what a user typed or wrote; all others are bugs, or failures of the machine."""


class CommandEnd(SystemExit):
    """The end of a command. Not an Exception, as Hydra turns those that a callback raises into warnings.

    code   exit code: 0, all is done; 1, a run failed; 2, the input is wrong
    error  why it ends, where the code is not 0
    plan   the plan that was asked for instead of the runs
    """

    def __init__(self, code: int, error: Exception | None = None, plan: Any = None) -> None:
        super().__init__(code)
        self.error, self.plan = error, plan


def complaint(error: BaseException) -> str:
    """The message for a user of the command: what is wrong, then the remedy where one is known."""
    return f"error: {in_words(error, sys.argv[1:])}"


def in_words(error: BaseException, overrides: Sequence[str]) -> str:
    """What is wrong, and the remedy where one is known, in place of a traceback. `overrides`: those of the user."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    return printable("\n  ".join(line for line in explain(error, cause, overrides) if line))


def explain(error: BaseException, cause: BaseException, overrides: Sequence[str] = ()) -> tuple[str, str]:
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
        return f"{error.override} cannot be parsed{reason(first_line)}", as_written(error.override)
    if "Config group override must be a string" in first_line:
        return (
            f"{chosen_without_a_name(overrides)} must be set to the name of an option",
            "the option that does nothing is called none: clip=none; quote a name that is a number: 'clip=\"2024\"'",
        )
    if match := re.fullmatch(r"Ambiguous value for argument '(.*)'", first_line):
        return f"{match[1]} has several values", f"to sweep over them, add -m; for one value, {quoted(match[1])}"
    if match := re.fullmatch(r"Sweep parameters '(.*)' requires --multirun", first_line):
        return f"{match[1]} has several values", "to sweep over them, add -m"
    if match := re.match(r"Multiple values for (\S+)\. To override", first_line):
        return f"{match[1]} is in the config already", f"leave out the +: {match[1]}=<option>"
    if "Error merging override" in first_line and cause is not error:
        return f"{first_line.rpartition(' override ')[2]} does not fit: {str(cause).splitlines()[0]}", ""
    if type(error).__name__ == "TerminatedWorkerError":  # joblib's, which may not be installed
        return (
            "a worker was killed, by a signal or because memory ran out, and its launcher ended the other workers",
            "repeat the command: runs continue from their last checkpoints",
        )
    if isinstance(error, HydraException):  # its next lines are the remedy
        return first_line, "\n  ".join(line for line in str(error).splitlines()[1:] if line)
    return first_line, ""


def reason(line: str) -> str:
    """Why an override cannot be parsed, if Hydra's line says so in words."""
    return "" if line.startswith(("LexerNoViableAltException", "Error parsing override")) else f": {line}"


def as_written(override: str) -> str:
    """How to write an override that Hydra cannot parse."""
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[~+]*[\w./@]+", key):
        return "an override is written key=value; --hydra-help lists the flags"
    if re.match(r"""['"\[{]|\w+\(""", value):
        return "close each quote and bracket, and put special characters into quotes: 'key=\"a b\"'"
    return quoted(override)


def quoted(override: str) -> str:
    """How to write an override whose value has special characters: in the shell's quotes and in Hydra's.

    >>> print(quoted("data.files.train=a b,c.csv"))
    quote it: 'data.files.train="a b,c.csv"'
    """
    key, _, value = override.partition("=")
    return f"quote it: {shlex.quote(key + '=' + QuotedString(value, Quote.double).with_quotes())}"


def chosen_without_a_name(overrides: Sequence[str]) -> str:
    """The overrides that set a group to a number, true, false or null; "a group" where there are none."""
    found = [re.fullmatch(r"\+*([\w/]+)=(null|true|false|[\d.]*)", word, re.IGNORECASE) for word in overrides]
    return " and ".join(m[0] for m in found if m and m[1] in known_groups()) or "a group"


def other_keys(node: DictConfig, key: str) -> str:
    """The keys that a user may have meant, or, for a key of another option, how to choose that option."""
    known = [str(name) for name in node if not str(name).startswith("_")]
    near = nearest(key, known) if known else "there are no settings to choose from"
    if "_target_" not in node or near.startswith("did you mean"):
        return near
    return f"{near}; another option may have it: clip=delayed clip.start=50,100"
