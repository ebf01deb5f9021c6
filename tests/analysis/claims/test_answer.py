"""Single questions: arms that are refused or missing, runs that did not learn, contrasts, and more seeds."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from analysis.claims.finding import verdicts_json
from analysis.claims.judge import judge_claims
from analysis.claims.looks import LookPlan
from analysis.claims.reading import read_claims
from analysis.claims.verdict_rule import Verdict
from analysis.records.study import load
from tests.analysis.runs import Truth, change, evals_frame, predictions_frame, write_known, write_run
from tests.analysis.studies import MINIMAL, NOISE, PAPER, finding, write_two, written

S, M, U, E, R, O, I, N = Verdict  # noqa: E741


@pytest.fixture
def study(tmp_path):
    """A folder for a study, and for a claims file next to it."""
    return tmp_path / "study"


# --- refused and missing ---


def test_confounded_arms_are_refused_and_named(study):
    for seed in range(10):
        write_run(study, {"clip": "none"}, {"trainer": {"batch_size": 32}}, seed=seed)
        write_run(study, {"clip": "fixed"}, {"trainer": {"batch_size": 64}}, seed=seed, accuracy=0.9)
    found = finding(study)
    assert found.verdict is N and found.effect is None and found.command is None
    assert "trainer.batch_size (64 / 32)" in found.notes[0]
    text = MINIMAL.replace("none}", "none, trainer.batch_size: 32}").replace("fixed}", "fixed, trainer.batch_size: 64}")
    assert finding(study, text.replace("[clip]", "[clip, trainer]")).effect == pytest.approx(10)  # the effect of both


def test_environments_are_not_mixed(study):
    write_two(study, 0.85 + NOISE / 100, [0.8] * 10)
    change(study / "fixed-s3", environment={"key": "other"})
    found = finding(study)
    assert (found.verdict, found.n, found.n_missing) == (N, 9, 1)
    assert "not paired: seed 3 differs in environment.key" in found.notes
    assert "seed=10 " in found.command  # seed 3 is done in another environment: a new seed replaces it
    for seed in range(10):
        change(study / f"fixed-s{seed}", environment={"key": "other"})
    assert "the arms are not paired" in finding(study).notes[0]


def test_missing_seeds_are_named_and_the_command_runs_them(study):
    write_two(study, 0.85 + NOISE / 100, [0.8] * 10)
    shutil.rmtree(study / "fixed-s4")
    change(study / "none-s7", status="failed", error={"message": "OSError: disk full"})
    found = finding(study)
    assert (found.verdict, found.n, found.n_missing, found.further_seeds) == (N, 8, 2, 2)
    assert "none-s7 does not count: status failed: OSError: disk full" in found.notes
    assert "fixed: no run with seed 4" in found.notes
    assert found.command == "python -m ablate -m study=study seed=4,7 clip=fixed,none"


def test_the_command_names_the_settings_that_distinguish_the_arms(study):
    write_two(study, 0.85 + NOISE[:5] / 100, [0.8] * 5)
    write_two(study / "..", [0.8], [0.8])  # runs outside the study's folder do not count
    for clip in ("none", "fixed"):
        write_run(study, {"clip": clip}, {"optimizer": {"lr": 0.1}}, run=f"{clip}-fast")
    text = MINIMAL.replace("seeds: 10", "seeds: 10\ncommand: python -m ablate -m experiment=mine")
    found = finding(study, text.replace("changes:", "within: {optimizer.lr: 1e-4}\n    changes:"))
    expected = "python -m ablate -m experiment=mine study=study 'seed=range(5,10)' clip=fixed,none optimizer.lr=0.0001"
    assert (found.n, found.command) == (5, expected)


def test_a_missing_arm_is_named_and_the_command_runs_both(study):
    write_two(study, [], [0.8] * 10)
    found = finding(study)
    assert (found.verdict, found.n_missing, found.further_seeds) == (N, 10, 10)
    assert found.notes == ("no arm has clip=fixed; the nearest has clip=none",)
    assert found.command == "python -m ablate -m study=study 'seed=range(0,10)' clip=fixed,none"


# --- runs that did not learn ---


@pytest.mark.parametrize("recorded", [0, 40])
def test_a_run_without_predictions_is_not_told_as_one_that_did_not_learn(study, recorded):
    """The control has predictions, at chance."""
    write_two(study, 0.85 + NOISE / 100, [0.8] * 10)
    for name in ("fixed-s3", "none-s4"):
        shutil.rmtree(study / name)
        frames = {"predictions.parquet": predictions_frame(0.5).head(recorded)}
        write_run(study, {"clip": name[:-3]}, seed=int(name[-1]), run=name, frames=frames)
    found = finding(study)
    assert (found.n, found.n_unlearned, found.n_unknown) == ((10, 2, 0) if recorded else (10, 0, 2))
    notes = "; ".join(found.notes)
    assert ("did not learn" in notes) == bool(recorded)
    assert ("whether fixed-s3 and 1 more learned is unknown: no predictions are recorded" in notes) != bool(recorded)
    assert ("clip=fixed 9 of 10" if recorded else "clip=fixed 9 of 9") in notes


@pytest.mark.parametrize("shift", [0, 0.1])
def test_equal_differences_are_inconclusive_with_the_reason(study, shift):
    write_two(study, [0.8 + shift] * 10, [0.8] * 10)
    found = finding(study)
    assert (found.verdict, found.interval) == (I, None)
    assert found.effect == pytest.approx(100 * shift)
    assert any("all 10 differences are equal, without a spread" in note for note in found.notes)


JITTER = MINIMAL.replace("test_accuracy", "probe_jitter").replace("points", "log").replace("above", "below")


def test_an_arm_that_did_not_learn_does_not_win_a_variance_claim(study):
    """Its loss does not move, so its jitter is far smaller on every seed."""
    for seed in range(10):
        still = Truth(accuracy=0.5, probe_noise=0.0005)
        write_known(study, {"clip": "fixed"}, still, seed=seed, run=f"fixed-s{seed}")
        write_known(study, {"clip": "none"}, Truth(probe_noise=0.015), seed=seed, run=f"none-s{seed}")
    found = finding(study, JITTER)
    assert (found.verdict, found.n, found.n_unlearned, found.n_missing) == (I, 0, 10, 0)
    assert "runs that learn: clip=fixed 0 of 10 [0.00, 0.31]; clip=none 10 of 10 [0.69, 1.00]" in found.notes
    for seed in range(10):  # the negative control: the same losses in runs that learn
        shutil.rmtree(study / f"fixed-s{seed}")
        write_known(study, {"clip": "fixed"}, Truth(probe_noise=0.0005), seed=seed)
    assert finding(study, JITTER).verdict is S


@pytest.mark.parametrize(("unlearned", "verdict", "n"), [(4, S, 6), (5, I, 5)])
def test_a_variance_claim_needs_six_seeds_that_learn(study, unlearned, verdict, n):
    for seed in range(10):
        fails = Truth(accuracy=0.5 if seed < unlearned else 0.84, probe_noise=0.04)
        write_known(study, {"clip": "none"}, fails, seed=seed)
        write_known(study, {"clip": "fixed"}, Truth(probe_noise=0.005), seed=seed)
    found = finding(study, JITTER)
    assert (found.verdict, found.n, found.n_unlearned, found.n_missing) == (verdict, n, unlearned, 0)


@pytest.mark.parametrize(
    ("gain", "at_failure", "verdict", "without"),
    [
        (10, 20, S, "effect 10 over 7 seeds"),
        (2.8, 4, S, "effect 2.8 over 7 seeds"),
    ],
)
def test_an_accuracy_claim_keeps_runs_that_did_not_learn_and_names_the_effect_without_them(
    study, gain, at_failure, verdict, without
):
    """Without clipping, seeds 0 to 2 do not learn."""
    gains = np.where(np.arange(10) < 3, at_failure, gain) + NOISE / 20
    write_two(study, 0.7 + gains / 100, [0.7] * 10)
    for seed in range(3):
        shutil.rmtree(study / f"none-s{seed}")
        frames = {"predictions.parquet": predictions_frame(0.5)}
        write_run(study, {"clip": "none"}, seed=seed, accuracy=0.7, frames=frames)
    found = finding(study, MINIMAL + "    smallest_effect: 3\n    why: an example\n")
    assert (found.n, found.n_unlearned, found.n_missing, found.verdict) == (10, 3, 0, verdict)
    assert found.effect == pytest.approx(gains.mean()) and found.effect > 3 and found.interval_simultaneous.low > 0
    assert f"without the seeds on which a run did not learn: {without}" in found.notes


def test_a_run_that_diverged_counts_as_the_majority_class(study):
    write_two(study, 0.8 + NOISE / 100, [0.8] * 10)
    change(study / "none-s0", status="diverged", metrics={})
    found = finding(study)
    assert (found.n, found.n_unlearned, found.n_missing) == (10, 1, 0)
    assert found.effect == pytest.approx(np.mean([100 * (0.8 - 0.5) - 1.2, *NOISE[1:]]))


def test_a_loss_that_cannot_be_measured_is_not_tested_and_says_why(study):
    write_two(study, [0.8] * 10, [0.8] * 10)  # 20 steps: no jitter
    found = finding(study, JITTER)
    assert (found.verdict, found.n, found.n_missing, found.command) == (N, 0, 10, None)
    assert re.search(r"no probe_jitter for fixed-s0 and 19 more: loss: needs 40 points .* has 0", found.notes[0])


# --- other contrasts ---


def test_an_interaction_that_changes_sign_on_the_raw_scale_is_not_supported(study):
    """The schedule adds 0.5 nats to 1. With clipping it adds 0.4 to 2, less on both scales, or 0.6, less on log."""
    claim = (
        MINIMAL.replace("test_accuracy", "mean_probe_loss").replace("points", "log").replace("above", "either")
        .replace("{clip: fixed}", "{clip: fixed, scheduler: warmup_linear}").replace("seeds: 10", "seeds: 6")
        .replace("{clip: none}", "{clip: none, scheduler: none}").replace("[clip]", "[clip, scheduler]")
        + "    contrast: interactions\n"
    )  # fmt: skip
    levels = {("none", "none"): 1.0, ("none", "warmup_linear"): 1.5, ("fixed", "none"): 2.0}
    for top, verdict in ((2.4, S), (2.6, I)):
        shutil.rmtree(study, ignore_errors=True)
        for seed in range(6):
            for (clip, scheduler), level in (levels | {("fixed", "warmup_linear"): top}).items():
                loss = level * (1 + 0.002 * NOISE[(seed + len(clip + scheduler)) % 10])
                evals = evals_frame(20).assign(loss=loss)
                options = {"clip": clip, "scheduler": scheduler}
                write_run(study, options, seed=seed, frames={"evals.parquet": evals})
        found = finding(study, claim)
        assert found.effect < 0 and found.verdict is verdict


def test_a_size_claim_is_judged_where_the_sizes_are(study):
    claims = read_claims(PAPER)
    claims = replace(
        claims,
        claims=tuple(replace(claim, looks=LookPlan((6,), "equal", 6)) for claim in claims.claims if claim.id == "H"),
    )
    for i, total in enumerate((10**7, 10**8, 5 * 10**8, 2 * 10**9)):
        model = {"model": {"head_init": "xavier", "sha256": str(i)}, "optimizer": {"lr": 1e-4 / (i + 1)}}
        for seed in range(6):
            for clip, scheduler, gain in (("none", "none", 0), ("fixed", "warmup_linear", 0.01 * i)):
                accuracy = 0.8 + gain + NOISE[(seed + i) % 10] / 500 * (clip == "fixed")
                folder = write_known(
                    study, {"clip": clip, "scheduler": scheduler, "model": f"m{i}"}, Truth(accuracy=accuracy),
                    seed=seed, steps=20, settings=model,
                )  # fmt: skip
                change(folder, parameters={"total": total, "trained": total // 2, "ratio": 0.5})
    (found,) = judge_claims(load(study), claims).findings
    slope = np.polyfit(np.log10([1e7, 1e8, 5e8, 2e9]), [0, 1, 2, 3], 1)[0]
    assert found.verdict is S and found.effect == pytest.approx(slope, abs=0.1)
    for folder in study.glob("*"):  # no model above a billion parameters
        total = json.loads((folder / "run.json").read_text())["parameters"]["total"] // 10
        change(folder, parameters={"total": total, "trained": total // 2, "ratio": 0.5})
    (found,) = judge_claims(load(study), claims).findings
    assert found.verdict is N and "the study has 1e+06, 1e+07, 5e+07, 2e+08" in found.notes[0]
    assert found.command == "python -m ablate -m experiment=scale study=scale 'seed=range(0,6)'"


def test_a_ratio_is_counted_by_model(study):
    claims = read_claims(PAPER)
    claims = replace(claims, claims=tuple(claim for claim in claims.claims if claim.id == "R"))
    write_known(study, {}, Truth(ratio=0.5232), seed=0, steps=20)
    (found,) = judge_claims(load(study), claims).findings
    assert (found.id, found.verdict, found.p, found.parts) == ("R", S, None, ())
    xavier = {"model": {"head_init": "xavier"}}  # the claims are within this setting
    write_known(study, {"model": "tiny"}, Truth(ratio=0.319), seed=0, steps=20, settings=xavier)
    (found,) = judge_claims(load(study), claims).findings
    assert found.verdict is R and {part.verdict for part in found.parts} == {S, R}
    write_known(study, {"freeze": "none"}, Truth(ratio=1.0), seed=0, steps=20)
    assert len(judge_claims(load(study), claims).findings[0].parts) == 2  # this run is not in the treatment arm


AA = (
    MINIMAL.replace("{clip: fixed}", "{nuisance: 1}").replace("{clip: none}", "{nuisance: 0}")
    .replace("[clip]", "[nuisance]").replace("above", "either")
)  # fmt: skip


def test_an_a_a_control_is_exempt_from_the_nuisance_and_the_dropout_hash(study):
    for seed in range(10):
        for nuisance in (0, 1):
            accuracy = 0.8 + NOISE[(seed + 3 * nuisance) % 10] / 100
            write_run(study, seed=seed, nuisance=nuisance, accuracy=accuracy)
    found = finding(study, AA)
    assert (found.verdict, found.n) == (I, 10)
    assert found.within == {} and "nuisance=1" in " ".join(found.notes)


def test_a_user_may_judge_any_quantity_that_run_json_has(study):
    write_two(study, [0.8] * 10, [0.8] * 10)
    for seed in range(10):
        change(study / f"fixed-s{seed}", timing={"started": "2026-01-01T00:00:00Z", "seconds": 10 + NOISE[seed]})
        change(study / f"none-s{seed}", timing={"started": "2026-01-01T00:00:00Z", "seconds": 20 - NOISE[seed]})
    text = MINIMAL.replace("test_accuracy", "timing.seconds").replace("points", "log").replace("above", "below")
    found = finding(study, text + "    smallest_effect: 0.67\n    why: an example\n")
    assert found.verdict is S and np.exp(found.effect) == pytest.approx(0.5, rel=0.02)


def test_values_outside_a_scale_are_named(study):
    write_two(study, [0.8] * 10, [0.8] * 10)
    change(study / "none-s0", status="diverged", metrics={})
    found = finding(study, MINIMAL.replace("test_accuracy", "learned").replace("points", "log"))
    assert found.verdict is I and found.effect is None
    assert "the effect cannot be computed: values on the log scale must be above 0 (got 0.0)" in found.notes


# --- odd names, and runs that vanish ---


@pytest.mark.parametrize("name", ["None", "null", "NA", "nan", "<script>", "a_b%", "$x$"])
def test_arms_of_any_name_are_judged(study, name):
    for seed in range(10):
        write_run(study, {"clip": name}, seed=seed, accuracy=0.85 + NOISE[seed] / 100)
        write_run(study, {"clip": "fixed"}, seed=seed)
    found = finding(study, MINIMAL.replace("none", f'"{name}"').replace("above", "below"))
    assert found.verdict is S and found.control == {"clip": name}
    assert json.loads(verdicts_json([found]))[0]["control"] == {"clip": name}


def test_a_run_that_vanishes_meanwhile_is_missing_not_a_crash(study):
    write_two(study, 0.85 + NOISE / 100, [0.8] * 10)
    loaded = load(study)
    shutil.rmtree(study / "fixed-s3")
    text = MINIMAL + "    beside: [{contrast: churn}, {contrast: examples}]\n"
    with pytest.warns(UserWarning, match="fixed-s3 is not measured"):
        (found,) = judge_claims(loaded, read_claims(written(study.parent, text))).findings
    assert (found.verdict, found.n, found.n_missing) == (N, 9, 1)
    assert "no test_accuracy for fixed-s3: not recorded, or deleted since" in found.notes
    assert [part.effect for part in found.parts] == [None, None] and "mean test_accuracy: clip=fixed" in found.notes[-1]


# --- more seeds ---


def test_more_seeds_settle_the_size(study):
    write_two(study, 0.8 + (2.5 + NOISE) / 100, [0.8] * 10)
    found = finding(study, MINIMAL + "    smallest_effect: 3\n    why: an example\n")
    assert (found.verdict, found.further_seeds, found.command) == (U, 0, None)
    assert any(note.startswith("no further seeds are planned: 10 seeds have 80% power") for note in found.notes)
    wide = study.parent / "wide"
    write_two(wide, 0.8 + 5 * NOISE / 100, [0.8] * 10)
    text = MINIMAL.replace("seeds: 10", "seeds: 10\nlooks: [10, 40]") + "    smallest_effect: 3\n    why: an example\n"
    found = finding(wide, text)
    assert found.verdict is I and found.further_seeds > 5
    assert re.search(r"range\((\d+),(\d+)\)", found.command).groups() == ("10", str(10 + found.further_seeds))


def test_without_a_smallest_effect_the_detectable_one_is_given(study):
    write_two(study, 0.8 + NOISE / 100, [0.8] * 10)
    found = finding(study)
    assert (found.verdict, found.further_seeds, found.command) == (I, None, None)
    assert any("10 seeds detect" in note for note in found.notes)


def test_more_claims_widen_the_interval(study):
    write_two(study, 0.8 + (0.7 + NOISE) / 100, [0.8] * 10)
    alone = finding(study)
    body = MINIMAL[MINIMAL.index("  one:") :]
    among = finding(study, MINIMAL + "".join(body.replace("one:", f"c{i}:") for i in range(10)))
    looked = finding(study, MINIMAL.replace("seeds: 10", "seeds: 10\nlooks: [10, 20]"))
    equal = finding(study, MINIMAL.replace("seeds: 10", "seeds: 10\nlooks: [10, 20]\nspending: equal"))
    unplanned = finding(study, MINIMAL.replace("seeds: 10", "seeds: 10\nlooks: open"))
    assert (alone.verdict, among.verdict, looked.verdict, equal.verdict, unplanned.verdict) == (S, I, I, I, I)
    assert among.interval == alone.interval and among.p_adjusted == pytest.approx(11 * alone.p)
    assert [found.alpha for found in (alone, among, equal, unplanned)] == [0.05, 0.05, 0.025, 0.025]
    assert looked.alpha == pytest.approx(0.00305, abs=1e-5)
    assert looked.interval_simultaneous.level == pytest.approx(1 - looked.alpha)
