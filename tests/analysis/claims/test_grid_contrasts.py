"""Contrasts over a grid: arms that are each tuned, and several data sets."""

import json
from itertools import product

import numpy as np
import pytest

from analysis.claims.contrasts import Datasets, Tuned
from analysis.claims.finding import verdicts_json, with_parts
from analysis.claims.reading import read_claims
from analysis.claims.samples import collect
from analysis.quantities.outcomes import outcomes
from analysis.records.study import load
from analysis.stats.effects import paired_effect
from analysis.stats.predictions import CrossedEffect, effect_over_data_sets
from tests.analysis.runs import change, predictions_frame, write_run
from tests.analysis.studies import MINIMAL, NOISE, finding, written

RATES = (1e-4, 2e-4, 4e-4)
SIX = MINIMAL.replace("seeds: 10", "seeds: 6")
TUNED = SIX + "    contrast: tuned\n    over: {optimizer.lr: [1e-4, 2e-4, 4e-4]}\n"
DATASETS = SIX + "    contrast: datasets\n"


@pytest.fixture
def study(tmp_path):
    return tmp_path / "study"


def write_grid(study, gains, seeds=6):
    """`gains`: arm -> points of accuracy above 80 at each rate. Validation is the test accuracy and a point more."""
    for clip, of_rates in gains.items():
        for i, (rate, gain) in enumerate(zip(RATES, of_rates, strict=True)):
            for seed in range(seeds):
                test = 0.8 + (gain + NOISE[(seed + i + len(clip)) % 10]) / 100
                write_run(
                    study, {"clip": clip}, {"optimizer": {"lr": rate}}, seed=seed, run=f"{clip}-{i}-s{seed}",
                    metrics={"test_accuracy": test, "validation_accuracy": test + 0.01},
                )  # fmt: skip


def sample_of(study, text):
    loaded = load(study)
    (claim,) = read_claims(written(study.parent, text)).claims
    question = claim.questions[0]
    cells = question.contrast.cells(question, loaded)
    return question.contrast, collect(question, cells, loaded, outcomes(loaded, {question.quantity})).kept


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


def write_data_sets(study, gains, seeds=6, **settings):
    """`gains`: data set -> points by which clip=fixed is better there; each data set has its own level and batches."""
    for k, (name, gain) in enumerate(gains.items()):
        for clip, extra in (("fixed", gain), ("none", 0)):
            for seed in range(seeds):
                noise = NOISE[(3 * seed + k + len(clip)) % 10] / 2
                accuracy = 0.6 + 0.1 * k + (extra + noise) / 100
                pairing = {"batches": f"{name}{seed}", "head": f"{name}h{seed}", "dropout": f"d{seed}"}
                write_run(
                    study, {"clip": clip, "data": name}, {"data": settings.get(f"{name}_{clip}", {})}, seed=seed,
                    run=f"{name}-{clip}-s{seed}", accuracy=accuracy, pairing=pairing,
                )  # fmt: skip


GAINS = {"sst2": 2.0, "cola": 5.0, "rte": 3.5}


@pytest.mark.parametrize("over", ["", "    over: {data: [sst2, cola, rte]}\n"])
def test_data_sets_are_not_pooled_as_if_they_were_seeds(study, over):
    write_data_sets(study, GAINS)
    found = finding(study, DATASETS + over)
    contrast, sample = sample_of(study, DATASETS + over)
    x = 100 * sample.values.reshape(6, 2, 3)
    expected = effect_over_data_sets(x[:, 0], x[:, 1])
    assert isinstance(contrast, Datasets) and found.n == 6
    assert (found.effect, found.p) == pytest.approx((expected.estimate, expected.p))
    pooled = paired_effect(x[:, 0].ravel(), x[:, 1].ravel(), np.random.default_rng(0))
    assert found.interval.low < 0 < pooled.interval().low  # three data sets leave 2 degrees of freedom


