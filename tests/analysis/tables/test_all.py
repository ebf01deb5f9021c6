"""The tables of a report on made-up factorials with known effects, against numbers worked out with numpy and scipy."""

import io
import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.claims.judge import judge_claims
from analysis.claims.reading import read_claims
from analysis.quantities.measure import measure
from analysis.records.study import load
from analysis.tables.all import report_tables
from analysis.tables.controls import aa_effects
from analysis.tables.formats import LeftOut, Table, to_csv, to_latex, to_markdown
from analysis.tables.numbers import DASH
from tests.analysis.runs import Truth, change, write_known, write_run
from tests.analysis.studies import FROZEN, MINIMAL, PAPER, write_two, written

SEEDS = 7
LEVELS = (("none", FROZEN), ("none", "fixed"), ("none", "warmup_linear"))
GRID_QUESTION = """
    within: {optimizer.lr: 1e-4}
    beside:
      - {statement: the range, quantity: learned, scale: points, contrast: grid_mean,
         over: {optimizer.lr: [1e-4, 2e-4, 4e-4]}}
"""
NAMES = ("ablation", "accuracy", "factorial", "roles", "anova_accuracy", "anova_jitter", "attribution", "controls")


@dataclass(frozen=True)
class Made:
    """A study in `folder`; `accuracy` and `jitter` (seeds, freeze, clip, scheduler), off before on."""

    folder: Path
    accuracy: np.ndarray
    jitter: np.ndarray


def write_factorial(folder: Path, accuracy: np.ndarray) -> None:
    """2 × 2 × 2 with these accuracies (seeds, 2, 2, 2), and delayed clipping beside, frozen and scheduled."""
    for seed, cell in product(range(len(accuracy)), np.ndindex(2, 2, 2)):
        freeze, clip, scheduler = (levels[on] for levels, on in zip(LEVELS, cell, strict=True))
        frozen = freeze == FROZEN
        truth = Truth(
            accuracy=float(accuracy[(seed, *cell)]),
            probe_noise=0.02 * (0.5 if cell[1] else 1) * (0.8 if cell[2] else 1),
            slowness=60 * (0.7 if cell[2] else 1) + seed,
            ratio=0.25 if frozen else 1.0,
        )
        write_known(
            folder,
            {"freeze": freeze, "clip": clip, "scheduler": scheduler},
            truth,
            seed=seed,
            run=f"{freeze}-{clip}-{scheduler}-s{seed}",
            memory_bytes={
                "weights": 4_000_000,
                "gradients": 1_000_000 if frozen else 4_000_000,
                "optimizer": 2_000_000 if frozen else 8_000_000,
            },
        )
    for seed in range(len(accuracy)):
        write_known(
            folder, {"clip": "delayed", "scheduler": "warmup_linear"}, Truth(), seed=seed, run=f"delayed-s{seed}"
        )


def accuracies(seeds: int = SEEDS) -> np.ndarray:
    """.75 + .01 F + .02 C + .03 S + .06 FCS, a seed's part that all its cells share, and a little of each cell's."""
    draw = np.random.default_rng(5)
    freeze, clip, scheduler = np.indices((2, 2, 2))
    truth = 0.75 + 0.01 * freeze + 0.02 * clip + 0.03 * scheduler + 0.06 * freeze * clip * scheduler
    return truth + draw.normal(0, 0.02, (seeds, 1, 1, 1)) + draw.normal(0, 0.002, (seeds, 2, 2, 2))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder, values = tmp_path_factory.mktemp("made") / "study", accuracies()
    write_factorial(folder, values)
    measured = measure(load(folder), ["probe_jitter"]).values["probe_jitter"]
    jitter = np.empty_like(values)
    for seed, cell in product(range(SEEDS), np.ndindex(2, 2, 2)):
        options = [levels[on] for levels, on in zip(LEVELS, cell, strict=True)]
        jitter[(seed, *cell)] = measured[f"{'-'.join(options)}-s{seed}"]
    return Made(folder, values, jitter)


@pytest.fixture(scope="module")
def tables(made) -> dict[str, Table | LeftOut]:
    return of(made.folder)


