"""From config to objects: what is refused, with which message, and that nothing is imported or built before."""

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.clip import Delayed, Fixed, NormRule
from ablate.config.build import ALLOWED, build, build_dataclass, check_targets, conform, describe, is_allowed, resolve
from ablate.config.wording import nearest
from ablate.freeze import Blocks, FreezeRule
from ablate.optimizer import AdamW, OptimizerRule
from ablate.scheduler import Scheduler, WarmupLinear

HERE = (__name__,)  # allow_targets for the classes below
made: list[str] = []


@runtime_checkable
class Animal(Protocol):
    def speak(self) -> str: ...


@dataclass(frozen=True)
class Dog:
    name: str = "Rex"

    def __post_init__(self) -> None:
        made.append(self.name)

    def speak(self) -> str:
        return "woof"


@dataclass(frozen=True)
class Kennel:
    dogs: list[Animal]
    by_name: dict[str, Animal] = field(default_factory=dict)

    def speak(self) -> str:
        return "woof woof"


class Plain:
    def speak(self) -> str:
        return "no dataclass"


@dataclass(frozen=True)
class Kinds:
    """One field of each annotation that options use."""

    whole: int
    number: float
    switch: bool
    word: str
    choice: Literal["a", "b", 3]
    maybe: int | None
    either: int | str | None
    numbers: list[float]
    words: tuple[str, ...]
    pair: tuple[float, int]
    files: dict[str, str]


def option(cls: type, **settings: Any) -> dict[str, Any]:
    return {"_target_": f"{cls.__module__}.{cls.__name__}", **settings}


def refusal(settings: Any, kind: type = NormRule, key: str = "clip", allow: tuple[str, ...] = ()) -> str:
    """The message with which `build` refuses."""
    with pytest.raises(ValueError) as caught:
        build(settings, kind, key, allow)
    return str(caught.value)


# Options that are built


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        (option(Fixed), NormRule, Fixed()),
        (option(Fixed, threshold=2), NormRule, Fixed(2.0)),
        (option(Delayed, start=5, rule=option(Fixed)), NormRule, Delayed(5, Fixed())),
        (option(Delayed, start=5, rule=option(Delayed, start=9, rule=option(Fixed, threshold=3))),
         NormRule, Delayed(5, Delayed(9, Fixed(3.0)))),
        (option(Blocks, blocks=["mlp"]), FreezeRule, Blocks(("mlp",))),
        (option(AdamW, lr=1e-3, betas=[0.8, 0.9]), OptimizerRule, AdamW(1e-3, betas=(0.8, 0.9))),
    ],
)  # fmt: skip
def test_options_of_ours(settings: dict, kind: type, expected: object) -> None:
    assert build(settings, kind, "key") == expected


@given(warmup=st.floats(0, 0.99), horizon=st.floats(1, 1e6))
def test_settings_come_out_as_they_went_in(warmup: float, horizon: float) -> None:
    rule = WarmupLinear(warmup, horizon)
    assert build(option(WarmupLinear, **dataclasses.asdict(rule)), Scheduler, "scheduler") == rule


def test_rules_in_lists_and_dicts() -> None:
    settings = option(Kennel, dogs=[option(Dog), option(Dog, name="Ada")], by_name={"x": option(Dog, name="Bo")})
    assert build(settings, Animal, "kennel", HERE) == Kennel([Dog(), Dog("Ada")], {"x": Dog("Bo")})


def test_an_int_for_a_float_becomes_one() -> None:
    assert type(build(option(Fixed, threshold=2), NormRule, "clip").threshold) is float


# Settings: types, names, ranges


GOOD: dict[str, list[Any]] = {
    "whole": [0, -3, 10**30],
    "number": [1, 1.5, -2.0, float("inf")],
    "switch": [True, False],
    "word": ["", "abc", "1"],
    "choice": ["a", "b", 3],
    "maybe": [None, 4],
    "either": [None, 4, "x"],
    "numbers": [[], [1, 2.5], (1.0,)],
    "words": [[], ["a"], ("a", "b")],
    "pair": [[0.5, 2], (1, 2)],
    "files": [{}, {"train": "a.csv"}],
}
BAD: dict[str, list[Any]] = {
    "whole": [1.5, 1.0, True, "1", None, [1], {}],
    "number": [True, "abc", "1.5", None, [1.0]],
    "switch": [0, 1, "true", None],
    "word": [1, 1.5, True, None, ["a"]],
    "choice": ["c", 3.0, True, None, ["a"]],
    "maybe": [1.5, True, "1", [1]],
    "either": [1.5, True, [1]],
    "numbers": ["12", [1, "a"], [True], None, 1.0, {"a": 1}],
    "words": ["ab", ["a", 1], None],
    "pair": [[1.0], [1.0, 2, 3], [1, 2.5], [], "ab"],
    "files": [{"train": 1}, ["a"], None, "a"],
}
SETTINGS = {name: values[0] for name, values in GOOD.items()}


