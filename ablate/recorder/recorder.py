"""The class that a user's own loop calls, once per event."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from ablate.clip import GradientRule, NormRule
from ablate.config.checks import refusal, require
from ablate.model.parameter_roles import role
from ablate.recorder.declaration import declare
from ablate.recorder.evaluations import Evaluations, scalar
from ablate.recorder.given import Given
from ablate.recorder.gradients import Gradients
from ablate.recorder.record import OpenRecord
from ablate.schema import Step
from ablate.trainer import Track
from ablate.training.clipping import Clipped
from ablate.training.environment import environment
from ablate.training.learner import hash_of, tracked_parameters
from ablate.training.memory import count_parameters
from ablate.training.step import Diverged, norm_columns

__all__ = ["Diverged", "Recorder"]


class Recorder:
    """Records one run of a user's own loop in a folder of its own below `study`.

    As a context manager it ends the run by itself: an exception in the block makes it `failed` and goes on; a loss or a
    gradient norm that is not finite makes it `diverged` and ends the block, without an exception.

    Args:
        study: the folder of the study, `outputs/<study>`.
        factors: what the study varies: option by factor, as {"clip": "fixed"}. All arms declare the same factors;
            "none" is the option that does nothing.
        seed: of the run. Runs of a seed are pairs: the loop gives them the same examples in the same order and the
            same initial head. `order` records a proof.
        steps: planned number of updates.
        task: the kind of task, one of `ablate.schema.TASKS`.
        labels: names of the classes, in the order of their numbers.
        primary: name of the primary metric (`ablate.metrics.METRICS`); by default that of the kind of task.
        settings: what else decides the run's numbers, as {"clip.threshold": 1.0, "model": "minilm", "optimizer.lr":
            2e-4}. Keys are model, data, optimizer or trainer, whose option is "elsewhere" if not set, and
            `<factor>.<setting>`. Arms that a claim compares may differ only in what the claim names.
        nuisance: another value is another random stream for what no claim is about, such as dropout.
        claims: the study's claims, written before its first run: a name in conf/claims, or a file. The study keeps a
            copy. By default, every arm is compared with the first.
        layers_every: steps between rows of layers.parquet.
        rerun: replace a finished run of the same factors, settings and seed.
        made_by: the program that makes the run.

    Raises ValueError for what is not as described, for a run that is finished, and for one that is being recorded.
    """

    def __init__(
        self,
        study: str | os.PathLike[str],
        factors: Mapping[str, str],
        *,
        seed: int,
        steps: int,
        task: str = "classification",
        labels: Sequence[str] = (),
        primary: str | None = None,
        settings: Mapping[str, Any] | None = None,
        nuisance: int = 0,
        claims: str | os.PathLike[str] | None = None,
        layers_every: int = 10,
        rerun: bool = False,
        made_by: str = "ablate.Recorder",
    ) -> None:
        self._declared = declare(factors, settings or {}, seed, nuisance, steps, task, tuple(labels), primary)
        check_single_process()
        self._track = Track(layers_every=layers_every)
        self._gradients = Gradients()
        self._tracked: tuple[str | None, str | None] = (None, None)
        self._record = OpenRecord(Path(study), self._declared, claims, rerun, made_by)
        self._evaluations = Evaluations(self._declared, self._record)
        self.folder = self._record.folder
        self._last = time.perf_counter()

    # --- In the loop ---

    @property
    def status(self) -> str:
        """running, done, diverged or failed."""
        return self._record.status

    @property
    def kind(self) -> str:
        """The kind of task."""
        return self._declared.kind

    @property
    def done(self) -> int:
        """The number of steps that are recorded."""
        return len(self._record.rows.steps)

    def order(self, indices: Any) -> None:
        """Record the examples that the run trains on, as their numbers in training order: all at once, or batch by
        batch. Their hash proves that the runs of a seed train on the same batches."""
        self._record.check_running("order")
        found = torch.as_tensor(indices)
        whole = not found.is_floating_point() or not found.numel()
        require("indices", found.dtype, whole, "whole numbers, those of the examples")
        self._record.order.append(found.detach().cpu().to(torch.int64).reshape(-1))

    def gradients(self, model: nn.Module) -> float:
        """Measure the gradients of a step, after backward and before anything acts on them; returns their norm.

        With a GradScaler call its `unscale_` first. Raises Diverged if the norm is not finite.
        """
        self._record.check_running("gradients")
        if self._gradients.norms is not None:
            raise ValueError(
                f"recorder.gradients must be called once per step: step {self.done + 1} needs a step() now"
            )
        if self.done == self._declared.steps:
            raise refusal("the number of steps", self.done + 1, f"at most `steps`, {self.done}")
        norms = self._gradients.measure(model)
        if "parameters" not in self._record.entries:
            self._begin(self._gradients.model)
        self._record.check_finite("gradient norm", norms.total, self.done + 1)
        self._gradients.norms = norms
        return norms.total

    def _begin(self, model: nn.Module) -> None:
        """What is known of the model before the first update. Its head, as it is now, is part of the pairing."""
        names = [name for name, _ in model.named_parameters()]
        head = [p.detach().cpu() for name, p in model.named_parameters() if role(name).block == "head"]
        entries = self._record.entries
        entries["parameters"] = count_parameters(model)
        entries["environment"] = environment(next(model.parameters()).device)
        entries["pairing"] |= {"head": hash_of(head)} if head else {}
        self._tracked = tracked_parameters(self._track, names)

    def clip(self, rule: NormRule | GradientRule) -> float:
        """Clip the gradients by one of our rules (`ablate.clip`), in place; returns the norm after clipping."""
        self._check_measured("clip")
        return self._gradients.clip(rule, self.done + 1).total

    def clipped(self) -> float:
        """Measure the gradients after the loop's own clipping; returns their norm."""
        self._check_measured("clipped")
        found = self._gradients.measure(self._gradients.model)
        self._record.check_finite("gradient norm after clipping", found.total, self.done + 1)
        self._gradients.clipped = Clipped(found)
        return found.total

    def step(
        self,
        loss: Any,
        lr: float | None = None,
        accuracy: float | None = None,
        examples: int | None = None,
        tokens: int | None = None,
    ) -> None:
        """Record an update.

        loss: the step's mean loss before the update, a number or a tensor. Raises Diverged if it is not finite.
        lr: learning rate of the update. accuracy: share of right predictions, 0 to 1. examples, tokens: their number.
        """
        self._record.check_running("step")
        if self._gradients.norms is None:
            what = "must be called before recorder.step, after backward and before the optimizer's step"
            raise ValueError(f"recorder.gradients(model) {what} (step {self.done + 1})")
        loss, lr, accuracy = map(scalar, (loss, lr, accuracy))
        examples, tokens = (each if each is None else int(each) for each in (examples, tokens))
        require("loss", loss, loss is not None, "a number")
        require("lr", lr, lr is None or math.isfinite(lr), "a finite number")
        require("accuracy", accuracy, accuracy is None or 0 <= accuracy <= 1, "a share from 0 to 1")
        self._record.check_finite("loss", loss, self.done + 1)
        number, now = self.done + 1, time.perf_counter()
        seconds = now - self._last if self.done else None  # before the first step, the loop does other things too
        columns = norm_columns(self._tracked, self._gradients.norms, self._gradients.clipped)
        row = {"step": number, "loss": loss, "accuracy": accuracy, "lr": lr, **columns}
        self._record.rows.add_step(Step(**row, examples=examples, tokens=tokens, seconds=seconds))
        if number % self._track.layers_every == 0:
            self._record.rows.add_layers(number, self._gradients.norms, self._gradients.layers())
        self._gradients.next_step()
        self._last = time.perf_counter()

    def evaluation(
        self,
        split: str,
        labels: Any = None,
        predictions: Any = None,
        probabilities: Any = None,
        losses: Any = None,
        tokens: Any = None,
        loss: float | None = None,
        index: Sequence[int] | None = None,
        examples: int | None = None,
    ) -> dict[str, float]:
        """Record an evaluation after the last step so far; returns the metrics that follow from it.

        The evaluations of "validation" and "test" after the last step give the run's metrics, and that of "test" its
        predictions. Arrays are tensors, numpy arrays or lists with one entry per example, in the order of the split.

        Args:
            split: validation, test, or probe: the same few validation examples each time.
            labels: numbers (or names) of the classes; numbers in a regression; one row per example in
                token_classification, where -100 is no word.
            predictions: likewise; with the probabilities of all classes they may be left out.
            probabilities: of all classes (N, K), or of the predicted class.
            losses: loss of each example. By default they follow from the probabilities of all classes, or from the
                numbers of a regression.
            tokens: number of predicted tokens of each block, in causal_lm.
            loss: the mean loss, where the losses of the examples are unknown.
            index: of the probe, the numbers of its examples in the validation split.
            examples: their number, where there are no arrays.
        """
        self._record.check_running("evaluation")
        if self._gradients.norms is not None:
            raise ValueError(f"recorder.step must be called before recorder.evaluation (step {self.done + 1})")
        given = Given(labels, predictions, probabilities, losses, tokens)
        metrics = self._evaluations.add(self.done, split, given, loss, index, examples)
        self._last = time.perf_counter()
        return metrics

    # --- The end ---

    def finish(self, early: bool = False) -> Path:
        """Write the records of a run that is done; returns its folder. `early`: it ended before its planned steps.

        Raises ValueError if it is finished already, or if steps are missing and `early` is false.
        """
        self._record.check_running("finish")
        if self._gradients.norms is not None:
            raise ValueError(f"recorder.step must be called before recorder.finish (step {self.done + 1})")
        if not self.done or (self.done < self._declared.steps and not early):
            what = f"all planned steps, {self._declared.steps}; finish(early=True) is for a loop that stops early"
            raise ValueError(f"{self.folder.name}: {refusal('the recorded steps', self.done, what)}")
        self._record.end("done", {"metrics": self._evaluations.metrics_after(self.done)})
        return self.folder

    def fail(self, error: BaseException) -> None:
        """Record that the loop failed with an exception."""
        self._record.check_running("fail")
        self._record.fail(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self.status != "running":  # finished in the block, or diverged
            return self.status == "diverged" and isinstance(error, Diverged)
        if error is None:
            try:
                self.finish()
            except ValueError as problem:
                self.fail(problem)
                raise
        else:
            self.fail(error)
        return False

    def _check_measured(self, method: str) -> None:
        self._record.check_running(method)
        if self._gradients.norms is None:
            what = "after backward and before anything acts on the gradients"
            raise ValueError(f"recorder.gradients(model) must be called before recorder.{method}, {what}")
        if self._gradients.clipped is not None:
            raise ValueError(f"recorder.clip and recorder.clipped must be called once per step (step {self.done + 1})")


def check_single_process() -> None:
    """Raises ValueError where several ranks train: a rank knows only its part of a batch."""
    count = os.environ.get("WORLD_SIZE", "1")
    require("the number of processes (WORLD_SIZE)", count, count == "1", "1: a Recorder records loops of one process")
