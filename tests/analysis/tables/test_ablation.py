"""The ablation table on made-up studies, against scipy and statsmodels; its reference and its rows."""

import re
import shutil
import subprocess
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.claims.finding import Finding
from analysis.claims.pairing import Refused
from analysis.claims.reading import read_claims
from analysis.records.study import load
from analysis.tables.ablation import ablation
from analysis.tables.ablation_arms import ablated, ablation_reference
from analysis.tables.ablation_numbers import holm_where_known
from analysis.tables.all import reference_of
from analysis.tables.formats import to_latex, to_markdown
from analysis.tables.macros import macros
from tests.analysis.runs import change, steps_frame, write_run
from tests.analysis.studies import FROZEN, PAPER

SEEDS = 6
FULL = {"freeze": FROZEN, "clip": "fixed", "scheduler": "warmup_linear"}
LEAVE_ONE_OUT = {
    "full": FULL,
    "no-freeze": FULL | {"freeze": "none"},
    "no-clip": FULL | {"clip": "none"},
    "delayed": FULL | {"clip": "delayed"},
    "no-scheduler": FULL | {"scheduler": "none"},
    "empty": {},
}
GAINS = {"full": 0.0, "no-freeze": -0.05, "no-clip": 0.001, "delayed": 0.0, "no-scheduler": -0.03, "empty": -0.08}


def write_arms(folder, arms, seeds=SEEDS, **entries):
    """Runs of these arms; returns their accuracies, (seeds,) by name. A seed's part is shared by all arms."""
    draw = np.random.default_rng(1)
    shared, found = draw.normal(0, 0.02, seeds), {}
    for name, options in arms.items():
        found[name] = 0.85 + GAINS.get(name, 0.0) + shared + draw.normal(0, 0.004, seeds)
        for seed, share in enumerate(found[name]):
            metrics = {"test_accuracy": float(share), "validation_accuracy": float(share) - 0.01}
            write_run(folder, options, seed=seed, run=f"{name}-s{seed}", **{"metrics": metrics} | entries)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "study"
    return folder, write_arms(folder, LEAVE_ONE_OUT)


def test_the_rows_of_leave_one_out(made):
    table = ablation(load(made[0]))
    assert table.words["recipe"].tolist() == [
        *("reference", "− freeze", "− clip", "clip: delayed", "− scheduler", "none of them"),
    ]
    assert table.numbers["row"].tolist()[1:3] == ["without freeze", "without clip"]
    assert table.caption.startswith(
        f"Reference: {FROZEN}-fixed-warmup_linear (freeze={FROZEN}, clip=fixed, scheduler=warmup_linear), the arm from"
    )
    assert "over seeds and test examples, where predictions" in table.caption


def test_a_setting_at_0_is_a_component_that_is_left_out(tmp_path):
    """A learning rate that differs is none, and no row."""
    recipe = {"optimizer": {"weight_decay": 0.01, "lr": 1e-4}}
    others = {
        "recipe": recipe,
        "no-decay": {"optimizer": {"weight_decay": 0, "lr": 1e-4}},
        "no-dropout": recipe | {"model": {"dropout": 0}},
        "lr": {"optimizer": {"weight_decay": 0.01, "lr": 2e-4}},
    }
    for name, settings in others.items():
        for seed in range(3):
            write_run(tmp_path / "study", FULL, settings, seed=seed, run=f"{name}-s{seed}", accuracy=0.8 + 0.01 * seed)
    for seed in range(3):
        write_run(tmp_path / "study", FULL | {"clip": "none"}, recipe, seed=seed, run=f"no-clip-s{seed}")
    table = ablation(load(tmp_path / "study"))
    assert table.words["recipe"].tolist() == ["reference", "− clip", "− model.dropout", "− optimizer.weight_decay"]


def test_numbers_are_those_of_scipy_and_statsmodels(made):
    folder, accuracies = made
    numbers = ablation(load(folder)).numbers
    names = ["no-freeze", "no-clip", "delayed", "no-scheduler", "empty"]
    differences = [100 * (accuracies[name] - accuracies["full"]) for name in names]
    p = [stats.ttest_1samp(d, 0).pvalue for d in differences]
    adjusted = multipletests(p, method="holm")[1]
    for i, (name, d) in enumerate(zip(names, differences, strict=True)):
        row = numbers.iloc[i + 1]
        assert row["test_accuracy_mean"] == pytest.approx(accuracies[name].mean())
        assert row["test_accuracy_sd"] == pytest.approx(accuracies[name].std(ddof=1))
        assert row["test_accuracy_effect"] == pytest.approx(d.mean())
        bonferroni = stats.t.interval(1 - 0.05 / 5, SEEDS - 1, d.mean(), stats.sem(d))
        assert tuple(row[["test_accuracy_low", "test_accuracy_high"]]) == pytest.approx(bonferroni)
        assert (row["test_accuracy_p"], row["test_accuracy_p_holm"]) == pytest.approx((p[i], adjusted[i]))
        expected = "no difference shown" if adjusted[i] >= 0.05 else "lower" if d.mean() < 0 else "higher"
        assert row["test_accuracy_mark"] == expected
    assert set(numbers["test_accuracy_mark"]) == {"reference", "lower", "no difference shown"}


