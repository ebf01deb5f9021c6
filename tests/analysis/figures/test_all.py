"""Whole figures of studies: which are drawn, whether they are readable, and their files."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import combinations, product
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from analysis.claims.finding import Finding
from analysis.claims.verdict_rule import Verdict
from analysis.figures import data
from analysis.figures.all import FIGURES, DrawnFigure, drawing, drawn, figure_names, figures, forest_plot
from analysis.figures.data import PANELS, ROWS, Records
from analysis.figures.export import save_figure
from analysis.figures.forest import judged_effects, panels_of
from analysis.figures.panels import FEW, Curve, Panel, limits_of
from analysis.figures.style import applied
from analysis.records.study import Study, load
from analysis.stats.interval import Interval
from analysis.tables.formats import LeftOut
from tests.analysis.figures.test_plots import NASTY, claims
from tests.analysis.runs import (
    change,
    evals_frame,
    layers_frame,
    predictions_frame,
    steps_frame,
    write_run,
    write_table,
)

STEPS = 120
FACTORIAL = "interaction_test_accuracy", "interaction_probe_jitter"
DOSES = "by_learning_rate", "dose_response", "jitter_by_rate"


def write_arms(folder: Path, arms: dict[str, str], seeds: int, stop: tuple[str, int] | None = None) -> None:
    """Write runs; arms: name -> clipping rule. `stop`: the arm and seed of a run that diverges at step 43."""
    for i, (arm, rule) in enumerate(arms.items()):
        for seed in range(seeds):
            steps = steps_frame(STEPS, 100 * seed + i)
            start = {"none": np.inf, "fixed": 0, "delayed": 50}[rule]
            clipped = np.where(steps["step"] >= start, steps["grad_norm"].clip(upper=1), steps["grad_norm"])
            steps = steps.assign(grad_norm_clipped=clipped, delta_g=steps["grad_norm"] - clipped)
            evals = evals_frame(STEPS, seed=100 * seed + i)
            frames = {"steps.parquet": steps, "evals.parquet": evals, "layers.parquet": layers_frame(STEPS, seed=seed)}
            entries = {"timing": {"started": f"2026-01-{i + 1:02}T00:00:{seed:02}Z"}}
            if stop == (arm, seed):
                frames = {name: frame[frame["step"] <= 43] for name, frame in frames.items()}
                entries |= {"status": "diverged", "metrics": {}}
            accuracy = (30 + (seed * (i + 1)) % 5) / 40
            write_run(folder, {"clip": arm}, seed=seed, steps=STEPS, accuracy=accuracy, frames=frames, **entries)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("three")
    write_arms(folder, {"none": "none", "fixed": "fixed", "delayed": "delayed"}, seeds=4, stop=("none", 2))
    return load(folder)


@pytest.fixture(scope="module")
def items(study: Study) -> dict[str, DrawnFigure | LeftOut]:
    return {item.name: item for item in figures(study)}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DrawnFigure | LeftOut]:
    """Figures of twelve arms with the most awkward names."""
    folder = tmp_path_factory.mktemp("many")
    names = [*NASTY, "very-long-name-of-a-rule[limit=0.25,start=100]-" * 2, "NaN", "null", "Ưu tiên"]
    write_arms(folder, {name: "fixed" if i else "none" for i, name in enumerate(names)}, seeds=2)
    many = load(folder)
    names = ("training_loss", "gradient_norm", "delta_g_share", "learning_rate", "layers", "seeds", "differences")
    return {name: of_one(name, many) for name in names}


def of_one(name: str, study: Study) -> DrawnFigure | LeftOut:
    return drawn(name, lambda: drawing(name, study)(Records(study)))


def axes_of(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


# --- Which figures there are ---


def test_every_figure_is_drawn_or_left_out_with_a_reason(items: dict[str, DrawnFigure | LeftOut], study: Study) -> None:
    assert tuple(items) == figure_names(study)
    of_other_tasks = {"probe_{primary}", "confusion", "calibration", "predicted_against_true"}
    assert {*FIGURES} - {*items} == {*of_other_tasks, "interaction_test_{primary}"}
    left_out = {name: item.reason for name, item in items.items() if isinstance(item, LeftOut)}
    assert set(left_out) == {*FACTORIAL, *DOSES}
    assert all(left_out[name].endswith("here: clip") for name in FACTORIAL)
    assert left_out["by_learning_rate"] == "no arms differ only in optimizer.lr"
    assert left_out["jitter_by_rate"] == "all arms that learn have the same mean learning rate"


def test_captions_give_n_and_name_diverged_runs(items: dict[str, DrawnFigure | LeftOut]) -> None:
    for name in ("training_loss", "probe_loss", "probe_accuracy", "gradient_norm", "tracked_norms", "delta_g"):
        assert "n = 4" in items[name].caption
        assert "Crosses: the last point of a run that diverged" in items[name].caption
        assert "none seed 2" in items[name].caption
    assert "n of 4 seeds: none 3, fixed 4, delayed 4" in items["seeds"].caption
    assert "n = 3 of 4 seeds" in items["differences"].caption
    assert "Clipping never acted in: none." in items["delta_g_share"].caption


def test_failed_runs_are_marked_one_by_one_and_counted_in_the_legend(tmp_path: Path) -> None:
    """Of four runs without clipping one diverges and two do not learn."""
    write_arms(tmp_path, {"none": "none", "fixed": "fixed"}, seeds=4, stop=("none", 2))
    for folder in tmp_path.iterdir():
        entries = json.loads((folder / "run.json").read_text())
        if (entries["factors"]["clip"]["option"], entries["seed"]) in {("none", 0), ("none", 3)}:
            frame = predictions_frame(0.5)
            file = {"predictions.parquet": write_table(folder / "predictions.parquet", frame)}
            change(folder, records=entries["records"] | file, metrics={"test_accuracy": 0.5, "test_loss": 0.7})
    found = load(tmp_path)
    for name in ("training_loss", "probe_loss", "gradient_norm", "hero"):
        item = of_one(name, found)
        names = [text.get_text() for text in item.figure.legends[0].get_texts()]
        assert names == ["none (1 of 4 diverged, 2 did not learn)", "fixed"]
        marks = {line.get_label(): len(line.get_xdata()) for line in axes_of(item.figure)[0].lines}
        assert (marks["none diverged"], marks["none not learned"]) == (1, 2)
        assert not any(label.startswith("fixed ") for label in marks)
        runs = item.data.dropna(subset=["run"])
        assert runs["arm"].unique().tolist() == ["none"] and len(runs) == 3 * item.data["quantity"].nunique()
        assert problems_of(item.figure) == []
    loss = of_one("training_loss", found).data
    of_diverged = loss[loss["run"].notna() & (loss["diverged"] == 1)]
    steps = found.steps(["loss"], of_diverged["run"])
    assert of_diverged["mean"].item() == pytest.approx(steps["loss"].iloc[-1:].mean(), abs=0.2)
    assert "none 2" in of_one("training_loss", found).caption


def test_one_seed_gives_curves_without_intervals_and_no_differences(tmp_path: Path) -> None:
    write_arms(tmp_path, {"none": "none", "fixed": "fixed"}, seeds=1)
    found = {item.name: item for item in figures(load(tmp_path))}
    assert isinstance(found["differences"], LeftOut) and "two finished seeds" in found["differences"].reason
    assert found["training_loss"].data["low"].isna().all()
    assert "no interval" in found["training_loss"].caption and "no interval" in found["seeds"].caption


def test_one_arm_is_compared_with_nothing(tmp_path: Path) -> None:
    write_arms(tmp_path, {"none": "none"}, seeds=2)
    found = {item.name: item for item in figures(load(tmp_path))}
    assert {name for name, item in found.items() if isinstance(item, LeftOut)} == {
        *("seeds", "differences", "delta_g_share", *FACTORIAL, *DOSES)
    }
    assert "one arm only" in found["seeds"].reason
    assert "never acted" in found["delta_g_share"].reason


def test_no_run_gives_no_figure_and_no_crash(tmp_path: Path) -> None:
    found = [*figures(load(tmp_path))]
    assert all(isinstance(item, LeftOut) and "no finished run" in item.reason for item in found)


def test_a_study_of_which_every_run_diverged(tmp_path: Path) -> None:
    for clip, steps in product(("none", "fixed"), (7, 1, 0)):
        frames = {"steps.parquet": steps_frame(20)[:steps], "evals.parquet": evals_frame(20)[:1]}
        entries = {"status": "diverged", "metrics": {}, "frames": frames}
        write_run(tmp_path, {"clip": clip}, seed=steps, **entries)
    found = {item.name: item for item in figures(load(tmp_path))}
    assert found["training_loss"].data["n"].max() == 2  # one of three diverged at its first step
    drawn_ones = {name for name, item in found.items() if isinstance(item, DrawnFigure)}
    by_step = {name for name in FIGURES if FIGURES[name].__module__ == "analysis.figures.by_step"}
    assert drawn_ones == by_step - {"delta_g_share", "layers", "probe_{primary}"}


def test_what_no_run_recorded_is_left_out(tmp_path: Path) -> None:
    steps = steps_frame(20).assign(mlp_grad_norm=None, classifier_grad_norm=None)
    frames = {"steps.parquet": steps, "evals.parquet": evals_frame(20)[-2:], "layers.parquet": layers_frame(20)[:0]}
    write_run(tmp_path, frames=frames)
    found = {item.name: item for item in figures(load(tmp_path))}
    for name in ("tracked_norms", "probe_loss", "probe_accuracy", "layers"):
        assert isinstance(found[name], LeftOut), name
    assert found["tracked_norms"].reason == "mlp_grad_norm was not recorded in any run"
    assert isinstance(found["training_loss"], DrawnFigure)


def test_runs_that_do_not_pair_are_not_compared(tmp_path: Path) -> None:
    write_arms(tmp_path, {"none": "none", "fixed": "fixed"}, seeds=3)
    other = {"batches": "other", "head": "h0", "dropout": "d0.0"}
    write_run(tmp_path, {"clip": "other"}, seed=0, steps=STEPS, pairing=other)
    found = of_one("differences", load(tmp_path))
    assert set(found.data["treatment"]) == {"fixed"}
    assert "Not compared: other" in found.caption


# --- What they show ---


def test_lines_go_through_the_numbers_in_the_csv(items: dict[str, DrawnFigure | LeftOut]) -> None:
    for name in ("training_loss", "probe_loss", "delta_g"):
        (ax,) = axes_of(items[name].figure)
        data = items[name].data
        assert data["run"].dropna().size == 1  # that of the run that diverged has a mark of its own
        for arm, part in data[data["run"].isna()].groupby("arm", sort=False):
            (line,) = [line for line in ax.lines if line.get_label() == arm]
            assert np.array_equal(line.get_xydata(), part[["step", "mean"]].to_numpy())


def test_the_axis_names_the_smoothing(items: dict[str, DrawnFigure | LeftOut]) -> None:
    assert axes_of(items["training_loss"].figure)[0].get_ylabel() == "training loss (nats)\nmean of 2 steps"
    assert axes_of(items["probe_loss"].figure)[0].get_ylabel() == "probe loss (nats)"
    assert (items["training_loss"].data["arm"] == "fixed").sum() == STEPS / 2


@pytest.mark.parametrize("name", ["gradient_norm", "tracked_norms"])
def test_the_threshold_is_drawn_in_both_panels(items: dict[str, DrawnFigure | LeftOut], name: str) -> None:
    for ax in axes_of(items[name].figure):
        assert [1, 1] in [list(line.get_ydata()) for line in ax.lines]
        assert ax.get_yscale() == "log"
        assert ax.get_ylim()[0] < 1 < ax.get_ylim()[1]
    assert "c = 1" in [text.get_text() for text in items[name].figure.findobj(Text)]


def test_arms_of_one_schedule_share_a_line(items: dict[str, DrawnFigure | LeftOut]) -> None:
    (ax,) = axes_of(items["learning_rate"].figure)
    assert [line.get_label() for line in ax.lines if len(line.get_xdata())] == ["none, fixed, delayed"]
    assert set(items["learning_rate"].data["arm"]) == {"none", "fixed", "delayed"}


@pytest.mark.parametrize(("rate", "axis"), [(5e-4, "linear"), (1e-2, "log")])
def test_rates_of_different_sizes_are_distinguishable(tmp_path: Path, rate: float, axis: str) -> None:
    """SGD's rate is a hundred times AdamW's; arms are in the order of their rates, not of their start times."""
    for i, (optimizer, lr) in enumerate([("adamw", 1e-4), ("sgd", rate), ("sgd", rate / 2)]):
        frames = {"steps.parquet": steps_frame(STEPS).assign(lr=lr * np.minimum(1, np.arange(STEPS) / 20))}  # from 0 on
        begun = {"timing": {"started": f"2026-01-0{i + 1}T00:00:00Z"}}
        arm = {"optimizer": optimizer}, {"optimizer": {"lr": lr}}
        write_run(tmp_path, *arm, steps=STEPS, frames=frames, run=f"{i}", **begun)
    item = of_one("learning_rate", load(tmp_path))
    assert isinstance(item, DrawnFigure)
    (ax,) = axes_of(item.figure)
    assert ax.get_yscale() == axis and ax.get_ylim()[1] > rate
    names = [text.get_text().rpartition("sgd")[2] for text in item.figure.legends[0].get_texts()]
    assert names[1:] == [f"[lr={rate / 2:g}]", f"[lr={rate:g}]"]


@pytest.mark.parametrize("count", [2, 4, 5])
def test_layers_of_any_number_of_arms(tmp_path: Path, count: int) -> None:
    """Three maps per row: 4 and 5 arms leave empty places, which the colour bar must not use."""
    write_arms(tmp_path, {f"arm{i}": "fixed" for i in range(count)}, seeds=1)
    item = of_one("layers", load(tmp_path))
    assert isinstance(item, DrawnFigure)
    assert [ax.get_title(loc="left") for ax in axes_of(item.figure)] == [f"arm{i}" for i in range(count)]


def test_the_hero_is_wide_and_compares_norms_on_one_axis(study: Study) -> None:
    (item,) = figures(study, ["hero"])
    before, after, learning = axes_of(item.figure)
    assert item.figure.get_size_inches().tolist() == [9, 3.2]
    assert before.get_ylim() == after.get_ylim() and learning.get_yscale() == "linear"
    assert set(item.data["quantity"]) == {"grad_norm", "grad_norm_clipped", "probe_loss"}


def test_the_hero_of_many_arms_shows_those_that_differ_in_clipping_alone(tmp_path: Path) -> None:
    for freeze, clip in product(("none", "embeddings", "attention"), ("none", "fixed", "delayed")):
        write_run(tmp_path, {"freeze": freeze, "clip": clip}, seed=0, steps=STEPS, frames={
            "steps.parquet": steps_frame(STEPS), "evals.parquet": evals_frame(STEPS, seed=0)})  # fmt: skip
    (item,) = figures(load(tmp_path), ["hero"])
    shown = ["none-delayed", "none-fixed", "none-none"]
    assert sorted(set(item.data["arm"])) == shown
    assert "a group of 3 that differ only in clipping" in item.caption
    for start, freeze in ((10, "none"), *((start, "attention") for start in range(1, 9))):  # later: a larger family
        later = {"timing": {"started": "2026-02-01T00:00:00Z"}}
        write_run(tmp_path, {"freeze": freeze, "clip": "delayed"}, {"clip": {"start": start}}, steps=STEPS, **later)
    (item,) = figures(load(tmp_path), ["hero"])
    assert sorted(set(item.data["arm"])) == ["none-delayed[start=50]", *shown[1:]]


def test_the_reference_of_a_frozen_arm_is_frozen(tmp_path: Path) -> None:
    for freeze, clip, scheduler in product(("none", "embeddings"), ("none", "fixed"), ("none", "w")):
        options = {"freeze": freeze, "clip": clip, "scheduler": scheduler}
        off_first = sum(option != "none" for option in options.values())
        write_run(tmp_path, options, steps=STEPS, timing={"started": f"2026-01-01T00:00:0{off_first}Z"})
    records = Records(load(tmp_path))
    assert set(records.references.values()) == {"none-none-none", "embeddings-none-none"}
    assert records.references["embeddings-fixed-w"] == "embeddings-none-none"
    assert records.references["none-fixed-w"] == "none-none-none"
    assert "none-none-none" not in records.references


@pytest.mark.slow
@pytest.mark.parametrize(("rates", "shown"), [(3, 12), (4, 9), (8, 9), (9, 18)])
def test_of_many_arms_those_have_a_panel_that_differ_in_the_techniques_alone(
    tmp_path: Path, rates: int, shown: int
) -> None:
    """Nine arms of a factorial, and more learning rates, which are left out where there are too many panels."""
    for freeze, clip in product(("none", "embeddings", "attention"), ("none", "fixed", "delayed")):
        write_run(tmp_path, {"freeze": freeze, "clip": clip}, steps=STEPS)
    for k in range(rates):
        write_run(tmp_path, settings={"optimizer": {"lr": 1.0 + k}}, steps=STEPS)
    by_step, layers, overview = figures(load(tmp_path), ["training_loss", "layers", "seeds"])
    assert [item.data["arm"].nunique() for item in (by_step, layers, overview)] == [shown, shown, 9 + rates]
    told = f"Shows the 9 that differ only in freeze, clip, scheduler, of {9 + rates} arms in all."
    assert [told in item.caption for item in (by_step, layers)] == [shown == 9] * 2


def test_of_very_many_arms_the_first_and_those_that_differ_most_from_it_are_shown(tmp_path: Path) -> None:
    """Further arms differ more, but for one whose run diverged (at chance, 0.5) and one without an accuracy."""
    for i in range(ROWS + 3):
        entries = {"accuracy": 0.8 - i / 400, "timing": {"started": f"2026-01-01T00:{i:02}:00Z"}}
        entries |= {1: {"status": "diverged", "metrics": {}}, ROWS: {"metrics": {}}}.get(i, {})
        write_run(tmp_path, {"clip": f"rule{i}"}, **entries)
    records = Records(load(tmp_path))
    for shown, most in ((records.in_panels, PANELS), (records.in_rows, ROWS)):
        furthest = {0, 1, *range(ROWS + 3 - (most - 1), ROWS + 3)} - {ROWS}
        assert shown.arms == [f"rule{i}" for i in sorted(furthest)]
        assert shown.shown == (
            f"Shows the first arm and the {most - 1} whose mean test accuracy differs most from it, of {ROWS + 3} arms "
            "in all. "
        )
    for name in ("training_loss", "learning_rate", "seeds"):
        item = of_one(name, records.study)
        most = PANELS if name == "training_loss" else ROWS
        assert item.data["arm"].nunique() <= most and f"and the {most - 1} whose" in item.caption
        assert item.figure.get_figheight() < 20


def test_arms_chosen_from_a_choice_are_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MANY", 3)
    monkeypatch.setattr(data, "PANELS", 2)
    for i in range(3):
        write_run(tmp_path, {"clip": f"rule{i}"}, accuracy=0.8 - i / 10)
    write_run(tmp_path, {"model": "other"})
    assert Records(load(tmp_path)).in_panels.shown == (
        "Shows the 3 that differ only in freeze, clip, scheduler, of 4 arms in all. "
        "Shows the first arm and the 1 whose mean test accuracy differs most from it, of these 3. "
    )


def test_a_figure_that_no_page_can_hold_is_left_out_with_the_reason(tmp_path: Path) -> None:
    many = pd.concat([claims().assign(scale="log")] * 80, ignore_index=True)
    reason = "a figure is at most 82 inches high; with all its rows it has 88"
    assert forest_plot(many) == LeftOut("forest", reason)
    for freeze, k in product(("none", "f"), range(ROWS + 1)):
        write_run(tmp_path, {"freeze": freeze}, {"optimizer": {"lr": 1.0 + k}}, steps=2)
    item = of_one("interaction_test_accuracy", load(tmp_path))
    assert item.reason == "a figure of two factors shows at most 36 levels; these arms have 37"


def test_no_hero_of_many_arms_that_clip_alike(tmp_path: Path) -> None:
    for i in range(FEW + 1):
        write_run(tmp_path, {"freeze": f"rule{i}"}, seed=0)
    (item,) = figures(load(tmp_path), ["hero"])
    assert isinstance(item, LeftOut) and "no 2 to 6 of them differ" in item.reason


def test_a_factorial_gives_its_interactions(tmp_path: Path) -> None:
    for freeze, clip, scheduler, seed in product(("none", "f"), ("none", "fixed"), ("none", "w"), range(2)):
        options = {"freeze": freeze, "clip": clip, "scheduler": scheduler}
        accuracy = 0.5 + 0.2 * (freeze == "f") * (clip == "fixed") + 0.1 * (scheduler == "w")
        write_run(tmp_path, options, seed=seed, accuracy=accuracy)
    write_run(tmp_path, {}, seed=0, nuisance=1, accuracy=0.0)  # A/A: no cell of its own
    found = of_one("interaction_test_accuracy", load(tmp_path))
    assert len(found.data) == 8 and set(found.data["n"]) == {2}
    assert sorted(found.data["mean"].round(6)) == [50, 50, 50, 60, 60, 60, 70, 80]
    assert [ax.get_title(loc="left") for ax in axes_of(found.figure)] == ["scheduler none", "scheduler w"]


def test_bands_do_not_press_the_means_flat() -> None:
    data = pd.DataFrame({"mean": [1.0, 2.0], "low": [-50.0, 1.9], "high": [50.0, 2.1]})
    low, high = limits_of([Panel(Curve("x", "x"), data)])
    assert 1 <= (high - low) <= 2.2
    low, high = limits_of([Panel(Curve("x", "x", least=0.9), data.assign(low=0.0, high=2.05))], also=[2.5])
    assert low == pytest.approx(0.9, abs=0.1) and high > 2.5


# --- Against a number ---


@pytest.fixture(scope="module")
def doses(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two clipping rules at three learning rates, and four starts of delayed; at the highest rate 2 of 3 fail."""
    folder = tmp_path_factory.mktemp("doses")
    for k, seed in product(range(3), range(3)):
        for clip in ("none", "fixed"):
            fails = k == 2 and clip == "none" and seed < 2
            frames = {"steps.parquet": steps_frame(STEPS).assign(lr=10.0**-k)}
            frames |= {"evals.parquet": evals_frame(STEPS, 1, seed, 1e-4 if fails else 0.01)}
            accuracy = 0.5 if fails else 0.8 + seed / 40
            settings = {"optimizer": {"lr": 1e-4 * 2**k}}
            write_run(folder, {"clip": clip}, settings, seed=seed, steps=STEPS, accuracy=accuracy, frames=frames)
    for start, seed in product((100, 15, 50, 200), range(3)):
        frames = {"evals.parquet": evals_frame(STEPS, 1, seed + start)}
        write_run(folder, {"clip": "delayed"}, {"clip": {"start": start}}, seed=seed, steps=STEPS, frames=frames)
    return load(folder)


