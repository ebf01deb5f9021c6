"""Contrasts over a grid: several data sets."""

import numpy as np
import pytest

from analysis.claims.contrasts import Datasets
from analysis.claims.finding import with_parts
from analysis.stats.effects import paired_effect
from analysis.stats.predictions import CrossedEffect, effect_over_data_sets
from tests.analysis.runs import change, predictions_frame, write_run
from tests.analysis.studies import MINIMAL, NOISE, finding, sample_of

RATES = (1e-4, 2e-4, 4e-4)
SIX = MINIMAL.replace("seeds: 10", "seeds: 6")
TUNED = SIX + "    contrast: tuned\n    over: {optimizer.lr: [1e-4, 2e-4, 4e-4]}\n"
DATASETS = SIX + "    contrast: datasets\n"


@pytest.fixture
def study(tmp_path):
    return tmp_path / "study"


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
