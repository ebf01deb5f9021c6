"""The same command again, in another order, another folder, with other data, in another environment."""

import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness import (
    COMMON,
    FIXTURE,
    SWEEP,
    ablate,
    attempts,
    differences,
    output,
    record,
    resumed_from,
    run_of,
    runs,
    snapshot,
    the_run,
)
from tests.faults.injection import at_step, fail, in_write, kill, send
from tests.faults.models import save_model

TWO_THREADS = (*FIXTURE, "trainer.threads=2")


def copy_of(undisturbed: Path, cwd: Path) -> Path:
    """Copy the finished run to another working directory; return its folder."""
    shutil.copytree(undisturbed / "outputs", cwd / "outputs")
    return the_run(cwd)


def snapshots(cwd: Path) -> dict[str, dict]:
    return {name: snapshot(folder) for name, folder in runs(cwd).items()}


@pytest.mark.parametrize("arguments", [FIXTURE, SWEEP], ids=["run", "sweep"])
def test_row_12_finished_sweep_again(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert ablate(tmp_path, *arguments) == 0
    before = snapshots(tmp_path)
    assert ablate(tmp_path, *arguments) == 0
    assert "done already" in output(tmp_path)
    assert output(tmp_path).count("test accuracy") == 2  # the table, both times
    assert snapshots(tmp_path) == before


def test_row_13_other_order_one_more_one_twice(tmp_path: Path) -> None:
    assert ablate(tmp_path, "-m", *COMMON, "clip.start=20,8") == 0
    before = snapshots(tmp_path)
    assert ablate(tmp_path, "-m", *COMMON, "clip.start=8,1,20,1") == 0
    after = snapshots(tmp_path)
    assert after.keys() - before.keys() == {run_of(tmp_path, 1).name}
    assert attempts(run_of(tmp_path, 1)) == 1
    assert {name: after[name] for name in before} == before


def test_row_14_two_folders(tmp_path: Path, undisturbed: Path) -> None:
    assert ablate(tmp_path, *FIXTURE) == 0
    assert differences(tmp_path, undisturbed) == []


def test_row_14_alone_or_after_others(undisturbed: Path, undisturbed_sweep: Path) -> None:
    """After other runs it forks from one of them."""
    assert record(the_run(undisturbed))["forked_from"] is None
    assert record(run_of(undisturbed_sweep, 8))["forked_from"] is not None
    assert differences(the_run(undisturbed), run_of(undisturbed_sweep, 8)) == []


def test_row_14_after_runs_of_another_kind(tmp_path: Path, undisturbed: Path) -> None:
    """Precision, threads and random streams of one run do not leak into another run of the same process."""
    assert ablate(tmp_path, "-m", "trainer.precision=bf16,fp32", "seed=1,0", *FIXTURE) == 0
    name = the_run(undisturbed).name
    assert len(runs(tmp_path)) == 4
    assert differences(runs(tmp_path)[name], the_run(undisturbed)) == []


# Row 15: another experiment is another run


def write_reviews(path: Path, edited: bool = False) -> None:
    rows = [f"{word} film number {i},{label}" for i in range(110) for label, word in enumerate(("dull", "fine"))]
    if edited:
        rows[7] = rows[7].removesuffix("1") + "0"
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")


FILES = (*COMMON, "clip.start=8", "data=files", "data.files.train=reviews.csv", "data.files.test=null")
FILES = tuple(argument for argument in FILES if argument != "data=synthetic")


def raise_numerics() -> None:
    from ablate import experiment

    experiment.NUMERICS += 1


def test_row_15_one_label_changed(tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv")
    assert ablate(tmp_path, *FILES) == 0
    before = snapshots(tmp_path)
    write_reviews(tmp_path / "reviews.csv", edited=True)
    assert ablate(tmp_path, *FILES) == 0
    assert len(runs(tmp_path)) == 2
    assert {name: snapshots(tmp_path)[name] for name in before} == before
    write_reviews(tmp_path / "reviews.csv")
    assert ablate(tmp_path, *FILES) == 0  # the first again: done
    assert len(runs(tmp_path)) == 2


def test_row_15_the_same_data_elsewhere_is_the_same_run(tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv")
    assert ablate(tmp_path, *FILES) == 0
    (tmp_path / "reviews.csv").rename(tmp_path / "moved.csv")
    assert ablate(tmp_path, *FILES, "data.files.train=moved.csv") == 0
    assert len(runs(tmp_path)) == 1


def test_row_15_numerics_version_raised(tmp_path: Path, undisturbed: Path) -> None:
    old = copy_of(undisturbed, tmp_path)
    before = snapshot(old)
    assert ablate(tmp_path, *FIXTURE, fault=raise_numerics) == 0
    assert len(runs(tmp_path)) == 2
    assert snapshot(old) == before


def test_row_15_one_weight_changed(tmp_path: Path) -> None:
    command = (*[a for a in FIXTURE if not a.startswith("model")], "model.path=mine")
    save_model(tmp_path / "mine")
    assert ablate(tmp_path, *command) == 0
    assert ablate(tmp_path, *command) == 0
    assert len(runs(tmp_path)) == 1
    save_model(tmp_path / "mine", scale=1.5)
    assert ablate(tmp_path, *command) == 0
    assert len(runs(tmp_path)) == 2


# Row 20: another environment


def killed_at_12(cwd: Path) -> Path:
    assert ablate(cwd, *FIXTURE, fault=partial(at_step, 12, kill)) == -signal.SIGKILL
    return the_run(cwd)


def test_row_20_other_threads_start_anew(tmp_path: Path) -> None:
    folder = killed_at_12(tmp_path)
    assert ablate(tmp_path, *TWO_THREADS) == 0
    assert f"{folder.name}: the checkpoint was made with other threads" in output(tmp_path)
    assert resumed_from(folder) is None
    assert record(folder)["environment"]["threads"] == 2


def test_row_20_resume_any_goes_on_and_says_so(tmp_path: Path, undisturbed: Path) -> None:
    folder = killed_at_12(tmp_path)
    assert ablate(tmp_path, *TWO_THREADS, "trainer.resume=any") == 0
    assert resumed_from(folder) == 10
    assert record(folder)["environment"]["threads"] == 2
    (earlier,) = record(folder)["environment"]["earlier"]
    assert earlier["threads"] == 1
    assert earlier["key"] == record(the_run(undisturbed))["environment"]["key"]


def test_row_20_earlier_environments_outlive_further_stops(tmp_path: Path) -> None:
    folder = killed_at_12(tmp_path)
    stop = partial(at_step, 17, partial(send, signal.SIGTERM))
    assert ablate(tmp_path, *TWO_THREADS, "trainer.resume=any", fault=stop) == 75
    assert ablate(tmp_path, *TWO_THREADS) == 0  # the same environment as its checkpoint's
    assert resumed_from(folder) == 17
    assert [earlier["threads"] for earlier in record(folder)["environment"]["earlier"]] == [1]


def test_row_20_finished_runs_stay(tmp_path: Path, undisturbed: Path) -> None:
    before = snapshot(copy_of(undisturbed, tmp_path))
    assert ablate(tmp_path, *TWO_THREADS) == 0
    assert snapshot(the_run(tmp_path)) == before


# rerun=true


def test_rerun_does_it_again(tmp_path: Path, undisturbed: Path) -> None:
    folder = copy_of(undisturbed, tmp_path)
    assert ablate(tmp_path, *FIXTURE, "rerun=true") == 0
    assert resumed_from(folder) is None
    assert (folder / "steps.parquet").stat().st_ino != (the_run(undisturbed) / "steps.parquet").stat().st_ino
    assert differences(tmp_path, undisturbed) == []
    assert [path.name for path in runs(tmp_path).values()] == [folder.name]
    assert not list(tmp_path.glob("outputs/faults/.rerun/*"))


def test_rerun_keeps_the_old_until_the_new_is_done(tmp_path: Path, undisturbed: Path) -> None:
    folder = copy_of(undisturbed, tmp_path)
    before = record_files(folder)
    assert ablate(tmp_path, *FIXTURE, "rerun=true", fault=partial(at_step, 12, kill)) == -signal.SIGKILL
    assert record_files(folder) == before
    assert ablate(tmp_path, *FIXTURE) == 0  # without rerun: done
    assert record_files(folder) == before
    assert ablate(tmp_path, *FIXTURE, "rerun=true") == 0
    assert resumed_from(folder) == 10  # the same command continues it
    assert record_files(folder) != before
    assert differences(tmp_path, undisturbed) == []


@pytest.mark.parametrize("again", [("rerun=true",), ()], ids=["rerun", "plain"])
def test_rerun_killed_while_it_takes_the_old_ones_place(
    tmp_path: Path, undisturbed: Path, again: tuple[str, ...]
) -> None:
    folder = copy_of(undisturbed, tmp_path)
    assert ablate(tmp_path, *FIXTURE, "rerun=true", fault=kill_in_mid_move) == -signal.SIGKILL
    assert list(tmp_path.glob("outputs/faults/.rerun/*/run.json"))
    assert ablate(tmp_path, *FIXTURE, *again) == 0
    assert not list(tmp_path.glob("outputs/faults/.rerun/*"))
    assert attempts(folder) == 1  # run.log is the rerun's: it was not done a second time
    assert differences(tmp_path, undisturbed) == []


def kill_in_mid_move() -> None:
    """Kill the command after the rerun, at the third file that replaces an old one."""
    import os

    from ablate.run import job

    moved = []

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def replace(self, source: Path, target: Path) -> None:
            moved.append(target)
            if len(moved) == 3:
                kill()
            os.replace(source, target)

    job.os = Counting()  # type: ignore[assignment]


def test_rerun_killed_between_done_and_the_move(tmp_path: Path, undisturbed: Path) -> None:
    folder = copy_of(undisturbed, tmp_path)
    fault = partial(in_write, "run.json", "moved", kill, 2)
    assert ablate(tmp_path, *FIXTURE, "rerun=true", fault=fault) == -signal.SIGKILL
    assert ablate(tmp_path, *FIXTURE, "rerun=true") == 0
    assert attempts(folder) == 1
    assert differences(tmp_path, undisturbed) == []


def test_rerun_that_fails_is_a_failure(tmp_path: Path, undisturbed: Path) -> None:
    folder = copy_of(undisturbed, tmp_path)
    before = record_files(folder)
    assert ablate(tmp_path, *FIXTURE, "rerun=true", fault=partial(at_step, 8, fail)) == 1
    assert f"failed: {folder.name}: RuntimeError: a fault of the test" in output(tmp_path)
    assert record_files(folder) == before
    assert ablate(tmp_path, *FIXTURE) == 0  # the old records still count


def record_files(folder: Path) -> dict[str, bytes]:
    """A run's files as they are, but for the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
