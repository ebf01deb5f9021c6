"""Tables of results that others wrote: read, judged, and refused with row and column."""

import csv
import json
import random
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis import __main__ as command
from analysis.claims.judge import judge_claims
from analysis.claims.reading import for_study, read_claims
from analysis.claims.verdict_rule import Verdict
from analysis.page.sentences import findings_in_words
from analysis.report import Report
from analysis.result_tables import TableOptions, is_result_path, load_results
from tests.tools import ROOT, bash_commands

ARMS, DATA_SETS, SEEDS = {"none": 0.0, "fixed": 0.03, "delayed": 0.0}, ("imdb", "sst2", "mr", "cr"), range(10)

CLAIMS = """
seeds: 10
claims:
  planted: {statement: fixed raises it, quantity: acc, scale: points, contrast: datasets, treatment: {clip: fixed},
            control: {clip: none}, changes: [clip], direction: above, smallest_effect: 1, why: planted}
  absent: {statement: delayed does not, quantity: acc, scale: points, contrast: datasets, treatment: {clip: delayed},
           control: {clip: none}, changes: [clip], direction: above, smallest_effect: 2, why: planted}
  steps: {statement: less jitter, quantity: probe_jitter, scale: log, treatment: {clip: fixed}, control: {clip: none},
          within: {data: imdb}, changes: [clip], direction: below}
"""


def planted_rows(rng):
    """Three arms, four data sets, ten seeds: `fixed` adds 3 points to what seed and data set have in common."""
    shared = {(data, seed): 0.8 + rng.gauss(0, 0.01) for data in DATA_SETS for seed in SEEDS}
    return [
        {"clip": clip, "dataset": data, "seed": seed, "acc": round(common + gain + rng.gauss(0, 0.004), 5)}
        for clip, gain in ARMS.items()
        for (data, seed), common in shared.items()
    ]


