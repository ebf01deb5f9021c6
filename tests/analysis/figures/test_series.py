"""The numbers of figures: against scipy, brute force and the package's own statistics."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.figures.series import (
    by_step,
    delta_g_shares,
    in_network_order,
    interaction_means,
    layer_grid,
    over_seeds,
    paired_differences,
    per_seed,
    span_width,
    spans,
    within_seeds,
)
from analysis.quantities.formulas import early_delta_g_share
from analysis.records.arms import levels
from analysis.stats.effects import paired_effect


@given(st.integers(1, 10**7), st.integers(1, 500))
def test_a_span_is_as_narrow_as_the_number_of_points_allows(points: int, at_most: int) -> None:
    width = span_width(points, at_most)
    narrower = {1: 0, 2: 1, 5: 2}[int(str(width)[0])] * 10 ** (len(str(width)) - 1) or width // 2
    assert width * at_most >= points
    assert narrower * at_most < points
    assert str(width).rstrip("0") in {"1", "2", "5"}


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 5))
def test_spans_are_means_of_width_rows(values: list[float], width: int, every: int) -> None:
    points = pd.DataFrame({"step": every * np.arange(1, len(values) + 1), "x": values})
    found = spans(points, ["x"], width)
    chunks = [values[i : i + width] for i in range(0, len(values), width)]
    assert found["x"].tolist() == pytest.approx([np.mean(chunk) for chunk in chunks])
    assert found["step"][0] == every * (width + 1) / 2
    assert np.diff(found["step"]) == pytest.approx(every * width)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_a_run_that_ends_early_has_the_steps_of_a_longer_one(short: int, more: int, width: int) -> None:
    points = pd.DataFrame({"step": np.arange(1, short + more + 1), "x": 0.0})
    whole, part = spans(points, ["x"], width)["step"], spans(points[:short], ["x"], width)["step"]
    assert part.tolist() == whole[: len(part)].tolist()


def test_a_missing_value_is_not_skipped_in_a_span() -> None:
    points = pd.DataFrame({"step": [1, 2, 3, 4], "x": [1.0, None, 3.0, 5.0]})
    assert spans(points, ["x"], 2)["x"].tolist() == pytest.approx([np.nan, 4.0], nan_ok=True)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_shares_of_clipping_add_up_and_begin_with_the_metric_of_that_name(taken: list[float]) -> None:
    steps = pd.DataFrame({"step": np.arange(1, len(taken) + 1), "delta_g": taken})
    found = delta_g_shares(steps)
    if sum(taken) == 0:
        assert len(found) == 0
        return
    assert found["bin"].tolist() == list(range(1, 11))
    assert found["share"].sum() == pytest.approx(1)
    assert found["share"][0] == pytest.approx(early_delta_g_share(steps))


def test_an_even_spread_gives_each_tenth_a_tenth() -> None:
    assert delta_g_shares(pd.DataFrame({"delta_g": np.ones(300)}))["share"].tolist() == pytest.approx([0.1] * 10)


# --- Over seeds ---


@pytest.mark.parametrize("log", [False, True])
def test_mean_and_interval_over_seeds_are_those_of_scipy(log: bool) -> None:
    draw = np.random.default_rng(0)
    values = pd.DataFrame({"arm": ["b"] * 5 + ["a"] * 3, "seed": [*range(5), *range(3)], "x": draw.lognormal(size=8)})
    found = over_seeds(values, ["arm"], "x", log).set_index("arm")
    assert list(found.index) == ["b", "a"]
    for arm, part in values.groupby("arm"):
        x = np.log(part["x"]) if log else part["x"]
        interval = stats.ttest_1samp(x, 0).confidence_interval(0.95)
        expected = np.array([x.mean(), interval.low, interval.high])
        assert found.loc[arm, ["mean", "low", "high"]].astype(float).tolist() == pytest.approx(
            list(np.exp(expected) if log else expected)
        )
        assert found.loc[arm, "n"] == len(part)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    found = over_seeds(pd.DataFrame({"arm": ["a"], "x": [2.0]}), ["arm"], "x").iloc[0]
    assert found["mean"] == 2.0
    assert np.isnan(found["low"]) and np.isnan(found["high"])
    assert found["n"] == 1


def test_n_counts_the_values_that_there_are() -> None:
    values = pd.DataFrame({"arm": ["a", "a", "a", "b"], "x": [1.0, 3.0, np.nan, np.nan]})
    found = over_seeds(values, ["arm"], "x")
    assert found[["arm", "mean", "n"]].to_numpy().tolist() == [["a", 2.0, 2]]


def test_a_geometric_mean_with_a_zero_is_zero() -> None:
    found = over_seeds(pd.DataFrame({"arm": ["a", "a"], "x": [0.0, 3.0]}), ["arm"], "x", log=True)
    assert found["mean"].tolist() == [0.0]
    assert found["low"].isna().all()


def test_a_diverged_seed_is_marked_where_it_ends_and_n_falls_after_it() -> None:
    points = pd.DataFrame(
        {"run": ["r0"] * 4 + ["r1"] * 2, "arm": "a", "step": [1.0, 2, 3, 4, 1, 2], "x": [1.0, 1, 1, 1, 3, 3]}
    )
    found = by_step(points, ["r1"], "x")
    assert found["mean"].tolist() == [2, 2, 1, 1]
    assert found["n"].tolist() == [2, 2, 1, 1]
    assert found["diverged"].tolist() == [0, 1, 0, 0]
    assert by_step(points, [], "x")["diverged"].sum() == 0


def test_layers_are_geometric_means_in_the_network_s_order() -> None:
    frozen = pd.DataFrame({"layer": [0, None], "block": ["mlp", "head"]})
    whole = pd.DataFrame(
        {"layer": [None, 0, 0, 1, 1, None], "block": ["embedding", "attention", "mlp", "attention", "mlp", "head"]}
    )
    frames = [
        frame.assign(arm=arm, step=10.0, grad_norm=norm)
        for arm, frame in {"frozen": frozen, "whole": whole}.items()
        for norm in (1.0, 4.0)
    ]
    grid = layer_grid(pd.concat(frames, ignore_index=True).astype({"layer": "Int64"}))
    assert in_network_order(grid) == ["embedding", "0 attention", "0 mlp", "1 attention", "1 mlp", "head"]
    assert grid["mean"].tolist() == pytest.approx([2.0] * 8)
    assert grid["n"].tolist() == [2] * 8


# --- Seed by seed ---


def runs_frame(arms: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"run": f"{arm}-{seed}", "arm": arm, "seed": seed, "x": value}
            for arm, values in arms.items()
            for seed, value in enumerate(values)
        ]
    )


def pairs_frame(treatment: str, control: str, seeds: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        [(treatment, control, seed, f"{treatment}-{seed}", f"{control}-{seed}") for seed in seeds],
        columns=["treatment", "control", "seed", "treatment_run", "control_run"],
    )


def test_each_row_has_the_value_of_a_run_and_the_mean_of_its_arm() -> None:
    found = per_seed(runs_frame({"a": [1.0, 3.0], "b": [5.0, np.nan]}), "x")
    assert found[["arm", "seed", "value", "mean", "n"]].to_numpy().tolist() == [
        ["a", 0, 1.0, 2.0, 2],
        ["a", 1, 3.0, 2.0, 2],
        ["b", 0, 5.0, 5.0, 1],
    ]
    assert per_seed(runs_frame({"a": [0.0, 3.0]}), "x", log=True)["seed"].tolist() == [1]


@pytest.mark.parametrize("log", [False, True])
def test_differences_are_those_of_the_paired_t(log: bool) -> None:
    draw = np.random.default_rng(1)
    base = draw.lognormal(2, 1, 8)
    runs = runs_frame({"none": list(base), "fixed": list(base * draw.lognormal(0.1, 0.1, 8))})
    treated, plain = (runs["x"][runs["arm"] == arm].to_numpy() for arm in ("fixed", "none"))
    values = runs.set_index("run")["x"]
    found = paired_differences(values, pairs_frame("fixed", "none", list(range(8))), log)
    expected = paired_effect(np.log(treated), np.log(plain)) if log else paired_effect(treated, plain)
    interval = expected.interval()
    of_scale = np.log(found[["mean", "low", "high"]]) if log else found[["mean", "low", "high"]]
    assert of_scale.iloc[0].tolist() == pytest.approx([expected.estimate, interval.low, interval.high])
    assert found["effect"].tolist() == pytest.approx(list(treated / plain if log else treated - plain))
    # the same runs, paired with other seeds: what pairing takes away from the interval is lost
    wrong = pairs_frame("fixed", "none", list(range(8))).assign(control_run=[f"none-{(s + 3) % 8}" for s in range(8)])
    other = paired_differences(values, wrong, log)
    assert (other["high"] - other["low"])[0] > 2 * (found["high"] - found["low"])[0]


def test_a_pair_that_lacks_a_value_is_left_out() -> None:
    runs = runs_frame({"a": [1.0, np.nan, 3.0], "b": [2.0, 2.0, 0.0]}).set_index("run")["x"]
    assert paired_differences(runs, pairs_frame("b", "a", [0, 1, 2, 3]))["seed"].tolist() == [0, 2]
    assert paired_differences(runs, pairs_frame("b", "a", [0, 1, 2, 3]), log=True)["seed"].tolist() == [0]


# --- Factors ---


def arm(**options: str) -> dict[str, object]:
    return {
        **dict.fromkeys(("freeze", "clip", "scheduler", "optimizer", "model", "data", "trainer"), "x"),
        "nuisance": 0,
        **options,
    }


def test_levels_are_named_within_their_factor() -> None:
    arms = {
        "1": arm(clip="none"),
        "2": arm(clip="delayed", **{"clip.start": 50}, scheduler="linear"),
        "3": arm(clip="delayed", **{"clip.start": 100}),
    }
    found = levels(arms)
    assert found.to_dict() == {
        "clip": {"1": "none", "2": "delayed[start=50]", "3": "delayed[start=100]"},
        "scheduler": {"1": "x", "2": "linear", "3": "x"},
    }


def test_cells_of_a_factorial() -> None:
    names = [f"{clip}-{scheduler}" for clip in ("none", "fixed") for scheduler in ("off", "on")]
    runs = runs_frame({name: [i, i + 2.0] for i, name in enumerate(names)})
    cells = pd.DataFrame(
        {"clip": [n.split("-")[0] for n in names], "scheduler": [n.split("-")[1] for n in names]},
        index=pd.Index(names, name="arm"),
    )
    found = interaction_means(runs, cells, "x")
    assert found[["panel", "line", "x", "mean", "n"]].to_numpy().tolist() == [
        ["", "off", "none", 1.0, 2],
        ["", "on", "none", 2.0, 2],
        ["", "off", "fixed", 3.0, 2],
        ["", "on", "fixed", 4.0, 2],
    ]
    assert len(interaction_means(runs[runs["arm"] != "fixed-on"], cells, "x")) == 0  # an L shape shows none


def test_within_seeds_what_all_cells_share_does_not_widen_an_interval() -> None:
    """With two cells, the interval of Morey has 1/√2 of the half-width of the paired difference."""
    draw = np.random.default_rng(1)
    seeds = 50 * draw.normal(size=6)
    x = {cell: seeds + draw.normal(size=6) for cell in "ab"}
    values = pd.DataFrame(
        [(cell, seed, v) for cell in "ab" for seed, v in enumerate(x[cell])], columns=["x", "seed", "y"]
    )
    found = within_seeds(values, ["x"], "y")
    paired = paired_effect(x["a"], x["b"]).interval()
    half = (found["high"] - found["low"]) / 2
    assert half.tolist() == pytest.approx([(paired.high - paired.low) / 2 / np.sqrt(2)] * 2)
    assert found["mean"].tolist() == pytest.approx([x["a"].mean(), x["b"].mean()])
    assert (over_seeds(values, ["x"], "y")["high"] - found["high"]).min() > 10  # the control: between seeds
    assert within_seeds(values[values["x"] == "a"], ["x"], "y")["low"].isna().all()


def test_levels_that_are_not_crossed_are_shown_with_those_that_are() -> None:
    table = [("none", "off"), ("none", "on"), ("d[t=100]", "off"), ("d[t=100]", "on"), ("d[t=20]", "off")]
    cells = pd.DataFrame(
        table, columns=["clip", "scheduler"], index=pd.Index(["-".join(row) for row in table], name="arm")
    )
    found = interaction_means(runs_frame({arm: [1.0, 2.0] for arm in cells.index}), cells, "x")
    assert found["x"].tolist() == ["none", "none", "d[t=20]", "d[t=100]", "d[t=100]"]


def test_runs_that_did_not_learn_count_where_they_should() -> None:
    runs = runs_frame({"a": [4.0, 1e-6], "b": [3.0]}).assign(learned=[True, False, True])
    assert per_seed(runs, "x", keeps_unlearned=False).drop_duplicates("arm")["mean"].tolist() == [4, 3]
    assert per_seed(runs, "x").drop_duplicates("arm")["mean"].tolist() == pytest.approx([2, 3], abs=1e-6)
    none = per_seed(runs.assign(learned=False), "x", keeps_unlearned=False)
    assert none["mean"].isna().all() and set(none["n"]) == {0}


def test_a_factor_that_varies_with_another_is_no_factor_of_its_own() -> None:
    """Each model has its own learning rate: model and optimizer are one factor, clip is crossed with it."""
    table = [(model, lr, clip) for model, lr in (("s", "1"), ("m", "2"), ("l", "3")) for clip in ("none", "fixed")]
    names = ["-".join(row) for row in table]
    cells = pd.DataFrame(table, columns=["model", "optimizer", "clip"], index=pd.Index(names, name="arm"))
    runs = runs_frame({name: [1.0, 2.0] for name in names})
    found = interaction_means(runs, cells, "x")
    assert found[["x_factor", "line_factor", "panel"]].drop_duplicates().to_numpy().tolist() == [["model", "clip", ""]]
    assert len(found) == 6
    assert len(interaction_means(runs, cells[["model", "optimizer"]], "x")) == 0


def test_the_pair_with_the_most_cells_is_shown() -> None:
    """Four optimizers, but only the first has several arms: the factorial of the other factors is shown."""
    table = [(o, "none", "off") for o in "abcd"] + [("a", "none", "on"), ("a", "fixed", "off"), ("a", "fixed", "on")]
    names = ["-".join(row) for row in table]
    cells = pd.DataFrame(table, columns=["optimizer", "clip", "scheduler"], index=pd.Index(names, name="arm"))
    found = interaction_means(runs_frame({name: [1.0] for name in names}), cells, "x")
    assert found[["x_factor", "line_factor", "panel"]].drop_duplicates().to_numpy().tolist() == [
        ["clip", "scheduler", "optimizer a"]
    ]
