"""The results of a study, from Python: `ablate.open_study` reads a folder, an archive, or a table that others wrote.

>>> study = ablate.open_study("outputs/mine")  # doctest: +SKIP
>>> study.verdicts  # doctest: +SKIP

It judges by the functions of `python -m analysis`, so that verdicts, tables and figures are those of the command.
"""

import sys
from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ablate.config.checks import refusal, require

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.claims.reading import Claims
    from analysis.records.study import Study
    from analysis.report import Report


class StudyResults:
    """What the runs of a study recorded, and what its claims come to; `records` is the same as an object.

    Everything is read once. `reload()` reads it again, where another process has changed the study.
    """

    def __init__(self, path: Path, claims: str | None = None, allow: Sequence[str] = (), **table: Any) -> None:
        self.path, self.claims, self.allow, self.table_options = path, claims, tuple(allow), table
        self.peek = False

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
        from analysis.result_tables import TableOptions

        names = [*TableOptions.__dataclass_fields__]
        require("option", ", ".join(self.table_options), self.table_options.keys() <= {*names}, f"one of {names}")
        study = load_chosen(self.path, TableOptions(**self.table_options))
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

    def judge(self, claims: str | None = None) -> "tuple[Claims, Report]":
        """Judge the study and write its report, as `python -m analysis` does; the log of looks gets an entry."""
        from analysis.judged import chosen_claims, read_claims_for
        from analysis.report import write_report

        found = read_claims_for(self.records, chosen_claims(self.records, claims or self.claims), self.allow)
        return found, write_report(self.records, found, self.peek)

    @property
    def waits(self) -> str | None:
        """Why tables and figures of differences between arms are not shown yet; None where they are."""
        from analysis.page.what_next import why_differences_wait

        return None if self.peek else why_differences_wait(self.records, self.judged[0])

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
        """What the study shows, how sure that is, and what to do next: the lines with which the command ends."""
        from analysis.page.headline import headline

        claims, report = self.judged
        return report.answer.text if report.answer else headline(self.records, claims, report.findings)

    def table(self, name: str, numbers: bool = False) -> "pd.DataFrame":
        """A table of the report as text, or its numbers; `attrs["caption"]` explains it.

        Raises ValueError for a name that no table has, and where the runs do not allow the table, with the reason.
        """
        from analysis.report import made_tables
        from analysis.tables.formats import LeftOut

        claims, report = self.judged
        names = []
        for made in made_tables(self.records, claims, report.findings, self.waits):
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
        from analysis.report import made_figure
        from analysis.tables.formats import LeftOut

        claims, report = self.judged
        made = made_figure(self.records, claims, report.findings, name, self.waits)
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

        self.peek = peek
        self.__dict__["judged"] = self.judge(claims)
        return self.records.folder / "report" / PAGE


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
