"""Sweeps as a user runs them: real processes, in an empty folder."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from analysis import report
from analysis.__main__ import main as judge
from tests.faults.harness import finish, start
from tests.tools import RECORDED, ROOT, ablate

CLIPS = sorted(path.stem for path in (ROOT / "conf/clip").glob("*.yaml"))
ARMS = ("no clipping", "clipping at 1", "clipping from step 100")
SMALL = (
    "model=tiny", "data=synthetic", "freeze=none", "trainer.threads=1", "trainer.steps=6", "trainer.batch_size=4",
    "trainer.length_splits=1", "trainer.probe_every=3", "data.train_examples=40", "data.test_examples=20",
)  # fmt: skip


def folders(cwd: Path, study: str = "default") -> list[Path]:
    return sorted(path for path in (cwd / "outputs" / study).iterdir() if path.is_dir() and path.name[0] != ".")


def order_of_work(stderr: str) -> list[str]:
    """Names of the runs in the order in which they began, from the plain progress lines."""
    return [line.split("] ")[1] for line in stderr.splitlines() if line.startswith("[") and ": step" not in line]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Three arms × two seeds, typed with the arms first."""
    cwd = tmp_path_factory.mktemp("sweep")
    done = ablate("-m", "clip=none,fixed,delayed", "seed=0,1", *SMALL, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done.stdout, done.stderr


def test_seed_by_seed_whatever_was_typed_first(swept: tuple[Path, str, str]) -> None:
    began = order_of_work(swept[2])
    assert began == [f"{arm}, seed {seed}" for seed in (0, 1) for arm in ARMS]
    records = [json.loads((folder / "run.json").read_text()) for folder in folders(swept[0])]
    records.sort(key=lambda record: record["timing"]["job"])
    typed = ("none", "fixed", "delayed")
    assert [(record["factors"]["clip"]["option"], record["seed"]) for record in records] == [
        (option, seed) for seed in (0, 1) for option in typed
    ]


def test_every_file_of_the_contract_is_there(swept: tuple[Path, str, str]) -> None:
    for folder in folders(swept[0]):
        names = {path.name for path in folder.iterdir()}
        tables = {f"{name}.parquet" for name in RECORDED}
        assert names == {"run.json", "config.yaml", "run.log", ".lock", *tables}
    assert {path.name for path in (swept[0] / "outputs/default").iterdir() if path.is_file()} <= {"multirun.yaml"}


def test_run_json_is_complete(swept: tuple[Path, str, str]) -> None:
    record = json.loads((folders(swept[0])[0] / "run.json").read_text())
    assert set(record) == {
        "schema", "id", "status", "factors", "seed", "nuisance", "parameters", "memory_bytes", "pairing", "metrics",
        "forked_from", "environment", "timing", "error", "records", "claims", "numerics", "sha256",
        "kind", "labels", "primary",
    }  # fmt: skip
    assert set(record["metrics"]) == {"test_accuracy", "test_loss", "validation_accuracy", "validation_loss"}
    assert record["parameters"]["total"] == sum(b["total"] for b in record["parameters"]["by_block"].values())
    assert record["memory_bytes"]["weights"] == 4 * record["parameters"]["total"]
    assert record["memory_bytes"]["gradients"] == 4 * record["parameters"]["trained"]
    assert record["memory_bytes"]["optimizer"] == pytest.approx(8 * record["parameters"]["trained"], rel=0.02)


def test_arms_of_a_seed_are_paired_and_seeds_are_not(swept: tuple[Path, str, str]) -> None:
    records = [json.loads((folder / "run.json").read_text()) for folder in folders(swept[0])]
    by_seed = {seed: {json.dumps(r["pairing"]) for r in records if r["seed"] == seed} for seed in (0, 1)}
    assert len(by_seed[0]) == len(by_seed[1]) == 1
    ours, others = (json.loads(next(iter(by_seed[seed]))) for seed in (0, 1))
    assert all(ours[key] != others[key] for key in ("batches", "head", "dropout"))


def test_the_closing_table(swept: tuple[Path, str, str]) -> None:
    shown = swept[1]
    for words in (*ARMS, "arm", "seeds", "validation accuracy %", "test accuracy %", "records: outputs/default/"):
        assert words in shown


def test_again_does_nothing(swept: tuple[Path, str, str]) -> None:
    cwd = swept[0]
    before = {path: path.stat().st_mtime_ns for folder in folders(cwd) for path in folder.iterdir()}
    again = ablate("-m", "clip=none,fixed,delayed", "seed=0,1", *SMALL, cwd=cwd)
    assert again.returncode == 0
    assert "done already" in again.stderr and "clipping at 1" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for folder in folders(cwd) for path in folder.iterdir()}


