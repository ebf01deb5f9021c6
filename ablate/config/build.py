"""Builds the object that a config describes: a checked `hydra.utils.instantiate`.

An option's file names its class with `_target_`. The dotted name must begin with an allowed module, and this is checked
before anything is imported, so that no config can run foreign code. Next come the class, the module that defines it and
its protocol, then each setting against the annotations of the dataclass. Only then is the object made. Building the
options *is* checking the config: there is no second schema.
"""

import dataclasses
import functools
import importlib
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ablate.config.checks import NotInstalled, refusal
from ablate.config.start import enter_folder
from ablate.config.wording import nearest

ALLOWED = ("ablate",)
"""Packages whose dataclasses any config may build. The config's `allow_targets` adds modules of the user's own."""

MOVED = {"ablate.settings.Trainer": "ablate.trainer.Trainer"}
"""Former dotted name of a class -> its present one. A config may use either; run ids hash the former."""

A_RULE = "an option with a `_target_` that satisfies"

Built = TypeVar("Built")
Kind = type | types.UnionType


def build(settings: Mapping[str, Any] | None, kind: Kind, key: str, allow: Sequence[str] = ()) -> Any:
    """Build the object that `settings` (plain data with `_target_`) describes.

    Args:
        settings: the group's resolved settings.
        kind: runtime protocol or class that the object must satisfy, or a union of them.
        key: the settings' place in the config, for messages: "clip", "clip.rule".
        allow: modules that may be imported in addition to `ALLOWED` (the config's `allow_targets`).

    Raises:
        ValueError: with the key, the rule and the value.
    """
    if not isinstance(settings, Mapping) or "_target_" not in settings:
        raise refusal(key, settings, "an option with a `_target_`, the class to build")
    return build_dataclass(resolve(settings["_target_"], kind, key, allow), settings, key, allow)


def resolve(target: object, kind: Kind, key: str, allow: Sequence[str] = ()) -> type:
    """The class that `target` names. ValueError if it may not be imported or is not a dataclass of the right kind."""
    check_target(target, f"{key}._target_", allow)
    assert isinstance(target, str)
    module, _, name = MOVED.get(target, target).rpartition(".")
    try:
        if not is_allowed(module, ()):
            enter_folder()
        cls = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing a user's module can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{refusal(f'{key}._target_', target, 'a class that can be imported')}: {reason}") from error
    if not isinstance(cls, type) or not is_allowed(cls.__module__, allow):
        raise refusal(f"{key}._target_", target, f"a class that is defined in {' or '.join((*ALLOWED, *allow))}")
    if not (dataclasses.is_dataclass(cls) and issubclass(cls, kind)):
        raise refusal(f"{key}._target_", target, f"a dataclass that satisfies {kind_name(kind)}")
    return cls


def kind_name(kind: Kind) -> str:
    """A protocol's name, or the names of a union's protocols.

    >>> kind_name(int | str)
    'int or str'
    """
    return " or ".join(each.__name__ for each in typing.get_args(kind) or (kind,))


def check_targets(settings: object, key: str, allow: Sequence[str] = ()) -> None:
    """Refuse each forbidden `_target_` (and each `_args_`, `_partial_`, ...) in a tree, without importing anything."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            if name == "_target_":
                check_target(value, f"{key}._target_", allow)
            elif str(name).startswith("_"):
                raise ValueError(f"{key}.{name} is not allowed (got {value}); of Hydra's special keys only _target_ is")
            check_targets(value, f"{key}.{name}", allow)
    elif isinstance(settings, (list, tuple)):
        for index, value in enumerate(settings):
            check_targets(value, f"{key}[{index}]", allow)


def check_target(target: object, key: str, allow: Sequence[str]) -> None:
    if not isinstance(target, str) or not is_allowed(target, allow):
        raise refusal(
            key, target, f"a class in {', '.join((*ALLOWED, *allow))} or in a module that allow_targets lists"
        )


def is_allowed(dotted: str, allow: Sequence[str]) -> bool:
    return any(dotted == prefix or dotted.startswith(f"{prefix}.") for prefix in (*ALLOWED, *allow) if prefix)


def build_dataclass(cls: type[Built], settings: Mapping[str, Any], key: str, allow: Sequence[str] = ()) -> Built:
    """An instance of the dataclass `cls` from plain settings, each checked against its field's annotation."""
    given = {name: value for name, value in settings.items() if name != "_target_"}
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            got = f"(got {given[name]})"
            raise ValueError(f"{key}.{name} is no setting of {cls.__name__} {got}; {nearest(name, fields)}")
    hints = annotations(cls)
    values = {name: conform(value, hints[name], f"{key}.{name}", allow) for name, value in given.items()}
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"{key}.{name} is missing; {cls.__name__} needs it")
    try:
        return cls(**values)
    except NotInstalled as error:
        raise NotInstalled(f"{key}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{key}.{error}") from error


