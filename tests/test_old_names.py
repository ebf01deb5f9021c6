"""Scripts for version 1 find what they import from modules that have moved."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ablate.synthetic.generate", "ablate.data.synthetic.generate"),
        ("ablate.files.read_files", "ablate.data.readers.read_files"),
        ("ablate.paths.claims_file", "ablate.config.paths.claims_file"),
        ("ablate.paths.conf", "ablate.config.paths.conf"),
    ],
)
def test_a_moved_function_has_its_old_name(old: str, new: str) -> None:
    (a, f), (b, g) = (path.rsplit(".", 1) for path in (old, new))
    code = f"from {a} import {f} as old; from {b} import {g} as new; assert old is new"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_names_are_errors() -> None:
    with pytest.raises(ImportError):
        from ablate.files import readfiles  # noqa: F401