def cases(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, values in table.items() for value in values]


@pytest.mark.parametrize(("name", "value"), cases(GOOD))
def test_values_that_fit_their_annotation(name: str, value: Any) -> None:
    found = getattr(build_dataclass(Kinds, SETTINGS | {name: value}, "kinds"), name)
    assert found == (type(found)(value) if isinstance(value, (list, tuple)) else value)


@pytest.mark.parametrize(("name", "value"), cases(BAD))
def test_values_that_do_not(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^kinds\.{name}.* must be "):
        build_dataclass(Kinds, SETTINGS | {name: value}, "kinds")


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (option(Delayed, start=1.5, rule=option(Fixed)), NormRule,
         "key.start must be a whole number (got 1.5)"),
        (option(Delayed, start=True, rule=option(Fixed)), NormRule,
         "key.start must be a whole number (got True)"),
        (option(AdamW, lr="abc"), OptimizerRule, "key.lr must be a number (got abc)"),
        (option(AdamW, lr=None), OptimizerRule, "key.lr must be a number (got null)"),
        (option(AdamW, lr=1e-3, betas=[0.9, "b"]), OptimizerRule, "key.betas[1] must be a number (got b)"),
        (option(Fixed, threshold=0), NormRule, "key.threshold must be a finite number above 0 (got 0.0)"),
        (option(Fixed, threshold=float("nan")), NormRule,
         "key.threshold must be a finite number above 0 (got nan)"),
        (option(Delayed, start=0, rule=option(Fixed)), NormRule, "key.start must be a step, at least 1 (got 0)"),
        (option(Delayed, start=1, rule=option(Fixed, threshold=-1)), NormRule,
         "key.rule.threshold must be a finite number above 0 (got -1.0)"),
        (option(Delayed, start=1, rule=option(Fixed, threshold="x")), NormRule,
         "key.rule.threshold must be a number (got x)"),
        (option(Delayed, start=1, rule=option(Fixed, thresold=1)), NormRule,
         "key.rule.thresold is no setting of Fixed (got 1); did you mean threshold?"),
        (option(Fixed, thresold=1.0), NormRule,
         "key.thresold is no setting of Fixed (got 1.0); did you mean threshold?"),
        (option(Fixed, xyz=1.0), NormRule, "key.xyz is no setting of Fixed (got 1.0); allowed: threshold"),
        (option(Delayed, rule=option(Fixed)), NormRule, "key.start is missing; Delayed needs it"),
        (option(Delayed, start=1), NormRule, "key.rule is missing; Delayed needs it"),
        (option(Delayed, start=1, rule=None), NormRule,
         "key.rule must be an option with a `_target_` that satisfies NormRule or GradientRule (got null)"),
        (option(Delayed, start=1, rule="fixed"), NormRule,
         "key.rule must be an option with a `_target_` that satisfies NormRule or GradientRule (got fixed)"),
        (option(Delayed, start=1, rule={"threshold": 1}), NormRule,
         "key.rule must be an option with a `_target_`, the class to build (got {'threshold': 1})"),
        ({"threshold": 1.0}, NormRule,
         "key must be an option with a `_target_`, the class to build (got {'threshold': 1.0})"),
        ("fixed", NormRule, "key must be an option with a `_target_`, the class to build (got fixed)"),
    ],
)  # fmt: skip
def test_refusals_give_the_key_the_rule_and_the_value(settings: Any, kind: type, message: str) -> None:
    assert refusal(settings, kind, "key") == message


@given(st.integers() | st.floats() | st.booleans() | st.text("12.ae") | st.none())
def test_whole_numbers_are_nothing_but_ints(value: Any) -> None:
    if type(value) is int:
        assert conform(value, int, "key") == value
    else:
        with pytest.raises(ValueError, match=r"^key must be a whole number \(got "):
            conform(value, int, "key")


