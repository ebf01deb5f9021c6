import pickle
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.metrics import METRICS
from analysis.quantities import formulas, registry
from analysis.quantities.measure import measure
from analysis.quantities.outcomes import outcomes
from analysis.quantities.registry import REGISTRY, run_quantities
from analysis.quantities.run_records import records_of
from analysis.records.study import load
from tests.analysis.runs import evals_frame, predictions_frame, probe_frame, steps_frame, write_run

# --- a run's quantities are its own ---


def write_arm(folder, clip, *, seeds=2, steps=300, noise=0.05, **run):
    """An arm whose runs share the batches' part of the loss, of sd 0.3, with the other arms of their seed."""
    for seed in range(seeds):
        batches = np.random.default_rng(seed).normal(0, 0.3, steps)
        own = np.random.default_rng([seed, *clip.encode()]).normal(0, noise, steps)
        frames = {
            "steps.parquet": steps_frame(steps, seed).assign(loss=0.5 + batches + own),
            "probe.parquet": probe_frame(steps, seed=seed),
        }
        write_run(folder, {"clip": clip}, seed=seed, steps=steps, run=f"{clip}-s{seed}", frames=frames, **run)


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(["done", "diverged"]), st.integers(1, 4)), min_size=1, max_size=3
    )
)
@settings(max_examples=10, deadline=None)
def test_no_quantity_depends_on_the_other_arms_of_the_folder(arms):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip in ("none", "fixed"):
            write_arm(folder, clip)
        alone = outcomes(load(folder), run_quantities())
        for number, (noise, status, seeds) in enumerate(arms):
            write_arm(folder, f"other{number}", noise=noise, status=status, seeds=seeds)
        among = outcomes(load(folder), run_quantities())
        assert len(among.values) > len(alone.values)
        pd.testing.assert_frame_equal(among.values.loc[alone.values.index], alone.values, check_exact=True)
        pd.testing.assert_series_equal(among.learned[alone.learned.index], alone.learned)


def test_a_quantity_that_depends_on_other_arms_would_be_seen(tmp_path, monkeypatch):
    """The negative control: the jitter less the mean loss of all runs with the same batches, as it once was."""

    def less_the_batches(run):
        of_seed = run.study.runs.loc[run.study.runs["pairing.batches"] == run.entries["pairing.batches"], "run"]
        mean = run.study.steps(["loss"], of_seed).groupby("step")["loss"].mean()
        return formulas.loss_jitter(run.steps.assign(loss=run.steps["loss"] - run.steps["step"].map(mean)))

    wrong = replace(REGISTRY["loss_jitter"], measure=less_the_batches)
    monkeypatch.setattr(registry, "SHIPPED", {**REGISTRY, "loss_jitter": wrong})
    for clip in ("none", "fixed"):
        write_arm(tmp_path, clip)
    alone = measure(load(tmp_path), ["loss_jitter"]).values
    write_arm(tmp_path, "other", noise=1)
    among = measure(load(tmp_path), ["loss_jitter"]).values
    assert (among.loc[alone.index] / alone > 2).all(axis=None)


def test_the_jitter_of_the_training_loss_has_the_batches_in_it(tmp_path):
    write_arm(tmp_path, "none", steps=3000, noise=0.4)
    jitters = measure(load(tmp_path), ["loss_jitter"]).values["loss_jitter"]
    assert jitters.tolist() == pytest.approx([0.3**2 + 0.4**2] * 2, rel=0.1)


# --- scores per example ---


def test_the_mean_over_examples_is_the_quantity(tmp_path):
    write_arm(tmp_path, "none", accuracy=0.7)
    study = load(tmp_path)
    sizes = {"test_accuracy": 40, "mean_probe_loss": 32, "last_probe_loss": 32}
    values = measure(study, list(sizes)).values
    for name, size in sizes.items():
        for run in study.runs["run"]:
            scores = REGISTRY[name].per_example(records_of(study, run))
            assert scores.shape == (size,) and scores.std() > 0
            assert scores.mean() == pytest.approx(values.loc[run, name], rel=1e-6)


def test_examples_keep_their_place(tmp_path):
    """The third example of the probe is the hard one, the last test example the one that is wrong."""
    losses = probe_frame(20)
    losses.loc[losses["example"] == 2, "loss"] = np.float32(9)
    predictions = predictions_frame(1.0)
    predictions.loc[39, "prediction"] = 0
    shuffled = losses.sample(frac=1, random_state=0)  # in whatever order the rows are
    evals = evals_frame(20)
    evals.loc[evals["split"] == "probe", "loss"] = losses.groupby("step")["loss"].mean().to_numpy()
    frames = {"probe.parquet": shuffled, "predictions.parquet": predictions, "evals.parquet": evals}
    write_run(tmp_path, run="a", frames=frames)
    records = records_of(load(tmp_path), "a")
    for name in ("mean_probe_loss", "last_probe_loss"):
        assert REGISTRY[name].per_example(records).argmax() == 2
    assert REGISTRY["test_accuracy"].per_example(records).tolist() == [1.0] * 39 + [0.0]


