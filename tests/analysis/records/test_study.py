import hashlib
import json
import math
import os
import random
import shutil
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ablate.files.run_record import write_run_json
from analysis.records import study as loading
from analysis.records.study import load
from tests.analysis.runs import change, layers_frame, probe_frame, steps_frame, write_json, write_run, write_table
from tests.tools import make_odd

# --- what a study holds ---


@pytest.fixture
def study(tmp_path):
    """Three arms on seeds 0 and 1, written in the order none, fixed, delayed."""
    for seed in (0, 1):
        for minute, clip in enumerate(("none", "fixed", "delayed")):
            started = {"started": f"2026-01-01T00:{3 * seed + minute:02}:00Z", "seconds": 5.0}
            write_run(tmp_path / "study", {"clip": clip}, seed=seed, run=f"{clip}-s{seed}", timing=started)
    return tmp_path / "study"


def kinds(study):
    return dict(zip(study.problems["run"], study.problems["kind"], strict=True))


@pytest.mark.parametrize(("jobs", "expected"), [(True, ["none", "fixed"]), (False, ["fixed", "none"])])
def test_runs_that_begin_within_a_second_are_in_the_order_of_their_sweep(tmp_path, jobs, expected):
    for job, clip in enumerate(("none", "fixed")):
        timing = {"started": "2026-01-01T00:00:07+00:00"} | ({"job": job} if jobs else {})
        write_run(tmp_path / "study", {"clip": clip}, run=f"{clip}-s0", timing=timing)
    assert list(load(tmp_path / "study").arms) == expected  # earlier versions recorded no job: by name


def test_runs_are_one_row_each_in_the_order_they_began(study):
    loaded = load(study)
    assert loaded.runs["run"].tolist() == [
        f"{clip}-s{seed}" for seed in (0, 1) for clip in ("none", "fixed", "delayed")
    ]
    assert loaded.runs["arm"].tolist() == ["none", "fixed", "delayed"] * 2
    assert list(loaded.arms) == ["none", "fixed", "delayed"]
    assert loaded.problems.empty and loaded.left_out.empty
    row = loaded.runs.set_index("run").loc["fixed-s1"]
    assert (row["clip"], row["clip.threshold"], row["seed"], row["status"]) == ("fixed", 1.0, 1, "done")
    assert row["test_accuracy"] == 0.8 and row["parameters.by_block.mlp"] == 400
    assert row["pairing.batches"] == "b1" and row["environment.key"] == "e0" and row["timing.seconds"] == 5.0
    assert row["optimizer.betas"] == (0.9, 0.999)


def test_arms_keep_values_exact_where_a_frame_cannot(study):
    arm = load(study).arms["delayed"]
    assert arm["clip.start"] == 50 and isinstance(arm["clip.start"], int)
    assert "clip.threshold" not in arm


def test_records_come_back_as_written(study):
    loaded = load(study)
    steps = loaded.steps()
    one = steps[steps["run"] == "fixed-s1"].drop(columns="run").reset_index(drop=True)
    pd.testing.assert_frame_equal(one, steps_frame(20, seed=1))
    assert list(loaded.steps(["loss"])) == ["run", "step", "loss"]
    assert set(loaded.steps(["loss"], runs=["none-s0"])["run"]) == {"none-s0"}
    assert set(loaded.evals()["split"]) == {"probe", "validation", "test"}
    assert list(loaded.predictions(["prediction"])) == ["run", "example", "prediction"]
    with pytest.raises(ValueError, match="no column lost; it has step, loss"):
        loaded.steps(["lost"])


