"""README, CONTRIBUTING, AGENTS and docs/: their commands work, their files exist, their numbers are the studies'.

Every command in a block of bash is checked: its runs are composed and checked as before the first one, or its options
are parsed. Those of the README run, with a model and data that take seconds. .ci/run installs, lints, tests and builds
the site, which checks the links of docs/.
"""

import argparse
import html
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

from ablate import gallery
from ablate.config.loader import CheckedLoader
from ablate.config.paths import conf
from ablate.distributed.ranks import RENDEZVOUS
from ablate.doctor import doctor_command
from ablate.run.job import Job
from ablate.sweep.claims import sweep_claims
from ablate.sweep.compose import compose_jobs, composed_job
from ablate.sweep.preflight import check
from analysis import __main__ as analysis_command
from tests.tools import ROOT, ablate, bash_commands

EXAMPLES = ROOT / "docs/examples"
FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if EXAMPLES not in path.parents),
]
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
README = DOCUMENTS["README.md"]
COMMANDS = {command: name for name in reversed(DOCUMENTS) for command in bash_commands(ROOT / name)}
"""Command -> the first document that has it."""

RUN = [c for c, name in COMMANDS.items() if name == "README.md" or name.startswith("docs/tutorial/own_")]
CI = (ROOT / ".ci/run").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
QUICK = (
    "trainer.steps=2", "trainer.batch_size=4", "trainer.length_splits=1", "trainer.threads=1",
    "data.test_examples=10", "data.train_examples=20", "report=false", "seed=0",
)  # fmt: skip
TINY = ("model=tiny", "data=synthetic")


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a user's data files."""
    rows = "".join(f"a fine film {i},1\na dull film {i},0\n" for i in range(40))
    (tmp_path / "my/imdb").mkdir(parents=True)
    for name in ("train.csv", "test.csv", "nli.jsonl", "book.txt", "my/imdb/train.csv", "my/imdb/test.csv"):
        (tmp_path / name).write_text(f"{'text,label' if 'imdb' in name else 'review,stars'}\n{rows}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write_model(folder: str) -> None:
    """Write a small pretrained model of a user."""
    from transformers import BertConfig, BertForSequenceClassification

    from ablate.model.word_tokenizer import word_tokenizer

    tokenizer = word_tokenizer(["a fine film", "a dull film"], 100, 128)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=128)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_files_of(document: str) -> None:
    """Write the files that a document shows (blocks of Python and YAML that begin with their names), and its model."""
    if "model.path=my/model" in document:
        write_model("my/model")
    for name, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", document, re.DOTALL):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)


# --- All commands ---


