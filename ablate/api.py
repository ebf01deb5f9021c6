"""Studies from Python: `ablate.study` runs one as the command does, `ablate.open_study` reads one (`ablate.results`).

>>> import ablate
>>> study = ablate.study("mine", {"clip": ["none", "fixed"], "seed": range(5)}, ["model=tiny", "data=synthetic"])
>>> study
<study outputs/mine: no run yet>
>>> study.run().verdicts  # doctest: +SKIP

What is wrong raises ValueError with the key, its value and what is allowed, before the first run. A study's runs, files
and verdicts are those of `python -m ablate -m` and `python -m analysis`, to the byte.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ablate.config.checks import require
from ablate.config.paths import OUTPUTS
from ablate.results import StudyResults
from ablate.schema import NONE

if TYPE_CHECKING:
    import pandas as pd

    from ablate.sweep.plan import Plan

OF_THE_METHODS = {
    "study": "the first argument of ablate.study",
    "plan": "study.plan()",
    "rerun": "study.run(rerun=True)",
    "hydra/launcher": 'study.run("local")',
}
"""Keys that methods set, and what sets them."""


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

        rows = plan_entries(plan.runs)
        factors = pd.DataFrame([row.pop("factors") for row in rows]).fillna(NONE)  # also of one that a run lacks
        frame = pd.DataFrame(rows).join(factors)
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
