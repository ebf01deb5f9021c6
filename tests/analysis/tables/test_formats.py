import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from analysis.quantities import formulas
from analysis.records.study import load
from analysis.tables.formats import LATEX, summary, summary_in_words, to_csv, to_latex, to_markdown
from tests.analysis.runs import change, steps_frame, write_run

ACCURACY = {"none": [0.80, 0.82, 0.84], "fixed": [0.85, 0.85, 0.88]}


@pytest.fixture
def study(tmp_path):
    """Arms none and fixed on seeds 0 to 2, in that order."""
    for seed in range(3):
        for minute, (clip, accuracy) in enumerate(ACCURACY.items()):
            write_run(
                tmp_path,
                {"clip": clip},
                seed=seed,
                run=f"{clip}-s{seed}",
                accuracy=accuracy[seed],
                timing={"started": f"2026-01-01T00:{2 * seed + minute:02}:00Z"},
            )
    return tmp_path


def test_one_row_an_arm_in_order_of_first_appearance(study):
    table = summary(load(study))
    assert table["arm"].tolist() == ["none", "fixed"]
    assert table[["done", "diverged", "planned"]].to_numpy().tolist() == [[3, 0, 3]] * 2
    np.testing.assert_allclose(table["test_accuracy"], [0.82, 0.86])
    np.testing.assert_allclose(table["test_accuracy_sd"], [0.02, 0.03 / np.sqrt(3)])
    rates = [formulas.clip_rate(steps_frame(20, seed)) for seed in range(3)]
    np.testing.assert_allclose(table["clip_rate"], [np.mean(rates)] * 2)
    assert table.drop(columns=["validation_accuracy", "validation_accuracy_sd"]).notna().all(axis=None)


def test_validation_is_directly_before_test(study):
    for clip, accuracies in ACCURACY.items():
        for seed, accuracy in enumerate(accuracies):
            metrics = {"test_accuracy": accuracy, "validation_accuracy": accuracy - 0.1}
            change(study / f"{clip}-s{seed}", metrics=metrics)
    table = summary(load(study))
    np.testing.assert_allclose(table["validation_accuracy"], [0.72, 0.76])
    words = summary_in_words(table)
    assert list(words)[2:4] == ["validation accuracy %", "test accuracy %"]
    assert words["validation accuracy %"].tolist() == ["72.0 ± 2.0", "76.0 ± 1.7"]
    change(study / "fixed-s0", metrics={"test_accuracy": 0.85})
    assert summary_in_words(summary(load(study)))["validation accuracy %"].tolist() == ["72.0 ± 2.0", "–"]


def test_the_summary_in_words(study):
    words = summary_in_words(summary(load(study)))
    assert list(words) == [
        *("arm", "seeds", "test accuracy %", "loss at the end", "‖g‖", "clip rate", "Δg", "training s"),
    ]
    assert words["test accuracy %"].tolist() == ["82.0 ± 2.0", "86.0 ± 1.7"]
    assert words["seeds"].tolist() == ["3", "3"]
    assert words["training s"].tolist() == ["5.0", "5.0"]


def test_a_diverged_seed_is_seen_in_the_count_and_not_in_the_mean(study):
    change(study / "fixed-s2", status="diverged", metrics={})
    table = summary(load(study))
    assert table[["done", "diverged", "planned"]].to_numpy().tolist() == [[3, 0, 3], [2, 1, 3]]
    assert table["test_accuracy"].iloc[1] == pytest.approx(0.85)
    assert summary_in_words(table)["seeds"].tolist() == ["3", "2/3 (1 diverged)"]


@pytest.mark.parametrize("fault", ["absent", "running", "failed", "broken"])
def test_a_seed_that_is_not_there_is_seen_in_the_count(study, fault):
    folder = study / "fixed-s2"
    if fault == "absent":
        shutil.rmtree(folder)
    elif fault == "broken":
        (folder / "steps.parquet").write_bytes(b"")
    else:
        change(folder, status=fault)
    words = summary_in_words(summary(load(study)))
    assert words["seeds"].tolist() == ["3", "2/3"]
    assert words["test accuracy %"].iloc[1] == "85.0 ± 0.0"


def test_a_seed_that_no_arm_finished_is_still_one_of_the_study(study):
    for clip in ACCURACY:
        change(study / f"{clip}-s2", status="running")
    assert summary_in_words(summary(load(study)))["seeds"].tolist() == ["2/3", "2/3"]


def test_a_single_seed_has_no_spread(study):
    for seed in (1, 2):
        shutil.rmtree(study / f"none-s{seed}")
        shutil.rmtree(study / f"fixed-s{seed}")
    table = summary(load(study))
    assert table["test_accuracy_sd"].isna().all()
    assert summary_in_words(table)["test accuracy %"].tolist() == ["80.0 ± –", "85.0 ± –"]
    assert summary_in_words(table)["seeds"].tolist() == ["1", "1"]


def test_an_arm_without_any_done_run_stays_in_the_table(study):
    for seed in range(3):
        change(study / f"fixed-s{seed}", status="failed")
    words = summary_in_words(summary(load(study)))
    assert words.iloc[1].tolist() == ["fixed", "0/3", "–", "–", "–", "–", "–", "–"]


