"""From the planned order to the pieces of a step: each example once, and the same gradient for any cut."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from ablate.data import batches as batches_module
from ablate.data.batches import Batch, Batches, Examples, by_length, cuts, grouped_order, planned_order

PAD = 0
EXAMPLES = Examples(
    input_ids=[[1 + i] * length for i, length in enumerate([5, 2, 9, 9, 3, 1, 7, 4, 2, 6, 8, 2])],
    label=[0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0],
    truncated=0,
)
ORDER = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 11, 10, 8, 7, 2, 3, 3, 0])


def batches(batch_size: int = 4, accumulation: int = 1, splits: int = 1, multiple: int = 1) -> Batches:
    return Batches(EXAMPLES, ORDER, batch_size, accumulation, splits, PAD, multiple)


def examples_of(pieces: list[Batch]) -> list[int]:
    """Example numbers, which the token ids encode."""
    return [int(row[0]) - 1 for piece in pieces for row in piece.input_ids]


@pytest.mark.parametrize("splits", [1, 2, 3, 4])
@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (4, 2), (8, 1), (5, 1)])
def test_step_t_takes_the_t_th_part_of_the_order(batch_size: int, accumulation: int, splits: int) -> None:
    made, size = batches(batch_size, accumulation, splits), batch_size * accumulation
    for t in range(1, len(ORDER) // size + 1):
        assert sorted(examples_of(made(t))) == sorted(ORDER[(t - 1) * size : t * size].tolist())


def test_accumulated_batches_are_cut_one_by_one() -> None:
    pieces = batches(4, accumulation=2, splits=2)(1)
    first, second = examples_of(pieces[:2]), examples_of(pieces[2:])
    assert (sorted(first), sorted(second)) == (sorted(ORDER[:4].tolist()), sorted(ORDER[4:8].tolist()))


def test_one_split_is_the_order_itself() -> None:
    assert examples_of(batches()(2)) == [5, 9, 2, 6]


@pytest.mark.parametrize("splits", [1, 2, 4])
def test_pieces_hold_texts_and_labels_padded_to_their_own_longest(splits: int) -> None:
    for piece in batches(splits=splits)(1):
        lengths = piece.attention_mask.sum(1)
        assert piece.input_ids.shape == piece.attention_mask.shape == (len(piece.labels), int(lengths.max()))
        for row, mask, label in zip(piece.input_ids, piece.attention_mask, piece.labels, strict=True):
            example = int(row[0]) - 1
            assert row[mask.bool()].tolist() == EXAMPLES.input_ids[example]
            assert set(row[~mask.bool()].tolist()) <= {PAD}
            assert int(label) == EXAMPLES.label[example]


def test_splits_save_padding() -> None:
    padded = [sum(piece.input_ids.numel() for piece in batches(8, splits=splits)(1)) for splits in (1, 2, 4)]
    assert padded == sorted(padded, reverse=True)
    assert padded[0] > padded[-1]


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=40)


@given(lengths=LENGTHS, splits=st.integers(1, 12), multiple=st.integers(1, 5))
def test_by_length_cuts_into_parts_from_short_to_long(lengths: list[int], splits: int, multiple: int) -> None:
    texts = [[0] * length for length in lengths]
    parts = by_length(range(len(texts)), texts, splits, multiple)
    joined = [i for part in parts for i in part]
    assert sorted(joined) == list(range(len(texts)))
    assert len(parts) == min(splits, math.ceil(len(texts) / multiple))
    assert all(parts)
    assert splits == 1 or all(len(part) % multiple == 0 for part in parts[:-1])
    if splits > 1:
        assert joined == sorted(range(len(texts)), key=lambda i: (lengths[i], i))  # ties stay in order


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9), multiple=st.integers(1, 4), data=st.data())
def test_no_other_cuts_take_fewer_tokens(lengths: list[int], multiple: int, data: st.DataObject) -> None:
    places = range(multiple, len(lengths), multiple)
    pieces = data.draw(st.integers(1, len(places) + 1))
    ranked = sorted(lengths)

    def tokens(bounds: Sequence[int]) -> int:
        return sum((b - a) * multiple * math.ceil(ranked[b - 1] / multiple) for a, b in itertools.pairwise(bounds))

    every = [(0, *inner, len(ranked)) for inner in itertools.combinations(places, pieces - 1)]
    assert tuple(cuts(ranked, pieces, multiple)) in every
    assert tokens(cuts(ranked, pieces, multiple)) == min(map(tokens, every))


def test_lengths_are_multiples_but_no_longer_than_the_longest_text() -> None:
    made = batches(8, splits=2, multiple=4)
    longest = max(map(len, EXAMPLES.input_ids))
    lengths = {piece.input_ids.shape[1] for t in (1, 2) for piece in made(t)}
    assert longest % 4  # else this would test nothing
    assert longest in lengths and len(lengths) > 1
    assert all(length % 4 == 0 for length in lengths - {longest})
    assert all(piece.attention_mask.sum(1).min() > 0 for piece in made(1))


@pytest.mark.parametrize(("splits", "multiple"), [(2, 1), (3, 1), (8, 1), (2, 4), (3, 2)])
def test_the_gradient_does_not_depend_on_the_splits(splits: int, multiple: int) -> None:
    torch.manual_seed(0)
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=64)
    model = BertForSequenceClassification(config).double().eval()

    def gradient(splits: int, multiple: int = 1) -> torch.Tensor:
        model.zero_grad()
        for piece in batches(8, splits=splits, multiple=multiple)(1):
            logits = model(input_ids=piece.input_ids, attention_mask=piece.attention_mask).logits
            (F.cross_entropy(logits, piece.labels) * (len(piece.labels) / 8)).backward()
        return torch.cat([p.grad.reshape(-1) for p in model.parameters()])

    torch.testing.assert_close(gradient(splits, multiple), gradient(1), rtol=1e-9, atol=1e-12)


CORPUS = st.lists(st.integers(1, 9), min_size=1, max_size=60)


def grouped(lengths: list[int], count: int, batch_size: int, seed: int = 0) -> list[int]:
    return grouped_order(lengths, count, seed, batch_size).tolist()


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "WINDOW", 3)


@given(lengths=CORPUS, batch_size=st.integers(1, 9), epochs=st.integers(1, 4), seed=st.integers(0, 99))
def test_grouped_by_length_every_example_occurs_once_per_epoch(
    lengths: list[int], batch_size: int, epochs: int, seed: int
) -> None:
    order, size = grouped(lengths, epochs * len(lengths), batch_size, seed), len(lengths)
    for epoch in range(epochs):
        assert sorted(order[epoch * size : (epoch + 1) * size]) == list(range(size))


@given(lengths=CORPUS, batch_size=st.integers(1, 9), counts=st.tuples(st.integers(1, 200), st.integers(1, 200)))
def test_the_grouped_order_is_a_prefix_of_a_longer_one(
    lengths: list[int], batch_size: int, counts: tuple[int, int]
) -> None:
    short, long = sorted(counts)
    assert grouped(lengths, short, batch_size) == grouped(lengths, long, batch_size)[:short]


@pytest.mark.usefixtures("small_windows")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=CORPUS, batch_size=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_window_is_sorted_cut_and_mixed(lengths: list[int], batch_size: int, seed: int) -> None:
    """Compare with an independent description: batch by batch, with sets and sorted lists."""
    size, count = len(lengths), 3 * len(lengths)
    plan, order = planned_order(size, count, seed).tolist(), grouped(lengths, count, batch_size, seed)
    starts = range(0, count - batch_size + 1, batch_size)
    inside = [start for start in starts if start // size == (start + batch_size - 1) // size]
    for start in set(starts) - set(inside):  # batches that span two epochs stay as planned
        assert order[start : start + batch_size] == plan[start : start + batch_size]
    for epoch in range(3):
        mine = [start for start in inside if start // size == epoch]
        for window in (mine[k : k + 3] for k in range(0, len(mine), 3)):
            planned = [i for start in window for i in plan[start : start + batch_size]]
            found = [order[start : start + batch_size] for start in window]
            assert sorted(planned) == sorted(i for batch in found for i in batch)
            place = {i: k for k, i in enumerate(planned)}
            ranked = sorted(found, key=lambda batch: (lengths[batch[0]], place[batch[0]]))
            assert [i for batch in ranked for i in batch] == sorted(planned, key=lambda i: (lengths[i], place[i]))
            firsts = [min(place[i] for i in batch) for batch in found]
            assert firsts == sorted(firsts)


def test_grouped_batches_save_padding_and_are_not_ordered_by_length() -> None:
    lengths = [1 + 7 * i % 40 for i in range(1600)]

    def longest(order: list[int]) -> list[int]:
        return [max(lengths[i] for i in order[k : k + 16]) for k in range(0, len(order), 16)]

    by_group, as_planned = longest(grouped(lengths, 1600, 16)), longest(planned_order(1600, 1600, 0).tolist())
    real = sum(lengths) / 16
    assert sum(by_group) < 1.05 * real
    assert sum(as_planned) > 1.7 * real  # the control
    rises = sum(a < b for a, b in itertools.pairwise(by_group))
    assert 30 < rises < 70  # of 99: neither up nor down


def test_another_seed_groups_other_examples() -> None:
    lengths = [1 + i % 5 for i in range(100)]
    assert grouped(lengths, 100, 4, seed=0) != grouped(lengths, 100, 4, seed=1)
