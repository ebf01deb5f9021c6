"""A study as one file: judged and compared as its folder is, and a folder again to the byte."""

import hashlib
import json
import random
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from ablate.files.archive import write_archive
from analysis.__main__ import main
from analysis.claims.looks import Look, append_looks, read_looks
from analysis.records.packing import pack_study, unpack_missing, unpack_study
from analysis.records.source import StudyFolder, open_study_archive
from analysis.records.study import load
from tests.analysis.runs import change, evals_frame, write_run, write_table
from tests.analysis.studies import MINIMAL

CLAIMS = MINIMAL.replace("seeds: 10", "seeds: 2")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take three seconds each."""
    monkeypatch.setattr("analysis.report.draw_all", lambda *arguments: ({}, ()))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two arms × three seeds, the study's own claims file, an unfinished run, and what stays behind."""
    folder = tmp_path / "outputs/mine"
    for seed, gain in enumerate((0.1, 0.125, 0.1)):
        for clip, accuracy in (("none", 0.8), ("fixed", 0.8 + gain)):
            write_run(
                folder, {"clip": clip}, seed=seed, accuracy=accuracy, run=f"{clip}-s{seed}",
                claims={"name": "mine", "sha256": hashlib.sha256(CLAIMS.encode()).hexdigest()},
            )  # fmt: skip
    change(write_run(folder, {"clip": "fixed"}, seed=3, run="fixed-s3"), status="running")
    (folder / ".claims").mkdir()
    (folder / ".claims/mine.yaml").write_text(CLAIMS)
    for name in ("fixed-s3/checkpoint.pt", "none-s0/.lock", "notes.txt"):
        (folder / name).write_text("mine")
    return folder


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Run `python -m analysis <words>`; return its exit code and all that it printed."""
    monkeypatch.setattr(sys, "argv", ["analysis", *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    return code, "".join(capsys.readouterr())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- The same study ---


def test_an_archive_has_the_runs_and_problems_of_its_folder(study: Path) -> None:
    ours, theirs = load(study), load(pack_study(study).path)
    assert theirs.folder == study and len(ours.runs) == 6
    for frame in ("runs", "left_out", "problems"):
        pd.testing.assert_frame_equal(getattr(ours, frame), getattr(theirs, frame))
    assert theirs.problems["problem"].tolist() == ["status running", "no run"]
    assert theirs.sha256 == ours.sha256 and theirs.arms == ours.arms
    pd.testing.assert_frame_equal(ours.steps(), theirs.steps())
    pd.testing.assert_frame_equal(ours.layers(runs=["none-s0"]), theirs.layers(runs=["none-s0"]))


def test_a_study_packed_and_judged_elsewhere_has_the_same_verdicts(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is judged by the claims file in the archive. An archive and its folder compare as identical."""
    code, here = command(monkeypatch, capsys, study)
    assert code == 0 and "1 of 1 claim is inconclusive." in here
    monkeypatch.chdir(tmp_path)
    code, packed = command(monkeypatch, capsys, "pack", "outputs/mine")
    assert code == 0 and "outputs/mine.zip: 7 runs" in packed
    assert "partial: fixed-s3: status running" in packed and "left out: checkpoint.pt, .lock, notes.txt" in packed
    (tmp_path / "elsewhere").mkdir()
    shutil.copy("outputs/mine.zip", "elsewhere")
    code, there = command(monkeypatch, capsys, "elsewhere/mine.zip")
    assert code == 0 and there == here.replace(str(study), "elsewhere/mine")
    verdicts = (study / "report/verdicts.json").read_bytes()
    assert Path("elsewhere/mine/report/verdicts.json").read_bytes() == verdicts
    loaded = load(Path("elsewhere/mine.zip"))
    assert read_looks(loaded.folder, loaded.source) == read_looks(study) != ()  # the same looks, logged once
    code, against = command(monkeypatch, capsys, "outputs/mine", "--against", "elsewhere/mine.zip")
    assert code == 0 and "identical" in against
    assert (study / "report/against-mine/claims.csv").is_file()
    code, same = command(monkeypatch, capsys, "outputs/mine.zip", "--against", "outputs/mine.zip")
    assert code == 2 and "--against must be another study" in same


