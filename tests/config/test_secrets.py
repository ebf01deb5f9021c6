"""No way from a secret of the environment or the config into a file: each is refused, and its value never shown."""

import pytest
from omegaconf import OmegaConf

from ablate.config.secrets import check_secrets

VALUE = "a-very-secret-value-1"

READS = [
    "${oc.env:HF_TOKEN}", '${oc.env:"HF_TOKEN"}', "${oc.env:'HF_TOKEN'}", "${ oc.env : HF_TOKEN }",
    "https://${oc.env: HF_TOKEN }/x", "${oc.env:HF_TOKEN,none}", "${oc.env:HOME,${oc.env:HF_TOKEN}}",
    '${oc.env:HOME,"${oc.env:HF_TOKEN}"}', "${oc.decode:${oc.env:HF_TOKEN}}", "${oc.env:${name}}",
    "${oc.env:HF_${name}}", "${oc.${part}:HF_TOKEN}", "${${part}:HF_TOKEN}", r"${oc.decode:'\${oc.env:HF_TOKEN}'}",
    "${oc.env:OPENAI_KEY}", "${oc.env:GHPAT}", "${oc.env:GITHUB_PAT}", "${oc.env:DB_PASS}", "${oc.env:X_AUTH}",
]  # fmt: skip


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", VALUE)


def check_refused(settings: dict, key: str) -> None:
    config = OmegaConf.create({"name": "HF_TOKEN", "part": "env", "hydra": {}, **settings})
    with pytest.raises(ValueError, match=f"^{key} must not hold or name a token or password.*export ") as error:
        check_secrets(config)
    assert VALUE not in str(error.value) and "hunter2" not in str(error.value)


@pytest.mark.parametrize("text", READS)
@pytest.mark.parametrize("is_set", [True, False])
def test_a_variable_that_holds_a_secret(text: str, is_set: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is written, and also where it is not set, as on another machine."""
    if not is_set:
        monkeypatch.delenv("HF_TOKEN")
    check_refused({"tracker": {"settings": [{"note": text}]}}, "tracker.settings.note")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("uri", "postgresql://me:hunter2@host/runs"),
        ("uri", "sqlite:////tmp/x?password=hunter2"),
        ("uri", "https://host/x?a=1&access_token=hunter2"),
        ("header", '{"apiKey": "hunter2"}'),
        ("setup", "export DB_PASS=hunter2"),
        ("accessToken", "hunter2"),
        ("OPENAI_KEY", "hunter2"),
        ("openai_key", "hunter2-hunter2-hunter2"),
        ("GHPAT", "hunter2"),
        ("note", "hf_" + "hunter2" * 4),
        ("note", "ghp_" + "hunter2" * 4),
        ("note", f"x-{VALUE}-y"),
    ],
)
@pytest.mark.parametrize("place", ["nested", "typed", "swept"])
def test_a_secret_in_the_config(key: str, value: str, place: str) -> None:
    if place == "nested":
        return check_refused({"tracker": {"init": [{"kwargs": {key: value}}]}}, f"tracker.init.kwargs.{key}")
    text = value if place == "typed" else f"{value},other"
    check_refused({"hydra": {"overrides": {"task": [f"+tracker.{key}={text}"]}}}, f"tracker.{key}")


def test_names_that_are_put_together() -> None:
    """The text alone does not show what oc.decode reads: the value does."""
    check_refused({"a": r"\${oc.", "b": "env:HF_TOKEN}", "note": '${oc.decode:"${a}${b}"}'}, "note")


@pytest.mark.parametrize(
    "settings",
    [
        {"data": {"path": "${oc.env:HOME}/texts", "text_key": "review", "label_key": "stars"}},
        {"folder": "${oc.env:PWD}", "note": "${oc.decode:${oc.env:STEPS,3}}", "tokenizer": "bert", "patience": 3},
        {"uri": "http://localhost:5000/@me", "other": "sqlite:///runs.db?mode=rw", "path": "pattern"},
        {"model": {"special_tokens": ["a:b"], "token": None, "api_key": ""}, "compat": "${oc.env:COMPAT,x}"},
    ],
)
def test_what_only_looks_like_a_secret(settings: dict) -> None:
    check_secrets(OmegaConf.create({"hydra": {}, **settings}))
