"""A whole study against the same arms as transformers Trainer scripts: `python -m tests.benchmarks.study [options]`.

Time is the wall time of all programs from start to end. Memory is their peak, in the two measures of `processes.Spent`.
Both sides have the same pretrained model, data splits, frozen blocks, schedule, optimizer, precision, batch size,
number of steps and threads. Both pad to the longest example of a batch, log loss, norm and learning rate of each step,
and evaluate validation and test at the end.

Ours      `python -m ablate -m ...`, one command in an empty folder. It does more: norms in float64 by layer, a probe of
          32 examples every 10 steps, a checkpoint every 100, predictions, hashes, the table and the report.
cold      `trainer_script.py`, one process per run, which is the usual way.
warm      all runs in one process of `trainer_script.py`, which reads and tokenises the data once: the stronger rival.
abreast   like cold, with two scripts in parallel, each with its share of the threads.

Before the first turn each side performs its study with two steps per run, so that files are in the system's cache and
tokenised texts in each side's own. Environment variables keep all programs off the network.

    python -m tests.benchmarks.study                          # clip=none,fixed,delayed against cold and warm
    python -m tests.benchmarks.study --arms delays            # T0 = 50, ..., 250 and never: shared prefixes
    python -m tests.benchmarks.study --seeds 0 1 --ours 2 2:bf16 --rivals cold abreast  # two workers; again in bf16
    python -m tests.benchmarks.study --arms known --steps 200 --batch-size 16 --seeds 0 1 --ours 2 --rivals abreast
                                           # a sample of the second published study
"""

import csv
import json
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path
from statistics import median
from typing import Any

from ablate.data.sources import Data, MovieSnippets, load_splits
from ablate.files.assets import ASSETS, fetch
from tests.benchmarks.processes import Spent, spend
from tests.benchmarks.turns import held, in_turns, options, ratio, tell, with_reservation

SCRIPT = str(Path(__file__).with_name("trainer_script.py"))
RIVALS = {
    "cold": "Trainer scripts, one process per run",
    "warm": "Trainer, all runs in one process",
    "abreast": "Trainer scripts, two in parallel",
}
PRECISIONS = ("fp32", "bf16")
AT_ONCE = {"cold": 1, "warm": 1, "abreast": 2}  # number of parallel programs
MEMORY_AT_MOST = 1.05  # with as many workers as the rival has parallel programs


@dataclass(frozen=True)
class Arms:
    """The arms of a study.

    overrides  for our side
    options    for the rivals' script, of each arm
    common     the option with one value per arm, where one process may run all arms; "" where none may
    """

    name: str
    overrides: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]
    common: str = ""


def clips(steps: int) -> Arms:
    return clipping("clip=none,fixed,delayed", ("clip=none,fixed,delayed",), (steps + 1, 1, 100))


def delays(steps: int) -> Arms:
    """No clipping (T0 after the last step), and T0 at 1/6, ..., 5/6 of the steps.

    The arm that shares the longest prefix comes first, so that the other workers can fork from it.
    """
    starts = (steps + 1, *(steps * k // 6 for k in range(1, 6)))
    swept = ",".join(map(str, starts))
    return clipping(f"clip.start={swept}", ("clip=delayed", f"clip.start={swept}"), starts)


def clipping(name: str, overrides: tuple[str, ...], starts: tuple[int, ...]) -> Arms:
    """Arms that differ in the step at which clipping starts."""
    return Arms(name, overrides, tuple(("--clip-from", str(start)) for start in starts), "--clip-from")


def known(steps: int) -> Arms:
    """A sample of the second published study: all layers, the last third of them, and the head alone are trained."""
    trained = ("", r"encoder\.layer\.[45]|pooler|classifier", "classifier")
    never = ("--clip-from", str(steps + 1))
    overrides = ("experiment=known_data", "data=movie_snippets", "claims=auto")
    return Arms("known answers", overrides, tuple(("--trained", each, *never) for each in trained))


ARMS = {"clips": clips, "delays": delays, "known": known}


def write_data(folder: Path, source: Data) -> None:
    """Write the splits of our side as CSV files for the rivals."""
    for split, texts in load_splits(source).items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *zip(texts.text, texts.label, strict=True)])


