"""Which claim gives the tables the techniques that they compare."""

import pytest

from analysis.claims.reading import read_claims
from analysis.tables.techniques import primary_questions, widest
from tests.tools import ROOT


@pytest.mark.parametrize(
    ("claims", "question", "changes"),
    [("paper", "B", ("freeze", "clip", "scheduler")), ("known", "recipe+1", ("freeze",))],
)
def test_rates_and_nuisance_seeds_are_no_techniques(claims: str, question: str, changes: tuple[str, ...]) -> None:
    """In known.yaml, `same` changes the nuisance seed alone, and head+1 changes freeze and the rate."""
    found = widest(primary_questions(read_claims(ROOT / f"conf/claims/{claims}.yaml"), "accuracy"))
    assert (found.id, found.changes) == (question, changes)
