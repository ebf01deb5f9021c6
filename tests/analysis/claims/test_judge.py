"""Whole studies are judged: the published one, and small ones that reach every verdict."""

import json
import shutil
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest

from analysis.claims.finding import NOT_KEYS, Finding, verdicts_json, with_parts
from analysis.claims.judge import Judgement, judge_claims, problems_for, unregistered
from analysis.claims.reading import read_claims
from analysis.claims.verdict_rule import REAL, Verdict
from analysis.records.study import load
from tests.analysis.runs import change, write_run
from tests.analysis.studies import MINIMAL, NOISE, PAPER, finding, judged, write_paper, write_two, written

S, M, U, E, R, O, I, N = Verdict  # noqa: E741
EFFECT = "    smallest_effect: 3\n    why: an example\n"


@pytest.fixture
def study(tmp_path):
    """A folder for a study, and for a claims file next to it."""
    return tmp_path / "study"


# --- the published study ---


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs") / "paper"
    write_paper(folder)
    return folder, judge_claims(load(folder), read_claims(PAPER))


def test_every_claim_of_the_published_study_gets_its_true_verdict(paper):
    words = {found.id: found.verdict for found in paper[1].findings}
    assert words == {
        "A1": S, "A2": S, "B": S, "C": S, "D": O, "E": O, "F": E, "G": S, "H": N, "I": S, "L": S, "R": S,
    }  # fmt: skip


def test_parts_are_judged_one_by_one(paper):
    found = {finding.id: finding for finding in with_parts(paper[1].findings)}
    assert [found[f"C.{i}"].verdict for i in (1, 2)] == [S, S]
    assert [found[f"F.{i}"].verdict for i in (1, 2, 3, 4)] == [M, M, U, E]
    assert found["G.1"].verdict is S and found["G.1 freeze×clip"].verdict is S
    assert [found[f"G.1 {other}"].verdict for other in ("freeze×scheduler", "clip×scheduler")] == [I, I]
    assert found["F"].effect is None and found["F"].n == 10


def test_contrasts_shown_with_a_claim_are_not_judged(paper):
    beside = {found.id: found for found in with_parts(paper[1].findings) if "+" in found.id}
    assert Counter(name.partition("+")[0] for name in beside) == {
        **{"A2": 4, "B": 2, "D": 2, "E": 1, "F": 2, "H": 1, "I": 1, "L": 5},
    }
    for found in beside.values():
        assert found.verdict is found.p_adjusted is found.interval_simultaneous is found.further_seeds is None
        assert (found.effect is None) == (
            found.id in ("H+1", *(f"L+{i}" for i in range(2, 6)))
        )  # arms that the study lacks
    assert beside["B+2"].interval.low < beside["B+2"].effect < beside["B+2"].interval.high
    assert beside["L+1"].effect == pytest.approx(40)  # two of five learning rates more, in points


def test_effects_are_those_of_the_runs(paper):
    folder, judgement = paper
    runs, found = load(folder).runs, {finding.id: finding for finding in with_parts(judgement.findings)}
    accuracy = runs[(runs["optimizer"] == "adamw") & (runs["optimizer.lr"] == 1e-4) & (runs["nuisance"] == 0)]
    accuracy = accuracy[accuracy["model.head_init"] == "xavier"].set_index(["freeze", "clip", "scheduler", "seed"])
    accuracy = accuracy["test_accuracy"].sort_index()
    full, nothing = accuracy["embeddings_attention", "fixed", "warmup_linear"], accuracy["none", "none", "none"]
    assert found["B"].effect == pytest.approx(100 * (full - nothing).mean())
    base = accuracy["embeddings_attention", "none", "none"]
    assert found["I"].effect == pytest.approx(np.log(base.var() / full.var()))
    assert found["R"].effect == pytest.approx(0.0232)
    assert found["H"].n_missing == 10 and "at least 4 sizes" in found["H"].notes[0]


def test_verdicts_json_has_the_agreed_keys_and_only_json_types(paper):
    entries = json.loads(verdicts_json(paper[1].findings))
    contract = [
        *("id", "statement", "section", "treatment", "control", "within", "changes", "quantity", "scale", "effect"),
        *("interval", "interval_seeds", "interval_simultaneous", "p", "p_adjusted", "p_sign_flip", "alpha", "power"),
        *(
            "improvement",
            "skewness",
            "details",
            "n",
            "n_unlearned",
            "n_missing",
            "smallest_effect",
            "why",
            "exploratory",
            "verdict",
        ),
        *("further_seeds", "command", "notes", "parts"),
    ]
    assert [field.name for field in fields(Finding) if field.name not in NOT_KEYS] == contract

    def check(entry):
        assert list(entry) == contract
        assert entry["interval"] is None or entry["interval"][0] <= entry["effect"] <= entry["interval"][1]
        for part in entry["parts"]:
            check(part)

    for entry in entries:
        check(entry)
    assert entries[0]["verdict"] == "supported" and entries[0]["changes"] == ["clip", "scheduler"]
    assert entries[0]["within"]["optimizer.lr"] == 1e-4 and "freeze" not in entries[2]["within"]