def test_what_is_unpacked_is_what_was_packed(study: Path, tmp_path: Path) -> None:
    append_looks(study, [Look("mine", "one", (0, 1), "supported")])
    packed = pack_study(study)
    assert packed.left == ("fixed-s3/checkpoint.pt", "none-s0/.lock", "notes.txt")
    archive = open_study_archive(packed.path)
    assert len(unpack_study(archive, tmp_path / "again")) == 7
    assert contents(tmp_path / "again") == {n: c for n, c in contents(study).items() if n not in packed.left}
    assert pack_study(tmp_path / "again").path.read_bytes() == packed.path.read_bytes()
    assert unpack_study(archive, tmp_path / "again") == ()  # nothing is lacking
    shutil.rmtree(tmp_path / "again/none-s1")
    (tmp_path / "again/none-s2/run.json").unlink()  # as a killed call leaves it
    assert unpack_study(archive, tmp_path / "again") == ("none-s1", "none-s2")
    assert load(tmp_path / "again").sha256 == load(study).sha256


def test_a_run_that_ends_while_it_is_packed_is_packed_as_unfinished(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as a run that is done and has the tables from before: it would be broken."""
    real, ending = StudyFolder.read, json.loads((study / "fixed-s3/run.json").read_text())

    def read(source: StudyFolder, name: str, limit: int) -> bytes:
        content = real(source, name, limit)
        if name == "fixed-s3/evals.parquet":  # the first table of the run
            ending["records"]["evals.parquet"] = write_table(study / name, evals_frame(20, noise=0.5))
            change(study / "fixed-s3", status="done", records=ending["records"])
        return content

    monkeypatch.setattr(StudyFolder, "read", read)
    packed = load(pack_study(study).path)
    assert packed.problems["problem"].tolist() == ["status running", "no run"]
    monkeypatch.undo()
    assert len(load(study).runs) == 7 and len(load(pack_study(study).path).runs) == 7  # the control


def test_the_report_is_packed_where_it_is_asked_for(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, capsys, study)
    assert not any(name.startswith("report/") for name in open_study_archive(pack_study(study).path).members)
    archive = open_study_archive(pack_study(study, tmp_path / "with.zip", report=True).path)
    unpack_study(archive, tmp_path / "with")
    assert contents(tmp_path / "with/report") == contents(study / "report")
    (tmp_path / "with/report/index.html").write_text("newer")
    (tmp_path / "with/report/left_out.json").unlink()
    unpack_study(archive, tmp_path / "with")
    assert (tmp_path / "with/report/index.html").read_text() == "newer"
    assert (tmp_path / "with/report/left_out.json").is_file()


def test_looks_at_an_archive_and_at_its_folder_are_one_log(study: Path, tmp_path: Path) -> None:
    first, second = (Look("mine", "one", seeds, "supported") for seeds in ((0, 1), (0, 1, 2)))
    append_looks(study, [first])
    path = shutil.copy(pack_study(study).path, tmp_path)
    (tmp_path / "mine").mkdir()
    append_looks(tmp_path / "mine", [second])
    loaded = load(path)
    assert read_looks(loaded.folder, loaded.source) == (first, second)
    unpack_study(open_study_archive(path), tmp_path / "mine")
    assert read_looks(tmp_path / "mine") == (first, second)
    loaded = load(tmp_path / "mine")
    assert read_looks(loaded.folder, loaded.source) == (first, second)


def test_a_sweep_finds_the_runs_that_only_the_archive_has(study: Path) -> None:
    assert unpack_missing(study) is None
    pack_study(study)
    assert unpack_missing(study) is None
    before = contents(study)
    shutil.rmtree(study / "none-s0")
    change(study / "none-s1", status="running")  # is not touched: the sweep decides
    assert unpack_missing(study) == f"{study}.zip: 1 run unpacked into {study}"
    after = contents(study)
    assert {name for name in before if before[name] != after.get(name)} == {"none-s0/.lock", "none-s1/run.json"}
    Path(f"{study}.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"mine\.zip cannot be used"):
        unpack_missing(study)


# --- What is refused ---


def test_each_of_200_flipped_bytes_in_a_study_is_found(study: Path) -> None:
    for run in sorted(study.glob("*-s*"))[2:]:
        shutil.rmtree(run)
    path, draw = pack_study(study).path, random.Random(0)
    whole = path.read_bytes()
    for _ in range(200):
        flipped, place = bytearray(whole), draw.randrange(len(whole))
        flipped[place] ^= draw.randrange(1, 256)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"mine\.zip cannot be used: it is damaged"):
            load(path)
    path.write_bytes(whole)
    assert len(load(path).runs) == 2  # the control


def test_an_archive_replaces_none_with_other_runs_and_no_other_file(study: Path) -> None:
    path = pack_study(study).path
    shutil.rmtree(study / "none-s0")
    with pytest.raises(ValueError, match=r"mine\.zip holds 1 run that .*mine lacks \(none-s0\): unpack it first"):
        pack_study(study)
    assert len(load(path).runs) == 6
    path.write_text("a letter")
    with pytest.raises(ValueError, match=r"mine\.zip cannot be used"):
        pack_study(study)
    assert path.read_text() == "a letter"
    assert len(pack_study(study, path.with_name("other.zip")).runs) == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pack", "outputs/absent"), "no study in outputs/absent"),
        (("pack", "outputs"), "outputs has no run to pack"),
        (("pack", "outputs/mine", "-o", "mine.tar"), r"must end in \.zip \(got mine\.tar\)"),
        (("pack", "outputs/mine", "-o", "absent/mine.zip"), r"absent/mine\.zip cannot be written"),
        (("unpack", "outputs/mine"), "outputs/mine cannot be"),
        (("unpack", "outputs/absent.zip"), r"absent\.zip cannot be read: No such file"),
        (("outputs/mine", "--output", "new"), r"--output must be left out for a folder"),
        (("outputs/mine.tar",), "no study in outputs/mine.tar: there is no such folder or archive"),
        (("outputs/mine/notes.txt",), r"a name that ends in \.zip \(got outputs/mine/notes\.txt\)"),
    ],
)
def test_a_wrong_command_is_code_2(
    study: Path, words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.parents[1])
    code, printed = command(monkeypatch, capsys, *words)
    assert code == 2 and re.search(says, printed), printed


def test_a_folder_with_other_runs_is_not_written_to(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither by unpacking nor by the report of an archive, which may go elsewhere."""
    monkeypatch.chdir(study.parents[1])
    pack_study(study)
    change(study / "none-s0", seed=7)
    before = contents(study)
    code, printed = command(monkeypatch, capsys, "unpack", "outputs/mine.zip")
    assert code == 2 and "none-s0/run.json is not what outputs/mine.zip holds" in printed
    code, printed = command(monkeypatch, capsys, "outputs/mine.zip")
    assert code == 2 and "outputs/mine must not have runs that outputs/mine.zip lacks" in printed
    assert contents(study) == before
    code, printed = command(monkeypatch, capsys, "outputs/mine.zip", "--output", "new")
    assert code == 0 and "report: new/report/index.html" in printed and Path("new/looks.jsonl").is_file()
    assert contents(study) == before


def test_files_that_no_study_has_are_refused(tmp_path: Path) -> None:
    for name in ("run/checkpoint.pt", ".git/config.yaml", ".claims/a/b.yaml", "report/a/b.html", "run/steps.parquet/x"):
        write_archive(tmp_path / "made.zip", [name], lambda name: b"x")
        with pytest.raises(ValueError, match=f"it holds {name}"):
            load(tmp_path / "made.zip")


def test_nothing_is_unpacked_through_a_link(study: Path, tmp_path: Path) -> None:
    archive = open_study_archive(pack_study(study).path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "new/none-s0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="must not be a link"):
        unpack_study(archive, tmp_path / "new")
    assert not any((tmp_path / "elsewhere").iterdir()) and len([*(tmp_path / "new").iterdir()]) == 1


def test_a_folder_without_runs_names_its_archive(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack_study(study)
    for run in study.glob("*-s*"):
        shutil.rmtree(run)
    code, printed = command(monkeypatch, capsys, study)
    assert code == 2 and f"its archive is {study}.zip" in printed