def test_losses_of_some_evaluations_stand_for_all_of_a_long_run_s_mean(tmp_path):
    """Long runs record every k-th evaluation only; the last one has no losses then."""
    losses = probe_frame(20)
    write_run(tmp_path, run="long", frames={"probe.parquet": losses[losses["step"].isin([5, 15])]})
    study = load(tmp_path)
    scores = REGISTRY["mean_probe_loss"].per_example(records_of(study, "long"))
    some = losses[losses["step"].isin([5, 15])].groupby("example")["loss"].mean()
    assert scores.mean() == pytest.approx(measure(study, ["mean_probe_loss"]).values.loc["long"].item(), rel=1e-9)
    np.testing.assert_allclose(scores - scores.mean(), some - some.mean(), atol=1e-6)
    assert REGISTRY["last_probe_loss"].per_example(records_of(study, "long")) is None


def test_losses_that_are_not_those_of_the_evaluations_are_no_scores(tmp_path):
    write_run(tmp_path, run="other", frames={"probe.parquet": probe_frame(20).assign(loss=np.float32(0.5))})
    other = records_of(load(tmp_path), "other")
    assert all(REGISTRY[name].per_example(other) is None for name in ("mean_probe_loss", "last_probe_loss"))


def test_groups_of_the_test_examples(tmp_path):
    groups = pd.DataFrame({"example": range(40), "cluster": [i // 4 for i in range(40)]})
    write_run(tmp_path, run="grouped", frames={"clusters.parquet": groups})
    write_run(tmp_path, {"clip": "fixed"}, run="plain")
    study = load(tmp_path)
    assert study.problems.empty
    assert records_of(study, "grouped").clusters.tolist() == groups["cluster"].tolist()
    assert records_of(study, "plain").clusters is None


def test_no_scores_without_examples(tmp_path):
    """Of an earlier version, of a run that diverged, and of quantities that are no mean over examples."""
    write_run(tmp_path, run="early")
    write_run(tmp_path, {"clip": "fixed"}, run="dead", status="diverged", frames={"probe.parquet": probe_frame(20)})
    study = load(tmp_path)
    early, dead = (records_of(study, run) for run in ("early", "dead"))
    assert REGISTRY["test_accuracy"].per_example(early) is not None
    scored = [name for name in run_quantities() if REGISTRY[name].per_example(early) is not None]
    assert scored == [f"test_{m.name}" for m in METRICS.values() if "classification" in m.kinds]
    assert all(quantity.per_example(dead) is None for quantity in REGISTRY.values())
    assert early.probe_losses.empty and not dead.probe_losses.empty
    with pytest.raises(KeyError):
        records_of(study, "unknown")


# --- all runs ---

MEASURED = [
    name
    for name in run_quantities()
    if (quantity := REGISTRY[name]).measure and (not quantity.metric or "classification" in quantity.metric.kinds)
]
"""Quantities that are computed from the records of a run of a classification."""


@pytest.fixture
def study(tmp_path):
    for seed in (0, 1):
        for clip in ("none", "fixed"):
            write_run(tmp_path, {"clip": clip}, seed=seed, steps=300, run=f"{clip}-s{seed}")
    return load(tmp_path)


def test_measure_gives_every_quantity_of_every_run(study):
    found = measure(study)
    assert found.values.shape == (4, len(run_quantities()))
    others = {f"test_{m.name}" for m in METRICS.values() if "classification" not in m.kinds}
    assert set(found.lacking["quantity"]) == others and len(found.lacking) == 4 * len(others)
    assert np.isfinite(found.values[MEASURED].to_numpy()).all()
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


def test_a_measured_study_can_be_sent_to_another_process_without_what_a_users_functions_measured(tmp_path):
    write_run(tmp_path / "study", {"clip": "none"}, seed=0, run="one")
    study = load(tmp_path / "study")
    measure(study, ["test_accuracy"])
    own = replace(REGISTRY["test_accuracy"], name="test_cost", measure=lambda run: 5.0)
    study.measured["one"][own] = 5.0
    sent = pickle.loads(pickle.dumps(study))
    assert sent.measured == {"one": {k: v for k, v in study.measured["one"].items() if k != own}}
    assert "test_accuracy" in sent.measured["one"]
    assert own in study.measured["one"]
