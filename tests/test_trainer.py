"""The shared trainer's settings: ranges, and the option file that mirrors them."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ablate.config.build import build
from ablate.config.checks import require
from ablate.trainer import Track, Trainer

DEFAULT = Path(__file__).parent.parent / "conf" / "trainer" / "default.yaml"
COUNTS = ["steps", "batch_size", "grad_accumulation", "probe_every", "probe_examples", "eval_batch_size",
          "checkpoint_every"]  # fmt: skip


def option(**changes: Any) -> dict[str, Any]:
    """conf/trainer/default.yaml, as `build` receives it."""
    return {**OmegaConf.to_container(OmegaConf.load(DEFAULT)), **changes}  # type: ignore[dict-item]


def test_the_option_file_gives_the_defaults() -> None:
    assert build(option(), Trainer, "trainer") == Trainer()


def test_the_option_file_names_every_setting() -> None:
    assert option().keys() - {"_target_"} == {field.name for field in dataclasses.fields(Trainer)}
    assert option()["track"].keys() == {field.name for field in dataclasses.fields(Track)}


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("key", COUNTS)
def test_counts_start_at_1(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^trainer\.{key} must be a whole number, at least 1 \(got {value}\)$"):
        build(option(**{key: value}), Trainer, "trainer")


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("key", ["threads", "eval_every"])
def test_counts_that_may_be_null(key: str, value: int) -> None:
    allowed = "null or a whole number, at least 1"
    with pytest.raises(ValueError, match=rf"^trainer\.{key} must be {allowed} \(got {value}\)$"):
        build(option(**{key: value}), Trainer, "trainer")
    assert getattr(build(option(**{key: None}), Trainer, "trainer"), key) is None


@pytest.mark.parametrize("value", [0, 33])
def test_no_more_splits_than_examples(value: int) -> None:
    with pytest.raises(ValueError, match=rf"^trainer\.length_splits must be from 1 to batch_size=32 \(got {value}\)$"):
        build(option(length_splits=value), Trainer, "trainer")
    assert build(option(length_splits=32), Trainer, "trainer").length_splits == 32


def test_layers_every_names_the_whole_key() -> None:
    allowed = "a number of steps, at least 1"
    with pytest.raises(ValueError, match=rf"^trainer\.track\.layers_every must be {allowed} \(got 0\)$"):
        build(option(track={"layers_every": 0}), Trainer, "trainer")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("precision", "fp16", "one of fp32, bf16"),
        ("precision", None, "one of fp32, bf16"),
        ("device", "tpu", "one of auto, cpu, cuda"),
        ("resume", True, "one of exact, any"),
        ("steps", 1.5, "a whole number"),
        ("steps", True, "a whole number"),
        ("steps", "many", "a whole number"),
        ("threads", "all", "a whole number or null"),
        ("deterministic", 1, "true or false"),
    ],
)
def test_wrong_types(key: str, value: object, allowed: str) -> None:
    shown = "null" if value is None else value
    with pytest.raises(ValueError, match=rf"^trainer\.{key} must be {allowed} \(got {shown}\)$"):
        build(option(**{key: value}), Trainer, "trainer")


def test_a_step_uses_batch_size_times_accumulation() -> None:
    assert Trainer(batch_size=8, grad_accumulation=3).examples_per_step == 24


def test_threads_are_shared_among_workers() -> None:
    trainer = Trainer()
    assert trainer.thread_count(workers=10**6) == 1
    assert 1 <= trainer.thread_count(workers=2) <= trainer.thread_count()
    assert Trainer(threads=3).thread_count(workers=2) == 3


def test_require_names_key_rule_and_value() -> None:
    require("start", 1, True, "a step, at least 1")
    with pytest.raises(ValueError, match=r"^start must be a step, at least 1 \(got 0\)$"):
        require("start", 0, False, "a step, at least 1")
