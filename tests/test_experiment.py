"""The id of a run: what changes it, what does not, and golden ids that say when a study would be voided."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ablate.experiment import ADDED, NUMERICS, factors, normalised, run_id, run_name
from tests.tools import compose_config, compose_settings


def identify(*overrides: str) -> str:
    config = compose_config(*overrides)
    return run_id(compose_settings(*overrides), OmegaConf.to_container(config.hydra.runtime.choices))


def name(*overrides: str) -> str:
    config = compose_config(*overrides)
    return run_name(compose_settings(*overrides), OmegaConf.to_container(config.hydra.runtime.choices))


TINY = ("model=tiny", "data=synthetic")


@pytest.mark.parametrize(
    "override",
    [
        "seed=1", "nuisance=1", "clip=none", "clip.threshold=0.5", "clip=delayed", "freeze=none", "scheduler=none",
        "scheduler.warmup=0.1", "optimizer=sgd", "optimizer.lr=1e-3", "trainer.steps=301", "trainer.batch_size=16",
        "trainer.length_splits=1", "trainer.piece_multiple=2", "trainer.skip_unread=false", "trainer.precision=bf16",
        "trainer.probe_every=5", "trainer.eval_every=50", "trainer.compile=true", "data.group_by_length=true",
        "data.max_length=32", "data.seed=1", "data.train_examples=100", "model.dropout=0.2", "model.head_init=default",
    ],
)  # fmt: skip
def test_what_decides_numbers_is_another_run(override: str) -> None:
    assert identify(*TINY, override) != identify(*TINY)


@pytest.mark.parametrize(
    "override",
    [
        "study=other", "rerun=true", "report=false", "allow_targets=[my_rules]", "trainer.threads=1",
        "trainer.linear=onednn", "trainer.device=cpu", "trainer.checkpoint_every=7",
        "trainer.keep_checkpoint=true", "trainer.resume=any",
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


def test_the_folders_name() -> None:
    assert name().startswith("embeddings_attention-fixed-warmup_linear-s0-")
    assert name("seed=12").split("-")[3] == "s12"


def test_a_key_added_later_leaves_runs_from_before_as_they_are() -> None:
    """With the value that means "as before" it is neither in the id nor in run.json, where it would part the arms."""
    for key, before in ADDED.items():
        factor, _, setting = key.partition(".")
        config = compose_config(*TINY)
        choices = OmegaConf.to_container(config.hydra.runtime.choices)
        new = compose_settings(*TINY, f"{key}={str(before).lower()}")
        old = {**new, factor: {k: v for k, v in new[factor].items() if k != setting}}
        other = {**new, factor: {**new[factor], setting: not before}}
        assert new[factor][setting] is before
        assert (run_id(old, choices), factors(old, choices)) == (run_id(new, choices), factors(new, choices))
        assert run_id(other, choices) != run_id(new, choices)
        assert factors(other, choices)[factor]["settings"][setting] is not before


def test_golden_ids() -> None:
    """If this fails, finished studies would be run again: is that meant? Then say so in CHANGELOG.md."""
    assert NUMERICS == 2
    as_before = ("trainer.skip_unread=false", "trainer.piece_multiple=1")
    assert identify("clip=none", *as_before) == "9a0c7844c6"
    assert identify(*TINY, "clip=delayed", "seed=3", "nuisance=1", *as_before) == "0bf007dc52"
    assert identify("clip=none") == "cd0b6055de"
    assert identify(*TINY, "clip=delayed", "seed=3", "nuisance=1") == "1d477e9c9e"
