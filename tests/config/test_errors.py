"""Errors of a composition: the first line says what is wrong, the second what to do."""

import shlex

import pytest
from hydra.errors import HydraException

from ablate.config.errors import complaint
from tests.tools import compose_settings


@pytest.mark.parametrize(
    ("override", "wrong", "remedy"),
    [
        ("trainer.stesp=1", "there is no setting trainer.stesp", "did you mean steps or threads?"),
        ("clip.start=5", "there is no setting clip.start",
         "allowed: threshold; another option may have it: clip=delayed clip.start=50,100"),
        ("clip=fixd", "there is no option clip/fixd", "did you mean fixed?"),
        ("data=files", "data.files.train is missing", "set data.files.train=<value>"),
        ("seed=range(", "seed=range( cannot be parsed: no viable alternative at input 'range('",
         "close each quote and bracket, and put special characters into quotes: 'key=\"a b\"'"),
        ("data.files.train=reviews (1).csv",
         "data.files.train=reviews (1).csv cannot be parsed: mismatched input '.' expecting <EOF>",
         "quote it: 'data.files.train=\"reviews (1).csv\"'"),
        ("data.files.train=a=b.csv", "data.files.train=a=b.csv cannot be parsed: mismatched input '=' expecting <EOF>",
         "quote it: 'data.files.train=\"a=b.csv\"'"),
        ("data.files.train=ünï.csv", "data.files.train=ünï.csv cannot be parsed",
         "quote it: 'data.files.train=\"ünï.csv\"'"),
        ("data.files.train=a,b.csv", "data.files.train=a,b.csv has several values",
         "to sweep over them, add -m; for one value, quote it: 'data.files.train=\"a,b.csv\"'"),
        ("clip=none,fixed", "clip=none,fixed has several values",
         "to sweep over them, add -m; for one value, quote it: 'clip=\"none,fixed\"'"),
        ("seed=range(3)", "seed=range(3) has several values", "to sweep over them, add -m"),
        ("clip fixed", "clip fixed cannot be parsed", "an override is written key=value; --hydra-help lists the flags"),
        ("+clip=none", "clip is in the config already", "leave out the +: clip=<option>"),
        ("clip@foo=none", "Could not override 'clip@foo'.",
         "Did you mean to override clip?\n  To append to your default list use +clip@foo=none"),
        ("trainer.steps=${foo}", "trainer.steps cannot be resolved: Interpolation key 'foo' not found",
         "an interpolation is written ${key} or ${oc.env:X}"),
        ("clip=null", "a group must be set to the name of an option",
         "the option that does nothing is called none: clip=none; quote a name that is a number: 'clip=\"2024\"'"),
    ],
)  # fmt: skip
def test_what_is_wrong_then_the_remedy(override: str, wrong: str, remedy: str) -> None:
    with pytest.raises(Exception) as caught:
        compose_settings(override)
    assert complaint(caught.value) == f"error: {wrong}\n  {remedy}"


def test_other_errors_keep_their_first_line() -> None:
    assert complaint(ValueError("clip must be x (got y)\nmore")) == "error: clip must be x (got y)"
    assert complaint(KeyError()) == "error: KeyError"


@pytest.mark.parametrize("value", ["reviews (1).csv", "a=b.csv", "a,b.csv", "ünï.csv", "it's.csv", 'a"b', "a;b"])
def test_the_quoted_override_is_the_remedy(value: str) -> None:
    """What the message suggests gives the shell, and then Hydra, the value that was meant."""
    with pytest.raises(HydraException) as caught:
        compose_settings("data=files", "data.files.test=x", f"data.files.train={value}")
    (word,) = shlex.split(complaint(caught.value).rpartition("quote it: ")[2])
    assert compose_settings("data=files", "data.files.test=x", word)["data"]["files"]["train"] == value


def test_a_number_for_an_option_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ablate", "seed=3", "clip=2024"])
    with pytest.raises(ValueError) as caught:
        compose_settings("clip=2024")
    assert complaint(caught.value).startswith("error: clip=2024 must be set to the name of an option\n")


def test_the_cause_of_an_error_in_merging_is_shown() -> None:
    with pytest.raises(HydraException) as caught:
        compose_settings("hydra.sweeper.params=[a,b]")
    assert complaint(caught.value).startswith("error: hydra.sweeper.params=[a,b] does not fit: Cannot merge")
