"""Bad input, one command each: exit code 2, a helpful message, no files. More of it: tests/sweep/test_sweep.py."""

from pathlib import Path

import pytest

from tests.faults.harness import COMMON, FIXTURE, ablate, differences, output, record, runs, the_run
from tests.tools import ablate_as_user as ablate_as_a_user

REVIEWS = [f"{word} film number {i},{label}" for i in range(30) for label, word in enumerate(("dull", "fine"))]
FILES = (*[argument for argument in FIXTURE if not argument.startswith("data")], "data=files",
         "data.files.train=train.csv", "data.files.test=test.csv")  # fmt: skip


def refused(cwd: Path, *arguments: str, said: tuple[str, ...]) -> None:
    """The command exits with 2, prints these words, and creates no file."""
    before = {path for path in cwd.rglob("*") if path.name != "output.txt"}
    assert ablate(cwd, *arguments) == 2, output(cwd)
    for words in said:
        assert words in output(cwd)
    assert "Traceback" not in output(cwd)
    assert {path for path in cwd.rglob("*") if path.name != "output.txt"} == before


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("trainer.stesp=1", ("trainer.stesp", "did you mean steps")),
        ("clip=fixd", ("clip/fixd", "did you mean fixed")),
        ("data=files", ("data.files.train is missing", "data.files.train=<value>")),
    ],
)
def test_row_21_unknown_or_missing(tmp_path: Path, argument: str, said: tuple[str, ...]) -> None:
    refused(tmp_path, argument, said=said)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("trainer.steps=1.5", ("trainer.steps must be", "a whole number")),
        ("optimizer.lr=abc", ("optimizer.lr must be", "a number")),
    ],
)
def test_row_22_wrong_type(tmp_path: Path, argument: str, said: tuple[str, ...]) -> None:
    refused(tmp_path, *FIXTURE, argument, said=said)


@pytest.mark.parametrize(
    ("argument", "allowed"),
    [
        ("clip.start=0", "a step, at least 1"),
        ("clip.rule.threshold=0", "a finite number above 0"),
        ("optimizer.lr=0", "above 0"),
        ("optimizer.lr=nan", "above 0"),
        ("trainer.steps=0", "at least 1"),
        ("scheduler.warmup=1.5", "from 0 to 1"),
        ("scheduler.horizon=0.5", "at least 1"),
    ],
)
def test_row_23_out_of_range(tmp_path: Path, argument: str, allowed: str) -> None:
    refused(tmp_path, *FIXTURE, argument, said=(f"{argument.partition('=')[0]} must be", allowed))


@pytest.mark.slow
def test_row_24_the_last_of_a_thousand(tmp_path: Path) -> None:
    """Two arms, of which the second is bad, on 500 seeds: it is found before the first run starts."""
    seeds = ",".join(map(str, range(500)))
    refused(tmp_path, "-m", *COMMON, "clip.start=8,0", f"seed={seeds}", said=("clip.start must be", "at least 1"))


def unreachable_hub() -> None:
    from huggingface_hub import constants

    constants.ENDPOINT = "http://127.0.0.1:9"


def test_row_25_no_such_model(tmp_path: Path) -> None:
    model = tuple(argument for argument in FIXTURE if not argument.startswith("model"))
    refused(tmp_path, *model, "model.path=no/such/folder", said=("model.path must be", "no/such/folder"))
    assert ablate(tmp_path, *model, "model.path=nobody/nothing", fault=unreachable_hub) == 2
    for words in ("model.path must be", "nobody/nothing", "the hub", "model.path=<path>"):
        assert words in output(tmp_path)
    (tmp_path / "empty").mkdir()
    refused(
        tmp_path,
        *model,
        "model.path=empty",
        said=("model.path must be", "got empty", "has no config.json", "safetensors"),
    )


def write_csv(path: Path, rows: list[str], header: str = "text,label") -> None:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (REVIEWS, "text,stars", ("train.csv", "label", "stars")),
        ([*REVIEWS, "no label,"], "text,label", ("train.csv", "row 61", "label")),
        ([*REVIEWS, "half a star,0.5"], "text,label", ("train.csv", "row 61", "0.5")),
        ([*REVIEWS, "beyond,7"], "text,label", ("train.csv", "row 61", "7")),
        ([row for row in REVIEWS if row.endswith("1")], "text,label", ("train.csv", "two classes")),
        ([], "text,label", ("train.csv", "no rows")),
    ],
    ids=["column", "missing label", "float label", "gap in labels", "one class", "empty"],
)
def test_row_26_bad_data(tmp_path: Path, rows: list[str], header: str, said: tuple[str, ...]) -> None:
    write_csv(tmp_path / "train.csv", rows, header)
    write_csv(tmp_path / "test.csv", REVIEWS)
    refused(tmp_path, *FILES, said=said)


