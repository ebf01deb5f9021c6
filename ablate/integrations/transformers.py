"""Records the runs of a Hugging Face Trainer, with the gradient norms before and after clipping.

    from ablate.integrations.transformers import AblateMixin

    class RecordedTrainer(AblateMixin, Trainer):
        pass

    trainer = RecordedTrainer(model, args, train_dataset=..., eval_dataset=..., record=dict(
        study="outputs/mine", factors={"clip": "fixed"}, labels=["bad", "good"]))
    trainer.train()
    trainer.evaluate()             # "eval" is the split validation
    trainer.predict(test_dataset)  # "test" is the split test
    trainer.recorder.finish()

`record` has the arguments of `ablate.Recorder`, without the seed and the number of steps, which the Trainer knows. A
callback alone does not suffice: the Trainer calls callbacks after it has clipped.

With gradient accumulation a step is an update, as in our trainer. bf16 is recorded as it is; fp16 with loss scaling,
DeepSpeed and several processes are refused.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from ablate.clip import GradientRule, NormRule
from ablate.config.checks import refusal, require
from ablate.integrations.shared import StepSoFar, library_settings, placed
from ablate.recorder import Diverged, Recorder
from ablate.recorder.given import of_logits

__all__ = ["AblateMixin", "Diverged"]

SPLIT_OF = {"eval": "validation", "test": "test", "probe": "probe"}
"""The Trainer's `metric_key_prefix` -> our name of the split. Evaluations under another prefix are not recorded."""

Base = Trainer if TYPE_CHECKING else object


class AblateMixin(Base):
    """To be named before the Trainer class that it extends.

    Further arguments:
        record: the arguments of `ablate.Recorder` but `seed` and `steps`. Its `settings` are completed by those of the
            Trainer: optimizer, learning rate and schedule, batch size, precision, clipping.
        clip: a rule of `ablate.clip`, which clips in place of the Trainer: `max_grad_norm` must be 0.

    After a run that diverges, `train` raises Diverged; the run is recorded.
    """

    recorder: Recorder
    """Of the run that `train` began last."""

    def __init__(
        self, *args: Any, record: Mapping[str, Any], clip: NormRule | GradientRule | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        check_supported(self.args, record, clip)
        self._own_schedule = self.lr_scheduler is not None  # the user's, not that of the arguments
        self._record, self._clip = dict(record), clip
        self._step = StepSoFar()
        self.add_callback(Recording(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().train(*args, **kwargs)
        except BaseException as error:
            if self._is_recording:
                self.recorder.fail(error)
            raise

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Forward and backward of a mini-batch; after the last one of a step, its gradients are measured."""
        ids = inputs.get(getattr(self.model, "main_input_name", "input_ids"))
        self._step.count(inputs, *(([ids], len(ids)) if isinstance(ids, Tensor) else ([], 0)))
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._step.loss += loss.detach()
        if self.accelerator.sync_gradients:
            self.recorder.gradients(self.model)
        return loss

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        split = SPLIT_OF.get(metric_key_prefix)
        records = split is not None and self._is_recording and self.recorder.done > 0
        if records and self.recorder.kind != "causal_lm":  # whose logits are too many to be kept
            prediction_loss_only = False
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if records:
            mean = (output.metrics or {}).get(f"{metric_key_prefix}_loss")
            self.recorder.evaluation(split, **evaluated(self.recorder.kind, output, mean))
        return output

    @property
    def _is_recording(self) -> bool:
        return hasattr(self, "recorder") and self.recorder.status == "running"

    def _begin(self, state: TrainerState) -> None:
        if state.global_step:
            raise refusal("resume_from_checkpoint", state.global_step, "left out: a record begins at step 1")
        if self._is_recording:
            raise ValueError(f"recorder.finish must be called before train is called again ({self.recorder.folder})")
        own = dict(self._record.get("settings") or {})
        settings = settings_of(self, set(self._record["factors"]), self._clip) | own
        arguments = {"made_by": "ablate.integrations.transformers"} | self._record | {"settings": settings}
        self.recorder = Recorder(**arguments, seed=self.args.seed, steps=state.max_steps)
        self._step = StepSoFar()

    def _clipped(self) -> None:
        if self._clip:
            self.recorder.clip(self._clip)
        else:
            self.recorder.clipped()

    def _updated(self) -> None:
        step, self._step = self._step, StepSoFar()
        self.recorder.order(step.hashes)
        lr = max(float(group["lr"]) for group in self.optimizer.param_groups)
        self.recorder.step(step.loss, lr, examples=step.examples or None, tokens=step.tokens or None)


class Recording(TrainerCallback):
    """Calls the mixin where the Trainer has no method to override."""

    def __init__(self, trainer: AblateMixin) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer._begin(state)

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer._clipped()

    def on_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer._updated()


def check_supported(args: TrainingArguments, record: Mapping[str, Any], clip: object) -> None:
    """Raises ValueError for what cannot be recorded as it is."""
    require("fp16", args.fp16, not args.fp16, "false: its gradients are scaled and skipped; bf16 is recorded")
    require("deepspeed", args.deepspeed, not args.deepspeed, "left out: its gradients are not those of the parameters")
    require("record", record, isinstance(record, Mapping) and {"study", "factors"} <= {*record}, "study, factors, ...")
    for key in ("seed", "steps"):
        require("record", key, key not in record, f"without {key}, which the Trainer knows")
    if clip is not None and args.max_grad_norm:
        raise refusal("max_grad_norm", args.max_grad_norm, "0 where `clip` has a rule: one of the two clips")


def settings_of(trainer: Any, factors: set[str], clip: object) -> dict[str, Any]:
    """The settings of a Trainer that decide a run's numbers. Those of a factor that is studied are settings of it."""
    args, optimizer = trainer.args, getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    found = library_settings("transformers", trainer.model, optimizer, clip, factors) | {
        "trainer.batch_size": args.train_batch_size,
        "trainer.grad_accumulation": args.gradient_accumulation_steps,
        "trainer.precision": "bf16" if args.bf16 else "fp32",
    }
    if clip is None:
        found[placed("clip", "max_grad_norm", factors)] = args.max_grad_norm
    if not trainer._own_schedule:
        found[placed("scheduler", "type", factors)] = str(getattr(args.lr_scheduler_type, "value", "elsewhere"))
        found[placed("scheduler", "warmup_steps", factors)] = args.get_warmup_steps(trainer.state.max_steps)
    if args.label_smoothing_factor:
        found[placed("regularizer", "label_smoothing", factors)] = args.label_smoothing_factor
    return found


def evaluated(kind: str, output: EvalLoopOutput, mean: float | None) -> dict[str, Any]:
    """The arguments of `Recorder.evaluation` for what an evaluation of the Trainer gives."""
    only_loss = {"loss": mean, "examples": output.num_samples}
    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    labels = output.label_ids
    if kind == "causal_lm" or logits is None or labels is None or (mean is not None and mean != mean):
        return only_loss
    logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
    if kind == "regression":
        return {"labels": labels.float().reshape(-1)} | of_logits(kind, logits, labels)
    if not logits.is_floating_point():  # preprocess_logits_for_metrics has made classes of them
        return {"labels": labels, "predictions": logits, "loss": mean}
    return {"labels": labels} | of_logits(kind, logits, labels)
