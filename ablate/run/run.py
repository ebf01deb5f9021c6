"""One run: build it from its options, resume from its checkpoint, train, evaluate, write its records."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ablate.data.batches import Examples
from ablate.data.corpus import Corpus, corpus
from ablate.distributed.parallel import whole
from ablate.distributed.ranks import Ranks, current_ranks
from ablate.experiment import build_options, flatten
from ablate.model.parameter_roles import role
from ablate.run import checkpoint, fork, process, progress
from ablate.run.checkpoint import Checkpoint
from ablate.run.records import Rows, layers_of, losses_every
from ablate.run.signals import StopRequest
from ablate.task import Task
from ablate.tracker import Card, Follower, Nothing
from ablate.trainer import Trainer
from ablate.training.device import make_accelerator, matmul_backend
from ablate.training.environment import environment, with_earlier
from ablate.training.evaluation import Predictions, evaluate, probe_order, with_baseline
from ablate.training.learner import load_state, make_batches, make_learner, order_of_examples, pairing
from ablate.training.memory import count_parameters, memory_bytes, memory_line, parameter_table
from ablate.training.step import Diverged, Learner, Moment, averaged_weights, train
from ablate.training.waiting import Waiting

log = logging.getLogger("ablate")
PROBE_BATCH = 8  # examples per batch of a small probe, sorted by length: in one batch, half of it would be padding
PROBE_BATCHES = 16  # of a larger one, each up to eval_batch_size: on a CPU, less padding saves a third of the time


def perform(
    settings: Mapping[str, Any], run_id: str, folder: Path, stop: StopRequest, tags: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Train and evaluate; return run.json's fields of a run that is `done` or `diverged`. `tags` go to its tracker.

    All ranks (`ablate.distributed.ranks`) perform the run, and rank 0 alone reads and writes the folder. Raises
    Stopped, with a checkpoint in `folder`, at the end of the step in which a signal asks for `stop`.
    """
    started, ranks = time.perf_counter(), current_ranks()
    options, seed = build_options(settings), settings["seed"]
    trainer, accelerator = options.trainer, make_accelerator(options.trainer)
    texts = corpus(options.model, options.data, process.current.corpora, options.task.kind)
    learner = make_learner(options, texts, seed, accelerator, settings["nuisance"], ranks)
    order = order_of_examples(options, texts.train, seed)
    record = {
        "kind": options.task.kind,
        "labels": list(texts.names if texts.counts(texts.train) else ()),
        "primary": options.task.primary,
        "parameters": count_parameters(learner.model),
        "pairing": pairing(order, learner),
    }
    log.info("parameters by block\n%s", parameter_table(record["parameters"]))
    tracker = options.tracker if ranks.leads else Nothing()
    follower = Follower(tracker, Card(str(settings["study"]), folder.name, tags or {}, flat_settings(settings)))
    backend = matmul_backend(trainer)
    where = environment(accelerator.device, ranks.count, learner.parallel.name, backend, trainer.compile)
    run = TrainingRun(folder, run_id, where, trainer, learner, texts, stop, started, follower)
    run.resume()
    with follower.following(run.rows.steps, run.rows.evals):
        outcome = run.train(order)
    memory = memory_bytes(learner)
    log.info("%s", memory_line(memory))
    timing = {"seconds": run.seconds(), "resumed_from": run.resumed_from}
    records = run.rows.write(folder, options.task.kind) if ranks.leads else {}
    return {
        **record,
        **outcome,
        "environment": run.environment,
        "forked_from": run.forked_from,
        "memory_bytes": memory,
        "timing": timing,
        "records": records,
    }


