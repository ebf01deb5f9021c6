"""The id of a run: what changes it, what does not, and golden ids that say when a study would be voided."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ablate.experiment import ADDED, FACTORS, KEYS, NUMERICS, factors, normalised, run_id, stem_id
from ablate.schema import NO_TECHNIQUES, SETUP
from tests.tools import compose_config, compose_settings


def identify(*overrides: str) -> str:
    config = compose_config(*overrides)
    return run_id(compose_settings(*overrides), OmegaConf.to_container(config.hydra.runtime.choices))


TINY = ("model=tiny", "data=synthetic")


@pytest.mark.parametrize(
    "override",
    [
        "seed=1", "nuisance=1", "clip=none", "clip.threshold=0.5", "clip=delayed", "freeze=none", "scheduler=none",
        "scheduler.warmup=0.1", "optimizer=sgd", "optimizer.lr=1e-3", "trainer.steps=301", "trainer.batch_size=16",
        "trainer.length_splits=1", "trainer.piece_multiple=2", "trainer.skip_unread=false", "trainer.precision=bf16",
        "trainer.probe_every=5", "trainer.eval_every=50", "trainer.compile=true", "data.group_by_length=true",
        "data.max_length=32", "data.seed=1", "data.train_examples=100", "model.dropout=0.2", "model.head_init=default",
        "trainer.frozen_dropout=false", "trainer.frozen_prefix=false",
    ],
)  # fmt: skip
def test_what_decides_numbers_is_another_run(override: str) -> None:
    assert identify(*TINY, override) != identify(*TINY)


@pytest.mark.parametrize(
    "override",
    [
        "study=other", "rerun=true", "report=false", "allow_targets=[my_rules]", "trainer.threads=1",
        "trainer.linear=onednn", "trainer.device=cpu", "trainer.checkpoint_every=7",
        "trainer.keep_checkpoint=true", "trainer.resume=any", "trainer.frozen_prefix_gb=1",
    ],
)  # fmt: skip
def test_what_does_not_is_the_same_run(override: str) -> None:
    assert identify(*TINY, override) == identify(*TINY)


def test_numbers_count_by_value() -> None:
    assert identify("clip.threshold=1") == identify("clip.threshold=1.0")
    assert identify("model.lr=1e-3") == identify("optimizer.lr=0.001") != identify()


@given(st.integers(-(2**53), 2**53))
def test_whole_floats_are_integers(number: int) -> None:
    assert normalised({"a": [float(number)]}) == normalised({"a": [number]})


def test_nested_rules_are_told_apart() -> None:
    ids = {
        identify("clip=delayed"),
        identify("clip=delayed", "clip@clip.rule=none"),
        identify("clip=delayed", "clip.rule.threshold=2"),
        identify("clip=delayed", "clip.start=50"),
    }
    assert len(ids) == 4


def test_factors_are_as_run_json_promises() -> None:
    config = compose_config("clip=delayed", "optimizer.lr=1e-3")
    found = factors(
        compose_settings("clip=delayed", "optimizer.lr=1e-3"), OmegaConf.to_container(config.hydra.runtime.choices)
    )
    assert list(found) == ["freeze", "clip", "scheduler", "optimizer", "model", "data", "trainer"]
    assert found["clip"] == {
        "option": "delayed",
        "settings": {"start": 100, "rule": "fixed", "rule.threshold": 1.0},
    }
    assert found["optimizer"]["settings"]["lr"] == 1e-3
    assert "lr" not in found["model"]["settings"]
    assert "sha256" in found["model"]["settings"] and "path" not in found["model"]["settings"]


def csv(path: Path, *labels: int) -> Path:
    path.write_text("text,label\n" + "".join(f"film {i},{label}\n" for i, label in enumerate(labels)))
    return path


def test_local_files_count_by_content_not_by_place(tmp_path: Path) -> None:
    files = csv(tmp_path / "a.csv", 0, 1, 0), csv(tmp_path / "b.csv", 0, 1, 0), csv(tmp_path / "c.csv", 0, 1, 1)
    one, same, edited = (identify("data=files", f"data.files.train={f}", "data.files.test=null") for f in files)
    assert one == same != edited


def test_a_rule_of_the_users_own_counts_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = tmp_path / "users_rules.py"
    rule.write_text("class Rule: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = compose_settings(*TINY)
    settings["clip"]["_target_"], settings["allow_targets"] = "users_rules.Rule", ["users_rules"]
    choices = OmegaConf.to_container(compose_config(*TINY).hydra.runtime.choices)
    before = run_id(settings, choices)
    assert before == run_id(settings, choices)
    rule.write_text("class Rule: ...  # edited\n")
    assert run_id(settings, choices) != before


def test_the_table_of_factors_is_that_of_the_config() -> None:
    config = compose_config()
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    assert {name: choices[name] for name in FACTORS} == {name: factor.default for name, factor in FACTORS.items()}
    assert set(KEYS) == set(compose_settings()) and len(KEYS) == len(set(KEYS))
    assert tuple(FACTORS)[-len(NO_TECHNIQUES) :] == NO_TECHNIQUES


def test_what_shares_a_start_is_not_in_the_stem() -> None:
    def stem(*overrides: str) -> str:
        choices = OmegaConf.to_container(compose_config(*overrides).hydra.runtime.choices)
        return stem_id(compose_settings(*overrides), choices)

    assert stem(*TINY) == stem(*TINY, "clip=none", "scheduler=none") != stem(*TINY, "freeze=none")


# Groups of the user's own

OWN = {"_target_": "my_rules.Mixout", "p": 0.5}


def own(option: str, **rule: object) -> tuple[dict[str, object], dict[str, str]]:
    """The config and choices of a run with a group `mixout`."""
    choices = OmegaConf.to_container(compose_config(*TINY).hydra.runtime.choices)
    return compose_settings(*TINY) | {"mixout": rule, "allow_targets": ["my_rules"]}, choices | {"mixout": option}


@pytest.fixture
def my_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rules.py").write_text("class Mixout: ...\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_group_of_the_users_own_is_a_factor(my_rules: None) -> None:
    settings, choices = own("on", **OWN)
    found = factors(settings, choices)
    assert list(found) == ["freeze", "clip", "scheduler", "mixout", *SETUP]
    assert found["mixout"] == {"option": "on", "settings": {"p": 0.5}}
    ids = {run_id(settings | {"mixout": {**OWN, "p": p}}, choices) for p in (0.5, 0.7)} | {identify(*TINY)}
    assert len(ids) == 3
    assert stem_id(settings, choices) != stem_id(compose_settings(*TINY), choices)


def test_its_none_is_what_runs_without_it_have(my_rules: None) -> None:
    settings, choices = own("none", _target_="my_rules.Mixout")
    assert run_id(settings, choices) == identify(*TINY)
    assert "mixout" not in factors(settings, choices)
    with pytest.raises(ValueError, match=r"^mixout=none must have no settings.*got p"):
        run_id(settings | {"mixout": OWN}, choices)


@pytest.mark.parametrize("value", [1, "none", {"p": 1}, None])
def test_any_other_key_is_refused(value: object) -> None:
    settings, choices = own("on", **OWN)
    with pytest.raises(ValueError, match=r"^mixout is neither a key of the config nor a config group"):
        run_id(settings | {"mixout": value}, choices)


OTHER = {"model.dropout": 0.2, "data.cluster": "group", "optimizer.head_lr": 0.5, "optimizer.layer_decay": 0.5}
"""Another value of an added key, where `changed` does not know one."""


def changed(key: str, before: Any) -> Any:
    """A value of the key that is not "as before"."""
    return OTHER[key] if key in OTHER else not before if isinstance(before, bool) else (before or 0) + 2


def with_key(settings: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of the settings in which the key at `path` has the value; None removes it."""
    first, *rest = path
    if rest:
        return {**settings, first: with_key(settings[first], rest, value)}
    return {**{k: v for k, v in settings.items() if k != first}, **({} if value is None else {first: value})}


