"""Archives: one set of files is one archive, and nothing but a whole archive is read."""

import hashlib
import json
import random
import shutil
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.files.archive import MANIFEST, entry, open_archive, write_archive
from ablate.files.reading import Damaged
from ablate.files.sealed import DIGEST, seal_end
from tests.tools import make_odd

FILES = {"b/one.txt": b"one" * 500, "b/two.bin": bytes(range(256)) * 4, "a.txt": b"", "c/\xe9t\xe9.txt": b"summer"}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_archive(tmp_path / "some.zip", FILES, FILES.__getitem__)
    return tmp_path / "some.zip"


def reseal(path: Path) -> None:
    with path.open("r+b") as file:
        seal_end(file)


def zipped(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes], sealed: bool = True) -> Path:
    """A zip of any entries with a right manifest, sealed: what somebody could make who wants us to open it."""
    listed = {
        info if isinstance(info, str) else info.filename: {"sha256": hashlib.sha256(content).hexdigest()}
        for info, content in entries
    }
    with zipfile.ZipFile(path, "w") as made:
        for info, content in entries:
            made.writestr(info, content)
        made.writestr(MANIFEST, json.dumps({"format": 1, "files": listed}))
        made.comment = bytes(DIGEST)
    if sealed:
        reseal(path)
    return path


def test_what_was_packed_is_read(archive: Path) -> None:
    opened = open_archive(archive)
    assert {name: opened.read(name) for name in opened.members} == FILES
    assert opened.folders() == ["b", "c"]
    assert opened.has("b") and opened.has("a.txt") and not opened.has("b/three")
    with pytest.raises(FileNotFoundError):
        opened.read("b/three")
    with pytest.raises(Damaged, match="larger than 3 bytes"):
        opened.read("b/one.txt", 3)
    with zipfile.ZipFile(archive) as other:  # the reference: any program that reads zip files
        assert {name: other.read(name) for name in other.namelist() if name != MANIFEST} == FILES
        assert (
            other.testzip() is None
            and other.comment.decode() in hashlib.sha256(archive.read_bytes()[:-DIGEST]).hexdigest()
        )


def test_equal_files_are_equal_archives(archive: Path, tmp_path: Path) -> None:
    write_archive(tmp_path / "again.zip", reversed(FILES), FILES.__getitem__)
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    write_archive(tmp_path / "other.zip", FILES, lambda name: FILES[name] + b"x")
    assert (tmp_path / "other.zip").read_bytes() != archive.read_bytes()


def test_a_write_that_fails_leaves_the_archive_before(archive: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(KeyError):
        write_archive(archive, [*FILES, "z.txt"], FILES.__getitem__)
    with pytest.raises(ValueError, match="leads out of the folder"):
        write_archive(archive, ["../z"], lambda name: b"")
    assert archive.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["some.zip"]


def test_each_of_200_flipped_bits_is_found(archive: Path) -> None:
    whole, draw = archive.read_bytes(), random.Random(0)
    for _ in range(200):
        flipped, place = bytearray(whole), draw.randrange(len(whole))
        flipped[place] ^= 1 << draw.randrange(8)
        archive.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"some\.zip cannot be used: it is damaged"):
            open_archive(archive)
    archive.write_bytes(whole)
    open_archive(archive)  # the control


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name]])
def test_the_damaged_file_is_named(archive: Path, name: str) -> None:
    content = bytearray(archive.read_bytes())
    start = open_archive(archive).members[name].start
    content[start + 2] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is not what was packed, as its sha256 differs"):
        open_archive(archive)
    reseal(archive)  # and where somebody renewed the hash of the whole, when the file is read
    with pytest.raises(Damaged, match="not what was packed"):
        open_archive(archive).read(name)


def test_no_byte_that_is_changed_on_purpose_changes_what_is_read(archive: Path) -> None:
    whole, draw = archive.read_bytes(), random.Random(1)
    opened = 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole) - DIGEST)] = draw.randrange(256)
        archive.write_bytes(changed)
        reseal(archive)
        try:
            found = open_archive(archive)
            assert {name: found.read(name) for name in found.members} == FILES
            opened += 1
        except ValueError:  # Damaged, too
            pass
    assert 0 < opened < 300


@pytest.mark.parametrize("cut", [1, 70, 500, 3000])
def test_a_part_of_an_archive_is_incomplete(archive: Path, cut: int) -> None:
    archive.write_bytes(archive.read_bytes()[:-cut])
    with pytest.raises(ValueError, match="it is damaged"):
        open_archive(archive)
    archive.write_bytes(b"")
    with pytest.raises(ValueError, match="no zip file"):
        open_archive(archive)


