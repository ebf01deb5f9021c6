"""Dropout as a function of stream and step: share of zeros, torch's formulas, independence of earlier draws."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, BertForSequenceClassification, DebertaV2Config, GPT2Config
from transformers import DebertaV2ForSequenceClassification as DebertaV2
from transformers import GPT2ForSequenceClassification as GPT2

from ablate.training.dropout import LEVELS, Dropout, FastDropout, Masks, TorchDropout, make_dropout, step_seed

ONES = torch.ones(400, 500)
SIZES = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 64}
GOLDEN = [1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0]
GOLDEN_SEED = 4032576983210384345
MODELS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES)),
    "gpt2": lambda: GPT2(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=64, pad_token_id=0)),
    "deberta": lambda: DebertaV2(DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"])),
}


def drawn(dropout: Dropout, t: int = 1, p: float = 0.1) -> Tensor:
    with dropout.at(t):
        return F.dropout(ONES, p)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_share_of_zeros_and_size_of_the_rest(p: float) -> None:
    noise = drawn(FastDropout(3), p=p)
    zeros, n = float((noise == 0).double().mean()), noise.numel()
    assert abs(zeros - p) < 5 * math.sqrt(p * (1 - p) / n)
    assert noise.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1 / LEVELS / (1 - p))
    assert noise.unique()[-1] * (1 - round(p * LEVELS) / LEVELS) == pytest.approx(1, rel=1e-6)  # the mean is kept


def test_entries_are_independent() -> None:
    """No correlation beyond chance between neighbours in a row or a column, or four entries apart (one 64-bit draw)."""
    zero = (drawn(FastDropout(0), p=0.5) == 0).double() - 0.5
    for a, b in [(zero[:, 1:], zero[:, :-1]), (zero[1:], zero[:-1]), (zero[:, 4:], zero[:, :-4])]:
        assert abs(float((a * b).mean()) * 4) < 5 / math.sqrt(a.numel())


def test_all_levels_are_equally_frequent() -> None:
    """Chi-square test over the high bytes (256 values) of a million draws."""
    draws = np.random.SFC64((1, 2)).random_raw(250_000).view(np.uint16) >> 8
    counts = np.bincount(draws, minlength=256)
    assert abs(float(((counts - counts.mean()) ** 2 / counts.mean()).sum()) - 255) < 5 * math.sqrt(2 * 255)


@pytest.mark.parametrize("kind", [FastDropout, TorchDropout])
def test_a_pure_function_of_stream_and_step(kind: type) -> None:
    first = drawn(kind(1), t=7)
    torch.rand(5), np.random.default_rng(0).random()  # earlier draws must have no effect
    drawn(kind(1), t=6)
    assert torch.equal(drawn(kind(1), t=7), first)
    for other in (drawn(kind(1), t=8), drawn(kind(2), t=7)):
        assert not torch.equal(other, first)


@given(seed=st.integers(0, 2**63 - 1), t=st.integers(1, 10**6))
def test_seeds_of_steps_differ(seed: int, t: int) -> None:
    assert len({step_seed(seed, t), step_seed(seed, t + 1), step_seed(seed ^ 1, t)}) == 3
    assert 0 <= step_seed(seed, t) < 2**63


def test_golden_draws() -> None:
    """A change would invalidate every study on disk. If you must change it, raise `ablate.experiment.NUMERICS`."""
    with FastDropout(5).at(3):
        assert (F.dropout(torch.ones(24), 0.5) > 0).int().tolist() == GOLDEN
    assert step_seed(5, 3) == GOLDEN_SEED


def test_two_layers_of_a_step_get_different_masks() -> None:
    with FastDropout(1).at(1):
        one, two = F.dropout(ONES, 0.1), F.dropout(ONES, 0.1)
    assert not torch.equal(one, two)


def test_values_and_gradient_have_the_same_mask() -> None:
    x = torch.randn(50, 50, requires_grad=True)
    with FastDropout(1).at(1):
        y = F.dropout(x, 0.3)
    y.sum().backward()
    assert torch.equal(y.detach(), x.detach() * x.grad)


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_p_of_0_and_1_are_left_to_torch(p: float) -> None:
    assert torch.equal(drawn(FastDropout(1), p=p), ONES * (p < 1))


def test_in_place_and_in_bfloat16() -> None:
    x = ONES.clone()
    with FastDropout(1).at(1):
        assert F.dropout(x, 0.1, inplace=True) is x
    assert torch.equal(x, drawn(FastDropout(1)))
    with FastDropout(1).at(1):
        assert F.dropout(ONES.bfloat16(), 0.1).dtype == torch.bfloat16


def masks(length: int) -> dict[str, dict]:
    boolean = torch.ones(2, 1, length, length, dtype=torch.bool)
    boolean[1, ..., -3:] = False
    nothing = boolean.clone()
    nothing[0, 0, 2] = False  # a fully masked query
    numbers = torch.randn(2, 4, length, length)
    return {
        "none": {},
        "boolean": {"attn_mask": boolean},
        "nothing": {"attn_mask": nothing},
        "numbers": {"attn_mask": numbers},
        "causal": {"is_causal": True},
        "scale": {"scale": 0.7},
    }


@pytest.mark.parametrize("case", masks(6))
@pytest.mark.parametrize("heads", [4, 2])
def test_attention_equals_torchs_without_dropout(case: str, heads: int) -> None:
    """p is so small that nothing is dropped, so that the formula can be compared with torch's."""
    query, key, value = torch.randn(2, 4, 6, 8), torch.randn(2, heads, 6, 8), torch.randn(2, heads, 6, 8)
    options = masks(6)[case] | {"enable_gqa": heads != 4}
    expected = F.scaled_dot_product_attention(query, key, value, **options)
    with FastDropout(1).at(1):
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=1e-9, **options)
    if case == "nothing":  # torch returns 0, we the mean of all values; both are finite, neither has a meaning
        expected[0, :, 2] = found[0, :, 2]
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected)