def test_a_family_per_rule_against_the_learning_rate_with_failures_counted(doses: Study) -> None:
    item = of_one("by_learning_rate", doses)
    data = item.data
    assert set(data["family"]) == {"none", "fixed"}
    share = data[data["quantity"] == "learned"].drop_duplicates("arm").set_index(["family", "dose"])["mean"]
    assert share["none"].tolist() == pytest.approx([1, 1, 1 / 3]) and share["fixed"].tolist() == [1, 1, 1]
    accuracy = data[(data["quantity"] == "test_accuracy") & (data["family"] == "none") & (data["dose"] == 4e-4)]
    assert accuracy["mean"].iloc[0] == pytest.approx(100 * (0.5 + 0.5 + 0.85) / 3)
    assert sum(line.get_marker() == "x" and len(line.get_xdata()) for ax in axes_of(item.figure) for line in ax.lines)
    assert problems_of(item.figure) == []


def test_a_response_is_in_numeric_order_behind_the_other_options(doses: Study) -> None:
    item = of_one("dose_response", doses)
    (ax, *_) = axes_of(item.figure)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["none", "fixed", "15", "50", "100", "200"]
    joined = [line for line in ax.lines if len(line.get_xdata()) == 4 and line.get_linestyle() != "None"]
    assert len(joined) == 1  # the references are not joined
    assert problems_of(item.figure) == []


