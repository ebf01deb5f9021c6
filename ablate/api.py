"""Studies from Python: `ablate.study` runs one as the command does, `ablate.open_study` reads one.

>>> import ablate
>>> study = ablate.study("mine", {"clip": ["none", "fixed"], "seed": range(5)}, ["model=tiny", "data=synthetic"])
>>> study
<study outputs/mine: no run yet>
>>> study.run().verdicts  # doctest: +SKIP

What is wrong raises ValueError with the key, its value and what is allowed, before the first run. A study's runs, files
and verdicts are those of `python -m ablate -m` and `python -m analysis`, to the byte.
"""

import argparse
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ablate.config.checks import refusal, require
from ablate.config.paths import OUTPUTS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ablate.sweep.plan import Plan
    from analysis.claims.reading import Claims
    from analysis.records.study import Study
    from analysis.report import Report

OF_THE_METHODS = {
    "study": "the first argument of ablate.study",
    "plan": "study.plan()",
    "rerun": "study.run(rerun=True)",
    "hydra/launcher": 'study.run("local")',
}
"""Keys that methods set, and what sets them."""


class StudyResults:
    """What the runs of a study recorded, and what its claims come to; `records` is the same as an object.

    Everything is read once. `reload()` reads it again, where another process has changed the study.
    """

    def __init__(self, path: Path, claims: str | None = None, allow: Sequence[str] = (), **table: Any) -> None:
        self.path, self.claims, self.allow, self.table_options = path, claims, tuple(allow), table

    def __repr__(self) -> str:
        return f"<study {self.path}: {self.in_short}>"

    @property
    def in_short(self) -> str:
        """How many runs the study has."""
        from ablate.config.wording import count

        if not self.path.exists():
            return "no run yet"
        try:
            runs, arms = len(self.runs), self.runs["arm"].nunique()
        except ValueError:
            return "no finished run"
        return f"{count(runs, 'run')} of {count(arms, 'arm')}"

    def reload(self) -> Self:
        """Forget what was read; return the study."""
        for name in ("records", "judged"):
            self.__dict__.pop(name, None)
        return self

    @cached_property
    def records(self) -> "Study":
        """The study as `analysis.records.study.Study`, which also reads single columns, layers and probe losses."""
        from analysis.judged import check_output, load_chosen
        from analysis.records.column_roles import Chosen

        names = [*Chosen.__dataclass_fields__, "store_experiment"]
        require("option", ", ".join(self.table_options), self.table_options.keys() <= {*names}, f"one of {names}")
        options = dict.fromkeys(names) | self.table_options
        study = load_chosen(argparse.Namespace(study=self.path, output=None, against=None, **options))
        check_output(study)
        return study

    @property
    def runs(self) -> "pd.DataFrame":
        """One row per finished run: arm, seed, status, options and settings of the arm, metrics, environment."""
        return self.records.runs

    @property
    def steps(self) -> "pd.DataFrame":
        """One row per run and step: loss, norms of the gradient before and after clipping, learning rate, seconds."""
        return self.records.steps()

    @property
    def evals(self) -> "pd.DataFrame":
        """One row per run, step and split: loss, accuracy (or what the task has), number of examples."""
        return self.records.evals()

    @property
    def predictions(self) -> "pd.DataFrame":
        """One row per run and test example: label, prediction, probability (or what the task has)."""
        return self.records.predictions()

    @cached_property
    def judged(self) -> "tuple[Claims, Report]":
        """The claims, and the report on them, which is written if the study has none for these runs."""
        return self.judge()

    def judge(self, claims: str | None = None, peek: bool = False) -> "tuple[Claims, Report]":
        """Judge the study and write its report, as `python -m analysis` does; the log of looks gets an entry."""
        from analysis.judged import chosen_claims, read_claims_for
        from analysis.report import write_report

        found = read_claims_for(self.records, chosen_claims(self.records, claims or self.claims), self.allow)
        return found, write_report(self.records, found, peek)

    @property
    def verdicts(self) -> "pd.DataFrame":
        """One row per claim, and one per part of it; report/verdicts.json has all that is known about each.

        Columns: id, statement, verdict; effect with its 95 % interval from low to high, on a scale (points, log, raw),
        and its p; the interval and the p adjusted for all claims; n, the seeds; further_seeds, which a decision needs.
        """
        import pandas as pd

        from analysis.claims.finding import json_value, with_parts

        rows = [json_value(finding) for finding in with_parts(self.judged[1].findings)]
        for row in rows:
            row["low"], row["high"] = row["interval"] or (None, None)
            row["low_adjusted"], row["high_adjusted"] = row["interval_simultaneous"] or (None, None)
        effect = ("effect", "low", "high", "scale", "p", "low_adjusted", "high_adjusted", "p_adjusted")
        return pd.DataFrame(rows, columns=["id", "statement", "verdict", *effect, "n", "further_seeds", "notes"])

    @property
    def headline(self) -> str:
        """The study's result in a sentence or two."""
        from analysis.page.headline import headline

        return headline(self.records, self.judged[0], self.judged[1].findings)

    def table(self, name: str, numbers: bool = False) -> "pd.DataFrame":
        """A table of the report as text, or its numbers; `attrs["caption"]` explains it.

        Raises ValueError for a name that no table has, and where the runs do not allow the table, with the reason.
        """
        from analysis.report import made_tables, why_differences_wait
        from analysis.tables.formats import LeftOut

        claims, report = self.judged
        names = []
        for made in made_tables(self.records, claims, report.findings, why_differences_wait(self.records, claims)):
            names.append(made.name)
            if made.name == name and isinstance(made, LeftOut):
                raise ValueError(f"there is no table {name}: {made.reason}")
            if made.name == name:
                frame = made.numbers if numbers else made.words
                frame.attrs["caption"] = made.caption
                return frame
        raise refusal("table", name, f"one of {', '.join(names)}")

    def figure(self, name: str) -> "Figure":
        """A figure of the report, which a notebook shows.

        Raises ValueError for a name that no figure has, and where the runs do not allow the figure, with the reason.
        """
        from analysis.report import made_figure, why_differences_wait
        from analysis.tables.formats import LeftOut

        claims, report = self.judged
        waits = why_differences_wait(self.records, claims)
        made = made_figure(self.records, claims, report.findings, name, waits)
        if isinstance(made, LeftOut):
            raise ValueError(f"there is no figure {name}: {made.reason}")
        show_pictures()
        return made.figure

    def report(self, claims: str | None = None, peek: bool = False) -> Path:
        """Write the report, if there is none for these runs, and return its page, report/index.html.

        Args:
            claims: a claims file, or the name of one in conf/claims; by default that of the runs.
            peek: show differences below the planned number of seeds, too, which spends a look.
        """
        from analysis.report import PAGE

        self.__dict__["judged"] = self.judge(claims, peek)
        return self.records.folder / "report" / PAGE


