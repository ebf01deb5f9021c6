"""The worked example docs/examples/tasks: its commands, with a small model and a few steps."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.files.run_record import read_run_json
from tests.tools import ROOT, ablate, bash_commands

EXAMPLE = ROOT / "docs/examples/tasks"
SHORT = ("clip=fixed", "seed=0", "model=tiny", "model.hidden=16", "trainer.steps=3", "trainer.batch_size=8",
         "trainer.probe_examples=16", "data.train_examples=200", "data.test_examples=40",
         "trainer.threads=1")  # fmt: skip
PRIMARY = {"topics": "f1_macro", "pairs": "matthews", "similarity": "spearman", "names": "entity_f1",
           "texts": "perplexity"}  # fmt: skip


@pytest.mark.slow
def test_each_command_trains_and_records_its_metric(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "conf", tmp_path / "conf")
    make, *commands = map(shlex.split, bash_commands(EXAMPLE / "README.md"))
    assert make == ["python", "make_data.py"]
    subprocess.run([sys.executable, EXAMPLE / "make_data.py"], cwd=tmp_path, check=True)
    for command in commands:
        done = ablate(*command[3:], *SHORT, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    records = [(path.parents[1].name, read_run_json(path.parent)) for path in tmp_path.glob("outputs/*/*/run.json")]
    found = {study: data for study, data in records if study != "four_sets"}
    assert {study: data["primary"] for study, data in found.items()} == PRIMARY
    for study, data in found.items():
        assert f"test_{PRIMARY[study]}" in data["metrics"], (study, data["metrics"])
    sets = {data["factors"]["data"]["option"] for study, data in records if study == "four_sets"}
    assert sets == {"movie_snippets", "amazon_snippets", "tweets", "editorial_snippets"}