def test_runs_that_did_not_learn_are_apart_and_lower_no_mean(doses: Study) -> None:
    item = of_one("jitter_by_rate", doses)
    arm = item.data[(item.data["arm"].str.contains("none")) & (item.data["arm"].str.contains("0.0004"))]
    assert arm["learned"].tolist() == [False, False, True] and set(arm["n"]) == {1}
    assert arm["mean"].iloc[0] == pytest.approx(arm["value"].iloc[2])
    assert arm["mean"].iloc[0] > 10 * arm["value"].iloc[0]
    seeds = of_one("seeds", doses)
    assert "Crosses: runs that did not learn" in seeds.caption
    jitter = axes_of(seeds.figure)[2]
    (crosses,) = [line for line in jitter.lines if line.get_marker() == "x"]
    assert len(crosses.get_xdata()) == 2
    assert jitter.get_xlim()[0] > arm["value"].iloc[0]  # the axis is that of the runs that learn
    assert problems_of(seeds.figure) == problems_of(item.figure) == []


# --- That they can be read ---


def problems_of(figure: Figure) -> list[str]:
    """Texts that are cut off or overlap, legends over axes, axes without a name."""
    with applied():
        FigureCanvasAgg(figure).draw()
        boxes = {text: text.get_window_extent() for text in drawn_texts(figure)}
        legends = [legend.get_window_extent() for legend in figure.legends]
        areas = [ax.get_window_extent() for ax in figure.axes]
    page = figure.bbox.padded(1)
    inside = {text: page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1) for text, box in boxes.items()}
    return [
        *(f"cut: {text.get_text()}" for text, whole in inside.items() if not whole),
        *(
            f"{one.get_text()} on {other.get_text()}"
            for one, other in combinations(boxes, 2)
            if boxes[one].padded(-0.5).overlaps(boxes[other].padded(-0.5))
        ),
        *("legend over axes" for legend in legends for area in areas if legend.overlaps(area)),
        *("no name on x" for _ in [0] if not figure.get_supxlabel() and not axes_of(figure)[-1].get_xlabel()),
    ]


