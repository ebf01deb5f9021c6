"""The schema of a run's records, shared by the code that writes them and by `analysis`, which reads them.

A run's folder holds run.json and its Parquet tables. Nothing heavy is imported here.
"""

import typing
from dataclasses import dataclass

SCHEMA = 1
"""Format number of run.json and the tables; raised when an older reader would misread them."""

FINISHED = ("done", "diverged")
UNFINISHED = ("running", "failed")
STATUSES = (*FINISHED, *UNFINISHED)

SETUP = ("optimizer", "model", "data", "trainer")
"""Factors that every run needs, whatever is studied."""

NO_TECHNIQUES = ("task", *SETUP)
"""Factors that are no techniques; every other one in run.json is. Runs of a classification lack `task`."""

NONE = "none"
"""The option of a factor that does nothing. A factor that a run lacks counts as this."""

TASKS = ("classification", "regression", "token_classification", "causal_lm")
"""Kinds of task. A run without a `kind` in its run.json is of the first."""

BLOCKS = ("embedding", "attention", "mlp", "final", "pooler", "head")
"""Parts of a model, from input to output: every parameter belongs to one (`ablate.model.parameter_roles`)."""

OTHER = "other"
"""In place of the block of a parameter whose role is unknown, as its model is of no known family."""

UNLABELLED = -100
"""Label of a token that is no target, as in torch's `cross_entropy(ignore_index=-100)`."""


@dataclass(frozen=True)
class Step:
    """A row of steps.parquet: one update.

    step        number of the update, from 1
    loss        mean loss of the task over the step's examples, words or tokens, before the update
    accuracy    share of them that are predicted correctly, 0 to 1; null in a regression
    lr          learning rate of the update: the largest, if the optimizer has groups with several
    grad_norm, grad_norm_clipped    L2 norm of the whole gradient before and after clipping
    delta_g     grad_norm − grad_norm_clipped
    mlp_..., classifier_...         the same norms of one tracked weight each; null where that weight is frozen
    examples, tokens                number in the step, on all ranks
    seconds     wall time; null for steps that were inherited from another run

    In runs of a user's own loop (`ablate.Recorder`), what the loop does not provide is null.
    """

    step: int
    loss: float
    accuracy: float | None
    lr: float | None
    grad_norm: float
    grad_norm_clipped: float | None
    delta_g: float | None
    mlp_grad_norm: float | None
    mlp_grad_norm_clipped: float | None
    classifier_grad_norm: float | None
    classifier_grad_norm_clipped: float | None
    examples: int | None
    tokens: int | None
    seconds: float | None


TABLES: dict[str, dict[str, object]] = {
    "steps": typing.get_type_hints(Step),
    "layers": {"step": int, "layer": int, "block": str, "grad_norm": float, "parameters": int},
    "evals": {"step": int, "split": str, "loss": float | None, "accuracy": float | None, "examples": int},
    "predictions": {"example": int, "label": int, "prediction": int, "probability": "float32"},
    "probe": {"step": int, "example": int, "loss": "float32"},
    "clusters": {"example": int, "cluster": int},
    "measures": {"step": int, "name": str, "place": str, "value": float},
    "scores": {"step": int, "split": str, "name": str, "value": float},
    "probabilities": {"example": int, "label": int, "probability": "float32"},
}
"""Table -> column -> type. The file is `<table>.parquet`; its first column numbers the rows.

`measures` are those of `ablate.training.measures`, `scores` the task's primary metric at each evaluation. Of
predictions, these are the columns of a classification: see PREDICTIONS.
`example` counts from 0: in probe the examples of the validation split, else those of the test split.
"""

PREDICTIONS: dict[str, dict[str, object]] = {
    "classification": TABLES["predictions"],
    "regression": {"example": int, "label": float, "prediction": float},
    "token_classification": {"example": int, "word": int, "label": int, "prediction": int, "probability": "float32"},
    "causal_lm": {"example": int, "tokens": int, "loss": float, "baseline": float},
}
"""Kind of task -> columns of its predictions.parquet.

word counts from 0 within its example; words beyond `data.max_length` are absent. An example of causal_lm is a block of
tokens: `tokens` of them are predicted, with a mean `loss` in nats, and `baseline` is the loss of a guess by the
frequencies of single tokens in the training split.
"""

WHERE_KNOWN = ("clusters", "measures", "scores", "probabilities")
"""Tables that a run writes only if it has rows for them.

`clusters`: the groups that `data.cluster` names. `scores`: where the primary metric is not the accuracy.
`probabilities`: of all classes, where there are more than two and not too many (`ablate.task.classification`).
"""

ADDED_TABLES = ("probe", *WHERE_KNOWN)
"""Tables that a run may lack, as those of earlier versions do. run.json's `records` lists the tables of each run."""