def test_holm_rejects_what_bonferroni_does_and_no_less(paper):
    tested = [finding for finding in with_parts(paper[1].findings) if finding.p_adjusted is not None]
    assert len(tested) > 15
    for found in tested:
        excludes = found.interval_simultaneous.low > 0 or found.interval_simultaneous.high < 0
        assert not excludes or found.p_adjusted < 0.05
        assert found.p_adjusted >= found.p
        if found.verdict in REAL:
            assert found.p_adjusted < 0.05
    assert any(
        found.verdict in REAL and found.interval_simultaneous.low < 0 < found.interval_simultaneous.high
        for found in tested
    )  # G.2: Holm is the stronger of the two


# --- every verdict, through a whole study ---


@pytest.mark.parametrize(
    ("verdict", "effect", "spread", "seeds"),
    [
        (S, 5, 1, 10),
        (M, 1, 0.5, 10),
        (U, 2.5, 1, 10),
        (E, 0, 1, 10),
        (R, -1.4, 2.7, 10),
        (O, -5, 1, 10),
        (I, 1, 6, 10),
        (N, 5, 1, 7),
    ],
)
def test_every_verdict_is_reached(study, verdict, effect, spread, seeds):
    differences = (effect + spread * NOISE[:seeds]) / 100
    write_two(study, 0.8 + differences, [0.8] * seeds)
    found = finding(study, MINIMAL + EFFECT)
    assert found.verdict is verdict
    assert found.n == seeds and found.n_missing == 10 - seeds and found.n_unlearned == 0
    assert found.effect == (None if verdict is N else pytest.approx(100 * differences.mean()))
    below = MINIMAL.replace("above", "below") + EFFECT  # the same arms the other way round
    turned = below.replace("{clip: fixed}", "{clip: x}").replace("{clip: none}", "{clip: fixed}").replace("x}", "none}")
    mirrored = finding(study, turned)
    assert mirrored.verdict is verdict and mirrored.smallest_effect == -3
    assert mirrored.effect == (None if verdict is N else -found.effect)


def test_equal_runs_decide_nothing(study):
    write_two(study, [0.8] * 10, [0.8] * 10)
    found = finding(study)
    assert (found.verdict, found.effect, found.interval, found.p, found.p_sign_flip) == (I, 0.0, None, None, 1.0)


# --- looks ---


def test_looks_are_counted_at_full_number_and_the_same_seeds_are_the_same_look(study):
    write_two(study, 0.8 + (0.2 + NOISE[:9]) / 100, [0.8] * 9)
    assert judged(study).looks == ()  # not tested is no look
    write_run(study, {"clip": "none"}, seed=9, run="none-s9")
    write_run(study, {"clip": "fixed"}, seed=9, run="fixed-s9")
    first = judged(study)
    (look,) = first.looks
    assert (look.claims, look.claim, look.seeds, look.verdict) == ("mine", "one", tuple(range(10)), "inconclusive")
    again = judged(study, earlier=first.looks)
    assert again.looks == () and again.findings == first.findings
    for clip in ("none", "fixed"):
        write_run(study, {"clip": clip}, seed=10, run=f"{clip}-s10")
    added = judged(study, earlier=first.looks)
    assert [(look.kind, look.seeds) for look in added.looks] == [("exploratory", tuple(range(11)))]
    (found,) = added.findings
    (explored,) = found.parts
    assert replace(found, parts=(), n_missing=0) == first.findings[0]  # the planned look's verdict stays
    assert (explored.exploratory, explored.verdict, explored.n) == (True, None, 11)
    assert judged(study, earlier=(*first.looks, *added.looks)).looks == ()
    planned = judged(study, MINIMAL.replace("seeds: 10", "seeds: 10\nlooks: [10, 11]"), earlier=first.looks)
    assert planned.findings[0].n == 11 and planned.findings[0].parts == ()


def test_below_the_plan_only_means_are_shown_and_a_peek_halves_what_is_left(study):
    write_two(study, 0.8 + (2 + NOISE[:6]) / 100, [0.8] * 6)
    waits = judged(study)
    (found,) = waits.findings
    assert (found.verdict, found.effect, found.p, waits.looks) == (N, None, None, ())
    peeked = judged(study, peek=True)
    (look,) = peeked.looks
    assert (look.kind, look.seeds) == ("peek", tuple(range(6)))
    assert peeked.findings[0].effect > 0 and peeked.findings[0].alpha == 0.025
    for seed in range(6, 10):
        write_run(study, {"clip": "fixed"}, seed=seed, run=f"fixed-s{seed}", accuracy=0.82 + NOISE[seed] / 100)
        write_run(study, {"clip": "none"}, seed=seed, run=f"none-s{seed}")
    assert judged(study).findings[0].alpha == 0.05  # the negative control: without a peek, the whole alpha
    assert judged(study, earlier=peeked.looks).findings[0].alpha == 0.025


