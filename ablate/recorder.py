"""Records a run of a user's own PyTorch loop, as `python -m ablate` records its own, for `python -m analysis`.

    with ablate.Recorder("outputs/mine", {"clip": "fixed"}, seed=0, steps=300, labels=["bad", "good"]) as recorder:
        for batch in batches:
            loss = model(**batch).loss
            loss.backward()
            recorder.gradients(model)               # before anything acts on the gradients
            recorder.clip(ablate.clip.Fixed(1.0))   # or clip yourself, then recorder.clipped()
            optimizer.step()
            optimizer.zero_grad()
            recorder.step(loss=loss, lr=2e-4)
        recorder.evaluation("test", labels=labels, probabilities=probabilities)

The records are those of `ablate.schema`. Nothing is made up: what a loop does not provide is null, and run.json lists
it as `not_recorded`. docs/tutorial/own_trainer.md has a complete script.
"""

import logging
import math
import os
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from accelerate.utils import extract_model_from_parallel
from filelock import FileLock, Timeout
from torch import nn
from torch.distributed.tensor import DTensor

from ablate.clip import GradientRule, NormRule, rule_name
from ablate.config.checks import refusal, require
from ablate.config.paths import claims_file, kept_claims
from ablate.files.atomic import remove_leftovers
from ablate.files.hashing import file_sha256
from ablate.files.links import refuse_links
from ablate.files.reading import read_regular
from ablate.files.run_record import write_run_json
from ablate.model.parameter_roles import Role, check_known, role
from ablate.run.declaration import declare
from ablate.run.folder_name import existing_name
from ablate.run.given import Given, predictions_from
from ablate.run.records import BrokenRecord, Layer, Rows, layers_of, read_run
from ablate.schema import FINISHED, TABLES, Step
from ablate.sweep.claims import keep_claims
from ablate.techniques import needs_roles
from ablate.trainer import Track
from ablate.training.clipping import Clipped, clip_gradient
from ablate.training.environment import environment
from ablate.training.evaluation import Predictions
from ablate.training.learner import hash_of, tracked_parameters
from ablate.training.memory import count_parameters
from ablate.training.norms import Norms, gradient_norms
from ablate.training.step import Diverged, norm_columns

__all__ = ["Diverged", "Recorder"]

log = logging.getLogger("ablate")

EVALUATED = ("probe", "validation", "test")


