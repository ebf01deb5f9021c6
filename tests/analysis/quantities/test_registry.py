"""One entry of the registry is enough for a quantity: it can be measured, claimed, told in a sentence and shown."""

import math

import pytest

from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.figures import by_seed
from analysis.figures.all import figures
from analysis.figures.data import Records
from analysis.page.sentences import findings_in_words
from analysis.quantities import registry
from analysis.quantities.measure import measure
from analysis.quantities.outcomes import outcomes
from analysis.quantities.registry import REGISTRY, Quantity, run_quantities
from analysis.records.study import load
from analysis.stats.scales import SCALES
from analysis.tables.formats import summary, summary_in_words
from tests.analysis.runs import change, steps_frame, write_run
from tests.analysis.studies import MINIMAL, written

LARGEST = Quantity(
    *("largest_norm", "largest gradient norm", "units", "log"),
    measure=lambda run: run.steps["grad_norm"].max(),
    diverged=lambda chance, planned, measured: planned,
    heading="max ‖g‖",
    decimals=2,
    in_summary=True,
    in_figures=True,
    has_interaction=True,
)
CLAIM = MINIMAL.replace("test_accuracy", "largest_norm").replace("points", "log").replace("seeds: 10", "seeds: 3")


@pytest.fixture
def study(tmp_path):
    """Arms none and fixed on three seeds, of which fixed has twice the largest gradient norm."""
    for seed in range(3):
        for times, clip in enumerate(("none", "fixed"), 1):
            steps = steps_frame(20, seed).assign(grad_norm=lambda frame, times=times: times * frame["grad_norm"])
            more = {"frames": {"steps.parquet": steps}, "timing": {"started": f"2026-01-01T00:0{seed}:0{times}Z"}}
            write_run(tmp_path / "study", {"clip": clip}, seed=seed, run=f"{clip}-s{seed}", **more)
    return tmp_path / "study"


def test_one_entry_is_enough(study, monkeypatch):
    monkeypatch.setattr(registry, "SHIPPED", {**REGISTRY, "largest_norm": LARGEST})
    loaded = load(study)
    table = summary(loaded)
    norms = [steps_frame(20, seed)["grad_norm"].max() for seed in range(3)]
    assert table["largest_norm"].tolist() == pytest.approx([sum(norms) / 3, 2 * sum(norms) / 3])
    assert summary_in_words(table)["max ‖g‖"].tolist() == [f"{value:.2f}" for value in table["largest_norm"]]
    drawn = {figure.name: figure for figure in figures(loaded, ["seeds", "differences"])}
    for figure, label in (("seeds", "largest gradient norm (units)"), ("differences", "largest gradient norm,\nratio")):
        assert "largest_norm" in set(drawn[figure].data["quantity"])
        assert label in [ax.get_xlabel() for ax in drawn[figure].figure.axes]
    ratios = drawn["differences"].data.query("quantity == 'largest_norm'")["effect"]
    assert ratios.tolist() == pytest.approx([2] * 3)
    claims = read_claims(written(study.parent, CLAIM))
    findings = judge_claims(loaded, claims).findings
    assert findings[0].effect == pytest.approx(math.log(2))
    sentence = findings_in_words(findings, claims)[0].effect
    assert sentence.startswith("largest gradient norm is 2 times as large as in the control")
    change(study / "fixed-s0", status="diverged", metrics={})
    assert outcomes(load(study), ["largest_norm"]).values.loc["fixed-s0", "largest_norm"] == 20


def test_an_entry_can_have_an_interaction_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "SHIPPED", {**REGISTRY, "largest_norm": LARGEST})
    for clip in ("none", "fixed"):
        for scheduler in ("none", "warmup_linear"):
            write_run(tmp_path, {"clip": clip, "scheduler": scheduler}, run=f"{clip}-{scheduler}")
    caption, data, _ = by_seed.interaction_of(LARGEST)(Records(load(tmp_path)))
    assert caption.startswith("Largest gradient norm by") and set(data["quantity"]) == {"largest_norm"}


def test_without_its_entry_nothing_knows_the_quantity(study):
    """The negative control."""
    assert "largest_norm" not in summary(load(study))
    with pytest.raises(ValueError, match="largest_norm"):
        read_claims(written(study.parent, CLAIM))


@pytest.mark.parametrize("name", REGISTRY)
def test_every_entry_has_words_and_a_unit(name):
    quantity = REGISTRY[name]
    assert quantity.name == name and quantity.words and isinstance(quantity.unit, str) and quantity.scale in SCALES
    assert quantity.heading or not quantity.in_summary
    assert quantity.words in quantity.axis_label and quantity.words in quantity.effect_words
    assert sum(other.words == quantity.words for other in REGISTRY.values()) == 1


def test_every_measured_entry_is_measurable_or_says_why(study):
    measured = measure(load(study))
    assert list(measured.values) == list(run_quantities())
    lacking = set(zip(measured.lacking["run"], measured.lacking["quantity"], strict=True))
    for name in run_quantities():
        for run, value in measured.values[name].items():
            if REGISTRY[name].measure:
                assert math.isfinite(value) is ((run, name) not in lacking)
    assert measured.lacking["reason"].str.len().gt(0).all()
