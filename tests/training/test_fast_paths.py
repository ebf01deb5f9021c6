"""Each fast path is a run of its own, and resumes and forks bit for bit."""

import contextlib
import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from ablate.clip import Nothing
from ablate.run import progress, run
from ablate.run.fork import Snapshot, announce
from ablate.run.signals import Stopped, StopRequest
from ablate.training import step as training
from ablate.training.dropout import TorchDropout
from tests.faults.harness import ablate, output
from tests.tools import RECORDED, compose_settings, run_settings
from tests.training.test_step import small_learner

SMALL = (
    "model=tiny", "model.layers=1", "model.hidden=8", "data=synthetic", "freeze=none", "trainer.threads=1",
    "trainer.steps=8", "trainer.batch_size=4", "trainer.length_splits=2", "trainer.probe_every=4",
    "data.train_examples=20", "data.test_examples=10", "trainer.keep_checkpoint=true",
)  # fmt: skip
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++")
PATHS = ["data.group_by_length=true", "trainer.precision=bf16"]
EARLY = "early-0123456789"  # snapshots are believed of the run whose id ends the name
ONEDNN = "trainer.linear=onednn model.hidden=128"  # wide enough for oneDNN


def content(folder: Path) -> dict[str, Any]:
    """Everything in a finished run that must be equal."""
    tables = {t: pq.read_table(folder / f"{t}.parquet") for t in RECORDED}
    tables["steps"] = tables["steps"].drop_columns(["seconds"])
    end = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {**tables, **{n: p.tolist() for n, p in end["trained"].items()}}


def stop_after(step: int, settings: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Perform the run up to a step and stop it there, as a signal does."""
    request = StopRequest()

    def disturbed(*arguments: Any) -> Iterator[training.Moment]:
        for moment in training.train(*arguments):
            if moment.row.step == step:
                request.signum = signal.SIGTERM
            yield moment

    folder.mkdir(parents=True)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(run, "train", disturbed)
        run.perform(settings, "0123456789", folder, request)
    progress.close_display()


@pytest.mark.parametrize(
    "path", [*PATHS, ONEDNN, pytest.param("trainer.compile=true", marks=[needs_compiler, pytest.mark.long])]
)
def test_resumed_and_forked_bit_for_bit(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of twenty examples is five steps, so the second part starts within an epoch."""
    late = compose_settings(*SMALL, *path.split(), "clip=delayed", "clip.start=7", "clip.rule.threshold=0.1")
    early = compose_settings(*SMALL, *path.split(), "clip=none")
    run_settings(late, tmp_path / "alone" / "late")

    stop_after(3, late, tmp_path / "resumed" / "late", monkeypatch)
    assert run_settings(late, tmp_path / "resumed" / "late")["timing"]["resumed_from"] == 3
    assert content(tmp_path / "resumed" / "late") == content(tmp_path / "alone" / "late")

    announce(tmp_path / "forked" / ".shared", [Snapshot(EARLY, 6, ("late",), "stem")])
    run_settings(early, tmp_path / "forked" / EARLY)
    forked = run_settings(late, tmp_path / "forked" / "late")
    assert forked["forked_from"] == {"run": EARLY, "step": 6}
    assert content(tmp_path / "forked" / "late") == content(tmp_path / "alone" / "late")
    assert content(tmp_path / "forked" / EARLY) != content(tmp_path / "alone" / "late")  # the control: clipping acts


@pytest.mark.parametrize("path", PATHS)
def test_each_path_changes_the_run(path: str, tmp_path: Path) -> None:
    """The control of the test above: the option has an effect."""
    plain, fast = (run_settings(compose_settings(*SMALL, *more), tmp_path / str(len(more))) for more in ([], [path]))
    assert content(tmp_path / "0") != content(tmp_path / "1")
    same_order = plain["pairing"]["batches"] == fast["pairing"]["batches"]
    assert same_order == (path != "data.group_by_length=true")
    assert all(plain["pairing"][key] == fast["pairing"][key] for key in ("head", "dropout"))


def test_arms_of_a_seed_share_the_grouped_order(tmp_path: Path) -> None:
    found = {
        (clip, seed): run_settings(
            compose_settings(*SMALL, "data.group_by_length=true", f"clip={clip}", f"seed={seed}"), tmp_path / clip
        )["pairing"]["batches"]
        for clip, seed in (("none", 0), ("fixed", 0), ("fixed", 1))
    }
    assert found["none", 0] == found["fixed", 0] != found["fixed", 1]


def test_grouping_reuses_the_tokens() -> None:
    from ablate.data.corpus import Corpus, corpus
    from ablate.experiment import build_options

    plain, grouped, cut = (
        build_options(compose_settings(*SMALL, more))
        for more in ("data.group_by_length=false", "data.group_by_length=true", "data.max_length=5")
    )
    known: dict[str, Corpus] = {}
    first = corpus(plain.model, plain.data, known)
    assert corpus(grouped.model, grouped.data, known) is first
    assert corpus(cut.model, cut.data, known) is not first


def gradients(keep: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, torch.Tensor], float, int]:
    """One bf16 step in four pieces: its gradients as the optimizer gets them, its loss, its number of casts."""
    learner, batches = small_learner("trainer.precision=bf16", "trainer.steps=1", "freeze=none", "clip=none")
    seen: dict[str, torch.Tensor] = {}
    with monkeypatch.context() as patch:
        if not keep:
            patch.setattr(training, "shared_casts", lambda learner: contextlib.nullcontext())
        patch.setattr(learner.optimizer, "step", lambda: seen.update({n: p.grad for n, p in learner.trained.items()}))
        patch.setattr(learner.optimizer, "zero_grad", lambda: None)
        assert learner.clips == {"clip": Nothing()}
        with torch.profiler.profile() as profile:
            (moment,) = training.train(learner, batches)
    casts = sum(event.count for event in profile.key_averages() if event.key == "aten::_to_copy")
    return seen, moment.row.loss, casts