class Recorder:
    """Records one run of a user's own loop in a folder of its own below `study`.

    As a context manager it ends the run by itself: an exception in the block makes it `failed` and goes on; a loss or a
    gradient norm that is not finite makes it `diverged` and ends the block, without an exception.

    Args:
        study: the folder of the study, outputs/<study>.
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
            <factor>.<setting>. Arms that a claim compares may differ only in what the claim names.
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
        self._track = Track(layers_every=layers_every)
        self._rows = Rows()
        self._states: dict[str, Any] = {}
        self._norms: Norms | None = None
        self._clipped: Clipped | None = None
        self._roles: dict[str, Role] = {}
        self._given: nn.Module | None = None
        self._tracked: tuple[str | None, str | None] = (None, None)
        self._order: list[torch.Tensor] = []
        self._scores: dict[str, tuple[int, dict[str, float]]] = {}  # split -> step and metrics of its last evaluation
        self._record = self._declared.record() | {"made_by": made_by, "pairing": {"by": "seed"}, "error": None}
        self._record["timing"] = {"started": datetime.now(UTC).isoformat(timespec="seconds")}
        self._began = self._last = time.perf_counter()
        check_single_process()
        found = chosen_file(claims, Path(study))
        self.folder = Path(study) / existing_name(Path(study), self._declared.id, self._declared.folder_name)
        self._lock = locked(self.folder)
        try:
            self._replaces = self._finished_before(rerun)
            kept = keep_claims(found, read_regular(found), Path(study))
            self._record["claims"] = {"name": kept.stem, "sha256": file_sha256(kept)}
            if not self._replaces:
                write_run_json(self.folder, self._record)
        except BaseException:
            self._lock.release()
            raise

    def _finished_before(self, rerun: bool) -> bool:
        """Whether the folder holds a finished run, which stays until this one is. Raises ValueError unless `rerun`."""
        remove_leftovers(self.folder)
        try:
            before = read_run(self.folder)
        except BrokenRecord:
            return False
        finished = before is not None and before["status"] in FINISHED
        if finished and not rerun:
            what = "a run of these factors, settings and seed is finished already; rerun=True replaces it"
            raise ValueError(f"{self.folder}: {what}")
        return finished

    # --- In the loop ---

    @property
    def status(self) -> str:
        """running, done, diverged or failed."""
        return self._record["status"]

    @property
    def kind(self) -> str:
        """The kind of task."""
        return self._declared.kind

    @property
    def done(self) -> int:
        """The number of steps that are recorded."""
        return len(self._rows.steps)

    def order(self, indices: Any) -> None:
        """Record the examples that the run trains on, as their numbers in training order: all at once, or batch by
        batch. Their hash proves that the runs of a seed train on the same batches."""
        self._check_running("order")
        found = torch.as_tensor(indices)
        whole = not found.is_floating_point() or not found.numel()
        require("indices", found.dtype, whole, "whole numbers, those of the examples")
        self._order.append(found.detach().cpu().to(torch.int64).reshape(-1))

    def gradients(self, model: nn.Module) -> float:
        """Measure the gradients of a step, after backward and before anything acts on them; returns their norm.

        With a GradScaler call its `unscale_` first. Raises Diverged if the norm is not finite.
        """
        self._check_running("gradients")
        if self._norms is not None:
            raise ValueError(
                f"recorder.gradients must be called once per step: step {self.done + 1} needs a step() now"
            )
        if self.done == self._declared.steps:
            raise refusal("the number of steps", self.done + 1, f"at most `steps`, {self.done}")
        if model is not self._given:
            self._given, self._model = model, extract_model_from_parallel(model, keep_torch_compile=False)
        norms = measured(self._model)
        if "parameters" not in self._record:
            self._begin(self._model)
        self._check_finite("gradient norm", norms.total, self.done + 1)
        self._norms = norms
        return norms.total

    def _begin(self, model: nn.Module) -> None:
        """What is known of the model before the first update. Its head, as it is now, is part of the pairing."""
        names = [name for name, _ in model.named_parameters()]
        head = [p.detach().cpu() for name, p in model.named_parameters() if role(name).block == "head"]
        self._record["parameters"] = count_parameters(model)
        self._record["environment"] = environment(next(model.parameters()).device)
        self._record["pairing"] |= {"head": hash_of(head)} if head else {}
        self._tracked = tracked_parameters(self._track, names)

    def clip(self, rule: NormRule | GradientRule) -> float:
        """Clip the gradients by one of our rules (`ablate.clip`), in place; returns the norm after clipping."""
        self._check_measured("clip")
        require("rule", rule_name(rule), isinstance(rule, (NormRule, GradientRule)), "a rule of ablate.clip")
        trained = trained_of(self._model)
        roles = self._roles_of(trained)
        if needs_roles(rule):
            check_known("clip", rule_name(rule), roles, type(self._model).__name__)
        self._clipped, self._states = clip_gradient(
            {"clip": rule}, trained, roles, self._norms, self.done + 1, self._states
        )
        return self._clipped.total

    def clipped(self) -> float:
        """Measure the gradients after the loop's own clipping; returns their norm."""
        self._check_measured("clipped")
        found = measured(self._model)
        self._check_finite("gradient norm after clipping", found.total, self.done + 1)
        self._clipped = Clipped(found)
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
        self._check_running("step")
        if self._norms is None:
            what = "must be called before recorder.step, after backward and before the optimizer's step"
            raise ValueError(f"recorder.gradients(model) {what} (step {self.done + 1})")
        loss, lr, accuracy = map(scalar, (loss, lr, accuracy))
        examples, tokens = (each if each is None else int(each) for each in (examples, tokens))
        require("loss", loss, loss is not None, "a number")
        require("lr", lr, lr is None or math.isfinite(lr), "a finite number")
        require("accuracy", accuracy, accuracy is None or 0 <= accuracy <= 1, "a share from 0 to 1")
        self._check_finite("loss", loss, self.done + 1)
        number, now = self.done + 1, time.perf_counter()
        seconds = now - self._last if self.done else None  # before the first step, the loop does other things too
        columns = norm_columns(self._tracked, self._norms, self._clipped)
        row = {"step": number, "loss": loss, "accuracy": accuracy, "lr": lr, **columns}
        self._rows.add_step(Step(**row, examples=examples, tokens=tokens, seconds=seconds))
        if number % self._track.layers_every == 0:
            self._rows.add_layers(number, self._norms, self._layers_of(trained_of(self._model)))
        self._norms = self._clipped = None
        self._last = time.perf_counter()

    def _roles_of(self, trained: Iterable[str]) -> dict[str, Role]:
        """The roles of parameters, read from their names once."""
        self._roles |= {name: role(name) for name in trained if name not in self._roles}
        return {name: self._roles[name] for name in trained}

    def _layers_of(self, trained: Mapping[str, nn.Parameter]) -> dict[tuple[int | None, str], Layer]:
        return layers_of({name: p.numel() for name, p in trained.items()}, self._roles_of(trained))

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
        self._check_running("evaluation")
        if self._norms is not None:
            raise ValueError(f"recorder.step must be called before recorder.evaluation (step {self.done + 1})")
        require("split", split, split in EVALUATED, f"one of {', '.join(EVALUATED)}")
        require("loss", loss, loss is None or losses is None, "left out where there are losses")
        loss = scalar(loss)
        given = Given(labels, predictions, probabilities, losses, tokens)
        self._check_finite(f"a value of the {split} predictions", given.not_finite(), self.done)
        if all(each is None for each in vars(given).values()):
            require("loss", None, loss is not None, "given, or else labels and predictions")
            found, values = None, {"loss": loss, "accuracy": None, "examples": examples}
        else:
            found = predictions_from(self._declared.kind, self._declared.labels, given)
            known = losses is not None or not bool(found.losses.isnan().all())
            loss = found.loss if known else loss
            values = {"loss": loss, "accuracy": found.accuracy, "examples": len(found.losses)}
        self._rows.evals.append({"step": self.done, "split": split, **values})
        if loss is not None:
            self._check_finite(f"{split} loss", loss, self.done)
        metrics = {name: value for name, value in values.items() if name != "examples" and value is not None}
        metrics |= self._scored(split, found) if found else {}
        if split == "probe" and found and not bool(found.losses.isnan().any()):
            self._rows.add_probe(self.done, probe_numbers(index, len(found.losses)), found)
        if split == "test" and found:
            self._rows.set_predictions(found)
        self._scores[split] = (self.done, metrics)
        self._last = time.perf_counter()
        return metrics

    def _scored(self, split: str, found: Predictions) -> dict[str, float]:
        """The primary metric, if it is not the accuracy and has a value."""
        primary = self._declared.primary
        value = found.score(primary, self._declared.labels)
        if primary == "accuracy" or not math.isfinite(value):
            return {}
        self._rows.add_score(self.done, split, primary, value)
        return {primary: value}

    # --- The end ---

    def finish(self, early: bool = False) -> Path:
        """Write the records of a run that is done; returns its folder. `early`: it ended before its planned steps.

        Raises ValueError if it is finished already, or if steps are missing and `early` is false.
        """
        self._check_running("finish")
        if self._norms is not None:
            raise ValueError(f"recorder.step must be called before recorder.finish (step {self.done + 1})")
        if not self.done or (self.done < self._declared.steps and not early):
            what = f"all planned steps, {self._declared.steps}; finish(early=True) is for a loop that stops early"
            raise ValueError(f"{self.folder.name}: {refusal('the recorded steps', self.done, what)}")
        metrics = {
            f"{split}_{name}": value
            for split, (step, found) in self._scores.items()
            for name, value in found.items()
            if split != "probe" and step == self.done
        }
        self._end("done", {"metrics": metrics})
        return self.folder

    def fail(self, error: BaseException) -> None:
        """Record that the loop failed with an exception."""
        self._check_running("fail")
        trace = "".join(traceback.format_exception(error))
        self._end("failed", {"error": {"message": f"{type(error).__name__}: {error}", "traceback": trace}})

    def _check_finite(self, name: str, value: float, step: int) -> None:
        """Record that the run diverged, and raise Diverged, unless a value is finite."""
        if not math.isfinite(value):
            error = Diverged(step, f"{name} is {value}")
            log.warning("%s diverged at %s", self.folder.name, error)
            self._end("diverged", {"error": {"step": step, "message": error.cause}, "metrics": {}})
            raise error

    def _end(self, status: str, outcome: Mapping[str, Any]) -> None:
        """Write the tables, then run.json, and release the folder; a finished run stays if its rerun failed."""
        self._record |= {"status": status, **outcome}
        try:
            if self._replaces and status == "failed":
                log.warning("%s: the rerun failed, and the finished run before it stays", self.folder.name)
                return
            if self._order:
                self._record["pairing"] |= {"batches": hash_of([torch.cat(self._order)])}
            self._record["timing"] |= {"seconds": time.perf_counter() - self._began}
            self._record["records"] = self._rows.write(self.folder, self._declared.kind)
            self._record["not_recorded"] = not_recorded(self._rows, self._record)
            for table in TABLES:
                if f"{table}.parquet" not in self._record["records"]:
                    (self.folder / f"{table}.parquet").unlink(missing_ok=True)  # of an earlier attempt
            write_run_json(self.folder, self._record)
        finally:
            self._lock.release()

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

    def _check_running(self, method: str) -> None:
        if self.status != "running":
            raise ValueError(f"recorder.{method} must be called before the run ends: {self.folder} is {self.status}")

    def _check_measured(self, method: str) -> None:
        self._check_running(method)
        if self._norms is None:
            what = "after backward and before anything acts on the gradients"
            raise ValueError(f"recorder.gradients(model) must be called before recorder.{method}, {what}")
        if self._clipped is not None:
            raise ValueError(f"recorder.clip and recorder.clipped must be called once per step (step {self.done + 1})")


