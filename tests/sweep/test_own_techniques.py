"""The worked example docs/examples/own_technique, in a folder outside the checkout: its commands, records and state."""

import json
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from analysis import report
from analysis.__main__ import main as judge
from analysis.records.study import Study, load
from tests.faults.harness import ablate as run_command
from tests.faults.harness import differences, output, resumed_from, the_run
from tests.faults.injection import at_step, kill
from tests.tools import ROOT, ablate, bash_commands

EXAMPLE = ROOT / "docs/examples/own_technique"
STEPS = 6
SHORT = (f"trainer.steps={STEPS}", "trainer.probe_every=3", "trainer.track.updates_every=3")
ALL = ("experiment=mine", "hydra.mode=RUN", "study=faults", "clip=running_mean", "regularizer=anchor",
       "+teacher=mean", "optimizer=head_first", *SHORT, "trainer.checkpoint_every=2",
       "trainer.keep_checkpoint=true")  # fmt: skip


def commands() -> list[list[str]]:
    return [shlex.split(line) for line in bash_commands(EXAMPLE / "README.md")]


def copy_to(folder: Path) -> Path:
    return shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example in which the sweeps of its README are done."""
    folder = copy_to(tmp_path_factory.mktemp("own"))
    for words in commands():
        if words[:3] == ["python", "-m", "ablate"]:
            done = ablate(*words[3:], *SHORT, cwd=folder)
            assert done.returncode == 0, done.stderr
            assert "plan=true" not in words or not (folder / "outputs").exists()
    return folder


@pytest.fixture(scope="module")
def study(users_folder: Path) -> Study:
    return load(users_folder / "outputs/mine")


@pytest.fixture
def techniques(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the example."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import my_techniques

    yield my_techniques


def test_ids_and_names(study: Study) -> None:
    """The recipe once and each technique alone, for two seeds."""
    assert len(study.runs) == len(set(study.runs["id"])) == 2 * 5
    for part in ("clip=running_mean", "regularizer=anchor", "teacher=mean", "optimizer=head_first"):
        names = [name for name in study.runs["run"] if part in name]
        assert len(names) == 2 and {name.rpartition("-s")[2][0] for name in names} == {"0", "1"}, part


def test_records(users_folder: Path, study: Study) -> None:
    measures, settings = {}, {}
    for name in study.runs["run"]:
        folder = users_folder / "outputs/mine" / name
        factors = json.loads((folder / "run.json").read_text())["factors"]
        option = next((key for key in ("teacher", "regularizer") if key in factors), None)
        option = option or next((f["option"] for f in (factors["clip"], factors["optimizer"])
                                 if f["option"] in ("running_mean", "head_first")), "recipe")  # fmt: skip
        settings[option] = factors
        rows = pq.read_table(folder / "measures.parquet").to_pylist()
        measures[option] = {(row["name"], row["place"]): [r["value"] for r in rows if
                            (r["name"], r["place"]) == (row["name"], row["place"])] for row in rows}  # fmt: skip
    assert settings["teacher"]["teacher"] == {"option": "mean", "settings": {"weight": 1.0, "decay": 0.9}}
    assert settings["running_mean"]["clip"]["settings"] == {"ratio": 1.0, "decay": 0.9}
    assert "teacher" not in settings["recipe"]
    shares = measures["running_mean"]["clipped_share", "clip"]
    assert shares[0] == 0 and all(0 < share <= 1 for share in shares[1:])  # the first norm is its own mean
    added = measures["regularizer"]["added_loss", ""]
    assert added[0] == 0 and all(value > 0 for value in added[1:])
    head, body = (measures["head_first"]["lr", place] for place in ("head", "body"))
    assert [h / b for h, b in zip(head, body, strict=True)] == pytest.approx([0.01 / 0.003] * STEPS)
    assert not {"clipped_share", "added_loss", "lr"} & {name for name, _ in measures["recipe"]}


def test_the_analysis_command_of_the_readme(users_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = (words for words in commands() if words[2] == "analysis")
    monkeypatch.chdir(users_folder)
    monkeypatch.setattr(sys, "argv", words[2:])
    monkeypatch.setattr(report, "FIGURES", {})
    judge()
    summary = (users_folder / "outputs/mine/report/tables/summary.csv").read_text()
    arms = {option for line in summary.splitlines()[1:] for option in line.partition(",")[0].split("-")}
    assert arms == {"none", "running_mean", "anchor", "mean", "head_first"}


def test_the_clip_rule_against_its_formula(techniques: Any) -> None:
    rule, state, mean = techniques.RunningMean(ratio=0.5, decay=0.75), None, None
    for t, norm in enumerate((4.0, 1.0, 10.0), start=1):
        gradients = {"w": torch.tensor([0.6, 0.8]) * norm}
        state = rule.clip(gradients, {}, {}, t, state)
        mean = norm if mean is None else mean
        assert float(gradients["w"].norm()) == pytest.approx(min(norm, 0.5 * mean))
        mean = 0.75 * mean + 0.25 * norm
        assert state == {"w": pytest.approx(mean)}


def test_the_regularizer_against_its_formula(techniques: Any) -> None:
    rule, model = techniques.Anchor(strength=2.0, decay=0.5), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    rule.begin(dict(model.named_parameters()), seed=0)
    with torch.no_grad():
        model.weight.fill_(3.0)
    for _ in range(2):  # two pieces of one step: the anchor goes from 1 to 2 once
        loss = rule.loss(torch.tensor(10.0), None, None, model, 1)
        assert loss.item() == 11.0
    loss.backward()
    assert float(model.weight.grad) == 2.0  # strength · (θ − a)
    state = rule.state_dict()
    other = techniques.Anchor(strength=2.0, decay=0.5)
    other.begin(dict(model.named_parameters()), seed=0)
    other.load_state_dict(state)
    assert other.loss(torch.tensor(10.0), None, None, model, 2).item() == 10.25


def test_the_teacher_has_no_gradient_and_is_evaluated(techniques: Any) -> None:
    rule, inner = techniques.MeanTeacher(decay=0.5), nn.Linear(1, 2, bias=False)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=self.inner(input_ids.float()))

    model, trained = Model(), {"inner.weight": inner.weight}
    rule.begin(trained, seed=0)
    start = inner.weight.detach().clone()
    with torch.no_grad():
        inner.weight.add_(1.0)
    rule.update(trained, 1, None)
    with rule.evaluating(trained, None):
        torch.testing.assert_close(inner.weight, start + 0.5)
    torch.testing.assert_close(inner.weight, start + 1)
    batch = SimpleNamespace(input_ids=torch.ones(3, 1), attention_mask=torch.ones(3, 1))
    logits = model(batch.input_ids, batch.attention_mask).logits
    found = rule.loss(torch.tensor(0.0), logits, batch, model, 2)
    ours, theirs = logits.softmax(-1), (batch.input_ids @ (start + 0.5).T).softmax(-1)
    torch.testing.assert_close(found, (ours - theirs).square().mean())
    assert not any(tensor.requires_grad for tensor in rule.teacher.values())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = copy_to(tmp_path_factory.mktemp("unbroken"))
    assert run_command(cwd, "--config-dir", "conf", *ALL) == 0, output(cwd)
    return cwd


@pytest.mark.parametrize("forgetting", [False, True], ids=["as written", "without state_dict"])
def test_a_killed_run_is_resumed_with_all_states(tmp_path: Path, unbroken: Path, forgetting: bool) -> None:
    """Bit for bit; without `state_dict`, which the command warns of, it is not: the negative control."""
    cwd = copy_to(tmp_path / "own")
    if forgetting:
        file = cwd / "my_techniques.py"
        file.write_text(file.read_text().replace("def state_dict", "def other_dict"))
    arguments = ("--config-dir", "conf", *ALL)
    assert run_command(cwd, *arguments, fault=partial(at_step, 5, kill)) == -signal.SIGKILL
    assert run_command(cwd, *arguments) == 0, output(cwd)
    assert resumed_from(the_run(cwd)) == 4
    found = differences(the_run(cwd), the_run(unbroken))
    assert found == [] if not forgetting else {"steps", "tensors"} <= set(found)
    assert ("my_techniques.Anchor changes its own attributes" in output(cwd)) == forgetting


WRONG = {
    "signature": ("clip", "def clip(self, gradients, t):\n        pass",
                  r"Wrong\.clip\(gradients, weights, roles, t, state\) fails: .*takes 3 positional"),
    "nan": ("clip", "def scale(self, norm, t, state):\n        return float('nan'), state",
            r"the factor that my_wrong.Wrong returns must be in \(0, 1\]"),
    "weights": ("shift", "def clip(self, gradients, weights, roles, t, state):\n"
                         "        next(iter(weights.values())).add_(1)", "must not change the weights"),
    "factor of an own group": ("shift", "def scale(self, norm, t, state):\n        return 3.0, state",
                               r"the factor that my_wrong.Wrong returns must be in \(0, 1\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_technique_is_refused_before_the_first_run(tmp_path: Path, case: str) -> None:
    group, method, message = WRONG[case]
    (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / f"conf/{group}/wrong.yaml").write_text("_target_: my_wrong.Wrong\n")
    (tmp_path / "my_wrong.py").write_text(
        f"from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Wrong:\n    {method}\n"
    )
    option = f"{'+' if group == 'shift' else ''}{group}=wrong"
    refused = ablate("--config-dir", "conf", "allow_targets=[my_wrong]", option, "model=tiny", "data=synthetic",
                     "freeze=none", "data.train_examples=40", "data.test_examples=20", cwd=tmp_path)  # fmt: skip
    assert refused.returncode == 2, refused.stderr
    assert re.search(rf"^error: {group}: .*my_wrong\.Wrong", refused.stderr, re.MULTILINE), refused.stderr
    assert re.search(message, refused.stderr)
    assert not (tmp_path / "outputs").exists()
