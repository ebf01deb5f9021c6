"""The tables of a report: ablation, accuracy, factorial, roles of the techniques, attribution of the gain, controls.

>>> for item in report_tables(study, claims, findings):  # doctest: +SKIP
...     print(item.reason if isinstance(item, LeftOut) else to_markdown(item.words))
"""

from collections.abc import Callable, Iterator, Sequence

from analysis.claims.estimand import Settings
from analysis.claims.finding import Finding
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims
from analysis.quantities.outcomes import outcomes
from analysis.records.study import Study
from analysis.tables.ablation import ablation
from analysis.tables.accuracy import accuracy
from analysis.tables.attribution import anova_accuracy, anova_jitter, attribution
from analysis.tables.controls import controls
from analysis.tables.factorial import CELL_MEANS, factorial
from analysis.tables.formats import LeftOut, Table, made_or_left_out
from analysis.tables.technique_effects import ROLE_EVIDENCE, roles
from analysis.tables.techniques import Techniques, accuracy_questions, grid_questions

TECHNIQUE_TABLES: dict[str, Callable[[Techniques], Table]] = {
    "roles": roles,
    "anova_accuracy": anova_accuracy,
    "anova_jitter": anova_jitter,
    "attribution": attribution,
    "controls": controls,
}
"""Name of the files -> function that makes the table from the techniques that the claims file compares."""


def report_tables(study: Study, claims: Claims, findings: Sequence[Finding]) -> Iterator[Table | LeftOut]:
    """All tables, each made on demand, or the reason why the runs do not allow it.

    `findings`: the verdicts of the study on `claims`, from `analysis.claims.judge`.
    """
    shown = ("test_accuracy", "probe_jitter", *CELL_MEANS, *(evidence.quantity for evidence in ROLE_EVIDENCE))
    measured = outcomes(study, shown)

    def techniques() -> Techniques:
        widest = max(accuracy_questions(claims), key=lambda question: len(question.changes))
        return Techniques(study, measured, widest, grid_questions(claims))

    makers = {
        "ablation": lambda: ablation(study, reference_of(claims, study)),
        "accuracy": lambda: accuracy(study, measured, claims, findings),
        "factorial": lambda: factorial(study, measured),
        **{name: lambda make=make: make(techniques()) for name, make in TECHNIQUE_TABLES.items()},
    }
    for name, make in makers.items():
        yield made_or_left_out(name, make, Refused)


def reference_of(claims: Claims, study: Study) -> Settings | None:
    """The settings of the arm that a claims file with `compare` compares all others with; None for other files."""
    comparison = getattr(claims, "compare", None)
    if comparison is None or comparison.reference:
        return comparison and comparison.reference
    return next((arm for arm in study.arms.values() if not arm["nuisance"]), None)
