"""Metrics of the user's own: functions that a claims file names, and that the command line has to allow.

    metrics:
      cost: my_metrics.cost      # or {function: my_metrics.cost, words: cost of errors, unit: EUR, scale: raw}

`my_metrics.py`, in the folder of the command or installed, has

    def cost(predicted: ablate.metrics.Predicted) -> float: ...

Claims name the quantity test_cost. Nothing is imported from a module that is not allowed: `--allow my_metrics` for
`python -m analysis`, `allow_targets=[my_metrics]` in a sweep.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.config.build import is_allowed
from ablate.config.checks import refusal
from ablate.config.start import enter_folder
from ablate.config.wording import excerpt, nearest
from ablate.files.hashing import file_sha256
from ablate.metrics import METRICS, Metric, Predicted, Unmeasurable
from ablate.schema import TASKS
from analysis.quantities.registry import SHIPPED, Quantity, of_test
from analysis.stats.scales import SCALES

METRIC_KEYS = ("function", "words", "unit", "scale", "higher_is_better")


@dataclass(frozen=True)
class OwnMetrics:
    """The section `metrics` of a claims file.

    quantities  those of the metrics, by name
    sources     name of a metric -> sha256 of the file that defines its function
    """

    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)


def own_metrics(section: Any, allow: Sequence[str] = ()) -> OwnMetrics:
    """Check the section `metrics` of a claims file.

    Raises ValueError for a function that is not allowed, does not exist, or cannot be called with predictions alone.
    """
    if not isinstance(section, Mapping):
        raise refusal("metrics", section, "a mapping of names to functions")
    quantities, sources = {}, {}
    for name, entry in section.items():
        metric, source = own_metric(f"metrics.{name}", str(name), entry, allow)
        quantities[f"test_{name}"] = of_test(metric)
        sources[str(name)] = source
    return OwnMetrics(quantities, sources)


def own_metric(key: str, name: str, entry: Any, allow: Sequence[str]) -> tuple[Metric, str]:
    """The metric of an entry, and the sha256 of its source."""
    entry = entry if isinstance(entry, Mapping) else {"function": entry}
    if unknown := [k for k in entry if k not in METRIC_KEYS]:
        raise ValueError(f"{key} has the unknown key {unknown[0]}; {nearest(str(unknown[0]), METRIC_KEYS)}")
    if not name.isidentifier() or name in METRICS or f"test_{name}" in SHIPPED:
        raise refusal(key, name, "a name of letters, digits and _ that no other metric has")
    function = resolved_function(f"{key}.function", entry.get("function"), allow)
    texts = {k: entry.get(k, default) for k, default in (("words", name.replace("_", " ")), ("unit", ""))}
    for part, text in texts.items():
        if not isinstance(text, str):
            raise refusal(f"{key}.{part}", text, "text")
    scale, higher = entry.get("scale", "raw"), entry.get("higher_is_better", True)
    if scale not in SCALES:
        raise refusal(f"{key}.scale", scale, f"one of {', '.join(SCALES)}")
    if not isinstance(higher, bool):
        raise refusal(f"{key}.higher_is_better", higher, "true or false")
    value = checked_value(key, str(entry["function"]), function)
    metric = Metric(name, texts["words"], TASKS, value, None, scale, higher, texts["unit"])
    return metric, file_sha256(Path(inspect.getsourcefile(function) or ""))


def resolved_function(key: str, target: Any, allow: Sequence[str]) -> Callable[[Predicted], float]:
    """The function that a dotted name stands for. Nothing is imported unless its module is allowed."""
    if not isinstance(target, str) or "." not in target:
        raise refusal(key, target, "a function with its module, such as my_metrics.cost")
    module, _, name = target.rpartition(".")
    if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in allow if allowed):
        raise ValueError(
            f"{refusal(key, target, 'a function of a module that is allowed')}: add --allow {module} to the command of "
            f"the analysis, or allow_targets=[{module}] to that of a sweep"
        )
    try:
        enter_folder()
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing a user's module can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{refusal(key, target, 'a function that can be imported')}: {reason}") from error
    if not inspect.isfunction(found) or not is_allowed(found.__module__, allow):
        raise refusal(key, target, "a function that is defined in a module that is allowed")
    try:
        inspect.signature(found).bind(object())
    except TypeError:
        raise refusal(
            key, f"{target}{inspect.signature(found)}", "a function of one argument, the predictions"
        ) from None
    return found


def checked_value(key: str, target: str, function: Callable[[Predicted], float]) -> Callable[[Predicted], float]:
    """The function, whose value must be a finite number. `Unmeasurable` stays a reason, any other error is refused."""

    def value(p: Predicted) -> float:
        try:
            found = function(p)
        except Unmeasurable:
            raise
        except Exception as error:  # a user's function can raise anything
            raise ValueError(f"{key}: {target} fails with {type(error).__name__}: {error}") from error
        try:
            number = math.nan if isinstance(found, (bool, str)) else float(found)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{key}: {target} must return a finite number (got {excerpt(found)})")
        return number

    return value
