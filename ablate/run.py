"""One run: build it from its options, take up its checkpoint, train, evaluate, write its records."""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn

from ablate import checkpoint, display, fork
from ablate.batches import Batches, Examples, grouped_order, planned_order
from ablate.checkpoint import Checkpoint
from ablate.corpus import Corpus, corpus
from ablate.dropout import dropout_of
from ablate.environment import environment, succeeding
from ablate.evaluation import Predictions, evaluate, probe_index
from ablate.freeze import freeze
from ablate.options import Options, build_options
from ablate.records import Rows, layers_of
from ablate.roles import BLOCKS, classifier_weight, mlp_weight, role
from ablate.settings import Trainer
from ablate.stopping import StopRequest
from ablate.streams import stream
from ablate.training import Diverged, Learner, Moment, train

log = logging.getLogger("ablate")
PROBE_BATCH = 8  # examples, sorted by length: the probe is small, and one batch of it would be half padding


def perform(settings: Mapping[str, Any], run_id: str, folder: Path, stop: StopRequest) -> dict[str, Any]:
    """Train and evaluate; returns run.json's fields of a run that is `done` or `diverged`.

    Raises Stopped, with a checkpoint in `folder`, at the end of the step in which `stop` is asked for.
    """
    began = time.perf_counter()
    options, seed = build_options(settings), settings["seed"]
    trainer, accelerator = options.trainer, accelerate(options.trainer)
    texts = corpus(options.model, options.data)
    learner = make_learner(options, texts, seed, accelerator, settings["nuisance"])
    order = order_of_examples(options, texts.train, seed)
    record = {
        "parameters": count_parameters(learner.model),
        "pairing": pairing(order, learner),
    }
    log.info("parameters by block\n%s", parameter_table(record["parameters"]))
    run = Run(folder, run_id, environment(accelerator.device), trainer, learner, texts, stop, began)
    run.take_up()
    outcome = run.train(order)
    timing = {"seconds": run.seconds(), "resumed_from": run.resumed_from}
    records = run.rows.write(folder)
    return {
        **record,
        **outcome,
        "environment": run.environment,
        "forked_from": run.forked_from,
        "memory_bytes": memory_bytes(learner),
        "timing": timing,
        "records": records,
    }


