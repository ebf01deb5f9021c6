"""The loop against a plain PyTorch loop, written out in full: bit for bit on CPU."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from ablate.batches import planned_order
from ablate.norms import gradient_norms
from tests.tools import compose_settings, run_settings

STEPS = 20
CLIPS = {"none": lambda norm, t: 1.0, "fixed": lambda norm, t: 0.5 / max(norm, 0.5),
         "delayed": lambda norm, t: 1.0 if t < 8 else 0.5 / max(norm, 0.5)}  # fmt: skip
SCHEDULERS = {
    "none": lambda t: 1.0,
    "warmup_linear": lambda t: t / 5 if t <= 5 else 1 - t / 30,
    "warmup_linear_hf": lambda t: t / 5 if t < 5 else (30 - t) / 25,
}
CLIP_SETTINGS = {"none": [], "fixed": ["clip.threshold=0.5"], "delayed": ["clip.start=8", "clip.rule.threshold=0.5"]}


def plain_loop(clip, scheduler, splits, corpus, model, order, dropout_seed, norm_of):
    """What a person would write without us; returns the losses and norms of each step."""
    for name, p in model.named_parameters():
        p.requires_grad_("embeddings" not in name and "attention" not in name)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, fused=True)
    model.train()
    torch.manual_seed(dropout_seed)
    losses, norms = [], []
    for t in range(1, STEPS + 1):
        index = order[(t - 1) * 8 : t * 8].tolist()
        if splits > 1:
            index = sorted(index, key=lambda i: len(corpus.train.input_ids[i]))
        optimizer.zero_grad()
        loss = 0.0
        for k in range(splits):
            piece = index[k * 8 // splits : (k + 1) * 8 // splits]
            ids = [torch.tensor(corpus.train.input_ids[i]) for i in piece]
            ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=0)
            labels = torch.tensor([corpus.train.label[i] for i in piece])
            logits = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
            part = F.cross_entropy(logits, labels) * (len(piece) / 8)
            part.backward()
            loss = loss + part.detach()
        norm = norm_of(model)
        for p in trained:
            p.grad.mul_(CLIPS[clip](norm, t))
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * SCHEDULERS[scheduler](t)
        optimizer.step()
        losses.append(float(loss))
        norms.append(norm)
    return losses, norms


def our_norm(model):
    return gradient_norms({name: p for name, p in model.named_parameters() if p.requires_grad}).total


def torch_norm(model):
    return float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))


def both(tmp_path, clip, scheduler, splits, norm_of=our_norm, nuisance=0):
    """The same run by `ablate` and by the plain loop: (steps table, losses, norms)."""
    from ablate.corpus import corpus as read_corpus
    from ablate.options import build_options
    from ablate.streams import stream

    settings = compose_settings(
        "model=tiny", "data=synthetic", f"clip={clip}", f"scheduler={scheduler}", *CLIP_SETTINGS[clip], "seed=3",
        f"trainer.steps={STEPS}", "trainer.batch_size=8", f"trainer.length_splits={splits}", "trainer.threads=1",
        *(() if scheduler == "none" else ("scheduler.warmup=0.25",)), f"nuisance={nuisance}",
    )  # fmt: skip
    run_settings(settings, tmp_path)
    options = build_options(settings)
    texts = read_corpus(options.model, options.data)
    model = options.model.build(texts.classes, 3, texts.tokenizer)
    order = planned_order(len(texts.train.label), STEPS * 8, stream("order", 3))
    losses, norms = plain_loop(clip, scheduler, splits, texts, model, order, stream("dropout", 3), norm_of)
    return pq.read_table(tmp_path / "steps.parquet"), losses, norms


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("clip", CLIPS)
def test_bit_identical_to_a_plain_loop(tmp_path: Path, clip: str, scheduler: str, splits: int) -> None:
    table, losses, norms = both(tmp_path, clip, scheduler, splits)
    assert torch.equal(torch.tensor(table["loss"].to_pylist()), torch.tensor(losses))
    assert table["grad_norm"].to_pylist() == norms
    assert min(losses[-3:]) < losses[0]  # it learns, so that equal losses say something