def of(folder: Path, claims: Path = PAPER, only: Collection[str] | None = None) -> dict[str, Table | LeftOut]:
    study, read = load(folder, only), read_claims(claims)
    return {item.name: item for item in report_tables(study, read, judge_claims(study, read, peek=True).findings)}


def runs(made: Made, seeds: int) -> set[str]:
    """Names of the runs of the first so many seeds."""
    return {path.name for path in made.folder.iterdir() if int(path.name.rpartition("-s")[2]) < seeds}


def interval(values: np.ndarray) -> tuple[float, float]:
    return stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))


def test_a_whole_study_has_all_tables_in_words_too(tables):
    assert tuple(tables) == NAMES
    assert isinstance(tables["controls"], LeftOut)
    for table in (tables[name] for name in NAMES if name != "controls"):
        assert len(table.words) == len(table.numbers)
        assert all(isinstance(cell, str) and cell for cell in table.words.to_numpy().ravel())
        assert all(name.replace("_", "").isalnum() and name.islower() for name in table.numbers)
        back = pd.read_csv(io.StringIO(to_csv(table.numbers)), keep_default_na=False, na_values=[""])
        pd.testing.assert_frame_equal(back, table.numbers, check_dtype=False, rtol=1e-15)


def test_accuracy_before_and_after(made, tables):
    numbers = tables["accuracy"].numbers
    none, full = made.accuracy[:, 0, 0, 0], made.accuracy[:, 1, 1, 1]
    before, after, base, both = (row for _, row in numbers.iterrows())
    assert before["test_accuracy"] == pytest.approx(none.mean())
    assert before["test_accuracy_sd"] == pytest.approx(none.std(ddof=1))
    assert (after["n"], after["unlearned"]) == (SEEDS, 0)
    assert after["difference"] == pytest.approx(100 * (after["test_accuracy"] - before["test_accuracy"]))
    assert tuple(after[["low", "high"]]) == pytest.approx(interval(100 * (full - none)))
    assert after["simultaneous_low"] < after["low"] < after["high"] < after["simultaneous_high"]
    assert after["verdict"] == "supported"  # a peek at seven seeds of ten
    assert numbers["paper_accuracy"].tolist()[:2] == [0.85, 0.9] and np.isnan(base["paper_accuracy"])
    frozen = 100 * (made.accuracy[:, 1, 1, 1] - made.accuracy[:, 1, 0, 0])
    assert both["difference"] == pytest.approx(frozen.mean()) and both["verdict"] == "shown, not judged"
    words = tables["accuracy"].words
    assert words["reported %"].tolist() == ["85", "90", DASH, DASH]
    assert words["arm"][0] == "before: freeze=none, clip=none, scheduler=none"
    assert words["difference, points"][1] == f"{100 * (full - none).mean():.1f}"


def test_the_factorial_has_a_row_a_cell(made, tables):
    numbers = tables["factorial"].numbers.set_index(["freeze", "clip", "scheduler"])
    assert len(numbers) == 9 and numbers.index[0] == ("none", "none", "none")
    for cell in np.ndindex(2, 2, 2):
        row = numbers.loc[tuple(levels[on] for levels, on in zip(LEVELS, cell, strict=True))]
        assert (row["done"], row["diverged"], row["unlearned"]) == (SEEDS, 0, 0)
        assert row["test_accuracy"] == pytest.approx(made.accuracy[(slice(None), *cell)].mean())
        assert row["test_accuracy_sd"] == pytest.approx(made.accuracy[(slice(None), *cell)].std(ddof=1))
        assert row["probe_jitter"] == pytest.approx(stats.gmean(made.jitter[(slice(None), *cell)]))
    assert numbers.loc[(FROZEN, "delayed", "warmup_linear"), "done"] == SEEDS


def test_the_factorial_keeps_to_the_setting_that_most_arms_have(tmp_path):
    write_factorial(tmp_path, accuracies(1))
    write_known(tmp_path, {"clip": "fixed"}, Truth(), seed=0, settings={"optimizer": {"lr": 8e-4}})
    write_known(tmp_path, {"clip": "fixed"}, Truth(), seed=0, nuisance=1)
    table = of(tmp_path)["factorial"]
    assert len(table.numbers) == 9
    assert (
        "All at optimizer adamw[lr=0.0001], nuisance seed 0; the summary lists the 2 arms at other settings"
        in table.caption
    )