def test_each_data_set_has_an_effect_of_its_own(study):
    write_data_sets(study, GAINS)
    contrast, sample = sample_of(study, DATASETS)
    shown = contrast.by_data_set(sample, np.random.default_rng(0))
    assert shown.keys() == GAINS.keys()
    found = finding(study, DATASETS)
    assert [part.id for part in found.parts] == [f"one on {name}" for name in shown]
    for k, (name, part) in enumerate(zip(shown, found.parts, strict=True)):
        x = 100 * sample.values.reshape(6, 2, 3)[:, :, k]
        assert shown[name].estimate == pytest.approx((x[:, 0] - x[:, 1]).mean())
        assert (part.effect, part.interval) == (shown[name].estimate, shown[name].interval())
        assert part.verdict is part.p_adjusted is part.interval_simultaneous is None
        assert part.details == {"data_set": name} and part.within["data"] == name


def test_what_is_shown_beside_an_effect_is_shown_when_the_effect_is(study):
    """Below the planned seeds there is none; beyond them the exploratory line has its own, under other ids."""
    write_data_sets(study, GAINS)
    below = finding(study, DATASETS.replace("seeds: 6", "seeds: 7"))
    assert (below.effect, below.details, below.parts) == (None, {}, ())
    beyond = finding(study, DATASETS.replace("seeds: 6", "seeds: 5"))
    ids = [found.id for found in with_parts([beyond])]
    assert len(ids) == len(set(ids)) == 8 and "one explored on sst2" in ids
    assert {found.n for found in with_parts([beyond]) if found.exploratory} == {6}


def test_effects_on_data_sets_are_over_their_examples_too(study):
    write_data_sets(study, GAINS)
    rng = np.random.default_rng(0)
    for folder in list(study.iterdir()):
        right = rng.permutation(40) < 30 + rng.integers(0, 3)
        frame = predictions_frame(1.0)
        frame["prediction"] = np.where(right, frame["label"], 1 - frame["label"])
        name, clip, seed = folder.name.split("-")
        pairing = {"batches": f"{name}{seed}", "head": f"h{seed}", "dropout": f"d{seed}"}
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        write_run(
            study, {"clip": clip, "data": name}, seed=int(seed[1:]), run=folder.name, accuracy=right.mean(),
            pairing=pairing, frames={"predictions.parquet": frame},
        )  # fmt: skip
    contrast, sample = sample_of(study, DATASETS)
    shown = contrast.by_data_set(sample, rng)
    assert all(isinstance(effect, CrossedEffect) and effect.examples == 40 for effect in shown.values())


def test_within_a_data_set_runs_must_be_paired(study):
    write_data_sets(study, GAINS)
    change(study / "cola-fixed-s2", pairing={"batches": "other", "head": "colah2", "dropout": "d2"})
    found = finding(study, DATASETS)
    assert (found.n, found.n_missing) == (5, 1)
    assert "not paired: seed 2 differs in pairing.batches" in found.notes


def test_data_sets_with_other_settings_in_one_arm_are_refused(study):
    write_data_sets(study, GAINS, cola_fixed={"max_length": 64}, cola_none={"max_length": 128})
    found = finding(study, DATASETS)
    assert any("treatment and control differ in data.max_length on cola" in note for note in found.notes)


def test_one_data_set_is_none_to_generalise_from(study):
    write_data_sets(study, {"sst2": 2.0})
    found = finding(study, DATASETS)
    assert "needs at least 2 data sets; the study has sst2" in found.notes[0]
    missing = finding(study, DATASETS + "    over: {data: [sst2, cola]}\n")
    assert "no arm has clip=fixed, data=cola" in missing.notes[0] and "data=" in missing.command


def test_an_arm_on_another_data_set_is_not_paired(study):
    """Arms that each are on data of their own still need the same batches: the claim compares them, not data sets."""
    write_data_sets(study, {"sst2": 2.0, "cola": 1.0})
    text = SIX.replace("{clip: fixed}", "{clip: fixed, data: sst2}").replace("{clip: none}", "{clip: none, data: cola}")
    assert "the arms are not paired" in finding(study, text.replace("[clip]", "[clip, data]")).notes[0]