class AblationStudy(StudyResults):
    """A study that can be run. `run()` does what is left to do, so it can be called again after an interruption.

    overrides: those of the command, study=<name> first
    """

    def __init__(self, path: Path, overrides: Sequence[str], config_dir: Path | None, allow: Sequence[str]) -> None:
        super().__init__(path, allow=allow)
        self.overrides, self.config_dir = tuple(overrides), config_dir

    def plan(self) -> "pd.DataFrame":
        """One row per run: what would start, what it shares with another run, and costs. Runs nothing.

        `attrs["summary"]` has the totals and the power, in words. Costs are None before a run was measured here.
        """
        import pandas as pd

        plan = self.sweep("plan=true")
        assert plan is not None
        from ablate.sweep.plan import plan_entries  # after `sweep`, which imports torch without a warning

        frame = pd.DataFrame([row | row.pop("factors") for row in plan_entries(plan.runs)])
        frame.attrs["summary"] = "\n".join(plan.lines)
        return frame

    def run(self, launcher: str = "", *, rerun: bool = False, **settings: Any) -> Self:
        """Do all runs that are not done, with a progress display, and write the report; return the study.

        Args:
            launcher: local (parallel runs on this machine), slurm or cluster (Ray); by default one run after the other
                in this process.
            rerun: repeat runs that are finished.
            settings: of the launcher, as n_jobs=2.

        Raises ValueError before the first run for what is wrong, RuntimeError after the last one if runs failed, and
        KeyboardInterrupt when a run has saved its state after Ctrl-C or "interrupt the kernel".
        """
        require("settings", ", ".join(settings), bool(launcher) or not settings, "left out without a launcher")
        words = [f"hydra/launcher={launcher}"] * bool(launcher)
        words += [override(f"hydra.launcher.{name}", value) for name, value in settings.items()]
        words += ["rerun=true"] * rerun
        try:
            self.sweep(*words)
        finally:
            self.reload()
        return self

    def sweep(self, *more: str) -> "Plan | None":
        """Do what the command does with the study's overrides and `more`."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's on import; our progress needs no widgets
            from ablate.sweep.in_process import run_sweep

            return run_sweep([*self.overrides, *more], self.config_dir)


def study(
    name: str,
    sweep: Mapping[str, Any] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    config_dir: str | PathLike[str] | None = None,
) -> AblationStudy:
    """A study in outputs/<name>, which may exist already.

    Args:
        name: of the study.
        sweep: values by key, as {"clip": ["none", "fixed"], "seed": range(5)}; the runs are all combinations.
        overrides: what all runs share, as for the command: ["model=tiny"], or {"model": "tiny"}.
        config_dir: a folder with config groups of your own, as conf/ has ours.

    Raises ValueError for an argument of another kind; `plan` and `run` check keys and values.
    """
    require("name", name, isinstance(name, str) and bool(name), "the name of a study, as mine")
    require(
        "sweep", sweep, sweep is None or isinstance(sweep, Mapping), "a mapping from keys to values, {'seed': [0, 1]}"
    )
    is_list = isinstance(overrides, Sequence) and all(isinstance(word, str) for word in overrides)
    is_list = is_list and not isinstance(overrides, str)
    require("overrides", overrides, is_list or isinstance(overrides, Mapping), "a list, ['model=tiny'], or a mapping")
    shared = [override(k, v) for k, v in overrides.items()] if isinstance(overrides, Mapping) else [*overrides]
    swept = [f"{key}={','.join(map(in_syntax, swept_values(key, values)))}" for key, values in (sweep or {}).items()]
    keys = [word.lstrip("+~").partition("=")[0] for word in (*swept, *shared)]
    for key in keys:
        if key in OF_THE_METHODS:
            raise ValueError(f"{key} must be left out of sweep and overrides: {OF_THE_METHODS[key]} sets it")
        require(key, "twice", keys.count(key) == 1, "set once, in sweep or in overrides")
    folder = Path(config_dir) if config_dir is not None else None
    return AblationStudy(OUTPUTS / name, [override("study", name), *swept, *shared], folder, allowed_modules(shared))


def open_study(
    path: str | PathLike[str], claims: str | None = None, allow: Sequence[str] = (), **table: Any
) -> StudyResults:
    """A study that exists: its folder, its archive, or a table of results that others wrote.

    Args:
        path: outputs/mine, mine.zip, results.csv, or what else `python -m analysis` reads.
        claims: a claims file, or the name of one in conf/claims; by default that of the runs.
        allow: modules of your own whose functions the claims file names as metrics.
        table: which columns of a table are what: arms=("clip",), seed="seed", metrics=("acc",), dataset="set".

    Raises ValueError where there is no study.
    """
    found = StudyResults(Path(path), claims, allow, **table)
    _ = found.records
    return found


# --- Python's values in the syntax of the command ---


def override(key: str, value: Any) -> str:
    """An override of one value.

    >>> override("model", "tiny"), override("trainer.steps", 6), override("arms", {"late": {"clip": "delayed"}})
    ('model=tiny', 'trainer.steps=6', 'arms={late:{clip:delayed}}')
    """
    return f"{key}={in_syntax(value)}"


def in_syntax(value: Any) -> str:
    """A value in the syntax of Hydra's overrides, quoted where it has to be.

    >>> [in_syntax(value) for value in ("none", "1", "a b,c", True, None, 2e-4, [1, 2])]
    ['none', "'1'", "'a b,c'", 'true', 'null', '0.0002', '[1,2]']
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    if hasattr(value, "tolist"):  # of numpy
        value = value.tolist()
    if isinstance(value, str):
        return value if value and reads_as(value) else QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{in_syntax(key)}:{in_syntax(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, range)):
        return f"[{','.join(map(in_syntax, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    require("value", repr(value), isinstance(value, (int, float)), "text, a number, a bool, None, a list or a mapping")
    return str(value)