def test_unpaired_seeds_would_give_other_intervals(made, tmp_path):
    """The control: with the reference's accuracies turned round, the differences stay and the marks do not."""
    folder, accuracies = made
    turned = shutil.copytree(folder, tmp_path / "study")
    for seed in range(SEEDS):
        share = float(accuracies["full"][(seed + 3) % SEEDS])
        change(turned / f"full-s{seed}", metrics={"test_accuracy": share, "validation_accuracy": share - 0.01})
    before, after = (ablation(load(study)).numbers for study in (folder, turned))
    np.testing.assert_allclose(before["test_accuracy_effect"], after["test_accuracy_effect"])
    widths = [table["test_accuracy_high"] - table["test_accuracy_low"] for table in (before, after)]
    assert (widths[1][1:] > 3 * widths[0][1:]).all()


def test_quantities_on_the_log_scale_are_ratios_and_equal_pairs_are_named(made):
    table = ablation(load(made[0]))
    assert table.numbers["last_training_loss_effect"].tolist()[1:] == pytest.approx([1.0] * 5)
    assert set(table.numbers["step_seconds_mark"][1:]) == {"equal in every pair"}
    assert table.words["loss at the end, ratio"][1] == "×1.000 [–] equal in every pair"
    assert table.words["time of a step, s"][0] == "0.250 ± 0.000"


def test_the_best_mean_is_bold_everywhere(made):
    folder, accuracies = made
    table = ablation(load(folder))
    column = list(table.words).index("test accuracy %")
    best = max(range(6), key=lambda i: list(accuracies.values())[i].mean())
    texts = [text.partition(" ")[0] for text in table.words["test accuracy %"]]
    expected = {i for i, text in enumerate(texts) if text == texts[best]}
    assert {i for i, j in table.bold if j == column} == expected
    cell = table.words["test accuracy %"][best]
    assert f"| **{cell}** |" in to_markdown(table.words, table.bold)
    assert rf"\textbf{{{cell.replace('±', '$' + chr(92) + 'pm$')}}}" in table.latex
    assert r"\textbf{" in to_latex(table.words, table.bold) and r"\textbf{" not in to_latex(table.words)


def test_the_latex_has_the_difference_below_the_mean(made):
    table = ablation(load(made[0]))
    lines = table.latex.splitlines()
    assert all(line.startswith("%") for line in lines[:2]) and lines[2] == r"\begin{tabular}{lrrrr}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 2 + 2 * len(table.words) - 1 and {row.count(" & ") for row in rows} == {4}
    row = table.numbers.iloc[1]
    low, high = (f"{row[f'test_accuracy_{end}']:.1f}".replace("-", "$-$") for end in ("low", "high"))
    effect = f"{row['test_accuracy_effect']:.1f}".replace("-", "$-$")
    assert rows[3].startswith(r"$-$ freeze & ")
    assert rows[4].startswith(rf" & {{\scriptsize {effect}$^{{*}}$ {{[}}{low}, {high}]}} & ")
    assert "−" not in "".join(rows) and "±" not in "".join(rows)


# --- The reference ---


def test_the_reference_of_a_full_factorial_has_all_techniques(tmp_path):
    for freeze, clip in product(("none", FROZEN), ("none", "fixed")):
        write_arms(tmp_path, {f"{freeze}-{clip}": {"freeze": freeze, "clip": clip}}, seeds=1)
    label, why = ablation_reference(load(tmp_path))
    assert label == f"{FROZEN}-fixed" and "changed one at a time" in why


def test_the_reference_of_add_one_in_is_the_empty_recipe(tmp_path):
    arms = {"empty": {}, "a": {"clip": "fixed"}, "b": {"scheduler": "warmup_linear"}, "c": {"clip": "delayed"}}
    write_arms(tmp_path, arms, seeds=2)
    table = ablation(load(tmp_path))
    assert table.words["recipe"].tolist() == [
        *("reference", "+ clip: fixed", "+ clip: delayed", "+ scheduler"),
    ]
    assert table.numbers["row"].tolist()[-1] == "with scheduler"


