"""Records the runs of a Lightning Trainer, with the gradient norms before and after clipping.

    from ablate.integrations.lightning import AblateCallback

    record = AblateCallback("outputs/mine", {"clip": "fixed"}, labels=["bad", "good"])
    trainer = lightning.Trainer(max_steps=300, gradient_clip_val=1.0, callbacks=[record])
    trainer.fit(module, train_batches, validation_batches)
    trainer.test(module, test_batches)
    record.recorder.finish()

`validation_step` and `test_step` return what an evaluation needs of a batch: a dict with "labels" and "logits", or with
other arguments of `Recorder.evaluation` (predictions, probabilities, losses, tokens). Of a loss alone, the mean is
recorded.

With gradient accumulation a step is an update, as in our trainer. bf16 is recorded as it is; fp16 with loss scaling,
manual optimisation and several processes are refused. docs/how_to/lightning.md has a complete script.
"""

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.data import extract_batch_size
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from ablate.clip import GradientRule, NormRule
from ablate.config.checks import refusal, require
from ablate.integrations.shared import StepSoFar, library_settings, placed
from ablate.recorder import Diverged, Recorder
from ablate.recorder.given import of_logits

__all__ = ["AblateCallback", "Diverged"]

log = logging.getLogger("ablate")

ARRAYS = ("labels", "predictions", "probabilities", "losses", "tokens")
"""The arguments of `Recorder.evaluation` that have one entry per example."""