def test_the_factorial_counts_what_ended_early_or_learned_nothing(tmp_path):
    for seed, right in enumerate((0.9, 0.5, 0.8, 0.7)):
        write_run(tmp_path, {"clip": "fixed"}, seed=seed, run=f"s{seed}", accuracy=right)
    change(tmp_path / "s3", status="diverged", metrics={})
    (row,) = of(tmp_path)["factorial"].numbers.to_dict("records")
    assert (row["done"], row["diverged"], row["unlearned"]) == (3, 1, 1)
    assert row["test_accuracy"] == pytest.approx((0.9 + 0.5 + 0.8) / 3)


def test_roles(made, tables):
    numbers = tables["roles"].numbers.set_index("quantity")
    ratio, memory = numbers.loc["parameters.ratio"], numbers.loc["memory_mb"]
    assert (ratio["off"], ratio["on"], ratio["effect"]) == pytest.approx((1, 0.25, 0.25))
    assert (memory["off"], memory["on"]) == pytest.approx((16, 7))
    assert numbers.loc["step_seconds", ["off", "on", "effect"]].tolist() == pytest.approx([0.25, 0.25, 1])
    of_seed = np.log(made.jitter[:, 1, 1, 0] / made.jitter[:, 1, 0, 0])
    jitter = numbers.loc["probe_jitter"]
    assert jitter["effect"] == pytest.approx(np.exp(of_seed.mean())) == pytest.approx(jitter["on"] / jitter["off"])
    assert tuple(jitter[["low", "high"]]) == pytest.approx(tuple(np.exp(interval(of_seed))))
    assert numbers.loc["learned", ["off", "on", "n"]].tolist() == [1, 1, SEEDS]
    steps = numbers.loc["steps_to_probe_loss"]
    assert steps["on"] < steps["off"] and steps["effect"] == pytest.approx(steps["on"] - steps["off"])
    assert tables["roles"].words["technique"].tolist() == ["freezing"] * 3 + ["clipping"] * 2 + ["scheduler"]


def test_roles_over_a_grid_come_from_the_claims_file(tmp_path):
    """Clipping learns at 2, 3 and 3 of three rates on three seeds, its control at 1, 1 and 2."""
    rates = (1e-4, 2e-4, 4e-4)
    learns = {"none": (1, 1, 2), "fixed": (2, 3, 3)}
    for (clip, counts), (i, rate) in product(learns.items(), enumerate(rates)):
        for seed, count in enumerate(counts):
            right = 0.9 if i < count else 0.5
            write_run(tmp_path / "study", {"clip": clip}, {"optimizer": {"lr": rate}}, seed=seed, accuracy=right)
    claims = written(tmp_path, MINIMAL.replace("seeds: 10", "seeds: 3") + GRID_QUESTION)
    table = of(tmp_path / "study", claims)["roles"]
    (row,) = table.numbers[table.numbers["quantity"] == "learned"].to_dict("records")[-1:]
    assert (row["technique"], row["n"]) == ("clipping", 3)
    assert row["evidence"] == "share of runs that learn, mean over optimizer.lr 0.0001, 0.0002, 0.0004"
    assert (row["off"], row["on"], row["effect"]) == pytest.approx((4 / 9, 8 / 9, 100 * 4 / 9), rel=1e-6)


def test_costs_are_told_of_runs_that_learn_nothing(tmp_path):
    write_factorial(tmp_path, np.full((2, 2, 2, 2), 0.5))
    table = of(tmp_path)["roles"]
    numbers = table.numbers.set_index("quantity")
    assert numbers.loc["memory_mb", ["off", "on"]].tolist() == pytest.approx([16, 7])
    assert "probe_jitter" not in numbers.index
    assert "jitter of the probe loss, nats²: no seed on which both runs learn" in table.caption