def test_the_reference_of_arms_that_differ_in_one_factor_is_the_first(tmp_path):
    """As where every arm is compared with a reference. Control: with a second factor it is the fullest recipe."""
    write_arms(tmp_path, {"a": {}, "b": {"clip": "fixed"}, "c": {"clip": "delayed"}}, seeds=1)
    label, why = ablation_reference(load(tmp_path))
    assert label == "none" and why.startswith("the first arm that")
    both = {"d": {"scheduler": "warmup_linear"}, "e": {"clip": "fixed", "scheduler": "warmup_linear"}}
    write_arms(tmp_path, both, seeds=1)
    assert ablation_reference(load(tmp_path))[0] == "fixed-warmup_linear"


def test_the_claims_choose_the_reference(made):
    study = load(made[0])
    label, why = ablation_reference(study, {"clip": "delayed"})
    assert label.split("-")[1] == "delayed" and why == "the reference of the claims"
    assert ablation(study, {"clip": "delayed"}).words["recipe"].tolist() == [
        *("reference", "− clip", "clip: fixed", "none of them"),
    ]
    with pytest.raises(Refused, match="no arm has clip=other"):
        ablation(study, {"clip": "other"})


@pytest.mark.parametrize(("reference", "expected"), [({"clip": "delayed"}, "delayed"), (None, "none")])
def test_claims_that_compare_all_arms_name_the_reference(tmp_path, reference, expected):
    """Without settings it is the first arm that is no A/A control, as in the comparison itself."""
    for run, (clip, nuisance) in {"a": ("none", 1), "b": ("none", 0), "c": ("delayed", 0)}.items():
        write_run(tmp_path, {"clip": clip}, run=run, nuisance=nuisance)
    study = load(tmp_path)
    claims = SimpleNamespace(compare=SimpleNamespace(reference=reference))
    assert ablation_reference(study, reference_of(claims, study))[0].startswith(expected)
    assert reference_of(read_claims(PAPER), study) is None


def test_a_grid_of_learning_rates_is_no_ablation(tmp_path):
    write_arms(tmp_path, {"a": {}, "b": {"clip": "fixed"}}, seeds=2)
    for seed, lr in product(range(2), (1e-3, 1e-2)):
        write_run(tmp_path, {}, {"optimizer": {"lr": lr}}, seed=seed, run=f"lr{lr}-s{seed}")
        write_run(tmp_path, {"optimizer": "sgd"}, {"optimizer": {"lr": lr}}, seed=seed, run=f"sgd{lr}-s{seed}")
    study = load(tmp_path)
    reference, _ = ablation_reference(study, {"clip": "none", "optimizer": "adamw", "optimizer.lr": 1e-4})
    assert [row.name for row in ablated(study, reference)] == [
        *("+ clip", "optimizer: sgd[lr=0.001]", "optimizer: sgd[lr=0.01]"),
    ]


def test_where_no_technique_varies_the_optimizer_is_ablated(tmp_path):
    for seed, lr in product(range(2), (1e-3, 1e-2)):
        write_run(tmp_path, {}, {"optimizer": {"lr": lr}}, seed=seed, run=f"lr{lr}-s{seed}")
    assert ablation(load(tmp_path)).words["recipe"].tolist() == ["reference", "optimizer: adamw[lr=0.01]"]


def test_options_of_one_kind_are_ordered_by_their_numbers(tmp_path):
    write_arms(tmp_path, {"a": {}, "z": {"clip": "fixed"}}, seeds=1)
    for run, start in (("b", 100), ("c", 20), ("y", 50)):
        write_run(tmp_path, {"clip": "delayed"}, {"clip": {"start": start}}, run=run)
    study = load(tmp_path)
    assert [row.name for row in ablated(study, "none")] == [
        *(f"+ clip: delayed[start={start}]" for start in (20, 50, 100)),
        "+ clip: fixed",
    ]


# --- What cannot be compared ---


def test_unpaired_arms_are_named_and_not_compared(made, tmp_path):
    study = shutil.copytree(made[0], tmp_path / "study")
    for seed in range(SEEDS):
        change(study / f"no-clip-s{seed}", environment={"key": "another", "earlier": []})
    table = ablation(load(study))
    row = table.words[table.words["recipe"] == "− clip"].iloc[0]
    assert row["test accuracy, difference in points"] == "–" and row["test accuracy %"] != "–"
    assert "Not compared: − clip, test accuracy, validation accuracy," in table.caption
    assert "differs in environment.key" in table.caption
    # the others are adjusted for four rows, not five
    d = 100 * (made[1]["no-freeze"] - made[1]["full"])
    low, _ = stats.t.interval(1 - 0.05 / 4, SEEDS - 1, d.mean(), stats.sem(d))
    assert table.numbers["test_accuracy_low"][1] == pytest.approx(low)


