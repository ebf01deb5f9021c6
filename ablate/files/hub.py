"""Snapshots of Hugging Face hub repositories: from the hub's cache where they are, else from the hub, or a clear no."""

from collections.abc import Sequence
from pathlib import Path


def snapshot(key: str, path: str, revision: str | None, kind: str, patterns: Sequence[str] | None = None) -> Path:
    """The local folder of the repository `path` at `revision`; `kind` is "model" or "dataset".

    Raises ValueError, within seconds, that names `key` and what was looked for. (`snapshot_download` itself tries for
    half a minute to list a data set's files where there is no network: one question with a time limit comes first.)
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = {"repo_type": kind, "revision": revision, "allow_patterns": list(patterns) if patterns else None}
    try:
        HfApi().repo_info(path, repo_type=kind, revision=revision, timeout=10)
        return Path(snapshot_download(path, **wanted))
    except Exception as error:  # the hub's HTTP client, and with it its errors, changes between versions
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
    try:
        return Path(snapshot_download(path, local_files_only=True, **wanted))
    except (LocalEntryNotFoundError, ValueError):
        raise ValueError(
            f"{key}={path} is neither a file or folder here, nor in the hub's cache, nor available from the hub "
            f"({reason}). A local copy works too: {key}=<path>"
        ) from None
