"""No writing through symbolic links, which may lead to files that are not ours."""

import os
from pathlib import Path


def refuse_links(*paths: Path) -> None:
    """Raise ValueError if one of the paths, to which we are about to write, is a symbolic link."""
    for path in paths:
        if path.is_symlink():
            raise ValueError(f"{path} must not be a link, as ablate writes there (it leads to {os.readlink(path)})")