def test_runs_of_earlier_versions_have_no_losses_of_the_probe(study):
    """They count as they are; for a run that lists the table it has to be there."""
    for seed in (0, 1):
        write_run(study, {"clip": "late"}, seed=seed, run=f"late-s{seed}", frames={"probe.parquet": probe_frame(20)})
    loaded = load(study)
    assert loaded.problems[loaded.problems["kind"] != "missing"].empty and len(loaded.runs) == 8
    assert loaded.has("late-s0", "probe.parquet") and not loaded.has("none-s0", "probe.parquet")
    losses = loaded.probe_losses()
    assert list(losses) == ["run", "step", "example", "loss"] and set(losses["run"]) == {"late-s0", "late-s1"}
    assert loaded.probe_losses(["none-s0"]).empty
    with pytest.raises(ValueError, match=r"none-s0 has no probe\.parquet"):
        loaded.read("none-s0", "probe.parquet")
    (study / "late-s0/probe.parquet").unlink()
    (study / "late-s1/probe.parquet").write_bytes(b"PAR1")
    problems = load(study).problems.set_index("run")["problem"]
    assert problems["late-s0"].startswith("probe.parquet cannot be read")
    assert problems["late-s1"] == "probe.parquet is not what the run wrote: its sha256 differs"


def test_layers_are_averaged_over_spans(tmp_path):
    layers = layers_frame(1000, every=10)
    write_run(tmp_path, steps=1000, run="long", frames={"layers.parquet": layers})
    averaged = load(tmp_path).layers(spans=10)
    assert len(averaged) == 10 * 6
    mlp = averaged[(averaged["layer"] == 1) & (averaged["block"] == "mlp")].sort_values("step")
    recorded = layers[(layers["layer"] == 1) & (layers["block"] == "mlp")]
    np.testing.assert_allclose(mlp["grad_norm"], recorded["grad_norm"].to_numpy().reshape(10, 10).mean(axis=1))
    np.testing.assert_allclose(mlp["step"], recorded["step"].to_numpy().reshape(10, 10).mean(axis=1))
    assert averaged[averaged["block"] == "head"]["layer"].isna().all()


def test_short_runs_keep_every_recorded_layer_norm(tmp_path):
    layers = layers_frame(100, every=10)
    write_run(tmp_path, steps=100, run="short", frames={"layers.parquet": layers})
    found = load(tmp_path).layers().drop(columns="run")
    pd.testing.assert_frame_equal(found, layers, check_dtype=False)
    none = layers_frame(100, every=10).iloc[:0]  # of a run with fewer steps than layers_every
    write_run(tmp_path, steps=5, run="tiny", seed=1, frames={"layers.parquet": none})
    assert len(load(tmp_path).layers()) == len(layers)


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan", "", "<script>", "$x$", "a_b%"])
def test_no_name_turns_into_a_missing_value(tmp_path, name):
    write_run(tmp_path, {"clip": name}, run="odd")
    write_run(tmp_path, {"clip": "fixed"}, run="usual")
    loaded = load(tmp_path)
    assert loaded.runs["arm"].tolist() == [name, "fixed"]
    assert loaded.runs["clip"].tolist() == [name, "fixed"]
    assert not loaded.runs["arm"].isna().any()


