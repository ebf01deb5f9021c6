"""The answer of a report: which technique changes the metric, by how much, how sure, and what to do next."""

import shlex
from dataclasses import replace

import pytest

from analysis.claims.judge import judge_claims
from analysis.claims.reading import for_study, read_claims
from analysis.page.effect_sentences import lead_sentence
from analysis.page.headline import answer, first_sentence, headline
from analysis.page.metric_effects import MetricEffects, TechniqueEffect
from analysis.quantities.registry import REGISTRY
from analysis.records.short_names import short_names
from analysis.records.study import load
from tests.analysis.runs import change, write_run
from tests.analysis.studies import MINIMAL, NOISE, TUNED, write_grid, write_two, written
from tests.tools import ROOT

AUTO = ROOT / "conf/claims/auto.yaml"


def answered(study, path=AUTO):
    loaded = load(study)
    claims = for_study(read_claims(path), loaded)
    return answer(loaded, claims, judge_claims(loaded, claims).findings)


# --- Sentences on made-up effects ---

ACCURACY = REGISTRY["test_accuracy"]
CLIP = TechniqueEffect("clipping at 1", 0.1, -0.6, 0.8, 5, False)


def lead(*effects, quantity=ACCURACY, asked=None):
    return lead_sentence(MetricEffects(quantity, "none", effects, (), len(effects)), asked)


def test_the_lead_names_what_differs_and_whether_it_is_better():
    worse = replace(CLIP, effect=-1.2, low=-2.1, high=-0.3, differs=True)
    assert lead(worse, CLIP) == "Clipping at 1 worsens test accuracy by 1.2 points (0.3 to 2.1)."
    loss = REGISTRY["test_loss"]
    assert lead(replace(worse, effect=-0.5), quantity=loss).startswith("Clipping at 1 improves test loss, × 0.607 (")


def test_without_a_difference_the_lead_names_the_largest_that_is_possible():
    freezing = replace(CLIP, name="freezing", low=-1.9)
    assert lead(CLIP, freezing) == (
        "Neither clipping at 1 nor freezing is shown to change test accuracy; with 5 seeds, a change of up to 1.9 "
        "points remains possible."
    )
    assert lead(CLIP, freezing, asked=3) == (
        "Neither clipping at 1 nor freezing makes a difference of 3 points or more in test accuracy: their 95 % "
        "intervals lie within ±1.9 points."
    )
    assert "is shown to change" in lead(CLIP, freezing, asked=1.5)  # 1.9 points are more than 1.5
    assert lead(replace(CLIP, high=80.0)).endswith("5 seeds cannot rule out a large change.")
    unknown = replace(CLIP, low=float("nan"), high=float("nan"))
    assert lead(unknown) == "Clipping at 1 is not shown to change test accuracy: no interval can be computed."
    assert lead(replace(unknown, effect=0.0)) == "Clipping at 1 makes no difference in test accuracy on any seed."


def test_an_exchange_counts_only_where_nothing_is_added():
    exchange = replace(CLIP, name="a instead of b", high=9.0)
    assert "0.8 points" in lead(CLIP, exchange) and "9.0 points" in lead(exchange)


# --- Studies ---


def test_an_arm_that_differs_is_named_with_size_and_interval(tmp_path):
    write_two(tmp_path / "study", 0.75 + NOISE / 200, [0.8] * 10)
    found = answered(tmp_path / "study")
    assert found.lead.startswith("Clipping at 1 worsens test accuracy by 5.0 points (")
    assert "over 10 paired seeds, adjusted for" in found.text


def test_many_arms_are_counted_and_unlearned_runs_are_named(tmp_path):
    for seed in range(3):
        for threshold in (None, *range(1, 8)):
            clip = {"clip": {"threshold": float(threshold)}} if threshold else {}
            right = 0.5 if seed == 0 and not threshold else 0.8 + seed / 100
            write_run(tmp_path / "study", {"clip": "fixed" if threshold else "none"}, clip, seed=seed, accuracy=right)
    against_none = AUTO.read_text().replace("reference: null", "reference: {clip: none}")
    found = answered(tmp_path / "study", written(tmp_path, against_none))
    assert found.lead.startswith("No technique is shown to change test accuracy")
    assert "clipping at 1 " in found.text and "3 more in the figure" in found.text
    assert "On 1 seed a run did not learn." in found.text


@pytest.mark.parametrize(
    ("gain", "words"), [(5, "1 of 1 claim is supported. Supported: "), (0, "1 of 1 claim is inconclusive.")]
)
def test_claims_are_counted_and_a_plan_that_is_done_ends(tmp_path, gain, words):
    write_two(tmp_path / "study", 0.8 + (gain + NOISE) / 100, [0.8] * 10)
    found = answered(tmp_path / "study", written(tmp_path, MINIMAL))
    assert words in found.text
    assert found.next == ("Next: the 10 planned seeds are complete, so no further seeds are due.", "")


