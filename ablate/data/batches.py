"""From texts to the pieces of a step: token ids, the planned order of examples, padded batches."""

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
from transformers import PreTrainedTokenizerBase

from ablate.data.texts import Texts
from ablate.distributed.ranks import ALONE, Ranks

WINDOW = 50  # batches that are sorted together by `grouped_order`, as many as in transformers' sampler


@dataclass(frozen=True)
class Examples:
    """A tokenised split; `truncated` counts the texts that were longer than allowed."""

    input_ids: Sequence[Sequence[int]]
    label: list[int]
    truncated: int


@dataclass(frozen=True, eq=False)
class Batch:
    """LongTensors of B examples, padded on the right to one length, L."""

    input_ids: Tensor  # [B, L]
    attention_mask: Tensor  # [B, L], 1 = token, 0 = padding
    labels: Tensor  # [B]

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device))


def tokenise(texts: Texts, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
    """Token ids by a fast tokenizer, its special tokens included, at most `max_length` a text."""
    encoded = tokenizer(texts.text, truncation=True, max_length=max_length)
    truncated = sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    return Examples(encoded["input_ids"], texts.label, truncated)


def collate(examples: Examples, index: Sequence[int], pad_id: int, length: int = 0) -> Batch:
    """The examples `index` as one batch, padded to `length` tokens at least."""
    rows = [torch.tensor(examples.input_ids[i]) for i in index]
    lengths = torch.tensor([len(row) for row in rows])
    input_ids = pad_sequence(rows, batch_first=True, padding_value=pad_id)  # [B, L]
    input_ids = F.pad(input_ids, (0, max(0, length - input_ids.shape[1])), value=pad_id)
    mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()  # [B, L]
    return Batch(input_ids, mask, torch.tensor([examples.label[i] for i in index]))


def planned_order(examples: int, count: int, seed: int) -> Tensor:
    """The first `count` example numbers [count] of endless epochs, each a fresh permutation of 0..examples-1.

    Step t takes the next batch of them, across the edge of an epoch, too. The order for a smaller count is
    the head of that for a larger.
    """
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-count // examples)
    return torch.cat([torch.randperm(examples, generator=generator) for _ in range(epochs)])[:count]


def grouped_order(lengths: Sequence[int], count: int, seed: int, batch_size: int) -> Tensor:
    """`planned_order` of examples of these lengths, rearranged so that a batch holds examples of like length.

    The plan is cut into windows of 50 batches; the examples of a window are sorted by length and cut into batches,
    which come in the order in which the plan has the first example of each: at random, long and short ones mixed.
    Every example still comes once an epoch. No window reaches across the edge of an epoch: the batch that does, and
    so has examples of both, stays as planned. The idea is that of transformers' LengthGroupedSampler, which runs
    through a window from long to short and begins anew each epoch.

    >>> grouped_order([1, 5, 1, 5, 1, 5, 1, 5], count=8, seed=0, batch_size=4) % 2
    tensor([0, 0, 0, 0, 1, 1, 1, 1])
    """
    epochs = -(-count // len(lengths))
    order = planned_order(len(lengths), epochs * len(lengths), seed)
    length = torch.tensor(lengths)[order]
    for start, end in windows(len(lengths), epochs, batch_size):
        ranks = length[start:end].argsort(stable=True).view(-1, batch_size)  # [batches, B], places in the window
        order[start:end] = order[start:end][ranks[ranks.amin(1).argsort()].flatten()]
    return order[:count]


def windows(examples: int, epochs: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Start and end of runs of at most WINDOW batches, each batch whole and within one epoch."""
    for epoch in range(epochs):
        first = -(-epoch * examples // batch_size) * batch_size
        last = (epoch + 1) * examples // batch_size * batch_size
        for start in range(first, last, WINDOW * batch_size):
            yield start, min(start + WINDOW * batch_size, last)


@dataclass(frozen=True)
class Batches:
    """The batches of a run: step t (from 1) takes the t-th `batch_size · accumulation` of `order`.

    Each mini-batch of `batch_size` is sorted by length and cut into `splits` pieces, each padded to its own longest:
    the same batch, mean loss and gradient (to rounding), far less padding. Pieces whose sizes and lengths are multiples
    of a number pad a little more and come in fewer shapes, which is for libraries that compile a kernel for each.
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
        """This process's pieces of step t: as many on each, so that all come to the same points."""
        size = self.batch_size * self.accumulation
        index = self.order[(t - 1) * size : t * size]
        return [
            collate(self.examples, piece, self.pad_id, self.padded(piece))
            for batch in index.split(self.batch_size)
            for piece in self.pieces(batch.tolist())
        ]

    def pieces(self, batch: list[int]) -> list[list[int]]:
        """Of several processes each takes every so many-th example by length: like lengths, and like work."""
        texts, (index, count) = self.examples.input_ids, (self.ranks.index, self.ranks.count)
        if count > 1:
            batch = sorted(batch, key=lambda i: len(texts[i]))[index::count]
        return by_length(batch, texts, min(self.splits, self.batch_size // count), self.multiple)

    def padded(self, piece: list[int]) -> int:
        """The length of a piece: no longer than the longest of all examples, which the model has places for."""
        longest = max(len(self.examples.input_ids[i]) for i in piece)
        return min(up(longest, self.multiple), self.longest)

    @cached_property
    def longest(self) -> int:
        return max(map(len, self.examples.input_ids))


def by_length(index: Sequence[int], texts: Sequence[Sequence[int]], splits: int, multiple: int = 1) -> list[list[int]]:
    """`index` sorted by the texts' lengths (stable) in `splits` runs, or as many as there are multiples in it.

    As it is for splits = 1.

    >>> by_length([0, 1, 2, 3], [[7] * 9, [7], [7] * 3, [7] * 2], splits=2)
    [[1, 3, 2], [0]]
    """
    if splits == 1:
        return [list(index)]
    ranked = sorted(index, key=lambda i: len(texts[i]))
    bounds = cuts([len(texts[i]) for i in ranked], min(splits, -(-len(ranked) // multiple)), multiple)
    return [ranked[a:b] for a, b in itertools.pairwise(bounds)]


def cuts(lengths: Sequence[int], pieces: int, multiple: int = 1) -> list[int]:
    """Bounds [pieces + 1] of the pieces of ascending lengths that take the fewest tokens with their padding.

    By dynamic programming: the least for k pieces up to y is the least over x of that for k − 1 pieces up to x, and
    a piece from x to y, which takes y − x times its longest. The first of equals is taken. With a `multiple`, pieces
    have so many examples, twice as many and so on, but for what is left in the last, and are padded to such lengths.

    >>> cuts([1, 2, 3, 9], pieces=2), cuts([1, 2, 3, 9], pieces=2, multiple=2)
    ([0, 3, 4], [0, 2, 4])
    """
    places = np.array([*range(0, len(lengths), multiple), len(lengths)])
    size = places - places[:, None]  # [x, y]
    one = np.where(size > 0, size * up(np.array([0, *lengths])[places], multiple), np.inf)  # [x, y] tokens of a piece
    least, starts = one[0], []  # [y] tokens of all pieces so far, where the last of them starts
    for _ in range(pieces - 1):
        through = least[:, None] + one
        starts.append(through.argmin(0))
        least = through.min(0)
    bounds = [len(places) - 1]
    for start in reversed(starts):
        bounds.append(int(start[bounds[-1]]))
    return [0, *(int(places[bound]) for bound in reversed(bounds))]


def up(count: Any, multiple: int) -> Any:
    """The next multiple: of a number, or of each of an array.

    >>> up(9, 4), up(np.array([1, 8]), 4)
    (12, array([4, 8]))
    """
    return -(-count // multiple) * multiple
