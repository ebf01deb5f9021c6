"""Studies from Python: the same files and verdicts as the commands, and a process that is left as it was."""

import ast
import asyncio
import gc
import hashlib
import json
import logging
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import TextColumn

import ablate
from ablate.api import in_syntax
from ablate.config.paths import conf
from ablate.run.notebook import NotebookProgress
from ablate.run.progress import Display
from ablate.sweep.in_process import only_sweep
from analysis import report
from analysis.__main__ import main as judge
from tests import tools
from tests.tools import ROOT

SWEEP = {"clip": ["none", "fixed"], "seed": range(2)}
SMALL = (
    "model=tiny", "model.hidden=16", "model.vocabulary=60", "data=synthetic", "freeze=none", "trainer.threads=1",
    "trainer.steps=6", "trainer.batch_size=4", "trainer.length_splits=1", "trainer.probe_every=3",
    "data.train_examples=40", "data.test_examples=20", "report=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study as the command makes it."""
    cwd = tmp_path_factory.mktemp("typed")
    done = tools.ablate("-m", "study=mine", "clip=none,fixed", "seed=0,1", *SMALL, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "outputs/mine"


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study as Python makes it, in a process whose torch has other settings, in which a Hydra and a loop run."""

    async def main() -> None:
        ablate.study("mine", SWEEP, SMALL).run()

    cwd = tmp_path_factory.mktemp("called")
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(conf(), version_base="1.3"):
        patch.chdir(cwd)
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(7)
        before = state()
        try:
            asyncio.run(main())
            assert state() == before
        finally:
            torch.set_default_dtype(torch.float32)
        assert compose("config").clip._target_  # the caller's own Hydra still works
    return cwd / "outputs/mine"


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with three figures, which saves seconds."""
    names = ("training_loss", "probe_loss", "seeds")
    monkeypatch.setattr(report, "FIGURES", {name: report.FIGURES[name] for name in names})


def state() -> list[object]:
    """What a sweep must leave as it was in its process."""
    loggers = [logging.getLogger(), logging.getLogger("ablate"), logging.getLogger("hydra")]
    switches = [torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()]
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    return [
        *(([*log.handlers], log.level, log.propagate, log.disabled) for log in loggers),
        *(torch.get_rng_state().tolist(), random.getstate(), *switches, *handlers, gc.isenabled()),
        *(GlobalHydra.instance().hydra, Path.cwd(), [*sys.path], sys.stdout, [*sys.argv]),
    ]


def records(folder: Path) -> dict[str, object]:
    """What a study's folder holds, without times."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*.*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".parquet":
            found[name] = pd.read_parquet(path).drop(columns="seconds", errors="ignore").to_dict("list").__repr__()
        elif path.name == "run.json":
            record = json.loads(path.read_text())
            kept = {key for key in record if key not in ("timing", "records", "sha256")}
            found[name] = {key: record[key] for key in kept}
        elif path.suffix == ".yaml" and path.name != "multirun.yaml":  # Hydra's, with the current folder
            found[name] = path.read_bytes()
    return found


def test_runs_are_those_of_the_command(typed: Path, called: Path) -> None:
    ours, theirs = records(called), records(typed)
    assert ours == theirs
    assert len([name for name in ours if name.endswith("run.json")]) == 4 and ".claims/auto.yaml" in ours


def test_verdicts_are_those_of_the_command(
    typed: Path,
    tmp_path: Path,
    few_figures: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("command", "python"):
        shutil.copytree(typed, tmp_path / name / "mine")
    monkeypatch.setattr(sys, "argv", ["analysis", str(tmp_path / "command/mine")])
    judge()
    said = capsys.readouterr().out
    study = ablate.open_study(tmp_path / "python/mine")
    page = study.report()
    for name in ("report/verdicts.json", "report/tables/ablation.csv", "report/left_out.json"):
        theirs, ours = ((tmp_path / each / "mine" / name).read_bytes() for each in ("command", "python"))
        assert hashlib.sha256(ours).digest() == hashlib.sha256(theirs).digest(), name
    looks = [(tmp_path / each / "mine/looks.jsonl").read_text().count("\n") for each in ("command", "python")]
    assert looks[0] == looks[1] > 0
    whole = json.loads((page.parent / "verdicts.json").read_text())
    assert study.verdicts["id"].tolist() == [each["id"] for each in whole]
    assert study.verdicts["verdict"].tolist() == [each["verdict"] for each in whole]
    assert study.headline.splitlines()[0] in said
    assert study.table("ablation")["seeds"].tolist() == ["2", "2"]
    assert study.table("ablation", numbers=True)["arm"].tolist() == study.runs["arm"].unique().tolist()
    assert isinstance(study.figure("training_loss"), Figure)
    with pytest.raises(ValueError, match=r"figure must be one of forest, .*training_loss.* \(got nothing\)"):
        study.figure("nothing")
    with pytest.raises(ValueError, match=r"table must be one of summary, ablation, .* \(got nothing\)"):
        study.table("nothing")
    with pytest.raises(ValueError, match="there is no table controls: "):
        study.table("controls")


def test_frames_are_what_the_runs_recorded(called: Path) -> None:
    study = ablate.open_study(called)
    assert repr(study) == f"<study {called}: 4 runs of 2 arms>"
    assert sorted(study.runs["seed"]) == [0, 0, 1, 1]
    assert study.steps.shape[0] == 4 * 6 and study.predictions.shape[0] == 4 * 20
    assert {*study.evals["split"]} == {"probe", "validation", "test"}


def test_a_second_call_has_nothing_to_do(
    called: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(called.parents[1])
    before = {path: path.stat().st_mtime_ns for path in called.glob("*/run.json")}
    study = ablate.study("mine", SWEEP, SMALL)
    assert study.plan()["state"].tolist() == ["done"] * 4
    assert repr(study.run()) == "<study outputs/mine: 4 runs of 2 arms>"
    assert "all 4 runs are done already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in called.glob("*/run.json")} == before


def test_an_interrupted_study_goes_on_in_another_thread(
    called: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at step 3 of the second run; then the rest, where no signal can arrive."""
    monkeypatch.chdir(tmp_path)
    study, steps, show = ablate.study("mine", SWEEP, SMALL), [], Display.step

    def interrupt(*arguments: object) -> None:
        steps.append(show(*arguments))
        if len(steps) == 9:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "step", interrupt)
        with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT; run the study again to continue"):
            study.run()
    assert len(steps) == 9 and study.plan()["state"].tolist() == ["done", "resume", "new", "new"]
    thread = threading.Thread(target=study.run, args=("local",), kwargs={"n_jobs": 1})
    thread.start()
    thread.join()
    ours, theirs = records(tmp_path / "outputs/mine"), records(called)
    claims = ".claims/auto.yaml"  # it has the launcher in its command
    assert {k: v for k, v in ours.items() if k != claims} == {k: v for k, v in theirs.items() if k != claims}


def test_one_study_at_a_time() -> None:
    with only_sweep(), pytest.raises(ValueError, match="another study is running in this process"):
        ablate.study("mine").run()


@pytest.mark.parametrize(
    ("sweep", "overrides", "what"),
    [
        ({"clpi": ["none"]}, SMALL, "there is no setting clpi\n  did you mean clip"),
        ({"clip": ["none", "fixd"]}, SMALL, "there is no option clip/fixd\n  did you mean fixed"),
        ({"clip": [None]}, SMALL, "clip=null must be set to the name of an option"),
        ({"clip.threshold": [-1]}, SMALL, r"clip.threshold must be a finite number above 0 \(got -1"),
        ({"seed": []}, (), r"sweep: seed must be a list of at least one value \(got \[\]\)"),
        ({"seed": {1, 2}}, (), "sweep: seed must be a list, as a set has no order"),
        ({"seed": [object()]}, (), "value must be text, a number"),
        ({"seed": [0]}, ("seed=1",), "seed must be set once, in sweep or in overrides"),
        ({"study": "x"}, (), "study must be left out .*first argument"),
        ({}, ("plan=true",), r"plan must be left out .*study.plan\(\) sets it"),
        ({}, "model=tiny", "overrides must be a list"),
        ({}, ("model tiny",), "model tiny cannot be parsed"),
        (["clip"], (), "sweep must be a mapping"),
    ],
)
def test_bad_input(
    sweep: object, overrides: object, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=what) as caught:
        ablate.study("mine", sweep, overrides).run()
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert [*tmp_path.iterdir()] == [] and not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize("value", ["none", "1", "1e3", "a b,c", "null", "True", "", "a'b", "x:y", "${seed}", "[1]"])
def test_text_stays_text(value: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_overrides([f"key={in_syntax(value)}", f"key={in_syntax([value, 'b'])}"])
    assert read[0].value() == value and type(read[0].value()) is not int
    assert [str(each) for each in read[1].value()] == [value, "b"]


def test_a_table_of_others(tmp_path: Path, few_figures: None) -> None:
    file = tmp_path / "results.csv"
    rows = [f"{clip},{seed},{0.5 + gain + 0.01 * seed}" for clip, gain in (("a", 0), ("b", 0.2)) for seed in range(6)]
    file.write_text("\n".join(["clip,seed,accuracy", *rows]))
    study = ablate.open_study(file, arms=("clip",))
    assert study.runs.shape[0] == 12 and "test accuracy" in study.headline
    with pytest.raises(ValueError, match=r"option must be one of .*arms"):
        ablate.open_study(file, arm=("clip",))


def test_importing_the_package_imports_nothing_else(tmp_path: Path) -> None:
    """Control: with another name, the user's own `typing.py` would be imported."""
    (tmp_path / "typing.py").write_text("raise SystemExit('typing.py was imported')")
    for code, printed in (("dir(ablate), ablate.__version__", ""), ("ablate.study", "typing.py was imported")):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = ['', '{ROOT}']; import ablate; {code}"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert printed in done.stderr and (done.returncode == 0) == (printed == ""), done.stderr


def test_type_checkers_see_all_public_names() -> None:
    tree = ast.parse((ROOT / "ablate/__init__.py").read_text())
    imports = [n for part in tree.body if isinstance(part, ast.If) for n in part.body if isinstance(n, ast.ImportFrom)]
    seen = {name.name: each.module for each in imports for name in each.names}
    assert seen == ablate.LAZY and {*ablate.__all__} == {*seen, "__version__"}
    assert all((ROOT / package / "py.typed").exists() for package in ("ablate", "analysis"))


NOTEBOOK = ROOT / "docs/tutorial/first_study.ipynb"


def test_the_manual_and_the_notebook_run(tmp_path: Path, few_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the same study, so the second has nothing to run; here it is shorter, which saves seconds."""
    page = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how_to/python_api.md").read_text(), re.DOTALL)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    monkeypatch.chdir(tmp_path)
    runs = []
    for blocks in (["".join(cell["source"]) for cell in cells], page):
        names: dict[str, Any] = {}
        for block in blocks:
            exec(block.replace("range(4)", "range(2)").replace("60", "20"), names)
        assert names["study"].verdicts["n"][0] == 2
        runs.append({path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/first/*/run.json")})
    assert len(runs[0]) == 4 and runs[0] == runs[1]


def test_the_notebook_is_saved_with_what_it_shows() -> None:
    """`jupyter execute --inplace docs/tutorial/first_study.ipynb` writes it."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert NOTEBOOK.stat().st_size < 200_000 and all(output["output_type"] != "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "IProgress" not in NOTEBOOK.read_text() and "supported" in str(outputs)


@pytest.mark.long
def test_a_kernel_executes_the_notebook(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, 4)
    saved = shown_words(notebook)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "outputs/first/report/index.html").exists()
    for now, before in zip(shown_words(notebook), saved, strict=True):
        assert now == before


def shown_words(notebook: Any) -> list[str]:
    """The words that the cells show, without plan, progress, numbers, spaces, colours and how times compare."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = ["".join(output.get("data", {}).get("text/plain", output.get("text", ""))) for output in outputs]
    texts = [text for text in texts if not re.match(r"\d+ runs:|run \d+ of", text)]
    varies = r"\x1b\[[\d;]*m|[\d.−+]+(e-\d+)?|\s|[━─]|lower|higher|no difference shown"
    return [re.sub(varies, "", text) for text in texts]


def test_a_notebook_shows_one_output_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich's own display needs ipywidgets."""
    display = pytest.importorskip("IPython.display")
    shown: list[Any] = []
    output = SimpleNamespace(update=shown.append)
    monkeypatch.setattr(display, "display", lambda lines, display_id: shown.append(lines) or output)
    monkeypatch.setattr("ablate.run.notebook.REFRESH_INTERVAL", 0.0)
    progress = NotebookProgress(TextColumn("{task.description} {task.completed}"))
    task = progress.add_task("run", total=3)
    progress.start()
    progress.update(task, completed=2)
    progress.stop()
    console = Console(file=StringIO())
    console.print(*shown)
    assert console.file.getvalue().split("\n")[:3] == ["run 0", "run 2", "run 2"]