# --- what does not count is named ---


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", "broken", "run.json: not valid JSON"),
        ('{"schema": 1, "sta', "broken", "run.json: not valid JSON"),
        ("[" * 100_000, "broken", "run.json: not valid JSON"),
        ('{"schema": 1, "id": "\\ud800"}', "broken", "run.json: not valid JSON"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1"), "broken", "run.json: not valid JSON"),
        ("[]", "foreign", "no schema"),
        ('{"name": "my package"}', "foreign", "no schema"),
        ('{"schema": 2}', "broken", "schema 2 is newer than 1"),
        ('{"schema": 1}', "broken", "id must be text (got None)"),
    ],
)
def test_run_json_that_cannot_be_believed(study, text, kind, says):
    (study / "fixed-s1" / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    loaded = load(study)
    assert len(loaded.runs) == 5
    assert kinds(loaded)["fixed-s1"] == kind
    assert says in loaded.problems.set_index("run")["problem"]["fixed-s1"]


def test_entries_of_run_json_that_cannot_be_believed(study):
    change(study / "none-s0", status="finished")
    change(study / "none-s1", factors={"clip": {"option": "none", "settings": {}}})
    change(study / "fixed-s0", seed="0")
    change(study / "fixed-s1", records={})
    problems = load(study).problems.set_index("run")["problem"]
    assert "status must be one of done, diverged, running, failed (got 'finished')" in problems["none-s0"]
    assert "factors must hold option and settings of optimizer, model, data, trainer" in problems["none-s1"]
    assert "seed must be an integer from 0 (got '0')" in problems["fixed-s0"]
    assert "does not say what steps.parquet should hold" in problems["fixed-s1"]


METRICS = {"test_accuracy": 0.8, "test_loss": 0.4}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        *(
            ({"metrics": METRICS | {"test_accuracy": value}}, "metrics.test_accuracy must be from 0 to 1")
            for value in (-1, 1.5)
        ),
        *(
            ({"metrics": METRICS | {"test_loss": value}}, "metrics.test_loss must be a finite number")
            for value in (math.inf, math.nan, "0.4", [0.4], {"a": 1}, None, True)
        ),
        ({"metrics": METRICS | {"run": 1}}, "are reserved (got run)"),
        ({"metrics": METRICS | {"arm": 1}}, "are reserved (got arm)"),
        ({"metrics": METRICS | {"seed": 1}}, "are reserved (got seed)"),
        ({"metrics": METRICS | {"clip.start": 1}}, "are reserved (got clip.start)"),
        ({"run": "x"}, "are reserved (got run)"),
        ({"metrics": [1]}, "metrics must be an object"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"seed": True}, "seed must be an integer from 0"),
        ({"seed": 10**30}, "more than 64 bits"),
        ({"claims": {"name": ["a"]}}, "claims.name must be text"),
        ({"claims": "paper"}, "claims must be an object"),
        ({"timing": {"started": 3}}, "timing.started must be text"),
        ({"environment": ["e"]}, "environment must be an object"),
        ({"parameters": {"ratio": math.nan}}, "parameters.ratio must be a finite number from 0"),
        ({"error": "boom"}, "error must be an object"),
        ({"records": []}, "records must be an object"),
        ({"environment": {"key": "e0", "x": json.loads("[" * 80 + "]" * 80)}}, "nested deeper than 64 levels"),
        ({"id": "another"}, "the record of another run: the folder's name must end in its id, another"),
    ],
)
def test_an_impossible_entry_costs_that_run_alone(study, entries, says):
    change(study / "fixed-s1", **entries)
    loaded = load(study)
    assert len(loaded.runs) == 5 and kinds(loaded)["fixed-s1"] == "broken"
    assert says in loaded.problems["problem"][0]


@pytest.mark.parametrize("file", ["run.json", "steps.parquet"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "huge"])
def test_a_file_of_another_kind_costs_that_run_alone(study, file, kind):
    path = study / "fixed-s1" / file
    path.unlink()
    make_odd(path, kind)
    loaded = load(study)
    assert len(loaded.runs) == 5 and kinds(loaded)["fixed-s1"] == "broken"
    assert file in loaded.problems["problem"][0]


def test_a_folder_whose_name_is_not_utf_8_costs_that_run_alone(study):
    os.rename(study / "fixed-s1", os.fsencode(study) + b"/caf\xe9-fixed-s1")
    loaded = load(study)
    assert len(loaded.runs) == 5
    assert {problem.kind: problem.problem for problem in loaded.problems.itertuples()} == {
        "broken": "the folder's name must be UTF-8",
        "missing": "no run",
    }