def reads_as(text: str) -> bool:
    """Whether Hydra reads text without quotes as the same text."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        read = OverridesParser.create().parse_override(f"key={text}")
    except HydraException:
        return False
    return not read.is_sweep_override() and type(read.value()) is str and read.value() == text


def swept_values(key: str, values: Any) -> list[Any]:
    """The values of a swept key. Raises ValueError where there are none, or where they have no order."""
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        return [values]
    require(f"sweep: {key}", values, not isinstance(values, (set, frozenset)), "a list, as a set has no order")
    found = list(values)
    require(f"sweep: {key}", values, bool(found), "a list of at least one value")
    return found


def allowed_modules(shared: Sequence[str]) -> Sequence[str]:
    """The modules that the override `allow_targets` names: a metric of the user's own may be in them, too."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given = [word for word in shared if word.startswith("allow_targets=[")]
    return OverridesParser.create().parse_override(given[-1]).value() if given else ()  # type: ignore[return-value]


def show_pictures() -> None:
    """Let a notebook show figures of matplotlib as pictures, which it otherwise does once pyplot is imported."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats
    from matplotlib.figure import Figure

    shell = get_ipython()
    formatters = shell.display_formatter.formatters.values() if shell is not None else ()
    if shell is not None and not any(Figure in each.type_printers for each in formatters):
        select_figure_formats(shell, {"png"})
