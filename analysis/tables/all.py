"""The tables of a report: ablation, primary metric, factorial, roles of the techniques, attribution, controls.

>>> for item in report_tables(study, claims, findings):  # doctest: +SKIP
...     print(item.reason if isinstance(item, LeftOut) else to_markdown(item.words))
"""

from collections.abc import Callable, Iterator, Sequence

from analysis.claims.estimand import Settings
from analysis.claims.finding import Finding
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims
from analysis.quantities.by_class import shows_classes
from analysis.quantities.outcomes import outcomes
from analysis.quantities.recorded import use_quantities_of
from analysis.quantities.registry import primary_quantity
from analysis.records.study import Study
from analysis.tables.ablation import ablation
from analysis.tables.attribution import anova, anova_jitter, attribution
from analysis.tables.before_after import before_after
from analysis.tables.classes import classes
from analysis.tables.controls import controls
from analysis.tables.factorial import CELL_MEANS, factorial
from analysis.tables.formats import LeftOut, Table, made_or_left_out
from analysis.tables.technique_effects import ROLE_EVIDENCE, roles
from analysis.tables.techniques import Techniques, grid_questions, primary_questions, widest


def technique_tables(primary: str) -> dict[str, Callable[[Techniques], Table]]:
    """Name of the files -> function that makes the table from the techniques that the claims file compares."""
    return {
        "roles": roles,
        f"anova_{primary}": lambda techniques: anova(f"anova_{primary}", primary_quantity(primary), techniques),
        "anova_jitter": anova_jitter,
        "attribution": attribution,
        "controls": controls,
    }


def report_tables(study: Study, claims: Claims, findings: Sequence[Finding]) -> Iterator[Table | LeftOut]:
    """All tables, each made on demand, or the reason why the runs do not allow it.

    `findings`: the verdicts of the study on `claims`, from `analysis.claims.judge`.
    """
    use_quantities_of(study, claims.metrics.quantities)
    if study.table is not None:
        yield made_or_left_out("ablation", lambda: ablation(study, reference_of(claims, study)), Refused)
        return
    primary = study.primary
    shown = (f"test_{primary}", "probe_jitter", *CELL_MEANS, *(evidence.quantity for evidence in ROLE_EVIDENCE))
    measured = outcomes(study, shown)

    def techniques() -> Techniques:
        return Techniques(study, measured, widest(primary_questions(claims, primary)), grid_questions(claims))

    makers = {
        "ablation": lambda: ablation(study, reference_of(claims, study)),
        primary: lambda: before_after(study, measured, claims, findings),
        "factorial": lambda: factorial(study, measured),
        **({"classes": lambda: classes(study)} if shows_classes(study) else {}),
        **{name: lambda make=make: make(techniques()) for name, make in technique_tables(primary).items()},
    }
    for name, make in makers.items():
        yield made_or_left_out(name, make, Refused)


def reference_of(claims: Claims, study: Study) -> Settings | None:
    """The settings of the arm that a claims file with `compare` compares all others with; None for other files."""
    comparison = getattr(claims, "compare", None)
    if comparison is None or comparison.reference:
        return comparison and comparison.reference
    return next((arm for arm in study.arms.values() if not arm["nuisance"]), None)