def write_controls(folder: Path) -> dict[str, np.ndarray]:
    """The frozen arm without clipping and schedule, its controls, and lr 2e-4; accuracies by arm."""
    draw, arms = np.random.default_rng(3), {}
    for name, settings, more in (
        ("base", {}, {}),
        ("schedule", {}, {}),
        ("a-a", {}, {"nuisance": 1}),
        ("head", {"model": {"head_init": "default"}}, {}),
        ("slow", {"optimizer": {"lr": 3.33e-5}}, {}),
        ("mean", {"optimizer": {"lr": 6.43e-5}}, {}),
        ("fast", {"optimizer": {"lr": 2e-4}}, {}),
    ):
        arms[name] = draw.uniform(0.75, 0.9, SEEDS)
        for seed, share in enumerate(arms[name]):
            options = {"freeze": FROZEN} | ({"scheduler": "warmup_linear"} if name == "schedule" else {})
            truth = Truth(accuracy=float(share), probe_noise=0.01 if name == "schedule" else 0.02)
            write_known(folder, options, truth, seed=seed, settings=settings, run=f"{name}-s{seed}", **more)
    return arms


def test_controls(tmp_path):
    arms = write_controls(tmp_path)
    table = of(tmp_path)["controls"]
    numbers = table.numbers
    against = [("a-a", "base"), ("head", "base"), ("schedule", "mean"), ("schedule", "slow")]
    of_accuracy = numbers[numbers["quantity"] == "test accuracy, points"]
    for (treatment, control), (_, row) in zip(against, of_accuracy.iterrows(), strict=True):
        points = 100 * (arms[treatment] - arms[control])
        assert row["effect"] == pytest.approx(points.mean())
        assert tuple(row[["low", "high"]]) == pytest.approx(interval(points))
        assert (row["kind"], row["n"]) == ("difference", SEEDS)
    jitter = numbers[numbers["quantity"] == "jitter of the probe loss"]
    assert jitter["kind"].tolist() == ["ratio"] * 4
    assert (jitter["effect"].to_numpy()[2:] < 0.5).all() and (jitter["effect"].to_numpy()[:2] > 0.5).all()
    assert of_accuracy["settings"].tolist() == [
        "nuisance=1 against nuisance=0",
        "model.head_init=default against model.head_init=xavier",
        "optimizer.lr=0.0001, scheduler=warmup_linear against optimizer.lr=6.43e-05, scheduler=none",
        "optimizer.lr=0.0001, scheduler=warmup_linear against optimizer.lr=3.33e-05, scheduler=none",
    ]
    assert table.words["control"][4] == "schedule against a constant rate of 6.43e-05"


def test_without_controls_it_is_said_how_to_get_them(tables):
    assert "experiment=controls makes such runs" in tables["controls"].reason


def test_effects_of_another_dropout_stream(tmp_path):
    arms = write_controls(tmp_path)
    found = aa_effects(load(tmp_path), ["test_accuracy", "probe_jitter", "validation_loss"]).set_index("quantity")
    assert found.index.tolist() == ["test_accuracy", "probe_jitter"]  # these runs lack a validation loss
    points = 100 * (arms["a-a"] - arms["base"])
    row = found.loc["test_accuracy"]
    assert (row["scale"], row["n"]) == ("points", SEEDS)
    assert row["effect"] == pytest.approx(points.mean())
    assert tuple(row[["low", "high"]]) == pytest.approx(interval(points))
    assert row["p"] == pytest.approx(stats.ttest_1samp(points, 0).pvalue)
    assert row["arm"].endswith("nuisance[seed=1]") and not row["control"].endswith("nuisance[seed=1]")
    assert found.loc["probe_jitter", "scale"] == "log"


def test_without_such_an_arm_there_is_no_such_effect(made):
    found = aa_effects(load(made.folder, runs(made, 2)), ["test_accuracy"])
    assert found.empty and list(found)[:3] == ["arm", "control", "quantity"]


