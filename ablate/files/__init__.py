"""Files: written atomically, identified by hash, downloaded once.

archive    many files in one zip file, with the hash of each
assets     pinned artefacts from the package index: the default model and data
atomic     atomic writes: a reader finds the old file or the new one, never a part of one
hashing    hashes of files and folders
hub        snapshots of Hugging Face hub repositories
links      no writing and no deleting through links
reading    files that may be damaged or hostile: regular, of limited size, JSON of limited depth, and its hash
run_record run.json and the tables of a run: written with hashes, and checked by all who read them
sealed     files that end in the hash of their own content
"""

from importlib import import_module


def __getattr__(name: str) -> object:
    """Version 1's `ablate.files.read_files`, for scripts that import it; `ablate.data` builds upon this package."""
    if name == "read_files":
        return import_module("ablate.data.readers").read_files
    raise AttributeError(f"module {__name__} has no attribute {name}")