def test_bytes_behind_an_archive_are_found(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"more")
    with pytest.raises(ValueError, match="it is damaged"):
        open_archive(archive)


def test_an_archive_that_is_replaced_after_it_was_opened_is_not_believed(archive: Path) -> None:
    opened = open_archive(archive)
    write_archive(archive, FILES, lambda name: FILES[name][::-1] + b"x")
    with pytest.raises(Damaged, match="its sha256 differs"):
        opened.read("b/two.bin")


def linked(name: str) -> zipfile.ZipInfo:
    info = entry(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def compressed(name: str) -> zipfile.ZipInfo:
    info = entry(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@pytest.mark.parametrize(
    ("info", "says"),
    [
        ("/etc/passwd", "leads out of the folder"),
        ("../up", "leads out of the folder"),
        ("a/../../up", "leads out of the folder"),
        ("c:/up", "leads out of the folder"),
        ("a\\up", "not that of a file on every system"),
        ("a//b", "not that of a file on every system"),
        ("./a", "not that of a file on every system"),
        ("folder/", "not that of a file on every system"),
        ("a\nb", "not that of a file on every system"),
        (linked("link"), "it is a link, folder or device"),
        (compressed("bomb"), "it is compressed"),
    ],
)
def test_what_no_archive_of_ours_holds_is_refused(tmp_path: Path, info: zipfile.ZipInfo | str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        open_archive(zipped(tmp_path / "made.zip", (info, bytes(10_000_000))))
    zipped(tmp_path / "control.zip", ("a", b"x"))
    assert open_archive(tmp_path / "control.zip").read("a") == b"x"


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    for second in ("a.txt", "A.txt"):  # one file on some systems
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zipfile
            made = zipped(tmp_path / "made.zip", ("a.txt", b"1"), (second, b"2"))
        with pytest.raises(ValueError, match="occurs twice"):
            open_archive(made)


def edited(path: Path, find: bytes, edit: Callable[[bytearray, int], None]) -> Path:
    """The zip, changed behind each signature `find`, and sealed again."""
    content, place = bytearray(path.read_bytes()), 0
    while (place := content.find(find, place)) >= 0:
        edit(content, place)
        place += 4
    path.write_bytes(content)
    reseal(path)
    return path


def test_encrypted_files_and_files_larger_than_the_archive_are_refused(tmp_path: Path) -> None:
    def encrypt(content: bytearray, place: int) -> None:
        content[place + 8] |= 1

    def enlarge(content: bytearray, place: int) -> None:
        content[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)

    made = zipped(tmp_path / "made.zip", ("a.txt", b"1"))
    shutil.copy(made, tmp_path / "large.zip")
    with pytest.raises(ValueError, match="it is encrypted"):
        open_archive(edited(made, b"PK\1\2", encrypt))
    with pytest.raises(ValueError, match="larger than the archive itself"):
        open_archive(edited(tmp_path / "large.zip", b"PK\1\2", enlarge))


def test_a_manifest_lists_what_is_there(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as plain:
        plain.writestr("a", b"x")
    with pytest.raises(ValueError, match=r"no archive of ours: it has no manifest\.json"):
        open_archive(tmp_path / "plain.zip")
    for manifest, says in (
        ({"format": 1, "files": {"a": {"sha256": "0"}, "b": {"sha256": "0"}}}, "it lacks b"),
        ({"format": 1, "files": {}}, "it holds a"),
        ({"format": 2, "files": {}}, "format 2 is newer than 1"),
        ([], "does not list files"),
        ("text", "does not list files"),
    ):
        with zipfile.ZipFile(tmp_path / "plain.zip", "w") as plain:
            plain.writestr("a", b"x")
            plain.writestr(MANIFEST, json.dumps(manifest))
            plain.comment = bytes(DIGEST)
        reseal(tmp_path / "plain.zip")
        with pytest.raises(ValueError, match=says):
            open_archive(tmp_path / "plain.zip")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "huge"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    make_odd(tmp_path / "odd.zip", kind)
    if kind == "huge":
        (tmp_path / "odd.zip").write_bytes(b"PK\5\6" + bytes(200))
    with pytest.raises(ValueError, match=r"odd\.zip cannot be"):
        open_archive(tmp_path / "odd.zip")