def drawn_texts(figure: Figure) -> list[Text]:
    """All texts except those of ticks out of view, which matplotlib creates but does not draw."""
    hidden = set()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            hidden |= set() if low <= tick.get_loc() <= high else {tick.label1, tick.label2}
    texts = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text().strip())
    return [text for text in texts if text.get_visible() and text not in hidden]


def test_the_check_of_readability_finds_what_is_wrong() -> None:
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    right.set(xlabel="x")
    left.set_title("a title that goes on and on, over its neighbour", loc="left")
    right.set_title("another", loc="left")
    left.set_yticks([0.5, 0.501], ["one", "two"])
    figure.text(0.99, 0.5, "beyond the edge")
    figure.legend([left.plot([0, 1])[0]], ["line"], loc="center")
    found = " ".join(problems_of(figure))
    for problem in ("cut: beyond the edge", "one on two", "on another", "legend over"):
        assert problem in found


def test_nothing_is_cut_or_covered(items: dict[str, DrawnFigure | LeftOut], study: Study) -> None:
    shown = [item for item in items.values() if isinstance(item, DrawnFigure)]
    assert {item.name: found for item in shown if (found := problems_of(item.figure))} == {}


def test_twelve_arms_with_awkward_names_stay_readable(many: dict[str, DrawnFigure | LeftOut]) -> None:
    assert all(isinstance(item, DrawnFigure) for item in many.values())
    assert {name: found for name, item in many.items() if (found := problems_of(item.figure))} == {}


