"""Run folders -> tidy frames: what a study's runs recorded, and by name whatever of it does not count.

    >>> study = load(Path("outputs/paper"))  # doctest: +SKIP
    >>> study.runs[["arm", "seed", "status", "test_accuracy"]]  # doctest: +SKIP
    >>> study.steps(["loss", "grad_norm"]).groupby("run", observed=True).mean()  # doctest: +SKIP

A run counts when it ended (done or diverged) and each of its record files is, to the byte, what it wrote. All
others are named in `problems` and left out. Runs may be written, and folders vanish, while this reads.
"""

import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SCHEMA = 1
"""The newest run.json that is understood here."""

FACTORS = ("freeze", "clip", "scheduler", "optimizer", "model", "data", "trainer")
RECORDS = {
    "steps.parquet": (
        *("step", "loss", "accuracy", "lr", "grad_norm", "grad_norm_clipped", "delta_g"),
        *("mlp_grad_norm", "mlp_grad_norm_clipped", "classifier_grad_norm", "classifier_grad_norm_clipped"),
        *("examples", "tokens", "seconds"),
    ),
    "layers.parquet": ("step", "layer", "block", "grad_norm", "parameters"),
    "evals.parquet": ("step", "split", "loss", "accuracy", "examples"),
    "predictions.parquet": ("example", "label", "prediction", "probability"),
}
"""The record files and their columns, of which the first numbers the rows."""

COLUMNS = (
    *("run", "arm", "id", "status", "seed", "nuisance", *FACTORS, "trainer.steps"),
    *("test_accuracy", "test_loss", "validation_accuracy", "validation_loss"),
    *("pairing.batches", "pairing.head", "pairing.dropout"),
    *("environment.key", "claims.name", "claims.sha256"),
)
"""Columns that Study.runs has in any case, empty where no run has such an entry."""

FINISHED = ("done", "diverged")
UNFINISHED = ("running", "failed")

Arm = Mapping[str, Any]
"""A config less its seed, flat: {"clip": "fixed", "clip.threshold": 1.0, ..., "nuisance": 0}."""


