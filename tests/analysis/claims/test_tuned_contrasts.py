"""Contrasts of arms that are each tuned."""

import json
from itertools import product

import numpy as np
import pytest

from analysis.claims.contrasts import BestValue, Tuned
from analysis.claims.finding import verdicts_json
from analysis.claims.reading import read_claims
from analysis.claims.specifications import grids_of
from analysis.page.sentences import findings_in_words
from analysis.stats.effects import paired_effect
from tests.analysis.runs import change, write_run
from tests.analysis.studies import MINIMAL, NOISE, RATES, TUNED, finding, sample_of, write_grid, written


@pytest.fixture
def study(tmp_path):
    return tmp_path / "study"


def test_each_arm_is_judged_at_its_own_best_point(study):
    """At each rate by itself clipping looks better or worse by 5 points; tuned it gains 2."""
    write_grid(study, {"fixed": (0, 5, 12), "none": (0, 10, 5)})
    found = finding(study, TUNED)
    rows = np.arange(6)
    treatment, control = (gain + NOISE[(rows + i + n) % 10] for gain, i, n in ((12, 2, 5), (10, 1, 4)))
    expected = paired_effect(treatment, control)
    assert (found.effect, found.p) == pytest.approx((expected.estimate, expected.p))
    for arm, rate in (("treatment", 4e-4), ("control", 2e-4)):
        assert found.details[arm]["usual"] == {"optimizer.lr": rate}
        assert found.details[arm]["chosen"] == {seed: {"optimizer.lr": rate} for seed in range(6)}
    written_down = json.loads(verdicts_json([found]))[0]["details"]
    assert written_down["control"]["chosen"]["5"] == {"optimizer.lr": 2e-4}


def test_a_best_point_at_the_edge_is_flagged_with_the_next_value(study):
    write_grid(study, {"fixed": (0, 5, 12), "none": (10, 2, 5)})
    found = finding(study, TUNED)
    assert found.details["treatment"]["beyond"] == {"optimizer.lr": 8e-4}
    assert found.details["control"]["beyond"] == {"optimizer.lr": 5e-5}
    command = "python -m ablate -m study=study 'seed=range(0,6)' clip=fixed,none optimizer.lr=0.0008,5e-05"
    assert found.details["extension"] == command
    contrast, sample = sample_of(study, TUNED)
    cells = contrast.extension(sample)
    assert [(cell["clip"], cell["optimizer.lr"]) for cell in cells] == [
        ("fixed", 8e-4), ("fixed", 5e-5), ("none", 8e-4), ("none", 5e-5),
    ]  # fmt: skip
    write_inner = {"fixed": (0, 12, 5), "none": (2, 10, 5)}
    for folder in study.iterdir():
        clip, i, seed = folder.name.split("-")
        test = 0.8 + (write_inner[clip][int(i)] + NOISE[int(seed[1:])]) / 100
        change(folder, metrics={"test_accuracy": test, "validation_accuracy": test})
    inside = finding(study, TUNED).details
    assert "extension" not in inside and inside["treatment"]["beyond"] == inside["control"]["beyond"] == {}
    assert sample_of(study, TUNED)[0].extension(sample_of(study, TUNED)[1]) == []


def test_a_grid_of_two_settings_is_extended_to_a_whole_grid(study):
    """Both best values are at an edge: the further points are those of the longer grid, its new corner included."""
    rates, betas = (1e-4, 2e-4), (1, 2)
    for clip, (i, rate), (j, beta), seed in product(("fixed", "none"), enumerate(rates), enumerate(betas), range(2)):
        test = 0.8 + 0.02 * (i + j) + 0.001 * seed * (1 + (clip == "fixed"))
        metrics = {"test_accuracy": test, "validation_accuracy": test}
        settings = {"optimizer": {"lr": rate}, "scheduler": {"warmup": beta}}
        write_run(study, {"clip": clip}, settings, seed=seed, metrics=metrics)
    grid = "{optimizer.lr: [1e-4, 2e-4], scheduler.warmup: [1, 2]}"
    text = MINIMAL.replace("seeds: 10", "seeds: 2") + f"    contrast: tuned\n    over: {grid}\n"
    contrast, sample = sample_of(study, text)
    further = {(cell["optimizer.lr"], cell["scheduler.warmup"]) for cell in contrast.extension(sample)}
    assert further == {(4e-4, 1), (4e-4, 2), (1e-4, 4), (2e-4, 4), (4e-4, 4)}
    assert "optimizer.lr=0.0004" in finding(study, text).details["extension"]


def test_a_rate_at_which_runs_diverge_is_not_chosen(study):
    write_grid(study, {"fixed": (0, 5, 12), "none": (0, 10, 12)})
    for seed in range(3):
        change(study / f"none-2-s{seed}", status="diverged", metrics={})
    found = finding(study, TUNED)
    assert found.details["control"]["usual"] == {"optimizer.lr": 2e-4}
    assert found.n == 6 and found.verdict.value == "supported"