def test_no_quantity_is_a_mean_over_fewer_runs_than_the_count_says(study):
    """A done run that lacks a quantity makes it a dash, never a mean over the others."""
    untimed = {"steps.parquet": steps_frame(20).assign(seconds=np.nan)}
    shutil.rmtree(study / "fixed-s2")
    write_run(study, {"clip": "fixed"}, seed=2, run="fixed-s2", frames=untimed, timing=None)
    words = summary_in_words(summary(load(study)))
    assert words["training s"].tolist() == ["5.0", "–"] and words["clip rate"].iloc[1] != "–"


def test_an_empty_study_has_an_empty_table(tmp_path):
    table = summary(load(tmp_path))
    assert table.empty and next(iter(summary_in_words(table))) == "arm"
    assert isinstance(summary_in_words(table), pd.DataFrame)


# --- CSV, Markdown, LaTeX ---

NASTY = [
    *(
        "None",
        "null",
        "NA",
        "nan",
        "<script>alert(1)</script>",
        "$x$",
        "warmup_linear_hf",
        "50%",
        "a&b",
        "#1",
    ),
    *("a|b", "[a](b)", "*a*", "`a`", "~~a~~", "\\input{x}", "{a}", "delayed[start=50]", "a^b", "&amp;", "-"),
]


def named(arms):
    return pd.DataFrame({"arm": arms, "done": [3] * len(arms), "Δg": [0.25] * len(arms)})


class Cells(HTMLParser):
    """The text of each table cell; any tag that Markdown's own table does not need is an error."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open = [], False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        assert tag in {"table", "thead", "tbody", "tr", "th", "td"}, f"a name became <{tag}>"
        if tag in {"th", "td"}:
            self.found.append("")
            self.open = True

    def handle_endtag(self, tag):
        self.open = self.open and tag not in {"th", "td"}

    def handle_data(self, data):
        if self.open:
            self.found[-1] += data


def read_markdown(text):
    return Cells(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)).found


def test_csv_comes_back_exact():
    back = pd.read_csv(io.StringIO(to_csv(named(NASTY))), keep_default_na=False)
    pd.testing.assert_frame_equal(back, named(NASTY))
    assert to_csv(pd.DataFrame({"a": ["x"], "b": [np.nan]})) == "a,b\nx,\n"


def test_markdown_shows_every_name_as_it_is():
    shown = read_markdown(to_markdown(named(NASTY)))
    assert shown[:3] == ["arm", "done", "Δg"]
    assert shown[3::3] == NASTY and set(shown[4::3]) == {"3"} and set(shown[5::3]) == {"0.25"}


@given(st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12), max_size=5))
def test_markdown_shows_any_name_as_it_is(names):
    assert read_markdown(to_markdown(named(names)))[3::3] == names


def test_unescaped_names_would_not_survive_markdown():
    """The negative control: the reader above does see markup."""
    with pytest.raises(AssertionError, match="became <script>"):
        read_markdown("| arm |\n| --- |\n| <script> |\n")


def test_markdown_by_eye():
    assert to_markdown(named(["fixed"])) == "| arm | done | Δg |\n| --- | --: | --: |\n| fixed | 3 | 0.25 |\n"


def test_columns_of_words_stand_left():
    words = pd.DataFrame({"arm": ["a"], "scheduler": ["none"], "effect": ["−0.3 to 0.1"], "done": ["–"]})
    assert to_markdown(words).splitlines()[1] == "| --- | --- | --: | --: |"
    assert to_latex(words).startswith("\\begin{tabular}{llrr}\n")


def test_latex_by_eye():
    assert to_latex(named(["a_b", "[50%]"])) == (
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "arm & done & $\\Delta$g \\\\\n"
        "\\midrule\n"
        "a\\_b & 3 & 0.25 \\\\\n"
        "{[}50\\%] & 3 & 0.25 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


@pytest.mark.parametrize("name", NASTY)
def test_latex_shows_every_name_and_leaves_no_sign_active(name):
    cell = to_latex(named([name])).splitlines()[4].partition(" & 3 & ")[0]
    signs = {escaped: chr(sign) for sign, escaped in LATEX.items() if escaped != " "}
    escapes = re.compile("|".join(re.escape(e) for e in sorted(signs, key=len, reverse=True)))
    assert escapes.sub(lambda match: signs[match[0]], cell) == name
    assert not set(escapes.sub("", cell)) & set("\\{}$&#^_~%<>|[")


def test_chosen_cells_are_bold():
    table = named(["a", "b"])
    assert to_markdown(table, frozenset({(1, 2)})).splitlines()[2:] == ["| a | 3 | 0.25 |", "| b | 3 | **0.25** |"]
    assert to_latex(table, frozenset({(0, 0)})).splitlines()[4:6] == [r"\textbf{a} & 3 & 0.25 \\", r"b & 3 & 0.25 \\"]


def test_missing_numbers_are_dashes_and_line_breaks_do_not_break_rows():
    table = pd.DataFrame({"arm": ["a\nb"], "x": [np.nan], "y": [1 / 3]})
    assert to_markdown(table).splitlines()[2] == "| a b | – | 0.3333 |"
    assert to_latex(table).splitlines()[4] == r"a b & -- & 0.3333 \\"


def test_the_words_of_a_summary_in_latex(study):
    latex = to_latex(summary_in_words(summary(load(study))))
    assert r"none & 3 & 82.0 $\pm$ 2.0 &" in latex and r"test accuracy \%" in latex