@given(st.lists(st.integers(-9, 9) | st.booleans() | st.text(max_size=2), max_size=4))
def test_a_list_fits_if_each_of_its_items_does(values: list) -> None:
    if all(type(value) is int for value in values):
        assert conform(values, tuple[int, ...], "key") == tuple(values)
    else:
        with pytest.raises(ValueError, match=r"^key\[\d\] must be a whole number \(got "):
            conform(values, tuple[int, ...], "key")


@given(st.sampled_from(["steps", "batch_size", "precision"]), st.data())
def test_a_slip_of_the_keyboard_is_understood(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 2))
    swapped = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    assert nearest(swapped, ["steps", "batch_size", "precision"]) == f"did you mean {name}?"


def test_nothing_near_lists_all() -> None:
    assert nearest("xyz", ["steps", "batch_size"]) == "allowed: batch_size, steps"


# Targets: what may be imported and made


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's module on the path, with good and bad rules; it leaves a marker file when it is imported."""
    (tmp_path / "my_rules.py").write_text(
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "from decimal import Decimal\n"
        "Path(__file__).with_name('imported').touch()\n"
        "@dataclass(frozen=True)\n"
        "class Half:\n"
        "    def scale(self, norm, t, state):\n"
        "        return 0.5, state\n"
        "def half(norm, t, state):\n"
        "    return 0.5, state\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_rules", raising=False)
    yield tmp_path / "imported"
    sys.modules.pop("my_rules", None)


def test_a_users_rule_is_not_imported_unasked(foreign: Path) -> None:
    assert refusal({"_target_": "my_rules.Half"}) == (
        "clip._target_ must be a class in ablate or in a module that allow_targets lists (got my_rules.Half)"
    )
    nested = option(Delayed, start=1, rule={"_target_": "my_rules.Half"})
    assert refusal(nested).startswith("clip.rule._target_ must be a class in ablate or ")
    with pytest.raises(ValueError, match=r"^clip\.rule\._target_ must be .* \(got my_rules\.Half\)$"):
        check_targets(nested, "clip")
    assert not foreign.exists()
    build({"_target_": "my_rules.Half"}, NormRule, "clip", ["my_rules"])
    assert foreign.exists()  # the control: importing leaves the marker


def test_a_users_rule_that_is_allowed(foreign: Path) -> None:
    settings = option(Delayed, start=1, rule={"_target_": "my_rules.Half"})
    check_targets(settings, "clip", ["my_rules"])
    assert build(settings, NormRule, "clip", ["my_rules"]).scale(3.0, 1, None) == (0.5, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half", "a class that is defined in ablate or my_rules"),  # a function
        ("Path", "a class that is defined in ablate or my_rules"),  # a class from elsewhere
        ("Decimal", "a class that is defined in ablate or my_rules"),
        ("Missing", "a class that can be imported"),
    ],
)
def test_what_else_a_users_module_holds(foreign: Path, name: str, message: str) -> None:
    found = refusal({"_target_": f"my_rules.{name}"}, allow=("my_rules",))
    assert found.startswith(f"clip._target_ must be {message} (got my_rules.{name})")


FORBIDDEN = [
    "os.system",
    "builtins.exec",
    "subprocess.Popen",
    "torch.load",
    "torch.optim.AdamW",  # a dataclass of ours wraps it and checks its ranges
    "transformers.Trainer",
    "peft.LoraConfig",
    "ablated.Rule",
    "ablate_rules.Rule",
    " ablate.clip.Fixed",
    "",
    ".",
    ".ablate.clip.Fixed",
    None,
    3,
    ["ablate.clip.Fixed"],
    {"_target_": "ablate.clip.Fixed"},
]