def test_tuning_needs_validation_values_two_seeds_and_a_quantity_with_a_twin(study):
    write_grid(study, {"fixed": (0, 5, 12), "none": (0, 10, 5)})
    other = finding(study, TUNED.replace("test_accuracy", "last_training_loss").replace("points", "log"))
    assert "a metric or the loss of the test split, such as test_accuracy (got last_training_loss)" in other.notes[0]
    change(study / "none-2-s1", metrics={"test_accuracy": 0.8})
    assert any(
        "needs validation_accuracy of all runs; none-2-s1 has none" in note for note in finding(study, TUNED).notes
    )


def test_the_expected_best_by_budget(study):
    write_grid(study, {"fixed": (0, 5, 12), "none": (3, 3, 3)})
    contrast, sample = sample_of(study, TUNED)
    budgets = contrast.by_budget(sample)
    assert isinstance(contrast, Tuned) and len(budgets["treatment"]) == 3
    assert budgets["treatment"][0] == pytest.approx(contrast.validation(sample)[:, :3].mean())
    assert sorted(budgets["treatment"]) == budgets["treatment"] and budgets["treatment"][2] > budgets["control"][2]


OWN_GRIDS = TUNED + "    control_over: {optimizer.lr: [1, 2, 4]}\n"


def write_own_grids(study, treatment, control):
    """`treatment`, `control`: validation losses at 1e-4, 2e-4, 4e-4 and at 1, 2, 4, for six seeds with some noise."""
    for clip, rates, losses in (("fixed", RATES, treatment), ("none", (1, 2, 4), control)):
        for (i, rate), seed in product(enumerate(rates), range(6)):
            loss = losses[i] + 0.001 * NOISE[(seed + i + len(clip)) % 10]
            metrics = {"test_loss": loss, "validation_loss": loss, "test_accuracy": 0.9 - loss / 10}
            metrics["validation_accuracy"] = metrics["test_accuracy"]
            write_run(study, {"clip": clip}, {"optimizer": {"lr": rate}}, seed=seed, metrics=metrics)


def test_the_control_may_have_a_grid_of_its_own(study):
    write_own_grids(study, (0.5, 0.3, 0.4), (0.2, 0.4, 0.5))
    found = finding(study, OWN_GRIDS)
    assert found.details["treatment"]["usual"] == {"optimizer.lr": 2e-4}
    assert found.details["control"]["usual"] == {"optimizer.lr": 1} and found.effect == pytest.approx(-1, abs=0.05)
    contrast, sample = sample_of(study, OWN_GRIDS)
    further = [(cell["clip"], cell["optimizer.lr"]) for cell in contrast.extension(sample)]
    assert further == [("fixed", 5e-5), ("none", 0.5)]  # the lower end of both: equal tuning
    (claim,) = read_claims(study.parent / "mine.yaml").claims
    left = {text: asked.contrast.grids for text, asked in grids_of(claim.questions[0])}
    assert left["without 0.0002"] == ({"optimizer.lr": (1e-4, 4e-4)}, {"optimizer.lr": (1, 4)})


@pytest.mark.parametrize("grid", ["{optimizer.lr: [1, 2]}", "{clip.threshold: [1, 2, 4]}"])
def test_a_grid_of_the_control_has_the_same_keys_and_as_many_points(tmp_path, grid):
    with pytest.raises(ValueError, match="control_over must be a grid of "):
        read_claims(written(tmp_path, TUNED + f"    control_over: {grid}\n"))


BEST = OWN_GRIDS.replace("contrast: tuned", "contrast: best_value").replace("points", "log")
BEST = BEST.replace("test_accuracy", "test_loss")


@pytest.mark.parametrize(
    ("of_control", "ratio"),
    [
        ((0.5, 0.4, 0.5), 1e-4),  # both parabolas over ln(rate) have their minimum at the middle point
        ((0.5, 0.4, 0.41), 1e-4 / 2 ** (0.5 * 0.09 / 0.11)),  # h/2 (y₋ - y₊) / (y₋ - 2 y₀ + y₊) higher, with h = ln 2
    ],
)
def test_the_ratio_of_the_best_values(study, of_control, ratio):
    write_own_grids(study, (0.4, 0.3, 0.4), of_control)
    found = finding(study, BEST)
    assert np.exp(found.effect) == pytest.approx(ratio, rel=0.02) and found.n == 6
    (said,) = findings_in_words([found], read_claims(study.parent / "mine.yaml"))
    assert said.effect.startswith("best learning rate, chosen by the validation value of test loss, is ")


@pytest.mark.parametrize(
    ("grid", "key"),
    [("{optimizer.lr: [-1, 2, 3]}", "over"), ("{optimizer.lr: [1, 2], clip.threshold: [1, 2]}", "over")],
)
def test_a_best_value_needs_one_setting_with_numbers(tmp_path, grid, key):
    text = BEST[: BEST.index("    over")] + f"    over: {grid}\n"
    with pytest.raises(ValueError, match=f"{key} must be one setting with its values, numbers above 0"):
        read_claims(written(tmp_path, text))
    assert issubclass(BestValue, Tuned)
