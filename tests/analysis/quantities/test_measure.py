import math
import shutil

import numpy as np
import pytest

from analysis.quantities import formulas
from analysis.quantities.measure import measure
from analysis.quantities.registry import REGISTRY, run_quantities
from analysis.quantities.run_records import batch_means
from analysis.records.study import load
from tests.analysis.runs import change, evals_frame, predictions_frame, steps_frame, write_run

# --- the batches' part ---


def write_paired(folder, noise, batch_sd=0.3, arms=4, seeds=2, steps=600, **entries):
    """Arms of a seed share the batches' part of the loss; each adds its own noise of sd `noise[arm]`."""
    for seed in range(seeds):
        batch = np.random.default_rng(seed).normal(0, batch_sd, steps)
        for arm in range(arms):
            own = np.random.default_rng([seed, arm, 7]).normal(0, noise[arm], steps)
            frame = steps_frame(steps).assign(loss=0.5 + batch + own)
            write_run(
                folder,
                {"clip": f"rule{arm}"},
                seed=seed,
                steps=steps,
                run=f"arm{arm}-s{seed}",
                frames={"steps.parquet": frame},
                **entries,
            )
    return load(folder)


def test_loss_jitter_is_free_of_the_batches_part(tmp_path):
    """Of k arms with noise σ² each, σ² (1 − 1/k) is left of a run's own, and nothing of the batches."""
    study = write_paired(tmp_path, noise=[0.05] * 4)
    found = measure(study, ["loss_jitter", "loss_variance"]).values
    assert found["loss_jitter"].mean() == pytest.approx(0.05**2 * 3 / 4, rel=0.1)
    assert found["loss_variance"].mean() > 0.3**2 * 0.8


def test_batches_part_is_that_of_one_order_of_examples(tmp_path):
    study = write_paired(tmp_path, noise=[0.05] * 4, pairing={"batches": "all the same"})
    found = measure(study, ["loss_jitter"]).values  # the negative control: seeds mixed up
    assert found["loss_jitter"].mean() > 0.3**2 / 4


def test_batches_part_leaves_diverged_runs_out(tmp_path):
    write_paired(tmp_path, noise=[0.05] * 4)
    change(tmp_path / "arm0-s0", status="diverged")
    parts = batch_means(load(tmp_path))
    assert set(parts["b0"]["runs"]) == {3} and set(parts["b1"]["runs"]) == {4}


def test_a_lone_arm_has_no_batches_part(tmp_path):
    study = write_paired(tmp_path, noise=[0.05], arms=1)
    found = measure(study, ["loss_jitter"])
    assert found.values["loss_jitter"].isna().all()
    assert set(found.lacking["reason"]) == {"loss: no other arm finished on the same batches"}


# --- all runs ---

MEASURED = [name for name in run_quantities() if REGISTRY[name].measure]


@pytest.fixture
def study(tmp_path):
    for seed in (0, 1):
        for clip in ("none", "fixed"):
            write_run(tmp_path, {"clip": clip}, seed=seed, steps=300, run=f"{clip}-s{seed}")
    return load(tmp_path)


def test_measure_gives_every_quantity_of_every_run(study):
    found = measure(study)
    assert found.values.shape == (4, len(run_quantities())) and found.lacking.empty
    assert found.values[MEASURED].notna().all(axis=None)
    assert found.values["parameters.ratio"].tolist() == [0.5] * 4 and found.values["timing.seconds"].isna().all()
    assert found.values.loc["fixed-s1", "clip_rate"] == formulas.clip_rate(steps_frame(300, seed=1))
    assert found.values.loc["fixed-s1", "probe_jitter"] == formulas.probe_jitter(evals_frame(300, seed=1))


def test_measure_reads_no_more_than_it_is_asked_for(study, monkeypatch):
    monkeypatch.setattr(type(study), "read", lambda self, run, file, columns=None: pytest.fail(f"read {file}"))
    with pytest.raises(BaseException, match=r"read steps.parquet"):
        measure(study, ["clip_rate"])
    with pytest.raises(ValueError, match=r"quantities must be among test_accuracy, .* \(got clip_rat\)"):
        measure(study, ["clip_rat"])


def test_every_gap_is_explained(tmp_path):
    write_run(tmp_path, steps=20, run="short")
    empty = {
        "steps.parquet": steps_frame(0),
        "evals.parquet": evals_frame(20)[:0],
        "predictions.parquet": predictions_frame()[:0],
    }
    write_run(tmp_path, {"clip": "fixed"}, steps=20, status="diverged", run="dead", frames=empty, metrics={})
    found = measure(load(tmp_path), MEASURED)
    gaps = found.values.isna().stack()
    assert set(gaps[gaps].index) == set(zip(found.lacking["run"], found.lacking["quantity"], strict=True))
    assert gaps["dead"].drop("memory_mb").all()  # run.json has the memory
    assert not gaps["short"]["mean_grad_norm"] and gaps["short"]["probe_jitter"]


def test_a_run_that_has_gone_is_warned_of_and_left_out(study):
    shutil.rmtree(study.folder / "none-s0")
    with pytest.warns(UserWarning, match="none-s0 is not measured"):
        found = measure(study, ["clip_rate"])
    assert list(found.values.index) == ["fixed-s0", "fixed-s1", "none-s1"]


def test_an_empty_study_measures_to_an_empty_frame(tmp_path):
    found = measure(load(tmp_path))
    assert found.values.shape == (0, len(run_quantities())) and found.lacking.empty


@pytest.mark.parametrize("quantity", MEASURED)
def test_quantities_are_plain_numbers(study, quantity):
    value = measure(study, [quantity]).values[quantity].iloc[0]
    assert isinstance(value, float) and math.isfinite(value)