def written(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def judged(study, folder, text=CLAIMS):
    (folder / "mine.yaml").write_text(text)
    claims = for_study(read_claims(folder / "mine.yaml", table=study.table), study)
    return {f.id: f for f in judge_claims(study, claims).findings}, claims


def test_a_planted_effect_on_four_data_sets_gets_the_right_verdicts(tmp_path):
    study = load_results(written(tmp_path / "results.csv", planted_rows(random.Random(0))))
    found, _ = judged(study, tmp_path)
    assert found["planted"].verdict is Verdict.SUPPORTED
    assert found["planted"].effect == pytest.approx(3, abs=0.3)
    assert found["absent"].verdict is Verdict.EQUIVALENT
    assert len(found["planted"].parts) == 4
    assert found["steps"].verdict is Verdict.NOT_TESTED
    assert "a table of results has no steps" in " ".join(found["steps"].notes)


def test_without_the_planted_effect_nothing_is_supported(tmp_path):
    rows = [row | {"acc": row["acc"] - ARMS[row["clip"]]} for row in planted_rows(random.Random(0))]
    found, _ = judged(load_results(written(tmp_path / "results.csv", rows)), tmp_path)
    assert found["planted"].verdict is not Verdict.SUPPORTED


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".parquet"])
def test_all_formats_give_the_same_runs(tmp_path, suffix):
    rows = planted_rows(random.Random(1))[:60]
    frame, other = pd.DataFrame(rows), tmp_path / f"results{suffix}"
    write = {
        ".tsv": lambda: frame.to_csv(other, sep="\t", index=False),
        ".jsonl": lambda: frame.to_json(other, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(other),
    }
    write[suffix]()
    one, two = load_results(written(tmp_path / "a.csv", rows)), load_results(other)
    columns = ["arm", "seed", "clip", "data", "acc"]
    pd.testing.assert_frame_equal(one.runs[columns], two.runs[columns])


def test_arms_without_common_seeds_are_compared_by_welch(tmp_path):
    rng = random.Random(2)
    values = {"base": [rng.gauss(80, 1) for _ in range(8)], "ours": [rng.gauss(82, 3) for _ in range(11)]}
    rows = [
        {"method": arm, "seed": 100 * (arm == "ours") + i, "accuracy": value}
        for arm, found in values.items()
        for i, value in enumerate(found)
    ]
    claims = """
    seeds: 8
    claims:
      A: {statement: ours is better, quantity: test_accuracy, scale: points, treatment: {method: ours},
          control: {method: base}, changes: [method], direction: above}
      V: {statement: less variance, quantity: test_accuracy, scale: log, contrast: variance, treatment: {method: ours},
          control: {method: base}, changes: [method], direction: below}
    """
    study = load_results(written(tmp_path / "results.csv", rows))
    found, read = judged(study, tmp_path, claims)
    expected = stats.ttest_ind(values["ours"], values["base"], equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found["A"].p == pytest.approx(expected.pvalue)
    assert (found["A"].interval.low, found["A"].interval.high) == pytest.approx((interval.low, interval.high))
    assert found["V"].verdict is Verdict.NOT_TESTED
    said = findings_in_words((found["A"],), read)[0]
    assert "unpaired, by Welch's t" in said.effect
    assert said.seeds.startswith("11 against 8 runs, unpaired")


def test_paired_and_unpaired_reading_of_the_same_rows_differ(tmp_path):
    """The negative control of the test above: with shared seeds the pairs count, and the interval is narrower."""
    rows = [row for row in planted_rows(random.Random(3)) if row["dataset"] == "mr" and row["clip"] != "delayed"]
    text = CLAIMS.replace("contrast: datasets, ", "").replace("clip: delayed", "clip: fixed")
    paired, _ = judged(load_results(written(tmp_path / "paired.csv", rows)), tmp_path, text)
    apart = [row | {"seed": row["seed"] + 50 * (row["clip"] == "fixed")} for row in rows]
    unpaired, _ = judged(load_results(written(tmp_path / "apart.csv", apart)), tmp_path, text)
    widths = [f["planted"].interval.high - f["planted"].interval.low for f in (paired, unpaired)]
    assert paired["planted"].effect == pytest.approx(unpaired["planted"].effect)
    assert widths[0] < 0.7 * widths[1]
    study = load_results(tmp_path / "paired.csv", TableOptions(unpaired=True))
    forced, _ = judged(study, tmp_path, text)
    assert forced["planted"].interval == pytest.approx(unpaired["planted"].interval)
    assert "--unpaired is given, so they are compared unpaired" in "\n".join(study.table.summary)


def test_the_command_prints_what_is_what_and_writes_the_page(tmp_path, monkeypatch, capsys):
    rows = [
        row for row in planted_rows(random.Random(4)) if row["dataset"] in ("mr", "cr") and row["clip"] != "delayed"
    ]
    path = written(tmp_path / "results.csv", [row | {"note": f"run {i}"} for i, row in enumerate(rows)])
    monkeypatch.setattr(sys, "argv", ["analysis", str(path)])
    command.main()
    out = capsys.readouterr().out
    for line in (
        "arms: clip (text with 2 values): 2 arms",
        "metrics: acc (known as a metric by its name; compared in points)",
        "data set: dataset (named dataset): cr, mr",
        "the arms are compared seed by seed",
        "not used: note (text that is different in most rows)",
        "rows with the same seed are taken as pairs",
    ):
        assert line in out
    report = tmp_path / "results" / "report"
    page = (report / "index.html").read_text()
    assert "the table does not prove that they share head and batches" in page
    assert "python -m ablate" not in page, "no command adds runs that were made elsewhere"
    verdicts = json.loads((report / "verdicts.json").read_text())
    assert [each["verdict"] for each in verdicts] == ["supported"]
    assert {p.stem for p in (report / "figures").iterdir()} == {"forest", "seeds", "differences"}
    assert "+ clip" in (report / "tables" / "ablation.md").read_text()


def test_per_cent_become_shares_and_numbers_may_be_settings(tmp_path):
    rows = [{"lr": lr, "seed": s, "acc": 80 + s + 5 * (lr == "1e-3")} for lr in ("1e-3", "0.0001") for s in range(3)]
    study = load_results(written(tmp_path / "results.csv", rows))
    assert study.runs["acc"].tolist()[:2] == [0.85, 0.86]
    assert set(study.runs["lr"]) == {"0.001", "0.0001"}
    found, _ = judged(
        study, tmp_path,
        "{seeds: 3, claims: {A: {statement: x, quantity: acc, scale: points, treatment: {lr: 1e-3}, "
        "control: {lr: 1e-4}, changes: [lr], direction: above}}}",
    )  # fmt: skip
    assert found["A"].effect == pytest.approx(5)


def test_given_columns_decide_what_is_ambiguous(tmp_path):
    rows = [{"a": i % 2, "b": i % 4, "seed": i // 2, "y": i + 0.5} for i in range(8)]
    path = written(tmp_path / "results.csv", rows)
    with pytest.raises(
        ValueError, match=r"a, b may be settings of the arms or metrics.*--arms a,b --seed seed --metrics"
    ):
        load_results(path)
    study = load_results(path, TableOptions(arms=("a",), metrics=("y",)))
    assert study.factors == ("a", "data")
    assert [metric.quantity for metric in study.table.metrics] == ["y"]


def test_an_export_of_weights_and_biases(tmp_path):
    rows = [
        {"Name": f"run-{i}", "State": "finished" if i < 12 else "crashed", "Created": "2026-01-01", "Runtime": 7 + i,
         "User": "me", "method": ("a", "b")[i % 2], "seed": i // 2, "eval/accuracy": 0.8 + 0.01 * i, "_step": 100}
        for i in range(13)
    ]  # fmt: skip
    study = load_results(written(tmp_path / "wandb.csv", rows))
    assert len(study.runs) == 12
    assert [metric.quantity for metric in study.table.metrics] == ["eval_accuracy"]
    assert "1 runs that are not finished are left out" in study.table.summary[-1]


# --- Stores, written by their own libraries ---


@pytest.fixture(params=["database", "folder"])
def mlflow_store(request, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    path = tmp_path / ("mlflow.db" if request.param == "database" else "mlruns")
    uri = f"sqlite:///{path}" if request.param == "database" else path.as_uri()
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("mine", artifact_location=str(tmp_path / "artifacts"))
    for i in range(6):
        run = client.create_run(experiment).info.run_id
        client.log_param(run, "method", ("a", "b")[i % 2])
        client.log_param(run, "seed", i // 2)
        client.log_metric(run, "eval/acc", 0.5, step=1)
        client.log_metric(run, "eval/acc", 0.8 + 0.01 * i, step=2)
        client.set_terminated(run, "FAILED" if i == 5 else "FINISHED")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    return path


def contents(path):
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {file: file.read_bytes() for file in files}


def test_an_mlflow_store_is_read_and_not_touched(mlflow_store):
    before = contents(mlflow_store)
    assert is_result_path(mlflow_store)
    study = load_results(mlflow_store)
    assert study.runs["eval_acc"].round(2).tolist() == [0.8, 0.81, 0.82, 0.83, 0.84]
    assert study.runs["method"].tolist() == ["a", "b", "a", "b", "a"]
    assert study.folder.name == f"{mlflow_store.stem}-analysis"
    assert contents(mlflow_store) == before
    with pytest.raises(ValueError, match=r"--store-experiment must be one of .*mine"):
        load_results(mlflow_store, TableOptions(store_experiment="other"))


def test_an_optuna_storage_is_read_and_not_touched(tmp_path):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = tmp_path / "optuna.db"
    study = optuna.create_study(study_name="mine", storage=f"sqlite:///{path}", direction="maximize")
    study.set_metric_names(["acc"])
    for i in range(6):
        settings = {"method": ("a", "b")[i % 2], "seed": i // 2}
        distributions = {
            "method": optuna.distributions.CategoricalDistribution(["a", "b"]),
            "seed": optuna.distributions.IntDistribution(0, 9),
        }
        study.add_trial(optuna.trial.create_trial(params=settings, distributions=distributions, value=0.8 + 0.01 * i))
    before = contents(path)
    found = load_results(path)
    assert found.runs["acc"].round(2).tolist() == [0.8, 0.81, 0.82, 0.83, 0.84, 0.85]
    assert found.is_paired
    assert contents(path) == before


# --- docs/how_to/results_from_elsewhere.md ---

DOCUMENT = (ROOT / "docs/how_to/results_from_elsewhere.md").read_text(encoding="utf-8")
COMMANDS = bash_commands(ROOT / "docs/how_to/results_from_elsewhere.md")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_document(tmp_path, monkeypatch, capsys, line):
    rows = planted_rows(random.Random(5))
    written(tmp_path / "results.csv", rows)
    (tmp_path / "mine.yaml").write_text(re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)[1])
    words = line.split()
    assert words[:3] == ["python", "-m", "analysis"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("analysis.judged.write_report", lambda study, claims, peek: judged_only(study, claims))
    monkeypatch.setattr(sys, "argv", ["analysis", *words[3:]])
    command.main()
    out = capsys.readouterr().out
    assert "results.csv: 120 rows, one per run" in out
    assert re.search(r"[Cc]lipping: fixed improves acc by [23]\.\d+ points|1 of 1 claim is supported", out), (
        "the planted effect"
    )


def judged_only(study, claims):
    return Report(judge_claims(study, claims).findings, (), is_new=True)


def test_the_lines_of_the_document_are_those_of_the_command(tmp_path, monkeypatch):
    rows = planted_rows(random.Random(5))
    monkeypatch.chdir(tmp_path)
    study = load_results(written(Path("results.csv"), rows))
    shown = re.search(r"```text\n(.*?)\n```", DOCUMENT, re.DOTALL)[1].splitlines()
    assert list(study.table.summary[1:]) == shown[1:]


# --- Malformed tables ---

GOOD = "clip,seed,acc\nnone,0,0.81\nnone,1,0.82\nfixed,0,0.83\nfixed,1,0.85\n"

MALFORMED = {
    "empty file": ("", {}, "must have a header and rows, but it is empty"),
    "only a byte order mark": ("\ufeff", {}, "it is empty"),
    "header only": ("clip,seed,acc\n", {}, "only the header clip, seed, acc"),
    "no first line": ("\n" + GOOD, {}, "line 1 must be a header"),
    "an infinite seed": (GOOD.replace("none,1", "none,1e400"), {}, "line 3, column seed must be a whole number"),
    "no header": ("1,0,0.81\n2,1,0.82\n", {}, "line 1 must be a header"),
    "a column twice": (GOOD.replace("seed,acc", "acc,acc"), {}, "line 1: the column acc must occur once"),
    "a column without a name": (GOOD.replace("seed,acc", ",acc"), {}, "line 1: column 2 must have a name"),
    "long row": (GOOD.replace("0.82", "0.82,7"), {}, r"line 3 must have 3 fields.*got 4"),
    "short row": (GOOD.replace(",0.83", ""), {}, r"line 4 must have 3 fields.*got 2"),
    "open quote": (GOOD.replace("none,1", '"none,1'), {}, r"line \d: .*quote"),
    "semicolons": (GOOD.replace(",", ";"), {}, "line 1 must separate its columns by ','"),
    "decimal commas": (GOOD.replace("0.82", '"0,82"'), {}, "line 3, column acc must be a finite number.*0,82"),
    "NaN in a metric": (GOOD.replace("0.83", "NaN"), {}, "line 4, column acc must be a finite number.*NaN"),
    "infinity in a metric": (GOOD.replace("0.83", "inf"), {}, "line 4, column acc must be a finite number.*inf"),
    "text in a metric": (GOOD.replace("0.85", "diverged"), {}, "line 5, column acc must be a finite number.*diverged"),
    "no value in a metric": (GOOD.replace("0.81", ""), {}, "line 2, column acc must be a finite number"),
    "missing seed": (GOOD.replace("none,1", "none,"), {}, "line 3, column seed must be a whole number from 0"),
    "half a seed": (GOOD.replace("none,1", "none,1.5"), {}, "line 3, column seed must be a whole number.*1.5"),
    "negative seed": (GOOD.replace("none,1", "none,-1"), {}, "line 3, column seed must be a whole number.*-1"),
    "word as a seed": (GOOD.replace("none,1", "none,one"), {}, "line 3, column seed must be a whole number.*one"),
    "a run twice": (GOOD + "fixed,1,0.9\n", {}, "line 6 must not have the arm and seed of line 5"),
    "one arm only": (GOOD.replace("fixed,0", "none,2").replace("fixed,1", "none,3"), {"arms": ("clip",)},
                     "must have two arms or more.*clip=none"),
    "no arms": ("seed,acc\n0,0.8\n1,0.9\n", {}, "must have columns with settings of the arms"),
    "no metrics": ("clip,seed\nnone,0\nfixed,0\n", {}, "must have columns with metrics"),
    "unknown arm": (GOOD, {"arms": ("clipp",)}, "--arms must name columns.*clipp.*did you mean clip"),
    "unknown seed": (GOOD, {"seed": "sed"}, "--seed must name columns.*did you mean seed"),
    "unknown metric": (GOOD, {"metrics": ("f1",)}, "--metrics must name columns.*got f1"),
    "a column with two roles": (GOOD, {"arms": ("clip",), "metrics": ("clip",)}, "clip must have one role"),
    "two columns of seeds": (GOOD.replace("clip,seed", "random_seed,seed"), {}, "may each be the seed; type --seed"),
    "shares and per cent": (GOOD.replace("0.83", "83.0"), {}, "line 2, column acc must be a share.*0.81.*83 in line 4"),
    "name of something else": (GOOD.replace("clip", "report"), {}, "the column report must have another name"),
    "nearly a group": (GOOD.replace("clip", "schedule"), {}, "column schedule must have another name.*scheduler"),
    "no data set": ("clip,dataset,seed,acc\nnone,x,0,0.8\nfixed,,0,0.9\n", {}, "line 3, column dataset must be the na"),
    "not UTF-8": ("clip,seed,acc\nä,0,0.8\n".encode("latin-1"), {}, "line 2 must be UTF-8"),
    "an Excel file": (b"PK\x03\x04rest", {}, "it is an Excel file"),
    "UTF-16": (GOOD.encode("utf-16"), {}, "line 1 must be UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_table_is_refused_by_row_and_column(tmp_path, monkeypatch, capsys, name):
    content, given, message = MALFORMED[name]
    path = tmp_path / "results.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    words = [f"--{key}={','.join(value) if isinstance(value, tuple) else value}" for key, value in given.items()]
    monkeypatch.setattr(sys, "argv", ["analysis", str(path), *words])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    with pytest.raises(ValueError, match=message):
        load_results(path, TableOptions(**given))
    assert "results.csv" in capsys.readouterr().err or "one role" in message
    assert not (tmp_path / "results").exists()


def test_the_table_that_the_malformed_ones_vary_is_good(tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert len(load_results(path).runs) == 4


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".jsonl", b'{"clip": "none", "seed": 0, "acc": 0.8}\n[1]\n', "line 2 must be a JSON object"),
        (".jsonl", b'{"clip": "none", "acc": [1]}\n', "line 1, column acc must be text or a number"),
        (".jsonl", b'{"clip": "none", "clip": "x"}\n', "line 1: not valid JSON"),
        (".parquet", b"PAR1 and no more", "must be a Parquet file"),
    ],
)
def test_other_formats_are_refused_too(tmp_path, suffix, content, message):
    path = Path(tmp_path / f"results{suffix}")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_results(path)


def test_options_of_tables_are_refused_for_a_study_of_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["analysis", str(tmp_path), "--seed=seed"])
    with pytest.raises(SystemExit):
        command.main()
    assert "--seed must be left out for a study of runs" in capsys.readouterr().err
