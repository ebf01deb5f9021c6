"""Figures of claims: the best arm by budget, and the curve of specifications."""

import pytest

from analysis.claims.finding import Finding
from analysis.claims.judge import judge_claims
from analysis.claims.reading import Claims, claims_of
from analysis.figures.all import claim_figures, drawn
from analysis.figures.budget import best_by_budget
from analysis.records.study import load
from analysis.tables.formats import LeftOut
from tests.analysis.claims.test_specifications import CLAIMS, write_rates
from tests.analysis.figures.test_all import problems_of

# --- Best by budget ---


def tuned(name: str, quantity: str, treatment: list[float], control: list[float], **more: object) -> Finding:
    details = {"validation": quantity, "treatment": {"by_budget": treatment}, "control": {"by_budget": control}}
    arms = {"treatment": {"clip": "fixed"}, "control": {"clip": "none"}}
    return Finding(name, "clipping helps once each arm is tuned " * 3, None, **arms, details=details, **more)


ACCURACY = tuned("T", "validation_accuracy", [0.8, 0.85, 0.87], [0.82, 0.84, 0.845])
LOSS = tuned("L", "validation_loss", [0.5, 0.4, 0.35, 0.34], [0.45, 0.44, 0.43, 0.42])


def test_a_panel_per_claim_and_a_line_per_arm() -> None:
    item = drawn("best_by_budget", lambda: best_by_budget([ACCURACY, LOSS]))
    assert [len(ax.lines) for ax in item.figure.axes] == [2, 2]
    assert [ax.get_ylabel() for ax in item.figure.axes] == [
        "expected best\nvalidation accuracy (%)",
        "expected best\nvalidation loss (nats)",
    ]
    names = [text.get_text() for text in item.figure.legends[0].get_texts()]
    assert names == ["clip=fixed", "clip=none"] == list(dict.fromkeys(item.data["arm"]))
    of_fixed = item.data[(item.data["id"] == "T") & (item.data["arm"] == "clip=fixed")]
    assert of_fixed["expected_best"].tolist() == pytest.approx([80, 85, 87])
    assert item.data.loc[item.data["id"] == "L", "expected_best"].tolist()[:4] == [0.5, 0.4, 0.35, 0.34]
    assert problems_of(item.figure) == []


def test_many_claims_are_in_rows_of_three() -> None:
    findings = [tuned(name, "validation_accuracy", [0.8] * 16, [0.7] * 16) for name in "ABCD"]
    item = drawn("best_by_budget", lambda: best_by_budget(findings))
    assert len(item.figure.axes) == 4 and problems_of(item.figure) == []


def test_it_is_absent_with_a_reason() -> None:
    other, exploratory = Finding("B", "up", None), tuned("T", "validation_loss", [1.0], [1.0], exploratory=True)
    found = drawn("best_by_budget", lambda: best_by_budget([other, exploratory], claims("paired")))
    assert found == LeftOut("best_by_budget", "no claim is tuned (contrast: tuned)")
    waiting = drawn("best_by_budget", lambda: best_by_budget([other], claims("tuned")))
    assert waiting == LeftOut("best_by_budget", "no effect of a tuned claim is shown yet (B)")


def claims(contrast: str) -> Claims:
    claim = {
        **{"statement": "up", "quantity": "test_accuracy", "scale": "points", "treatment": {"clip": "fixed"}},
        **{"control": {"clip": "none"}, "changes": ["clip"], "direction": "above", "contrast": contrast},
        **({"over": {"optimizer.lr": [1, 2]}} if contrast == "tuned" else {}),
    }
    return claims_of({"seeds": 2, "claims": {"B": claim}}, "mine", "0" * 64)


# --- Specifications ---


def test_the_figure_can_be_read_and_is_left_out_without_claims(tmp_path) -> None:
    write_rates(tmp_path)
    study, claims = load(tmp_path), claims_of(CLAIMS, "mine", "0" * 64)
    findings = judge_claims(study, claims).findings
    figures = {item.name: item for item in claim_figures(study, findings, claims)}
    curve = figures["specification_curve"]
    assert problems_of(figures["forest"].figure) == problems_of(curve.figure) == []
    assert "S: " in curve.caption and "m = 2; by Holm" in curve.caption and set(curve.data["claim"]) == {"P", "S"}
    rows = {label.get_text() for ax in curve.figure.axes for label in ax.get_yticklabels()}
    assert {"level α", "level α / m", "level α by Holm", "sign flips", "scale log", "without 0.0002"} <= rows
    *_, without = claim_figures(study, findings)
    assert (without.name, without.reason) == ("specification_curve", "no claims file is given")
