"""Ablation studies of fine-tuning techniques: one trainer, paired seeds, verdicts that state their uncertainty.

Nothing is imported here at once, not even Python's own modules: those of the folder of the command would come first
until `ablate.config.start.leave_folder` has run.
"""

TYPE_CHECKING = False  # type checkers take it as true
if TYPE_CHECKING:
    from ablate.api import AblationStudy, study
    from ablate.recorder import Recorder
    from ablate.results import StudyResults, open_study

__version__ = "0.1.0"
__path__ = [*__path__, f"{__path__[0]}/version1"]
__all__ = ["AblationStudy", "Recorder", "StudyResults", "__version__", "open_study", "study"]

LAZY = {
    "AblationStudy": "ablate.api",
    "Recorder": "ablate.recorder",
    "StudyResults": "ablate.results",
    "open_study": "ablate.results",
    "study": "ablate.api",
}
"""Public name -> its module, which is imported on first use."""


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib import import_module

    return getattr(import_module(LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