def flat_settings(settings: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return all settings by dotted key, in the types that trackers accept."""
    return {k: v if isinstance(v, (str, int, float, bool)) else str(v) for k, v in flatten(settings).items()}


@dataclass
class TrainingRun:
    """Consumes the training loop: records each step, evaluates, saves, and obeys a signal to stop."""

    folder: Path
    id: str
    environment: dict[str, Any]
    trainer: Trainer
    learner: Learner
    texts: Corpus
    stop: StopRequest
    started: float
    follower: Follower
    rows: Rows = field(default_factory=Rows)
    states: dict[str, Any] = field(default_factory=dict)  # of clip rules and averages
    done: int = 0  # steps in the checkpoint or snapshot that it starts from
    tabulated: int = 0  # steps in the tables on disk
    resumed_from: int | None = None
    forked_from: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        sizes = {name: p.numel() for name, p in self.learner.trained.items()}
        self.layers = layers_of(sizes, {name: role(name) for name in sizes})
        validation = self.texts.validation
        self.probe_index = probe_order(validation, self.trainer.probe_examples)
        count = len(self.probe_index)
        self.probe_batch = max(PROBE_BATCH, min(self.trainer.eval_batch_size, count // PROBE_BATCHES))
        self.losses_every = losses_every(self.trainer.steps, self.trainer.probe_every, count)
        self.snapshots = self.ranks.broadcast(fork.snapshots_of(self.folder) if self.trainer.fork.enabled else {})
        self.probe = validation.part(self.probe_index)

    def resume(self) -> None:
        """Continue from the folder's checkpoint, or else fork from another arm's snapshot, or else start at step 1."""
        found = self.find_start() if self.ranks.leads else None
        if found:
            self.rows, self.forked_from = found.rows, found.forked_from
            self.environment = with_earlier(self.environment, found.environment)
            self.started -= found.seconds
        state = found and {
            "step": found.step, "states": found.states, "kept": found.kept,
            "trained": found.trained, "optimizer": found.optimizer,
        }  # fmt: skip
        if state := self.ranks.broadcast_tensors(state):
            self.done, self.states = state["step"], state["states"]
            load_state(self.learner, state["trained"], state["optimizer"])
            self.learner.techniques.load_state_dict(state["kept"])

    def find_start(self) -> Checkpoint | None:
        """Return the run's own checkpoint if it has one, else the latest snapshot that it can fork from."""
        found = self.own_checkpoint()
        self.resumed_from = found.step if found else None
        if found is None and self.trainer.fork.enabled:
            found = fork.find_snapshot(self.folder, self.id, self.environment["key"], self.learner)
        return found

    def own_checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint in the run's folder, if the run can continue from it."""
        found = checkpoint.load_checkpoint(self.folder)
        if found and found.id != self.id:
            log.warning("%s: the checkpoint belongs to run %s: the run starts again", self.folder.name, found.id)
            return None
        if found and found.step > self.trainer.steps:
            log.warning("%s: the checkpoint is of step %d: the run starts again", self.folder.name, found.step)
            return None
        if found and found.environment["key"] != self.environment["key"] and self.trainer.resume == "exact":
            log.warning(
                "%s: the checkpoint was made with other threads, hardware or versions: the run starts again "
                "(trainer.resume=any would continue it)", self.folder.name,
            )  # fmt: skip
            return None
        return found

    def train(self, order: Tensor) -> dict[str, Any]:
        """Train the steps that are left and evaluate; divergence is an outcome, not an error."""
        trainer = self.trainer
        batches = make_batches(trainer, self.texts.train, order, self.pad_id, self.ranks)
        display = progress.current_display()
        display.start_run(self.folder, trainer.steps, self.done)
        try:
            with Waiting(trainer.thread_count()) as waiting:
                for moment in train(self.learner, batches, self.done + 1, self.states):
                    self.observe(moment)
                    waiting.adapt()
                metrics = self.conclude()
            return {"status": "done", "metrics": metrics}
        except Diverged as error:
            log.warning("%s diverged at %s", self.folder.name, error)
            return {"status": "diverged", "error": {"step": error.step, "message": error.cause}, "metrics": {}}
        finally:
            display.end_run()

    def observe(self, moment: Moment) -> None:
        """Record an update and evaluate; a checkpoint comes last, so that it contains the complete step."""
        row, trainer = moment.row, self.trainer
        self.rows.add_step(row)
        self.follower.step(self.rows.steps[-1])
        self.rows.add_measures(row.step, moment.measures)
        self.states = moment.states
        if row.step % trainer.track.layers_every == 0:
            self.rows.add_layers(row.step, moment.norms, self.layers)
        if row.step % trainer.probe_every == 0:
            found = self.evaluate(self.probe, self.probe_batch)
            self.record(row.step, "probe", found)
            if row.step % self.losses_every == 0:
                self.rows.add_probe(row.step, self.probe_index, found)
        last = row.step == trainer.steps
        if trainer.eval_every and row.step % trainer.eval_every == 0 and not last:
            for split in ("validation", "test"):
                self.record(row.step, split, self.evaluate(getattr(self.texts, split)))
        progress.current_display().step(row, trainer.steps)
        if snapshot := self.snapshots.get(row.step):
            state = self.state(row.step)
            if self.ranks.leads:
                fork.write_snapshot(snapshot, state, fork.shared_folder(self.folder), trainer.fork.max_gb)
        self.stop.share(self.ranks)
        if self.stop.asked or (row.step % trainer.checkpoint_every == 0 and not last):
            self.save(row.step)
        self.stop.obey()

    def conclude(self) -> dict[str, float]:
        """Evaluate at the last step; return run.json's `metrics` and keep the predictions of the test split."""
        if self.trainer.keep_checkpoint:
            self.save(self.trainer.steps)  # before the rows below, which a resumed run would add again
        metrics = {}
        for split in ("validation", "test"):
            found = self.evaluate(getattr(self.texts, split))
            self.record(self.trainer.steps, split, found)
            if not math.isfinite(found.loss):  # the last update broke the weights
                raise Diverged(self.trainer.steps, f"{split} loss is {found.loss}")
            metrics |= self.metrics_of(split, found)
        self.rows.set_predictions(with_baseline(found, self.texts.train, self.texts.test, self.texts.tokenizer.size))
        self.rows.set_clusters(self.texts.test.cluster)
        log.info("done: %s", ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        return metrics

    def metrics_of(self, split: str, found: Predictions) -> dict[str, float]:
        """run.json's metrics of a split: accuracy, loss and the primary metric, those that have a value."""
        values = {"accuracy": found.accuracy, "loss": found.loss, self.task.primary: self.score(found)}
        return {f"{split}_{name}": v for name, v in values.items() if v is not None and math.isfinite(v)}

    def record(self, step: int, split: str, found: Predictions) -> None:
        """Record an evaluation; the primary metric too where it is not the accuracy, which has a column of its own."""
        self.rows.add_eval(step, split, found)
        scores = {}
        if self.task.primary != "accuracy" and math.isfinite(score := self.score(found)):
            self.rows.add_score(step, split, self.task.primary, score)
            scores = {self.task.primary: score}
        self.follower.evaluated(self.rows.evals[-1] | scores)

    def score(self, found: Predictions) -> float:
        return found.score(self.task.primary, self.texts.names)

    def save(self, step: int) -> None:
        """Save a checkpoint and, after a tenth more steps or before a stop, the tables, for readers of unfinished runs.

        So all writing of tables takes time in proportion to the number of steps, not to its square.
        """
        state = self.state(step)
        if self.ranks.leads:
            checkpoint.save_checkpoint(state, self.folder)
            if self.stop.asked or step >= 1.1 * self.tabulated:
                self.rows.write(self.folder, self.task.kind)
                self.tabulated = step

    def state(self, step: int) -> Checkpoint:
        return Checkpoint(
            id=self.id,
            environment=self.environment,
            step=step,
            trained=whole({name: p.detach() for name, p in self.learner.trained.items()}),
            optimizer=whole(self.learner.optimizer.state_dict()),
            states=self.states,
            kept=self.learner.techniques.state_dict(),
            rows=self.rows,
            seconds=self.seconds(),
            forked_from=self.forked_from,
        )

    def evaluate(self, examples: Examples, batch_size: int | None = None) -> Predictions:
        batch_size = batch_size or self.trainer.eval_batch_size
        with averaged_weights(self.learner, self.states):
            return evaluate(self.learner.model, examples, batch_size, self.pad_id, self.ranks, self.task)

    @property
    def task(self) -> Task:
        return self.learner.task

    @property
    def ranks(self) -> Ranks:
        return self.learner.ranks

    @property
    def pad_id(self) -> int:
        return self.texts.tokenizer.pad_token_id

    def seconds(self) -> float:
        """Time spent on this run, including earlier attempts up to their last checkpoint."""
        return time.perf_counter() - self.started