def test_many_arms_have_a_panel_each_with_the_first_behind(many: dict[str, DrawnFigure | LeftOut]) -> None:
    axes = axes_of(many["training_loss"].figure)
    assert len(axes) == 12 > FEW
    first = many["training_loss"].data.query("arm == '$x$'")
    for i, ax in enumerate(axes):
        behind = [line for line in ax.lines if line.get_label() == "behind"]
        assert [np.array_equal(line.get_ydata(), first["mean"]) for line in behind] == [True] * bool(i)


def test_a_forest_of_claims(tmp_path: Path) -> None:
    frame = pd.concat([claims().assign(scale="log"), claims().assign(scale="raw")], ignore_index=True)
    narrow = claims().iloc[:1].assign(id="N", scale="log")
    narrow[["effect", "low", "high", "simultaneous_low", "simultaneous_high", "smallest_effect"]] /= 20
    whole = claims().iloc[:1].assign(id="W", scale=None)
    item = forest_plot(pd.concat([frame, narrow, whole], ignore_index=True))
    panels = [[label.get_text().partition(":")[0] for label in ax.get_yticklabels()] for ax in axes_of(item.figure)]
    assert panels == [["A", "B", "H", "N"], ["A"], ["B"], ["H"]]
    assert "no effect of their own: W" in item.caption
    assert problems_of(item.figure) == []
    assert forest_plot(frame[:0]) == LeftOut("forest", "no claim has an effect")
    widths = [np.ptp(line.get_xdata()) for line in axes_of(item.figure)[0].lines if "simultaneous" in line.get_label()]
    assert widths[0] > 5 * widths[-1]  # one axis: a narrow interval looks narrow
    with pytest.raises(ValueError, match="scale must be one of log, logit, points, raw \\(got cubic\\)"):
        forest_plot(claims().assign(scale="cubic"))


