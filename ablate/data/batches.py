"""From tokenised examples to the padded pieces of a step: the planned order of examples, batches."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ablate.distributed.ranks import ALONE, Ranks
from ablate.schema import UNLABELLED

WINDOW = 50  # number of batches that `grouped_order` sorts together, as in transformers' sampler


@dataclass(frozen=True)
class Examples:
    """A tokenised split of N examples.

    input_ids  token ids of each, with special tokens
    label      the class or target number of each; for token classification an array [tokens] each, with the class at
               the first token of a word and -100 elsewhere; empty for language modelling, whose targets are the tokens
    truncated  what did not fit: texts that were cut; words (token classification) or tokens (language modelling) that
               were left out
    cluster    the group of each, numbered from 0 by first appearance; empty if the groups are not known
    segments   arrays [tokens] each with 0 at the first text of a pair and 1 at the second; empty if not known
    units      number of targets of each: words, or tokens that are predicted; empty = one each
    """

    input_ids: Sequence[Sequence[int]]
    label: Sequence[Any]
    truncated: int
    cluster: Sequence[int] = ()
    segments: Sequence[Sequence[int]] = ()
    units: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.input_ids)

    def part(self, index: Sequence[int]) -> "Examples":
        """The examples `index`, without their groups."""
        label, segments, units = (
            [column[i] for i in index] if len(column) else () for column in (self.label, self.segments, self.units)
        )
        return Examples([self.input_ids[i] for i in index], label, 0, segments=segments, units=units)

    def count(self, index: Sequence[int]) -> int:
        """The number of targets of the examples `index`: the loss is a mean over them."""
        return sum(self.units[i] for i in index) if len(self.units) else len(index)


@dataclass(frozen=True, eq=False)
class Batch:
    """B examples, padded on the right to the same length L.

    labels    LongTensor [B] of classes, float32 [B] of target numbers, or LongTensor [B, L] with -100 where a token is
              no target; for language modelling the next token's id, with -100 at the last one and padding
    segments  0 or 1 per token of a pair; None if not known
    share     weight of this batch's mean loss in the mean loss of its step
    """

    input_ids: Tensor  # [B, L]
    attention_mask: Tensor  # [B, L], 1 = token, 0 = padding
    labels: Tensor
    segments: Tensor | None = None  # [B, L]
    share: float = 1.0

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The arguments of the model."""
        segments = {} if self.segments is None else {"token_type_ids": self.segments}
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask} | segments

    def to(self, device: torch.device | str) -> "Batch":
        segments = None if self.segments is None else self.segments.to(device)
        tensors = (self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device), segments)
        return Batch(*tensors, self.share)


def collate(examples: Examples, index: Sequence[int], pad_id: int, length: int = 0, share: float = 1.0) -> Batch:
    """The examples with the numbers `index` as one batch, padded to at least `length` tokens."""
    rows = [examples.input_ids[i] for i in index]
    input_ids = padded(rows, pad_id, length)  # [B, L]
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()  # [B, L]
    segments = padded([examples.segments[i] for i in index], 0, length) if len(examples.segments) else None
    return Batch(input_ids, mask, targets(examples, index, input_ids, mask, length), segments, share)


def targets(examples: Examples, index: Sequence[int], input_ids: Tensor, mask: Tensor, length: int) -> Tensor:
    """The labels of a batch, as `Batch` describes them."""
    if not len(examples.label):
        return F.pad(input_ids.masked_fill(mask == 0, UNLABELLED)[:, 1:], (0, 1), value=UNLABELLED)
    labels = [examples.label[i] for i in index]
    return torch.tensor(labels) if isinstance(labels[0], (int, float)) else padded(labels, UNLABELLED, length)


def padded(rows: Sequence[Sequence[int]], value: int, length: int) -> Tensor:
    """Rows of whole numbers as one LongTensor [B, L], padded on the right to at least `length`."""
    tensor = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
    return F.pad(tensor, (0, max(0, length - tensor.shape[1])), value=value)


def planned_order(examples: int, count: int, seed: int) -> Tensor:
    """The first `count` example numbers [count] of endless epochs, each a fresh permutation of 0..examples-1.

    Each step uses the next batch of them, also across the end of an epoch. The order for a smaller count is a prefix of
    the order for a larger one.
    """
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-count // examples)
    return torch.cat([torch.randperm(examples, generator=generator) for _ in range(epochs)])[:count]


