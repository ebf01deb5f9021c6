"""Claims files: the published one is read as intended, a user's own too, and mistakes are named."""

import hashlib
import math
from pathlib import Path

import pytest

from ablate.config.paths import claims_file
from analysis.claims.contrasts import Equality, OneSample, Paired, Sensitivity, Sizes
from analysis.claims.looks import LookPlan
from analysis.claims.reading import read_claims
from analysis.claims.verdict_rule import Direction
from tests.analysis.studies import MINIMAL, PAPER, written
from tests.tools import make_odd

ABOVE, BELOW, EITHER = Direction.ABOVE, Direction.BELOW, Direction.EITHER


def question(folder, *edits, text=MINIMAL):
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return read_claims(written(folder, text)).claims[0].questions[0]


# --- the published file ---


def test_the_published_claims_are_eleven_tested_ones_and_an_exact_one():
    claims = read_claims(PAPER)
    assert [claim.id for claim in claims.claims] == ["A1", "A2", *"BCDEFGHILR"]
    assert sum(claim.is_tested for claim in claims.claims) == 11
    assert [claim.id for claim in claims.claims if not claim.is_tested] == ["R"]
    assert {claim.looks for claim in claims.claims} == {LookPlan((10,), "obrien_fleming", 10)}
    assert (claims.name, claims.sha256) == ("paper", hashlib.sha256(PAPER.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("claim", "quantity", "scale", "direction", "smallest"),
    [
        ("A1", "loss_variance", "log", BELOW, None),
        ("A2", "probe_jitter", "log", BELOW, -math.log(0.67)),
        ("B", "test_accuracy", "points", ABOVE, 3),
        ("C.1", "mlp_share_below_one", "logit", ABOVE, None),
        ("C.2", "mlp_share_below_one", "logit", ABOVE, None),
        ("D", "early_classifier_norm", "log", ABOVE, None),
        ("E", "delta_g_slope", "raw", BELOW, None),
        ("F.1", "mean_probe_loss", "log", ABOVE, math.log(1.05)),
        ("F.2", "mean_probe_loss", "log", BELOW, math.log(1.05)),
        ("F.3", "mean_probe_loss", "log", ABOVE, math.log(1.05)),
        ("F.4", "mean_probe_loss", "log", BELOW, math.log(1.05)),
        ("G.1", "probe_jitter", "log", EITHER, None),
        ("G.2", "test_accuracy", "points", EITHER, None),
        ("H", "test_accuracy", "points", ABOVE, None),
        ("I", "test_accuracy", "log", ABOVE, math.log(2)),
        ("L", "capped_test_loss", "log", BELOW, math.log(2)),
        ("R", "parameters.ratio", "raw", EITHER, None),
    ],
)
def test_the_published_claims_are_those_of_the_table(claim, quantity, scale, direction, smallest):
    found = {question.id: question for question in read_claims(PAPER).questions}[claim]
    assert (found.quantity, found.scale, found.direction) == (quantity, scale, direction)
    assert found.smallest == (None if smallest is None else pytest.approx(smallest))


def test_the_published_contrasts():
    found = {question.id: question for question in read_claims(PAPER).questions}
    both = {"clip": "fixed", "clip.threshold": 1.0, "scheduler": "warmup_linear"}
    base = {"clip": "none", "scheduler": "none"}
    for claim in ("A1", "A2", "H", "L"):
        assert (found[claim].treatment, found[claim].control) == (both, base)
        assert found[claim].within["freeze"] == "embeddings_attention"
    assert (found["I"].treatment, found["I"].control) == (base, both)
    assert found["B"].treatment == both | {"freeze": "embeddings_attention"}
    assert found["B"].control == base | {"freeze": "none"}
    assert found["C.1"].contrast == OneSample(0.5) and found["D"].contrast == OneSample(1.0)
    assert [found[f"F.{i}"].within["optimizer"] for i in (1, 2, 3, 4)] == ["adamw", "adamw", "sgd", "sgd"]
    assert "optimizer.lr" not in found["F.3"].within  # AdamW's learning rate is not SGD's
    assert found["F.2"].treatment["clip.start"] == 50 and found["F+1"].treatment["clip.start"] == 15
    assert found["G.1"].changes == ("freeze", "clip", "scheduler")
    assert found["H"].contrast == Sizes(at_least=4, above=1e9)
    assert found["L"].contrast == Sensitivity({"optimizer.lr": (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3)})
    assert found["R"].contrast == Equality(0.5, 0.05)


# --- a user's own ---


def test_a_minimal_file(tmp_path):
    claims = read_claims(written(tmp_path, MINIMAL))
    (claim,) = claims.claims
    (found,) = claim.questions
    assert (claim.id, claim.looks, claim.section, claim.beside) == (
        "one",
        LookPlan((10,), "obrien_fleming", 10),
        None,
        (),
    )
    assert (found.contrast, found.changes, found.smallest) == (Paired(), ("clip",), None)
    assert found.within == {"nuisance": 0}  # the A/A arms are not included
    assert claim.looks == claims.looks == LookPlan((10,), "obrien_fleming", 10)
    assert claims.command == "python -m ablate -m"


@pytest.mark.parametrize(
    ("scale", "stated", "size"),
    [("points", "3", 3), ("log", "0.5", math.log(2)), ("log", "2", math.log(2)), ("logit", "1.5", math.log(1.5))],
)
def test_a_smallest_effect_is_given_as_usually_stated(tmp_path, scale, stated, size):
    edits = (
        ("scale: points", f"scale: {scale}"),
        ("direction: above", f"direction: below\n    smallest_effect: {stated}\n    why: an example"),
    )
    assert question(tmp_path, *edits).smallest == pytest.approx(size)


def test_an_arm_by_its_name(tmp_path):
    edits = ("seeds: 10", "seeds: 10\narms: {with: {clip: fixed, clip.threshold: 1e-1}}"), ("{clip: fixed}", "with")
    assert question(tmp_path, *edits).treatment == {"clip": "fixed", "clip.threshold": 0.1}


def test_parts_and_beside_inherit_and_looks_share_alpha(tmp_path):
    text = MINIMAL.replace(
        "seeds: 10", "seeds: 10\nlooks: [10, 20]\nwithin: {optimizer: adamw, optimizer.lr: 1e-3}"
    ) + (
        "    smallest_effect: 2\n    why: an example\n"
        "    within: {scheduler: none}\n"
        "    parts:\n"
        "      - {within: {optimizer: sgd}}\n"
        "      - {quantity: probe_jitter, scale: log, direction: below}\n"
        "    beside:\n"
        "      - {contrast: one_sample, reference: 0.5}\n"
    )
    claims = read_claims(written(tmp_path, text))
    (claim,) = claims.claims
    first, second = claim.questions
    assert first.id == "one.1" and first.smallest == 2
    assert first.within == {"nuisance": 0, "scheduler": "none", "optimizer": "sgd"}
    assert second.within == {"nuisance": 0, "optimizer": "adamw", "optimizer.lr": 1e-3, "scheduler": "none"}
    assert second.smallest is None  # 2 points are no ratio
    (shown,) = claim.beside
    assert (shown.id, shown.control, shown.changes, shown.contrast) == ("one+1", None, (), OneSample(0.5))
    assert claims.looks == LookPlan((10, 20), "obrien_fleming", 10)


# --- mistakes are named ---


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 10", "seeds: ten", r"mine.yaml: seeds must be a whole number, at least 1 \(got ten\)"),
        ("seeds: 10", "seeds: true", "seeds must be .*got True"),
        ("seeds: 10", "seed: 10", r"the file has the unknown key seed; did you mean seeds"),
        ("seeds: 10", "seeds: 10\nlooks: [20, 10]", r"looks must be increasing numbers of seeds \(got \[20, 10\]\)"),
        ("seeds: 10", "seeds: 10\nlooks: never", r"looks must be a list \(got never\)"),
        ("seeds: 10", "seeds: 10\nspending: pocock", "spending must be left out where there are no two planned looks"),
        ("seeds: 10", "seeds: 10\nlooks: [5, 10]\nspending: pocok", "spending must be one .*did you mean pocock"),
        ("direction: above", "direction: above\n    smallest_effect: 3", "why must be a sentence on where .*got null"),
        ("direction: above", "direction: above\n    why: it is", "why must be .*left out without smallest_effect"),
        ("seeds: 10", "seeds: 10\nseeds: 11", "not valid YAML.*duplicate key seeds"),
        ("seeds: 10", "seeds: ???", "not valid YAML"),
        (
            "seeds: 10",
            "seeds: 10\nwithin: {seed: 3}",
            "a setting in within must be adapter, average, clip, data, .*got seed",
        ),
        ("seeds: 10", "seeds: 10\narms: {a: fixed}", "arms.a must be a mapping .*got fixed"),
        ("seeds: 10", "seeds: 10\narms: {on: {clip: fixed}}", "arms must have words as keys, .* in quotes .got True"),
        ("  one:", "  one: 3\n  two:", "claim one: the claim must be a mapping .*got 3"),
        (
            "quantity: test_accuracy",
            "quantity: test_acuracy",
            "one: quantity .*got test_acuracy.; .*mean test_accuracy",
        ),
        ("    quantity: test_accuracy\n", "", "one: quantity .*got null.; allowed: .*, last_training_loss"),
        ("quantity: test_accuracy", "quantity: [a]", "one: quantity must be one of the known names"),
        ("quantity:", "quantitty:", "one: the claim has the unknown key quantitty; did you mean quantity"),
        ("scale: points", "scale: percent", "one: scale .*got percent.; allowed: log, logit, points, raw"),
        ("direction: above", "direction: up", "one: direction .*got up.; allowed: above, below, either"),
        ("    direction: above\n", "", "one: direction .*got null"),
        (
            "direction: above",
            "direction: above\n    smallest_effect: -3",
            "points scale: .*a difference above 0 .got -3.0",
        ),
        (
            "direction: above",
            "direction: above\n    smallest_effect: big",
            "smallest_effect must be a finite .*got big",
        ),
        ("scale: points", "scale: log\n    smallest_effect: 1", "log scale: .*a ratio above 0 other than 1 .got 1.0"),
        ("{clip: fixed}", "fixed", "one: treatment must be settings, or a name under `arms` .*got fixed"),
        (
            "{clip: fixed}",
            "{clipp: fixed}",
            "one: a setting in treatment must be adapter, average, clip, data, .*got clipp.*did you mean clip",
        ),
        (
            "control: {clip: none}",
            "control: {clip: none, scheduler: none}",
            "changes must be complete: .* also differ in scheduler",
        ),
        ("control: {clip: none}", "control: {clip: fixed}", "do not differ in clip"),
        ("changes: [clip]", "changes: [clip, freeze]", "do not differ in freeze"),
        ("changes: [clip]", "changes: clip", "changes must be a list .got clip"),
        ("    changes: [clip]\n", "", "changes must be complete: treatment and control also differ in clip"),
        ("    control: {clip: none}\n", "", "control must be a mapping .*got null"),
        ("direction: above", "direction: above\n    contrast: pared", "contrast .*got pared.; .*did you mean paired"),
        ("direction: above", "direction: above\n    contrast: one_sample", "reference must be a finite .*got null"),
        (
            "direction: above",
            "direction: above\n    reference: 1",
            "reference must be left out: contrast paired has no",
        ),
        ("direction: above", "direction: above\n    contrast: examples", "contrast must be one with a verdict"),
        (
            "direction: above",
            "direction: above\n    beside: [{contrast: examples, quantity: clip_rate, scale: raw}]",
            "quantity must be a mean over examples with contrast examples .test_accuracy.*test_spearman.*got clip_rate",
        ),
        ("direction: above", "direction: above\n    contrast: variance", "scale .*got points.; allowed: log"),
        (
            "direction: above",
            "direction: above\n    contrast: sensitivity\n    over: {optimizer.lr: [1e-3]}",
            "over.optimizer",
        ),
        ("direction: above", "direction: above\n    parts: {a: 1}", "parts must be a list"),
        ("direction: above", "direction: above\n    parts: [{sections: 1}]", "a part has the unknown key sections"),
        ("    statement: clipping raises the accuracy\n", "", "statement must be text .got null"),
        (MINIMAL, "seeds: 3", "claims must be a mapping with at least one claim"),
        (MINIMAL, "", "the file must be|seeds must be"),
        (MINIMAL, "- a list", "the file must be a mapping"),
        (MINIMAL, "a: [", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, message):
    assert old in MINIMAL
    with pytest.raises(ValueError, match=f"(?s){message}") as error:
        read_claims(written(tmp_path, MINIMAL.replace(old, new)))
    assert "mine.yaml" in str(error.value)


@pytest.mark.parametrize("text", ["${oc.env:HF_TOKEN}", '${oc.env:"HF_TOKEN"}', "${ oc.env : HF_TOKEN, none}",
                                  "${oc.decode:${oc.env:HF_TOKEN}}", "${oc.create:x}"])  # fmt: skip
def test_a_claims_file_reads_no_environment(tmp_path, monkeypatch, text):
    """Reports show its sentences."""
    monkeypatch.setenv("HF_TOKEN", "a-very-secret-token")
    path = written(tmp_path, MINIMAL + f"\ncommand: |-\n  {text}\n")
    with pytest.raises(ValueError, match=r"mine.yaml: command must not read anything from outside the file") as error:
        read_claims(path)
    assert "a-very-secret-token" not in str(error.value)


def test_a_missing_file_and_one_that_is_not_text(tmp_path):
    with pytest.raises(ValueError, match=r"absent.yaml: the claims file cannot be read: No such file"):
        read_claims(tmp_path / "absent.yaml")
    with pytest.raises(ValueError, match="not valid YAML"):
        read_claims(written(tmp_path, b"seeds: \xff"))


def test_the_minimal_file_of_these_tests_is_valid(tmp_path):
    """The negative control of the errors above."""
    assert question(tmp_path).quantity == "test_accuracy"


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "huge"])
def test_what_is_no_claims_file_is_refused_at_once(tmp_path, monkeypatch, kind):
    """By path and by name, for a report and before a run. A reader of a FIFO would wait for a writer."""
    monkeypatch.chdir(tmp_path)
    path = Path("conf/claims/odd.yaml")
    path.parent.mkdir(parents=True)
    make_odd(path, kind)
    with pytest.raises(ValueError, match=r"odd\.yaml: the claims file (must be a regular file|cannot be read)"):
        read_claims(path)
    if kind != "huge":
        with pytest.raises(ValueError, match=r"claims must be the name of a regular file.*got conf/claims/odd\.yaml"):
            claims_file("odd")
