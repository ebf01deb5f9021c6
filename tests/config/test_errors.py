"""Errors of a composition: the first line says what is wrong, the second what to do."""

import pytest

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
         "put special characters into quotes: 'key=\"a b\"'"),
        ("trainer.steps=${foo}", "trainer.steps cannot be resolved: Interpolation key 'foo' not found",
         "an interpolation is written ${key} or ${oc.env:X}"),
        ("clip=null", "a group must be set to the name of an option",
         "the option that does nothing is called none: clip=none"),
        ("claims=quick", "claims cannot be set on the command line",
         "claims are named in an experiment's file (claims: <name>), before the study runs"),
    ],
)  # fmt: skip
def test_what_is_wrong_then_the_remedy(override: str, wrong: str, remedy: str) -> None:
    with pytest.raises(Exception) as caught:
        compose_settings(override)
    assert complaint(caught.value) == f"error: {wrong}\n  {remedy}"


def test_other_errors_keep_their_first_line() -> None:
    assert complaint(ValueError("clip must be x (got y)\nmore")) == "error: clip must be x (got y)"
    assert complaint(KeyError()) == "error: KeyError"
