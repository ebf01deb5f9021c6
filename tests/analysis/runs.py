"""Synthetic run folders as DESIGN.md section 5 has them, written without `ablate`: no model, no training."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

LAYERS = [(None, "embedding"), (0, "attention"), (0, "mlp"), (1, "attention"), (1, "mlp"), (None, "head")]
SETTINGS = {
    "clip": {"fixed": {"threshold": 1.0}, "delayed": {"start": 50, "rule": "fixed", "rule.threshold": 1.0}},
    "scheduler": {"warmup_linear": {"warmup": 0.05, "horizon": 1.5}},
    "optimizer": {"adamw": {"lr": 1e-4, "betas": [0.9, 0.999]}},
    "data": {"synthetic": {"max_length": 64, "sha256": "0" * 64}},
}
OPTIONS = {
    **{"freeze": "none", "clip": "none", "scheduler": "none", "optimizer": "adamw"},
    **{"model": "tiny", "data": "synthetic", "trainer": "default"},
}


def steps_frame(steps: int, seed: int = 0, start: float = 0.7, end: float = 0.3, noise: float = 0.05) -> pd.DataFrame:
    """A loss that falls along an exponential from `start` to about `end` under noise; norms clipped at 1."""
    draw = np.random.default_rng(seed)
    t = np.arange(1, steps + 1)
    norm = np.exp(draw.normal(0.3, 0.5, steps))
    layer = np.exp(draw.normal(-0.2, 0.3, (2, steps)))
    return pd.DataFrame(
        {
            "step": t,
            "loss": end + (start - end) * np.exp(-5 * t / steps) + draw.normal(0, noise, steps),
            "accuracy": draw.integers(8, 17, steps) / 16,
            "lr": 1e-4,
            "grad_norm": norm,
            "grad_norm_clipped": np.minimum(norm, 1.0),
            "delta_g": np.maximum(0.0, norm - 1.0),
            "mlp_grad_norm": layer[0],
            "mlp_grad_norm_clipped": layer[0] / np.maximum(norm, 1.0),
            "classifier_grad_norm": layer[1],
            "classifier_grad_norm_clipped": layer[1] / np.maximum(norm, 1.0),
            "examples": 16,
            "tokens": draw.integers(200, 400, steps),
            "seconds": 0.25,
        }
    )


def layers_frame(steps: int, every: int = 10, seed: int = 0) -> pd.DataFrame:
    """Norms of every layer and block at steps every, 2·every, …"""
    recorded = np.arange(every, steps + 1, every)
    layer, block = zip(*LAYERS, strict=True)
    return pd.DataFrame(
        {
            "step": np.repeat(recorded, len(LAYERS)),
            "layer": pd.array(list(layer) * len(recorded), dtype="Int64"),
            "block": list(block) * len(recorded),
            "grad_norm": np.exp(np.random.default_rng(seed).normal(size=len(recorded) * len(LAYERS))),
            "parameters": 640,
        }
    )


def evals_frame(steps: int, probe_every: int = 5, seed: int = 0, noise: float = 0.01) -> pd.DataFrame:
    """The probe at steps probe_every, 2·probe_every, …; validation and test at the last."""
    t = np.arange(probe_every, steps + 1, probe_every)
    loss = 0.3 + 0.4 * np.exp(-5 * t / steps) + np.random.default_rng(seed).normal(0, noise, len(t))
    probe = pd.DataFrame({"step": t, "split": "probe", "loss": loss, "accuracy": 0.8, "examples": 32})
    last = [
        {"step": steps, "split": split, "loss": 0.4, "accuracy": 0.8, "examples": 40}
        for split in ("validation", "test")
    ]
    return pd.concat([probe, pd.DataFrame(last)], ignore_index=True)


def predictions_frame(accuracy: float = 0.8, examples: int = 40) -> pd.DataFrame:
    """Two balanced classes, of which the first round(accuracy · examples) are told rightly."""
    label = np.arange(examples) % 2
    wrong = np.arange(examples) >= round(accuracy * examples)
    return pd.DataFrame(
        {
            "example": np.arange(examples),
            "label": label,
            "prediction": np.where(wrong, 1 - label, label),
            "probability": np.full(examples, 0.9, np.float32),
        }
    )


def probe_frame(steps: int, probe_every: int = 5, seed: int = 0, examples: int = 32) -> pd.DataFrame:
    """The losses behind the probe's rows of `evals_frame`: their mean at each step is the loss there."""
    evals = evals_frame(steps, probe_every, seed)
    means = evals.loc[evals["split"] == "probe", ["step", "loss"]].to_numpy()
    own = np.random.default_rng([seed, 1]).uniform(-0.2, 0.2, (len(means), examples))
    losses = means[:, 1:] + own - own.mean(axis=1, keepdims=True)
    return pd.DataFrame(
        {
            "step": np.repeat(means[:, 0].astype(int), examples),
            "example": np.tile(np.arange(examples), len(means)),
            "loss": losses.ravel().astype(np.float32),
        }
    )