@pytest.mark.parametrize("target", FORBIDDEN, ids=repr)
def test_a_forbidden_target_imports_nothing(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    assert refusal({"_target_": target}).startswith("clip._target_ must be a class in ablate ")
    with pytest.raises(ValueError, match=r"^clip\._target_ must be a class in ablate "):
        check_targets({"_target_": target}, "clip")


@given(st.lists(st.text("abcdefgolprstmn_", min_size=1, max_size=9), min_size=1, max_size=4).map(".".join))
def test_only_the_allowed_modules_may_be_named(dotted: str) -> None:
    inside = any(dotted.split(".")[: len(p.split("."))] == p.split(".") for p in ALLOWED)
    assert is_allowed(dotted, ()) == inside
    assert is_allowed(dotted, [dotted.split(".")[0]])


@pytest.mark.parametrize("prefix", ALLOWED)
def test_a_prefix_is_a_whole_module(prefix: str) -> None:
    assert is_allowed(f"{prefix}.Rule", ())
    assert not is_allowed(f"{prefix}s.Rule", ())
    assert not is_allowed(f"x.{prefix}.Rule", ())


@pytest.mark.parametrize(
    "target",
    [
        "ablate.files.assets.os.system",  # a module within an allowed one's namespace
        "ablate.files.assets.os",
        "ablate.files.assets.Path",  # a class from elsewhere in an allowed one's namespace
        "ablate.clip.apply",  # a function
        "ablate.clip.Any",
        "ablate.clip",
        "ablate.clip.Fixd",
        "ablate.clop.Fixed",
        "ablate",
        "ablate.",
        "ablate..clip.Fixed",
        "ablate.clip.Fixed.scale",
        "ablate.clip.NormRule",  # the kind itself
        "ablate.scheduler.WarmupLinear",  # an option of another group
        "ablate.freeze.Nothing",
    ],
)
def test_not_a_rule_of_this_kind(target: str) -> None:
    message = refusal({"_target_": target})
    assert message.startswith("clip._target_ must be a ") and f"(got {target})" in message


def test_a_class_that_is_no_dataclass() -> None:
    assert refusal(option(Plain), Animal, "pet", HERE) == (
        f"pet._target_ must be a dataclass that satisfies Animal (got {__name__}.Plain)"
    )


def test_a_rule_of_the_wrong_kind_within_another() -> None:
    nested = option(Delayed, start=1, rule=option(WarmupLinear))
    assert refusal(nested) == (
        "clip.rule._target_ must be a dataclass that satisfies NormRule or GradientRule "
        "(got ablate.scheduler.WarmupLinear)"
    )


def test_no_nested_object_is_built_before_the_outer_class_is_of_the_right_kind() -> None:
    made.clear()
    kennel = option(Kennel, dogs=[option(Dog)])
    refusal(kennel, NormRule, "clip", HERE)
    assert made == []
    build(kennel, Animal, "pet", HERE)
    assert made == ["Rex"]


def test_resolve_builds_nothing() -> None:
    made.clear()
    assert resolve(f"{__name__}.Dog", Animal, "pet", HERE) is Dog
    assert made == []


@pytest.mark.parametrize("name", ["_args_", "_partial_", "_recursive_", "_convert_", "__class__", "_x"])
def test_hydras_other_keywords(name: str) -> None:
    rule = option(Fixed, **{name: True})
    for settings in (rule, option(Delayed, start=1, rule=rule)):
        refusal(settings)
        with pytest.raises(ValueError, match=rf"^clip.*\.{name} is not allowed \(got True\)"):
            check_targets(settings, "clip")


PATHS = st.lists(st.sampled_from(["rule", "files", 0, 1]), max_size=6)
INTRUDERS = st.sampled_from([{"_target_": "os.system"}, {"_args_": []}, {"_target_": 1}, {"_partial_": True}])


@given(path=PATHS, intruder=INTRUDERS)
def test_targets_are_found_at_any_depth(path: list, intruder: dict) -> None:
    tree: Any = intruder
    for key in reversed(path):
        tree = [{"a": 1}] * key + [tree] if isinstance(key, int) else option(Delayed, **{key: tree})
    with pytest.raises(ValueError, match=r"^clip.* (must be|is not allowed) "):
        check_targets(tree, "clip")


def test_a_tree_of_good_targets_passes() -> None:
    check_targets(option(Delayed, start=1, rule=[option(Fixed), {"a": None, "b": [1, "os.system"]}]), "clip")


# Annotations in a user's words


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "a whole number or null"),
        (Literal["a", "b"], "one of a, b"),
        (list[float], "a list, each item a number"),
        (tuple[float, float], "a list of 2, each item a number"),
        (dict[str, str | None], "a mapping from keys to a string or null"),
        (dict[str, Any], "a mapping from keys to any value"),
        (Dog, "a mapping with the keys name"),
        (Animal, "an option with a `_target_` that satisfies Animal"),
    ],
)
def test_annotations_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words
