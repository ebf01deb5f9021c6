"""What a Recorder adds to a step of a plain loop on MiniLM: `python -m tests.benchmarks.recorder [overrides]`.

Both sides are a plain PyTorch loop on the same batches: forward, backward, clipping at 1, AdamW. One clips by torch's
`clip_grad_norm_`. The other has the Recorder's calls instead: `order`, `gradients`, `clip` and `step`, with its default
of layers every ten steps. Steps are timed in turns in one process, and the ratio is the median of the ratios per turn.
All overrides of `python -m ablate` are options too, e.g. `trainer.threads=1`.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

import ablate
from ablate.clip import Fixed
from ablate.data.batches import planned_order
from ablate.data.corpus import corpus
from ablate.experiment import build_options
from tests.benchmarks.turns import held, in_turns, options, ratio, tell
from tests.tools import compose_settings

AT_MOST = 1.02
FREEZES = ("none", "embeddings_attention")
"""With all weights trained, the norms are those of most gradients; with few, a step is short."""


def loop(settings: dict[str, Any], recorder: ablate.Recorder | None) -> Iterator[float]:
    """A plain loop, with or without a Recorder; yields the loss of each step."""
    built = build_options(settings)
    texts, trainer, steps = corpus(built.model, built.data), built.trainer, built.trainer.steps
    torch.set_num_threads(trainer.thread_count())
    model = built.model.build(texts.classes, 0, texts.tokenizer).train()
    for name, p in model.named_parameters():
        p.requires_grad_(settings["freeze"]["_target_"].endswith("Nothing") or not is_frozen(name))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=built.optimizer.lr, fused=True)
    for index in planned_order(len(texts.train.label), steps * trainer.batch_size, 0).split(trainer.batch_size):
        rows = [torch.tensor(texts.train.input_ids[i]) for i in index.tolist()]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=texts.tokenizer.pad_token_id)
        labels = torch.tensor([texts.train.label[i] for i in index.tolist()])
        optimizer.zero_grad()
        loss = F.cross_entropy(model(input_ids=ids, attention_mask=(ids != 0).long()).logits, labels)
        loss.backward()
        if recorder:
            recorder.order(index)
            recorder.gradients(model)
            recorder.clip(Fixed(1.0))
        else:
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if recorder:
            recorder.step(loss, built.optimizer.lr, examples=len(index))
        yield loss.item()


def is_frozen(name: str) -> bool:
    return "embeddings" in name or "attention" in name


def timed(running: Iterator[float], steps: int) -> Callable[[], float]:
    """A function that times the next `steps` steps, in seconds per step, after two steps of warm-up."""

    def measure(count: int = steps) -> float:
        began = time.perf_counter()
        for _ in range(count):
            next(running)
        return (time.perf_counter() - began) / count

    measure(2)
    return measure


def main() -> None:
    parser = options(__doc__, turns=12)
    parser.add_argument("--steps", type=int, default=5, help="steps per turn (default: 5)")
    parser.add_argument("overrides", nargs="*")
    said = parser.parse_intermixed_args()
    rows, numbers, planned = [], [], said.turns * said.steps + 2
    for freeze in FREEZES:
        settings = compose_settings(f"freeze={freeze}", f"trainer.steps={planned}", *said.overrides)
        with tempfile.TemporaryDirectory() as folder:
            recorder = ablate.Recorder(Path(folder) / "study", {"clip": "fixed"}, seed=0, steps=planned)
            sides = {"with a Recorder": timed(loop(settings, recorder), said.steps)}
            sides["plain"] = timed(loop(settings, None), said.steps)
            times = in_turns(sides, said.turns)
            recorder.finish()
        found = ratio(times["with a Recorder"], times["plain"])
        each = [f"{median(times[side]):.4f}" for side in ("plain", "with a Recorder")]
        rows.append([f"freeze={freeze}", *each, found, held(found, AT_MOST)])
        numbers.append({"freeze": freeze, "seconds": times, "ratio": found})
    tell(["step", "plain, s", "with a Recorder, s", "ratio", "target"], rows, numbers, said)
    print(f"{torch.get_num_threads()} threads {' '.join(said.overrides)}")


if __name__ == "__main__":
    main()
