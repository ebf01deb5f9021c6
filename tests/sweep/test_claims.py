"""The claims of a sweep: the reference arm, in the study's own copy, and the command for further seeds."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from ablate.api import study as ablate_study
from ablate.files.hashing import file_sha256
from analysis import report
from analysis.__main__ import main as judge
from tests.tools import ROOT, ablate

SMALL = (
    "model=tiny", "data=synthetic", "freeze=none", "trainer.steps=6", "trainer.batch_size=4", "trainer.threads=1",
    "trainer.length_splits=1", "trainer.probe_every=2", "data.train_examples=40", "data.test_examples=20",
)  # fmt: skip
ARMS = ("-m", "clip=none,fixed", "seed=0,1", *SMALL)


def reference_row(shown: str) -> list[str]:
    """The arm that the closing table calls the reference."""
    return re.findall(r"│ (.*?) +│.*│ +reference │", shown)


def kept(folder: Path, study: str = "default") -> dict[str, object]:
    return yaml.safe_load((folder / f"outputs/{study}/.claims/auto.yaml").read_text())


def test_the_first_arm_or_the_typed_one_is_the_reference_here_and_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = ablate(*ARMS, "report=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert reference_row(done.stdout) == ["no clipping"]
    assert kept(tmp_path)["compare"]["reference"] == {"clip": "none"}
    assert kept(tmp_path)["command"] == " ".join(["python -m ablate -m", *SMALL, "report=true"][:-1])
    digests = {json.loads(path.read_text())["claims"]["sha256"] for path in tmp_path.glob("outputs/default/*/run.json")}
    assert digests == {file_sha256(tmp_path / "outputs/default/.claims/auto.yaml")}
    assert ablate("-m", "clip=fixed", "seed=2", *SMALL, cwd=tmp_path).returncode == 0  # the reference stays
    assert kept(tmp_path)["compare"]["reference"] == {"clip": "none"}
    assert len(list((tmp_path / "outputs/default/.claims").iterdir())) == 1
    typed = ablate(*ARMS, "report=true", "study=turned", "reference={clip: fixed}", cwd=tmp_path)
    assert typed.returncode == 0 and reference_row(typed.stdout) == ["clipping at 1"]
    shutil.copytree(tmp_path / "outputs/turned", tmp_path / "elsewhere/turned")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "argv", ["analysis", "turned"])
    monkeypatch.setattr(report, "FIGURES", {})
    judge()
    judged = capsys.readouterr().out
    assert "clip=none: " in judged and "clip=fixed: " not in judged  # the claims against the reference
    assert "not started with" not in judged


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("reference={clip: nope}",), "reference must be settings that choose one arm"),
        (("reference={freeze: none}",), "fits 2 of the arms: none, fixed"),
        (("claims=quick", "reference={clip: none}"), "reference must be null with claims=quick"),
        (("claims=quik",), "did you mean quick?"),
    ],
)
def test_a_reference_or_name_that_fits_nothing_ends_before_any_run(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    refused = ablate(*ARMS, *words, cwd=tmp_path)
    assert refused.returncode == 2 and message in refused.stderr + refused.stdout
    assert not list(tmp_path.glob("outputs/*/*/run.json"))


def test_claims_are_chosen_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "my/conf/claims").mkdir(parents=True)
    shutil.copy(ROOT / "conf/claims/quick.yaml", tmp_path / "my/conf/claims/mine.yaml")
    done = ablate("-m", "--config-dir", "my/conf", "claims=mine", *ARMS[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    copy = tmp_path / "outputs/default/.claims/mine.yaml"
    assert copy.read_bytes() == (ROOT / "conf/claims/quick.yaml").read_bytes()
    (record, *_) = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/default/*/run.json")]
    assert record["claims"] == {"name": "mine", "sha256": file_sha256(copy)}


VALID = """
seeds: 2
claims:
  one:
    statement: it does
    quantity: test_accuracy
    scale: points
    direction: above
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds: 2", "seeds: 2", None),  # the control: this file is valid
        ("quantity: test_accuracy", "quantity: test_acuracy", "quantity must be one of the known names"),
        ("seeds: 2", "seeds: 2\nlook: [2]", "the file has the unknown key look"),
        ("seeds: 2", "seeds: [", "the claims file is not valid YAML"),
        ("seeds: 2", "seeds: 2\nmetrics: {cost: my_metrics.cost}", "metrics.cost.function must be"),
    ],
)  # fmt: skip
def test_an_invalid_claims_file_is_refused_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    claims = tmp_path / "own/claims/mine.yaml"
    claims.parent.mkdir(parents=True)
    claims.write_text(VALID.replace(old, new))
    study = ablate_study("made", {"clip": ["none", "fixed"]}, [*SMALL, "claims=mine"], config_dir=tmp_path / "own")
    if message is None:
        assert len(study.plan()) == 2
        return
    with pytest.raises(ValueError) as caught:
        study.plan()
    assert "mine.yaml: " in str(caught.value) and message in str(caught.value)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("design", "ends"),
    [
        ("leave_one_out=[clip,{model.dropout: 0}]", ""),
        ("experiment=own", " arms=null"),  # the design is in the experiment's file, so the command switches it off
    ],
)
def test_the_command_for_further_seeds_names_its_arms_and_has_no_design(tmp_path: Path, design: str, ends: str) -> None:
    """It keeps the model, of which only a setting differs between the arms, and it is accepted with arms of its own."""
    experiment = tmp_path / "own/experiment/own.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("# @package _global_\narms: {a: {clip: none}, b: {clip: fixed, model.dropout: 0}}\n")
    shared = ("hydra.searchpath=[file://own]", *SMALL, "report=false")
    done = ablate("-m", design, "seed=0", "study=made", *shared, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = str(kept(tmp_path, "made")["command"])
    assert command.endswith(ends) and "leave_one_out" not in command and "model=tiny" in command
    words = shlex.split(command)[4:]
    more = ablate("-m", *words, "study=made", "seed=1,2", "clip=none,fixed", "plan=true", cwd=tmp_path)
    assert more.returncode == 0 and "4 runs: 4 new" in more.stdout, more.stderr
