"""From the planned order of examples to the pieces of a step."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ablate.data import Batch, Examples, collate


@dataclass(frozen=True)
class Batches:
    """The batches of a run: step t (from 1) takes the t-th `batch_size · accumulation` of `order`.

    Each mini-batch of `batch_size` is sorted by length and cut into `splits` pieces of equal count (to one),
    each padded to its own longest: the same batch, mean loss and gradient (to rounding), far less padding.
    """

    examples: Examples
    order: Tensor  # [steps · batch_size · accumulation], int64
    batch_size: int
    accumulation: int
    splits: int
    pad_id: int

    def __call__(self, t: int) -> list[Batch]:
        size = self.batch_size * self.accumulation
        index = self.order[(t - 1) * size : t * size]
        return [
            collate(self.examples, piece, self.pad_id)
            for batch in index.split(self.batch_size)
            for piece in by_length(batch.tolist(), self.examples.input_ids, self.splits)
        ]


def by_length(index: Sequence[int], texts: Sequence[Sequence[int]], splits: int) -> list[list[int]]:
    """`index` sorted by the texts' lengths (stable) in `splits` runs of equal count; as it is for splits = 1.

    >>> by_length([0, 1, 2, 3], [[7] * 9, [7], [7] * 5, [7] * 2], splits=2)
    [[1, 3], [2, 0]]
    """
    if splits == 1:
        return [list(index)]
    ranked = sorted(index, key=lambda i: len(texts[i]))
    bounds = [len(ranked) * k // splits for k in range(splits + 1)]
    return [ranked[a:b] for a, b in itertools.pairwise(bounds) if b > a]
