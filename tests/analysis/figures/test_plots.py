"""The data of matplotlib's artists, read back from them; no pixels are compared."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import plots
from analysis.figures.forest import limits_of_effects
from analysis.figures.style import COLORS, add_legend, applied, legend_for, line_styles, literal, log_axis, wrapped
from analysis.tables.numbers import plain_number

NASTY = ("$x$", "a_b", "100%", "<script>alert(1)</script>", "None", "_hidden", "\\frac{1}{2} $\\alpha$", "a & b")


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def line(ax: Axes, label: str) -> Line2D:
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def xy(artist: Line2D) -> list[list[float]]:
    return np.column_stack([artist.get_xdata(), artist.get_ydata()]).tolist()


def curve(arms: tuple[str, ...] = ("none", "fixed"), steps: int = 12) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"arm": arm, "step": np.arange(1.0, steps + 1), "mean": np.linspace(1, 2 + i, steps)})
        for i, arm in enumerate(arms)
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(low=frame["mean"] - 0.1, high=frame["mean"] + 0.3, n=3, diverged=0)


# --- Curves ---


def test_a_line_goes_through_the_means_and_a_band_round_them(ax: Axes) -> None:
    data = curve()
    assert plots.draw_curves(data, ax) is ax
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    for (arm, part), band in zip(data.groupby("arm", sort=False), bands, strict=True):
        assert xy(line(ax, arm)) == part[["step", "mean"]].to_numpy().tolist()
        corners = {tuple(point) for point in band.get_paths()[0].vertices.round(6)}
        for side in ("low", "high"):
            assert {tuple(point) for point in part[["step", side]].to_numpy().round(6)} <= corners


def test_no_band_where_there_is_one_seed(ax: Axes) -> None:
    plots.draw_curves(curve(("none",)).assign(low=np.nan, high=np.nan, n=1), ax)
    assert [band.get_paths() for band in ax.collections] in ([[]], [])
    assert len(line(ax, "none").get_xdata()) == 12


def test_each_failed_run_has_a_mark_at_its_own_last_point(ax: Axes) -> None:
    ends = pd.DataFrame(
        {"arm": "none", "step": [4.0, 5.0, 12.0, 12.0], "mean": [9.0, np.nan, 0.7, -3.0], "diverged": [1, 1, 0, 0]}
    )
    plots.draw_run_ends(ends, ax, line_styles(["none"]), (0.0, 2.0))
    assert xy(line(ax, "none diverged")) == [[4, 2], [5, 2]]  # beyond the axis and not finite: at its upper end
    assert xy(line(ax, "none not learned")) == [[12, 0.7], [12, 0]]
    assert {line(ax, "none diverged").get_marker(), line(ax, "none not learned").get_marker()} == {"x", "o"}


def test_twelve_arms_are_distinguishable_in_grey() -> None:
    of = line_styles([str(i) for i in range(12)])
    assert len({(style.dashes, style.marker) for style in of.values()}) == 12
    assert len({(style.color, style.dashes) for style in of.values()}) == 12
    assert not {style.color for style in of.values()} - set(COLORS)


def test_an_arm_keeps_its_line_style_whichever_others_are_drawn(ax: Axes) -> None:
    of = line_styles(["none", "fixed", "delayed"])
    plots.draw_curves(curve(("delayed",)), ax, of)
    assert line(ax, "delayed").get_color() == of["delayed"].color
    assert line(ax, "delayed").get_color() != line_styles(["delayed"])["delayed"].color


def test_only_the_given_axes_are_drawn_on() -> None:
    left, right = Figure().subplots(1, 2)
    plots.draw_curves(curve(), left)
    assert not right.lines and not right.collections


# --- Shares, layers ---


def test_shares_are_side_by_side_at_their_heights(ax: Axes) -> None:
    data = pd.DataFrame({"arm": ["a"] * 2 + ["b"] * 2, "bin": [1, 2] * 2, "mean": [60.0, 40.0, 30.0, 70.0]})
    plots.draw_shares(data.assign(low=data["mean"] - 5, high=data["mean"] + 10), ax)
    points = [container.lines[0] for container in ax.containers]
    assert [list(p.get_ydata()) for p in points] == [[60, 40], [30, 70]]
    assert (points[0].get_xdata() < points[1].get_xdata()).all()
    assert [round(x) for p in points for x in p.get_xdata()] == [1, 2, 1, 2]
    bars = ax.containers[0].lines[2][0].get_segments()
    assert [[y for _, y in segment] for segment in bars] == [[55, 70], [35, 50]]


def test_a_heat_map_holds_the_norms_with_holes_where_nothing_is_trained(ax: Axes) -> None:
    grid = pd.DataFrame(
        {"place": ["0 mlp", "0 mlp", "head", "head"], "step": [10.0, 20.0, 10.0, 20.0], "mean": [1.0, 2.0, 3.0, 0.0]}
    )
    plots.draw_heat_map(grid, ax, places=["embedding", "0 mlp", "head"])
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    assert mesh.get_array().filled(-1).tolist() == [[-1, -1], [1, 2], [3, -1]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["embedding", "0 mlp", "head"]
    assert mesh.get_coordinates()[0, :, 0].tolist() == [5, 15, 25]
    assert mesh.get_rasterized()


# --- Seed by seed ---


def test_a_seed_s_line_goes_through_all_arms_and_breaks_where_it_lacks_one(ax: Axes) -> None:
    values = pd.DataFrame({"arm": ["a", "a", "b", "c", "c"], "seed": [0, 1, 0, 0, 1], "value": [1.0, 2, 3, 4, 5]})
    means = pd.DataFrame({"arm": ["a", "b", "c"], "mean": [1.5, 3, 4.5], "low": [1.0, 2, 4], "high": [2.0, 4, 5]})
    plots.draw_slopes(values.merge(means, on="arm"), ax)
    assert xy(line(ax, "seed 0")) == [[1, 0], [3, 1], [4, 2]]
    assert np.isnan(line(ax, "seed 1").get_xdata()[1])
    assert [line(ax, f"mean of {arm}").get_xdata()[0] for arm in "abc"] == [1.5, 3, 4.5]
    assert list(line(ax, "interval of c").get_xdata()) == [4, 5]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first arm is on top


def test_every_difference_is_a_dot_and_no_two_dots_of_a_row_coincide(ax: Axes) -> None:
    data = pd.DataFrame({"treatment": "b", "seed": range(20), "effect": 0.5, "mean": 0.5, "low": 0.4, "high": 0.6})
    plots.draw_differences(data, ax, none=1.0)
    dots = line(ax, "b")
    assert list(dots.get_xdata()) == [0.5] * 20
    assert len(set(dots.get_ydata())) == 20
    assert all(-0.5 < y < 0 for y in dots.get_ydata())
    assert [1.0, 1.0] in [list(artist.get_xdata()) for artist in ax.lines]


def test_lines_of_an_interaction(ax: Axes) -> None:
    data = pd.DataFrame(
        {"line": ["off", "on"] * 2, "x": ["none", "none", "fixed", "fixed"], "mean": [1.0, 2.0, 3.0, 9.0]}
    )
    plots.draw_interaction(data.assign(low=data["mean"] - 1, high=data["mean"] + 1), ax)
    lines = {container.get_label(): container.lines[0] for container in ax.containers}
    assert {name: list(artist.get_ydata()) for name, artist in lines.items()} == {"off": [1, 3], "on": [2, 9]}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["none", "fixed"]
    assert [round(x) for x in lines["on"].get_xdata()] == [0, 1]


# --- Claims ---


def claims() -> pd.DataFrame:
    columns = ["id", "statement", *plots.EFFECTS, "verdict"]
    rows = [
        ("A", "below", -0.7, -1.0, -0.4, -1.2, -0.2, -0.4, "supported"),
        ("B", "above", 0.1, -0.2, 0.4, -0.4, 0.6, 0.3, "inconclusive"),
        ("H", "not tested", *[np.nan] * 6, "not tested"),
    ]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize("ratio", [False, True])
def test_a_forest_shows_effects_intervals_and_the_smallest_effect_on_the_claimed_side(ax: Axes, ratio: bool) -> None:
    shown = np.exp if ratio else float
    plots.draw_forest(claims(), ax, ratio)
    for row, claim in enumerate(claims().to_dict("records")[:2]):
        assert xy(line(ax, claim["id"])) == [[pytest.approx(shown(claim["effect"])), row]]
        for kind, sides in {
            "plain": ("low", "high"),
            "simultaneous": ("simultaneous_low", "simultaneous_high"),
        }.items():
            expected = [shown(claim[side]) for side in sides]
            assert list(line(ax, f"{claim['id']} {kind}").get_xdata()) == pytest.approx(expected)
        shaded = ax.collections[row].get_paths()[0].vertices[:, 0]
        beyond = ax.get_xlim()[1] if claim["smallest_effect"] > 0 else ax.get_xlim()[0]
        assert {round(float(x), 6) for x in shaded} == {
            round(float(x), 6) for x in (shown(claim["smallest_effect"]), beyond)
        }
    assert len(ax.collections) == 2  # nothing is shaded for a claim without a smallest effect
    assert [text.get_text() for text in ax.texts] == ["supported", "inconclusive", "not tested"]
    none = ax.lines[0].get_xdata()
    assert list(none) == ([1, 1] if ratio else [0, 0])


@pytest.mark.parametrize(("ratio", "left"), [(False, -0.3), (True, np.exp(-0.3))])
def test_a_claim_of_either_side_is_shaded_on_both(ax: Axes, ratio: bool, left: float) -> None:
    either = claims().assign(side=[-1.0, 0.0, np.nan])
    plots.draw_forest(either, ax, ratio)
    spans = [part.get_paths()[0].vertices[:, 0] for part in ax.collections[1:]]
    assert len(spans) == 2 and max(spans[0]) == pytest.approx(left) and min(spans[0]) == ax.get_xlim()[0]
    assert limits_of_effects(either)[0] <= -0.3


# --- Names and numbers ---


@pytest.mark.parametrize("name", NASTY)
def test_names_are_never_read_as_formulas(name: str) -> None:
    """On the user's own Axes with matplotlib's default settings, which draw `$x$` as an italic x."""
    figure = Figure()
    ax = figure.subplots()
    values = pd.DataFrame(
        {"arm": [name, "other"], "seed": 0, "value": [1.0, 2.0], "mean": 1.0, "low": 0.0, "high": 2.0}
    )
    plots.draw_slopes(values, ax)
    add_legend(figure, legend_for(line_styles([name]), 6))
    figure.canvas.draw()
    shown = [*ax.get_yticklabels(), *figure.legends[0].get_texts()]
    assert [text.get_text() for text in shown] == [name, "other", name]
    assert not any(text.get_parse_math() or text.get_usetex() for text in shown)
    unguarded = ax.set_title(name)
    assert unguarded.get_parse_math()  # the control: what `literal` changes
    literal(unguarded)
    assert not unguarded.get_parse_math()


@pytest.mark.parametrize("width", [1, 5, 20, 100])
def test_wrapping_loses_no_sign(width: int) -> None:
    name = "embeddings_attention-delayed[start=50,rule=value]-warmup_linear " + "x" * 50
    assert wrapped(name, width).replace("\n", "").replace(" ", "") == name.replace(" ", "")
    assert max(map(len, wrapped(name, width).split("\n"))) <= width


def test_a_legend_has_room_for_all_of_its_names() -> None:
    names = ["a", "none-fixed-none", "m" * 90, "w" * 300]
    with applied():
        of = legend_for(line_styles(names), 6.8)
        figure = Figure((6.8, 1 + of.height), dpi=100, layout="constrained")
        figure.subplots()
        add_legend(figure, of)
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
    assert box.x1 <= 680 and box.height <= 100 * of.height + 10
    assert legend_for(line_styles(["a", "b", "c"]), 6.8).columns == 3


@pytest.mark.parametrize("ends", [(0.9, 1.1), (0.99, 1.3), (1e-5, 3e-4), (0.5, 4), (0.03, 80), (1e-12, 1e9), (1, 1)])
def test_a_log_axis_has_ticks_enough_and_none_on_another(ax: Axes, ends: tuple[float, float]) -> None:
    ax.plot(ends, ends)
    log_axis(ax.yaxis)
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    labels = [label for label in ax.get_yticklabels() if low <= label.get_position()[1] <= high]
    texts = [label.get_text() for label in labels]
    assert 2 <= len(texts) <= 9
    assert len(set(texts)) == len(texts) and not any("$" in text for text in texts)
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_numbers_are_plain_text() -> None:
    assert [plain_number(x) for x in (0, 1, -0.25, 1e-4, 2.5e-7, 1e6)] == [
        "0",
        "1",
        "−0.25",
        "1×10⁻⁴",
        "2.5×10⁻⁷",
        "1×10⁶",
    ]
