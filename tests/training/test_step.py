"""The training loop is bit-identical to a plain PyTorch loop on CPU."""

import dataclasses
import itertools
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from ablate.data.batches import cuts, planned_order
from ablate.training.dropout import FastDropout
from ablate.training.norms import gradient_norms
from ablate.training.step import Diverged, train
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


def plain_loop(clip, scheduler, splits, corpus, model, order, dropout, norm_of):
    """The loop a user would write without `ablate`; returns the loss and norm of each step."""
    for name, p in model.named_parameters():
        p.requires_grad_("embeddings" not in name and "attention" not in name)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, fused=True)
    model.train()
    losses, norms = [], []
    for t in range(1, STEPS + 1):
        index = order[(t - 1) * 8 : t * 8].tolist()
        index = sorted(index, key=lambda i: len(corpus.train.input_ids[i])) if splits > 1 else index
        bounds = cuts([len(corpus.train.input_ids[i]) for i in index], splits)
        optimizer.zero_grad()
        loss = 0.0
        with dropout.at(t):
            for a, b in itertools.pairwise(bounds):
                ids = [torch.tensor(corpus.train.input_ids[i]) for i in index[a:b]]
                ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=0)
                labels = torch.tensor([corpus.train.label[i] for i in index[a:b]])
                logits = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
                part = F.cross_entropy(logits, labels) * (len(labels) / 8)
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
    from ablate.data.corpus import corpus as read_corpus
    from ablate.experiment import build_options
    from ablate.seeds import stream

    settings = compose_settings(
        "model=tiny", "data=synthetic", f"clip={clip}", f"scheduler={scheduler}", *CLIP_SETTINGS[clip], "seed=3",
        f"trainer.steps={STEPS}", "trainer.batch_size=8", f"trainer.length_splits={splits}", "trainer.threads=1",
        "trainer.skip_unread=false", "trainer.piece_multiple=1", f"nuisance={nuisance}",
        *(() if scheduler == "none" else ("scheduler.warmup=0.25",)),
    )  # fmt: skip
    run_settings(settings, tmp_path)
    options = build_options(settings)
    texts = read_corpus(options.model, options.data)
    model = options.model.build(texts.classes, 3, texts.tokenizer)
    order = planned_order(len(texts.train.label), STEPS * 8, stream("order", 3))
    losses, norms = plain_loop(clip, scheduler, splits, texts, model, order, FastDropout(stream("dropout", 3)), norm_of)
    return pq.read_table(tmp_path / "steps.parquet"), losses, norms


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("clip", CLIPS)
def test_bit_identical_to_a_plain_loop(tmp_path: Path, clip: str, scheduler: str, splits: int) -> None:
    table, losses, norms = both(tmp_path, clip, scheduler, splits)
    assert torch.equal(torch.tensor(table["loss"].to_pylist()), torch.tensor(losses))
    assert table["grad_norm"].to_pylist() == norms
    assert min(losses[-3:]) < losses[0]  # it learns, so equal losses are meaningful


def test_against_torchs_own_norm(tmp_path: Path) -> None:
    table, losses, norms = both(tmp_path, "fixed", "warmup_linear", 1, norm_of=torch_norm)
    assert table["grad_norm"].to_pylist() == pytest.approx(norms, rel=1e-3)
    assert table["loss"].to_pylist() == pytest.approx(losses, rel=1e-3)


def test_another_dropout_stream_is_another_run(tmp_path: Path) -> None:
    """The negative control: the equality above can fail."""
    table, losses, _ = both(tmp_path, "none", "none", 1, nuisance=1)
    assert not torch.equal(torch.tensor(table["loss"].to_pylist()), torch.tensor(losses))


def small_learner(*overrides: str):
    """A learner and its batches, ready for `train`."""
    from ablate.data.batches import Batches
    from ablate.data.corpus import corpus
    from ablate.experiment import build_options
    from ablate.training.device import make_accelerator
    from ablate.training.learner import make_learner

    settings = compose_settings("model=tiny", "data=synthetic", "trainer.threads=1", "trainer.batch_size=8", *overrides)
    options = build_options(settings)
    texts = corpus(options.model, options.data)
    learner = make_learner(options, texts, 0, make_accelerator(options.trainer))
    order = planned_order(len(texts.train.label), options.trainer.steps * 8, 0)
    batches = Batches(texts.train, order, 8, 1, options.trainer.length_splits, texts.tokenizer.pad_token_id)
    return learner, batches


