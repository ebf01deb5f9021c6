"""Share of the machine's matmul peak that a training step reaches: `python -m tests.benchmarks.peak [overrides]`.

The speed of a step is its number of floating-point operations over its time. torch counts the operations of matrix
products only (2·m·k·n for [m, k] times [k, n]). The peak is the speed of one large square matrix product with the same
threads and the matmul backend of the step's linear layers. Product and steps are timed in turns. The step is that of
MiniLM with freezing, clipping and `trainer.length_splits=4`, unless overridden. Two factors bound the share: the share
of a step's time spent in matrix products (by torch's profiler), and the speed of these small products.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from ablate.data.batches import Batch, planned_order
from ablate.data.corpus import corpus
from ablate.experiment import build_options
from ablate.training.device import OneDNNLinear, make_accelerator
from ablate.training.learner import make_batches, make_learner
from ablate.training.step import Learner, step
from tests.benchmarks.turns import in_turns, options, tell, with_reservation
from tests.tools import compose_settings

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_linear")  # prefixes of their names


@dataclass(frozen=True)
class Measured:
    """Results for one precision. `step` and `product` are speeds in GFLOP/s, one per turn."""

    gflop: float  # per step, mean
    seconds: float  # per step, median
    step: list[float]
    product: list[float]
    in_products: float  # share of a step's time spent in matrix products

    @property
    def share(self) -> float:
        return median(a / b for a, b in zip(self.step, self.product, strict=True))


def steps_of(precision: str, count: int, overrides: Sequence[str]) -> tuple[Learner, list[list[Batch]]]:
    """A learner and the pieces of its first `count` steps."""
    built = build_options(compose_settings(f"trainer.precision={precision}", *overrides))
    trainer = built.trainer
    accelerator = make_accelerator(trainer)
    texts = corpus(built.model, built.data)
    order = planned_order(len(texts.train.label), count * trainer.batch_size, 0)
    pad = texts.tokenizer.pad_token_id
    batches = make_batches(trainer, texts.train, order, pad)
    learner = make_learner(built, texts, 0, accelerator)
    learner.model.train()
    return learner, [batches(t) for t in range(1, count + 1)]


def make_steps(learner: Learner, batches: Sequence[Sequence[Batch]]) -> None:
    states: dict[str, Any] = {}
    for t, pieces in enumerate(batches, 1):
        *_, states = step(learner, pieces, t, states, resuming=t == 1)


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products in `work`.

    >>> flops(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
    60
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def time_in_products(work: Callable[[], object]) -> float:
    """Share of the time of `work` spent in matrix products. The profiler's own time counts as other work."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work()
    spent = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    return sum(time for name, time in spent.items() if name.startswith(PRODUCTS)) / sum(spent.values())


def product(size: int, dtype: torch.dtype, onednn: bool) -> Callable[[], object]:
    a, b = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    return partial(F.linear, a.to_mkldnn() if onednn else a, b)


def measure(precision: str, said: argparse.Namespace) -> Measured:
    counted = partial(make_steps, *steps_of(precision, said.steps, [*said.overrides, "trainer.linear=torch"]))
    learner, batches = steps_of(precision, said.steps, said.overrides)
    handed = any(isinstance(module, OneDNNLinear) for module in learner.model.modules())
    steps, matmul = partial(make_steps, learner, batches), product(said.size, DTYPES[precision], handed)
    gflop = {"step": flops(counted) / 1e9, "product": 2 * said.size**3 / 1e9}  # torch cannot count oneDNN's operations
    steps()  # warm up, as the product does
    matmul()
    taken = in_turns({"step": partial(seconds, steps), "product": partial(seconds, matmul)}, said.turns)
    speed = {name: [gflop[name] / s for s in taken[name]] for name in taken}
    return Measured(
        gflop["step"] / said.steps,
        median(taken["step"]) / said.steps,
        speed["step"],
        speed["product"],
        time_in_products(steps),
    )


def row(precision: str, found: Measured) -> list[Any]:
    numbers = (found.gflop, found.seconds, median(found.step), median(found.product))
    shares = (found.share, found.in_products, found.share / found.in_products)
    said = [f"{number:.3g}" for number in numbers] + [f"{share:.0%}" for share in shares]
    return [with_reservation(precision, precision), *said]


def main() -> None:
    parser = options(__doc__, turns=9)
    parser.add_argument("--steps", type=int, default=5, help="steps per turn (default: 5)")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the large matrices")
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("overrides", nargs="*")
    said = parser.parse_intermixed_args()
    found = {precision: measure(precision, said) for precision in said.precisions}
    headings = ["precision", "GFLOP per step", "s per step", "GFLOP/s", "large product, GFLOP/s", "share of peak",
                "time in products", "share of peak within products"]  # fmt: skip
    tell(headings, [row(precision, of_it) for precision, of_it in found.items()], found, said)
    print(f"{torch.get_num_threads()} threads {' '.join(said.overrides)}")


if __name__ == "__main__":
    main()
