"""Step time and memory of our loop against a plain PyTorch loop: `python -m tests.benchmarks.step_time`.

Both train MiniLM on movie snippets, frozen and clipped, on the same batches, unsplit and with the same precision.
Steps are timed in turns in one process (ours, plain, ours, ...), since machines are noisy; the ratio is the median
of the turns' ratios. Memory is each loop's peak resident size in a process of its own. Options: any overrides of
`python -m ablate`, e.g. `trainer.length_splits=4 trainer.precision=bf16`.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from ablate.batches import Batches, planned_order
from ablate.corpus import corpus
from ablate.options import Options, build_options
from ablate.run import accelerate, make_learner
from ablate.training import train
from tests.tools import compose_settings

DEFAULTS = ("trainer.length_splits=1",)


def ours(options: Options) -> Iterator[float]:
    """Our loop, step by step; yields losses."""
    texts = corpus(options.model, options.data)
    trainer = options.trainer
    learner = make_learner(options, texts, 0, accelerate(trainer))
    order = planned_order(len(texts.train.label), trainer.steps * trainer.examples_per_step, 0)
    pad = texts.tokenizer.pad_token_id
    batches = Batches(texts.train, order, trainer.batch_size, 1, trainer.length_splits, pad)
    for moment in train(learner, batches):
        yield moment.row.loss


def plain(options: Options) -> Iterator[float]:
    """What a person would write: pad, forward, backward, clip_grad_norm_, LambdaLR, AdamW."""
    texts = corpus(options.model, options.data)
    trainer = options.trainer
    model = options.model.build(texts.classes, 0, texts.tokenizer)
    for name, p in model.named_parameters():
        p.requires_grad_("embeddings" not in name and "attention" not in name)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.optimizer.lr)
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


def seconds(loop: Iterator[float], steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        next(loop)
    return (time.perf_counter() - began) / steps


def peak_memory(loop: Callable[[Options], Iterator[float]], settings: dict[str, Any], steps: int) -> float:
    """Peak resident size, in MB, of a fresh process that makes `steps` steps."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (loop, settings, steps))


def _peak(loop: Callable[[Options], Iterator[float]], settings: dict[str, Any], steps: int) -> float:
    seconds(loop(build_options(settings)), steps)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--steps", type=int, default=5, help="steps a turn")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    settings = compose_settings(*DEFAULTS, *arguments.overrides)
    options = build_options(settings)
    loops = {"ours": ours(options), "plain": plain(options)}
    for loop in loops.values():
        seconds(loop, 2)  # warm up
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(arguments.turns):
        for name, loop in loops.items():
            times[name].append(seconds(loop, arguments.steps))
    ratios = [a / b for a, b in zip(times["ours"], times["plain"], strict=True)]
    memory = {f.__name__: peak_memory(f, settings, 5) for f in (ours, plain)}
    print(f"threads {torch.get_num_threads()}, torch {torch.__version__}, {' '.join(arguments.overrides)}")
    for name in loops:
        print(f"{name:>6}: {statistics.median(times[name]):.4f} s a step, peak {memory[name]:.0f} MB")
    print(f" ratio: {statistics.median(ratios):.3f} (turns {min(ratios):.3f} to {max(ratios):.3f}), "
          f"memory {memory['ours'] / memory['plain']:.3f}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