def test_a_run_json_with_its_hash_counts_and_an_edited_one_does_not(study):
    content = json.loads((study / "fixed-s1/run.json").read_text())
    write_run_json(study / "fixed-s1", content)
    assert load(study).problems.empty
    written = (study / "fixed-s1/run.json").read_text()
    (study / "fixed-s1/run.json").write_text(json.dumps(json.loads(written)))  # other spaces, equal values
    assert load(study).problems.empty
    edited = written.replace('"test_accuracy": 0.8', '"test_accuracy": 0.9')
    assert edited != written
    (study / "fixed-s1/run.json").write_text(edited)
    loaded = load(study)
    assert kinds(loaded)["fixed-s1"] == "broken" and "its sha256 differs" in loaded.problems["problem"][0]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({"step": [1], "loss": ["low"]}), "must have one column loss of type double"),
        (pa.table({"step": [1]}), "must have one column loss of type double"),
        (pa.table({"step": [1] * 3}), "has 3 rows, the run wrote 1"),
        (None, "steps.parquet: no Parquet file"),
    ],
)
def test_a_table_that_no_run_writes_is_named(study, table, says):
    path = study / "fixed-s1/steps.parquet"
    pq.write_table(table, path) if table else path.write_bytes(b"PAR1 no PAR1")
    entry = {"rows": 1, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    records = json.loads((study / "fixed-s1/run.json").read_text())["records"]
    change(study / "fixed-s1", records=records | {"steps.parquet": entry})
    loaded = load(study)
    assert kinds(loaded)["fixed-s1"] == "broken" and says in loaded.problems["problem"][0]


def test_a_factor_that_a_run_lacks_counts_as_none(study):
    for run in ("fixed-s0", "fixed-s1"):
        factors = json.loads((study / run / "run.json").read_text())["factors"]
        own = {"mixout": {"option": "on", "settings": {"p": 0.5}}}
        change(study / run, factors={**dict(list(factors.items())[:3]), **own, **factors})
    loaded = load(study)
    assert loaded.factors == ("freeze", "clip", "scheduler", "mixout", "optimizer", "model", "data", "trainer")
    assert loaded.techniques == ("freeze", "clip", "scheduler", "mixout")
    assert {label: arm["mixout"] for label, arm in loaded.arms.items()} == {
        "none-none": "none", "fixed-on": "on", "delayed-none": "none",
    }  # fmt: skip
    assert loaded.runs.set_index("run")["mixout"]["none-s0"] == "none"


def test_unfinished_runs_are_known_but_do_not_count(study):
    change(study / "fixed-s1", status="running")
    change(study / "delayed-s1", status="failed", error={"message": "OSError: disk full", "traceback": "..."})
    loaded = load(study)
    assert len(loaded.runs) == 4 and loaded.left_out["arm"].tolist() == ["fixed", "delayed"]
    assert kinds(loaded) == {"fixed-s1": "partial", "delayed-s1": "partial"}
    assert "OSError: disk full" in loaded.problems["problem"].iloc[1]
    assert set(loaded.steps()["run"]) == set(loaded.runs["run"])


def test_runs_whose_beginning_is_not_known_come_last(study):
    change(study / "fixed-s0", status="running", timing=None)
    change(study / "none-s0", status="running", timing={"started": None})
    assert list(load(study).arms) == ["delayed", "none", "fixed"]


def test_diverged_runs_count(study):
    change(study / "fixed-s1", status="diverged", metrics={}, error={"step": 7, "message": "loss is nan"})
    loaded = load(study)
    assert len(loaded.runs) == 6 and loaded.problems.empty
    assert loaded.runs.set_index("run")["error.step"]["fixed-s1"] == 7


@pytest.mark.parametrize("file", ["steps.parquet", "layers.parquet", "evals.parquet", "predictions.parquet"])
def test_a_flipped_bit_is_found(study, file):
    path = study / "fixed-s0" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    loaded = load(study)
    assert loaded.problems.to_numpy().tolist() == [
        ["fixed-s0", "broken", f"{file} is not what the run wrote: its sha256 differs"]
    ]
    assert loaded.left_out["run"].tolist() == ["fixed-s0"]


def test_records_lost_or_not_as_announced(study):
    (study / "none-s0" / "evals.parquet").unlink()
    entry = write_table(study / "fixed-s0" / "steps.parquet", steps_frame(19))
    records = json.loads((study / "fixed-s0" / "run.json").read_text())["records"]
    change(study / "fixed-s0", records=records | {"steps.parquet": entry | {"rows": 20}})
    problems = load(study).problems.set_index("run")["problem"]
    assert problems["none-s0"].startswith("evals.parquet cannot be read")
    assert problems["fixed-s0"] == "steps.parquet: has 19 rows, the run wrote 20"


def test_foreign_folders_and_files(study):
    for name in ("notes", ".shared", "report"):
        (study / name).mkdir()
    os.mkdir(os.fsencode(study) + b"/caf\xe9")
    (study / "multirun.yaml").write_text("a: 1")
    (study / "file-s0").write_text("")
    (study / "dangling").symlink_to(study / "nowhere")
    loaded = load(study)
    assert len(loaded.runs) == 6
    assert set(kinds(loaded).values()) == {"foreign"} and len(loaded.problems) == 2
    assert "notes" in kinds(loaded)


def test_two_runs_of_one_arm_and_seed_are_both_left_out(study):
    shutil.copytree(study / "fixed-s0", study / "copy-fixed-s0")
    write_run(study, {"clip": "none"}, seed=1, run="none-s1-0123456789", id="0123456789")
    loaded = load(study)
    assert len(loaded.runs) == 4
    assert set(kinds(loaded)) == {"fixed-s0", "copy-fixed-s0", "none-s1", "none-s1-0123456789"}
    assert set(kinds(loaded).values()) == {"ambiguous"}
    problems = loaded.problems.set_index("run")["problem"]
    assert "a copy" in problems["fixed-s0"] and "other ids" in problems["none-s1"]


def test_a_nuisance_seed_is_another_arm_not_a_rival(study):
    write_run(study, {"clip": "fixed"}, seed=0, nuisance=1, run="control")
    loaded = load(study)
    assert "fixed-nuisance[seed=1]" in loaded.arms
    assert kinds(loaded) == {"fixed-nuisance[seed=1], seed 1": "missing"}


def test_only_some_folders(study):
    loaded = load(study, only={"none-s0", "fixed-s0", "fixed-s1"})
    assert set(loaded.runs["run"]) == {"none-s0", "fixed-s0", "fixed-s1"}
    assert kinds(loaded) == {"none, seed 1": "missing"}


def test_missing_seeds_are_named(study):
    shutil.rmtree(study / "delayed-s1")
    loaded = load(study)
    assert kinds(loaded) == {"delayed, seed 1": "missing"}


def test_empty_and_absent_studies(tmp_path):
    loaded = load(tmp_path)
    assert loaded.runs.empty and loaded.arms == {} and loaded.problems.empty
    assert list(loaded.steps()["loss"]) == [] and list(loaded.layers()["grad_norm"]) == []
    with pytest.raises(ValueError, match="no such folder"):
        load(tmp_path / "absent")


def test_what_vanishes_or_changes_after_loading_is_left_out_with_a_warning(study):
    loaded = load(study)
    shutil.rmtree(study / "none-s0")
    write_table(study / "fixed-s0" / "steps.parquet", steps_frame(20, seed=9))
    with pytest.warns(UserWarning) as warnings:
        steps = loaded.steps(["loss"])
    assert set(steps["run"]) == set(loaded.runs["run"]) - {"none-s0", "fixed-s0"}
    assert [str(w.message).partition(" is left out")[0] for w in warnings] == ["none-s0", "fixed-s0"]


def test_reading_while_runs_are_written_and_removed(tmp_path):
    """Each load sees whole runs or names them; none raises."""
    stop = threading.Event()
    errors = []

    def churn():
        draw = random.Random(0)
        while not stop.is_set():
            try:
                folder = tmp_path / f"run{draw.randrange(4)}"
                shutil.rmtree(folder, ignore_errors=True)
                write_run(tmp_path, run=folder.name, seed=draw.randrange(4), steps=5)
            except Exception as error:
                errors.append(error)

    write_run(tmp_path, run="steady", steps=5)
    writer = threading.Thread(target=churn)
    writer.start()
    try:
        for _ in range(20):
            loaded = load(tmp_path)
            whole = loaded.runs[loaded.runs["status"] == "done"]
            assert len(whole) == len(loaded.runs)
    finally:
        stop.set()
        writer.join()
    assert not errors


def test_a_folder_that_vanishes_while_it_is_read(study, monkeypatch):
    real = loading.run_json

    def slow(source, run):
        data = real(source, run)
        if run == "fixed-s1":
            shutil.rmtree(source.path / run)
        return data

    monkeypatch.setattr(loading, "run_json", slow)
    loaded = load(study)
    assert kinds(loaded) == {"fixed-s1": "gone"} and len(loaded.runs) == 5


def test_write_json_is_what_load_reads(tmp_path):
    """The negative control of the tests above: an untouched run counts."""
    folder = write_run(tmp_path, run="plain")
    write_json(folder, json.loads((folder / "run.json").read_text()))
    assert load(tmp_path).problems.empty