def accelerate(trainer: Trainer) -> Accelerator:
    """Device and precision of a run, and torch's global switches: set anew for each run of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)  # or a second precision raises
    GradientState._reset_state()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic CUDA asks for
    torch.set_num_threads(trainer.thread_count())
    torch.use_deterministic_algorithms(trainer.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False
    if trainer.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("trainer.device=cuda: there is no CUDA device here")
    precision = {"fp32": "no", "bf16": "bf16"}[trainer.precision]
    return Accelerator(mixed_precision=precision, cpu=trainer.device == "cpu")


def order_of_examples(options: Options, train: Examples, seed: int) -> Tensor:
    """Example numbers of all steps, one after the other: the same for all arms of a seed."""
    trainer, stream_seed = options.trainer, stream("order", seed)
    count = trainer.steps * trainer.examples_per_step
    if options.data.group_by_length:
        return grouped_order([len(ids) for ids in train.input_ids], count, stream_seed, trainer.batch_size)
    return planned_order(len(train.label), count, stream_seed)


def make_learner(options: Options, texts: Corpus, seed: int, accelerator: Accelerator, nuisance: int = 0) -> Learner:
    model = options.model.build(texts.classes, seed, texts.tokenizer)
    names = [name for name, _ in model.named_parameters()]
    track = options.trainer.track
    trained = freeze(model, options.freeze)
    optimizer = options.optimizer.build(trained.values())
    model = accelerator.prepare(model)
    if options.trainer.compile:
        compile_forward(model)
    return Learner(
        model=model,
        trained=trained,
        optimizer=optimizer,
        peak_lr=optimizer.param_groups[0]["lr"],
        clip=options.clip,
        scheduler=options.scheduler,
        dropout=dropout_of(stream("dropout", seed, nuisance), accelerator.device, options.trainer.compile),
        steps=options.trainer.steps,
        accelerator=accelerator,
        tracked=(track.mlp or mlp_weight(names), track.classifier or classifier_weight(names)),
    )


def compile_forward(model: nn.Module) -> None:
    """Compile the model's forward in place (its parameters keep their names), once for batches of all shapes.

    Evaluation has a graph of its own. Dropout draws other numbers than without, from the same stream. A model that
    torch can't compile whole is an error, as is a shape beyond torch's limit of graphs: nothing runs uncompiled.

    A run that goes on from a checkpoint or a snapshot compiles anew, with another batch first. On CPU the bits were
    the same nevertheless, compiled from nothing, in the tiny model and in MiniLM. On CUDA they rest on
    `trainer.deterministic`, which keeps inductor from choosing kernels by their time; that has not been tried.

    Raises ValueError where torch.compile does not work, for lack of a C++ compiler say.
    """
    torch.compiler.reset()  # else the graphs of this process's earlier runs would count towards the limit
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=next(model.parameters()).device))
    except Exception as error:  # a missing compiler, headers or Triton: torch has a class for each
        cause = str(error).strip().partition("\n")[0]
        raise ValueError(f"trainer.compile=true: torch.compile does not work here: {cause}") from error
    model.compile(dynamic=True, fullgraph=True)


@dataclass
class Run:
    """The loop's consumer: records each step, looks at the probe, evaluates, saves, and obeys a signal to stop."""

    folder: Path
    id: str
    environment: dict[str, Any]
    trainer: Trainer
    learner: Learner
    texts: Corpus
    stop: StopRequest
    began: float
    rows: Rows = field(default_factory=Rows)
    clip_state: Any = None
    done: int = 0  # steps behind it when it begins
    resumed_from: int | None = None
    forked_from: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        sizes = {name: p.numel() for name, p in self.learner.trained.items()}
        self.layers = layers_of(sizes, {name: role(name) for name in sizes})
        validation = self.texts.validation
        probe = probe_index(validation.label, self.trainer.probe_examples)
        self.leave = fork.steps_to_leave(self.folder) if self.trainer.fork.enabled else {}
        self.probe = Examples([validation.input_ids[i] for i in probe], [validation.label[i] for i in probe], 0)

    def take_up(self) -> None:
        """Go on where the folder's checkpoint stands, or from another arm's snapshot, or start anew."""
        found = self.own_checkpoint()
        self.resumed_from = found.step if found else None
        if found is None and self.trainer.fork.enabled:
            found = fork.take(self.folder, self.id, self.environment["key"], self.learner)
        if found:
            with torch.no_grad():
                for name, parameter in self.learner.trained.items():
                    parameter.copy_(found.trained[name])
            self.learner.optimizer.load_state_dict(found.optimizer)
            self.rows, self.clip_state, self.forked_from = found.rows, found.clip_state, found.forked_from
            self.environment = succeeding(self.environment, found.environment)
            self.done, self.began = found.step, self.began - found.seconds

    def own_checkpoint(self) -> Checkpoint | None:
        """What this run itself left, if it can go on from it."""
        found = checkpoint.load(self.folder)
        if found and found.id != self.id:
            log.warning("%s: its checkpoint is of run %s: the run starts anew", self.folder.name, found.id)
            return None
        if found and found.environment["key"] != self.environment["key"] and self.trainer.resume == "exact":
            log.warning(
                "%s: its checkpoint was made with other threads, hardware or versions: the run starts anew "
                "(trainer.resume=any would go on)", self.folder.name,
            )  # fmt: skip
            return None
        return found

    def train(self, order: Tensor) -> dict[str, Any]:
        """Train what is left and evaluate; a run that diverges is an outcome like any other."""
        trainer = self.trainer
        batches = Batches(
            self.texts.train, order, trainer.batch_size, trainer.grad_accumulation, trainer.length_splits, self.pad_id
        )
        display.current().start_run(self.folder.name, trainer.steps, self.done)
        try:
            for moment in train(self.learner, batches, self.done + 1, self.clip_state):
                self.observe(moment)
            return {"status": "done", "metrics": self.conclude()}
        except Diverged as error:
            log.warning("%s diverged at %s", self.folder.name, error)
            return {"status": "diverged", "error": {"step": error.step, "message": error.cause}, "metrics": {}}
        finally:
            display.current().end_run()

    def observe(self, moment: Moment) -> None:
        """All that happens after an update; a checkpoint comes last, so that it holds the step whole."""
        row, trainer = moment.row, self.trainer
        self.rows.add_step(row)
        self.clip_state = moment.clip_state
        if row.step % trainer.track.layers_every == 0:
            self.rows.add_layers(row.step, moment.norms, self.layers)
        if row.step % trainer.probe_every == 0:
            self.rows.add_eval(row.step, "probe", self.evaluate(self.probe, PROBE_BATCH))
        last = row.step == trainer.steps
        if trainer.eval_every and row.step % trainer.eval_every == 0 and not last:
            for split in ("validation", "test"):
                self.rows.add_eval(row.step, split, self.evaluate(getattr(self.texts, split)))
        display.current().step(row, trainer.steps)
        if snapshot := self.leave.get(row.step):
            fork.leave(snapshot, self.state(row.step), fork.shared_folder(self.folder), trainer.fork.max_gb)
        if self.stop.asked or (row.step % trainer.checkpoint_every == 0 and not last):
            self.save(row.step)
        self.stop.obey()

    def conclude(self) -> dict[str, float]:
        """Evaluate at the last step: run.json's `metrics`, and the test split's predictions."""
        if self.trainer.keep_checkpoint:
            self.save(self.trainer.steps)  # before there are rows that a resumed run would write again
        metrics = {}
        for split in ("validation", "test"):
            found = self.evaluate(getattr(self.texts, split))
            self.rows.add_eval(self.trainer.steps, split, found)
            metrics |= {f"{split}_accuracy": found.accuracy, f"{split}_loss": found.loss}
        self.rows.set_predictions(found)
        log.info("done: %s", ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        return metrics

    def save(self, step: int) -> None:
        """Checkpoint, and the tables as far as they go, for those who look at a run while it runs."""
        checkpoint.save(self.state(step), self.folder)
        self.rows.write(self.folder)

    def state(self, step: int) -> Checkpoint:
        return Checkpoint(
            id=self.id,
            environment=self.environment,
            step=step,
            trained={name: p.detach() for name, p in self.learner.trained.items()},
            optimizer=self.learner.optimizer.state_dict(),
            clip_state=self.clip_state,
            rows=self.rows,
            seconds=self.seconds(),
            forked_from=self.forked_from,
        )

    def evaluate(self, examples: Examples, batch_size: int | None = None) -> Predictions:
        return evaluate(self.learner.model, examples, batch_size or self.trainer.eval_batch_size, self.pad_id)

    @property
    def pad_id(self) -> int:
        return self.texts.tokenizer.pad_token_id

    def seconds(self) -> float:
        """Time spent on this run, earlier attempts up to their last checkpoint included."""
        return time.perf_counter() - self.began


def pairing(order: Tensor, learner: Learner) -> dict[str, str]:
    """What arms of a seed have to share: hashes of the planned order, the head's start, the dropout stream."""
    start = [p.detach().cpu() for name, p in learner.model.named_parameters() if role(name).block == "head"]
    return {"batches": hash_of([order]), "head": hash_of(start), "dropout": learner.dropout.algorithm}


def hash_of(tensors: Iterable[Tensor]) -> str:
    sha256 = hashlib.sha256()
    for tensor in tensors:
        sha256.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return sha256.hexdigest()


def count_parameters(model: nn.Module) -> dict[str, Any]:
    """run.json's `parameters`: R = |θ_trained| / |θ_total| (§3.1), in all and by block."""
    blocks = {block: {"total": 0, "trained": 0} for block in BLOCKS}
    for name, p in model.named_parameters():
        count = blocks[role(name).block]
        count["total"] += p.numel()
        count["trained"] += p.numel() * p.requires_grad
    total, trained = (sum(count[key] for count in blocks.values()) for key in ("total", "trained"))
    by_block = {block: count for block, count in blocks.items() if count["total"]}
    return {"total": total, "trained": trained, "ratio": trained / total, "by_block": by_block}


def parameter_table(parameters: Mapping[str, Any]) -> str:
    """What is trained and what is frozen, block by block, for the log."""
    rows = {**parameters["by_block"], "all": {"total": parameters["total"], "trained": parameters["trained"]}}
    lines = [f"{'block':<10} {'trained':>13} {'frozen':>13} {'share trained':>14}"]
    for block, count in rows.items():
        frozen, share = count["total"] - count["trained"], count["trained"] / count["total"]
        lines.append(f"{block:<10} {count['trained']:>13,} {frozen:>13,} {share:>14.2%}")
    return "\n".join(lines)


def memory_bytes(learner: Learner) -> dict[str, int | None]:
    """Bytes by count of weights, gradients and the optimizer's states, and CUDA's peak (null on CPU)."""
    states = [v for state in learner.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    weights, trained = list(learner.model.parameters()), list(learner.trained.values())
    cuda = learner.accelerator.device.type == "cuda"
    return {
        "weights": size(weights),
        "gradients": size(trained),
        "optimizer": size(states),
        "peak": torch.cuda.max_memory_allocated() if cuda else None,
    }


def size(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
