"""The figure of specifications."""

from analysis.claims.judge import judge_claims
from analysis.claims.reading import claims_of
from analysis.figures.all import claim_figures
from analysis.records.study import load
from tests.analysis.claims.test_specifications import CLAIMS, write_rates
from tests.analysis.figures.test_all import problems_of


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
