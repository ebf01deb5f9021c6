"""Trackers: where a run's numbers can be watched as well, through accelerate.

A run's own records are complete without one. So whatever befalls a tracker - no connection, a full disk - is told once
and costs the run nothing but what is tracked.
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

Rows = Sequence[Mapping[str, Any]]
"""Rows of a record: column -> value."""


@dataclass(frozen=True)
class Card:
    """How a run presents itself."""

    study: str
    run: str  # its folder's name
    tags: Mapping[str, str]  # each factor's option, and the seed
    config: Mapping[str, str | int | float | bool]  # all settings, flat


@runtime_checkable
class Tracker(Protocol):
    """What a tracker's option has to offer."""

    def package(self) -> str | None:
        """What has to be installed; the name of our extra for it, too."""
        ...

    def open(self, card: Card) -> "GeneralTracker | None":
        """One of accelerate's trackers, started for this run; None: nothing is tracked."""
        ...

    def publish(self, study: str, report: Path) -> None:
        """Keep the folder with a study's report, if the tracker has a place for it."""
        ...


@dataclass(frozen=True)
class Nothing:
    """The records only."""

    def package(self) -> None:
        return None

    def open(self, card: Card) -> None:
        return None

    def publish(self, study: str, report: Path) -> None:
        return None


@dataclass(frozen=True)
class TensorBoard:
    """Event files, a folder a run under `folder`: `tensorboard --logdir <folder>`. It has no place for a report."""

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
    """An experiment a study. uri: of the tracking store (`sqlite:///mlflow.db`); null: as MLflow is set up."""

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
    """A group a study. mode: offline writes to `folder` alone, for `wandb sync`."""

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
    """A local dashboard, `trackio show`; it has no place for a report."""

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


def check_installed(tracker: Tracker) -> None:
    """ValueError, before any work, if the tracker's package is not there."""
    package = tracker.package()
    if package and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"tracker={package}: the package {package} is not installed; "
            f'pip install "ablate-finetuning[{package}]", or tracker=none'
        )


class Follower:
    """Hands a run's rows to its tracker, until that fails."""

    def __init__(self, tracker: Tracker, card: Card) -> None:
        self.tracker, self.card = tracker, card
        self.live: GeneralTracker | None = None

    @contextmanager
    def following(self, steps: Rows, evals: Rows) -> Iterator[None]:
        """Start and end; what a resumed or forked run already has comes first, so that every curve is whole."""
        self.begin(steps, evals)
        try:
            yield
        finally:
            self.tell(lambda live: live.finish())
            self.live = None

    def begin(self, steps: Rows, evals: Rows) -> None:
        with forgiving(self.tracker):
            self.live = self.tracker.open(self.card)
        self.tell(lambda live: live.store_init_configuration(dict(self.card.config)))
        looks: dict[int, list[Mapping[str, Any]]] = {}
        for found in evals:
            looks.setdefault(found["step"], []).append(found)
        for row in steps:
            self.step(row)
            for found in looks.get(row["step"], ()):
                self.evaluated(found)

    def step(self, row: Mapping[str, Any]) -> None:
        values = {f"train/{key}": value for key, value in row.items() if key != "step" and value is not None}
        self.tell(lambda live: live.log(values, step=row["step"]))

    def evaluated(self, row: Mapping[str, Any]) -> None:
        values = {f"{row['split']}/{key}": row[key] for key in ("loss", "accuracy")}
        self.tell(lambda live: live.log(values, step=row["step"]))

    def tell(self, call: "Callable[[GeneralTracker], Any]") -> None:
        live, self.live = self.live, None
        if live is not None:
            with forgiving(self.tracker):
                call(live)
                self.live = live  # to be told more, as it did not fail


@contextmanager
def forgiving(tracker: Tracker) -> Iterator[None]:
    """Within the block a tracker may fail: that is a warning."""
    try:
        yield
    except Exception as error:
        name = type(tracker).__name__
        log.warning("%s: %s: %s; runs go on without it", name, type(error).__name__, error)


def publish(tracker: Tracker, study: str, report: Path) -> None:
    """Keep the report where the tracker can."""
    with forgiving(tracker):
        tracker.publish(study, report)