class Unreadable(Exception):
    """A run that cannot be used. `kind` as in Study.problems; the message says what is wrong with it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, eq=False)
class Study:
    """The runs of one folder, in the order in which they began.

    runs      one row a run that counts: run (its folder's name), arm (its label), id, status, seed, nuisance;
              each factor's option (`clip`) and settings (`clip.threshold`); metrics by their names
              (`test_accuracy`); all else of run.json by its path (`parameters.ratio`, `environment.key`)
    left_out  rows of the same columns for runs that are known but do not count
    arms      label -> arm, in order of first appearance, over both frames
    problems  run, kind, problem. Kinds: foreign (no run), broken (not what was written), partial (not
              finished), gone (vanished while it was read), ambiguous (another run has the same arm and seed),
              missing (a seed of the study that an arm has no run of at all; `run` is then arm and seed)
    sha256    run -> record file -> hash of what was written, of the runs that count
    """

    folder: Path
    runs: pd.DataFrame
    left_out: pd.DataFrame
    arms: Mapping[str, Arm]
    problems: pd.DataFrame
    sha256: Mapping[str, Mapping[str, str]]

    def steps(self, columns: Iterable[str] | None = None, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """steps.parquet of all or of the given runs: run, step, then the given columns, or all."""
        return self._frame("steps.parquet", columns, runs)

    def evals(self, columns: Iterable[str] | None = None, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """evals.parquet: run, step, then of split (probe, validation, test), loss, accuracy, examples."""
        return self._frame("evals.parquet", columns, runs)

    def predictions(
        self, columns: Iterable[str] | None = None, runs: Iterable[str] | None = None
    ) -> pd.DataFrame:
        """predictions.parquet, the test split: run, example, then of label, prediction, probability."""
        return self._frame("predictions.parquet", columns, runs)

    def layers(self, spans: int = 100, runs: Iterable[str] | None = None) -> pd.DataFrame:
        """layers.parquet, averaged while it is read over at most `spans` spans of equally many steps a run.

        Columns: run, step (mean of the recorded steps in the span), layer (null: in none), block, grad_norm
        (mean over them), parameters. A run of at most `spans` steps comes as it was recorded.
        """
        frame = self._frame("layers.parquet", None, runs, lambda table: averaged(table, spans))
        return frame.astype({"layer": "Int64"})

    def read(self, run: str, file: str, columns: Iterable[str] | None = None) -> pa.Table:
        """One record file of one run: the column that numbers its rows, then the given columns, or all.

        Raises Unreadable where the file is no longer what it was at `load`, ValueError at an unknown column.
        """
        names = RECORDS[file]
        wanted = names if columns is None else tuple(dict.fromkeys([names[0], *columns]))
        if unknown := [column for column in wanted if column not in names]:
            raise ValueError(f"{file} has no column {', '.join(unknown)}; it has {', '.join(names)}")
        content = verified(self.folder / run / file, self.sha256[run][file])
        return pq.read_table(pa.BufferReader(content), columns=list(wanted))

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
            return pd.DataFrame(columns=["run", *(RECORDS[file] if columns is None else columns)])
        whole = pa.concat_tables(tables)
        del table, tables  # then each column is freed once it is copied: never two copies of the whole
        return whole.to_pandas(split_blocks=True, self_destruct=True)


def load(folder: Path, only: Collection[str] | None = None) -> Study:
    """The study in outputs/<study>, or of its run folders `only` these.

    Raises ValueError where there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"no study in {folder}: there is no such folder")
    known, problems = scan(folder, only)
    arms = [arm_of(data) for data in known.values()]
    label_of = dict(zip(known, labels(arms), strict=True))
    flaws = {run: flaw for run, data in known.items() if (flaw := flaw_of(folder / run, data))}
    flaws |= ambiguities({run: (label_of[run], data) for run, data in known.items() if run not in flaws})
    rows = [{"run": run, "arm": label_of[run], **flat_row(data)} for run, data in known.items()]
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=list(dict.fromkeys([*COLUMNS, *frame.columns])))
    counts = ~frame["run"].isin(list(flaws))
    problems += [(run, *flaw) for run, flaw in flaws.items()] + missing(frame)
    return Study(
        folder=folder,
        runs=frame[counts].reset_index(drop=True),
        left_out=frame[~counts].reset_index(drop=True),
        arms=dict(zip(label_of.values(), arms, strict=True)),
        problems=pd.DataFrame(problems, columns=["run", "kind", "problem"]),
        sha256={
            run: {file: data["records"][file]["sha256"] for file in RECORDS}
            for run, data in known.items()
            if run not in flaws
        },
    )


def scan(
    folder: Path, only: Collection[str] | None = None
) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str, str]]]:
    """run.json by run, in the order in which the runs began (unknown: last, by name), and the problems."""
    found, problems = {}, []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "report" or not path.is_dir():
            continue
        if only is not None and path.name not in only:
            continue
        try:
            found[path.name] = run_json(path)
        except Unreadable as problem:
            problems.append((path.name.encode(errors="replace").decode(), problem.kind, str(problem)))
    # ISO times, all UTC, sort as text; "~" comes after them
    began = {run: str(flat(data).get("timing.started", "~")) for run, data in found.items()}
    return {run: found[run] for run in sorted(found, key=lambda run: (began[run], run))}, problems