def write_run(
    study: Path,
    options: dict[str, str] | None = None,
    settings: dict[str, dict[str, Any]] | None = None,
    *,
    seed: int = 0,
    nuisance: int = 0,
    status: str = "done",
    steps: int = 20,
    accuracy: float = 0.8,
    run: str | None = None,
    frames: dict[str, pd.DataFrame] | None = None,
    **entries: Any,
) -> Path:
    """Write one run's folder and return it.

    Args:
        options, settings: of factors, where they differ from OPTIONS and SETTINGS.
        run: the folder's name, which is then also the id.
        frames: in place of the made-up records, by file name.
        entries: of run.json, in place of the usual ones.
    """
    chosen = OPTIONS | (options or {})
    factors = {
        factor: {
            "option": option,
            "settings": SETTINGS.get(factor, {}).get(option, {}) | (settings or {}).get(factor, {}),
        }
        for factor, option in chosen.items()
    }
    factors["trainer"]["settings"].setdefault("steps", steps)
    what = json.dumps([factors, seed, nuisance, entries.get("id")], sort_keys=True).encode()
    identity = entries.get("id") or run or hashlib.sha256(what).hexdigest()[:10]
    folder = study / (run or f"run-s{seed}-{identity}")
    folder.mkdir(parents=True)
    tables = {
        "steps.parquet": steps_frame(steps, seed),
        "layers.parquet": layers_frame(steps, seed=seed),
        "evals.parquet": evals_frame(steps, seed=seed),
        "predictions.parquet": predictions_frame(accuracy),
    } | (frames or {})
    content = {
        "schema": 1,
        "id": identity,
        "status": status,
        "factors": factors,
        "seed": seed,
        "nuisance": nuisance,
        "parameters": {"total": 1000, "trained": 500, "ratio": 0.5, "by_block": {"mlp": 400, "head": 100}},
        "memory_bytes": {"weights": 4000, "gradients": 2000, "optimizer": 4000},
        "pairing": {"batches": f"b{seed}", "head": f"h{seed}", "dropout": f"d{seed}.{nuisance}"},
        "claims": {"name": "paper", "sha256": "c" * 64},
        "metrics": {"test_accuracy": accuracy, "test_loss": 0.4},
        "forked_from": None,
        "numerics": 1,
        "environment": {"key": "e0", "threads": 1, "earlier": []},
        "timing": {"started": "2026-01-01T00:00:00Z"},
        "error": None,
        "records": {file: write_table(folder / file, frame) for file, frame in tables.items()},
    }
    write_json(folder, content | entries)
    return folder


def write_table(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    return {"rows": len(frame), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def write_json(folder: Path, content: Any) -> None:
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")


def change(folder: Path, **entries: Any) -> None:
    """Replace entries of a run.json."""
    write_json(folder, json.loads((folder / "run.json").read_text(encoding="utf-8")) | entries)


# --- A study whose truth is known ---

MOVIES = {"data": "movie_snippets", "model": "minilm", "freeze": "embeddings_attention"}
CHOSEN = {
    "fixed": {"threshold": 1.0},
    "delayed": {"start": 50, "rule": "fixed", "rule.threshold": 1.0},
    "warmup_linear": {"warmup": 0.05, "horizon": 1.5},
    "embeddings_attention": {"blocks": ["embedding", "attention"]},
    "movie_snippets": {"max_length": 128, "sha256": "d" * 64},
    "minilm": {"head_init": "xavier", "sha256": "m" * 64},
    "adamw": {"lr": 1e-4},
    "sgd": {"lr": 0.01, "momentum": 0.9},
    "default": {"batch_size": 16, "probe_every": 5},
}


@dataclass(frozen=True)
class Truth:
    """What an arm's runs are like. `accuracy` and `speed` are those of a seed's run, already with its chance part."""

    accuracy: float = 0.84
    loss_noise: float = 0.1
    probe_noise: float = 0.02
    slowness: float = 60.0
    mlp_norm: float = 0.7
    classifier_norm: float = 0.8
    delta_g_slope: float = 0.002
    ratio: float = 0.5232


def write_known(study: Path, options: dict[str, str], truth: Truth, *, seed: int, steps: int = 300, **run: Any) -> Path:
    """Write a run of the paper's study with the given options and truth; `run` as in write_run."""
    chosen = OPTIONS | MOVIES | options
    settings = {factor: CHOSEN.get(option, {}) for factor, option in chosen.items()}
    for factor, own in run.pop("settings", {}).items():
        settings[factor] = settings[factor] | own
    draw = np.random.default_rng([seed, *json.dumps([chosen, settings], sort_keys=True, default=list).encode()])
    return write_run(
        study,
        chosen,
        settings,
        seed=seed,
        steps=steps,
        accuracy=truth.accuracy,
        frames=known_frames(truth, steps, draw) | run.pop("frames", {}),
        parameters={"total": 22_713_986, "trained": 11_000_000, "ratio": truth.ratio},
        metrics={"test_accuracy": truth.accuracy, "test_loss": final_loss(truth)},
        **run,
    )


def final_loss(truth: Truth) -> float:
    return math.log(2) - (truth.accuracy - 0.5)


def known_frames(truth: Truth, steps: int, draw: np.random.Generator) -> dict[str, pd.DataFrame]:
    t = np.arange(1, steps + 1)
    delta = np.expm1(np.maximum(0.0, 0.3 + truth.delta_g_slope * t + draw.normal(0, 0.02, steps)))
    taught = steps_frame(steps).assign(
        loss=0.3 + 0.4 * np.exp(-t / truth.slowness) + draw.normal(0, truth.loss_noise, steps),
        grad_norm=1 + delta,
        delta_g=delta,
        mlp_grad_norm=truth.mlp_norm * np.exp(draw.normal(0, 0.3, steps)),
        classifier_grad_norm=truth.classifier_norm * np.exp(draw.normal(0, 0.2, steps)),
    )
    probe = np.arange(5, steps + 1, 5)
    evals = evals_frame(steps).assign(examples=32)
    is_probe = evals["split"] == "probe"
    evals.loc[is_probe, "loss"] = (
        0.3 + 0.4 * np.exp(-probe / truth.slowness) + draw.normal(0, truth.probe_noise, len(probe))
    )
    evals.loc[evals["split"] == "test", "loss"] = final_loss(truth)
    return {
        "steps.parquet": taught,
        "layers.parquet": layers_frame(0),
        "evals.parquet": evals,
        "predictions.parquet": predictions_frame(truth.accuracy, examples=200),
    }
