"""Where the config tree and the claims files are."""

from collections.abc import Sequence
from pathlib import Path

from ablate.config.checks import refusal
from ablate.config.wording import nearest

NO_GROUPS = frozenset({"claims", "roles"})
"""Folders of the config tree that hold no options: claims=<name> sets a key, and roles/ describes model families."""

KEPT_CLAIMS = ".claims"
"""The folder in a study's own in which it keeps its claims files."""

OUTPUTS = Path("outputs")
"""Where all studies lie, in the folder of the command."""


def conf() -> str:
    """The folder of the config tree: inside the package if it was installed from a wheel, else next to it."""
    package = Path(__file__).resolve().parents[1]
    return str(package / "conf" if (package / "conf").is_dir() else package.parent / "conf")


def claims_file(name: str, others: Sequence[Path] = ()) -> Path:
    """The file of a study's claims, which are written before the study runs: conf/claims/<name>.yaml.

    The user's own conf folder comes first, then the folders `others`, then the project's. ValueError with the nearest
    names if there is no such file, and for one that is no regular file: reading a FIFO or a device may never end.
    """
    folders = [Path("conf/claims"), *others, Path(conf()) / "claims"]
    known = {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.yaml"))}
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"claims must be the name of a file in conf/claims (got {name}); {nearest(name, known)}")
    if not known[name].is_file():
        raise refusal("claims", known[name], "the name of a regular file, not of a folder, FIFO, socket or device")
    return known[name]


def kept_claims(study: Path) -> Path:
    """The folder in which a study keeps its claims files, so that it can be judged elsewhere."""
    return study / KEPT_CLAIMS


def shipped_groups() -> set[str]:
    """The config groups of the package."""
    return {path.name for path in Path(conf()).iterdir() if path.is_dir()} - NO_GROUPS


def known_groups() -> set[str]:
    """The config groups of the package and of the user's own folder."""
    own = Path("conf")
    found = {path.name for path in own.iterdir() if path.is_dir()} if own.is_dir() else set()
    return shipped_groups() | (found - NO_GROUPS)