def checked_jobs(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs of `python -m ablate <words>`, checked as before the first run, except for data and models."""
    arguments = get_args_parser().parse_args(list(words))
    if arguments.config_dir:
        arguments.overrides.append(f"hydra.searchpath=[file://{Path(arguments.config_dir).resolve()}]")
    parsed = OverridesParser.create().parse_overrides(arguments.overrides)
    monkeypatch.setattr("hydra._internal.hydra.ConfigLoaderImpl", CheckedLoader)
    once = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
    with initialize_config_dir(conf(), version_base="1.3", job_name="ablate"):
        config = compose("config", once, return_hydra_config=True)
        with open_dict(config):
            config.hydra.overrides.task = [line for line in arguments.overrides if not line.startswith("hydra.")]
        many = arguments.multirun or str(config.hydra.mode).endswith("MULTIRUN")
        jobs = compose_jobs(config) if many else [composed_job(config)]
    check(jobs)
    sweep_claims(config, jobs)
    return jobs


class Parsed(BaseException):
    """Raised in place of a command, once its options are parsed."""


def parse_only(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse `python -m analysis <words>`; SystemExit for an unknown option."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *given: Any) -> None:
        parse(parser, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Parsed):
        if words[0] == "doctor":
            doctor_command(list(words[1:]))
        monkeypatch.setattr(sys, "argv", ["analysis", *words])
        analysis_command.main()


def extras_of(commands: str) -> list[set[str]]:
    """The extras of each editable installation, such as {"joblib"}."""
    found = re.findall(r'^pip install (?:-q )?-c constraints\.txt -e "\.\[([\w,]+)\]"', commands, re.MULTILINE)
    return [{*names.split(",")} for names in found]


def is_done_by_ci(command: str) -> bool:
    if command.startswith("pytest"):  # .ci/run runs all tests, and so every part of them
        paths = [word for word in command.split() if word.startswith("tests")]
        return bool(re.search(r"^(\w+=\w+ )*pytest\b", CI, re.MULTILINE)) and all((ROOT / p).exists() for p in paths)
    if extras := extras_of(command):  # .ci/run may install others in the same call
        return any(extras[0] <= installed for installed in extras_of(CI))
    if installed := re.fullmatch(r'pip install "(.+)\[(\w+)\]"', command):  # of a release
        return installed[1] == PROJECT["name"] and installed[2] in PROJECT["optional-dependencies"]
    if command.startswith("mkdocs"):
        return bool(re.search(r"\bmkdocs build .*--strict", CI, re.MULTILINE))
    return command == ".ci/run" or command.removeprefix("pip install ") in CI


def is_sweep(words: Sequence[str]) -> bool:
    return words[:3] == ["python", "-m", "ablate"] and words[3:4] != ["doctor"]


def check_command(command: str, document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise unless the command works; its document shows the files that it needs."""
    words = shlex.split(command.partition("-m ablate ")[2] if command.startswith("torchrun") else command)
    if command.startswith("torchrun"):
        for name, value in {**dict.fromkeys(RENDEZVOUS, "1"), "WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        assert checked_jobs(words, monkeypatch)
    elif words == ["python", "-m", "ablate", "--help"]:
        pass  # it runs below
    elif is_sweep(words):
        write_files_of(document)
        assert checked_jobs([word for word in words[3:] if word not in ("--cfg", "job", "--resolve")], monkeypatch)
    elif words[:2] == ["python", "-m"] and words[2] in ("ablate", "analysis"):
        parse_only(words[3:], monkeypatch)
    elif words[:3] == ["python", "-m", "ablate.gallery"]:
        assert gallery.options(words[4:])
    elif words[:3] == ["python", "-m", "tests.report_picture"]:
        assert (ROOT / "tests/report_picture.py").is_file()
    elif words[0] == "python":
        assert f"```python\n# {words[1]}\n" in document
    else:
        assert is_done_by_ci(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(command: str, users_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_command(command, DOCUMENTS[COMMANDS[command]], monkeypatch)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("python -m ablate -m clip=none,fixd", Exception),
        ("python -m ablate trainer.stepz=3", Exception),
        ("python -m ablate trainer.steps=-3", ValueError),
        ("python -m ablate claims=nothing", ValueError),
        ("python -m ablate.gallery page clip/fixd", ValueError),
        ("python -m analysis outputs/quick --agianst outputs/slower", SystemExit),
        ("python -m analysis pack outputs/quick --raport", SystemExit),
        ("python -m ablate doctor --jsno", SystemExit),
        ("python missing.py", AssertionError),
        ("pip install -c constraints.txt -e '.[nothing]'", AssertionError),
        ("torchrun -m ablate clip=fixd", Exception),
    ],
)
def test_a_wrong_command_is_found(
    command: str, error: type[BaseException], users_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error):
        check_command(command, README, monkeypatch)


# --- Commands that run ---


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in RUN if c.startswith("python -m ablate ") and "doctor" not in c])
def test_a_command_runs(command: str, users_folder: Path) -> None:
    words = shlex.split(command)[3:]
    write_files_of(DOCUMENTS[COMMANDS[command]])
    flags_only = words[0] in ("--help", "--cfg")
    names_own = any(word.startswith(("model", "data")) for word in words)
    shorter = () if flags_only else (*QUICK, *(() if names_own else TINY))
    if "experiment=paper" in words:
        shorter = (*shorter, "clip=none,delayed")  # 120 runs otherwise
    done = ablate(*words, *shorter, cwd=users_folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
def test_a_run_on_two_ranks(tmp_path: Path) -> None:
    (command, *_) = [command for command in COMMANDS if command.startswith("torchrun") and "fsdp" not in command]
    words = [sys.executable, "-m", "torch.distributed.run", *shlex.split(command)[1:], *QUICK, *TINY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/run.json")]
    assert {record["environment"]["world_size"] for record in records} == {2}


# --- Files and links; mkdocs checks those of docs/ ---


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "AGENTS.md"])
def test_every_file_it_points_to_is_there(document: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENTS[document]):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name != "README.md"])
def test_every_file_it_names_is_there(document: str) -> None:
    for path in re.findall(r"`((?:ablate|analysis|tests|conf|outputs/reference)/[\w/.]+)`", DOCUMENTS[document]):
        shown = re.search(rf"^# {re.escape(path)}$", DOCUMENTS[document], re.MULTILINE)
        assert shown or path.startswith("conf/mixout") or (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), path


