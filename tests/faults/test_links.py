"""Nothing is written or deleted through a link, and nothing is deleted that does not have a name of ours."""

from pathlib import Path

import pytest

from ablate.data import token_cache
from ablate.files.atomic import remove_files, remove_leftovers, write_together
from ablate.sweep.preflight import check_tracker_folder
from ablate.tracker import WandB
from tests.faults.harness import FIXTURE, SWEEP, ablate, output, snapshot, the_run

IN_STUDY = [".shared", ".rerun", "report", "looks.jsonl", ".submitit", "multirun.yaml", ".claims"]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A user's own folder and file."""
    folder = tmp_path / "foreign"
    (folder / "thesis").mkdir(parents=True)
    (folder / "thesis/chapter.tex").write_text("years of work")
    (folder / "plan.json").write_text("{}")
    return folder


def check_refused(cwd: Path, foreign: Path, link: Path, arguments: tuple[str, ...]) -> None:
    before = snapshot(foreign)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(foreign if link.suffix not in (".jsonl", ".yaml", ".log", ".lock") else foreign / "plan.json")
    assert ablate(cwd, *arguments) == 2
    assert f"{link.relative_to(cwd)} must not be a link" in output(cwd)
    assert snapshot(foreign) == before


@pytest.mark.parametrize("arguments", [FIXTURE, SWEEP], ids=["run", "sweep"])
@pytest.mark.parametrize("name", IN_STUDY)
def test_a_link_in_the_studys_folder(tmp_path: Path, foreign: Path, name: str, arguments: tuple[str, ...]) -> None:
    check_refused(tmp_path, foreign, tmp_path / "outputs/faults" / name, arguments)


@pytest.mark.parametrize("name", ["", "run.log", ".lock"])
def test_a_link_in_place_of_a_run_or_in_it(tmp_path: Path, foreign: Path, undisturbed: Path, name: str) -> None:
    check_refused(tmp_path, foreign, tmp_path / "outputs/faults" / the_run(undisturbed).name / name, FIXTURE)


def test_a_link_in_place_of_a_rerun(tmp_path: Path, foreign: Path, undisturbed: Path) -> None:
    link = tmp_path / "outputs/faults/.rerun" / the_run(undisturbed).name
    check_refused(tmp_path, foreign, link, (*FIXTURE, "rerun=true"))


@pytest.mark.parametrize("name", ["", "run"])
def test_a_link_in_place_of_a_trackers_folder(tmp_path: Path, foreign: Path, undisturbed: Path, name: str) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "outputs/faults/.tensorboard"
    link = folder / the_run(undisturbed).name if name else folder
    check_refused(tmp_path, foreign, link, (*FIXTURE, "tracker=tensorboard"))


@pytest.mark.parametrize("name", ["", "wandb"])
def test_the_folders_of_wandb(tmp_path: Path, foreign: Path, name: str) -> None:
    folder = tmp_path / ".wandb"
    check_tracker_folder(WandB("ablate", "offline", str(folder)), "run")
    if name:
        folder.mkdir()
    (folder / name).symlink_to(foreign)
    with pytest.raises(ValueError, match="must not be a link"):
        check_tracker_folder(WandB("ablate", "offline", str(folder)), "run")


def test_a_trackers_folder_that_leaves_outputs(tmp_path: Path, foreign: Path) -> None:
    """By a link or by "..". A folder elsewhere is the user's choice."""
    pytest.importorskip("tensorboard")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/other").symlink_to(foreign)
    before = snapshot(foreign)
    for place in ("outputs/other/events", f"outputs/../{foreign.name}/events"):
        assert ablate(tmp_path, *FIXTURE, "tracker=tensorboard", f"tracker.folder={place}") == 2
        assert f"tracker.folder must be a folder inside outputs/, but it leads to {foreign}" in output(tmp_path)
    assert snapshot(foreign) == before
    assert ablate(tmp_path, *FIXTURE, "tracker=tensorboard", "tracker.folder=events") == 0
    assert list(tmp_path.glob("events/*/events.out.*"))


def test_files_of_the_users_among_the_snapshots_stay(tmp_path: Path) -> None:
    """Although the sweep removes its own snapshots, and their folder if it is empty."""
    own = tmp_path / "outputs/faults/.shared/thesis/chapter.tex"
    own.parent.mkdir(parents=True)
    own.write_text("years of work")
    assert ablate(tmp_path, *SWEEP) == 0
    assert "fork" in output(tmp_path)  # the control: there were snapshots
    assert [str(path) for path in own.parents[1].rglob("*") if path.is_file()] == [str(own)]


def test_the_token_cache_as_a_link(tmp_path: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(token_cache, "LIMIT", 0)
    place = token_cache.folder()
    place.parent.mkdir(parents=True)
    place.symlink_to(foreign)
    before = snapshot(foreign)
    token_cache.store_entry("0" * 64, {})
    assert snapshot(foreign) == before


def test_files_of_the_users_in_the_token_cache_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(token_cache, "LIMIT", 0)
    place = token_cache.folder()
    place.mkdir(parents=True)
    own = place / "chapter.tex"
    own.write_text("years of work")
    (place / f".{'1' * 64}.17.tmp").touch()  # of a killed writer
    token_cache.store_entry("0" * 64, {})
    assert list(place.iterdir()) == [own]  # our entry, beyond the limit, is gone


def test_only_our_names_are_removed(tmp_path: Path, foreign: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    for name in (".mine.tmp", ".run.json.17.tmp", "plan.json"):
        (ours / name).touch()
    remove_leftovers(ours)
    assert sorted(path.name for path in ours.iterdir()) == [".mine.tmp", "plan.json"]
    remove_files(ours, "plan.json")
    assert [path.name for path in ours.iterdir()] == [".mine.tmp"]
    (ours / ".mine.tmp").unlink()
    remove_files(ours)
    assert not ours.exists()
    ours.symlink_to(foreign)
    remove_files(ours, "plan.json")
    assert (foreign / "plan.json").exists()
    with pytest.raises(ValueError, match="must not be a link"):
        write_together(ours, {"plan.json": b""})