def test_missing_and_diverged_seeds(made, tmp_path):
    study = shutil.copytree(made[0], tmp_path / "study")
    shutil.rmtree(study / "no-clip-s0")
    change(study / "no-freeze-s1", status="diverged", metrics={})
    numbers = ablation(load(study)).numbers.set_index("row")
    assert numbers.loc["without clip", ["test_accuracy_n", "test_accuracy_paired"]].tolist() == [5, 5]
    assert numbers.loc["without freeze", "test_accuracy_n"] == SEEDS
    others = np.delete(made[1]["no-freeze"], 1)
    assert numbers.loc["without freeze", "test_accuracy_mean"] == pytest.approx(np.mean([*others, 0.5]))
    assert numbers.loc["without freeze", ["last_training_loss_n", "step_seconds_n"]].tolist() == [5, SEEDS]


def test_what_no_run_can_show_is_named(tmp_path):
    """Runs that learn nothing have no loss at the end that could be compared, and copied steps have no time."""
    untimed = {"steps.parquet": steps_frame(20).assign(seconds=np.nan)}
    write_arms(tmp_path, {"a": {}, "b": {"clip": "fixed"}}, seeds=2, accuracy=0.5)
    for seed in range(2):
        write_run(tmp_path, {"clip": "delayed"}, seed=seed, run=f"c-s{seed}", accuracy=0.5, frames=untimed)
    table = ablation(load(tmp_path), {"clip": "none"})
    assert "Left out: validation accuracy" not in table.caption
    assert "Left out: training loss at the end (no run learns)." in table.caption
    assert "+ clip: delayed, time of a step: seconds: the run computed no step itself" in table.caption


def test_one_seed_shows_differences_and_no_mark(tmp_path):
    write_arms(tmp_path, {"a": {}, "b": {"clip": "fixed"}}, seeds=1)
    table = ablation(load(tmp_path))
    assert re.fullmatch(r"[+−]\d\.\d \[–\] one seed", table.words["test accuracy, difference in points"][1])


def test_studies_without_such_arms_have_no_table(tmp_path):
    write_arms(tmp_path, {"a": {}, "b": {"clip": "fixed", "scheduler": "warmup_linear"}}, seeds=1)
    with pytest.raises(Refused, match="no arm differs from"):
        ablation(load(tmp_path))
    with pytest.raises(Refused, match="no finished run"):
        ablation_reference(load(tmp_path, only=[]))


def test_studies_without_validation_have_no_such_column(tmp_path):
    write_arms(tmp_path, {"a": {}, "b": {"clip": "fixed"}}, seeds=2, metrics={"test_accuracy": 0.8})
    table = ablation(load(tmp_path))
    assert not any("validation" in name for name in table.words)
    assert "Left out: validation accuracy (not recorded)." in table.caption
    assert not table.bold  # all means are equal


def test_names_do_not_act_as_markup(tmp_path):
    name = "my_$rule%&|<b>[x]\\"
    write_arms(tmp_path, {"a": {}, "b": {"clip": "fixed"}, "c": {"clip": name}}, seeds=2)
    latex = ablation(load(tmp_path), {"clip": "none"}).latex
    assert r"+ clip: my\_\$rule\%\&\textbar{}\textless{}b\textgreater{}{[}x]\textbackslash{} & " in latex


def test_holm_counts_effects_without_a_p():
    assert holm_where_known([]) == []
    assert holm_where_known([0.04, None]) == pytest.approx([0.08, np.nan], nan_ok=True)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_the_table_and_the_macros(made, tmp_path):
    study = load(made[0])
    table = ablation(study)
    (tmp_path / "ablation.tex").write_text(table.latex)
    text = r"""\documentclass{article}\usepackage{booktabs}\input{ablate}\begin{document}
    \input{ablation} $\ablate{study.runs}$ runs, \ablate{%s} \end{document}"""
    finding = Finding("clip=fixed: test accuracy", "E > 5_0 % & −1×10⁻⁵", None)
    (tmp_path / "ablate.tex").write_text(macros(study, read_claims(PAPER), (finding,), [table]))
    for key, code in (("ablation.reference", 0), (f"{finding.id}.statement", 0), ("no.such.key", 1)):
        (tmp_path / "main.tex").write_text(text % key)
        command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stdout[-2000:]
        assert code == 0 or "No number has the key `no.such.key'" in done.stdout
