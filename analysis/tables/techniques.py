"""The arms that the tables compare: the techniques that a claim on the primary metric switches on, alone or together.

The arms come from the claims file, from its paired claim on the primary metric that changes the most techniques. The
control of that claim has all techniques off, its treatment has all on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.claims.contrasts import Contrast, Interactions, Paired
from analysis.claims.estimand import Settings
from analysis.claims.grid_contrasts import GridMean
from analysis.claims.pairing import Refused
from analysis.claims.reading import Claims, Question
from analysis.claims.samples import Collected, collect
from analysis.quantities.outcomes import Outcomes
from analysis.quantities.registry import Quantity, primary_quantity
from analysis.records.arms import is_under, overlaid
from analysis.records.study import Study
from analysis.stats.effects import Array

LEARNING_RATE = "optimizer.lr"
"""An arm may have a rate of its own, which is part of a technique and no technique."""


def primary_questions(claims: Claims, primary: str) -> list[Question]:
    """All paired questions on the primary metric and its usual scale, judged or shown, in the file's order.

    Raises Refused if there is none.
    """
    quantity = primary_quantity(primary)
    wanted = quantity.name, quantity.scale
    found = [
        question
        for claim in claims.claims
        for question in (*claim.questions, *claim.beside)
        if isinstance(question.contrast, Paired) and (question.quantity, question.scale) == wanted
    ]
    if not found:
        scale = "in points" if quantity.scale == "points" else f"on the {quantity.scale} scale"
        raise Refused(f"the claims file {claims.name} has no paired claim on {quantity.name} {scale}")
    return found


def widest(questions: Sequence[Question]) -> Question:
    """The first question that changes the most techniques, and little else."""
    no_techniques = {LEARNING_RATE, "nuisance"}

    def width(question: Question) -> tuple[int, int]:
        others = no_techniques.intersection(question.changes)
        return len(question.changes) - len(others), -len(others)

    return max(questions, key=width)


def grid_questions(claims: Claims) -> tuple[Question, ...]:
    """The questions next to a claim that change one technique and ask for the mean over a grid, in the file's order."""
    beside = [question for claim in claims.claims for question in claim.beside]
    return tuple(q for q in beside if isinstance(q.contrast, GridMean) and len(q.changes) == 1)


@dataclass(frozen=True, eq=False)
class Techniques:
    """The techniques that `question` switches: off in its control, on in its treatment.

    outcomes   of all runs
    on_grids   questions on one technique alone over a grid of settings, which the claims file has next to its claims
    """

    study: Study
    outcomes: Outcomes
    question: Question
    on_grids: tuple[Question, ...] = ()

    @property
    def factors(self) -> tuple[str, ...]:
        return self.question.changes

    def switched_on(self, factors: Sequence[str]) -> Settings:
        """The question's control, with these factors set as in its treatment."""
        on = {key: value for key, value in self.question.treatment.items() if is_under(key, factors)}
        return overlaid(self.question.control, on)

    def alone(self, factor: str, among: Sequence[str], quantity: Quantity) -> Collected:
        """Paired runs with `factor` on and off (in this order), `among` on in both, all others off. Raises Refused."""
        treatment, control = self.switched_on([*among, factor]), self.switched_on(among)
        return self.paired(treatment, control, (factor,), quantity)

    def paired(self, treatment: Settings, control: Settings, changes: tuple[str, ...], quantity: Quantity) -> Collected:
        """Paired runs of two arms that differ in `changes` only. Raises Refused."""
        return self._draw(Paired(), quantity, treatment=treatment, control=control, changes=changes)

    def factorial(self, quantity: Quantity, least: int) -> Array:
        """Values of all cells of the factors, (seeds, 2, …, 2), off before on, on the quantity's usual scale.

        Uses the seeds that have all cells; for a quantity that leaves out runs that did not learn, the seeds whose
        runs all learn. Raises Refused below `least` seeds.
        """
        cells = 2 ** len(self.factors)
        needed = f"needs all {cells} cells of {' × '.join(self.factors)} in at least {least} common seeds"
        try:
            drawn = self._draw(Interactions(), quantity)
            sample = drawn.kept
            if len(sample.seeds) < least:
                learning = "" if drawn.keeps else " whose runs all learn"
                raise Refused("; ".join([f"there are {len(sample.seeds)}{learning}", *drawn.notes]))
            values = sample.scale.forward(sample.values)
        except (Refused, ValueError) as reason:
            raise Refused(f"{needed}: {reason}") from reason
        return values.reshape(-1, *(2 for _ in self.factors))

    def _draw(self, contrast: Contrast, quantity: Quantity, **arms: object) -> Collected:
        measured = {"quantity": quantity.name, "scale": quantity.scale}
        question = replace(self.question, contrast=contrast, **measured, smallest=None, **arms)
        return collect(question, contrast.cells(question, self.study), self.study, self.outcomes)
