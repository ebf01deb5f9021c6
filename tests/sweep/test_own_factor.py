"""A factor of the user's own, from a folder outside the checkout: in ids, names, arms, tables, figures and a claim."""

import json
from pathlib import Path

import pytest

from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.records.study import Study, load
from tests.tools import ablate

RULES = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Nothing:
    pass

@dataclass(frozen=True)
class Mixout:  # only in name: it scales the loss
    p: float = 0.5

    def loss(self, loss, logits, batch, model, t):
        return self.p * loss
"""
CLAIMS = """
seeds: 2
claims:
  M:
    statement: mixout raises the accuracy
    quantity: test_accuracy
    scale: points
    treatment: {mixout: "on"}
    control: {mixout: none}
    changes: [mixout]
    direction: above
"""
RUN = ("model=tiny", "data=synthetic", "trainer.steps=4", "trainer.batch_size=4", "trainer.length_splits=1",
       "trainer.threads=1", "data.train_examples=40", "data.test_examples=20", "trainer.probe_every=2",
       "freeze=none", "study=mine", "seed=0,1")  # fmt: skip
OWN = ("hydra.searchpath=[file://conf]", "allow_targets=[my_rules]")


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "conf/mixout").mkdir(parents=True)
    (folder / "conf/claims").mkdir()
    (folder / "my_rules.py").write_text(RULES)
    (folder / "conf/mixout/none.yaml").write_text("_target_: my_rules.Nothing\n")
    (folder / "conf/mixout/on.yaml").write_text("_target_: my_rules.Mixout\np: 0.5\n")
    (folder / "conf/claims/mine.yaml").write_text(CLAIMS)
    (folder / "conf/experiment").mkdir()
    (folder / "conf/experiment/own.yaml").write_text("# @package _global_\nclaims: mine\n")
    done = ablate("-m", *OWN, "experiment=own", "+mixout=none,on", *RUN, "report=true", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def study(users_folder: Path) -> Study:
    return load(users_folder / "outputs/mine")


def test_it_is_in_ids_and_names(study: Study) -> None:
    assert len(set(study.runs["id"])) == 4
    names = [name for name in study.runs["run"] if name.startswith("freeze=none-mixout=on-model=tiny-data=synthetic-")]
    assert len(names) == 2 and not any("mixout" in name for name in set(study.runs["run"]) - set(names))


def test_its_none_is_the_run_without_it(users_folder: Path) -> None:
    done = ablate("-m", *RUN, cwd=users_folder)
    assert done.returncode == 0 and "all 2 runs are done already" in done.stderr


def test_it_is_in_arms_tables_figures_and_the_claim(study: Study) -> None:
    assert {*study.arms} == {"none", "on"}
    report = study.folder / "report"
    assert "mixout" in (report / "tables/factorial.csv").read_text().partition("\n")[0].split(",")
    for table in ("tables/summary.csv", "figures/seeds.csv", "figures/training_loss.csv"):
        assert {"none", "on"} <= set((report / table).read_text().replace("\n", ",").split(",")), table
    (found,) = json.loads((report / "verdicts.json").read_text())
    assert (found["id"], found["n"], found["verdict"]) == ("M", 2, "inconclusive")


def test_its_hook_is_called(study: Study) -> None:
    """Half the loss has half the gradient, and the first step's loss is recorded as the task's, which is the same."""
    first = study.steps(["loss", "grad_norm"], list(study.runs["run"])).query("step == 1").set_index("run")
    on = [run for run in first.index if "mixout=on" in run]
    off = [run for run in first.index if "mixout=on" not in run]
    assert list(first.loc[on, "loss"]) == list(first.loc[off, "loss"])
    assert list(first.loc[on, "grad_norm"]) == pytest.approx(list(first.loc[off, "grad_norm"] / 2), rel=1e-6)


def test_an_option_without_a_hook_is_refused(users_folder: Path) -> None:
    (users_folder / "conf/mixout/idle.yaml").write_text("_target_: my_rules.Nothing\n")
    refused = ablate(*OWN, "+mixout=idle", *RUN[:2], cwd=users_folder)
    assert refused.returncode == 2 and "mixout must be a technique, with one of the hooks of" in refused.stderr


def test_a_confounded_claim_is_refused(users_folder: Path, study: Study) -> None:
    claims = users_folder / "conf/claims/confounded.yaml"
    claims.write_text(CLAIMS.replace('{mixout: "on"}', "{clip: fixed}").replace("{mixout: none}", "{clip: none}")
                      .replace("[mixout]", "[clip]"))  # fmt: skip
    (finding,) = judge_claims(study, read_claims(claims)).findings
    assert finding.verdict.value == "not tested"


@pytest.mark.parametrize("arguments", [("+foo=1",), ("-m", "+distillation=none,on"), ("+mixout=on",)])
def test_any_other_top_level_key_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    refused = ablate(*arguments, *RUN[:2], cwd=tmp_path)
    assert refused.returncode == 2, refused.stderr
    key = arguments[-1].partition("=")[0].removeprefix("+")
    assert f"{key} is neither a key of the config nor a config group of your own" in refused.stderr
    assert not (tmp_path / "outputs").exists()