def test_parts_are_below_their_claim_and_repeat_no_row() -> None:
    best = {"quantity": "probe_jitter", "scale": "log", "effect": 0.2, "interval": Interval(0.1, 0.3, 0.95), "n": 3}
    interactions = tuple(
        Finding(f"G.1 {name}", name, None, **best | {"effect": effect}, verdict=Verdict.INCONCLUSIVE)
        for name, effect in (("f×c", 0.2), ("f×s", 0.1))
    )
    jitter = Finding("G.1", "in the jitter", None, **best, verdict=Verdict.INCONCLUSIVE, parts=interactions)
    accuracy = Finding("G.2", "in accuracy", None, scale="points", effect=1.0, verdict=Verdict.SUPPORTED)
    shown = Finding("G+1", "beside", None, scale="points", effect=9.0)
    whole = Finding("G", "factors interact", None, verdict=Verdict.INCONCLUSIVE, parts=(jitter, accuracy, shown))
    frame = judged_effects([whole])
    assert frame["id"].tolist() == ["G", "G.1", "G.1 f×c", "G.1 f×s", "G.2"]
    assert frame["effect"].tolist() == pytest.approx([np.nan, np.nan, 0.2, 0.1, 1.0], nan_ok=True)
    first, second = panels_of(frame)
    assert first["depth"].tolist() == [0, 1, 2, 2]
    assert second["id"].tolist() == ["G", "G.2"] and second["verdict"].dropna().tolist() == ["supported"]
    assert problems_of(forest_plot(frame).figure) == []