def run_json(folder: Path) -> dict[str, Any]:
    """A run's own account, checked as far as this package relies on it. Raises Unreadable."""
    try:
        data = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair passes the parser, but no frame
    except FileNotFoundError:
        if not folder.is_dir():
            raise Unreadable("gone", "vanished while it was read") from None
        raise Unreadable("foreign", "no run.json: not a run, or one that has not begun") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable("broken", f"run.json cannot be read: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise Unreadable("foreign", "run.json is not a run's record: it has no schema")
    if data["schema"] > SCHEMA:
        raise Unreadable("broken", f"run.json has schema {data['schema']}, this version reads up to {SCHEMA}")
    kinds = {"id": str, "status": str, "seed": int, "nuisance": int, "factors": dict}
    if lacking := [key for key, kind in kinds.items() if not isinstance(data.get(key), kind)]:
        raise Unreadable("broken", f"run.json lacks {', '.join(lacking)}, or has another type there")
    if data["status"] not in (*FINISHED, *UNFINISHED):
        raise Unreadable("broken", f"run.json has status {data['status']!r}, none of {FINISHED + UNFINISHED}")
    if lacking := [factor for factor in FACTORS if not is_factor(data["factors"].get(factor))]:
        raise Unreadable("broken", f"run.json has no option and settings of {', '.join(lacking)}")
    return data


def is_factor(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("option"), str)
        and isinstance(entry.get("settings"), dict)
    )


