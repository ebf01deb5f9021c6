"""A Trainer with the mixin records the norms that torch measures, and clips by our rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from ablate.clip import Fixed
from ablate.files.assets import ASSETS, fetch
from ablate.files.run_record import read_run_json
from ablate.integrations.transformers import AblateMixin, Diverged
from analysis.records.study import load

TOKENS, STEPS, CLIP = 20, 3, 0.1
ROWS = [
    {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": i % 2}
    for i, ids in enumerate(torch.randint(5, 90, (24, TOKENS), generator=torch.Generator().manual_seed(0)))
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The model is too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Recorded(AblateMixin, Trainer):
    """It notes the norm that the Trainer logs, that of torch's `clip_grad_norm_` before clipping, and the exact one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logged: list[float] = []
        self.losses: list[float] = []
        self.exact: list[float] = []

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:
            gradients = [p.grad.double() for p in self.model.parameters()]
            self.exact.append(float(nn.utils.get_total_norm(gradients)))
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        self.logged += [logs["grad_norm"]] if "grad_norm" in logs else []
        self.losses += [logs["loss"]] if "loss" in logs else []
        super().log(logs, *args, **kwargs)


def tiny() -> nn.Module:
    set_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=TOKENS,
        )
    )  # fmt: skip


def minilm() -> nn.Module:
    set_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(fetch(ASSETS["minilm"]), num_labels=2)


def train(folder: Path, model: nn.Module, factor: str = "fixed", evaluates: bool = False, **more: Any) -> Recorded:
    """A run of STEPS updates. Arguments of the mixin are those named clip and record."""
    own = {key: more.pop(key) for key in ("clip", "record") if key in more}
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=1,
        save_strategy="no", per_device_train_batch_size=4, per_device_eval_batch_size=8,
        **({"max_steps": STEPS, "learning_rate": 1e-3, "max_grad_norm": CLIP} | more),
    )  # fmt: skip
    declared = {"study": folder / "study", "factors": {"clip": factor}, "labels": ["bad", "good"], "layers_every": 1}
    trainer = Recorded(
        model, arguments, train_dataset=ROWS, eval_dataset=ROWS[:10], record=declared | own.pop("record", {}), **own
    )
    trainer.train()
    if evaluates:
        trainer.evaluate()
        trainer.predict(ROWS[10:])
    trainer.recorder.finish()
    return trainer


CASES = {"fp32": {}, "accumulation and bf16": {"gradient_accumulation_steps": 2, "bf16": True}}


def check_norms(trainer: Recorded) -> pd.DataFrame:
    """The steps of a run, whose norms are those that torch measured before it clipped."""
    steps = pd.read_parquet(trainer.recorder.folder / "steps.parquet")
    assert len(steps) == STEPS
    assert steps["grad_norm"].tolist() == pytest.approx(trainer.exact, rel=1e-12)
    assert steps["grad_norm"].tolist() == pytest.approx(trainer.logged, rel=1e-4)  # float32, of large tensors too
    assert steps["loss"].tolist() == pytest.approx(trainer.losses, rel=1e-4)  # the Trainer rounds
    assert (steps["grad_norm_clipped"] <= CLIP * (1 + 1e-4)).all() and (steps["delta_g"] > 0).any()
    assert steps["grad_norm_clipped"].tolist() == pytest.approx(
        [min(norm, CLIP) for norm in steps["grad_norm"]], rel=1e-4
    )
    return steps


@pytest.mark.parametrize("case", CASES)
def test_norms_before_and_after_the_trainer_clips(case: str, tmp_path: Path) -> None:
    trainer = train(tmp_path, tiny(), **CASES[case])
    steps = check_norms(trainer)
    batch = 8 if "accumulation" in case else 4
    assert steps["examples"].tolist() == [batch] * STEPS and steps["tokens"].tolist() == [batch * TOKENS] * STEPS
    assert steps["lr"].tolist() == pytest.approx([1e-3 * (STEPS - t) / STEPS for t in range(STEPS)])
    layers = pd.read_parquet(trainer.recorder.folder / "layers.parquet")
    squares = layers.assign(square=layers["grad_norm"] ** 2).groupby("step")["square"].sum()
    assert (squares**0.5).tolist() == pytest.approx(steps["grad_norm"].tolist(), rel=1e-9)


