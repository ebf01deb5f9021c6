"""Step time and memory of our loop against a plain PyTorch loop: `python -m tests.benchmarks.step_time [overrides]`.

Both train MiniLM on movie snippets with freezing and clipping, on the same batches and in the same precision. Ours runs
unsplit, and with each batch in pieces of similar length (`trainer.length_splits=4`). Steps are timed in turns in one
process, and the ratio is the median of the ratios per turn. Memory is the peak resident size of each loop in a process
of its own. All overrides of `python -m ablate` are options too, e.g. `trainer.threads=1`.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from ablate.data.batches import planned_order
from ablate.data.corpus import corpus
from ablate.experiment import Options, build_options
from ablate.training.device import make_accelerator
from ablate.training.learner import make_batches, make_learner
from ablate.training.step import train
from tests.benchmarks.processes import peak_megabytes
from tests.benchmarks.turns import Ratio, held, in_turns, options, ratio, tell, with_reservation
from tests.tools import compose_settings

UNSPLIT_AT_MOST = 1.03
SPLIT_AT_MOST = {"fp32": 0.70, "bf16": 0.75}
MEMORY_STEPS = 5
Loop = Callable[[Options], Iterator[float]]


def ours(options: Options) -> Iterator[float]:
    """Our loop; yields the loss of each step."""
    texts = corpus(options.model, options.data)
    trainer = options.trainer
    learner = make_learner(options, texts, 0, make_accelerator(trainer))
    order = planned_order(len(texts.train.label), trainer.steps * trainer.examples_per_step, 0)
    pad = texts.tokenizer.pad_token_id
    batches = make_batches(trainer, texts.train, order, pad)
    for moment in train(learner, batches):
        yield moment.row.loss


def plain(options: Options) -> Iterator[float]:
    """The loop that a user would write: pad, forward, backward, clip_grad_norm_, LambdaLR, AdamW; yields losses."""
    texts = corpus(options.model, options.data)
    trainer = options.trainer
    torch.set_num_threads(trainer.thread_count())
    model = options.model.build(texts.classes, 0, texts.tokenizer)
    for name, p in model.named_parameters():
        p.requires_grad_("embeddings" not in name and "attention" not in name)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.optimizer.lr, fused=True)  # fused, as ours is
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: options.scheduler.factor(k + 1, trainer.steps))
    order = planned_order(len(texts.train.label), trainer.steps * trainer.batch_size, 0)
    model.train()
    for index in order.split(trainer.batch_size):
        rows = [torch.tensor(texts.train.input_ids[i]) for i in index.tolist()]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=texts.tokenizer.pad_token_id)
        labels = torch.tensor([texts.train.label[i] for i in index.tolist()])
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision == "bf16"):
            logits = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        yield loss.item()


@dataclass(frozen=True)
class Side:
    """A loop and its settings."""

    loop: Loop
    settings: dict[str, Any]

    def timed(self, steps: int) -> Callable[[], float]:
        """Return a function that times the next `steps` steps, in seconds per step, after two steps of warm-up."""
        running = self.loop(build_options(self.settings))
        measure = partial(seconds, running, self.loop is ours, steps)
        seconds(running, self.loop is ours, 2)
        return measure

    def megabytes(self) -> float:
        """Peak resident size of a fresh process that performs a few steps."""
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(peak, (self,))


def seconds(loop: Iterator[float], deterministic: bool, steps: int) -> float:
    torch.use_deterministic_algorithms(deterministic)  # our loop needs it; the plain loop should not pay for it
    began = time.perf_counter()
    for _ in range(steps):
        next(loop)
    return (time.perf_counter() - began) / steps


def peak(side: Side) -> float:
    side.timed(MEMORY_STEPS)()
    return peak_megabytes()


def sides(precision: str, splits: int, steps: int, overrides: Sequence[str]) -> dict[str, Side]:
    def settings(pieces: int) -> dict[str, Any]:
        return compose_settings(
            f"trainer.precision={precision}", f"trainer.length_splits={pieces}", f"trainer.steps={steps}", *overrides
        )

    return {
        "ours, unsplit": Side(ours, settings(1)),
        f"ours, length_splits={splits}": Side(ours, settings(splits)),
        "plain loop": Side(plain, settings(1)),
    }


@dataclass(frozen=True)
class Measured:
    """Results of one side: seconds per step for each turn, MB, and the ratios of both to the plain loop's."""

    precision: str
    seconds: list[float]
    megabytes: float
    time: Ratio
    memory: float


def measure(precision: str, said: argparse.Namespace) -> dict[str, Measured]:
    found = sides(precision, said.splits, max(300, said.turns * said.steps + 2), said.overrides)
    times = in_turns({name: side.timed(said.steps) for name, side in found.items()}, said.turns)
    memory = {name: side.megabytes() for name, side in found.items()}
    return {
        name: Measured(
            precision, times[name], memory[name], ratio(times[name], times["plain loop"]),
            memory[name] / memory["plain loop"],
        )
        for name in found
    }  # fmt: skip


def row(name: str, found: Measured) -> list[Any]:
    at_most = {"ours, unsplit": UNSPLIT_AT_MOST, "ours, length_splits=4": SPLIT_AT_MOST[found.precision]}.get(name)
    promised = with_reservation(held(found.time, at_most), found.precision) if at_most else ""
    per_step, size = f"{median(found.seconds):.3f}", f"{found.megabytes:.0f}"
    return [f"{name}, {found.precision}", per_step, found.time, promised, size, f"{found.memory:.2f}"]


def main() -> None:
    parser = options(__doc__, turns=12)
    parser.add_argument("--steps", type=int, default=5, help="steps per turn (default: 5)")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("overrides", nargs="*")
    said = parser.parse_intermixed_args()
    for word in said.overrides:
        if word.partition("=")[0] in ("trainer.precision", "trainer.length_splits"):
            parser.error(f"{word}: set it by --precisions or --splits, which the names of the rows follow")
    measured = [(name, found) for precision in said.precisions for name, found in measure(precision, said).items()]
    headings = ["step", "s", "ratio to plain", "target", "MB", "ratio to plain"]
    numbers = [{"side": name, **vars(found)} for name, found in measured]
    tell(headings, [row(name, found) for name, found in measured], numbers, said)
    print(f"{torch.get_num_threads()} threads {' '.join(said.overrides)}")


if __name__ == "__main__":
    main()