def test_every_package_is_in_the_table_of_folders() -> None:
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for top in ("ablate", "analysis")
        for path in (ROOT / top).glob("*/*.py")
    }
    listed = set(re.findall(r"^\| `((?:ablate|analysis)/\w+)/` \|", DOCUMENTS["CONTRIBUTING.md"], re.MULTILINE))
    assert listed == packages


# --- README ---


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1500
    assert (ROOT / "docs/report.png").stat().st_size < 300_000


def test_the_readme_lists_every_option() -> None:
    """And no other, in the table of what can vary."""
    listed = {
        group: set(re.findall(r"`(\w+)`", row)) for group, row in re.findall(r"^\| `(\w+)` \| (.*?) \|", README, re.M)
    }
    groups = [path.name for path in (ROOT / "conf").iterdir() if path.is_dir()]
    groups = [name for name in groups if name not in ("hydra", "experiment", "claims", "roles", "trainer", "tracker")]
    assert listed == {name: {path.stem for path in (ROOT / "conf" / name).glob("*.yaml")} for name in groups}
    listed_defaults = yaml.safe_load((ROOT / "conf/config.yaml").read_text())["defaults"]
    defaults = {key: value for line in listed_defaults if isinstance(line, dict) for key, value in line.items()}
    bold = dict(re.findall(r"^\| `(\w+)` \|.*?\*\*`(\w+)`\*\*", README, re.MULTILINE))
    assert bold == {group: defaults[group] for group in groups}


def test_the_first_study_shows_the_output_of_the_readme() -> None:
    """.ci/run compares it with what the command prints."""
    shown = [
        re.search(r"```text\n.*?```", text, re.DOTALL)[0]
        for text in (README, DOCUMENTS["docs/tutorial/first_study.md"])
    ]
    assert shown[0] == shown[1]


def test_the_versions_of_the_readme_are_those_of_the_package() -> None:
    pythons = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", name)]
    assert f"Python {pythons[0]} to {pythons[-1]} · {PROJECT['license']}" in README
    assert f"version = {{{PROJECT['version']}}}" in README


def test_the_ablation_table_of_the_readme_is_that_of_the_published_report() -> None:
    page = (ROOT / "outputs/reference/paper/report/index.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page))).replace("[", "(").replace("]", ")")
    rows = re.findall(r"^\| [\w +()]+ \| ([\d.]+ ± [\d.]+) \| (.*?) ?\|$", README, re.MULTILINE)
    assert len(rows) == 5
    for accuracy, difference in rows:
        assert f" 10 {accuracy} {difference or '–'} " in text, accuracy
