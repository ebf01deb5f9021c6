"""The report and the command `python -m analysis` as a user runs it, on made-up studies."""

import cProfile
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

import analysis.__main__ as command
from ablate.config.paths import conf
from analysis import report
from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.figures.forest import judged_effects
from analysis.judged import named_claims
from analysis.records.study import Study, load
from analysis.report import draw_all, inputs_sha256, limits, write_report, write_tables
from tests.analysis.runs import change, layers_frame, write_run
from tests.tools import make_odd

CLAIMS = """
seeds: 3
claims:
  B:
    statement: clipping raises the accuracy
    quantity: test_accuracy
    scale: points
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: above
    smallest_effect: 3
    why: an example
"""


def analysis(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture
def judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m analysis <arguments>` in this process, with one figure only: a second instead of ten."""

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(report, "FIGURES", {name: report.FIGURES[name] for name in [*report.FIGURES][:1]})
        monkeypatch.setattr(sys, "argv", ["analysis", *arguments])
        monkeypatch.chdir(cwd)
        code = 0
        try:
            command.main()
        except SystemExit as end:
            code = end.code
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two arms × three seeds; clipping gains some 10 points."""
    folder = tmp_path / "outputs/mine"
    folder.mkdir(parents=True)
    for seed, gain in enumerate((0.1, 0.125, 0.1)):
        write_run(folder, {"clip": "none"}, seed=seed, accuracy=0.8)
        write_run(folder, {"clip": "fixed"}, seed=seed, accuracy=0.8 + gain)
    (tmp_path / "mine.yaml").write_text(CLAIMS)
    return folder


@pytest.fixture
def quick(study: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study, with one figure only."""
    monkeypatch.setattr(report, "FIGURES", {name: report.FIGURES[name] for name in [*report.FIGURES][:1]})
    return load(study)


def test_a_study_ends_in_a_report(study: Path) -> None:
    done = analysis("outputs/mine", "--claims", "mine.yaml", cwd=study.parents[1])
    assert done.returncode == 0, done.stderr
    assert "clipping raises the accuracy" in done.stdout and "supported" in done.stdout
    assert "6 runs were not started with this claims file" in done.stdout
    report = study / "report"
    (verdict,) = json.loads((report / "verdicts.json").read_text())
    assert (verdict["id"], verdict["verdict"], verdict["n"]) == ("B", "supported", 3)
    assert verdict["effect"] == pytest.approx(100 * (0.1 + 0.125 + 0.1) / 3)
    assert {path.suffix for path in (report / "figures").glob("forest.*")} == {".svg", ".pdf", ".png", ".csv"}
    assert pd.read_csv(report / "tables/summary.csv", keep_default_na=False)["arm"].tolist() == ["none", "fixed"]
    assert "\\toprule" in (report / "tables/summary.tex").read_text()
    assert len((study / "looks.jsonl").read_text().splitlines()) == 1


def test_it_is_written_again_only_when_its_inputs_change(quick: Study) -> None:
    study = quick.folder
    claims = read_claims(study.parents[1] / "mine.yaml")
    first = write_report(load(study), claims)
    before = {path: path.stat().st_mtime_ns for path in (study / "report").rglob("*") if path.is_file()}
    again = write_report(load(study), claims)
    assert (again.findings, again.left_out) == (first.findings, first.left_out)
    assert first.is_new and not again.is_new
    assert before == {path: path.stat().st_mtime_ns for path in (study / "report").rglob("*") if path.is_file()}
    inputs = inputs_sha256(load(study), claims)
    write_run(study, {"clip": "none"}, seed=3)
    assert inputs_sha256(load(study), claims) != inputs
    write_report(load(study), claims)
    assert before != {path: path.stat().st_mtime_ns for path in (study / "report").rglob("*") if path.is_file()}


def test_effects_for_the_forest_plot(study: Path) -> None:
    frame = judged_effects(judge_claims(load(study), read_claims(study.parents[1] / "mine.yaml")).findings)
    assert frame["id"].tolist() == ["B"]
    assert frame["low"][0] < frame["effect"][0] < frame["high"][0]
    assert frame["smallest_effect"][0] == 3


def test_figures_have_short_names_of_arms_and_their_numbers_the_labels(study: Path) -> None:
    loaded = load(study)
    (seeds,) = report.named_figures(loaded, ["seeds"])
    assert set(seeds.data["arm"]) == set(loaded.arms) == {"none", "fixed"}
    assert {"no clipping", "clipping at 1"} <= {text.get_text() for text in seeds.figure.axes[0].get_yticklabels()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["outputs/none"], "no study in outputs/none"),
        (["outputs/empty"], "outputs/empty has no finished run; 0 folders cannot be used"),
        (["outputs/mine", "--claims", "no.yaml"], "no.yaml"),
    ],
)
def test_errors_are_messages_with_exit_code_2(
    arguments: list[str], message: str, study: Path, judged: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (study.parent / "empty").mkdir()
    refused = judged(*arguments, cwd=study.parents[1])
    assert refused.returncode == 2
    assert message in refused.stderr and "Traceback" not in refused.stderr


# --- The claims file that the runs name ---


def write_named(folder: Path, *names: str | None) -> Study:
    for seed, name in enumerate(names):
        write_run(folder, seed=seed, claims={"name": name, "sha256": "0" * 64})
    return load(folder)


def test_a_claims_file_of_the_user_comes_before_one_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_named(tmp_path / "mine", "quick", "quick")
    assert named_claims(study) == Path(conf()) / "claims/quick.yaml"
    (tmp_path / "conf/claims").mkdir(parents=True)
    (tmp_path / "conf/claims/quick.yaml").touch()
    assert named_claims(study).resolve() == tmp_path / "conf/claims/quick.yaml"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("quick", "paper"), r"must name one claims file, but they name 2 claims files \(paper, quick\); choose one"),
        ((None,), "must name one claims file, but they name no claims file; choose one"),
        (("quik",), r"the claims file that the runs name is missing: .*quick.*--claims FILE"),
    ],
)
def test_a_claims_file_that_is_not_clear(names: tuple[str | None, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        named_claims(write_named(tmp_path / "mine", *names))


# --- What the runs cannot show ---


@pytest.mark.parametrize(
    ("arms", "seeds", "messages"),
    [
        (["fixed"], 3, ["the study has one arm only (none-fixed-none)"]),
        (["none", "fixed"], 1, ["the study has one seed only (0)"]),
        (["fixed"], 1, ["the study has one arm only (none-fixed-none)", "the study has one seed only (0)"]),
        (["none", "fixed"], 2, []),
    ],
)
def test_limits_of_one_arm_and_of_one_seed(tmp_path: Path, arms: list[str], seeds: int, messages: list[str]) -> None:
    for arm, seed in product(arms, range(seeds)):
        write_run(tmp_path, {"clip": arm}, seed=seed)
    assert [text.partition(":")[0] for text in limits(load(tmp_path))] == messages


def test_below_the_planned_seeds_differences_wait_and_a_peek_shows_them(
    study: Path, judged: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    claims = study.parents[1] / "mine.yaml"
    claims.write_text(CLAIMS.replace("seeds: 3", "seeds: 5"))
    waiting = judged("outputs/mine", "--claims", "mine.yaml", cwd=study.parents[1])
    assert waiting.returncode == 0, waiting.stderr
    assert "ablation: 3 seeds of 5 planned: until then only means are shown" in " ".join(waiting.stdout.split())
    assert not (study / "report/tables/ablation.csv").exists() and not (study / "looks.jsonl").read_text()
    peeked = judged("outputs/mine", "--claims", "mine.yaml", "--peek", cwd=study.parents[1])
    assert peeked.returncode == 0, peeked.stderr
    assert (study / "report/tables/ablation.csv").exists()
    assert [json.loads(line)["kind"] for line in (study / "looks.jsonl").read_text().splitlines()] == ["peek"]
    assert "effects were shown with 3 seeds, before the plan" in (study / "report/index.html").read_text()


def test_a_study_of_one_seed_has_a_report_that_says_what_is_missing(
    tmp_path: Path, judged: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for arm in ("none", "fixed"):
        write_run(tmp_path / "outputs/mine", {"clip": arm})
    done = judged("outputs/mine", "--claims", str(Path(conf()) / "claims/quick.yaml"), cwd=tmp_path)
    assert done.returncode == 0 and "seed=" in done.stdout
    assert "not tested" in done.stdout and (tmp_path / "outputs/mine/report/index.html").exists()


# --- Processes and imports ---


def test_the_command_needs_no_torch() -> None:
    code = "import sys, analysis.__main__; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, findings = load(study), ()
    alone = draw_all(loaded, findings, study / "alone")
    monkeypatch.setattr(report, "MANY_ARMS", 2)
    monkeypatch.setattr(report, "may_start_processes", lambda: True)
    assert draw_all(loaded, findings, study / "both") == alone
    drawn = sorted(path.name for path in (study / "alone").iterdir())
    assert len(drawn) > 20
    for name in drawn:
        assert (study / "both" / name).read_bytes() == (study / "alone" / name).read_bytes(), name


# --- Growth ---


def calls_of_a_report(folder: Path, arms: int) -> int:
    """Number of function calls that judging and tables take for two seeds and twice as many confounded arms."""
    for i, (clip, optimizer) in product(range(arms), (("none", "adamw"), ("fixed", "sgd"))):
        settings = {"optimizer": {"lr": 1.0 + i}}
        write_run(folder, {"clip": clip, "optimizer": optimizer}, settings, frames={"layers.parquet": layers_frame(0)})
    (folder.parent / "mine.yaml").write_text(CLAIMS)
    study, claims = load(folder), read_claims(folder.parent / "mine.yaml")
    with cProfile.Profile() as profile:
        findings = judge_claims(study, claims).findings
        write_tables(study, claims, findings, folder / "tables")
    assert "the arms differ in settings" in findings[0].notes[0]
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.slow
def test_twice_the_arms_are_twice_the_work(tmp_path: Path) -> None:
    calls_of_a_report(tmp_path / "first", 2)  # what is done once
    some, twice, fourfold = (calls_of_a_report(tmp_path / f"{arms}", arms) for arms in (15, 30, 60))
    assert fourfold - twice < 2.3 * (twice - some)


# --- Damage ---


DAMAGES = (
    ("index.html", "deleted"),
    ("index.html", "edited"),
    ("index.html", "a fifo"),
    ("inputs.sha256", "edited"),
    ("inputs.sha256", "not text"),
    ("inputs.sha256", "a fifo"),
    ("left_out.json", "not text"),
    ("tables/summary.csv", "edited"),
)


@pytest.mark.slow
def test_a_deleted_or_damaged_file_of_the_report_is_written_again(quick: Study) -> None:
    claims = read_claims(quick.folder.parents[1] / "mine.yaml")
    write_report(quick, claims)
    for name, damage in DAMAGES:
        path = quick.folder / "report" / name
        good = path.read_bytes()
        path.unlink()
        if damage == "edited":
            path.write_bytes(good[:-3])
        elif damage == "not text":
            path.write_bytes(b"\xff\xfe\x00")
        elif damage == "a fifo":
            make_odd(path, "fifo")
        assert write_report(quick, claims).is_new, (name, damage)
        assert path.read_bytes() == good, (name, damage)
        assert not write_report(quick, claims).is_new, (name, damage)


def test_a_stamp_that_cannot_be_written_costs_no_report(quick: Study) -> None:
    claims = read_claims(quick.folder.parents[1] / "mine.yaml")
    (quick.folder / "report/inputs.sha256").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"inputs.sha256 cannot be written"):
        assert write_report(quick, claims).is_new
    assert (quick.folder / "report/index.html").exists()


PLACES = {
    "report/index.html": "Is a directory",
    "report/verdicts.json": "Is a directory",
    "report/tables/summary.csv": "Is a directory",
    "report/figures/forest.svg": "Is a directory",
    "report/tables": "File exists",
}


@pytest.mark.parametrize("place", PLACES)
def test_something_else_in_the_place_of_a_file_or_folder(
    place: str, quick: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The findings are shown, the message names the place, and what is there stays."""
    path, root = quick.folder / place, quick.folder.parents[1]
    if PLACES[place] == "File exists":
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    else:
        path.mkdir(parents=True)
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["analysis", "outputs/mine", "--claims", "mine.yaml"])
    with pytest.raises(SystemExit) as end:
        command.main()
    shown = capsys.readouterr().out
    assert end.value.code == 2
    assert f"no report could be written: outputs/mine/{place} cannot be written: {PLACES[place]}" in shown
    assert "supported" in shown
    assert path.is_dir() if PLACES[place] == "Is a directory" else path.read_text() == "mine"
    assert [found.name for found in quick.folder.rglob(".*") if found.is_dir()] == []  # no temporary folder


def test_the_stamp_covers_run_json(study: Path) -> None:
    claims = read_claims(study.parents[1] / "mine.yaml")
    before = inputs_sha256(load(study), claims)
    folder = sorted(study.iterdir())[0]
    content = json.loads((folder / "run.json").read_text())
    change(folder, metrics=content["metrics"] | {"test_loss": 0.5})
    assert inputs_sha256(load(study), claims) != before