def test_row_26_odd_but_good_data(tmp_path: Path) -> None:
    """A byte order mark is not part of the text; the command warns of texts that are cut."""
    write_csv(tmp_path / "train.csv", REVIEWS, "\ufefftext,label")
    write_csv(tmp_path / "test.csv", [f"new {REVIEWS[0]}", f"new {'long ' * 200},1"])
    assert ablate(tmp_path, *FILES) == 0
    assert "1 of 2 test texts are longer than data.max_length=128 tokens and were cut" in output(tmp_path)


# Row 42: habits of Hydra's users, and odd environments


@pytest.mark.parametrize("mode", [(), ("-m",)], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("~clip", ("clip must not be removed", "clip=none")),
        ("clip=[none,fixed]", ("clip must be the name of one option", "-m clip=a,b")),
        ("study=true", ("study must be a name", "got True")),
        ("study=null", ("study must be a name", "got null")),
        ("study=1.5", ("study must be a name", "got 1.5")),
        (f"study={'x' * 300}", ("study must be a name of at most 200 bytes",)),
        (f"seed={'9' * 300}", ("seed must be a whole number from 0 to 2^63 - 1",)),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_row_42_habits_of_hydra_users(
    tmp_path: Path, mode: tuple[str, ...], argument: str, said: tuple[str, ...]
) -> None:
    for plan in ((), ("plan=true",)):
        refused(tmp_path, *mode, *COMMON, *plan, argument, said=said)


def test_row_42_a_study_called_by_a_number(tmp_path: Path, undisturbed: Path) -> None:
    assert ablate(tmp_path, *FIXTURE, "study=2024", "tracker=tensorboard") == 0
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["2024"]


@pytest.mark.parametrize(
    ("variable", "value"), [("PYTHONOPTIMIZE", "1"), ("PYTHONOPTIMIZE", "2"), ("WORLD_SIZE", "x"), ("RANK", "1")]
)
def test_row_42_odd_environments(tmp_path: Path, variable: str, value: str) -> None:
    done = ablate_as_a_user("-m", *FIXTURE, "seed=range(2)", cwd=tmp_path, **{variable: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {variable} must be")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# Row 32: nothing is written outside outputs/


@pytest.mark.parametrize("study", ["../../x", "../x", "a/../../../x", "{cwd}/elsewhere", ".", "..", "''", "a b"])
@pytest.mark.parametrize("mode", [(), ("-m",)], ids=["run", "sweep"])
def test_row_32_study_that_leads_out(tmp_path: Path, mode: tuple[str, ...], study: str) -> None:
    cwd = tmp_path / "in" / "here"
    cwd.mkdir(parents=True)
    refused(cwd, *mode, *FIXTURE, f"study={study.format(cwd=tmp_path)}", said=("study must be",))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["here"]


def test_row_32_links_that_lead_out(tmp_path: Path, undisturbed: Path) -> None:
    cwd, outside = tmp_path / "here", tmp_path / "outside"
    (cwd / "outputs").mkdir(parents=True)
    outside.mkdir()
    (cwd / "outputs/faults").symlink_to(outside)
    refused(cwd, *FIXTURE, said=("study must be", str(outside)))
    (cwd / "outputs/faults").unlink()
    run = cwd / "outputs/faults" / the_run(undisturbed).name
    run.parent.mkdir()
    run.symlink_to(outside)
    refused(cwd, *FIXTURE, said=(run.name, str(outside)))
    assert list(outside.iterdir()) == []


def test_row_32_outputs_itself_may_be_a_link(tmp_path: Path, undisturbed: Path) -> None:
    """To a larger disk, say."""
    cwd, disk = tmp_path / "here", tmp_path / "disk"
    cwd.mkdir()
    disk.mkdir()
    (cwd / "outputs").symlink_to(disk)
    assert ablate(cwd, *FIXTURE) == 0
    assert differences(cwd, undisturbed) == []


@pytest.mark.parametrize(
    ("mode", "setting"),
    [
        ((), "hydra.run.dir=../x"),
        (("-m",), "hydra.sweep.dir=../x"),
        (("-m",), "hydra.sweep.subdir=../../../x"),
        ((), "hydra.job.chdir=true"),
    ],
)
def test_row_32_hydras_own_folders(tmp_path: Path, mode: tuple[str, ...], setting: str) -> None:
    cwd = tmp_path / "here"
    cwd.mkdir()
    refused(cwd, *mode, *FIXTURE, setting, said=(setting.partition("=")[0], "must be"))
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_row_32_option_names_in_a_runs_name(tmp_path: Path) -> None:
    """A user's option file may be called anything: the folder's name has safe characters only."""
    (tmp_path / "conf/clip").mkdir(parents=True)
    (tmp_path / "conf/clip/a %$b.yaml").write_text("_target_: ablate.clip.Fixed\nthreshold: 1.0\n")
    plain = [argument for argument in COMMON if not argument.startswith("clip")]
    assert ablate(tmp_path, *plain, "hydra.searchpath=[file://conf]", "clip='a %$b'") == 0
    (name,) = runs(tmp_path)
    assert "clip=a...b-" in name
    assert record(the_run(tmp_path))["factors"]["clip"]["option"] == "a %$b"
