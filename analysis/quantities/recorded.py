"""Metrics of a table of results as quantities, which claims, tables and figures can name."""

from ablate.metrics import METRICS, Metric, Predicted, Unmeasurable
from ablate.schema import TASKS
from analysis.quantities.chance import Chance
from analysis.quantities.registry import REGISTRY, SHIPPED, Quantities, Quantity, heading_of, use_quantities
from analysis.records.study import ResultTable, Study, TableMetric


def use_quantities_of(study: Study, of_claims: Quantities | None = None) -> None:
    """Make the quantities of a study's table known, if it is one, and those of its claims (`use_quantities`)."""
    use_quantities(of_table(study.table) if study.table else {}, of_claims)


def of_table(table: ResultTable) -> dict[str, Quantity]:
    """The metrics of a table, each with one on the validation split, which the table may lack.

    One with the name of a quantity of runs is that quantity.
    """
    found = {}
    for metric in table.metrics:
        if metric.quantity not in SHIPPED:
            other = f"validation_{metric.quantity}"
            found[other] = quantity_of(TableMetric("", other, metric.scale, metric.higher_is_better))
    return found | {metric.quantity: quantity_of(metric) for metric in table.metrics}


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
