"""A learner with several techniques resumes bit for bit, and each step moves what they say.

`tests/test_options.py` resumes each option alone.
"""

import io

import pytest
import torch
from torch import Tensor

from ablate.model.parameter_roles import role, unadapted
from ablate.trainer import Track
from ablate.training.learner import load_state, tracked_parameters
from ablate.training.step import train
from tests.training.test_step import small_learner

STEPS, BREAK = 8, 5
Weights = dict[str, Tensor]
ROWS = ("loss", "lr", "grad_norm", "grad_norm_clipped")


def weights(learner) -> Weights:
    return {name: p.detach().clone() for name, p in learner.model.named_parameters()}


def trained_through(learner, batches, first: int = 1, last: int = STEPS, states: dict | None = None):
    """The rows of steps first, ..., last, the weights after each, and the states after the last."""
    rows, after = [], []
    for moment in train(learner, batches, first, states):
        rows.append([getattr(moment.row, key) for key in ROWS])
        after.append(weights(learner))
        if moment.row.step == last:
            return rows, after, moment.states
    raise AssertionError(f"no step {last}")


def through_a_checkpoint(learner) -> tuple[Weights, dict]:
    file = io.BytesIO()
    torch.save((learner.trained, learner.optimizer.state_dict()), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(*overrides: str, with_optimizer: bool = True) -> bool:
    """Whether a run that stops at BREAK and goes on in another learner equals one without a stop, bit for bit."""
    overrides = (*overrides, f"trainer.steps={STEPS}", "scheduler.warmup=0.25")
    rows, after, _ = trained_through(*small_learner(*overrides))
    learner, batches = small_learner(*overrides)
    _, _, states = trained_through(learner, batches, last=BREAK)
    trained, optimizer = through_a_checkpoint(learner)
    second, batches = small_learner(*overrides)
    load_state(second, trained, optimizer if with_optimizer else {**optimizer, "state": {}})
    rest, end, _ = trained_through(second, batches, BREAK + 1, states=states)
    return rest == rows[BREAK:] and all(torch.equal(end[-1][name], p) for name, p in after[-1].items())


RESUMED = [
    ("optimizer.layer_decay=0.8", "optimizer.head_lr=0.01", "freeze=none"),
    ("optimizer=muon", "optimizer.layer_decay=0.8", "freeze=none"),
    ("freeze=lp_ft", f"freeze.steps={BREAK + 1}", "optimizer=muon"),
    ("adapter=lora", "freeze=none", "adapter.dropout=0.1", "optimizer.layer_decay=0.8"),
]


@pytest.mark.parametrize("overrides", RESUMED, ids="-".join)
def test_resumed_bit_for_bit(overrides: tuple[str, ...]) -> None:
    assert resumed(*overrides)


def test_without_the_optimizers_state_it_is_another_run() -> None:
    assert not resumed(*RESUMED[0], with_optimizer=False)


def moved(*overrides: str) -> list[set[str]]:
    """The parameters that each step changes. Weight decay is on, so that a parameter moves if it may."""
    learner, batches = small_learner(*overrides, f"trainer.steps={STEPS}", "scheduler=none", "clip=none")
    before = weights(learner)
    found = []
    for after in trained_through(learner, batches)[1]:
        found.append({name for name, p in after.items() if not torch.equal(p, before[name])})
        before = after
    return found


def beginning(*paths: str) -> set[str]:
    return {name for name in weights(small_learner("freeze=none")[0]) if name.startswith(paths)}


def test_gradual_unfreezing_moves_one_more_layer_at_a_time() -> None:
    steps = moved("freeze=gradual", "freeze.every=2")
    top = ("classifier", "bert.pooler")
    stages = [top, (*top, "bert.encoder.layer.1"), (*top, "bert.encoder")]
    assert steps == [beginning(*stage) for stage in (*stages, ("",)) for _ in range(2)]


def test_lp_ft_moves_the_head_and_then_everything() -> None:
    steps = moved("freeze=lp_ft", "freeze.steps=3")
    assert steps == [beginning("classifier")] * 3 + [beginning("")] * (STEPS - 3)


@pytest.mark.parametrize(("adapter", "added"), [("lora", "lora_"), ("dora", "lora_"), ("ia3", "ia3_l")])
def test_an_adapter_and_the_head_move_and_nothing_else(adapter: str, added: str) -> None:
    steps = moved(f"adapter={adapter}", "freeze=embeddings_attention")
    names = weights(small_learner(f"adapter={adapter}")[0])
    expected = {name for name in names if added in name or role(name).block == "head"}
    assert len(expected) > 2
    assert steps == [expected] * STEPS


def test_the_head_starts_the_same_with_an_adapter() -> None:
    plain, adapted = (weights(small_learner(f"adapter={each}")[0]) for each in ("none", "lora"))
    assert all(torch.equal(p, adapted[name]) for name, p in plain.items() if name.startswith("classifier"))


def test_tracked_weights_are_found_behind_an_adapter() -> None:
    names = list(weights(small_learner("adapter=ia3")[0]))
    mlp, classifier = tracked_parameters(Track(), names)
    assert mlp == "bert.encoder.layer.1.output.dense.base_layer.weight" and classifier == "classifier.weight"
    own = tracked_parameters(Track(mlp=unadapted(mlp)), names)
    assert own == (mlp, classifier)
    with pytest.raises(ValueError, match=r"^trainer.track.mlp must be null or the name of a parameter"):
        tracked_parameters(Track(mlp="bert.nothing"), names)


@pytest.mark.parametrize("fast", [("trainer.skip_unread=true",), ("trainer.linear=onednn", "model.hidden=64")])
def test_an_adapters_run_is_the_same_on_the_fast_paths(fast: tuple[str, ...]) -> None:
    """Equal up to rounding; without dropout, as a skipped token draws no mask."""
    settings = ("adapter=lora", "model.dropout=0", f"trainer.steps={STEPS}", *fast[1:])
    plain, _, _ = trained_through(*small_learner(*settings, "trainer.linear=torch", "trainer.skip_unread=false"))
    found, _, _ = trained_through(*small_learner(*settings, fast[0]))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(plain), rtol=1e-4, atol=1e-6)
