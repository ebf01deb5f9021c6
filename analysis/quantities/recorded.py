"""Metrics of a table of results as quantities, which claims, tables and figures can name."""

from ablate.metrics import METRICS, Metric, Predicted, Unmeasurable
from ablate.schema import TASKS
from analysis.quantities.chance import Chance
from analysis.quantities.registry import REGISTRY, Quantity, heading_of
from analysis.records.study import ResultTable, TableMetric

SHIPPED = frozenset(REGISTRY)
"""Names of the quantities of runs: a table's metric of such a name is that quantity."""


def add_table_metrics(table: ResultTable) -> None:
    """Add the metrics of a table to the registry, each with one on the validation split, which the table may lack."""
    for metric in table.metrics:
        if metric.quantity not in SHIPPED:
            REGISTRY[metric.quantity] = quantity_of(metric)
            other = f"validation_{metric.quantity}"
            if other not in SHIPPED and other not in {m.quantity for m in table.metrics}:
                REGISTRY[other] = quantity_of(TableMetric("", other, metric.scale, metric.higher_is_better))


def quantity_of(found: TableMetric) -> Quantity:
    """The quantity of a metric that is not one of a run's."""
    words = found.quantity.replace("_", " ").strip()
    higher = found.higher_is_better
    metric = Metric(found.quantity, words, TASKS, no_predictions, None, found.scale, higher is not False)
    heading = heading_of(metric, "")
    return Quantity(
        found.quantity, words, "", found.scale, diverged=as_recorded, metric=metric, higher_is_better=higher, **heading
    )


def no_predictions(p: Predicted) -> float:
    raise Unmeasurable("a table of results has no predictions")


def as_recorded(chance: Chance, planned: float, measured: float) -> float:
    """All rows of a table count, as it does not say which runs learned."""
    return measured


def table_quantities(table: ResultTable) -> list[Quantity]:
    """The quantities that a table has, in its order."""
    return [REGISTRY[metric.quantity] for metric in table.metrics]


def is_table_metric(name: str) -> bool:
    return name not in METRICS and name in REGISTRY and name not in SHIPPED
