"""Evaluation of a split: no dropout, batches sorted by length, results in the order of the split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ablate.data.batches import Examples, collate
from ablate.distributed.ranks import ALONE, Ranks
from ablate.metrics import METRICS, Predicted, Unmeasurable
from ablate.task import Classification, Scored, Task


@dataclass(frozen=True)
class Predictions:
    """The model's predictions for the N examples of a split, in the split's order. They have U units (`Scored`).

    columns         of predictions.parquet but for `example`, each [U]
    losses          mean loss of each example, [N] float64
    units           number of units of each example, [N]
    probabilities   of all classes, [U, K], where they are recorded; else None
    """

    kind: str
    columns: dict[str, Tensor]
    losses: Tensor
    units: Tensor
    probabilities: Tensor | None = None

    @property
    def loss(self) -> float:
        """Mean loss of the units."""
        return float((self.losses * self.units).sum() / self.units.sum())

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions, 0 to 1; None if they are no classes or not kept."""
        if self.kind not in METRICS["accuracy"].kinds:
            return None
        return float((self.columns["prediction"] == self.columns["label"]).double().mean())

    @property
    def example(self) -> Tensor:
        """The example of each unit, [U]."""
        return torch.arange(len(self.units)).repeat_interleave(rows_each(self.kind, self.units))

    def score(self, metric: str, labels: Sequence[str]) -> float:
        """A metric of `ablate.metrics`; NaN where it has no value for these predictions."""
        if metric == "accuracy":
            return float(self.accuracy)
        try:
            return METRICS[metric].value(self.predicted(labels))
        except Unmeasurable:
            return float("nan")

    def predicted(self, labels: Sequence[str]) -> Predicted:
        """These predictions as `ablate.metrics` reads them."""
        columns = {name: column.numpy() for name, column in self.columns.items() if name != "word"}
        probabilities = None if self.probabilities is None else self.probabilities.numpy()
        return Predicted(self.kind, labels, **columns, probabilities=probabilities, example=self.example.numpy())


CLASSIFICATION = Classification()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    examples: Examples,
    batch_size: int,
    pad_id: int,
    ranks: Ranks = ALONE,
    task: Task = CLASSIFICATION,
) -> Predictions:
    """Predict all `examples`. Keeps each module in training or evaluation mode and draws no random numbers.

    Several ranks take the batches in turn, each the same number: where the batches run out, the last one is repeated.
    Every rank returns the whole result.
    """
    device, training = next(model.parameters()).device, {module: module.training for module in model.modules()}
    model.eval()
    ranked = sorted(range(len(examples)), key=lambda i: len(examples.input_ids[i]))
    batches = [ranked[start : start + batch_size] for start in range(0, len(ranked), batch_size)]
    turns = -(-len(batches) // ranks.count)
    found = []
    for turn in range(turns):
        index = batches[min(turn * ranks.count + ranks.index, len(batches) - 1)]
        batch = collate(examples, index, pad_id).to(device)
        output = model(**batch.inputs)  # the logits of a whole split may not fit
        found.append(task.scored(output.logits.float().cpu(), batch.labels.cpu()))
    for module, mode in training.items():
        module.training = mode
    in_turn = [each for turn in zip(*ranks.gather(found), strict=True) for each in turn][: len(batches)]
    return in_split_order(in_turn, torch.tensor(ranked), task.kind)


def in_split_order(parts: Sequence[Scored], ranked: Tensor, kind: str) -> Predictions:
    """The predictions of all batches as one, in the order of the split; `ranked` are the batches' examples, [N]."""
    place = ranked.argsort()
    units = torch.cat([part.units for part in parts])
    by_unit = ranked.repeat_interleave(rows_each(kind, units)).argsort(stable=True)
    columns = {name: torch.cat([part.columns[name] for part in parts])[by_unit] for name in parts[0].columns}
    all_known = parts[0].probabilities is not None
    return Predictions(
        kind,
        columns,
        torch.cat([part.losses for part in parts])[place],
        units[place],
        torch.cat([part.probabilities for part in parts])[by_unit] if all_known else None,
    )


def rows_each(kind: str, units: Tensor) -> Tensor:
    """The number of rows that each example has in predictions.parquet, [N]: one per unit, but one per block of text."""
    return torch.ones_like(units) if kind == "causal_lm" else units


def with_baseline(found: Predictions, train: Examples, test: Examples, vocabulary: int) -> Predictions:
    """Predictions of causal_lm with the column `baseline`: the loss of a guess that ignores the text before a token.

    That of the frequencies of single tokens in the training split, each counted once more than it occurs (Laplace).
    """
    if found.kind != "causal_lm":
        return found
    counts = np.bincount(np.concatenate([np.asarray(ids) for ids in train.input_ids]), minlength=vocabulary) + 1
    losses = -np.log(counts / counts.sum())
    baseline = torch.tensor([float(losses[np.asarray(ids[1:])].mean()) for ids in test.input_ids]).double()
    return replace(found, columns=found.columns | {"baseline": baseline})


def probe_order(examples: Examples, count: int) -> list[int]:
    """Indices of the probe: class-balanced where an example has a class, else the first `count` examples."""
    classes = [label for label in examples.label if type(label) is int]
    return probe_index(classes, count) if classes else list(range(min(count, len(examples))))


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