def chosen_file(claims: str | os.PathLike[str] | None, study: Path) -> Path:
    """The claims that a run is registered with; by default the study's own copy of those that compare all arms."""
    own = kept_claims(study) / "auto.yaml"
    if claims is None:
        return own if own.is_file() else claims_file("auto")
    return Path(claims) if Path(claims).is_file() else claims_file(str(claims))


def scalar(value: Any) -> float | None:
    """A number or a tensor with one, as a number."""
    return None if value is None else float(value.detach() if isinstance(value, torch.Tensor) else value)


def check_single_process() -> None:
    """Raises ValueError where several ranks train: a rank knows only its part of a batch."""
    count = os.environ.get("WORLD_SIZE", "1")
    require("the number of processes (WORLD_SIZE)", count, count == "1", "1: a Recorder records loops of one process")


def locked(folder: Path) -> FileLock:
    """The lock of a run's folder, which is made if needed. Raises ValueError if it is taken."""
    refuse_links(folder, folder / ".lock")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        what = "another process records this run, or a Recorder of this one that has not ended (recorder.fail ends it)"
        raise ValueError(f"{folder}: {what}") from None
    return lock


def trained_of(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def measured(model: nn.Module) -> Norms:
    """Norms of the trained parameters' gradients. Raises ValueError where there are none."""
    trained = trained_of(model)
    gradients = [p.grad for p in trained.values() if p.grad is not None]
    if not gradients:
        what = "call recorder.gradients after backward and before zero_grad"
        raise ValueError(f"the model must have gradients: {what} ({len(trained)} trained parameters, none has one)")
    if any(isinstance(g, DTensor) or g.is_sparse for g in gradients):
        raise ValueError("the model's gradients must be whole dense tensors: sharded and sparse ones are not measured")
    return gradient_norms(trained)


def probe_numbers(index: Sequence[int] | None, count: int) -> list[int]:
    found = list(range(count)) if index is None else [int(each) for each in index]
    require("index", len(found), len(found) == count, f"as many numbers as the probe has examples, {count}")
    return found


def not_recorded(rows: Rows, record: Mapping[str, Any]) -> list[str]:
    """What a run lacks that our trainer records: tables, columns that are null throughout, entries of run.json."""
    lacking = [entry for entry in ("numerics", "memory_bytes") if entry not in record]
    lacking += [f"pairing.{key}" for key in ("batches", "head", "dropout") if key not in record["pairing"]]
    for name in ("steps", "layers", "evals", "predictions", "probe"):
        found: list[dict[str, Any]] = getattr(rows, name)
        if not found:
            lacking.append(name)
        lacking += [f"{name}.{key}" for key in found[0] if all(row[key] is None for row in found)] if found else []
    splits = {row["split"] for row in rows.evals}
    return lacking + [f"evals of {split}" for split in EVALUATED if split not in splits]
