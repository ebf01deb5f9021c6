"""Evaluation of a split: no dropout, batches sorted by length, results in the order of the split."""

from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.data.batches import Examples, collate
from ablate.distributed.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Predictions:
    """The model's predictions for the N examples of a split; each field has shape [N]."""

    label: Tensor  # int64
    prediction: Tensor  # int64
    probability: Tensor  # float32, of the predicted class
    losses: Tensor  # float64, cross-entropy

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, 0 to 1."""
        return float((self.prediction == self.label).double().mean())


@torch.no_grad()
def evaluate(
    model: nn.Module,
    examples: Examples,
    batch_size: int,
    pad_id: int,
    ranks: Ranks = ALONE,
) -> Predictions:
    """Predict all `examples`. Keeps each module in training or evaluation mode and draws no random numbers.

    Several ranks take the batches in turn, each the same number: where the batches run out, the last one is repeated.
    Every rank returns the whole result.
    """
    device, training = next(model.parameters()).device, {module: module.training for module in model.modules()}
    model.eval()
    ranked = sorted(range(len(examples.label)), key=lambda i: len(examples.input_ids[i]))
    batches = [ranked[start : start + batch_size] for start in range(0, len(ranked), batch_size)]
    turns = -(-len(batches) // ranks.count)
    found = []
    for turn in range(turns):
        index = batches[min(turn * ranks.count + ranks.index, len(batches) - 1)]
        batch = collate(examples, index, pad_id).to(device)
        output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        found.append(scored(output.logits.float().cpu(), batch.labels.cpu()))
    for module, mode in training.items():
        module.training = mode
    in_turn = [each for turn in zip(*ranks.gather(found), strict=True) for each in turn][: len(batches)]
    place = torch.tensor(ranked).argsort()  # back in the order of the split
    prediction, probability, losses = (torch.cat(parts)[place] for parts in zip(*in_turn, strict=True))
    return Predictions(torch.tensor(examples.label), prediction, probability, losses)


def scored(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, its probability and loss, each [B], from logits [B, K]. The logits of a whole split may not fit."""
    probability, prediction = logits.softmax(-1).max(-1)
    return prediction, probability, F.cross_entropy(logits, label, reduction="none").double()


def probe_index(label: list[int], count: int) -> list[int]:
    """Indices of the probe, a fixed class-balanced batch: the first `count` examples, taken from each class in turn.

    >>> probe_index([0, 0, 0, 1, 1], count=4)
    [0, 3, 1, 4]
    """
    turns: list[tuple[int, int, int]] = []  # turn, class, index
    seen: Counter[int] = Counter()
    for index, k in enumerate(label):
        turns.append((seen[k], k, index))
        seen[k] += 1
    return [index for _, _, index in sorted(turns)[:count]]