def test_one_arm_more_runs_that_arm_only(swept: tuple[Path, str, str]) -> None:
    more = ablate("-m", "clip=fixed,none,fixed", "clip.threshold=choice(1.0)", "seed=1", *SMALL, cwd=swept[0])
    assert more.returncode == 2  # none has no threshold: nothing was run
    more = ablate("-m", "clip=fixed", "clip.threshold=1,0.5,1", "seed=1", *SMALL, cwd=swept[0])
    assert more.returncode == 0
    assert len(order_of_work(more.stderr)) == 1


def test_an_arm_alone_gives_the_same_numbers(swept: tuple[Path, str, str], tmp_path: Path) -> None:
    alone = ablate("clip=fixed", "seed=1", *SMALL, cwd=tmp_path)
    assert alone.returncode == 0
    (mine,) = folders(tmp_path)
    theirs = swept[0] / "outputs/default" / mine.name
    for table in ("steps", "layers", "evals", "predictions"):
        one, other = (pd.read_parquet(folder / f"{table}.parquet") for folder in (mine, theirs))
        pd.testing.assert_frame_equal(one.drop(columns="seconds", errors="ignore"),
                                      other.drop(columns="seconds", errors="ignore"), check_exact=True)  # fmt: skip


def test_nuisance_changes_dropout_and_nothing_else(swept: tuple[Path, str, str], tmp_path: Path) -> None:
    assert ablate("clip=fixed", "seed=1", "nuisance=1", *SMALL, cwd=tmp_path).returncode == 0
    (mine,) = folders(tmp_path)
    (theirs,) = [
        f
        for f in folders(swept[0])
        if "-s1-" in f.name
        and "clip=" not in f.name
        and json.loads((f / "run.json").read_text())["factors"]["clip"]["settings"]["threshold"] == 1
    ]
    one, other = (json.loads((folder / "run.json").read_text())["pairing"] for folder in (mine, theirs))
    assert {key for key in one if one[key] != other[key]} == {"dropout"}
    losses = [pd.read_parquet(folder / "steps.parquet")["loss"].tolist() for folder in (mine, theirs)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trainer.stesp=1"], ["stesp", "did you mean steps"]),
        (["clip=fixd"], ["clip/fixd", "did you mean fixed"]),
        (["-m", "clip=none,fixd"], ["clip/fixd", "did you mean fixed"]),
        (["trainer.steps=1.5"], ["trainer.steps must be", "a whole number"]),
        (["trainer.length_splits=true"], ["trainer.length_splits must be", "a whole number"]),
        (["optimizer.lr=abc"], ["optimizer.lr must be", "a number"]),
        (["optimizer.lr=nan"], ["optimizer.lr must be", "above 0"]),
        (["optimizer.lr=inf"], ["optimizer.lr must be", "above 0"]),
        (["clip=delayed", "clip.start=0"], ["clip.start must be", "at least 1"]),
        (["clip=delayed", "clip.rule.threshold=-1"], ["clip.rule.threshold must be", "above 0"]),
        (["trainer.precision=fp16"], ["trainer.precision must be", "fp32, bf16"]),
        (["scheduler.warmup=2"], ["scheduler.warmup must be", "from 0 to 1"]),
        (["scheduler.horizon=0.5"], ["scheduler.horizon must be", "at least 1"]),
        (["claims=own"], ["claims must be the name of a file in conf/claims (got own)"]),
        (["seed=-1"], ["seed must be", "from 0 to 2^63 - 1"]),
        (["+trainer.foo=1"], ["trainer.foo is no setting of Trainer"]),
        (["++clip.foo=1"], ["clip.foo is no setting of Fixed", "allowed: threshold"]),
        (["clip=null"], ["clip=none"]),
        (["data=files"], ["data.files.train is missing"]),
        (["-m", "clip=none,fixed,delayed", "clip.start=50"], ["clip.start", "clip=delayed clip.start=50,100"]),
        (["-m", "study=a,b"], ["study must be", "one value"]),
        (["-m", "experiment=quick,paper"], ["experiment must be", "one value"]),
        (["study=../../x"], ["study must be", "a name of letters"]),
        (["study=/tmp/x"], ["study must be", "a name of letters"]),
        (["model.path=/nowhere"], ["model.path must be", "an existing folder"]),
        (["data=imdb", "data.path=."], ["data.path must be", "a folder that does not contain outputs/"]),
        (["clip._target_=os.system"], ["clip._target_ must be", "allow_targets", "os.system"]),
        (["data=synthetic", "data.max_length=129", "model=tiny"], ["data.max_length must be", "128"]),
        (["-m", f"seed={','.join(map(str, range(200)))},-1", "clip=none,fixed"], ["seed must be", "from 0 to"]),
    ],
    ids=lambda value: value[-1][:40] if isinstance(value, list) and "=" in value[-1] else "",
)  # fmt: skip
def test_bad_input_ends_before_any_run(arguments: list[str], said: list[str], tmp_path: Path) -> None:
    refused = ablate(*arguments, cwd=tmp_path)
    assert refused.returncode == 2, refused.stderr
    for words in said:
        assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.glob("outputs/*/*-s*"))
    assert not [path for path in tmp_path.iterdir() if path.name != "outputs"]


