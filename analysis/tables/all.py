"""The paper's tables, filled by a study: §4.3 accuracy, §5.2 roles, the factorial, what the gain is made of, controls.

>>> for item in paper_tables(study, claims, findings):  # doctest: +SKIP
...     print(item.reason if isinstance(item, LeftOut) else to_markdown(item.words))
"""

from collections.abc import Callable, Iterator, Sequence

from analysis.claims.finding import Finding
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims
from analysis.quantities.outcomes import outcomes
from analysis.records.study import Study
from analysis.tables.accuracy import accuracy
from analysis.tables.attribution import anova_accuracy, anova_jitter, attribution
from analysis.tables.controls import controls
from analysis.tables.factorial import factorial
from analysis.tables.formats import LeftOut, Table
from analysis.tables.technique_effects import MEMORY, roles
from analysis.tables.techniques import Techniques, accuracy_questions

QUANTITIES = (
    *("test_accuracy", "parameters.ratio", *MEMORY, "clip_rate", "mean_delta_g"),
    *("probe_jitter", "loss_jitter", "mean_probe_loss", "steps_to_probe_loss"),
)
"""What the tables are made of."""

OF_TECHNIQUES: dict[str, Callable[[Techniques], Table]] = {
    "roles": roles,
    "anova_accuracy": anova_accuracy,
    "anova_jitter": anova_jitter,
    "attribution": attribution,
    "controls": controls,
}
"""Name of the files -> what makes the table out of the techniques that the claims file compares."""


def paper_tables(study: Study, claims: Claims, findings: Sequence[Finding]) -> Iterator[Table | LeftOut]:
    """All tables, each made when it is asked for, or why the runs do not allow it.

    `findings`: what the study says of `claims` (`analysis.claims.judge`).
    """
    measured = outcomes(study, QUANTITIES)

    def techniques() -> Techniques:
        widest = max(accuracy_questions(claims), key=lambda question: len(question.changes))
        return Techniques(study, measured, widest)

    yield made("accuracy", lambda: accuracy(study, measured, claims, findings))
    yield made("factorial", lambda: factorial(study, measured))
    for name, make in OF_TECHNIQUES.items():
        yield made(name, lambda make=make: make(techniques()))


def made(name: str, make: Callable[[], Table]) -> Table | LeftOut:
    try:
        return make()
    except Refused as reason:
        return LeftOut(name, str(reason))
