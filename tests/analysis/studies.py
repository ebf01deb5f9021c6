"""Simulated studies, small ones and the paper's, and what a claims file says of them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from analysis.claims.contrast import Contrast
from analysis.claims.estimand import Sample
from analysis.claims.finding import Finding
from analysis.claims.judge import Judgement, judge_claims
from analysis.claims.looks import Look
from analysis.claims.reading import read_claims
from analysis.claims.samples import collect
from analysis.quantities.outcomes import outcomes
from analysis.records.study import load
from tests.analysis.runs import Truth, write_known, write_run

PAPER = Path(__file__).parents[2] / "conf" / "claims" / "paper.yaml"

MINIMAL = """
seeds: 10
claims:
  one:
    statement: clipping raises the accuracy
    quantity: test_accuracy
    scale: points
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: above
"""
"""A claims file of one claim: clip=fixed against none, in points of accuracy, on ten seeds."""

SIX = MINIMAL.replace("seeds: 10", "seeds: 6")
TUNED = SIX + "    contrast: tuned\n    over: {optimizer.lr: [1e-4, 2e-4, 4e-4]}\n"
"""The same with each arm at its best of three rates, RATES, on six seeds."""

RATES = (1e-4, 2e-4, 4e-4)

NOISE = np.array([-1.2, 0.9, 0.3, -0.5, 1.4, -0.8, 0.1, -1.0, 0.6, 0.2])
"""Of ten seeds: mean 0, sd 0.87."""

FROZEN = "embeddings_attention"
GRID = (2e-4, 4e-4, 8e-4, 1.6e-3)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def judged(study: Path, text: str = MINIMAL, earlier: Sequence[Look] = (), peek: bool = False) -> Judgement:
    """What a claims file, written beside the study's folder, comes to."""
    return judge_claims(load(study), read_claims(written(study.parent, text)), earlier, peek)


def finding(study: Path, text: str = MINIMAL) -> Finding:
    return judged(study, text).findings[0]


def sample_of(study: Path, text: str) -> tuple[Contrast, Sample]:
    """The contrast of a claims file's only claim, and its runs in a study."""
    loaded = load(study)
    (claim,) = read_claims(written(study.parent, text)).claims
    question = claim.questions[0]
    cells = question.contrast.cells(question, loaded)
    return question.contrast, collect(question, cells, loaded, outcomes(loaded, {question.quantity})).kept


def write_grid(study, gains, seeds=6):
    """`gains`: arm -> points of accuracy above 80 at each rate. Validation is the test accuracy and a point more."""
    for clip, of_rates in gains.items():
        for i, (rate, gain) in enumerate(zip(RATES, of_rates, strict=True)):
            for seed in range(seeds):
                test = 0.8 + (gain + NOISE[(seed + i + len(clip)) % 10]) / 100
                write_run(
                    study, {"clip": clip}, {"optimizer": {"lr": rate}}, seed=seed, run=f"{clip}-{i}-s{seed}",
                    metrics={"test_accuracy": test, "validation_accuracy": test + 0.01},
                )  # fmt: skip


def write_paper(study: Path, seeds: int = 10) -> None:
    """The factorial, the arms of §5.1 under two optimizers, another start of the head, a grid of learning rates, A/A.

    Techniques halve the noise of the probe loss and raise the accuracy; clipping slows, delay mends it under AdamW
    and does nothing under SGD; at high learning rates only the techniques learn.
    """
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        shift = draw.normal(0, 0.004)  # a seed is easier or harder for all arms

        def run(options, truth, seed=seed, shift=shift, draw=draw, spread=0.003, **entries):
            accuracy = truth.accuracy + shift + draw.normal(0, spread)
            slowness = truth.slowness * np.exp(draw.normal(0, 0.01))
            write_known(study, options, replace(truth, accuracy=accuracy, slowness=slowness), seed=seed, **entries)

        for freeze, clip, scheduler in product(("none", FROZEN), ("none", "fixed"), ("none", "warmup_linear")):
            on = (freeze != "none") + (clip != "none") + (scheduler != "none")
            truth = Truth(
                accuracy=0.80 + 0.01 * on + (0.03 if on == 3 else 0),
                loss_noise=0.16 if clip == scheduler == "none" else 0.05,
                probe_noise=0.02 * (0.5 if clip != "none" else 1) * (0.5 if clip != "none" and freeze != "none" else 1),
                slowness=60 * (1.15 if clip == "fixed" else 1),
            )
            spread = 0.02 if (clip, scheduler) == ("none", "none") else 0.002
            run({"freeze": freeze, "clip": clip, "scheduler": scheduler}, truth, spread=spread)
        for start in (15, 50):
            run({"clip": "delayed"}, Truth(slowness=60), settings={"clip": {"start": start}})
        for clip in ("none", "fixed", "delayed"):
            run({"clip": clip, "optimizer": "sgd"}, Truth(slowness=60 if clip == "none" else 75))
        run({}, Truth(classifier_norm=1.5), settings={"model": {"head_init": "default"}})
        run({}, Truth(loss_noise=0.16), nuisance=1)
        for lr in GRID:
            plain = Truth(accuracy=0.84 if lr < 8e-4 else 0.5)
            run({}, plain, settings={"optimizer": {"lr": lr}})
            both = {"clip": "fixed", "scheduler": "warmup_linear"}
            run(both, Truth(accuracy=0.85), settings={"optimizer": {"lr": lr}})


def write_two(study: Path, fixed: Sequence[float], none: Sequence[float], **entries: Any) -> None:
    """Arms clip=fixed and clip=none with these test accuracies on seeds 0, 1, …"""
    for clip, accuracies in (("none", none), ("fixed", fixed)):
        for seed, accuracy in enumerate(accuracies):
            write_run(study, {"clip": clip}, seed=seed, run=f"{clip}-s{seed}", accuracy=accuracy, **entries)