def share(threads: int, processes: int) -> int:
    """Threads of each process."""
    return max(1, threads // processes)


@dataclass(frozen=True)
class Way:
    """How our side performs its study.

    >>> print(Way.of("1", "fp32"), Way.of("2:fp32", "bf16"), sep="; ")
    fp32; fp32, 2 workers
    """

    workers: int
    precision: str

    @classmethod
    def of(cls, text: str, precision: str) -> "Way":
        """Parse `2:bf16` (two workers in bf16) or `2` (two workers in `precision`). Raises ValueError otherwise."""
        workers, _, other = text.partition(":")
        if (other or precision) not in PRECISIONS or not workers.isdecimal():
            raise ValueError(
                f"--ours must be a number of workers, or one with a precision, such as 2:bf16 (got {text})"
            )
        return cls(int(workers), other or precision)

    def __str__(self) -> str:
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        return f"{with_reservation(self.precision, self.precision)}{workers}"


def our_command(way: Way, arms: Arms, steps: int, said: Namespace) -> list[str]:
    local = ["hydra/launcher=local", f"hydra.launcher.n_jobs={way.workers}"] if way.workers > 1 else []
    return [
        "-m", "ablate", "-m", *arms.overrides, f"seed={','.join(map(str, said.seeds))}", f"trainer.steps={steps}",
        f"trainer.batch_size={said.batch_size}", f"trainer.precision={way.precision}",
        f"trainer.threads={share(said.threads, way.workers)}", f"data.test_examples={said.test_examples or 'null'}",
        f"data.group_by_length={str(said.group_by_length).lower()}", *local, *said.overrides,
    ]  # fmt: skip


def rival_commands(rival: str, folder: Path, arms: Arms, steps: int, said: Namespace) -> list[list[str]]:
    def command(options: tuple[str, ...], seeds: tuple[int, ...]) -> list[str]:
        return [
            SCRIPT, "--model", str(fetch(ASSETS["minilm"])), "--data", str(folder), "--steps", str(steps),
            *options, "--seeds", *map(str, seeds), "--batch-size", str(said.batch_size),
            *(["--bf16"] if said.precision == "bf16" else []), *(["--group-by-length"] if said.group_by_length else []),
        ]  # fmt: skip

    if rival == "warm":
        return [command((arms.common, *(value for _, value in arms.options)), tuple(said.seeds))]
    return [command(options, (seed,)) for seed, options in product(said.seeds, arms.options)]


def sides(folder: Path, arms: Arms, steps: int, said: Namespace) -> dict[Way | str, Callable[[], Spent]]:
    """For each side, a function that performs its whole study from scratch."""
    fresh = (folder / f"ours-{steps}-{turn}" for turn in count())

    def ours(way: Way) -> Spent:
        cwd = next(fresh)
        cwd.mkdir()
        return spend([our_command(way, arms, steps, said)], cwd, share(said.threads, way.workers))

    return {way: partial(ours, way) for way in said.ours} | {
        rival: partial(
            spend, rival_commands(rival, folder, arms, steps, said), folder,
            share(said.threads, AT_ONCE[rival]), AT_ONCE[rival],
        )
        for rival in said.rivals
    }  # fmt: skip


def our_accuracies(folder: Path) -> dict[str, list[float]]:
    """Test accuracies of our first turn by freezing and clipping."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("outputs/*/*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        clip = record["factors"]["clip"]
        frozen = f"freeze={record['factors']['freeze']['option']}"
        label = f"{frozen} clip={clip['option']} {clip['settings'].get('start', '')}".strip()
        found.setdefault(label, []).append(record["metrics"]["test_accuracy"])
    return found


def their_accuracies(spent: Spent) -> dict[str, list[float]]:
    """Test accuracies of a rival by what is trained and the step at which clipping starts."""
    found: dict[str, list[float]] = {}
    for line in "\n".join(spent.output).splitlines():
        if line.startswith('{"'):  # the Trainer's own lines about steps are not JSON
            run = json.loads(line)
            label = f"trained '{run['trained']}', clipping from {run['clip_from']}"
            found.setdefault(label, []).append(run["test_accuracy"])
    return found


def say(side: Way | str, spent: Spent) -> None:
    name = f"ours, {side}" if isinstance(side, Way) else RIVALS[side]
    took = f"{spent.seconds:.0f} s, {spent.megabytes:.0f} MB, {spent.proportional:.0f} MB proportional (PSS)"
    print(f"{name}: {took}", file=sys.stderr, flush=True)


def row(arms: Arms, way: Way, rival: str, spent: dict[Way | str, list[Spent]], said: Namespace) -> list[Any]:
    ours, theirs = spent[way], spent[rival]
    time = ratio([s.seconds for s in ours], [s.seconds for s in theirs])
    memory = ratio([s.megabytes for s in ours], [s.megabytes for s in theirs])
    proportional = ratio([s.proportional for s in ours], [s.proportional for s in theirs])
    seconds, sizes, parts = (
        [f"{median(getattr(s, key) for s in side):.0f}" for side in (ours, theirs)]
        for key in ("seconds", "megabytes", "proportional")
    )
    what = f"{arms.name}, seeds {','.join(map(str, said.seeds))}, {said.steps} steps, {way}"
    promised = held(memory, MEMORY_AT_MOST) if way.workers == AT_ONCE[rival] else ""
    return [what, f"{RIVALS[rival]}, {said.precision}", *seconds, time, *sizes, memory, promised, *parts, proportional]


def parsed() -> Namespace:
    parser = options(__doc__, turns=2)
    parser.add_argument("--arms", choices=ARMS, default="clips")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--rivals", choices=RIVALS, nargs="+", default=["cold", "warm"])
    parser.add_argument("--ours", nargs="+", default=["1"], metavar="WORKERS[:PRECISION]",
                        help="each value is one side; workers divide its threads (default: 1)")  # fmt: skip
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of each side in total"
    )
    parser.add_argument("--test-examples", type=int, help="default: all 2,000")
    parser.add_argument("--group-by-length", action="store_true", help="both sides draw batches of similar length")
    parser.add_argument(
        "--overrides", nargs="*", default=[], help="more overrides of our side, e.g. trainer.length_splits=1"
    )
    said = parser.parse_args()
    try:
        said.ours = [Way.of(text, said.precision) for text in said.ours]
    except ValueError as error:
        parser.error(str(error))
    if "warm" in said.rivals and not ARMS[said.arms](said.steps).common:
        parser.error(f"--rivals must be without warm for --arms {said.arms}, whose scripts cannot share a process")
    if said.steps < 6:
        parser.error(f"--steps must be at least 6 (got {said.steps})")
    return said


def main() -> None:
    said = parsed()
    arms = ARMS[said.arms](said.steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, MovieSnippets(max_length=128, train_examples=None, test_examples=said.test_examples))
        for side in sides(folder, arms, 2, said).values():
            side()
        spent = in_turns(sides(folder, arms, said.steps, said), said.turns, say)
        accuracies = {f"ours, {w}": our_accuracies(folder / f"ours-{said.steps}-{n}") for n, w in enumerate(said.ours)}
    accuracies |= {rival: their_accuracies(spent[rival][0]) for rival in said.rivals}
    headings = ["study", "rival", "ours, s", "rival, s", "time, ratio", "ours, MB", "rival, MB", "memory, ratio",
                "target", "ours, PSS", "rival, PSS", "PSS, ratio"]  # fmt: skip
    numbers = {
        "spent": {str(side): [s.numbers for s in turns] for side, turns in spent.items()},
        "test_accuracy": accuracies,
    }
    tell(headings, [row(arms, *pair, spent, said) for pair in product(said.ours, said.rivals)], numbers, said)
    for side, found in accuracies.items():
        told = ", ".join(f"{arm}: {' '.join(f'{a:.4f}' for a in of_arm)}" for arm, of_arm in found.items())
        print(f"test accuracy, {side}: {told}")


if __name__ == "__main__":
    main()
