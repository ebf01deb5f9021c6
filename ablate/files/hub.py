"""Snapshots of Hugging Face hub repositories, from the hub or from its cache on this machine."""

from collections.abc import Sequence
from pathlib import Path


def snapshot(key: str, path: str, revision: str | None, kind: str, patterns: Sequence[str] | None = None) -> Path:
    """The local folder of the repository `path` at `revision`; `kind` is "model" or "dataset".

    Raises ValueError within seconds, with the setting `key`, if the repository is not available. (Without a network
    `snapshot_download` tries for half a minute to list files, so we first send one request with a time limit.)
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"repo_type": kind, "revision": revision, "allow_patterns": list(patterns) if patterns else None}
    try:
        HfApi().repo_info(path, repo_type=kind, revision=revision, timeout=10)
        return Path(snapshot_download(path, **wanted))
    except Exception as error:  # the hub's HTTP client and its errors change between versions
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
    try:
        return Path(snapshot_download(path, local_files_only=True, **wanted))
    except (LocalEntryNotFoundError, ValueError):
        raise ValueError(
            f"{key} must be a local file or folder, or a repository that the hub or its cache has (got {path}; "
            f"{reason}). A local copy works too: {key}=<path>"
        ) from None
