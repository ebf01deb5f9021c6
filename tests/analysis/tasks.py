"""Small studies of each kind of task, written without `ablate`: arms none and fixed, of which fixed predicts better."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.analysis.runs import evals_frame, write_run

TOPICS = ("arts", "economy", "sport")
TAGS = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
PRIMARY_OF = {
    "classification": "f1_macro",
    "regression": "spearman",
    "token_classification": "entity_f1",
    "causal_lm": "perplexity",
}
EXAMPLES = 60


def topic_frames(rng: np.random.Generator, skill: float) -> dict[str, pd.DataFrame]:
    """Three classes, the last with a tenth of the examples, and the probabilities of all."""
    label = np.minimum(np.arange(EXAMPLES) % 10 // 4, 2)
    logits = rng.normal(size=(EXAMPLES, 3)) + skill * np.eye(3)[label]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    prediction = probabilities.argmax(axis=1)
    columns = {"label": label, "prediction": prediction, "probability": probabilities.max(axis=1).astype(np.float32)}
    return {
        "predictions.parquet": pd.DataFrame({"example": np.arange(EXAMPLES), **columns}),
        "probabilities.parquet": pd.DataFrame(
            {
                "example": np.repeat(np.arange(EXAMPLES), 3),
                "label": np.tile(np.arange(3), EXAMPLES),
                "probability": probabilities.ravel().astype(np.float32),
            }
        ),
    }


def number_frames(rng: np.random.Generator, skill: float) -> dict[str, pd.DataFrame]:
    label = np.linspace(0, 5, EXAMPLES)
    prediction = 2.5 + 0.3 * skill * (label - 2.5) + rng.normal(0, 0.8, EXAMPLES)
    columns = {"example": np.arange(EXAMPLES), "label": label, "prediction": prediction}
    return {"predictions.parquet": pd.DataFrame(columns)}


def tag_frames(rng: np.random.Generator, skill: float) -> dict[str, pd.DataFrame]:
    """Sentences of 5 to 9 words with an entity of two words; each word's label is found with a chance of skill / 4."""
    rows = []
    for example in range(EXAMPLES):
        words = 5 + example % 5
        label = np.full(words, 4)
        kind = example % 2
        label[example % 3 : example % 3 + 2] = (kind, kind + 2)
        guess = rng.choice([kind, kind + 2, 4], words, p=[0.1, 0.1, 0.8])
        prediction = np.where(rng.random(words) < skill / 4, label, guess)
        rows += [(example, word, label[word], prediction[word], np.float32(0.7)) for word in range(words)]
    names = ["example", "word", "label", "prediction", "probability"]
    return {"predictions.parquet": pd.DataFrame(rows, columns=names).astype({"probability": np.float32})}


def block_frames(rng: np.random.Generator, skill: float) -> dict[str, pd.DataFrame]:
    baseline = rng.normal(5, 0.3, EXAMPLES)
    loss = baseline - 0.4 * skill + rng.normal(0, 0.2, EXAMPLES)
    columns = {"example": np.arange(EXAMPLES), "tokens": 50 + np.arange(EXAMPLES) % 7, "loss": loss}
    return {"predictions.parquet": pd.DataFrame({**columns, "baseline": baseline})}


FRAMES = {
    "classification": topic_frames,
    "regression": number_frames,
    "token_classification": tag_frames,
    "causal_lm": block_frames,
}
LABELS = {"classification": TOPICS, "token_classification": TAGS}


def scores_frame(primary: str, steps: int, start: float, end: float) -> pd.DataFrame:
    """The primary metric on the probe, and at the last step on validation and test."""
    t = np.arange(5, steps + 1, 5)
    probe = pd.DataFrame({"step": t, "split": "probe", "name": primary, "value": np.linspace(start, end, len(t))})
    last = [{"step": steps, "split": split, "name": primary, "value": end} for split in ("validation", "test")]
    return pd.concat([probe, pd.DataFrame(last)], ignore_index=True)


def task_frames(kind: str, seed: int, skill: float, steps: int = 20) -> dict[str, pd.DataFrame]:
    """The records of a run of a kind of task whose predictions are the better the higher its skill."""
    rng = np.random.default_rng([seed, round(10 * skill)])
    evals = evals_frame(steps, seed=seed)
    if kind in ("regression", "causal_lm"):
        evals["accuracy"] = np.nan
    ends = (90.0, 40.0) if kind == "causal_lm" else (0.1, 0.7)
    scores = scores_frame(PRIMARY_OF[kind], steps, *ends)
    return {"evals.parquet": evals, "scores.parquet": scores} | FRAMES[kind](rng, skill)


def write_task_run(study: Path, kind: str, clip: str, seed: int, skill: float, **entries: Any) -> Path:
    primary = PRIMARY_OF[kind]
    metrics = {"test_loss": 0.4, "validation_loss": 0.4, f"validation_{primary}": 40.0 if kind == "causal_lm" else 0.7}
    metrics |= {} if kind in ("regression", "causal_lm") else {"test_accuracy": 0.6, "validation_accuracy": 0.6}
    named = {"labels": list(LABELS[kind])} if kind in LABELS else {}
    frames = task_frames(kind, seed, skill) | entries.pop("frames", {})
    options = {"task": kind, "clip": clip}
    told = {"kind": kind, "primary": primary, "metrics": metrics, **named, **entries}
    told.setdefault("run", f"{clip}-s{seed}")
    return write_run(study, options, seed=seed, frames=frames, **told)


def write_task(study: Path, kind: str, seeds: int = 4) -> Path:
    for seed in range(seeds):
        for clip, skill in (("none", 1.5), ("fixed", 2.5)):
            started = {"timing": {"started": f"2026-01-01T00:0{seed}:0{clip == 'fixed':d}Z"}}
            write_task_run(study, kind, clip, seed, skill + 0.1 * (seed % 3), **started)
    return study
