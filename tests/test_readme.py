"""Every command in README.md, CONTRIBUTING.md and AGENTS.md works.

.ci/run installs, lints and tests. All other commands run here, with a model and data that take seconds.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests import slurm
from tests.tools import ROOT, ablate, ablate_as_user

DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")}
README = DOCUMENTS["README.md"]
CI = (ROOT / ".ci/run").read_text(encoding="utf-8")
QUICK = (
    "trainer.steps=2", "trainer.batch_size=4", "trainer.length_splits=1", "trainer.threads=1",
    "data.test_examples=10", "data.train_examples=20", "report=false",
)  # fmt: skip
TINY = ("model=tiny", "data=synthetic")
AS_IMPORTANT = {"RAY_worker_niceness": "0"}  # Ray workers' low priority would cost long waits


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", "\n".join(DOCUMENTS.values()), flags=re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(part.strip() for line in lines if line for part in line.split(" && ")))


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A folder with everything that the README's examples use: a model, data files, a user's own rule."""
    from transformers import BertConfig, BertForSequenceClassification

    from ablate.model.word_tokenizer import word_tokenizer

    tokenizer = word_tokenizer(["a fine film", "a dull film"], 100, 128)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=128)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "my/model")
    tokenizer.save_pretrained(tmp_path / "my/model")
    rows = "".join(f"a fine film {i},1\na dull film {i},0\n" for i in range(40))
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text(f"review,stars\n{rows}")
    for name, content in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", README, re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("python -m ablate")])
def test_a_command(command: str, users_folder: Path) -> None:
    words = shlex.split(command)[3:]
    if "hydra/launcher=slurm" in words and (reason := slurm.lacking()):
        (pytest.fail if os.environ.get("ABLATE_SLURM") == "required" else pytest.skip)(reason)
    flags_only = words[0] in ("--help", "--cfg")
    names_own = any(word.startswith(("model", "data", "experiment=original")) for word in words)
    shorter = () if flags_only else (*QUICK, *(() if names_own else TINY))
    if "experiment=paper" in words:
        shorter = (*shorter, "seed=0", "clip=none,delayed")  # 120 runs otherwise
    elif any(word.startswith(("seed=0,", "experiment=quick")) for word in words):
        shorter = (*shorter, "seed=0")
    if not any(word.startswith("hydra/launcher=") for word in words):
        done = ablate(*words, *shorter, cwd=users_folder)
    else:  # as a user does, since its workers are new processes
        with slurm.running() if "hydra/launcher=slurm" in words else nullcontext({}) as environment:
            done = ablate_as_user(*words, *shorter, cwd=users_folder, **environment, **AS_IMPORTANT)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("torchrun")])
def test_several_processes(command: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", *shlex.split(command)[1:], *QUICK, *TINY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/run.json")]
    assert {record["environment"]["world_size"] for record in records} == {2}


@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith(("python -m ablate", "torchrun"))])
def test_installing_and_testing_is_done_by_ci(command: str) -> None:
    if command.startswith("pytest"):  # .ci/run runs all tests, and so every part of them
        assert re.search(r"^(\w+=\w+ )*pytest\b", CI, re.MULTILINE)
        assert all((ROOT / word).exists() for word in command.split() if word.startswith("tests"))
    elif extras := extras_of(command):  # .ci/run may install others in the same call
        assert any(extras[0] <= installed for installed in extras_of(CI))
    elif command != ".ci/run":
        assert command.removeprefix("pip install ") in CI


def extras_of(commands: str) -> list[set[str]]:
    """The extras of each editable installation, such as {"joblib"}."""
    found = re.findall(r'^pip install (?:-q )?-c constraints\.txt -e "\.\[([\w,]+)\]"', commands, re.MULTILINE)
    return [{*names.split(",")} for names in found]


def test_the_claims_example_can_be_read(users_folder: Path) -> None:
    from analysis.claims.reading import read_claims

    (claim,) = read_claims(users_folder / "conf/claims/mine.yaml").claims
    assert claim.id == "B"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_it_points_to_is_there(document: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENTS[document]):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "AGENTS.md"])
def test_every_file_it_names_is_there(document: str) -> None:
    for path in re.findall(r"`((?:ablate|analysis|tests|conf|outputs)/[\w/.]+)`", DOCUMENTS[document]):
        assert (ROOT / path).exists(), path


def test_every_package_is_in_the_table_of_folders() -> None:
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for top in ("ablate", "analysis")
        for path in (ROOT / top).glob("*/__init__.py")
    }
    listed = set(re.findall(r"^\| `((?:ablate|analysis)/\w+)/` \|", DOCUMENTS["CONTRIBUTING.md"], re.MULTILINE))
    assert listed == packages