def test_attention_drops_weights() -> None:
    query, key, value = torch.randn(3, 2, 4, 6, 8).unbind()
    dropout = FastDropout(1)
    with dropout.at(1):
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=0.4)
    with dropout.at(1):
        expected = F.dropout((query @ key.mT / math.sqrt(8)).softmax(-1), 0.4) @ value
    torch.testing.assert_close(found, expected)


class Draws(TorchDispatchMode):
    """Counts random operations of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODELS)
def test_all_dropout_of_a_model_depends_on_the_step(name: str) -> None:
    """No torch operation draws. Two forward passes agree within a step and differ between steps."""
    torch.manual_seed(0)
    model: nn.Module = MODELS[name]().train()
    ids = torch.randint(1, 64, (3, 9))

    def logits(t: int) -> Tensor:
        with torch.no_grad(), FastDropout(1).at(t):
            return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits

    with Draws() as draws:
        found = logits(1)
    assert draws.count == 0
    assert torch.equal(found, logits(1))
    assert not torch.equal(found, logits(2))
    with Draws() as draws:  # the control
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert draws.count > 0


def test_freezing_does_not_change_the_draws() -> None:
    torch.manual_seed(0)
    model = MODELS["bert"]().train()
    ids, losses = torch.randint(1, 64, (3, 9)), []
    for trained in (True, False):
        for p in model.bert.embeddings.parameters():
            p.requires_grad_(trained)
        with FastDropout(1).at(1):
            loss = model(input_ids=ids, labels=torch.zeros(3, dtype=torch.long)).loss
            loss.backward()
        losses.append(loss.detach())
    assert torch.equal(*losses)


def test_evaluation_draws_nothing() -> None:
    with Masks(np.random.SFC64(0)) as mode:
        before = mode.bits.state["state"]["state"].copy()
        assert torch.equal(F.dropout(ONES, 0.5, training=False), ONES)
        F.scaled_dot_product_attention(*torch.randn(3, 2, 4, 6, 8))
        assert (mode.bits.state["state"]["state"] == before).all()


def test_source_of_masks_by_device_and_compilation() -> None:
    assert isinstance(make_dropout(1, torch.device("cpu"), compiled=False), FastDropout)
    assert isinstance(make_dropout(1, torch.device("cpu"), compiled=True), TorchDropout)
    assert isinstance(make_dropout(1, torch.device("cuda"), compiled=False), TorchDropout)
    algorithms = {make_dropout(1, torch.device(d), c).algorithm for d in ("cpu", "cuda") for c in (False, True)}
    assert len(algorithms) == 3
