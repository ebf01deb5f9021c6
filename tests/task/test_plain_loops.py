"""Each kind of task trains bit for bit as a plain PyTorch loop does, and records what it should."""

import itertools
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from ablate.data.batches import Examples, cuts, planned_order
from ablate.data.corpus import corpus as read_corpus
from ablate.experiment import build_options
from ablate.model.loading import build_model
from ablate.seeds import stream
from ablate.training.dropout import FastDropout
from tests.task.data import ROWS, write
from tests.tools import compose_settings, run_settings

STEPS, BATCH, LR = 12, 8, 3e-3


def settings_of(folder: Path, kind: str, splits: int, *more: str) -> dict:
    return compose_settings(
        *write(folder, kind), "model=tiny", "clip=none", "scheduler=none", "freeze=none", "seed=3",
        f"optimizer.lr={LR}", f"trainer.steps={STEPS}", f"trainer.batch_size={BATCH}",
        f"trainer.length_splits={splits}", "trainer.threads=1", "trainer.skip_unread=false",
        "trainer.piece_multiple=1", *more,
    )  # fmt: skip


def padded(rows, value: int) -> torch.Tensor:
    tensors = [torch.as_tensor(row) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


def loss_and_targets(kind: str, model: torch.nn.Module, examples: Examples, index: list[int]):
    """The mean loss of a piece, and the number of targets that it is a mean over, as a user writes them."""
    ids = padded([examples.input_ids[i] for i in index], 0)
    mask = padded([torch.ones(len(examples.input_ids[i]), dtype=torch.long) for i in index], 0)
    more = {"token_type_ids": padded([examples.segments[i] for i in index], 0)} if examples.segments else {}
    logits = model(input_ids=ids, attention_mask=mask, **more).logits
    if kind == "regression":
        return F.mse_loss(logits[:, 0], torch.tensor([examples.label[i] for i in index])), len(index)
    if kind == "token_classification":
        labels = padded([examples.label[i] for i in index], -100)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1)), int((labels != -100).sum())
    if kind == "causal_lm":
        labels = torch.cat([ids.masked_fill(mask == 0, -100)[:, 1:], torch.full((len(index), 1), -100)], 1)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1)), int((labels != -100).sum())
    return F.cross_entropy(logits, torch.tensor([examples.label[i] for i in index])), len(index)


def plain_loop(kind: str, splits: int, examples: Examples, model: torch.nn.Module) -> list[float]:
    """The loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    order, dropout = planned_order(len(examples), STEPS * BATCH, stream("order", 3)), FastDropout(stream("dropout", 3))
    lengths = [len(ids) for ids in examples.input_ids]
    model.train()
    losses = []
    for t in range(1, STEPS + 1):
        index = order[(t - 1) * BATCH : t * BATCH].tolist()
        index = sorted(index, key=lambda i: lengths[i]) if splits > 1 else index
        bounds = cuts([lengths[i] for i in index], splits)
        pieces = [index[a:b] for a, b in itertools.pairwise(bounds)]
        total = (
            sum(int((torch.as_tensor(examples.label[i]) != -100).sum()) for i in index) if len(examples.label) else 0
        )
        total = total or sum(lengths[i] - 1 for i in index)
        optimizer.zero_grad()
        loss = 0.0
        with dropout.at(t):
            for piece in pieces:
                mean, count = loss_and_targets(kind, model, examples, piece)
                part = mean * (count / total)
                part.backward()
                loss = loss + part.detach()
        optimizer.step()
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("kind", ROWS)
def test_bit_identical_to_a_plain_loop(tmp_path: Path, kind: str, splits: int) -> None:
    settings = settings_of(tmp_path, kind, splits)
    run_settings(settings, tmp_path / "run")
    options = build_options(settings)
    texts = read_corpus(options.model, options.data, kind=options.task.kind)
    outputs = options.task.outputs(texts.classes)
    model = build_model(options.model, options.task.kind, outputs, 3, texts.tokenizer)
    losses = plain_loop(kind, splits, texts.train, model)
    assert pq.read_table(tmp_path / "run/steps.parquet")["loss"].to_pylist() == losses
    assert len(set(losses)) == STEPS