def test_open_looks_halve_alpha_each_and_the_same_seeds_are_the_same_look(study):
    text, earlier = MINIMAL.replace("seeds: 10", "seeds: 3\nlooks: open"), ()
    for n, alpha in ((3, 0.025), (4, 0.0125), (6, 0.00625)):
        grown = study.parent / f"{n}"
        write_two(grown, 0.8 + (2 + NOISE[:n]) / 100, [0.8] * n)
        now = judged(grown, text, earlier)
        assert now.findings[0].alpha == alpha and now.findings[0].n == n
        earlier = (*earlier, *now.looks)
        assert judged(grown, text, earlier) == Judgement(now.findings, ())


def test_a_claim_that_the_study_cannot_test_leaves_the_number_of_claims(study):
    write_two(study, 0.8 + (0.7 + NOISE) / 100, [0.8] * 10)
    body = MINIMAL[MINIMAL.index("  one:") :]
    other = (
        body.replace("one:", "two:").replace("quantity: test_accuracy", "quantity: test_loss").replace("points", "log")
    )
    alone, both = (judged(study, text).findings[0] for text in (MINIMAL, MINIMAL + other))
    needs = judged(study, MINIMAL + other + "    requires: {model: gpt2_xl}\n")
    assert needs.findings[0].interval_simultaneous == alone.interval_simultaneous != both.interval_simultaneous
    assert needs.findings[1].verdict is N
    assert "the claim requires an arm with model=gpt2_xl, which the study lacks" in needs.findings[1].notes


def test_a_part_with_more_seeds_than_planned_waits_for_a_part_whose_arm_is_missing(study):
    write_two(study, 0.8 + np.resize(NOISE, 12) / 100, [0.8] * 12)
    parts = "    parts: [{statement: first}, {statement: second, treatment: {clip: delayed}}]\n"
    (found,) = judged(study, MINIMAL + parts).findings
    assert (found.verdict, found.parts[0].verdict, found.parts[0].further_seeds) == (N, N, 0)
    assert "no arm has clip=delayed" in found.parts[1].notes[0]


def test_each_tested_claim_of_the_published_study_is_a_look(paper):
    assert [look.claim for look in paper[1].looks] == ["A1", "A2", *"BCDEFGIL"]


def test_runs_that_carry_another_claims_file_are_named(study):
    write_two(study, [0.8] * 2, [0.8] * 2)
    claims = read_claims(written(study.parent, MINIMAL))
    assert len(unregistered(load(study), claims)) == 4
    for folder in study.iterdir():
        change(folder, claims={"name": "mine", "sha256": claims.sha256})
    change(study / "none-s1", claims=None)
    assert unregistered(load(study), claims)["run"].tolist() == ["none-s1"]


def test_an_arm_lacks_no_seeds_that_only_another_claim_plans(study):
    """MINIMAL plans 3 seeds and `more` plans 5, which its arms have."""
    write_two(study, [0.8] * 5, [0.8] * 5)
    for seed in range(3):
        write_run(study, {"clip": "delayed"}, seed=seed, run=f"delayed-s{seed}")
    longer = (
        MINIMAL.replace("seeds: 10", "seeds: 3")
        + MINIMAL.partition("claims:\n")[2].replace("one:", "more:")
        + "    seeds: 5\n"
    )
    claims, even = (read_claims(written(study.parent, longer.replace("3", least))) for least in "35")
    assert problems_for(load(study), claims).empty
    assert problems_for(load(study), even)["run"].tolist() == ["delayed, seeds 3–4"]
    shutil.rmtree(study / "delayed-s1")
    assert problems_for(load(study), claims)["run"].tolist() == ["delayed, seed 1"]


def test_an_empty_study_tests_nothing(study):
    study.mkdir()
    found = judge_claims(load(study), read_claims(PAPER)).findings
    assert {finding.verdict for finding in found} == {N}


EQUALITY = """
seeds: 10
within: {optimizer.lr: 1e-4}
claims:
  one:
    statement: the accuracy is 80
    quantity: test_accuracy
    scale: raw
    contrast: equality
    reference: 0.8
    tolerance: 0.01
    treatment: {clip: fixed}
"""


def test_a_claim_of_equality_is_on_the_arms_that_it_names(study):
    """Another learning rate and another clip rule have other numbers: `within` and the claim's own leave them out."""
    for lr, accuracy in ((1e-4, 0.8), (2e-4, 0.5)):
        write_run(study, {"clip": "fixed"}, seed=0, accuracy=accuracy, settings={"optimizer": {"lr": lr}})
    assert finding(study, EQUALITY).verdict is S
    assert finding(study, EQUALITY).n == 1
    assert finding(study, EQUALITY.replace("1e-4", "2e-4")).verdict is R
    assert finding(study, EQUALITY.replace("within: {optimizer.lr: 1e-4}\n", "")).verdict is R  # the control: all runs
    inner = EQUALITY.replace("    treatment", "    within: {optimizer.lr: 2e-4}\n    treatment")
    assert finding(study, inner).verdict is R
    none = finding(study, EQUALITY.replace("1e-4", "3e-4"))
    assert none.verdict is N and "optimizer.lr=0.0003" in none.notes[0]
