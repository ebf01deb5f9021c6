"""What is said of studies that can compare nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.records.study import load
from analysis.report import limits
from tests.analysis.runs import write_run

CLAIMS = Path(__file__).resolve().parents[2] / "conf/claims/quick.yaml"


def study(folder: Path, arms: list[str], seeds: int) -> Path:
    folder.mkdir(parents=True)
    for seed in range(seeds):
        for arm in arms:
            write_run(folder, {"clip": arm}, seed=seed)
    return folder


@pytest.mark.parametrize(
    ("arms", "seeds", "said"),
    [
        (["fixed"], 3, ["one arm only (none-fixed-none)"]),
        (["none", "fixed"], 1, ["one seed only (0)"]),
        (["fixed"], 1, ["one arm only (none-fixed-none)", "one seed only (0)"]),
        (["none", "fixed"], 2, []),
    ],
)
def test_one_arm_and_one_seed(tmp_path: Path, arms: list[str], seeds: int, said: list[str]) -> None:
    found = limits(load(study(tmp_path / "mine", arms, seeds)))
    assert [text.partition(":")[0] for text in found] == said


def test_the_command_says_what_can_be_said_and_what_cannot(tmp_path: Path) -> None:
    folder = study(tmp_path / "outputs/mine", ["none", "fixed"], 1)
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "outputs/mine", "--claims", str(CLAIMS)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "one seed only (0)" in done.stderr and "seed=0,1,2,3,4" in done.stderr
    assert "not tested" in done.stdout and (folder / "report/index.html").exists()
