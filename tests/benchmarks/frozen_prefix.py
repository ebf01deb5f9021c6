"""Step time where only the head is trained, against a Trainer script that freezes likewise.

    python -m tests.benchmarks.frozen_prefix [--turns N] [--steps N] [overrides]

Both train the head of MiniLM on movie snippets; the Trainer script runs as a user runs it, and reports its seconds per
step itself (`trainer_script.py --trained ^classifier`). Our sides have `trainer.frozen_dropout=false`:

kept         every example has been seen before, by this or another run: its states are read from the cache
anew         nothing is kept (`trainer.frozen_prefix_gb=0`): what the first epoch of the first run costs
with batch   the frozen layers compute with each batch (`trainer.frozen_prefix=false`)

The cache is the user's own (`ABLATE_CACHE`): one run of the same steps fills it before the first turn. Steps are timed
in turns, after two steps of warm-up, and the ratio is the median of the ratios per turn. All overrides of
`python -m ablate` are options too, for example `freeze=first_n freeze.n=3` with `--trained` to match.
"""

import json
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from ablate.data.sources import MovieSnippets
from ablate.experiment import build_options
from ablate.files.assets import ASSETS, fetch
from tests.benchmarks.processes import spend
from tests.benchmarks.step_time import Side, ours
from tests.benchmarks.study import SCRIPT, write_data
from tests.benchmarks.turns import held, in_turns, options, ratio, tell
from tests.tools import compose_settings

KEPT_AT_MOST = 0.10
WARM_UP = 2
RIVAL = "Trainer script"
SIDES = {
    "ours, kept": (),
    "ours, anew": ("trainer.frozen_prefix_gb=0",),
    "ours, with batch": ("trainer.frozen_prefix=false",),
}


def settings_of(more: Sequence[str], steps: int, overrides: Sequence[str]) -> dict[str, Any]:
    return compose_settings(
        "freeze=head_only", "trainer.frozen_dropout=false", f"trainer.steps={steps}", *more, *overrides
    )


def trainer_script(folder: Path, said: Namespace) -> float:
    """Seconds per step of the rival, in a process of its own."""
    trainer = build_options(settings_of((), said.steps, said.overrides)).trainer
    command = [
        SCRIPT, "--model", str(fetch(ASSETS["minilm"])), "--data", str(folder), "--steps", str(said.steps + WARM_UP),
        "--batch-size", str(trainer.batch_size), "--trained", said.trained,
        *(["--bf16"] if trainer.precision == "bf16" else []),
    ]  # fmt: skip
    (output,) = spend([command], folder, trainer.thread_count()).output
    (line,) = (line for line in output.splitlines() if line.startswith('{"'))  # the Trainer's own lines are not JSON
    return json.loads(line)["step_seconds"]


def sides(folder: Path, said: Namespace) -> dict[str, Callable[[], float]]:
    """For each side, a function that measures its seconds per step."""
    steps = said.turns * said.steps + WARM_UP
    found = {name: settings_of(more, max(300, steps), said.overrides) for name, more in SIDES.items()}
    for _ in islice(ours(build_options(found["ours, kept"])), steps):
        pass  # fills the cache
    ours_timed = {name: Side(ours, settings).timed(said.steps) for name, settings in found.items()}
    return ours_timed | {RIVAL: partial(trainer_script, folder, said)}


def main() -> None:
    parser = options(__doc__, turns=6)
    parser.add_argument("--steps", type=int, default=20, help="steps per turn (default: 20)")
    parser.add_argument(
        "--trained", default="^classifier", help="what the Trainer script trains (a regular expression)"
    )
    parser.add_argument("overrides", nargs="*")
    said = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, MovieSnippets(max_length=128, train_examples=None, test_examples=None))
        times = in_turns(sides(folder, said), said.turns)
    rows = [
        [
            side, f"{1000 * median(seconds):.2f}", found := ratio(seconds, times[RIVAL]),
            held(found, KEPT_AT_MOST) if side == "ours, kept" else "",
        ]
        for side, seconds in times.items()
    ]  # fmt: skip
    tell(["step", "ms", "ratio to the Trainer script", "target"], rows, times, said)


if __name__ == "__main__":
    main()