def test_a_study_states_its_claims_by_name(tmp_path: Path) -> None:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    experiment = tmp_path / "conf/experiment/own.yaml"
    experiment.write_text("# @package _global_\nstudy: own\nclaims: ours\n")
    arguments = ("hydra.searchpath=[file://conf]", "experiment=own", *SMALL)
    refused = ablate(*arguments, cwd=tmp_path)
    assert refused.returncode == 2 and "claims must be the name of a file in conf/claims (got ours)" in refused.stderr
    (tmp_path / "conf/claims").mkdir()
    (tmp_path / "conf/claims/ours.yaml").write_text(
        "seeds: 3\nclaims:\n  one: {statement: it acts, quantity: clip_rate, scale: logit, contrast: one_sample,\n"
        "    reference: 0.1, treatment: {clip: fixed}, direction: above}\n"
    )
    assert ablate(*arguments, cwd=tmp_path).returncode == 0
    (run,) = folders(tmp_path, "own")
    digest = hashlib.sha256((tmp_path / "conf/claims/ours.yaml").read_bytes()).hexdigest()
    assert json.loads((run / "run.json").read_text())["claims"] == {"name": "ours", "sha256": digest}


def test_a_failing_run_stops_no_other_and_is_listed(tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Breaks:\n"
        "    def scale(self, norm, t, state):\n        if t == 2:  # a rule is tried at step 1 before the sweep\n"
        "            raise RuntimeError(f'broke at {t}')\n        return 1.0, state\n"
    )
    (tmp_path / "conf/clip").mkdir(parents=True)
    (tmp_path / "conf/clip/breaks.yaml").write_text("_target_: my_rules.Breaks\n")
    own = ("hydra.searchpath=[file://conf]", "allow_targets=[my_rules]", *SMALL)
    swept = ablate("-m", "clip=none,breaks,fixed", *own, cwd=tmp_path)
    assert swept.returncode == 1
    assert "failed: freeze=none-clip=breaks-" in swept.stdout and "broke at 2" in swept.stdout
    records = {
        record["factors"]["clip"]["option"]: record
        for record in (json.loads((f / "run.json").read_text()) for f in folders(tmp_path))
    }
    assert {name: record["status"] for name, record in records.items()} == {
        "none": "done",
        "breaks": "failed",
        "fixed": "done",
    }
    assert "RuntimeError: broke at 2" in records["breaks"]["error"]["traceback"]


def test_a_rule_of_the_users_own_needs_no_fork(tmp_path: Path) -> None:
    """The README's example."""
    (tmp_path / "my_rules.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Halved:\n    above: float = 1.0\n"
        "    def scale(self, norm, t, state):\n        return (0.5 if norm > self.above else 1.0), state\n"
    )
    (tmp_path / "conf/clip").mkdir(parents=True)
    (tmp_path / "conf/clip/halved.yaml").write_text("_target_: my_rules.Halved\nabove: 0.1\n")
    refused = ablate("-m", "hydra.searchpath=[file://conf]", "clip=none,halved", *SMALL, cwd=tmp_path)
    assert refused.returncode == 2 and "allow_targets" in refused.stderr
    swept = ablate(
        "-m", "hydra.searchpath=[file://conf]", "allow_targets=[my_rules]", "clip=none,halved", *SMALL, cwd=tmp_path
    )
    assert swept.returncode == 0, swept.stderr
    (halved,) = [folder for folder in folders(tmp_path) if "halved" in folder.name]
    steps = pd.read_parquet(halved / "steps.parquet")
    assert (steps["grad_norm_clipped"] == steps["grad_norm"] / 2).all()


def test_a_glob_finds_the_users_own_options_wherever_they_are_given(tmp_path: Path) -> None:
    """Hydra 1.3's own glob does not look in hydra.searchpath."""
    (tmp_path / "own/clip").mkdir(parents=True)
    (tmp_path / "own/clip/a half.yaml").write_text("_target_: ablate.clip.Fixed\nthreshold: 0.5\n")
    for way in (("hydra.searchpath=[file://own]",), ("--config-dir", "own")):
        done = ablate("-m", *way, *SMALL, "clip=glob(*)", "plan=json", cwd=tmp_path)
        clips = {run["factors"]["clip"] for run in json.loads(done.stdout)["runs"]}
        assert clips == {"a half", *CLIPS}
    done = ablate("-m", *SMALL, "clip=glob(q*)", cwd=tmp_path)
    assert done.returncode == 2
    assert f"clip must be a pattern of options in {CLIPS} (got glob(q*))" in done.stderr


