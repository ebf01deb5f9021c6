"""Which columns of a table of results are the arms, the seed, the data set and the metrics: as given, or inferred.

Names decide first: `seed`, `dataset`, metrics that we know (`acc`, `eval/loss`) and usual settings (`lr`). Of the other
columns, text that repeats is a setting of the arms, and numbers with fractions that hardly repeat are a metric.
Anything else is ambiguous, and refused with the options that decide it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ablate.config.wording import count, nearest
from ablate.metrics import METRICS
from analysis.records.result_rows import ResultRows, cell_number, is_missing

SEEDS = ("seed", "random_seed", "rng_seed", "random_state", "manual_seed")
DATA_SETS = ("dataset", "data_set", "data", "dataset_name", "data_name", "corpus", "benchmark")
IDENTITIES = ("id", "name", "run", "run_id", "run_name", "index", "number", "timestamp", "time", "date", "created")
USUAL_SETTINGS = (
    *("lr", "learning_rate", "batch_size", "epochs", "steps", "max_steps", "weight_decay", "dropout", "momentum"),
    *(
        "warmup",
        "warmup_ratio",
        "warmup_steps",
        "threshold",
        "temperature",
        "rank",
        "alpha",
        "beta1",
        "beta2",
        "layers",
    ),
    *("depth", "width", "hidden_size", "max_length", "max_grad_norm", "label_smoothing", "k", "gamma"),
)
"""Names of columns, without what precedes the last dot or slash and in lower case."""

SPLIT_WORDS = ("test", "validation", "valid", "val", "dev", "eval", "train", "training", "final", "best")
"""Words in front of a metric's name that do not change what it is."""

MORE_METRICS: Mapping[str, tuple[str, bool]] = {
    **dict.fromkeys(("acc", "f1", "precision", "recall", "em", "exact_match", "top1", "top5"), ("points", True)),
    **dict.fromkeys(("auc", "mcc", "bleu", "rouge", "r2", "map", "mrr", "ndcg", "score", "reward"), ("raw", True)),
    **dict.fromkeys(("loss", "error", "nll", "ppl", "rmse", "wer", "cer", "bpc"), ("raw", False)),
}
"""Further metrics -> scale of their differences, and whether more is better."""


@dataclass(frozen=True)
class Chosen:
    """The roles that the user gives; None: to be inferred. unpaired: whether rows with the same seed are no pairs."""

    arms: Sequence[str] | None = None
    seed: str | None = None
    metrics: Sequence[str] | None = None
    dataset: str | None = None
    unpaired: bool | None = None


@dataclass(frozen=True)
class Roles:
    """The role of each column. `why`: column -> the reason, also for those that are ignored."""

    arms: tuple[str, ...]
    seed: str | None
    metrics: tuple[str, ...]
    dataset: str | None
    why: Mapping[str, str] = field(default_factory=dict)