def test_kept_casts_give_the_same_gradients_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16 the weight and bias of each linear layer are cast once per step, not once per piece."""
    plain, kept = (gradients(keep, monkeypatch) for keep in (False, True))
    assert plain[0].keys() == kept[0].keys()
    assert all(torch.equal(plain[0][name], kept[0][name]) for name in plain[0])
    assert plain[1] == kept[1]
    linear = 2 * 6 + 2  # in two layers, the pooler and the classifier
    assert plain[2] - kept[2] == 3 * 2 * linear


@pytest.mark.slow
@needs_compiler
def test_a_compiled_model_keeps_its_names_and_draws_other_dropout(tmp_path: Path) -> None:
    short = (*SMALL, "trainer.steps=2", "trainer.length_splits=1", "trainer.probe_every=2")
    plain, fast = (compose_settings(*short, f"trainer.compile={setting}") for setting in ("false", "true"))
    records = [run_settings(settings, tmp_path / str(k)) for k, settings in enumerate((plain, fast))]
    names = [content(tmp_path / str(k)).keys() for k in (0, 1)]
    assert names[0] == names[1]
    assert records[0]["parameters"] == records[1]["parameters"]
    drawn = [record["pairing"]["dropout"].split(maxsplit=1) for record in records]
    assert drawn == [["sfc64", seed := drawn[0][1]], ["torch", f"{seed}, compiled"]]
    first = [pq.read_table(tmp_path / str(k) / "steps.parquet")["loss"][0].as_py() for k in (0, 1)]
    assert first[0] != first[1] and first[0] == pytest.approx(first[1], abs=0.3)


def lose_compiler() -> None:
    """In the child: as in an environment with CXX=no-such-compiler and nothing compiled so far."""
    from torch._inductor import config

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path("cache").absolute())
    config.cpp.cxx = (None, "no-such-compiler")


def test_no_compiler_is_an_error_before_any_work(tmp_path: Path) -> None:
    assert ablate(tmp_path, *SMALL, "trainer.compile=true", "study=s", fault=lose_compiler) == 1
    assert "trainer.compile must be false where torch.compile fails (got true): " in output(tmp_path)
    assert not list(tmp_path.glob("outputs/s/*/*.parquet"))


def one_step(*overrides: str, dropout: TorchDropout) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of one step, and the bytes that its forward pass kept for backward, parameters excluded."""
    learner, batches = small_learner("trainer.steps=1", "freeze=embeddings_attention", "clip=none", *overrides)
    learner = dataclasses.replace(learner, dropout=dropout)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.data_ptr() if tensor.layout == torch.strided else id(tensor)  # oneDNN tensors have no pointer
        kept[place] = tensor.numel() * tensor.element_size()
        return tensor

    seen: dict[str, torch.Tensor] = {}
    learner.optimizer.step = lambda: seen.update({n: p.grad.clone() for n, p in learner.trained.items()})
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        list(training.train(learner, batches))
    return seen, sum(kept.values())


@pytest.mark.parametrize("path", ["trainer.linear=torch", ONEDNN])
def test_gradient_checkpointing_keeps_less_and_gives_the_same_bits(path: str) -> None:
    """Layers that run twice must draw the same dropout twice, also behind frozen embeddings."""
    six = ("model.layers=6", *path.split())
    plain, whole = one_step(*six, dropout=TorchDropout(1))
    again, less = one_step(*six, "trainer.gradient_checkpointing=true", dropout=TorchDropout(1))
    other, _ = one_step(*six, dropout=TorchDropout(2))
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert not all(torch.equal(plain[name], other[name]) for name in plain)  # the control: dropout is on
    assert less < whole / 2


def test_gradient_checkpointing_asks_torch_for_its_dropout() -> None:
    learner, _ = small_learner("trainer.gradient_checkpointing=true")
    assert isinstance(learner.dropout, TorchDropout)
