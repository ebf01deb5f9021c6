"""Where the config tree and claims files are."""

from pathlib import Path

from ablate.config.wording import nearest

OUTPUTS = Path("outputs")
"""Where all studies lie, in the folder of the command."""


def conf() -> str:
    """The config tree: inside the package where a wheel put it, beside the code in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return str(package / "conf" if (package / "conf").is_dir() else package.parent / "conf")


def claims_file(name: str) -> Path:
    """What a study claims, written down before it runs: conf/claims/<name>.yaml, of the user's own folder first.

    ValueError, with the nearest names, where there is none.
    """
    folders = [Path("conf/claims"), Path(conf()) / "claims"]
    known = {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.yaml"))}
    if name not in known:
        raise ValueError(f"claims={name}: no such file in conf/claims; {nearest(name, known)}")
    return known[name]


def shipped_groups() -> set[str]:
    """The config groups of the package."""
    return {path.name for path in Path(conf()).iterdir() if path.is_dir()}


def known_groups() -> set[str]:
    """The config groups of the package and of the user's own folder."""
    own = Path("conf")
    return shipped_groups() | ({path.name for path in own.iterdir() if path.is_dir()} if own.is_dir() else set())
