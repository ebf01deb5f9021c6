"""A Lightning Trainer with the callback gives the records of a plain loop with a Recorder."""

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

import ablate
from ablate.clip import Fixed, Nothing
from ablate.files.run_record import read_run_json
from ablate.integrations.transformers import Diverged
from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.records.study import load
from tests.integrations.test_transformers import TOKENS, one_thread  # noqa: F401  a fixture

lightning = pytest.importorskip("lightning.pytorch")
from ablate.integrations.lightning import AblateCallback, inner  # noqa: E402

STEPS, SEEDS = 6, (0, 1, 2)
ROWS = [  # that a model learns at once
    {"input_ids": (ids := torch.full((TOKENS,), 5 + i % 2)), "attention_mask": torch.ones_like(ids), "labels": i % 2}
    for i in range(24)
]
RULES = {"none": Nothing(), "fixed": Fixed(0.02)}

CLAIM = """
seeds: 3
claims:
  shortens:
    statement: clipping shortens the gradient
    quantity: mean_delta_g
    scale: raw
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: above
"""


def batches(rows: list[dict[str, Any]]) -> DataLoader:
    return DataLoader(rows, batch_size=4)


def bert(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # of which the loops draw other numbers
    return BertForSequenceClassification(BertConfig(vocab_size=100, max_position_embeddings=TOKENS, **sizes))


class Module(lightning.LightningModule):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = bert(seed)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.net(**batch).loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"labels": batch["labels"], "logits": self.net(**batch).logits}

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        return self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.25, STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(folder: Path, arm: str, module: Any, test: bool = True, **more: Any) -> AblateCallback:
    """Arguments of the callback are those named clip and seed."""
    own = {"seed": 0, "clip": RULES.get(arm)} | {key: more.pop(key) for key in ("seed", "clip") if key in more}
    callback = AblateCallback(folder, {"clip": arm}, labels=["bad", "good"], layers_every=1, **own)
    trainer = lightning.Trainer(
        accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **({"max_steps": STEPS, "num_sanity_val_steps": 1} | more),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        trainer.fit(module, batches(ROWS), batches(ROWS[:8]))
        if test:
            trainer.validate(module, batches(ROWS[:8]), verbose=False)
            trainer.test(module, batches(ROWS[10:]), verbose=False)
    callback.recorder.finish()
    return callback


def plain_loop(folder: Path, arm: str, seed: int, pieces: int = 1, bf16: bool = False) -> None:
    """The same run without Lightning."""
    model = bert(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.25, STEPS)
    declared = {"seed": seed, "steps": STEPS, "labels": ["bad", "good"], "layers_every": 1}
    with ablate.Recorder(folder, {"clip": arm}, settings=settings_of(arm), **declared) as recorder:
        data = [batch for _ in range(5) for batch in batches(ROWS)]
        for step in range(STEPS):
            total = 0.0
            for batch in data[step * pieces : (step + 1) * pieces]:
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = model(**batch).loss
                (loss / pieces).backward()
                total += loss.detach() / pieces
            recorder.gradients(model)
            recorder.clip(RULES[arm])
            optimizer.step()
            optimizer.zero_grad()
            recorder.step(total, schedule.get_last_lr()[0], examples=4 * pieces, tokens=4 * pieces * TOKENS)
            schedule.step()
        model.eval()
        for split, rows in {"validation": ROWS[:8], "test": ROWS[10:]}.items():
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = torch.cat([model(**batch).logits for batch in batches(rows)])
            labels = [row["labels"] for row in rows]
            recorder.evaluation(split, labels, probabilities=logits.float().softmax(-1))


def settings_of(arm: str) -> dict[str, Any]:
    return {"clip.threshold": 0.02} if arm == "fixed" else {}


def tables(folder: Path, name: str) -> pd.DataFrame:
    found = [
        pd.read_parquet(file) for file in sorted(folder.glob(f"*/{name}.parquet"), key=lambda f: f.parent.name[:16])
    ]
    return pd.concat(found).drop(columns=["seconds"], errors="ignore")


@pytest.mark.parametrize("case", ["fp32", "accumulation and bf16"])
def test_the_records_are_those_of_a_plain_loop(case: str, tmp_path: Path) -> None:
    more = {} if case == "fp32" else {"accumulate_grad_batches": 2, "precision": "bf16-mixed"}
    pieces = len(more) or 1
    for arm in RULES:
        torch.manual_seed(0)
        fit(tmp_path / "lightning", arm, Module(), **more)
        plain_loop(tmp_path / "plain", arm, 0, pieces, bool(more))
    for name in ("steps", "layers", "predictions"):
        a, b = (tables(tmp_path / study, name) for study in ("lightning", "plain"))
        assert len(a) > 0
        pd.testing.assert_frame_equal(a, b, rtol=1e-6, atol=1e-9)
    a, b = (load(tmp_path / study).runs.set_index("clip").sort_index() for study in ("lightning", "plain"))
    assert a["pairing.head"].equals(b["pairing.head"]) and a["pairing.batches"].nunique() == 1
    for column in ("test_accuracy", "test_loss", "validation_loss"):
        assert a[column].tolist() == pytest.approx(b[column].tolist(), rel=1e-6)
    steps = tables(tmp_path / "lightning", "steps")
    assert steps["delta_g"].max() > 0.05 and steps["examples"].eq(4 * pieces).all()


def test_the_verdicts_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    for arm in RULES:
        for seed in SEEDS:
            fit(tmp_path / "lightning", arm, Module(seed), seed=seed)
            plain_loop(tmp_path / "plain", arm, seed)
    (tmp_path / "claims.yaml").write_text(CLAIM)
    claims = read_claims(tmp_path / "claims.yaml")
    (a,), (b,) = (judge_claims(load(tmp_path / study), claims).findings for study in ("lightning", "plain"))
    assert a.verdict == b.verdict and a.verdict.value == "supported" and a.n == b.n == 3
    assert a.effect == pytest.approx(b.effect, rel=1e-5)


def test_clipping_by_lightning_is_measured(tmp_path: Path) -> None:
    module = Module()
    fit(tmp_path / "theirs", "fixed", module, clip=None, gradient_clip_val=0.02)
    fit(tmp_path / "ours", "fixed", Module())
    theirs, ours = (tables(tmp_path / study, "steps") for study in ("theirs", "ours"))
    pd.testing.assert_frame_equal(theirs, ours, rtol=1e-4)  # torch adds 1e-6 to the norm
    assert load(tmp_path / "theirs").runs.at[0, "clip.gradient_clip_val"] == 0.02
    assert "configure_gradient_clipping" not in vars(module)


class OnlyLoss(Module):
    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.net(**batch).loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        return None


def test_of_a_loss_the_mean_is_recorded_and_of_nothing_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = OnlyLoss()
    callback = fit(tmp_path, "none", module, max_steps=-1, max_epochs=1)
    run = read_run_json(callback.recorder.folder)
    with torch.no_grad():
        inputs = {name: torch.stack([torch.as_tensor(row[name]) for row in ROWS[10:]]) for name in ROWS[0]}
        expected = float(module.net.eval()(**inputs).loss)
    assert run["metrics"] == {"test_loss": pytest.approx(expected, rel=1e-6)}
    assert run["factors"]["trainer"]["settings"]["steps"] == 6 and "evals of validation" in run["not_recorded"]
    assert 'validation_step returns neither "labels" nor a loss' in caplog.text


class Broken(Module):
    """It diverges, or fails, at its third batch."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        if batch_idx == 2 and self.error:
            raise self.error
        return super().training_step(batch, batch_idx) * (float("nan") if batch_idx == 2 else 1.0)


def test_divergence_and_failure_are_recorded(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="step 3: gradient norm is nan"):
        fit(tmp_path, "none", Broken(None))
    with pytest.raises(RuntimeError, match="no more"):
        fit(tmp_path, "fixed", Broken(RuntimeError("no more")))
    study = load(tmp_path)
    assert study.runs["status"].tolist() == ["diverged"]
    assert study.problems["problem"].tolist() == ["status failed: RuntimeError: no more"]


class Manual(Module):
    automatic_optimization = False


@pytest.mark.parametrize(
    ("module", "more", "message"),
    [
        (Manual, {}, "automatic_optimization must be true"),
        (Module, {"gradient_clip_val": 1.0}, r"gradient_clip_val must be left out .* \(got 1.0\)"),
        (Module, {"max_steps": -1, "max_epochs": -1}, "max_steps must be given"),
    ],
    ids=str,
)
def test_what_cannot_be_recorded_is_refused(module: Any, more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, "fixed", module(), **more)
    assert not [*tmp_path.glob("*/run.json")]


def test_the_seed_is_that_of_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="steps must be left out"):
        AblateCallback(tmp_path, {"clip": "none"}, steps=3)
    with pytest.raises(TypeError, match="label"):
        AblateCallback(tmp_path, {"clip": "none"}, label=["a"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    callback = AblateCallback(tmp_path, {"clip": "none"})
    trainer = lightning.Trainer(
        accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_steps=1,
    )  # fmt: skip
    trainer.fit(Module(), batches(ROWS))
    assert read_run_json(callback.recorder.finish())["seed"] == 7


def test_the_names_of_parameters_are_those_of_the_model() -> None:
    module = Module()
    assert inner(module) is module.net
    module.own = nn.Linear(2, 2)
    assert inner(module) is module
