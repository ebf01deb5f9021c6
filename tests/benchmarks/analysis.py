"""Time and memory of the analysis: `python -m tests.benchmarks.analysis [options]`.

There are two synthetic studies. For a large one (500 runs of 10,000 steps) we load the study and compute every quantity
of every run, in a process of its own, and report its peak memory. For a typical one (60 runs of 300 steps: 12 arms, 5
seeds) we time the command that writes the whole report from scratch; the target is 20 s.
"""

import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median

from tests.analysis.runs import Truth, write_known, write_run
from tests.benchmarks.processes import Spent, spend
from tests.benchmarks.turns import options, tell

FACTORIAL = {
    "freeze": ("none", "embeddings_attention"),
    "clip": ("none", "fixed", "delayed"),
    "scheduler": ("none", "warmup_linear"),
}
REPORT_AT_MOST = 20  # seconds
MEASURE = """
import sys, time
from pathlib import Path
from analysis.quantities.measure import measure
from analysis.records.study import load

began = time.perf_counter()
study = load(Path(sys.argv[1]))
loaded = time.perf_counter()
measured = measure(study)
print(len(study.runs), len(measured.values.columns), loaded - began, time.perf_counter() - loaded)
"""


def write_large(study: Path, runs: int, steps: int) -> None:
    """Write two arms with runs / 2 seeds each."""
    for k in range(runs):
        clip, seed = ("none", "fixed")[k % 2], k // 2
        write_run(study, {"clip": clip}, seed=seed, steps=steps, run=f"{clip}-s{seed}")


def write_usual(study: Path, seeds: int, steps: int) -> None:
    for seed, arm in product(range(seeds), product(*FACTORIAL.values())):
        write_known(study, dict(zip(FACTORIAL, arm, strict=True)), Truth(), seed=seed, steps=steps)


def megabytes(study: Path) -> float:
    return sum(path.stat().st_size for path in study.rglob("*") if path.is_file()) / 2**20


def report_from_nothing(folder: Path, runs: str) -> Spent:
    """Run `python -m analysis`, then delete the report, so that the next turn starts without one."""
    spent = spend([["-m", "analysis", runs]], folder, threads=1)
    for path in sorted((folder / runs / "report").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return spent


def main() -> None:
    parser = options(__doc__, turns=3)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the typical study's 12 arms")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_large(folder / "large", said.runs, said.steps)
        write_usual(folder / "usual", said.seeds, 300)
        size = megabytes(folder / "large")
        large = [spend([["-c", MEASURE, "large"]], folder, threads=1) for _ in range(said.turns)]
        usual = [report_from_nothing(folder, "usual") for _ in range(said.turns)]
    runs, quantities = large[0].output[0].split()[:2]
    load, measure = (median(float(spent.output[0].split()[k]) for spent in large) for k in (2, 3))
    report = median(spent.seconds for spent in usual)
    of_report = f"≤ {REPORT_AT_MOST} s: {'yes' if report <= REPORT_AT_MOST else 'NO'}"
    what = f"{runs} runs of {said.steps:,} steps ({size:.0f} MB)"
    rows = [
        [f"load {what} and check every hash", f"{load:.1f}", f"{max(s.megabytes for s in large):.0f}", ""],
        [f"{quantities} quantities per run", f"{measure:.1f}", f"{max(s.megabytes for s in large):.0f}", ""],
        [f"complete report of {12 * said.seeds} runs of 300 steps", f"{report:.1f}",
         f"{max(s.megabytes for s in usual):.0f}", of_report],
    ]  # fmt: skip
    numbers = {
        "large": [{"load": float(s.output[0].split()[2]), "measure": float(s.output[0].split()[3])} for s in large],
        "report": [spent.numbers for spent in usual],
    }
    tell(["analysis", "s", "peak MB", "target"], rows, numbers, said)


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} s in total")
