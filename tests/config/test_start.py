"""The first moments of a command: signals while modules are imported, and files with the names of modules."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.run.signals import Stopped, stop_behind
from tests.faults.harness import heed_ctrl_c
from tests.tools import ROOT

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)
ENVIRONMENT["RAY_worker_niceness"] = "0"  # Ray workers' low priority would cost long waits
RUN = ("model=tiny", "data=synthetic", "trainer.steps=2", "trainer.batch_size=4", "trainer.threads=1",
       "data.train_examples=20", "data.test_examples=10", "report=false")  # fmt: skip

SIGNAL_AT_IMPORT = """
import os, runpy, sys
module, signum = sys.argv[1], int(sys.argv[2])
class Sender:
    def find_spec(self, name, *rest):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signum)
sys.meta_path.insert(0, Sender())
sys.argv[1:] = sys.argv[3:]
runpy.run_module("ablate", run_name="__main__", alter_sys=True)
"""


def python(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=heed_ctrl_c
    )


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=["term", "ctrl_c"])
@pytest.mark.parametrize("module", ["hydra", "omegaconf", "ablate.distributed.ranks", "ablate.sweep.callback", "torch"])
def test_a_signal_while_modules_are_imported(module: str, signum: int, code: int, tmp_path: Path) -> None:
    ended = python(tmp_path, "-c", SIGNAL_AT_IMPORT, module, str(int(signum)), *RUN)
    assert ended.returncode == code
    assert f"stopped by {signal.Signals(signum).name}; run the same command again to continue" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "outputs").exists()


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """As in a shell's background job, which does not hear Ctrl-C."""
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{SIGNAL_AT_IMPORT}"
    assert python(tmp_path, "-c", ignoring, "hydra", str(int(signal.SIGINT)), "--version").returncode == 0


def test_a_stop_that_other_code_turned_into_an_error_is_found() -> None:
    stop = Stopped(signal.SIGTERM)
    error = RuntimeError("Error calling __set_name__")
    error.__cause__ = ValueError()
    error.__cause__.__context__ = stop
    assert stop_behind(error) is stop
    assert stop_behind(RuntimeError()) is None


@pytest.mark.parametrize(
    ("end", "code"), [("main.exit_stopped(stop)", 130), ("sys.exit(130)", -2)], ids=["ours", "control"]
)
def test_ctrl_c_within_an_exec(end: str, code: int, tmp_path: Path) -> None:
    """CPython remembers it, and would kill itself at exit with SIGINT."""
    interrupted = "try:\n    exec('raise KeyboardInterrupt')\nexcept KeyboardInterrupt as stop:\n    "
    (tmp_path / "interrupted.py").write_text(f"import sys, ablate.__main__ as main\n{interrupted}{end}\n")
    assert python(tmp_path, "-m", "interrupted").returncode == code


SHADOWING = ("typing", "hydra", "numpy", "joblib", "peft", "sentencepiece", "wandb", "mlflow", "numexpr")


@pytest.fixture
def marking(tmp_path: Path) -> Path:
    """A folder whose modules each leave a file `MARK-<name>` when they are imported."""
    for name in (*SHADOWING, "hydra_plugins/mine", "hydra_plugins/more/__init__"):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        mark = str(tmp_path / f"MARK-{name.replace('/', '.')}")
        file.write_text(f"open({mark!r}, 'w').close()\n")
    return tmp_path


def marks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("MARK-*"))


LAUNCHERS = {
    "local": ("joblib", ("hydra.launcher.n_jobs=2", "seed=0,1"), "2 runs, 2 in parallel"),
    "cluster": ("ray", ("hydra.launcher.ray.init.num_cpus=1", "seed=0"), "submitting each run as a task"),
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_no_module_of_the_working_directory_is_imported(launcher: str, marking: Path) -> None:
    """Neither in the command, nor in the workers that it starts."""
    package, settings, announcement = LAUNCHERS[launcher]
    pytest.importorskip(package)
    sweep = ("-m", *RUN, "study=s", "clip=fixed", f"hydra/launcher={launcher}", *settings)
    ended = python(marking, "-m", "ablate", *sweep)
    assert (ended.returncode, marks(marking)) == (0, []), ended.stderr
    assert announcement in " ".join((ended.stdout + ended.stderr).split())


def test_the_analysis_imports_no_module_of_the_working_directory(marking: Path) -> None:
    ended = python(marking, "-m", "analysis", "outputs/none")
    assert (ended.returncode, marks(marking)) == (2, []), ended.stderr
    assert python(marking, "-c", "import wandb, hydra_plugins.mine").returncode == 0
    assert marks(marking) == ["MARK-hydra_plugins.mine", "MARK-wandb"]  # the control: Python itself would import them


RULES = """
import gc
from ablate.clip import Fixed
from ablate.tracker import Nothing

assert gc.isenabled()  # off before, while the command imported its own modules

class Half(Fixed):
    pass

class Silent(Nothing):
    pass
"""


def test_a_module_that_the_user_names_is_imported(marking: Path) -> None:
    named = (*RUN, "allow_targets=[rules]", "clip._target_=rules.Half", "plan=true")
    (marking / "rules.py").write_text(RULES)
    ended = python(marking, "-m", "ablate", *named)
    assert (ended.returncode, marks(marking)) == (0, []), ended.stderr
    assert python(marking, "-m", "ablate", *RUN, "clip._target_=rules.Half", "plan=true").returncode == 2