def grouped_order(lengths: Sequence[int], count: int, seed: int, batch_size: int) -> Tensor:
    """`planned_order` for examples of these lengths, rearranged so that each batch has examples of similar length.

    The plan is cut into windows of 50 batches. The examples of a window are sorted by length and cut into batches. The
    batches are ordered by the planned position of their earliest example, so long and short ones are mixed at random.
    Each example still occurs once per epoch. A batch that spans two epochs stays as planned: windows do not cross the
    end of an epoch. The idea comes from transformers' LengthGroupedSampler, which goes through a window from long to
    short and starts again with each epoch.

    >>> grouped_order([1, 5, 1, 5, 1, 5, 1, 5], count=8, seed=0, batch_size=4) % 2
    tensor([0, 0, 0, 0, 1, 1, 1, 1])
    """
    epochs = -(-count // len(lengths))
    order = planned_order(len(lengths), epochs * len(lengths), seed)
    length = torch.tensor(lengths)[order]
    for start, end in windows(len(lengths), epochs, batch_size):
        places = length[start:end].argsort(stable=True).view(-1, batch_size)  # [batches, B], positions in the window
        order[start:end] = order[start:end][places[places.amin(1).argsort()].flatten()]
    return order[:count]


def windows(examples: int, epochs: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Start and end of each window: at most WINDOW whole batches within one epoch."""
    for epoch in range(epochs):
        first = -(-epoch * examples // batch_size) * batch_size
        last = (epoch + 1) * examples // batch_size * batch_size
        for start in range(first, last, WINDOW * batch_size):
            yield start, min(start + WINDOW * batch_size, last)


@dataclass(frozen=True)
class Batches:
    """The batches of a run: step t (from 1) uses the t-th `batch_size · accumulation` examples of `order`.

    Each mini-batch of `batch_size` examples is sorted by length and cut into `splits` pieces, each padded to its own
    longest text: the same batch, mean loss and gradient (up to rounding) with far less padding. A piece's `share` is
    its part of the step's targets on all ranks, so that the weighted losses sum to the step's mean loss. With
    `multiple`, sizes and lengths of pieces are multiples of that number: a little more padding, but fewer shapes, which
    helps libraries that compile one kernel per shape.
    """

    examples: Examples
    order: Tensor  # [steps · batch_size · accumulation], int64
    batch_size: int
    accumulation: int
    splits: int
    pad_id: int
    multiple: int = 1
    ranks: Ranks = ALONE

    def __call__(self, t: int) -> list[Batch]:
        """This rank's pieces of step t. All ranks have the same number, so that their collective operations match."""
        size = self.batch_size * self.accumulation
        index = self.order[(t - 1) * size : t * size]
        total = self.examples.count(index.tolist())
        return [
            collate(self.examples, piece, self.pad_id, self.length(piece), self.examples.count(piece) / total)
            for batch in index.split(self.batch_size)
            for piece in self.pieces(batch.tolist())
        ]

    def pieces(self, batch: list[int]) -> list[list[int]]:
        """This rank's pieces of a mini-batch. With n ranks, each takes every n-th example by length: balanced work."""
        texts, (index, count) = self.examples.input_ids, (self.ranks.index, self.ranks.count)
        if count > 1:
            batch = sorted(batch, key=lambda i: len(texts[i]))[index::count]
        return by_length(batch, texts, min(self.splits, self.batch_size // count), self.multiple)

    def length(self, piece: list[int]) -> int:
        """The padded length of a piece, at most that of the longest example, for which the model has positions."""
        longest = max(len(self.examples.input_ids[i]) for i in piece)
        return min(round_up(longest, self.multiple), self.longest)

    @cached_property
    def longest(self) -> int:
        return max(map(len, self.examples.input_ids))


def by_length(index: Sequence[int], texts: Sequence[Sequence[int]], splits: int, multiple: int = 1) -> list[list[int]]:
    """`index` sorted by the texts' lengths (stable) and cut into `splits` pieces, at most one per `multiple` examples.

    With splits = 1 the index is returned as it is.

    >>> by_length([0, 1, 2, 3], [[7] * 9, [7], [7] * 3, [7] * 2], splits=2)
    [[1, 3, 2], [0]]
    """
    if splits == 1:
        return [list(index)]
    ranked = sorted(index, key=lambda i: len(texts[i]))
    bounds = cuts([len(texts[i]) for i in ranked], min(splits, -(-len(ranked) // multiple)), multiple)
    return [ranked[a:b] for a, b in itertools.pairwise(bounds)]


def cuts(lengths: Sequence[int], pieces: int, multiple: int = 1) -> list[int]:
    """Bounds [pieces + 1] that cut ascending lengths into the pieces with the fewest tokens, padding included.

    Dynamic programming: the minimum for k pieces up to y is the minimum over x of the cost of k − 1 pieces up to x plus
    one piece from x to y, which costs (y − x) times its longest length. Of equal minima the first is chosen. With a
    `multiple`, sizes (except the last piece's) and padded lengths are multiples of it.

    >>> cuts([1, 2, 3, 9], pieces=2), cuts([1, 2, 3, 9], pieces=2, multiple=2)
    ([0, 3, 4], [0, 2, 4])
    """
    places = np.array([*range(0, len(lengths), multiple), len(lengths)])  # possible bounds
    size = places - places[:, None]  # [x, y] examples of a piece
    one = np.where(size > 0, size * round_up(np.array([0, *lengths])[places], multiple), np.inf)  # [x, y] its tokens
    least, starts = one[0], []  # [y] tokens of all pieces so far; per piece, [y] where it starts
    for _ in range(pieces - 1):
        through = least[:, None] + one
        starts.append(through.argmin(0))
        least = through.min(0)
    bounds = [len(places) - 1]
    for start in reversed(starts):
        bounds.append(int(start[bounds[-1]]))
    return [0, *(int(places[bound]) for bound in reversed(bounds))]


def round_up(count: Any, multiple: int) -> Any:
    """A number, or each number of an array, rounded up to a multiple.

    >>> round_up(9, 4), round_up(np.array([1, 8]), 4)
    (12, array([4, 8]))
    """
    return -(-count // multiple) * multiple
