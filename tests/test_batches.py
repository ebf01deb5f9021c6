"""From the planned order to the pieces of a step: each example once, the same gradient however it is cut."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from ablate.batches import Batch, Batches, Examples, by_length

PAD = 0
EXAMPLES = Examples(
    input_ids=[[1 + i] * length for i, length in enumerate([5, 2, 9, 9, 3, 1, 7, 4, 2, 6, 8, 2])],
    label=[0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0],
    truncated=0,
)
ORDER = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 11, 10, 8, 7, 2, 3, 3, 0])


def batches(batch_size: int = 4, accumulation: int = 1, splits: int = 1) -> Batches:
    return Batches(EXAMPLES, ORDER, batch_size, accumulation, splits, PAD)


def examples_of(pieces: list[Batch]) -> list[int]:
    """Example numbers, which the words tell."""
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


@given(lengths=LENGTHS, splits=st.integers(1, 12))
def test_by_length_cuts_into_equal_parts_from_short_to_long(lengths: list[int], splits: int) -> None:
    texts = [[0] * length for length in lengths]
    parts = by_length(range(len(texts)), texts, splits)
    joined = [i for part in parts for i in part]
    assert sorted(joined) == list(range(len(texts)))
    assert len(parts) == min(splits, len(texts))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if splits > 1:
        assert joined == sorted(range(len(texts)), key=lambda i: (lengths[i], i))  # ties stay in order


@pytest.mark.parametrize("splits", [2, 3, 8])
def test_the_gradient_does_not_depend_on_the_splits(splits: int) -> None:
    torch.manual_seed(0)
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=64)
    model = BertForSequenceClassification(config).double().eval()

    def gradient(splits: int) -> torch.Tensor:
        model.zero_grad()
        for piece in batches(8, splits=splits)(1):
            logits = model(input_ids=piece.input_ids, attention_mask=piece.attention_mask).logits
            (F.cross_entropy(logits, piece.labels) * (len(piece.labels) / 8)).backward()
        return torch.cat([p.grad.reshape(-1) for p in model.parameters()])

    torch.testing.assert_close(gradient(splits), gradient(1), rtol=1e-9, atol=1e-12)