@pytest.mark.parametrize("which", ["accuracy", "jitter"])
def test_the_anova_by_hand(made, tables, which):
    values = 100 * made.accuracy if which == "accuracy" else np.log(made.jitter)
    numbers = tables[f"anova_{which}"].numbers.set_index("term")
    assert numbers["df"].tolist() == [SEEDS - 1, *[1] * 7]
    assert numbers["df_error"].tolist()[1:] == [SEEDS - 1] * 7
    total = ((values - values.mean()) ** 2).sum()
    assert numbers["sum_of_squares"].sum() + numbers["error_sum_of_squares"].sum() == pytest.approx(total)
    clip = (values[:, :, 1] - values[:, :, 0]).mean(axis=(1, 2))
    assert numbers.loc["clip", "sum_of_squares"] == pytest.approx(values.size * (clip.mean() / 2) ** 2)
    seed = 8 * ((values.mean(axis=(1, 2, 3)) - values.mean()) ** 2).sum()
    assert numbers.loc["seed", "sum_of_squares"] == pytest.approx(seed)
    student = stats.ttest_1samp(clip, 0)
    assert tuple(numbers.loc["clip", ["f", "p"]]) == pytest.approx((student.statistic**2, student.pvalue))
    words = tables[f"anova_{which}"].words
    assert words.iloc[0].tolist()[4:] == [DASH] * 4 and words["error df"].tolist() == [DASH, *[str(SEEDS - 1)] * 7]


def test_what_the_gain_is_made_of(made, tables):
    numbers = tables["attribution"].numbers.set_index("technique")
    parts, whole = numbers.drop("all together"), numbers.loc["all together"]
    gain = 100 * (made.accuracy[:, 1, 1, 1] - made.accuracy[:, 0, 0, 0])
    assert parts["accuracy_part"].sum() == pytest.approx(whole["accuracy_part"]) == pytest.approx(gain.mean())
    assert tuple(whole[["accuracy_low", "accuracy_high"]]) == pytest.approx(interval(gain))
    # an interaction is shared equally: 1, 2 and 3 points and a third of 6
    assert parts["accuracy_part"].tolist() == pytest.approx([3, 4, 5], abs=0.2)
    assert (parts["accuracy_low"] < [3, 4, 5]).all() and (parts["accuracy_high"] > [3, 4, 5]).all()
    v = np.log(made.jitter)
    clip = (
        (v[:, 0, 1, 0] - v[:, 0, 0, 0]) / 3
        + (v[:, 1, 1, 0] - v[:, 1, 0, 0] + v[:, 0, 1, 1] - v[:, 0, 0, 1]) / 6
        + (v[:, 1, 1, 1] - v[:, 1, 0, 1]) / 3
    )
    assert parts.loc["clip", "jitter_part"] == pytest.approx(clip.mean())
    assert tuple(parts.loc["clip", ["jitter_low", "jitter_high"]]) == pytest.approx(interval(clip))
    assert parts["jitter_part"].sum() == pytest.approx(whole["jitter_part"])
    ratio = tables["attribution"].words.set_index("technique")["jitter of the probe loss, ratio"]["clip"]
    assert ratio.startswith(f"{np.exp(clip.mean()):#.3g} [")


def test_the_intervals_live_on_the_pairing(made, tables, tmp_path):
    """The same accuracies with the seeds of the frozen runs turned round: the means stay, the intervals do not."""
    study = shutil.copytree(made.folder, tmp_path / "study")
    for run in study.glob(f"{FROZEN}-*"):
        cell, _, seed = run.name.rpartition("-s")
        other = json.loads((made.folder / f"{cell}-s{(int(seed) + 3) % SEEDS}" / "run.json").read_text())
        change(run, metrics=other["metrics"])
    again = of(study)
    for name, column, row in (("accuracy", "difference", 1), ("attribution", "accuracy_part", 0)):
        told, other = tables[name].numbers.loc[row], again[name].numbers.loc[row]
        prefix = "" if name == "accuracy" else "accuracy_"
        assert other[column] == pytest.approx(told[column])
        width, wide = (which[f"{prefix}high"] - which[f"{prefix}low"] for which in (told, other))
        assert wide > 3 * width