class AblateCallback(Callback):
    """Records what `trainer.fit` trains, and the evaluations after it. The first of the Trainer's callbacks.

    Args:
        study, factors, record: the arguments of `ablate.Recorder` but `steps`, which the Trainer knows. The seed may be
            left out where `lightning.seed_everything` sets it. The `settings` are completed by those of the Trainer:
            optimizer, learning rate, batch size, precision, clipping.
        clip: a rule of `ablate.clip`, which clips in place of the Trainer: `gradient_clip_val` must be left out.

    After a run that diverges, `fit` raises Diverged; the run is recorded.
    """

    recorder: Recorder
    """Of the run that `fit` began last."""

    def __init__(
        self, study: Any, factors: Mapping[str, str], *, clip: NormRule | GradientRule | None = None, **record: Any
    ) -> None:
        require("steps", record.get("steps"), "steps" not in record, "left out: the Trainer knows it")
        inspect.signature(Recorder).bind(study, factors, **{"seed": 0, "steps": 1} | record)  # raises TypeError
        self._arguments = {"study": study, "factors": factors, "made_by": "ablate.integrations.lightning"} | record
        self._clip = clip
        self._step = StepSoFar()
        self._lr = 0.0
        self._evaluated: Evaluated | None = None

    @property
    def is_recording(self) -> bool:
        return hasattr(self, "recorder") and self.recorder.status == "running"

    # --- Training ---

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_recordable(trainer, pl_module, self._clip)
        if self.is_recording:
            raise ValueError(f"recorder.finish must be called before fit is called again ({self.recorder.folder})")
        seed = self._arguments.get("seed", os.environ.get("PL_GLOBAL_SEED"))
        require("seed", seed, seed is not None, "given, or set by lightning.seed_everything")
        factors = {*self._arguments["factors"]}
        settings = settings_of_lightning(trainer, pl_module, factors, self._clip) | dict(
            self._arguments.get("settings") or {}
        )
        given = self._arguments | {"seed": int(seed), "steps": int(trainer.estimated_stepping_batches)}
        self.recorder = Recorder(**given | {"settings": settings})
        self._step = StepSoFar()
        pl_module.configure_gradient_clipping = self._measuring(pl_module.configure_gradient_clipping)

    def _measuring(self, clip: Callable[..., None]) -> Callable[..., None]:
        """The module's clipping, then ours, or a measurement: Lightning calls no callback between it and the update."""

        def clip_and_measure(*args: Any, **kwargs: Any) -> None:
            clip(*args, **kwargs)
            if self._clip:
                self.recorder.clip(self._clip)
            else:
                self.recorder.clipped()

        return clip_and_measure

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        tensors: list[Tensor] = []
        apply_to_collection(batch, Tensor, tensors.append)
        self._step.count(batch, tensors, extract_batch_size(batch) if tensors else 0)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self._lr = max(float(group["lr"]) for group in optimizer.param_groups)
        self.recorder.gradients(inner(pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._step.loss += outputs["loss"] * trainer.accumulate_grad_batches  # by which Lightning has divided it
        if trainer.global_step == self.recorder.done:
            return
        step, self._step = self._step, StepSoFar()
        self.recorder.order(step.hashes)
        self.recorder.step(
            step.loss / step.batches, self._lr, examples=step.examples or None, tokens=step.tokens or None
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        vars(pl_module).pop("configure_gradient_clipping", None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)
        if self.is_recording:
            self.recorder.fail(exception)

    # --- Evaluation ---

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        records = self.is_recording and not trainer.sanity_checking and self.recorder.done > 0
        self._evaluated = Evaluated(self.recorder.kind) if records else None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        require("the number of dataloaders", dataloader_idx + 1, not dataloader_idx, "1 per split that is recorded")
        if self._evaluated:
            self._evaluated.add(outputs, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        split = "test" if trainer.testing else "validation"
        if self._evaluated and (found := self._evaluated.arguments()):
            self.recorder.evaluation(split, **found)
        elif self._evaluated:
            log.warning('%s_step returns neither "labels" nor a loss: the evaluation is not recorded', split)
        self._evaluated = None

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end
    on_test_end = on_validation_end


class Evaluated:
    """What the batches of an evaluation return, joined."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rows: dict[str, list[Any]] = {}
        self.loss, self.examples, self.losses = 0.0, 0, 0

    def add(self, outputs: Any, batch: Any) -> None:
        found = dict(outputs) if isinstance(outputs, Mapping) else {"loss": outputs}
        found = {name: value.detach().cpu() if isinstance(value, Tensor) else value for name, value in found.items()}
        if self.kind == "regression" and isinstance(found.get("labels"), Tensor):
            found["labels"] = found["labels"].float().reshape(-1)
        if self.kind != "causal_lm" and {"logits", "labels"} <= {*found}:  # whose logits are too many to be kept
            found |= of_logits(self.kind, found["logits"], found["labels"])
        arrays = {name: found[name] for name in ARRAYS if found.get(name) is not None}
        for name, values in arrays.items():
            self.rows.setdefault(name, []).extend(values)
        size = max(map(len, arrays.values()), default=0) or extract_batch_size(batch)
        self.examples += size
        if found.get("loss") is not None:
            self.loss, self.losses = self.loss + float(found["loss"]) * size, self.losses + size

    def arguments(self) -> dict[str, Any]:
        """Those of `Recorder.evaluation`; empty where there is nothing to record."""
        found: dict[str, Any] = {name: self.joined(rows) for name, rows in self.rows.items()}
        if self.examples and self.losses == self.examples and "losses" not in found:
            found |= {"loss": self.loss / self.examples} | ({} if found else {"examples": self.examples})
        return found

    def joined(self, rows: list[Any]) -> Any:
        """One array, or one row per example where the rows have several lengths."""
        words = self.kind == "token_classification"
        return torch.stack(rows) if isinstance(rows[0], Tensor) and not (words and rows[0].ndim) else rows


def inner(module: LightningModule) -> nn.Module:
    """The model whose names its parameters have: the one child that has any, else the module itself."""
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    own = next(module.parameters(recurse=False), None)
    return children[0] if len(children) == 1 and own is None else module


def check_recordable(trainer: Trainer, module: LightningModule, clip: object) -> None:
    """Raises ValueError for what cannot be recorded as it is."""
    require("devices", trainer.world_size, trainer.world_size == 1, "1: a Recorder records runs of one process")
    scaled = "not 16-mixed: its gradients are scaled and skipped; bf16-mixed is recorded"
    require("precision", trainer.precision, trainer.precision != "16-mixed", scaled)
    manual = "true: with manual optimisation, use ablate.Recorder in training_step"
    require("automatic_optimization", module.automatic_optimization, module.automatic_optimization, manual)
    require("ckpt_path", trainer.global_step, trainer.global_step == 0, "left out: a record begins at step 1")
    steps = trainer.estimated_stepping_batches
    require("max_steps", steps, steps != float("inf"), "given, or max_epochs: the number of updates")
    if clip is not None and trainer.gradient_clip_val:
        raise refusal("gradient_clip_val", trainer.gradient_clip_val, "left out where `clip` has a rule")


def settings_of_lightning(trainer: Trainer, module: LightningModule, factors: set[str], clip: object) -> dict[str, Any]:
    """The settings that decide a run's numbers. Those of a factor that is studied are settings of it."""
    found = library_settings("lightning", inner(module), trainer.optimizers[0], clip, factors)
    precision = {"32-true": "fp32", "bf16-mixed": "bf16"}.get(str(trainer.precision), str(trainer.precision))
    found |= {"trainer.grad_accumulation": trainer.accumulate_grad_batches, "trainer.precision": precision}
    if isinstance(size := getattr(trainer.train_dataloader, "batch_size", None), int):
        found["trainer.batch_size"] = size
    if clip is None and trainer.gradient_clip_val:
        found[placed("clip", "gradient_clip_val", factors)] = trainer.gradient_clip_val
        found[placed("clip", "algorithm", factors)] = str(trainer.gradient_clip_algorithm or "norm")
    for each in trainer.lr_scheduler_configs:
        found[placed("scheduler", "type", factors)] = type(each.scheduler).__name__
    return found