def analysis(
    *arguments: str, cwd: Path, encoding: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments], cwd=cwd, capture_output=True, text=True, check=False,
        encoding=encoding, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_claims_beside_the_users_own_config_are_found_and_kept_with_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The study is judged by them in another folder, and by a name or a file that --claims gives."""
    text = (ROOT / "conf/claims/quick.yaml").read_text()
    for name, content in (
        ("claims/mine.yaml", text), ("experiment/e.yaml", "# @package _global_\nclaims: mine\n"),
    ):  # fmt: skip
        (tmp_path / "own" / name).parent.mkdir(parents=True)
        (tmp_path / "own" / name).write_text(content)
    command = ("-m", "--config-dir", "own", "experiment=e", *SMALL, "clip=none,fixed")
    assert ablate(*command, cwd=tmp_path).returncode == 0
    kept = tmp_path / "outputs/default/.claims"
    assert (kept / "mine.yaml").read_text() == text
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "outputs", elsewhere / "outputs")
    with monkeypatch.context() as patch:
        patch.chdir(elsewhere)
        patch.setattr(report, "FIGURES", {name: report.FIGURES[name] for name in [*report.FIGURES][:1]})
        for claims in ((), ("--claims", "mine"), ("--claims", str(tmp_path / "own/claims/mine.yaml"))):
            patch.setattr(sys, "argv", ["analysis", "outputs/default", *claims])
            judge()
            shown = capsys.readouterr().out
            assert "report: outputs/default/report/index.html" in shown and "not started with" not in shown
    (tmp_path / "own/claims/mine.yaml").write_text(text + "# edited\n")
    assert ablate(*command, "nuisance=1", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in kept.iterdir()) == [
        f"mine-{hashlib.sha256(text.encode()).hexdigest()[:10]}.yaml", "mine.yaml",
    ]  # fmt: skip


# A finished sweep keeps its exit code and its report, whatever it is shown on


JUPYTER = "module://matplotlib_inline.backend_inline"


def encode_output(encoding: str) -> None:
    """In the child: what PYTHONIOENCODING does in a new process."""
    os.environ["MPLBACKEND"] = JUPYTER
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding, errors="strict")  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_report_is_written_whatever_the_output(tmp_path: Path) -> None:
    """The second encoding finds the runs and the report of the first."""
    sweep = ("-m", *SMALL, "clip=none,fixed", "seed=0,1", "report=true")
    for encoding in ("ascii", "cp1252"):
        printed = tmp_path / f"{encoding}.txt"
        swept = start(tmp_path, *sweep, fault=partial(encode_output, encoding), printed=[printed, printed])
        assert finish(swept) == 0, printed.read_text(encoding)
        judged = analysis(
            "outputs/default",
            cwd=tmp_path,
            encoding=encoding,
            PYTHONIOENCODING=f"{encoding}:strict",
            MPLBACKEND=JUPYTER,
        )
        assert judged.returncode == 0, judged.stderr
        for shown in (printed.read_text(encoding), judged.stdout):
            assert "fixed" in shown and "report: outputs/default/report/index.html" in shown
        assert (tmp_path / "outputs/default/report/index.html").is_file()


def break_pipe() -> None:
    """Let both outputs of this process be a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    for number in (1, 2):
        os.dup2(writer, number)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("fault", [break_pipe, None], ids=["closed pipe", "full disk"])
def test_output_that_is_refused_fails_no_sweep(tmp_path: Path, fault: Callable[[], None] | None) -> None:
    sweep = ("-m", *SMALL, "clip=none,fixed", "report=true")
    assert finish(start(tmp_path, *sweep, fault=fault, printed=[Path("/dev/full")] * 2)) == 0
    assert (tmp_path / "outputs/default/report/index.html").is_file()


@pytest.mark.parametrize("colours", ["", "1"])
def test_arms_have_names_in_80_columns(swept: tuple[Path, str, str], colours: str) -> None:
    """`rich` takes COLUMNS for the width of a terminal, and a pipe for a terminal under FORCE_COLOR."""
    arms = ["clip=none,fixed,delayed", "seed=0,1"]
    odd = {"FORCE_COLOR": colours, "COLUMNS": "80"}
    done = ablate("-m", *arms, *SMALL, cwd=swept[0], **{k: v for k, v in odd.items() if v})
    rows = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert {row.split("│")[1].strip() for row in rows if row.startswith("│")} == {*ARMS}
