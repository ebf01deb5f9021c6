"""A study's folder or archive -> tidy frames: what its runs recorded, and by name whatever of it does not count.

    >>> study = load(Path("outputs/paper"))  # doctest: +SKIP
    >>> study.runs[["arm", "seed", "status", "test_accuracy"]]  # doctest: +SKIP
    >>> study.steps(["loss", "grad_norm"]).groupby("run", observed=True).mean()  # doctest: +SKIP

A run counts when it ended (done or diverged) and each of its record files is, to the byte, what it wrote. All
others are named in `problems` and left out. Runs may be written, and folders vanish, while this reads.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ablate.files.reading import Damaged, content_sha256
from ablate.files.run_record import RUN_JSON, read_columns, task_kind
from ablate.metrics import PRIMARY, metric_names
from ablate.schema import SETUP, TASKS
from analysis.records.arms import Arm, arm_of, factors_of, flat, in_order, labels, merged_order, ranges, techniques_of
from analysis.records.run_folder import RECORDS, Unreadable, columns_of, files_of, flaw_of, run_json, verified
from analysis.records.source import Source, folder_of, possible_runs, source_of

COLUMNS = (
    *("run", "arm", "id", "status", "seed", "nuisance", *SETUP, "trainer.steps"),
    *("test_accuracy", "test_loss", "validation_accuracy", "validation_loss"),
    *("parameters.total", "parameters.ratio", "pairing.batches", "pairing.head", "pairing.dropout", "pairing.by"),
    *("kind", "labels", "primary"),
    *("numerics", "environment.key", "environment.earlier", "claims.name", "claims.sha256"),
)
"""Columns that Study.runs has in any case, empty where no run has such an entry."""


@dataclass(frozen=True)
class TableMetric:
    """A metric that a table of results has.

    column            its name in the table
    quantity          the name by which claims call it
    scale             the usual scale of its differences: points for shares, else raw
    higher_is_better  None if unknown
    factor            by which the table's values are multiplied: 0.01 where shares are given in per cent
    """

    column: str
    quantity: str
    scale: str
    higher_is_better: bool | None
    factor: float = 1.0


@dataclass(frozen=True)
class ResultTable:
    """The table or store that a study was read from, if its runs were made elsewhere (`analysis.records.table_study`).

    paired     whether the arms share seeds, and so are compared seed by seed
    has_seeds  whether it has a column of seeds
    summary    lines that say which column is what, and why
    """

    path: Path
    sha256: str
    metrics: tuple[TableMetric, ...]
    paired: bool
    has_seeds: bool
    summary: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Study:
    """The runs of one folder or archive, in the order in which they began.

    folder    where its report and the log of looks are: the folder with its runs, or the one next to an archive
    source    where its files are
    runs      one row a run that counts: run (its folder's name), arm (its label), id, status, seed, nuisance;
              each factor's option (`clip`) and settings (`clip.threshold`); metrics by their names
              (`test_accuracy`); all else of run.json by its path (`parameters.ratio`, `environment.key`)
    left_out  rows of the same columns for runs that are known but do not count
    arms      label -> arm, over both frames, in the order in which they began, and then of their numbers (`in_order`)
    problems  run, kind, problem. Kinds: foreign (no run), broken (not what was written), partial (not
              finished), gone (vanished while it was read), ambiguous (another run has the same arm and seed),
              missing (seeds of the study that an arm has no run of at all; `run` is then arm and seeds)
    sha256    run -> record file -> hash of what was written, of the runs that count; run.json by its content. Runs of
              earlier versions have no probe.parquet, and runs without `data.cluster` no clusters.parquet
    table     where the runs are the rows of a table of results; they have no records of steps and predictions then
    """

    folder: Path
    runs: pd.DataFrame
    left_out: pd.DataFrame
    arms: Mapping[str, Arm]
    problems: pd.DataFrame
    sha256: Mapping[str, Mapping[str, str]]
    source: Source
    table: ResultTable | None = None

    @property
    def is_paired(self) -> bool:
        """Whether the runs of different arms with the same seed belong together."""
        return self.table is None or self.table.paired

    @cached_property
    def is_of_command(self) -> bool:
        """Whether `python -m ablate` makes its runs: they are no rows of a table, and no user's own loop made them."""
        others = self.runs["made_by"].dropna() if "made_by" in self.runs else ()
        return self.table is None and len(others) == 0

    @cached_property
    def measured(self) -> dict[str, dict[Any, Any]]:
        """run -> quantity -> what `analysis.quantities.measure` has found, kept as it reads all records."""
        return defaultdict(dict)

    def __getstate__(self) -> dict[str, Any]:
        """For another process: without what was measured by a user's own functions, which cannot be sent there."""
        ours = {
            run: {key: v for key, v in found.items() if isinstance(key, str)} for run, found in self.measured.items()
        }
        return self.__dict__ | {"measured": defaultdict(dict, ours)}

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """run -> its row of `runs`, by column."""
        return {row["run"]: row for row in self.runs.to_dict("records")}

    @cached_property
    def kinds(self) -> dict[str, str]:
        """run -> kind of task (`ablate.schema.TASKS`), of the runs that count."""
        found = zip(self.runs["run"], self.runs["kind"], strict=True)
        return {run: kind if isinstance(kind, str) else TASKS[0] for run, kind in found}

    @property
    def kind(self) -> str:
        """The kind of task of its first run that counts."""
        return next(iter(self.kinds.values()), TASKS[0])

    @cached_property
    def primary(self) -> str:
        """The primary metric (`ablate.metrics.METRICS`) of its first run that names one; accuracy where none does."""
        named = [name for name in self.runs["primary"] if isinstance(name, str)]
        return named[0] if named else PRIMARY

    @cached_property
    def factors(self) -> tuple[str, ...]:
        """The factors of its arms, in the order in which run.json has them."""
        return factors_of(self.arms.values())

    @cached_property
    def techniques(self) -> tuple[str, ...]:
        return techniques_of(self.arms.values())

    def steps(self, columns: Iterable[str] | None = None, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """steps.parquet of all or of the given runs: run, step, then the given columns, or all."""
        return self._frame("steps.parquet", columns, runs)

    def evals(self, columns: Iterable[str] | None = None, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """evals.parquet: run, step, then of split (probe, validation, test), loss, accuracy, examples."""
        return self._frame("evals.parquet", columns, runs)

    def predictions(self, columns: Iterable[str] | None = None, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """predictions.parquet, the test split: run, example, then of label, prediction, probability."""
        return self._frame("predictions.parquet", columns, runs)

    def probe_losses(self, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """probe.parquet of the runs that have it: run, step, example (of the validation split), loss in nats."""
        runs = self.runs["run"] if runs is None else runs
        return self._frame("probe.parquet", None, [run for run in runs if self.has(run, "probe.parquet")])

    def measures(self, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """measures.parquet of the runs that have it: run, step, name, place, value (`ablate.training.measures`)."""
        runs = list(self.runs["run"]) if runs is None else runs
        return self._frame("measures.parquet", None, [run for run in runs if self.has(run, "measures.parquet")])

    def scores(self, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """scores.parquet of the runs that have it: run, step, split, name, value of the primary metric."""
        runs = list(self.runs["run"]) if runs is None else runs
        return self._frame("scores.parquet", None, [run for run in runs if self.has(run, "scores.parquet")])

    def layers(self, spans: int = 100, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """layers.parquet, averaged while it is read over at most `spans` spans of equally many steps a run.

        Columns: run, step (mean of the recorded steps in the span), layer (null: in none), block, grad_norm
        (mean over them), parameters. A run of at most `spans` steps comes as it was recorded.
        """
        frame = self._frame("layers.parquet", None, runs, lambda table: averaged(table, spans))
        return frame.astype({"layer": "Int64"})

    def has(self, run: str, file: str) -> bool:
        """Whether a run that counts recorded this file."""
        return file in self.sha256[run]

    def read(self, run: str, file: str, columns: Iterable[str] | None = None) -> pa.Table:
        """One record file of one run: the column that numbers its rows, then the given columns, or all.

        Raises Unreadable where the file is no longer what it was at `load`, ValueError at an unknown column or a file
        that the run does not have (`has`).
        """
        kind = self.kinds.get(run, TASKS[0])
        names = columns_of(file, kind)
        wanted = names if columns is None else tuple(dict.fromkeys([names[0], *columns]))
        if unknown := [column for column in wanted if column not in names]:
            raise ValueError(f"{file} has no column {', '.join(unknown)}; it has {', '.join(names)}")
        if not self.has(run, file):
            raise ValueError(f"{run} has no {file}")
        content = verified(self.source, run, file, self.sha256[run][file])
        try:
            return read_columns(content, file.removesuffix(".parquet"), wanted, kind)
        except Damaged as error:
            raise Unreadable("broken", f"{file}: {error}") from error

    def _frame(
        self,
        file: str,
        columns: Iterable[str] | None,
        runs: Iterable[str] | None,
        reduce: Callable[[pa.Table], pa.Table] = lambda table: table,
    ) -> pd.DataFrame:
        """The runs' tables, each reduced, one below the other behind a categorical column `run`."""
        columns = None if columns is None else list(columns)
        names = pa.array(list(self.sha256), pa.string())
        number = {run: i for i, run in enumerate(self.sha256)}
        tables = []
        for run in self.runs["run"] if runs is None else runs:
            try:
                table = reduce(self.read(run, file, columns))
            except Unreadable as problem:
                warnings.warn(f"{run} is left out of {file}: {problem}", stacklevel=3)
                continue
            mark = pa.DictionaryArray.from_arrays(np.full(len(table), number[run], np.int32), names)
            tables.append(table.add_column(0, "run", mark))
        if not tables:
            of_record = RECORDS[file] if columns is None else dict.fromkeys([RECORDS[file][0], *columns])
            return pd.DataFrame(columns=["run", *of_record])
        whole = pa.concat_tables(tables)
        del table, tables  # then each column is freed once it is copied: never two copies of the whole
        return whole.to_pandas(split_blocks=True, self_destruct=True)


def load(path: Path, only: Collection[str] | None = None, output: Path | None = None) -> Study:
    """The study in `outputs/<study>` or in its archive, or of its run folders `only` these.

    Args: `output`, the folder for its report and the log of looks; by default that of `folder_of`.
    Raises ValueError where there is no such folder or archive, and for an archive that is damaged.
    """
    path = Path(path)
    source = source_of(path)
    known, problems = scan(source, only)
    factors = merged_order(data["factors"] for data in known.values())
    arms = [arm_of(data, factors) for data in known.values()]
    label_of = dict(zip(known, labels(arms), strict=True))
    flaws = {run: flaw for run, data in known.items() if (flaw := unknown_metric(data) or flaw_of(source, run, data))}
    flaws |= ambiguities({run: (label_of[run], data) for run, data in known.items() if run not in flaws})
    rows = [{"run": run, "arm": label_of[run], **flat_row(data, factors)} for run, data in known.items()]
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=list(dict.fromkeys([*COLUMNS, *frame.columns])))
    counts = ~frame["run"].isin(list(flaws))
    problems += [(run, *flaw) for run, flaw in flaws.items()] + missing(frame)
    return Study(
        folder=output or folder_of(path),
        runs=frame[counts].reset_index(drop=True),
        left_out=frame[~counts].reset_index(drop=True),
        arms=in_order(dict(zip(label_of.values(), arms, strict=True))),
        problems=pd.DataFrame(problems, columns=["run", "kind", "problem"]),
        sha256={
            run: {file: data["records"][file]["sha256"] for file in files_of(data)} | {RUN_JSON: content_sha256(data)}
            for run, data in known.items()
            if run not in flaws
        },
        source=source,
    )


def scan(
    source: Source, only: Collection[str] | None = None
) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str, str]]]:
    """run.json by run, in the order in which the runs began, and the problems."""
    found, problems = {}, []
    for run in possible_runs(source):
        if only is not None and run not in only:
            continue
        try:
            found[run] = run_json(source, run)
        except Unreadable as problem:
            problems.append((run.encode(errors="replace").decode(), problem.kind, str(problem)))
    return {run: found[run] for run in sorted(found, key=lambda run: begin(run, found[run]))}, problems


def begin(run: str, data: Mapping[str, Any]) -> tuple[str, int, str, str]:
    """Sort key of the order in which runs began; last where that is unknown.

    ISO times, all UTC, sort as text. Parallel jobs of a sweep begin within a second, in any order: there its own
    order counts.

    >>> begin("a", {"timing": {"started": "2026-01-01T00:00:00+00:00", "job": 2}})
    ('2026-01-01T00:00:00', 2, '2026-01-01T00:00:00+00:00', 'a')
    >>> begin("a", {})
    ('~', 0, '~', 'a')
    """
    timing = data.get("timing") or {}
    started = timing.get("started") or "~"
    return started[:19], timing.get("job") or 0, started, run


def unknown_metric(data: Mapping[str, Any]) -> tuple[str, str] | None:
    """The flaw of a run whose primary metric this version does not know."""
    name, kind = data.get("primary"), task_kind(data)
    known = metric_names(kind)
    if name is None or name in known:
        return None
    return "foreign", f"run.json: primary must be a metric of {kind} ({', '.join(known)}; got {name})"


def ambiguities(runs: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, tuple[str, str]]:
    """Flaws of runs that share arm and seed with another: which of them to believe would be a guess.

    `runs`: run -> label of its arm, run.json.
    """
    rivals = defaultdict(list)
    for run, (label, data) in runs.items():
        rivals[label, data["seed"]].append(run)
    flaws = {}
    for run, (label, data) in runs.items():
        if others := [other for other in rivals[label, data["seed"]] if other != run]:
            copy = any(runs[other][1]["id"] == data["id"] for other in others)
            why = "a copy" if copy else "other ids: the numerics version, or a rule's source, is another"
            what = f"same arm and seed as {', '.join(others)} ({why}); keep one of them in this study"
            flaws[run] = "ambiguous", what
    return flaws


def missing(runs: pd.DataFrame, planned: int | None = None) -> list[tuple[str, str, str]]:
    """A problem for each arm that lacks any run of some of the study's seeds, or of its first `planned` ones."""
    seeds = sorted({*runs["seed"]})[:planned]
    lacking = {arm: {*seeds} - {*of_it} for arm, of_it in runs.groupby("arm", sort=False)["seed"]}
    return [
        (f"{arm}, seed{'s' if len(seeds) > 1 else ''} {ranges(seeds)}", "missing", "no run")
        for arm, seeds in lacking.items()
        if seeds
    ]


def averaged(layers: pa.Table, spans: int) -> pa.Table:
    """layers.parquet over spans of equally many steps: means of step and norm by span, layer and block."""
    if len(layers) == 0:  # of a run with fewer steps than trainer.track.layers_every; a mean is no whole number
        return layers.set_column(0, "step", pc.cast(layers["step"], pa.float64()))
    width = -(-pc.max(layers["step"]).as_py() // spans)
    span = pc.divide(pc.subtract(layers["step"], 1), width)
    grouped = layers.append_column("span", span).group_by(["span", "layer", "block"], use_threads=False)
    means = grouped.aggregate([("step", "mean"), ("grad_norm", "mean"), ("parameters", "max")])
    names = {"step_mean": "step", "grad_norm_mean": "grad_norm", "parameters_max": "parameters"}
    return means.rename_columns([names.get(n, n) for n in means.column_names]).select(layers.column_names)


def flat_row(data: Mapping[str, Any], factors: Iterable[str]) -> dict[str, Any]:
    """run.json as one row: factors as in `arm_of`, metrics by their names, the rest by its path."""
    own = {"id": data["id"], "status": data["status"], "seed": data["seed"], **arm_of(data, factors)}
    rest = {key: value for key, value in data.items() if key not in {*own, "factors", "metrics", "records"}}
    return {**own, **flat(data.get("metrics") or {}), **flat(rest)}
