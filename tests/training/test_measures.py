"""The gradient noise against its truth in a simulation, and against gradients that are computed anew."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ablate.data.batches import planned_order
from ablate.distributed.ranks import ALONE
from ablate.experiment import build_options, run_id
from ablate.trainer import Track, Trainer
from ablate.training.learner import make_batches, make_learner
from ablate.training.measures import GradientNoise
from ablate.training.step import train
from tests.tools import compose_config, compose_settings


def test_estimates_are_unbiased() -> None:
    """Gradients of examples with a known expectation and covariance: 4 mini-batches of 3 in 2 pieces each."""
    draw = np.random.default_rng(0)
    mean, deviation = np.array([0.3, -0.1, 0.2]), np.array([1.0, 0.5, 2.0])
    found = []
    for _ in range(4000):
        batches = (mean + deviation * draw.standard_normal((4, 3, 3))).mean(axis=1) / 4  # shares of a step's gradient
        parameter, noise = nn.Parameter(torch.zeros(3)), GradientNoise(8, 4, 12, ALONE)
        parameter.grad = torch.zeros(3)
        for piece in batches.repeat(2, axis=0) / 2:
            parameter.grad += torch.tensor(piece, dtype=torch.float32)
            complete = noise.complete({"w": parameter})
        assert complete
        found.append(noise.estimates())
    trace, signal = np.mean(found, axis=0)
    error = np.std(found, axis=0) / math.sqrt(len(found))
    assert abs(trace - (deviation**2).sum()) < 4 * error[0]
    assert abs(signal - (mean**2).sum()) < 4 * error[1]
    assert error[0] < 0.2 and error[1] < 0.02  # the control: the test can tell other values


def test_a_steps_rows_are_those_of_gradients_computed_anew() -> None:
    settings = compose_settings(
        "model=tiny", "data=synthetic", "trainer.threads=1", "trainer.batch_size=8", "trainer.grad_accumulation=3",
        "trainer.length_splits=2", "trainer.steps=2", "trainer.track.noise_every=2", "model.dropout=0",
    )  # fmt: skip
    from ablate.data.corpus import corpus
    from ablate.training.device import make_accelerator

    options = build_options(settings)
    texts = corpus(options.model, options.data)
    learner = make_learner(options, texts, 0, make_accelerator(options.trainer))
    order = planned_order(len(texts.train.label), 48, 0)
    batches = make_batches(options.trainer, texts.train, order, texts.tokenizer.pad_token_id)
    moments = train(learner, batches)
    assert not [row for row in next(moments).measures.rows if row[0].startswith("noise")]  # step 1
    squares = []
    for pieces, count in ((batches(2)[:2], 8), (batches(2), 24)):
        learner.optimizer.zero_grad()
        for piece in pieces:
            logits = learner.model(input_ids=piece.input_ids, attention_mask=piece.attention_mask).logits
            (F.cross_entropy(logits, piece.labels, reduction="sum") / count).backward()
        squares.append(sum(float(p.grad.double().square().sum()) for p in learner.trained.values()))
    learner.optimizer.zero_grad()
    moment = next(moments)
    small, whole = squares
    assert whole == pytest.approx(moment.row.grad_norm**2, rel=1e-4)
    found = {name: value for name, _, value in moment.measures.rows}
    assert found["noise_trace"] == pytest.approx((small - whole) / (1 / 8 - 1 / 24), rel=1e-3)
    assert found["noise_signal"] == pytest.approx((24 * whole - 8 * small) / 16, rel=1e-3, abs=1e-6)


def test_noise_needs_mini_batches_to_compare() -> None:
    message = r"^track\.noise_every must be null unless grad_accumulation is above 1 .* \(got 5\)$"
    for settings in ({}, {"grad_accumulation": 2, "distributed": "fsdp"}):
        with pytest.raises(ValueError, match=message):
            Trainer(track=Track(noise_every=5), **settings)
    assert Trainer(track=Track(noise_every=5), grad_accumulation=2).track.noise_every == 5
    with pytest.raises(ValueError, match=r"^noise_every must be null or a number of steps, at least 1 \(got 0\)$"):
        Track(noise_every=0)


def test_noise_that_is_not_measured_leaves_ids_as_they_were() -> None:
    ids = []
    for more in ((), ("trainer.track.noise_every=5",)):
        config = compose_config("model=tiny", "data=synthetic", "trainer.grad_accumulation=2", *more)
        settings = compose_settings("model=tiny", "data=synthetic", "trainer.grad_accumulation=2", *more)
        if not more:
            del settings["trainer"]["track"]["noise_every"]
            ids.append(run_id(settings, config.hydra.runtime.choices))
            settings["trainer"]["track"]["noise_every"] = None
        ids.append(run_id(settings, config.hydra.runtime.choices))
    assert ids[0] == ids[1] != ids[2]
