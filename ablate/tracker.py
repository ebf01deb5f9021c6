"""Trackers: send a run's numbers to TensorBoard, MLflow, W&B or Trackio, through accelerate.

A run's own records are complete without a tracker. If a tracker fails (no connection, a full disk), we warn once and go
on; only the tracker's own data is lost.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

log = logging.getLogger("ablate")

NO_VALUES = ("step", "split", "examples")
"""Columns of an evaluation that are not sent."""


@dataclass(frozen=True)
class Card:
    """Name, tags and settings of a run, as a tracker shows them."""

    study: str
    run: str  # name of its folder
    tags: Mapping[str, str]  # option of each factor, and the seed
    config: Mapping[str, str | int | float | bool]  # all settings, flattened


@runtime_checkable
class Tracker(Protocol):
    """Interface of a tracker option."""

    def package(self) -> str | None:
        """Name of the required package, which is also the name of our extra; None if there is none."""
        ...

    def open(self, card: Card) -> "GeneralTracker | None":
        """Return an accelerate tracker, started for this run; None if nothing is tracked."""
        ...

    def publish(self, study: str, report: Path) -> None:
        """Upload the folder with a study's report, if the tracker can store one."""
        ...


@dataclass(frozen=True)
class Nothing:
    """Keeps the records only."""

    def package(self) -> None:
        return None

    def open(self, card: Card) -> None:
        return None

    def publish(self, study: str, report: Path) -> None:
        return None


@dataclass(frozen=True)
class TensorBoard:
    """Event files, one folder per run under `folder`: `tensorboard --logdir <folder>`. It cannot store a report."""

    folder: str

    def package(self) -> str:
        return "tensorboard"

    def open(self, card: Card) -> "GeneralTracker":
        from accelerate.tracking import TensorBoardTracker

        return started(TensorBoardTracker(card.run, self.folder))

    def publish(self, study: str, report: Path) -> None:
        return None


@dataclass(frozen=True)
class MLflow:
    """One experiment per study. `uri` is the tracking store (`sqlite:///mlflow.db`); None means MLflow's default."""

    uri: str | None

    def package(self) -> str:
        return "mlflow"

    def open(self, card: Card) -> "GeneralTracker":
        return self.start(card.study, card.run, dict(card.tags))

    def publish(self, study: str, report: Path) -> None:
        import mlflow

        tracker = self.start(study, "report", {})
        mlflow.log_artifacts(str(report), "report")
        tracker.finish()

    def start(self, study: str, run: str, tags: dict[str, str]) -> "GeneralTracker":
        import mlflow
        from accelerate.tracking import MLflowTracker

        if self.uri:
            mlflow.set_tracking_uri(self.uri)
        return started(MLflowTracker(study, run_name=run, tags=tags))


@dataclass(frozen=True)
class WandB:
    """One group per study. Mode `offline` only writes to `folder`, for a later `wandb sync`."""

    project: str
    mode: Literal["online", "offline"]
    folder: str

    def package(self) -> str:
        return "wandb"

    def open(self, card: Card) -> "GeneralTracker":
        return self.start(card.study, card.run, [f"{key}={value}"[:64] for key, value in card.tags.items()])

    def publish(self, study: str, report: Path) -> None:
        import wandb

        tracker = self.start(study, "report", [])
        artifact = wandb.Artifact(f"{study}-report", "report")
        artifact.add_dir(str(report))
        tracker.tracker.log_artifact(artifact)
        tracker.finish()

    def start(self, study: str, run: str, tags: list[str]) -> "GeneralTracker":
        from accelerate.tracking import WandBTracker

        Path(self.folder).mkdir(parents=True, exist_ok=True)
        return started(WandBTracker(self.project, name=run, group=study, tags=tags, mode=self.mode, dir=self.folder))


@dataclass(frozen=True)
class Trackio:
    """A local dashboard: `trackio show`. It cannot store a report."""

    project: str

    def package(self) -> str:
        return "trackio"

    def open(self, card: Card) -> "GeneralTracker":
        from accelerate.tracking import TrackioTracker

        return started(TrackioTracker(self.project, name=card.run, group=card.study))

    def publish(self, study: str, report: Path) -> None:
        return None


def started(tracker: "GeneralTracker") -> "GeneralTracker":
    tracker.start()
    return tracker


def check_tracker_installed(tracker: Tracker) -> None:
    """Raise ValueError if the tracker's package is not installed. A sweep calls this before its first run."""
    package = tracker.package()
    if package and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"tracker={package} needs the package {package}, which is not installed. "
            f'Run pip install "ablate-finetuning[{package}]", or choose tracker=none.'
        )


class Follower:
    """Sends the rows of a run to its tracker, until the tracker fails."""

    def __init__(self, tracker: Tracker, card: Card) -> None:
        self.tracker, self.card = tracker, card
        self.live: GeneralTracker | None = None

    @contextmanager
    def following(self, steps: Sequence[Mapping[str, Any]], evals: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Open and close the tracker. First send the rows that a resumed or forked run already has."""
        self.begin(steps, evals)
        try:
            yield
        finally:
            self.send(lambda live: live.finish())
            self.live = None

    def begin(self, steps: Sequence[Mapping[str, Any]], evals: Sequence[Mapping[str, Any]]) -> None:
        with warn_on_failure(self.tracker):
            self.live = self.tracker.open(self.card)
        self.send(lambda live: live.store_init_configuration(dict(self.card.config)))
        by_step: dict[int, list[Mapping[str, Any]]] = {}
        for found in evals:
            by_step.setdefault(found["step"], []).append(found)
        for row in steps:
            self.step(row)
            for found in by_step.get(row["step"], ()):
                self.evaluated(found)

    def step(self, row: Mapping[str, Any]) -> None:
        values = {f"train/{key}": value for key, value in row.items() if key != "step" and value is not None}
        self.send(lambda live: live.log(values, step=row["step"]))

    def evaluated(self, row: Mapping[str, Any]) -> None:
        values = {f"{row['split']}/{k}": v for k, v in row.items() if k not in NO_VALUES and v is not None}
        self.send(lambda live: live.log(values, step=row["step"]))

    def send(self, call: "Callable[[GeneralTracker], Any]") -> None:
        live, self.live = self.live, None
        if live is not None:
            with warn_on_failure(self.tracker):
                call(live)
                self.live = live  # it did not fail, so it gets the next rows as well


@contextmanager
def warn_on_failure(tracker: Tracker) -> Iterator[None]:
    """Log an exception of the tracker as a warning and go on after the block."""
    try:
        yield
    except Exception as error:
        name = type(tracker).__name__
        log.warning("The tracker %s failed (%s: %s); runs go on without it.", name, type(error).__name__, error)


def publish(tracker: Tracker, study: str, report: Path) -> None:
    """Upload the report, if the tracker can store one."""
    with warn_on_failure(tracker):
        tracker.publish(study, report)