@functools.cache
def annotations(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def conform(value: Any, annotation: Any, key: str, allow: Sequence[str] = ()) -> Any:
    """`value` as the type that `annotation` asks for.

    ValueError if it does not fit. (A dataclass itself checks no types: it accepts 1.5 or true for an int.)
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or (annotation in (None, type(None)) and value is None):
        return value
    if origin in (typing.Union, types.UnionType):
        return conform_any(value, arguments, key, allow)
    if origin is typing.Literal and any(value == choice and type(value) is type(choice) for choice in arguments):
        return value
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        items = arguments if origin is tuple and ... not in arguments else arguments[:1] * len(value)
        if len(items) == len(value):
            return origin(
                conform(v, item, f"{key}[{i}]", allow) for i, (v, item) in enumerate(zip(value, items, strict=True))
            )
    if origin is dict and isinstance(value, Mapping):
        return {k: conform(v, arguments[1], f"{key}.{k}", allow) for k, v in value.items()}
    if annotation is float and type(value) in (int, float):
        return float(value)
    if annotation in (bool, int, str) and type(value) is annotation:
        return value
    if isinstance(annotation, type) and isinstance(value, Mapping):
        plain = dataclasses.is_dataclass(annotation) and "_target_" not in value
        return build_dataclass(annotation, value, key, allow) if plain else build(value, annotation, key, allow)
    raise refusal(key, value, describe(annotation))


def conform_any(value: Any, choices: Sequence[Any], key: str, allow: Sequence[str]) -> Any:
    """`value` as the first of several types that it fits."""
    if value is None and type(None) in choices:
        return None
    rest = [choice for choice in choices if choice is not type(None)]
    if len(rest) == 1 and isinstance(value, Mapping):
        return conform(value, rest[0], key, allow)
    if isinstance(value, Mapping) and all(map(is_protocol, rest)):
        return build(value, functools.reduce(operator.or_, rest), key, allow)
    for choice in rest:
        try:
            return conform(value, choice, key, allow)
        except ValueError:
            continue
    raise refusal(key, value, describe_any(choices))


def is_protocol(kind: Any) -> bool:
    return getattr(kind, "_is_protocol", False)


def describe_any(choices: Sequence[Any]) -> str:
    """Several annotations in a user's words; protocols share one phrase."""
    protocols = [choice.__name__ for choice in choices if is_protocol(choice)]
    words = [describe(choice) for choice in choices if not is_protocol(choice)]
    return " or ".join([*([f"{A_RULE} {' or '.join(protocols)}"] if protocols else []), *words])


def describe(annotation: Any) -> str:
    """An annotation in a user's words.

    >>> describe(int | None), describe(tuple[str, ...])
    ('a whole number or null', 'a list, each item a string')
    """
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    words |= {type(None): "null", Any: "any value"}
    if annotation in words:
        return words[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return f"one of {', '.join(str(choice) for choice in arguments)}"
    if origin in (list, tuple):
        count = f" of {len(arguments)}" if origin is tuple and ... not in arguments else ""
        return f"a list{count}, each item {describe(arguments[0])}"
    if origin is dict:
        return f"a mapping from keys to {describe(arguments[1])}"
    if origin in (typing.Union, types.UnionType):
        return describe_any(arguments)
    if dataclasses.is_dataclass(annotation):
        return f"a mapping with the keys {', '.join(field.name for field in dataclasses.fields(annotation))}"
    return f"{A_RULE} {kind_name(annotation)}"
