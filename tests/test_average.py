"""Averages of the weights against torch.optim.swa_utils, by hand, and across a resume."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from ablate.average import Average, Ema, Nothing, Swa
from ablate.experiment import build_options
from ablate.sweep.preflight import warn_of_late_starts
from ablate.training.learner import load_state
from ablate.training.step import averaged_weights, train
from tests.tools import compose_settings
from tests.training.test_step import small_learner


def walk(model: nn.Module, steps: int) -> Any:
    """Steps 1, 2, ... after each of which the weights are others."""
    draw = torch.Generator().manual_seed(0)
    for t in range(1, steps + 1):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=draw))
        yield t


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def folded(rule: Average, steps: int) -> tuple[nn.Module, Any, list[dict[str, torch.Tensor]]]:
    """The model, the rule's state and all weights after some steps."""
    model, state, past = net(), None, []
    for t in walk(model, steps):
        state = rule.update(dict(model.named_parameters()), t, state)
        past.append({name: p.detach().clone() for name, p in model.named_parameters()})
    return model, state, past


@pytest.mark.parametrize(
    ("rule", "reference"), [(Ema(0.9), get_ema_multi_avg_fn(0.9)), (Swa(1), get_swa_multi_avg_fn())], ids=["ema", "swa"]
)
def test_averages_are_torchs_bit_for_bit(rule: Average, reference: Any) -> None:
    _, state, past = folded(rule, 20)
    model = net()
    expected = AveragedModel(model, multi_avg_fn=reference)
    for _ in walk(model, 20):
        expected.update_parameters(model)
    for name, p in expected.module.named_parameters():
        assert torch.equal(state["values"][name], p)
        assert not torch.allclose(state["values"][name], past[-1][name], rtol=0.1)  # the control


def test_ema_with_warm_up_by_hand() -> None:
    _, state, past = folded(Ema(0.5, warmup=True), 12)
    expected = past[0]
    for count, weights in enumerate(past[1:], start=1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = {name: decay * a + (1 - decay) * weights[name] for name, a in expected.items()}
    for name, value in state["values"].items():
        torch.testing.assert_close(value, expected[name])
        assert not torch.allclose(value, folded(Ema(0.5), 12)[1]["values"][name])


@pytest.mark.parametrize(("start", "every", "counted"), [(1, 1, range(1, 11)), (4, 3, (4, 7, 10)), (10, 5, (10,))])
def test_swa_is_the_equal_mean(start: int, every: int, counted: Any) -> None:
    _, state, past = folded(Swa(start, every), 10)
    assert state["count"] == len(counted)
    for name, value in state["values"].items():
        torch.testing.assert_close(value, torch.stack([past[t - 1][name] for t in counted]).mean(0))


@pytest.mark.parametrize("rule", [Ema(), Swa(2), Swa(99), Nothing()], ids=repr)
def test_evaluating_swaps_the_values_and_restores_them(rule: Average) -> None:
    model, state, past = folded(rule, 5)
    trained = dict(model.named_parameters())
    places = {name: p.data_ptr() for name, p in trained.items()}
    with pytest.raises(ZeroDivisionError), rule.evaluating(trained, state):
        for name, p in trained.items():
            expected = state["values"][name] if state else past[-1][name]
            assert torch.equal(p, expected)
        assert (state is None) == (rule in (Swa(99), Nothing()))
        raise ZeroDivisionError
    assert all(torch.equal(p, past[-1][name]) and p.data_ptr() == places[name] for name, p in trained.items())


def reloaded(state: Any) -> Any:
    """A copy as a checkpoint has it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("average", [("average=ema",), ("average=swa", "average.start=2", "average.every=2")])
def test_a_resumed_run_has_the_same_bits(average: tuple[str, ...]) -> None:
    """With an average, mixout and a clip rule whose state is per tensor."""
    chosen = (
        *average,
        "regularizer=mixout",
        "clip=adagc",
        "clip.warmup_steps=2",
        "trainer.steps=6",
        "optimizer.lr=0.01",
    )
    learner, batches = small_learner(*chosen)
    rows, kept = [], None
    for moment in train(learner, batches):
        rows.append((moment.row.loss, moment.row.grad_norm_clipped))
        if moment.row.step == 3:
            weights = {name: p.detach().clone() for name, p in learner.trained.items()}
            kept = reloaded((weights, learner.optimizer.state_dict(), moment.states))
    weights, optimizer, states = kept
    found = []
    for given in (copy.deepcopy(states), {}):
        again, batches = small_learner(*chosen)
        load_state(again, weights, copy.deepcopy(optimizer))
        moments = list(train(again, batches, first=4, states=given))
        found.append([(each.row.loss, each.row.grad_norm_clipped) for each in moments])
        same = [torch.equal(moments[-1].states["average"]["values"][name], moment.states["average"]["values"][name])
                for name in learner.trained]  # fmt: skip
        assert all(same) if given else not all(same)  # the control: without its state the average is another
    assert found[0] == rows[3:]
    assert moment.states["average"]["values"].keys() == learner.trained.keys()
    assert all(value.dtype == torch.float32 for value in moment.states["average"]["values"].values())
    with averaged_weights(learner, moment.states):
        assert not all(torch.equal(p, weights[name]) for name, p in learner.trained.items())


def test_an_average_that_begins_after_the_last_step_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    for start in (10, 11):
        settings = compose_settings(
            "model=tiny", "data=synthetic", "average=swa", f"average.start={start}", "trainer.steps=10"
        )
        with caplog.at_level("WARNING", logger="ablate"):
            warn_of_late_starts(build_options(settings))
        assert ("average.start=11 is beyond the last step" in caplog.text) == (start == 11)


def test_settings_out_of_range() -> None:
    for make, message in (
        (lambda: Ema(1.0), r"^decay must be a number in \[0, 1\) \(got 1\.0\)$"),
        (lambda: Swa(0), r"^start must be a step, at least 1 \(got 0\)$"),
        (lambda: Swa(every=0), r"^every must be a number of steps, at least 1 \(got 0\)$"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