def test_the_jitter_is_left_out_below_six_seeds_that_learn(made):
    table = of(made.folder, only=runs(made, 5))["attribution"]
    assert "needs all 8 cells of freeze × clip × scheduler in at least 6 common seeds: there are 5" in table.caption
    assert table.words["jitter of the probe loss, ratio"].tolist() == [DASH] * 4
    assert table.numbers["accuracy_n"].tolist() == [5] * 4 and table.numbers["jitter_n"].tolist() == [0] * 4


def test_a_cell_that_is_not_there_is_named(made):
    tables = of(made.folder, only=runs(made, 2) - {"none-fixed-none-s0", "none-fixed-none-s1"})
    for name in ("anova_accuracy", "anova_jitter", "attribution"):
        left_out = tables[name]
        assert isinstance(left_out, LeftOut)
        assert left_out.reason.startswith(
            "needs all 8 cells of freeze × clip × scheduler in at least 2 common seeds: no"
        )
        assert "freeze=none, clip=fixed, clip.threshold=1, scheduler=none" in left_out.reason
    assert all(isinstance(tables[name], Table) for name in ("accuracy", "factorial", "roles"))


def test_seeds_that_some_cells_lack_are_too_few(made):
    left_out = of(made.folder, only=runs(made, 2) - {"none-fixed-none-s1"})["anova_accuracy"]
    assert "in at least 2 common seeds: there are 1; none-fixed-none: no run with seed 1" in left_out.reason


def test_a_study_of_clipping_alone(tmp_path):
    write_two(tmp_path / "study", fixed=[0.85, 0.87, 0.9], none=[0.8, 0.83, 0.84])
    tables = of(tmp_path / "study", written(tmp_path, MINIMAL))
    assert tables["accuracy"].numbers["difference"][1] == pytest.approx(5)
    assert tables["accuracy"].words["reported %"].tolist() == [DASH, DASH]  # of other arms than these
    assert tables["anova_accuracy"].numbers["term"].tolist() == ["seed", "clip"]
    assert tables["attribution"].numbers["accuracy_part"].tolist() == pytest.approx([5, 5])
    assert "claim one does not change freeze" in tables["roles"].caption
    assert isinstance(tables["anova_jitter"], LeftOut) and "no probe_jitter for" in tables["anova_jitter"].reason


def test_claims_without_accuracy_and_runs_of_another_study(tmp_path):
    write_two(tmp_path / "study", fixed=[0.85], none=[0.8])
    claims = written(tmp_path, MINIMAL.replace("test_accuracy", "clip_rate"))
    tables = of(tmp_path / "study", claims)
    reason = "the claims file mine has no paired claim on test_accuracy in points"
    assert {name: item.reason for name, item in tables.items() if isinstance(item, LeftOut)} == {
        name: reason for name in NAMES if name not in ("ablation", "factorial")
    }
    others = of(tmp_path / "study")  # claims about arms that the study does not have
    assert all(
        isinstance(others[name], LeftOut) and "no arm has" in others[name].reason
        for name in set(NAMES) - {"ablation", "factorial"}
    )


def test_no_finished_run(tmp_path):
    write_run(tmp_path, status="running")
    assert all(isinstance(item, LeftOut) for item in of(tmp_path).values())
    assert of(tmp_path)["factorial"].reason == "no finished run"


def test_names_do_not_act_as_markup(tmp_path):
    name = "my_$rule%&|<b>[x]\n\\"
    for seed, option in product(range(2), ("none", name)):
        write_run(
            tmp_path / "study", {"clip": option}, seed=seed, run=f"r{seed}{len(option)}", accuracy=0.8 + seed / 10
        )
    claims = written(tmp_path, MINIMAL.replace("{clip: fixed}", json.dumps({"clip": name})))
    for item in of(tmp_path / "study", claims).values():
        if isinstance(item, Table):
            rows = len(item.words)
            assert len(to_markdown(item.words).splitlines()) == rows + 2
            latex = to_latex(item.words)
            assert latex.count("\\\\\n") == rows + 1 and all(ord(sign) < 256 for sign in latex.replace("²", ""))
    assert "my\\_\\$rule\\%\\&\\textbar{}" in to_latex(of(tmp_path / "study", claims)["factorial"].words)