def test_where_claims_tune_the_arms_they_are_the_answer(tmp_path):
    """One by one, the points of a grid say nothing about a technique: the 12 points of the best against the worst."""
    write_grid(tmp_path / "study", {"fixed": (0, 5, 12), "none": (0, 10, 5)})
    found = answered(tmp_path / "study", written(tmp_path, TUNED))
    assert found.lead == "1 of 1 claim is supported." and found.is_on_claims
    assert found.found is None and "lr" not in found.text
    write_two(tmp_path / "other", 0.8 + (5 + NOISE) / 100, [0.8] * 10)
    assert not answered(tmp_path / "other", written(tmp_path, MINIMAL)).is_on_claims


def test_below_the_plan_no_difference_is_shown(tmp_path):
    write_two(tmp_path / "study", [0.9, 0.91, 0.9], [0.8] * 3)
    found = answered(tmp_path / "study", written(tmp_path, MINIMAL))
    assert found.lead == "No difference is shown before the planned number of seeds."
    assert "3 seeds of 10 planned: until then only means are shown" in found.text
    assert found.found is None and "points" not in found.text
    assert (
        found.next.sentence == "Next: 7 more seeds before claim one is judged:"
        and "seed=range(3,10)" in found.next.command
    )


@pytest.mark.parametrize(("seeds", "arms"), [(1, 2), (3, 1), (3, 2)])
def test_a_study_without_claims_of_its_own(tmp_path, seeds, arms):
    for seed in range(seeds):
        for clip, accuracy in [("none", 0.7), ("fixed", 0.8)][:arms]:
            write_run(
                tmp_path / "outputs/mine", {"clip": clip}, seed=seed, accuracy=accuracy + seed / 100 * (clip == "none")
            )
    study = load(tmp_path / "outputs/mine")
    claims = for_study(read_claims(AUTO), study)
    findings = judge_claims(study, claims).findings
    shown, *rest = headline(study, claims, findings).splitlines()
    assert shown.startswith(first_sentence(study, claims, findings))
    if arms == 1:
        assert shown.startswith("There is one arm only (none-none-none)") and rest == [
            "Next: add arms to compare, such as clip=none,fixed,delayed."
        ]
    elif seeds == 1:
        assert shown.startswith("One seed cannot separate a difference from chance. On seed 0, against no clipping: ")
        assert "clipping at 1: test accuracy +10 points" in shown
        assert rest[0] == "Next: 4 more seeds, for 5 in all:"
        assert shlex.split(rest[1])[3:] == ["-m", "study=mine", "seed=1,2,3,4", "clip=none,fixed"]
    else:
        assert shown.startswith("Clipping at 1 ") and "adjusted for" in shown
        assert "9 more seeds would make the intervals about half as wide" in rest[0] and "seed=range(3,12)" in rest[1]


@pytest.mark.parametrize(("seeds", "next_step"), [
    (1, "Next: 4 more seeds, for 5 in all, made by your own loop."),
    (3, "Next: nothing is due, as no smallest difference of interest is set. 9 more seeds would make the intervals "
        "about half as wide."),
])  # fmt: skip
def test_a_users_own_loop_makes_its_own_runs(tmp_path, seeds, next_step):
    """Our command would add runs of our trainer to theirs."""
    for seed in range(seeds):
        for clip, accuracy in [("none", 0.7), ("fixed", 0.8)]:
            right = accuracy + seed / 100 * (clip == "none")
            write_run(tmp_path / "mine", {"clip": clip}, seed=seed, accuracy=right, made_by="ablate.Recorder")
    assert answered(tmp_path / "mine").next == (next_step, "")


@pytest.mark.parametrize(("command", "has_one"), [("", False), ("command: python train.py\n", True)])
def test_a_claim_on_runs_of_a_users_own_loop(tmp_path, command, has_one):
    write_two(tmp_path / "mine", [0.9, 0.91, 0.9], [0.8] * 3)
    for run in (tmp_path / "mine").iterdir():
        change(run, made_by="ablate.Recorder")
    found = answered(tmp_path / "mine", written(tmp_path, command + MINIMAL.lstrip()))
    assert found.next.sentence.startswith("Next: 7 more seeds before claim one is judged")
    assert bool(found.next.command) == has_one == found.next.command.startswith("python train.py ")


def test_short_names_are_distinct_and_labels_where_they_would_not_be():
    plain = {"freeze": "none", "clip": "none", "optimizer": "adamw", "optimizer.lr": 1e-4, "nuisance": 0}
    arms = {
        "a": plain,
        "b": {**plain, "clip": "fixed", "clip.threshold": 1.0, "freeze": "last_n", "freeze.n": 1},
        "c": {**plain, "optimizer.lr": 2e-4},
        "d": {**plain, "nuisance": 1},
    }
    assert short_names(arms) == {
        "a": "no technique",
        "b": "freezing + clipping at 1",
        "c": "no technique, lr 0.0002",
        "d": "no technique, dropout seed 1",
    }
    odd = {"x": {**plain, "clip": "a_b", "freeze": "none"}, "y": {**plain, "clip": "a b", "freeze": "none"}, "z": plain}
    assert short_names(odd) == {"x": "x", "y": "y", "z": "z"}
