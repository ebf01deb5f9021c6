"""The comparison of two studies, on made-up studies whose differences are known."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.__main__ import main
from analysis.claims.reading import read_claims
from analysis.compare.compare import StudyComparison, compare, paired_interval, welch_interval
from analysis.compare.matching import match
from analysis.compare.words import arms_in_words, claims_in_words, headlines, settings_in_words
from analysis.records.study import load
from tests.analysis.runs import evals_frame, predictions_frame, probe_frame, steps_frame, write_run
from tests.analysis.studies import MINIMAL, NOISE, write_two, written

ENVIRONMENT = {"key": "e0", "threads": 1, "torch": "2.13.0", "git": {"commit": "a" * 40, "dirty": False}}


def compared(root: Path, text: str = MINIMAL) -> StudyComparison:
    """`after` against `before`, both below root."""
    return compare(load(root / "after"), load(root / "before"), read_claims(written(root, text)))


def write_arms(study: Path, clips: tuple[str, ...] = ("none", "fixed"), seeds: int = 3, **entries) -> None:
    for clip in clips:
        for seed in range(seeds):
            write_run(study, {"clip": clip}, seed=seed, run=f"{clip}-s{seed}", **entries)


# --- which arms belong together ---


def arm(clip: str = "none", lr: float = 1e-4, **more):
    return {"clip": clip, "optimizer": "adamw", "optimizer.lr": lr, "nuisance": 0, **more}


def matched(ours: list, theirs: list):
    """Labels are positions: a0, a1, … and b0, b1, …"""
    return match({f"a{i}": a for i, a in enumerate(ours)}, {f"b{i}": b for i, b in enumerate(theirs)})


@pytest.mark.parametrize(
    ("ours", "theirs", "pairs", "ambiguous", "only"),
    [
        # the same, in another order
        ([arm("none"), arm("fixed")], [arm("fixed"), arm("none")], "a0b1 a1b0", "", ""),
        # another learning rate throughout
        ([arm("none", 1), arm("fixed", 1)], [arm("none", 2), arm("fixed", 2)], "a0b0 a1b1", "", ""),
        # a learning rate that depends on the optimizer
        (
            [arm(lr=1), arm(lr=2, optimizer="sgd")],
            [arm(lr=3), arm(lr=4, optimizer="sgd")],
            "a0b0 a1b1",
            "",
            "",
        ),
        # a key that only the newer version has
        ([arm("none", new=0), arm("fixed", new=0)], [arm("none"), arm("fixed")], "a0b0 a1b1", "", ""),
        # a rule's setting, in the arms that have it
        ([arm(), arm("late", start=5)], [arm(), arm("late", start=9)], "a0b0 a1b1", "", ""),
        # a technique in the place of another is no counterpart where there are arms in common ...
        ([arm(), arm("fixed")], [arm(), arm("late")], "a0b0", "", "a1 b1"),
        # ... but it is what differs where there are none
        ([arm("fixed")], [arm("late")], "a0b0", "", ""),
        # sweeps that overlap
        ([arm(lr=1), arm(lr=2), arm(lr=3)], [arm(lr=2), arm(lr=3), arm(lr=4)], "a1b0 a2b1", "", "a0 b2"),
        # sweeps that do not: which belongs to which?
        ([arm(lr=1), arm(lr=2)], [arm(lr=3), arm(lr=4)], "", "a0a1b0b1:optimizer.lr", ""),
        # one of them is ambiguous
        (
            [arm("none", 1), arm("fixed", 1), arm("fixed", 2)],
            [arm("none", 3), arm("fixed", 3)],
            "a0b0",
            "a1a2b1:optimizer.lr",
            "",
        ),
        # base and fixed at another rate, beside a sweep of base that stays: all others changed in the same way
        (
            [arm("none", 1), arm("fixed", 1), arm("none", 10)],
            [arm("none", 2), arm("fixed", 2), arm("none", 10)],
            "a0b0 a1b1 a2b2",
            "",
            "",
        ),
        # arms of one study only; the control of another nuisance seed is none of the other arms
        ([arm(), arm(nuisance=1)], [arm(), arm("fixed")], "a0b0", "", "a1 b1"),
    ],
)
def test_arms_are_matched_or_reported(ours, theirs, pairs, ambiguous, only) -> None:
    found = matched(ours, theirs)
    assert " ".join(a + b for a, b in found.pairs) == pairs
    assert " ".join(f"{''.join((*a, *b))}:{','.join(keys)}" for a, b, keys in found.ambiguous) == ambiguous
    assert " ".join((*found.only[0], *found.only[1])) == only


ARMS = st.lists(
    st.builds(arm, st.sampled_from(["none", "fixed", "late"]), st.sampled_from([1, 2, 3])), unique_by=str, max_size=6
)


@given(ARMS, ARMS)
def test_each_arm_has_one_place_and_the_sides_may_be_swapped(ours, theirs) -> None:
    found, swapped = matched(ours, theirs), matched(theirs, ours)
    places = [label for pair in found.pairs for label in pair]
    places += [label for a, b, _ in found.ambiguous for label in (*a, *b)] + [*found.only[0], *found.only[1]]
    assert sorted(places) == sorted([f"a{i}" for i in range(len(ours))] + [f"b{i}" for i in range(len(theirs))])
    mirrored = {(f"a{b[1:]}", f"b{a[1:]}") for a, b in found.pairs}
    assert mirrored == set(swapped.pairs)


@given(ARMS)
def test_a_study_matches_itself(arms) -> None:
    found = matched(arms, arms)
    assert found.pairs == tuple((f"a{i}", f"b{i}") for i in range(len(arms)))
    assert not found.ambiguous and found.only == ((), ())


# --- nothing changed ---


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """after and before: the same runs of two arms, fixed and none in this order, on three seeds."""
    write_arms(tmp_path / "before", environment=ENVIRONMENT)
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    return tmp_path


def rewrite(root: Path, run: str, **frames: pd.DataFrame) -> None:
    """Replace one run of `after`, of seed 1, by one with other records."""
    shutil.rmtree(root / "after" / run)
    files = {f"{name}.parquet": frame for name, frame in frames.items()}
    write_run(root / "after", {"clip": run.partition("-")[0]}, seed=1, run=run, frames=files, environment=ENVIRONMENT)


def test_of_an_identical_study_nothing_differs(twins: Path) -> None:
    found = compared(twins)
    assert found.settings.empty
    assert found.arms["match"].tolist() == ["same settings"] * 2
    assert found.arms["identical"].tolist() == found.arms["common_seeds"].tolist() == [3, 3]
    assert (found.arms["difference"] == 0).all() and found.arms["first_difference"].isna().all()
    assert "flipped" not in set(found.claims["change"])
    lines = headlines(found)
    assert "arms: 2 matched, 2 of them with the same settings; 0 only in after, 0 only in before" in lines
    assert "runs of the same arm and seed: 6 of 6 identical to the bit" in lines
    assert "settings, versions, hardware and claims file are the same" in lines
    assert arms_in_words(found)["identical to the bit"].tolist() == ["3 of 3 seeds"] * 2


def test_one_bit_of_one_loss_is_seen_and_where(twins: Path) -> None:
    steps = steps_frame(20, seed=1)
    steps.loc[6, "loss"] = np.nextafter(steps["loss"][6], 1)
    rewrite(twins, "fixed-s1", steps=steps)
    arms = compared(twins).arms.set_index("arm")
    assert arms["identical"].to_dict() == {"none": 3, "fixed": 2}
    assert arms["first_difference"]["fixed"] == 7
    assert arms_in_words(compared(twins))["identical to the bit"][0] == "2 of 3 seeds; differs from step 7"


def test_a_record_that_only_a_later_version_has_is_no_difference(twins: Path) -> None:
    rewrite(twins, "fixed-s1", probe=probe_frame(20, seed=1))
    assert compared(twins).arms["identical"].tolist() == [3, 3]
    shutil.rmtree(twins / "before/fixed-s1")
    shutil.copytree(twins / "after/fixed-s1", twins / "before/fixed-s1")
    rewrite(twins, "fixed-s1", probe=probe_frame(20, seed=1).assign(loss=np.float32(0.5)))  # both have it
    assert sorted(compared(twins).arms["identical"]) == [2, 3]


def test_the_clock_is_no_difference_and_every_other_record_is(twins: Path) -> None:
    rewrite(twins, "fixed-s1", steps=steps_frame(20, seed=1).assign(seconds=9.0))
    assert compared(twins).arms["identical"].tolist() == [3, 3]
    rewrite(twins, "fixed-s1", predictions=predictions_frame().assign(probability=np.float32(0.8)))
    rewrite(twins, "none-s1", evals=evals_frame(20, seed=1).assign(loss=0.5))
    found = compared(twins).arms
    assert found["identical"].tolist() == [2, 2] and found["first_difference"].isna().all()


def test_runs_of_another_length_part_where_one_ends(twins: Path) -> None:
    rewrite(twins, "none-s1", steps=steps_frame(20, seed=1).head(12))
    assert compared(twins).arms.set_index("arm")["first_difference"]["none"] == 13


# --- what differs ---


def test_what_differs_throughout_is_named_once(tmp_path: Path) -> None:
    write_arms(tmp_path / "before")
    write_arms(tmp_path / "after", settings={"optimizer": {"lr": 2e-4}})
    found = compared(tmp_path)
    assert found.settings.to_numpy().tolist() == [["optimizer.lr", "0.0002", "0.0001", "throughout"]]
    assert found.arms[["arm", "arm_against", "match"]].to_numpy().tolist() == [
        ["fixed", "fixed", "settings differ"],
        ["none", "none", "settings differ"],
    ]
    assert found.arms["comparison"].tolist() == ["paired", "paired"]


def test_a_difference_in_some_arms_names_them(tmp_path: Path) -> None:
    for study, start in (("before", 50), ("after", 9)):
        write_arms(tmp_path / study, ("none",))
        write_arms(tmp_path / study, ("delayed",), settings={"clip": {"start": start}})
    found = compared(tmp_path)
    assert found.settings.to_numpy().tolist() == [["clip.start", "9", "50", "in delayed"]]
    assert found.arms["match"].tolist() == ["settings differ", "same settings"]


def test_versions_and_claims_files_are_compared(twins: Path) -> None:
    newer = ENVIRONMENT | {"key": "e1", "torch": "2.14.0", "git": {"commit": "b" * 40, "dirty": False}, "cuda": "13"}
    shutil.rmtree(twins / "after")
    write_arms(twins / "after", environment=newer, claims={"name": "paper", "sha256": "d" * 64})
    found = compared(twins)
    assert found.settings.set_index("key")["value"].to_dict() == {
        "claims.sha256": "d" * 64,
        "environment.torch": "2.14.0",
        "environment.git.commit": "b" * 40,
        "environment.cuda": "13",
    }
    assert set(found.settings["where"]) == {"environment"}
    shown = settings_in_words(found).set_index("setting or version")
    assert shown.loc["environment.git.commit", ["after", "before"]].tolist() == ["bbbbbbbbbb…", "aaaaaaaaaa…"]
    assert shown["before"]["environment.cuda"] == "not recorded"
    assert found.arms["comparison"].tolist() == ["paired", "paired"]  # though the environment is another


def test_arms_of_one_study_and_ambiguous_ones_are_shown_and_not_compared(tmp_path: Path) -> None:
    write_arms(tmp_path / "before", ("none", "fixed"))
    write_arms(tmp_path / "after", ("none",))
    for study, rates in (("after", (1, 2)), ("before", (3, 4))):
        for lr in rates:
            write_run(tmp_path / study, {"optimizer": "sgd"}, {"optimizer": {"lr": lr}}, run=f"sgd{lr}", accuracy=0.7)
    found = compared(tmp_path)
    assert found.matching.only == ((), ("fixed-adamw",))
    assert found.arms["match"].tolist() == ["same settings"] + 4 * ["ambiguous"] + ["alone"]
    assert found.arms["difference"].notna().tolist() == [True] + 5 * [False]
    assert found.arms["test_accuracy"].tolist()[1:3] == [0.7, 0.7]
    lines = headlines(found)
    assert lines[1].endswith("; 0 only in after, 1 only in before")
    assert lines[2] == (
        "ambiguous, not compared: sgd[lr=1], sgd[lr=2] of after and none-sgd[lr=3], none-sgd[lr=4] of before, "
        "which differ only in optimizer.lr, with no value in common"
    )
    words = arms_in_words(found)
    assert words["arm"].tolist()[1:] == ["sgd[lr=1]", "sgd[lr=2]", "none-sgd[lr=3]", "none-sgd[lr=4]", "fixed-adamw"]
    assert words["compared"].tolist()[1:] == 2 * ["ambiguous, of after"] + 2 * ["ambiguous, of before"] + [
        "only in before"
    ]


# --- accuracies ---

# Student's sleep data, of which R's t.test gives the intervals
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def ends(interval) -> tuple[float, float]:
    return interval.low, interval.high


def test_intervals_are_those_of_r() -> None:
    assert ends(paired_interval(DRUG_1, DRUG_2)) == pytest.approx((-2.4598858, -0.7001142))
    assert ends(welch_interval(DRUG_1, DRUG_2)) == pytest.approx((-3.3654832, 0.2054832))
    assert welch_interval([1.0], [1.0, 2.0]) is None and welch_interval([1.0, 1.0], [2.0, 2.0]) is None
    assert paired_interval([1.0], [2.0]) is None and paired_interval([1.0, 2.0], [2.0, 3.0]) is None


AFTER, BEFORE = [0.81, 0.85, 0.84, 0.9], [0.80, 0.79, 0.82, 0.83]


def write_accuracies(root: Path, after=AFTER, before=BEFORE, first_seed: int = 0, **entries) -> None:
    """One arm; `entries` go to the runs of `after`, whose seeds start from `first_seed`."""
    for seed, accuracy in enumerate(before):
        write_run(root / "before", seed=seed, run=f"s{seed}", accuracy=accuracy)
    for seed, accuracy in enumerate(after, first_seed):
        write_run(root / "after", seed=seed, run=f"s{seed}", accuracy=accuracy, **entries)


def only_arm(root: Path):
    (row,) = compared(root).arms.itertuples()
    return row


def test_common_seeds_are_paired(tmp_path: Path) -> None:
    write_accuracies(tmp_path)
    row = only_arm(tmp_path)
    expected = stats.ttest_rel(AFTER, BEFORE).confidence_interval()
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert (row.difference, row.comparison, row.runs) == (pytest.approx(0.04), "paired", 4)
    assert arms_in_words(compared(tmp_path))["compared"].tolist() == ["paired; 4 seeds"]


def test_pairs_are_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    write_accuracies(tmp_path, first_seed=1)
    row = only_arm(tmp_path)
    assert (row.comparison, row.runs, row.common_seeds) == ("paired", 3, 3)
    assert row.difference == pytest.approx(np.mean(AFTER[:3]) - np.mean(BEFORE[1:]))


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"pairing": {"batches": "x", "head": "h0", "dropout": "d0.0"}}, "unpaired: batches, head, dropout differ"),
        ({"first_seed": 10}, "unpaired: no common seed"),
        ({"first_seed": 3}, "unpaired: 1 common seed"),
    ],
)
def test_what_is_not_paired_is_compared_by_welch(entries: dict, why: str, tmp_path: Path) -> None:
    write_accuracies(tmp_path, **entries)
    row = only_arm(tmp_path)
    expected = stats.ttest_ind(AFTER, BEFORE, equal_var=False).confidence_interval()
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert row.comparison == why
    assert arms_in_words(compared(tmp_path))["compared"].tolist() == [f"{why}; 4 and 4 runs"]


def test_another_model_has_another_head_and_is_paired_all_the_same(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / "before", seed=seed)
        other = {"batches": f"b{seed}", "head": "another", "dropout": f"d{seed}.0"}
        write_run(tmp_path / "after", {"model": "minilm"}, seed=seed, pairing=other)
    assert only_arm(tmp_path).comparison == "paired"
    assert compared(tmp_path).settings["key"].tolist() == ["model"]


def test_a_diverged_run_counts_as_the_majority_class(tmp_path: Path) -> None:
    write_accuracies(tmp_path, [0.8, 0.9], [0.8, 0.9])
    shutil.rmtree(tmp_path / "after/s1")
    write_run(tmp_path / "after", seed=1, status="diverged", metrics={})
    row = only_arm(tmp_path)
    assert (row.test_accuracy, row.runs, row.diverged) == (pytest.approx(0.65), 2, 1)
    assert arms_in_words(compared(tmp_path))["compared"].tolist() == ["paired; 2 seeds; 1 and 0 diverged"]


def test_an_arm_that_is_not_finished_yet_is_matched(tmp_path: Path) -> None:
    write_accuracies(tmp_path)
    write_run(tmp_path / "before", {"clip": "fixed"})
    write_run(tmp_path / "after", {"clip": "fixed"}, status="running")
    row = compared(tmp_path).arms.set_index("arm").loc["fixed"]
    assert (row["runs"], row["runs_against"]) == (0, 1) and np.isnan(row["difference"])


# --- verdicts ---


def write_effects(root: Path, after: float, before: float) -> None:
    """Two studies of ten seeds; after, before: the gain in accuracy from clipping."""
    for name, gain in (("after", after), ("before", before)):
        write_two(root / name, 0.85 + gain + NOISE / 100, 0.85 + NOISE[::-1] / 100)


def test_a_verdict_that_flips_is_found(tmp_path: Path) -> None:
    write_effects(tmp_path, after=-0.05, before=0.05)
    (row,) = compared(tmp_path).claims.itertuples()
    assert (row.verdict, row.verdict_against, row.change) == ("opposite", "supported", "flipped")
    assert (row.effect, row.effect_against) == (pytest.approx(-5), pytest.approx(5))
    assert "verdicts on claims and their parts: 1 flipped" in headlines(compared(tmp_path))
    assert not list(tmp_path.rglob("looks.jsonl"))


def test_an_effect_that_moves_without_changing_the_verdict_is_none(tmp_path: Path) -> None:
    write_effects(tmp_path, after=0.06, before=0.04)
    assert compared(tmp_path).claims["change"].tolist() == ["the same"]


def test_flips_come_first_and_what_neither_tests_is_left_out_of_the_words(tmp_path: Path) -> None:
    write_effects(tmp_path, after=-0.05, before=0.05)
    shutil.rmtree(tmp_path / "after/fixed-s9")
    claim = MINIMAL.partition("claims:")[2].partition("  one:")[2]
    few = claim.rstrip() + "\n    seeds: 9\n"
    absent = few.replace("{clip: fixed}", "{clip: delayed}")
    found = compared(tmp_path, f"seeds: 10\nclaims:\n  gone:{absent}  one:{claim.rstrip()}\n  few:{few}")
    assert found.claims[["id", "change"]].to_numpy().tolist() == [
        ["few", "flipped"],
        ["one", "tested in one only"],
        ["gone", "tested in neither"],
    ]
    words = claims_in_words(found)
    assert words["claim"].tolist() == ["few", "one"]
    assert words["after"][0].startswith("opposite: -5") and words["after"][0].endswith("points, n = 9")
    assert headlines(found)[-1].endswith("1 flipped, 1 tested in one only, 1 tested in neither")


def test_a_claim_that_one_study_cannot_test_has_a_reason(tmp_path: Path) -> None:
    write_effects(tmp_path, after=0.05, before=0.05)
    for folder in (tmp_path / "after").glob("fixed-*"):
        shutil.rmtree(folder)
    assert claims_in_words(compared(tmp_path))["after"][0].startswith("not tested: no arm has clip=fixed")


# --- the command ---


def analysis(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    write_effects(tmp_path / "outputs", after=-0.05, before=0.05)
    written(tmp_path, MINIMAL)
    done = analysis("outputs/after", "--against", "outputs/before", "--claims", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "after against before" in done.stdout and "20 identical to the bit" in done.stdout
    assert "flipped" in done.stdout and "paired; 10 seeds" in done.stdout
    assert "outputs/before: 20 runs were not started with this claims file" in done.stdout
    folder = tmp_path / "outputs/after/report/against-before"
    assert {path.name for path in folder.iterdir()} == {
        f"{table}.{kind}" for table in ("arms", "settings", "claims") for kind in ("csv", "md", "tex")
    }
    arms = pd.read_csv(folder / "arms.csv", keep_default_na=False)
    assert dict(zip(arms["arm"], arms["difference"], strict=True)) == pytest.approx({"none": 0, "fixed": -0.1})
    assert not list(tmp_path.rglob("looks.jsonl"))


def test_a_file_in_the_place_of_the_tables_folder(tmp_path: Path, monkeypatch, capsys) -> None:
    write_effects(tmp_path / "outputs", after=-0.05, before=0.05)
    written(tmp_path, MINIMAL)
    place = tmp_path / "outputs/after/report/against-before"
    place.parent.mkdir()
    place.write_text("mine")
    monkeypatch.chdir(tmp_path)
    arguments = ("outputs/after", "--against", "outputs/before", "--claims", "mine.yaml")
    monkeypatch.setattr(sys, "argv", ["analysis", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr().out
    assert end.value.code == 2 and place.read_text() == "mine"
    assert "flipped" in shown  # the comparison itself
    assert "no tables could be written: outputs/after/report/against-before cannot be written: File exists" in shown


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("outputs/none", "no study in outputs/none: there is no such folder"),
        ("outputs/empty", "outputs/empty has no finished run"),
        ("outputs/link", "--against must be another study, in a folder or an archive of its own (got outputs/link)"),
    ],
)
def test_errors_are_messages_with_exit_code_2(other: str, message: str, tmp_path: Path, monkeypatch, capsys) -> None:
    write_arms(tmp_path / "outputs/after", ("none",), seeds=1)
    (tmp_path / "outputs/empty").mkdir()
    os.symlink("after", tmp_path / "outputs/link")
    written(tmp_path, MINIMAL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["analysis", "outputs/after", "--against", other, "--claims", "mine.yaml"])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "outputs/after/report").exists()
