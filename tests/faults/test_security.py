"""No code from a config, a checkpoint or a model's folder runs (it would create `marker`); no token is written."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.faults.harness import COMMON, FIXTURE, SWEEP, ablate, differences, output, the_run
from tests.faults.injection import at_step, fail, then
from tests.faults.models import save_model
from tests.tools import ablate_as_user

PLAIN = tuple(argument for argument in COMMON if not argument.startswith("clip"))
OWN_MODEL = tuple(argument for argument in FIXTURE if not argument.startswith("model"))
TOUCH = "import pathlib\npathlib.Path('marker').touch()\n"


def refused(cwd: Path, *arguments: str, said: str) -> None:
    assert ablate(cwd, *arguments) == 2, output(cwd)
    assert said in output(cwd)
    assert not (cwd / "marker").exists()
    assert not (cwd / "outputs").exists()


# Row 30: targets

FOREIGN = ["os.system", "transformers.utils.hub.os.system", "ablate.files.assets.subprocess.run",
           "ablate.files.assets.fetch", "torch.optim.Adam", "builtins.exec", "hostile.rules.Rule"]  # fmt: skip


def write_hostile_module(cwd: Path) -> None:
    """Write a package that creates the file `marker` when it is imported."""
    (cwd / "hostile").mkdir()
    (cwd / "hostile/__init__.py").write_text(TOUCH)
    (cwd / "hostile/rules.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Rule:\n    command: str\n"
        "    def scale(self, norm, t, state):\n        return 1.0, None\n"
    )


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("mode", [(), ("-m",)], ids=["run", "sweep"])
def test_row_30_foreign_target_in_a_file(tmp_path: Path, mode: tuple[str, ...], target: str) -> None:
    write_hostile_module(tmp_path)
    (tmp_path / "conf/clip").mkdir(parents=True)
    (tmp_path / "conf/clip/hostile.yaml").write_text(f"_target_: {target}\ncommand: touch marker\n")
    refused(tmp_path, *mode, *PLAIN, "hydra.searchpath=[file://conf]", "clip=hostile", said=target)


@pytest.mark.parametrize("target", ["os.system", "hostile.rules.Rule"])
@pytest.mark.parametrize("key", ["clip.rule", "clip", "model", "trainer"])
def test_row_30_foreign_target_on_the_command_line(tmp_path: Path, key: str, target: str) -> None:
    """At the top and nested inside an allowed one."""
    write_hostile_module(tmp_path)
    arguments = (f"{key}._target_={target}", f"+{key}.command='touch marker'")
    refused(tmp_path, *FIXTURE, *arguments, said=target)


def test_row_30_call_settings_of_hydras(tmp_path: Path) -> None:
    refused(tmp_path, *FIXTURE, "+clip.rule._partial_=true", said="clip.rule._partial_ is not allowed")


def test_row_30_hydras_own_callbacks(tmp_path: Path) -> None:
    arguments = ("+hydra.callbacks.x._target_=os.system", "+hydra.callbacks.x.command='touch marker'")
    refused(tmp_path, *FIXTURE, *arguments, said="os.system")


def test_row_30_control_an_allowed_module_is_imported(tmp_path: Path) -> None:
    """Otherwise the tests above would pass for any reason."""
    write_hostile_module(tmp_path)
    (tmp_path / "conf/clip").mkdir(parents=True)
    (tmp_path / "conf/clip/own.yaml").write_text("_target_: hostile.rules.Rule\ncommand: ''\n")
    own = ("hydra.searchpath=[file://conf]", "clip=own", "allow_targets=[hostile]")
    assert ablate(tmp_path, *PLAIN, *own) == 0
    assert (tmp_path / "marker").exists()


# Row 30: what Hydra itself would import or call

OWN_CODE = {
    "callback that writes a module": "callbacks: {x: {_target_: pathlib.Path.write_text, _args_: [{_target_: "
    "pathlib.Path, _args_: [marker]}, x]}}",
    "callback that reads a pickle": "callbacks: {x: {_target_: pandas.read_pickle, filepath_or_buffer: hostile.pkl}}",
    "callback that copies": "callbacks: {x: {_target_: shutil.copyfile, src: hostile.pkl, dst: marker}}",
    "callback of the user's folder": "callbacks: {x: {_target_: hostile.rules.Rule, command: x}}",
    "callback through our package": "callbacks: {x: {_target_: ablate.files.assets.shutil.copyfile, src: hostile.pkl, "
    "dst: marker}}",
    "our callback, replaced": "callbacks: {sweep: {_target_: hostile.rules.Rule, command: x}}",
    "log handler": "job_logging: {handlers: {x: {class: hostile.rules.Rule}}, root: {handlers: [x]}}",
    "log handler that opens a file": "job_logging: {handlers: {x: {class: logging.FileHandler, filename: marker}}}",
    "log factory": "job_logging: {formatters: {x: {(): hostile.rules.Rule, command: x}}}",
    "log stream": "job_logging: {handlers: {console: {stream: 'ext://hostile.rules.Rule'}}}",
    "Hydra's own log": "hydra_logging: {handlers: {x: {class: logging.FileHandler, filename: marker}}}",
    "sweeper": "sweeper: {_target_: hostile.rules.Rule}",
    "sweeper's parameter": "sweeper: {params: {seed: {_target_: shutil.copyfile, src: hostile.pkl, dst: marker}}}",
    "launcher": "launcher: {_target_: hostile.rules.Rule}",
    "launcher's setting": "launcher: {x: {_target_: shutil.copyfile, src: hostile.pkl, dst: marker}}",
    "LD_PRELOAD": "job: {env_set: {LD_PRELOAD: /tmp/hostile.so}}",
    "PYTHONPATH": "job: {env_set: {PYTHONPATH: /tmp}}",
    "overrides": "overrides: {hydra: ['hydra.searchpath=[pkg://hostile]']}",
    "config beside the run": "output_subdir: ../../../marker",
}


@pytest.mark.parametrize("mode", [(), ("-m",)], ids=["run", "sweep"])
@pytest.mark.parametrize("what", OWN_CODE)
def test_row_30_an_experiment_file_makes_hydra_run_nothing(tmp_path: Path, mode: tuple[str, ...], what: str) -> None:
    write_hostile_module(tmp_path)
    pickled(tmp_path / "hostile.pkl")
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/hostile.yaml").write_text(f"# @package _global_\nhydra:\n  {OWN_CODE[what]}\n")
    arguments = ("hydra.searchpath=[file://conf]", "experiment=hostile")
    refused(tmp_path, *mode, *FIXTURE, *arguments, said="error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "hostile", "hostile.pkl", "output.txt"]


LAUNCHERS = {
    "slurm": ["setup: [touch marker]", "additional_parameters: {export: LD_PRELOAD=x}", "submitit_folder: /tmp/x",
              'comment: "x\\ntouch marker"'],
    "cluster": ["ray: {init: {runtime_env: {worker_process_setup_hook: hostile.rules.Rule}}}",
                "ray: {init: {_temp_dir: marker}}", "ray: {remote: {runtime_env: {pip: [hostile]}}}"],
    "local": ["temp_folder: marker"],
}  # fmt: skip


@pytest.mark.parametrize(("launcher", "setting"), [(name, s) for name, found in LAUNCHERS.items() for s in found])
def test_row_30_an_experiment_file_makes_launchers_run_nothing(tmp_path: Path, launcher: str, setting: str) -> None:
    write_hostile_module(tmp_path)
    (tmp_path / "conf/experiment").mkdir(parents=True)
    text = f"# @package _global_\nhydra:\n  launcher:\n    {setting}\n"
    (tmp_path / "conf/experiment/hostile.yaml").write_text(text)
    arguments = (f"hydra/launcher={launcher}", "hydra.searchpath=[file://conf]", "experiment=hostile")
    refused(tmp_path, "-m", *FIXTURE, *arguments, said="error: hydra.launcher.")


def test_row_30_one_of_several_arms(tmp_path: Path) -> None:
    """The config of the sweep itself has none of its settings."""
    (tmp_path / "conf/clip").mkdir(parents=True)
    (tmp_path / "conf/clip/hostile.yaml").write_text(
        "# @package _global_\ndefaults: [fixed@clip]\nhydra: {job: {env_set: {LD_PRELOAD: x}}}\n"
    )
    arguments = ("hydra.searchpath=[file://conf]", "clip=fixed,hostile")
    refused(tmp_path, "-m", *PLAIN, *arguments, said="hydra.job.env_set.LD_PRELOAD")


@pytest.mark.parametrize("argument", ["hydra.searchpath=[pkg://hostile]", "--experimental-rerun=hostile.pkl"])
def test_row_30_options_of_the_command_that_run_code(tmp_path: Path, argument: str) -> None:
    write_hostile_module(tmp_path)
    pickled(tmp_path / "hostile.pkl")
    refused(tmp_path, argument, *FIXTURE, said="error: ")


def test_row_30_a_primary_config_that_imports_a_package(tmp_path: Path) -> None:
    write_hostile_module(tmp_path)
    (tmp_path / "mine.yaml").write_text("defaults: [config]\nhydra: {searchpath: ['pkg://hostile']}\n")
    refused(tmp_path, "--config-dir=.", "--config-name=mine", *FIXTURE, said="hydra.searchpath must be folders")


@pytest.mark.parametrize("allowed", [(), ("allow_targets=[joblib]",)], ids=["not_allowed", "allowed"])
def test_row_30_a_file_here_does_not_replace_an_installed_package(tmp_path: Path, allowed: tuple[str, ...]) -> None:
    (tmp_path / "joblib.py").write_text(TOUCH)
    done = ablate_as_user(*FIXTURE, "clip.rule._target_=joblib.Parallel", *allowed, cwd=tmp_path)
    assert done.returncode == 2 and "joblib.Parallel" in done.stdout + done.stderr
    assert not (tmp_path / "marker").exists()


# Row 31: files that would run code when they are read


class Hostile:
    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.system, ("touch marker",)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"step": Hostile()}))


def saved(path: Path) -> None:
    torch.save({"step": Hostile()}, path)


def inside_a_good_one(path: Path) -> None:
    """Replace one field of a valid checkpoint."""
    good = torch.load(path, weights_only=True)
    torch.save(good | {"states": Hostile()}, path)


@pytest.mark.parametrize("write", [pickled, saved, inside_a_good_one])
def test_row_31_hostile_checkpoint(tmp_path: Path, killed: Path, undisturbed: Path, write: Callable) -> None:
    """With a valid hash, so that the file is really read."""
    shutil.copytree(killed / "outputs", tmp_path / "outputs")
    path = the_run(tmp_path) / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-64])
    write(path)
    path.write_bytes(path.read_bytes() + hashlib.sha256(path.read_bytes()).hexdigest().encode())
    assert ablate(tmp_path, *FIXTURE) == 0
    assert "is not a checkpoint of ablate" in output(tmp_path)
    assert not (tmp_path / "marker").exists()
    assert differences(tmp_path, undisturbed) == []


def test_row_31_control_the_pickle_is_hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "checkpoint.pt")
    torch.load(tmp_path / "checkpoint.pt", weights_only=False)
    assert (tmp_path / "marker").exists()


def test_row_31_pickled_weights_only(tmp_path: Path) -> None:
    save_model(tmp_path / "mine")
    (tmp_path / "mine/model.safetensors").unlink()
    saved(tmp_path / "mine/pytorch_model.bin")
    refused(tmp_path, *OWN_MODEL, "model.path=mine", said="has no *.safetensors")


def test_row_31_pickled_weights_beside_good_ones(tmp_path: Path) -> None:
    save_model(tmp_path / "mine")
    saved(tmp_path / "mine/pytorch_model.bin")
    assert ablate(tmp_path, *OWN_MODEL, "model.path=mine") == 0
    assert not (tmp_path / "marker").exists()


def add_code(folder: Path, **changes: str) -> None:
    """Let the files of a model request custom code in every way that transformers knows."""
    (folder / "hostile.py").write_text(TOUCH + "class Anything:\n    pass\n")
    kinds = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    for name, asked in {
        "config.json": {kind: "hostile.Anything" for kind in kinds},
        "tokenizer_config.json": {"AutoTokenizer": ["hostile.Anything", "hostile.Anything"]},
    }.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes | {"auto_map": asked}))


def test_row_31_code_in_a_models_folder(tmp_path: Path) -> None:
    """A known kind of model needs no custom code, and none runs."""
    save_model(tmp_path / "mine")
    add_code(tmp_path / "mine")
    assert ablate(tmp_path, *OWN_MODEL, "model.path=mine") == 0
    assert not (tmp_path / "marker").exists()


def test_row_31_model_that_needs_its_own_code(tmp_path: Path) -> None:
    save_model(tmp_path / "mine")
    add_code(tmp_path / "mine", model_type="hostile", tokenizer_class="Anything")
    refused(tmp_path, *OWN_MODEL, "model.path=mine", said="model.path must be a model and tokenizer that")


# Row 33: tokens

TOKEN = "a-very-secret-token"


def with_tokens() -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = TOKEN


def files_with(cwd: Path, words: str) -> list[Path]:
    return [path for path in cwd.rglob("*") if path.is_file() and words.encode() in path.read_bytes()]


def test_row_33_tokens_of_the_environment_are_in_no_file(tmp_path: Path) -> None:
    """Nor in the record of a failed run."""
    assert ablate(tmp_path, *SWEEP, fault=partial(then, with_tokens, partial(at_step, 12, fail, 8))) == 1
    assert files_with(tmp_path, TOKEN) == []
    assert files_with(tmp_path, "a fault of the test")  # the control


@pytest.mark.parametrize(
    ("argument", "variable"),
    [
        (f"+hydra.job.env_set.HF_TOKEN={TOKEN}", "HF_TOKEN"),
        (f"+hydra.job.env_set.WANDB_API_KEY={TOKEN}", "WANDB_API_KEY"),
        ("hydra.job.env_copy=[HOME,HF_TOKEN]", "HF_TOKEN"),
        (f"+tracker.api_key={TOKEN}", "API_KEY"),
        (f"+wandb.credentials.user={TOKEN}", "USER"),
        ("+note=${oc.env:HF_TOKEN}", "HF_TOKEN"),
        ("+note='${oc.env:\"HF_TOKEN\"}'", "HF_TOKEN"),
        ("+note=${oc.env:OPENAI_KEY,x}", "OPENAI_KEY"),
        (f"+note=x{TOKEN}", ""),
        (f"+tracker.uri='postgresql://me:{TOKEN}@host/runs'", ""),
    ],
)
@pytest.mark.parametrize("mode", [(), ("-m",)], ids=["run", "sweep"])
def test_row_33_tokens_in_the_config_are_refused(
    tmp_path: Path, mode: tuple[str, ...], argument: str, variable: str
) -> None:
    assert ablate(tmp_path, *mode, *FIXTURE, argument, fault=with_tokens) == 2, output(tmp_path)
    assert f"export {variable}" in output(tmp_path)
    assert not (tmp_path / "outputs").exists()
    assert TOKEN not in output(tmp_path)


def test_row_33_a_swept_token_is_refused(tmp_path: Path) -> None:
    """Only Hydra's list of overrides contains it."""
    refused(tmp_path, "-m", *FIXTURE, f"+tracker.token={TOKEN},other", said="export TOKEN=")
    assert TOKEN not in output(tmp_path)


def test_row_33_one_of_several_arms(tmp_path: Path) -> None:
    """The config of the sweep itself does not hold it."""
    (tmp_path / "conf/clip").mkdir(parents=True)
    (tmp_path / "conf/clip/mine.yaml").write_text(
        f"# @package _global_\ndefaults: [fixed@clip]\nhydra: {{job: {{env_set: {{MY_PASS: {TOKEN}}}}}}}\n"
    )
    arguments = ("hydra.searchpath=[file://conf]", "clip=fixed,mine")
    refused(tmp_path, "-m", *PLAIN, *arguments, said="hydra.job.env_set.MY_PASS")
    assert TOKEN not in output(tmp_path)


def test_row_33_what_only_sounds_like_a_token(tmp_path: Path) -> None:
    """A harmless key whose name contains `token` is allowed."""
    assert ablate(tmp_path, *FIXTURE, "+hydra.job.env_set.TOKENIZERS_PARALLELISM=false") == 0