@pytest.mark.parametrize("clip", ["clip=fixed", "clip=delayed"])
def test_norms_after_clipping_are_what_the_optimizer_sees(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = ["clip.start=5"] if clip == "clip=delayed" else []
    learner, batches = small_learner(clip, *start, "trainer.steps=10", "freeze=none", "optimizer.lr=0.01")
    seen = []
    update = learner.optimizer.step
    monkeypatch.setattr(
        learner.optimizer, "step", lambda: (seen.append(gradient_norms(learner.trained).total), update())
    )
    rows = [moment.row for moment in train(learner, batches)]
    assert [row.grad_norm_clipped for row in rows] == pytest.approx(seen, rel=1e-4)
    assert all(row.grad_norm_clipped <= 1 + 1e-6 for row in rows if row.step >= (5 if start else 1))
    assert all(row.delta_g == 0 and row.grad_norm_clipped == row.grad_norm for row in rows if start and row.step < 5)
    assert any(row.delta_g > 0 for row in rows)
    assert all(row.delta_g == pytest.approx(row.grad_norm - row.grad_norm_clipped) for row in rows)


def test_pieces_give_the_batchs_loss_and_gradient() -> None:
    """Up to rounding, with dropout off."""
    found = []
    for splits in (1, 4):
        learner, batches = small_learner("model.dropout=0", f"trainer.length_splits={splits}", "trainer.steps=1")
        moment = next(train(learner, batches))
        found.append((moment.row.loss, moment.norms))
    (loss, norms), (split_loss, split_norms) = found
    assert split_loss == pytest.approx(loss, rel=1e-5)
    assert split_norms.squares == pytest.approx(norms.squares, rel=1e-4, abs=1e-12)


def test_two_accumulated_batches_equal_one_of_twice_the_size(tmp_path: Path) -> None:
    """Two mini-batches of 4 have the mean loss and gradient of one step of 8, with dropout off."""
    tables = []
    for accumulation in (1, 2):
        settings = compose_settings(
            "model=tiny", "data=synthetic", "trainer.threads=1", "trainer.steps=2", "trainer.length_splits=1",
            f"trainer.batch_size={8 // accumulation}", f"trainer.grad_accumulation={accumulation}", "model.dropout=0",
        )  # fmt: skip
        run_settings(settings, tmp_path / str(accumulation))
        tables.append(pq.read_table(tmp_path / str(accumulation) / "steps.parquet"))
    one, two = tables
    assert one["examples"].to_pylist() == two["examples"].to_pylist() == [8, 8]
    for column in ("loss", "grad_norm", "accuracy"):
        assert two[column].to_pylist() == pytest.approx(one[column].to_pylist(), rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_precisions_run_in_one_process(precision: str, tmp_path: Path) -> None:
    settings = compose_settings(
        "model=tiny", "data=synthetic", "trainer.threads=1", "trainer.steps=3", "trainer.batch_size=8",
        f"trainer.precision={precision}", "freeze=none",
    )  # fmt: skip
    assert run_settings(settings, tmp_path)["status"] == "done"


@pytest.mark.parametrize(("lr", "cause"), [("1e20", "loss|gradient norm")])
def test_a_non_finite_loss_ends_the_run_before_the_update(lr: str, cause: str) -> None:
    learner, batches = small_learner(f"optimizer.lr={lr}", "trainer.steps=50", "freeze=none", "clip=none")
    last = 0
    with pytest.raises(Diverged, match=cause) as stopped:
        for moment in train(learner, batches):
            last = moment.row.step
            before = {name: p.detach().clone() for name, p in learner.trained.items()}
    assert stopped.value.step == last + 1
    assert all(torch.equal(p.nan_to_num(), before[name].nan_to_num()) for name, p in learner.trained.items())


def test_parameter_groups_keep_their_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head with ten times the rate of the rest keeps it in every step; the schedule multiplies both."""

    def two_groups(self, parameters):
        *rest, head = parameters
        return torch.optim.SGD([{"params": rest, "lr": self.lr}, {"params": [head], "lr": 10 * self.lr}])

    monkeypatch.setattr("ablate.optimizer.SGD.build", two_groups)
    learner, batches = small_learner("optimizer=sgd", "optimizer.lr=0.01", "trainer.steps=10")
    for moment in train(learner, batches):
        rest, head = (group["lr"] for group in learner.optimizer.param_groups)
        assert rest == 0.01 * learner.scheduler.factor(moment.row.step, 10)
        assert head == pytest.approx(10 * rest)


def test_a_factor_that_is_not_a_number_names_the_rule() -> None:
    """Without the check, every weight becomes NaN, and the next step is reported as a divergence."""

    class Wrong:
        def scale(self, norm: float, t: int, state: None) -> tuple[float, None]:
            return (float("nan") if t == 3 else 1.0), state

    learner, batches = small_learner("trainer.steps=5")
    steps = train(dataclasses.replace(learner, clips={"clip": Wrong()}), batches)
    assert [next(steps).row.step for _ in range(2)] == [1, 2]
    with pytest.raises(ValueError, match=r"Wrong returns must be in \(0, 1\] at step 3"):
        next(steps)
    assert all(p.isfinite().all() for p in learner.trained.values())