@pytest.mark.network  # the model comes through pip
def test_norms_of_minilm(tmp_path: Path) -> None:
    steps = check_norms(train(tmp_path, minilm(), **CASES["accumulation and bf16"]))
    assert steps["mlp_grad_norm"].notna().all() and steps["classifier_grad_norm"].notna().all()


def test_our_rules_clip_as_torch_does_and_arms_are_paired(tmp_path: Path) -> None:
    ours = train(tmp_path / "ours", tiny(), clip=Fixed(CLIP), max_grad_norm=0.0)
    theirs = train(tmp_path / "theirs", tiny())
    a, b = (pd.read_parquet(each.recorder.folder / "steps.parquet") for each in (ours, theirs))
    for column in ("loss", "grad_norm", "grad_norm_clipped"):
        assert a[column].tolist() == pytest.approx(b[column].tolist(), rel=1e-4)
    none = train(tmp_path / "ours", tiny(), "none", max_grad_norm=0.0)
    study = load(tmp_path / "ours/study")
    runs = study.runs.set_index("clip")
    assert sorted(runs.index) == ["fixed", "none"] and runs.loc["fixed", "clip.threshold"] == CLIP
    for column in ("pairing.batches", "pairing.head", "environment.key", "optimizer", "optimizer.lr", "trainer.steps"):
        assert runs[column].nunique(dropna=False) == 1 and runs[column].notna().all()
    assert {*runs["made_by"]} == {"ablate.integrations.transformers"} and none.recorder.status == "done"


def test_evaluations_are_those_of_the_trainer(tmp_path: Path) -> None:
    trainer = train(tmp_path, tiny(), evaluates=True, eval_strategy="steps", eval_steps=1)
    expected = trainer.predict(ROWS[10:])
    run = read_run_json(trainer.recorder.folder)
    assert run["metrics"]["test_loss"] == pytest.approx(expected.metrics["test_loss"], rel=1e-3)  # mean of batch means
    predictions = pd.read_parquet(trainer.recorder.folder / "predictions.parquet")
    assert predictions["prediction"].tolist() == expected.predictions.argmax(-1).tolist()
    assert predictions["label"].tolist() == [row["labels"] for row in ROWS[10:]]
    evals = pd.read_parquet(trainer.recorder.folder / "evals.parquet")
    assert evals["step"].tolist() == [1, 2, 3, 3, 3] and evals["split"].tolist() == ["validation"] * 4 + ["test"]


def test_divergence_and_failure_are_recorded(tmp_path: Path) -> None:
    broken = tiny()
    with torch.no_grad():
        broken.classifier.weight.fill_(float("nan"))
    with pytest.raises(Diverged, match="step 1: gradient norm is nan"):
        train(tmp_path, broken)
    with pytest.raises(RuntimeError, match="no more"):
        train(tmp_path, Failing(tiny()), "soft")
    assert load(tmp_path / "study").runs["status"].tolist() == ["diverged"]
    assert load(tmp_path / "study").problems["problem"].tolist() == ["status failed: RuntimeError: no more"]


class Failing(nn.Module):
    """Fails at its second batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.calls, self.config = model, 0, model.config

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("no more")
        return self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"clip": Fixed()}, r"max_grad_norm must be 0 .* \(got 0.1\)"),
        ({"record": {"seed": 1}}, "record must be without seed"),
        ({"record": {"factors": {"run": "x"}}}, "factors must be the name of a factor"),
    ],
    ids=str,
)
def test_what_cannot_be_recorded_is_refused(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(tmp_path, tiny(), **more)