def test_differences_in_two_quantities_have_an_axis_each_and_ratios_share_one() -> None:
    """A hundred points of runs that learn would hide one point of accuracy."""
    quantities = ["test_accuracy", "learned", "test_accuracy"]
    frame = claims().assign(scale="points", quantity=quantities, parent=None)
    assert [part["quantity"].unique().tolist() for part in panels_of(frame)] == [["test_accuracy"], ["learned"]]
    labels = [ax.get_xlabel() for ax in axes_of(forest_plot(frame).figure)]
    assert labels == ["difference: test accuracy, points", "difference: share of runs that learn, points"]
    assert len(panels_of(frame.assign(scale="log"))) == 1


def test_a_paired_row_has_the_effect_of_another_dropout_stream_below_it() -> None:
    frame = claims().assign(scale="log", quantity="probe_jitter", aa=[0.1, np.nan, np.nan], aa_low=-0.1, aa_high=0.2)
    item = forest_plot(frame)
    (ax,) = axes_of(item.figure)
    marks = [line for line in ax.lines if line.get_label().endswith("A/A")]
    assert [line.get_xdata()[0] for line in marks] == [pytest.approx(np.exp(0.1))]
    assert "A/A" in item.caption and "A/A" not in forest_plot(claims().assign(scale="log")).caption