def flaw_of(folder: Path, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a run does not count, as kind and problem; None where it does."""
    if data["status"] in UNFINISHED:
        message = flat(data).get("error.message")
        return "partial", f"status {data['status']}" + (f": {message}" if message else "")
    try:
        for file in RECORDS:
            check_record(folder / file, data)
    except Unreadable as problem:
        return problem.kind, str(problem)
    return None


def check_record(path: Path, data: Mapping[str, Any]) -> None:
    """Raises Unreadable unless the file's hash and row count are those in its run.json."""
    try:
        rows, sha256 = data["records"][path.name]["rows"], data["records"][path.name]["sha256"]
    except (KeyError, TypeError):
        raise Unreadable("broken", f"run.json does not say what {path.name} should hold") from None
    try:
        found = pq.read_metadata(pa.BufferReader(verified(path, sha256))).num_rows
    except pa.ArrowException as error:
        raise Unreadable("broken", f"{path.name} is no Parquet file: {error}") from error
    if found != rows:
        raise Unreadable("broken", f"{path.name} has {found} rows, the run wrote {rows}")


def verified(path: Path, sha256: str) -> bytes:
    """A file's bytes, if they are those that the run wrote. Raises Unreadable."""
    try:
        content = path.read_bytes()
    except OSError as error:
        kind = "broken" if path.parent.is_dir() else "gone"
        raise Unreadable(kind, f"{path.name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Unreadable("broken", f"{path.name} is not what the run wrote: its sha256 differs")
    return content


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


def missing(runs: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Problems for each arm and seed of the study without any run."""
    have = set(zip(runs["arm"], runs["seed"], strict=True))
    return [
        (f"{arm}, seed {seed}", "missing", "no run of this arm and seed")
        for arm in runs["arm"].unique()
        for seed in sorted(runs["seed"].unique())
        if (arm, seed) not in have
    ]


def averaged(layers: pa.Table, spans: int) -> pa.Table:
    """layers.parquet over spans of equally many steps: means of step and norm by span, layer and block."""
    if len(layers) == 0:
        return layers
    width = -(-pc.max(layers["step"]).as_py() // spans)
    span = pc.divide(pc.subtract(layers["step"], 1), width)
    grouped = layers.append_column("span", span).group_by(["span", "layer", "block"], use_threads=False)
    means = grouped.aggregate([("step", "mean"), ("grad_norm", "mean"), ("parameters", "max")])
    names = {"step_mean": "step", "grad_norm_mean": "grad_norm", "parameters_max": "parameters"}
    return means.rename_columns([names.get(n, n) for n in means.column_names]).select(layers.column_names)


def flat_row(data: Mapping[str, Any]) -> dict[str, Any]:
    """run.json as one row: factors as in `arm_of`, metrics by their names, the rest by its path."""
    own = {"id": data["id"], "status": data["status"], "seed": data["seed"], **arm_of(data)}
    rest = {key: value for key, value in data.items() if key not in {*own, "factors", "metrics", "records"}}
    return {**own, **flat(data.get("metrics") or {}), **flat(rest)}


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """
    >>> flat({"timing": {"seconds": 2.5}, "betas": [0.9, 0.999]})
    {'timing.seconds': 2.5, 'betas': (0.9, 0.999)}
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= {f"{key}.{k}": v for k, v in flat(value).items()}
        else:
            leaves[key] = tuple(value) if isinstance(value, list) else value
    return leaves


def arm_of(data: Mapping[str, Any]) -> Arm:
    """What a run.json says of its arm: option and settings of each factor, and the nuisance seed."""
    arm: dict[str, Any] = {}
    for factor in FACTORS:
        entry = data["factors"][factor]
        arm |= {factor: entry["option"]} | {f"{factor}.{k}": v for k, v in flat(entry["settings"]).items()}
    return arm | {"nuisance": data["nuisance"]}


def labels(arms: Sequence[Arm]) -> list[str]:
    """A short name for each arm; distinct arms have distinct names.

    It has the option of each factor in which the arms differ, in the order of FACTORS, with those settings in
    which arms of the same option differ; then the nuisance seed, where arms differ in it and it is not 0.

        >>> plain = {**{factor: "x" for factor in FACTORS}, "nuisance": 0}
        >>> early, late = ({**plain, "clip": "delayed", "clip.start": start} for start in (50, 100))
        >>> labels([{**plain, "clip": "none"}, early, late])
        ['none', 'delayed[start=50]', 'delayed[start=100]']
        >>> labels([{**plain, "clip": "none"}, late])
        ['none', 'delayed']
        >>> labels([{**plain, "clip": "none"}])
        ['x-none-x']
    """
    distinct = {canonical(arm): arm for arm in arms}
    shown = dict(zip(distinct, differing(list(distinct.values())), strict=True))
    plain = {key: "-".join(part_text(*part) for part in parts) for key, parts in shown.items()}
    # where a name holds the very signs that labels are put together with
    quoted = {key: canonical(parts) for key, parts in shown.items()}
    chosen = plain if len(set(plain.values())) == len(distinct) else quoted
    return [chosen[canonical(arm)] for arm in arms]


def differing(arms: Sequence[Arm]) -> list[list[tuple[str, Mapping[str, Any]]]]:
    """For each of several distinct arms: option and settings of each factor, as far as they differ."""
    parts: list[list[tuple[str, Mapping[str, Any]]]] = [[] for _ in arms]
    for factor in FACTORS:
        prefix = f"{factor}."
        settings = [{k.removeprefix(prefix): arm[k] for k in arm if k.startswith(prefix)} for arm in arms]
        peers = defaultdict(list)
        for arm, own in zip(arms, settings, strict=True):
            peers[arm[factor]].append(own)
        vary = {option: varying(group) for option, group in peers.items()}
        if len(peers) > 1 or any(vary.values()):
            for part, arm, own in zip(parts, arms, settings, strict=True):
                part.append((arm[factor], {k: v for k, v in own.items() if k in vary[arm[factor]]}))
    if not any(parts):
        parts = [[(arm[factor], {}) for factor in FACTORS[:3]] for arm in arms]
    if "nuisance" in varying(arms):
        for part, arm in zip(parts, arms, strict=True):
            part += [("nuisance", {"seed": arm["nuisance"]})] if arm["nuisance"] else []
    return parts


def varying(mappings: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys whose values differ, or that only some of the mappings have."""
    keys = {key for mapping in mappings for key in mapping}
    return {key for key in keys if len({canonical([m[key]] if key in m else []) for m in mappings}) > 1}


def part_text(option: str, settings: Mapping[str, Any]) -> str:
    pairs = (f"{key}={v if isinstance(v, str) else canonical(v)}" for key, v in settings.items())
    return f"{option}[{','.join(pairs)}]" if settings else option


def canonical(value: Any) -> str:
    """JSON in which equal settings are equal text: 1 and 1.0 are, 1, "1" and true are not."""
    return json.dumps(normalised(value), sort_keys=True, ensure_ascii=False)


def normalised(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: normalised(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [normalised(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
