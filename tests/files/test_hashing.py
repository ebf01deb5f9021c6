"""Hashes of files: of the content alone, and never of what has no end."""

import hashlib

import pytest

from ablate.files.hashing import file_sha256, matching_sha256, tree_sha256
from tests.tools import make_odd


def test_a_hash_is_of_the_content(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{}")
    assert file_sha256(tmp_path / "a.json") == hashlib.sha256(b"{}").hexdigest() == tree_sha256(tmp_path / "a.json")


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_may_have_no_end_is_refused_at_once(tmp_path, kind):
    """A model folder's config.json, for example: a reader of a FIFO waits for a writer."""
    make_odd(tmp_path / "config.json", kind)
    for hashed in (lambda: file_sha256(tmp_path / "config.json"), lambda: matching_sha256(tmp_path, ["*.json"])):
        with pytest.raises(ValueError, match="must be a regular file, but is not"):
            hashed()