def known_metric(name: str) -> tuple[str, bool] | None:
    """Scale and direction of a metric that we know by its name; None for another.

    >>> known_metric("eval/accuracy"), known_metric("val_loss"), known_metric("bleu_4"), known_metric("clip")
    (('points', True), ('raw', False), ('raw', True), None)
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    while len(words) > 1 and words[0] in SPLIT_WORDS:
        words = words[1:]
    first = words[:1] if all(word.isdigit() for word in words[1:]) else []
    for candidate in ("_".join(words), words[-1], *first):
        if metric := METRICS.get(candidate):
            return ("points" if metric.scale == "points" else "raw"), metric.higher_is_better
        if candidate in MORE_METRICS:
            return MORE_METRICS[candidate]
    return None


def last_name(column: str) -> str:
    """
    >>> last_name("params.Seed"), last_name("config/lr")
    ('seed', 'lr')
    """
    return re.split(r"[./]", column)[-1].strip().lower().replace("-", "_").replace(" ", "_")


def roles_in(rows: ResultRows, chosen: Chosen) -> Roles:
    """The role of each column. Raises ValueError for unknown columns, and where names and values do not decide."""
    check_chosen(rows, chosen)
    why: dict[str, str] = {name: reason for name, reason in rows.ignored.items()}
    seed = chosen.seed or column_named(rows, SEEDS, "seed", why)
    dataset = chosen.dataset or column_named(rows, DATA_SETS, "dataset", why)
    given = [*(chosen.arms or ()), *(chosen.metrics or ()), *filter(None, (chosen.seed, chosen.dataset))]
    why |= dict.fromkeys(given, "as given")
    found: dict[str, list[str]] = {"arms": [*(chosen.arms or ())], "metrics": [*(chosen.metrics or ())]}
    unclear = []
    for column in rows.columns:
        if column in why or column in (seed, dataset):
            continue
        role, reason = role_of(column, rows)
        if role in ("arms", "metrics") and getattr(chosen, role) is not None:
            role, reason = None, f"not in --{role}"
        why[column] = reason
        if role == "unclear":
            unclear.append(column)
        elif role:
            found[role].append(column)
    if unclear and not (chosen.arms is not None or chosen.metrics is not None):
        raise ValueError(
            f"{rows.path}: {', '.join(unclear)} may be settings of the arms or metrics, as numbers that repeat; type "
            f"which, for example {column_options([*found['arms'], *unclear], seed, found['metrics'], dataset)}"
        )
    for column in unclear:  # one of the two lists is given, so what it does not name belongs to the other
        role, other = ("metrics", "arms") if chosen.metrics is None else ("arms", "metrics")
        why[column] = f"numbers that repeat, not in --{other}"
        if getattr(chosen, role) is None:
            found[role].append(column)
    for role, what in (("arms", "settings of the arms"), ("metrics", "metrics")):
        if not found[role]:
            columns = [column for column in rows.columns if column not in (seed, dataset)]
            raise ValueError(
                f"{rows.path} must have columns with {what}, and none looks like one; name them with --{role}, for "
                f"example --{role} {columns[0] if columns else 'NAME'} (the columns are {', '.join(rows.columns)})"
            )
    return Roles(tuple(found["arms"]), seed, tuple(found["metrics"]), dataset, why)


def check_chosen(rows: ResultRows, chosen: Chosen) -> None:
    """Raise ValueError for a given column that the table lacks, or that has two roles."""
    given = [("--arms", chosen.arms or ()), ("--metrics", chosen.metrics or ())]
    given += [(f"--{name}", (value,)) for name in ("seed", "dataset") if (value := getattr(chosen, name))]
    role_of_column: dict[str, str] = {}
    for option, columns in given:
        for column in columns:
            if column not in rows.columns:
                known = nearest(column, rows.columns)
                raise ValueError(f"{option} must name columns of {rows.path} (got {column}); {known}")
            if column in role_of_column:
                raise ValueError(f"{column} must have one role (it is in {role_of_column[column]} and {option})")
            role_of_column[column] = option


def column_named(rows: ResultRows, names: Sequence[str], role: str, why: dict[str, str]) -> str | None:
    """The column with one of these names; None without one. Raises ValueError for several."""
    found = [column for column in rows.columns if last_name(column) in names and column not in why]
    if len(found) > 1:
        raise ValueError(f"{rows.path}: {' and '.join(found)} may each be the {role}; type --{role} {found[0]}")
    why.update({column: f"named {last_name(column)}" for column in found})
    return found[0] if found else None


def role_of(column: str, rows: ResultRows) -> tuple[str | None, str]:
    """The role of a column, "arms", "metrics", "unclear" or None for none, and why."""
    values = rows.columns[column]
    present = [value for value in values if not is_missing(value)]
    numbers = [number for value in present if (number := cell_number(value)) is not None]
    distinct = len({str(value) for value in values})
    numeric = 2 * len(numbers) > len(present)
    if column.startswith("Unnamed:") or (last_name(column) in IDENTITIES and 2 * distinct > len(values)):
        return None, "numbers or names the rows"
    if numeric and known_metric(column):
        return "metrics", "known as a metric by its name"
    if distinct == 1:
        return None, "the same in all rows"
    if last_name(column) in USUAL_SETTINGS:
        return "arms", "known as a setting by its name"
    mostly_distinct = 2 * distinct > len(values)
    if not numeric:
        if mostly_distinct and len(values) > 2:
            return None, "text that is different in most rows"
        return "arms", f"text with {count(distinct, 'value')}"
    if mostly_distinct and any(not number.is_integer() for number in numbers):
        return "metrics", "numbers with fractions that hardly repeat"
    return ("unclear", "numbers that repeat") if not mostly_distinct else (None, "whole numbers that hardly repeat")


def column_options(arms: Sequence[str], seed: str | None, metrics: Sequence[str], dataset: str | None) -> str:
    """The options that give these roles."""
    found = [f"--arms {','.join(arms)}" if arms else "", f"--seed {seed}" if seed else ""]
    found += [f"--metrics {','.join(metrics) or 'NAME'}", f"--dataset {dataset}" if dataset else ""]
    return " ".join(filter(None, found))