@pytest.mark.parametrize("key", ADDED)
def test_a_key_added_later_leaves_runs_from_before_as_they_are(key: str, tmp_path: Path) -> None:
    """With the value that means "as before" it is neither in the id nor in run.json, where it would part the arms."""
    before, path = ADDED[key], key.split(".")
    base = ("model=minilm",) if key == "model.dropout" else TINY  # the tiny model has a rate of its own
    if key == "data.cluster":
        (tmp_path / "train.csv").write_text("text,label\nfine,1\n")
        base = ("model=tiny", "data=files", f"data.files.train={tmp_path}/train.csv", "data.files.test=null")
    choices = OmegaConf.to_container(compose_config(*base).hydra.runtime.choices)
    new = compose_settings(*base, f"{key}={'null' if before is None else str(before).lower()}")
    old, other = with_key(new, path, None), with_key(new, path, changed(key, before))
    assert OmegaConf.select(OmegaConf.create(new), key) == before
    assert (run_id(old, choices), factors(old, choices)) == (run_id(new, choices), factors(new, choices))
    assert run_id(other, choices) != run_id(new, choices)
    assert factors(other, choices)[path[0]]["settings"][".".join(path[1:])] == changed(key, before)


def test_golden_ids() -> None:
    """If this fails, finished studies would be run again: is that meant? Then say so in CHANGELOG.md."""
    assert NUMERICS == 2
    probe = ("trainer.probe_every=10", "trainer.probe_examples=32")
    as_before = (*probe, "trainer.skip_unread=false", "trainer.piece_multiple=1")
    assert identify("clip=none", *as_before) == "9a0c7844c6"
    assert identify(*TINY, "clip=delayed", "seed=3", "nuisance=1", *as_before) == "0bf007dc52"
    assert identify("clip=none", *probe) == "cd0b6055de"
    assert identify(*TINY, "clip=delayed", "seed=3", "nuisance=1", *probe) == "1d477e9c9e"
    assert identify("clip=none") == "4257674437"
    assert identify(*TINY, "clip=delayed", "seed=3", "nuisance=1") == "1bbaad5c21"