# --- Files ---


@pytest.fixture(scope="module")
def saved(many: dict[str, DrawnFigure | LeftOut], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    item, folder = many["seeds"], tmp_path_factory.mktemp("saved") / "new" / "figures"
    return {path.suffix: path for path in save_figure(item.figure, item.data, folder, item.name)}


def test_text_stays_text_in_the_svg(saved: dict[str, Path]) -> None:
    svg = saved[".svg"].read_text(encoding="utf-8")
    texts = re.findall(r"<text[^>]*>(.*?)</text>", svg, flags=re.DOTALL)
    for name in (
        "$x$",
        "a_b",
        "100%",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "None",
        "_hidden",
        "a &amp; b",
        "Ưu tiên",
    ):
        assert name in texts
    assert "<script" not in svg


def test_the_pdf_embeds_its_fonts_and_the_png_has_200_dots_an_inch(
    saved: dict[str, Path], many: dict[str, DrawnFigure | LeftOut]
) -> None:
    pdf = saved[".pdf"].read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    inches = many["seeds"].figure.get_size_inches()
    assert list(imread(saved[".png"]).shape[:2]) == [round(200 * inches[1]), round(200 * inches[0])]


def test_the_csv_keeps_names_that_look_like_missing_values(
    saved: dict[str, Path], many: dict[str, DrawnFigure | LeftOut]
) -> None:
    back = pd.read_csv(saved[".csv"], keep_default_na=False, na_values={"low": "", "high": ""})
    assert back["arm"].tolist() == many["seeds"].data["arm"].tolist()
    assert {"None", "NaN", "null", "$x$"} <= set(back["arm"])
    assert np.allclose(back["value"], many["seeds"].data["value"], rtol=1e-15)


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_else(
    tmp_path: Path, items: dict[str, DrawnFigure | LeftOut]
) -> None:
    item = items["delta_g_share"]
    first = {path.name: path.read_bytes() for path in save_figure(item.figure, item.data, tmp_path, "one")}
    assert {path.name: path.read_bytes() for path in save_figure(item.figure, item.data, tmp_path, "one")} == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.csv", "one.pdf", "one.png", "one.svg"]


def test_a_failure_leaves_the_old_files_as_they_were(
    tmp_path: Path, items: dict[str, DrawnFigure | LeftOut], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = items["delta_g_share"]
    save_figure(item.figure, item.data, tmp_path, "one")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ablate.files.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_figure(Figure(), item.data[:1], tmp_path, "one")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["", "a/b", "../a", "/a"])
def test_a_name_with_a_folder_in_it_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name must be"):
        save_figure(Figure(), pd.DataFrame(), tmp_path, name)
    assert not list(tmp_path.iterdir())


# --- The user's matplotlib ---


def test_settings_of_the_user_neither_change_a_figure_nor_are_changed(tmp_path: Path, study: Study) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        item = next(figures(study))
        canvas = item.figure.canvas
        paths = save_figure(item.figure, item.data, folder, item.name)
        assert item.figure.canvas is canvas and item.figure.get_layout_engine() is not None
        return {path.name: path.read_bytes() for path in paths}

    plain = files(tmp_path / "plain")
    theirs = {
        "font.size": 30,
        "axes.facecolor": "black",
        "text.usetex": True,
        "svg.fonttype": "path",
        "savefig.dpi": 30,
    }
    with matplotlib.rc_context(theirs):
        before = dict(matplotlib.rcParams)
        assert files(tmp_path / "theirs") == plain
        assert dict(matplotlib.rcParams) == before


def test_neither_pyplot_nor_torch_is_imported() -> None:
    code = "import sys, analysis.report; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_threads_draw_what_one_thread_draws(study: Study) -> None:
    def pixels(_: int) -> bytes:
        item, buffer = next(figures(study)), BytesIO()
        with applied():
            item.figure.savefig(buffer, format="raw")
        return buffer.getvalue()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(pixels, range(4))) == {pixels(0)}
