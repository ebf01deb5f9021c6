"""A user's own loop gets the records and verdicts that our trainer gives, and clear errors."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

import ablate
from ablate.clip import Fixed, Nothing, PerTensor, Value
from ablate.data.batches import Examples
from ablate.data.corpus import corpus
from ablate.experiment import build_options
from ablate.files.run_record import read_run_json
from ablate.integrations.transformers import AblateMixin
from ablate.optimizer import set_lr
from ablate.recorder import Diverged
from ablate.run import progress
from ablate.run.job import execute, job
from ablate.training.device import make_accelerator
from ablate.training.evaluation import evaluate, probe_order
from ablate.training.learner import make_batches, make_learner, order_of_examples
from analysis.claims.judge import judge_claims
from analysis.claims.pairing import Refused, pair
from analysis.claims.reading import read_claims
from analysis.judged import named_claims, read_claims_for
from analysis.page.headline import answer
from analysis.page.provenance import makers_fact
from analysis.records.study import load
from tests.tools import ROOT, compose_config, compose_settings

STEPS, SEEDS = 10, (0, 1, 2)
OVERRIDES = (
    "model=tiny", "model.layers=1", "model.hidden=16", "model.dropout=0", "data=synthetic", "data.train_examples=60",
    "data.test_examples=40", "freeze=none",
    "optimizer=sgd", "optimizer.lr=0.05", f"trainer.steps={STEPS}", "trainer.batch_size=8", "trainer.threads=1",
    "trainer.linear=torch", "trainer.track.layers_every=5", "trainer.probe_every=5", "study=ours",
    "trainer.length_splits=1",
)  # fmt: skip
ARMS = {"none": ("clip=none",), "fixed": ("clip=fixed", "clip.threshold=0.01")}
CLAIMS = """
seeds: 3
claims:
  slows:
    statement: clipping slows learning
    quantity: last_probe_loss
    scale: log
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: above
  steadies:
    statement: clipping steadies the first steps
    quantity: mean_training_loss
    scale: log
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: below
  scores:
    statement: clipping changes the accuracy
    quantity: test_accuracy
    scale: points
    treatment: {clip: fixed}
    control: {clip: none}
    changes: [clip]
    direction: above
"""


def plain_loop(arm: str, seed: int, recorder: ablate.Recorder) -> None:
    """The loop that a user would write, on the model and the batches of our trainer's run."""
    options = build_options(compose_settings(*OVERRIDES, *ARMS[arm], f"seed={seed}"))
    texts, trainer = corpus(options.model, options.data), options.trainer
    made = make_learner(options, texts, seed, make_accelerator(trainer))
    model, optimizer, pad = made.model.train(), made.optimizer, texts.tokenizer.pad_token_id
    order = order_of_examples(options, texts.train, seed)
    batches = make_batches(trainer, texts.train, order, pad)
    recorder.order(order)
    probe = probe_order(texts.validation, trainer.probe_examples)
    for step in range(1, STEPS + 1):
        loss, tokens, right = 0.0, 0, 0
        for piece in batches(step):
            logits = model(**piece.inputs).logits
            part = F.cross_entropy(logits, piece.labels) * piece.share
            part.backward()
            loss, tokens = loss + part.detach(), tokens + int(piece.attention_mask.sum())
            right += int((logits.argmax(-1) == piece.labels).sum())
        recorder.gradients(model)
        recorder.clip(options.clip)
        lr = set_lr(optimizer, made.peak_lrs, options.scheduler.factor(step, STEPS))
        optimizer.step()
        optimizer.zero_grad()
        recorder.step(loss=loss, lr=lr, accuracy=right / 8, examples=8, tokens=tokens)
        if step % 5 == 0:
            found = evaluate(model, texts.validation.part(probe), 8, pad)
            given = {name: found.columns[f"{name}"] for name in ("label", "prediction", "probability")}
            recorder.evaluation(
                "probe", given["label"], given["prediction"], given["probability"], found.losses, index=probe
            )
    for split in ("validation", "test"):
        found = evaluate(model, getattr(texts, split), 8, pad)
        columns = found.columns
        recorder.evaluation(split, columns["label"], columns["prediction"], columns["probability"], found.losses)


class InOrder(AblateMixin, Trainer):
    """A Trainer that takes its examples in the order of the data set."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def trainer_run(arm: str, seed: int, folder: Path) -> None:
    """The same run by a Hugging Face Trainer with our mixin."""
    options = build_options(compose_settings(*OVERRIDES, *ARMS[arm], f"seed={seed}"))
    texts = corpus(options.model, options.data)
    made = make_learner(options, texts, seed, make_accelerator(options.trainer))

    def rows(examples: Examples, index: Any) -> list[dict[str, Any]]:
        return [{"input_ids": examples.input_ids[i], "label": examples.label[i]} for i in map(int, index)]

    def collated(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in batch]
        padded = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=texts.tokenizer.pad_token_id)
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(each) for each in ids], batch_first=True)
        return {"input_ids": padded, "attention_mask": mask, "labels": torch.tensor([row["label"] for row in batch])}

    trainer = InOrder(
        made.model,
        TrainingArguments(
            output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=8, per_device_eval_batch_size=8,
            seed=seed, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, max_grad_norm=0,
        ),
        train_dataset=rows(texts.train, order_of_examples(options, texts.train, seed)),
        data_collator=collated,
        optimizers=(made.optimizer, LambdaLR(made.optimizer, lambda t: options.scheduler.factor(t + 1, STEPS))),
        record={"study": folder, "factors": {"clip": arm}, "labels": ["negative", "positive"], "layers_every": 5},
        clip=options.clip,
    )  # fmt: skip
    trainer.train()
    probe = probe_order(texts.validation, options.trainer.probe_examples)
    trainer.evaluate(rows(texts.validation, probe), metric_key_prefix="probe")
    trainer.predict(rows(texts.test, range(len(texts.test))))
    trainer.recorder.finish()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Path]]:
    """The same arms and seeds by our trainer, by a plain loop with a Recorder, and by a Trainer with the mixin."""
    folder, before = tmp_path_factory.mktemp("recorder"), Path.cwd()
    os.chdir(folder)
    try:
        for arm, overrides in ARMS.items():
            for seed in SEEDS:
                config = compose_config(*OVERRIDES, *overrides, f"seed={seed}")
                assert execute(job(config, dict(config.hydra.runtime.choices))) == "done"
                declared = {"clip.threshold": 0.01} if arm == "fixed" else {}
                with ablate.Recorder(
                    "outputs/theirs", {"clip": arm}, seed=seed, steps=STEPS, labels=["negative", "positive"],
                    settings={"model": "tiny", "data": "synthetic", **declared}, layers_every=5,
                ) as recorder:  # fmt: skip
                    plain_loop(arm, seed, recorder)
                trainer_run(arm, seed, Path("outputs/mixin"))
        yield tuple(Path(f"outputs/{study}").resolve() for study in ("ours", "theirs", "mixin"))
    finally:
        progress.close_display()
        os.chdir(before)


def by_arm_and_seed(folder: Path, table: str) -> pd.DataFrame:
    study = load(folder)
    frame = getattr(study, table)()
    runs = study.runs.set_index("run")[["clip", "seed"]]
    return (
        frame.join(runs, on="run").drop(columns="run").sort_values(["clip", "seed"], kind="stable", ignore_index=True)
    )


@pytest.mark.parametrize("table", ["steps", "layers", "evals", "predictions", "probe_losses"])
def test_a_recorder_gives_the_tables_of_our_trainer(table: str, studies: tuple[Path, Path, Path]) -> None:
    ours, theirs = (by_arm_and_seed(folder, table).drop(columns="seconds", errors="ignore") for folder in studies[:2])
    assert len(ours) == len(theirs) > 0
    assert [*ours.columns] == [*theirs.columns]
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-6, atol=1e-9, check_dtype=False)


def test_the_mixin_gives_the_norms_of_our_trainer(studies: tuple[Path, Path, Path]) -> None:
    ours, mixin = (by_arm_and_seed(studies[i], "steps").drop(columns=["seconds", "accuracy"]) for i in (0, 2))
    pd.testing.assert_frame_equal(ours, mixin, rtol=1e-6, atol=1e-9, check_dtype=False)
    assert mixin["delta_g"].max() > 0.1


@pytest.mark.parametrize("other", ["theirs", "mixin"])
def test_the_verdicts_are_those_of_our_trainer(other: str, studies: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "claims.yaml").write_text(CLAIMS)
    claims = read_claims(tmp_path / "claims.yaml")
    ours, theirs = ([*judge_claims(load(studies[0].parent / study), claims).findings] for study in ("ours", other))
    assert [found.verdict for found in ours] == [found.verdict for found in theirs]
    assert ours[1].verdict.value == "supported" and ours[1].n == theirs[1].n == 3
    for our, their in zip(ours, theirs, strict=True):
        assert their.effect == pytest.approx(our.effect, rel=1e-5)
        assert not any("declare" in note for note in our.notes)
        assert any("paired by the seed that the runs declare" in note for note in their.notes)


def test_the_hashes_of_a_recorder_are_those_of_our_trainer(studies: tuple[Path, Path, Path]) -> None:
    ours, theirs = (load(folder).runs.set_index(["clip", "seed"]).sort_index() for folder in studies[:2])
    for column in ("pairing.batches", "pairing.head", "environment.key", "parameters.trained"):
        assert ours[column].tolist() == theirs[column].tolist()
    assert theirs["pairing.dropout"].isna().all()
    assert all("pairing.dropout" in lacking and "steps.loss" not in lacking for lacking in theirs["not_recorded"])


# --- A small loop ---


def make(folder: Path, **more: Any) -> ablate.Recorder:
    return ablate.Recorder(folder / "study", **({"factors": {"clip": "none"}, "seed": 0, "steps": 2} | more))


def learn(recorder: ablate.Recorder, steps: int = 2, rule: Any = None, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    x, y = torch.randn(8, 4) * scale, torch.arange(8) % 3
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        norm = recorder.gradients(model)
        assert norm == pytest.approx(float(nn.utils.get_total_norm([p.grad for p in model.parameters()])), rel=1e-6)
        if rule:
            recorder.clip(rule)
        model.zero_grad()
        recorder.step(loss)
    return model


def test_what_a_loop_does_not_provide_is_null_and_named(tmp_path: Path) -> None:
    with make(tmp_path) as recorder:
        learn(recorder)
    found = read_run_json(recorder.folder)
    assert found["status"] == "done" and found["metrics"] == {} and found["made_by"] == "ablate.Recorder"
    steps = pd.read_parquet(recorder.folder / "steps.parquet")
    for column in ("lr", "accuracy", "grad_norm_clipped", "delta_g", "examples", "tokens"):
        assert steps[column].isna().all() and f"steps.{column}" in found["not_recorded"]
    assert steps["grad_norm"].notna().all() and steps["seconds"].isna().tolist() == [True, False]
    assert {"predictions", "pairing.batches", "evals of test"} < {*found["not_recorded"]}


@pytest.mark.parametrize("rule", [Fixed(0.1), PerTensor(0.1), Value(0.01)], ids=str)
def test_clipping_by_our_rules_and_by_the_loop_itself(rule: Any, tmp_path: Path) -> None:
    with make(tmp_path, steps=1) as recorder:
        learn(recorder, 1, rule)
    with make(tmp_path, steps=1, seed=1) as own:
        model = nn.Linear(4, 3)
        F.cross_entropy(model(torch.ones(2, 4)), torch.tensor([0, 1])).backward()
        before = own.gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        own.clipped()
        own.step(1.0)
    ruled, clipped = (pd.read_parquet(r.folder / "steps.parquet").iloc[0] for r in (recorder, own))
    assert ruled["grad_norm_clipped"] < ruled["grad_norm"]
    assert clipped["grad_norm"] == before > clipped["grad_norm_clipped"] == pytest.approx(0.1, rel=1e-4)


def test_a_crash_in_the_middle_of_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyError), make(tmp_path) as recorder:
        learn(recorder, 1)
        raise KeyError("no such column")
    killed = make(tmp_path, seed=1)
    learn(killed, 1)
    del killed  # as the end of a process: without a word
    problems = load(tmp_path / "study").problems.set_index("run")
    assert problems["kind"].tolist() == ["partial", "partial"]
    assert problems.loc[recorder.folder.name, "problem"] == "status failed: KeyError: 'no such column'"
    assert "status running" in problems["problem"].tolist()
    assert len(pd.read_parquet(recorder.folder / "steps.parquet")) == 1
    with make(tmp_path) as again:  # the failed run is made again
        learn(again)
    assert again.folder == recorder.folder and load(tmp_path / "study").runs["status"].tolist() == ["done"]


@pytest.mark.parametrize("where", ["loss", "gradient", "evaluation"])
def test_what_is_not_finite_is_a_divergence(where: str, tmp_path: Path) -> None:
    with make(tmp_path) as recorder:
        model = learn(recorder, 1)
        F.cross_entropy(model(torch.ones(2, 4) * (float("inf") if where == "gradient" else 1)), torch.ones(2).long()
                        ).backward()  # fmt: skip
        recorder.gradients(model)
        recorder.step(float("nan") if where == "loss" else 1.0)
        recorder.evaluation("test", [0, 1], probabilities=torch.full((2, 3), float("nan")))
        raise AssertionError("the block goes on")
    found = read_run_json(recorder.folder)
    assert found["status"] == "diverged" and found["error"]["step"] == 2 and found["metrics"] == {}
    assert {"evaluation": "test predictions"}.get(where, where) in found["error"]["message"]
    assert load(tmp_path / "study").runs["status"].tolist() == ["diverged"]


def test_a_divergence_reaches_a_loop_without_a_block(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    learn(recorder, 1)
    with pytest.raises(Diverged, match=r"step 2: gradient norm is nan"):
        learn(recorder, 1, scale=float("nan"))
    with pytest.raises(ValueError, match=r"before the run ends: .* is diverged"):
        recorder.finish()


def test_finished_runs_stay_unless_rerun(tmp_path: Path) -> None:
    def losses() -> list[float]:
        return pd.read_parquet(recorder.folder / "steps.parquet")["loss"].tolist()

    with make(tmp_path) as recorder:
        learn(recorder)
    before = losses()
    with pytest.raises(ValueError, match="finished already; rerun=True replaces it"):
        make(tmp_path)
    with pytest.raises(KeyError), make(tmp_path, rerun=True):
        raise KeyError
    assert losses() == before and read_run_json(recorder.folder)["status"] == "done"
    with make(tmp_path, rerun=True) as again:
        learn(again, scale=2.0)
    assert again.folder == recorder.folder and losses() != before
    with make(tmp_path, settings={"optimizer.lr": 0.1}) as other:  # another setting is another run
        learn(other)
    assert other.folder != recorder.folder and len(load(tmp_path / "study").runs) == 2


def test_one_recorder_per_run(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    with pytest.raises(ValueError, match="another process records this run, or a Recorder of this one"):
        make(tmp_path)
    recorder.fail(RuntimeError("given up"))
    make(tmp_path)


MISUSES = {
    "step before gradients": (lambda r: r.step(1.0), r"gradients\(model\) must be called before recorder.step"),
    "clip before gradients": (lambda r: r.clip(Nothing()), "must be called before recorder.clip"),
    "no gradients": (lambda r: r.gradients(nn.Linear(2, 2)), "must have gradients: call .* after backward"),
    "too many steps": (lambda r: learn(r, 3), r"number of steps must be at most `steps`, 2 \(got 3\)"),
    "finish too early": (lambda r: r.finish(), r"recorded steps must be all planned steps, 2; .* \(got 0\)"),
    "accuracy in per cent": (
        lambda r: (learn(r, 1), r.gradients(with_gradient()), r.step(1.0, accuracy=97)), "accuracy must be a share"
    ),
    "finish twice": (lambda r: (learn(r), r.finish(), r.finish()), "before the run ends: .* is done"),
    "unknown split": (lambda r: r.evaluation("train", [0], [0]), "split must be one of probe, validation, test"),
    "lengths": (lambda r: r.evaluation("test", [0, 1], [0]), r"as many as the labels, 2 \(got 1\)"),
    "lengths of losses": (lambda r: r.evaluation("test", [0, 1], [0, 1], losses=[1.0]), r"losses must be as many"),
    "unknown class": (lambda r: r.evaluation("test", [0, 3], [0, 1]), r"labels must be from 0 to 2.* \(got 3\)"),
    "unknown name": (lambda r: r.evaluation("test", ["a", "x"], [0, 1]), "labels must be among .*a, b, c.*got x"),
    "logits": (
        lambda r: r.evaluation("test", [0], probabilities=[[5.0, -2.0, 1.0]]), "softmax makes them of logits .*-2 to 5"
    ),
    "classes as floats": (lambda r: r.evaluation("test", [0.5], [0]), "labels must be whole numbers"),
    "a clip that is no rule": (
        lambda r: (r.gradients(with_gradient()), r.clip(0.5)), "rule must be a rule of ablate.clip"
    ),
}  # fmt: skip


def with_gradient() -> nn.Module:
    model = nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    return model


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_gives_a_clear_error(name: str, tmp_path: Path) -> None:
    misuse, message = MISUSES[name]
    with pytest.raises(ValueError, match=message):
        misuse(make(tmp_path, labels=["a", "b", "c"]))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"factors": {}}, "factors must be"),
        ({"factors": {"clip": 1.0}}, "factors: clip must be an option's name"),
        ({"factors": {"status": "x"}}, "reserved .*status"),
        ({"factors": {"task": "x"}}, "factors must be the name of a factor"),
        ({"settings": {"clp.threshold": 1.0}}, "settings must be .* did you mean clip"),
        ({"settings": {"lr": 1.0}}, "settings must be <factor>.<setting>"),
        ({"settings": {"optimizer.lr": float("nan")}}, "settings: optimizer.lr must be"),
        ({"settings": {"trainer.steps": 3}}, "trainer.steps must be left out, or the planned steps, 2"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"steps": 0}, "steps must be a whole number, at least 1"),
        ({"task": "ranking"}, "task must be one of"),
        ({"primary": "f1"}, "primary must be a metric of classification"),
        ({"task": "token_classification"}, "labels must be given with entity_f1"),
        ({"task": "token_classification", "labels": ["DET", "NOUN"]}, "primary must be a metric that these labels"),
        ({"claims": "nowhere"}, "claims must be the name of a file"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_declaration_leaves_no_folder(declared: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **declared)
    assert not (tmp_path / "study").exists()


# --- Other kinds of task ---


def evaluated(folder: Path, task: str, names: tuple[str, ...], **given: Any) -> tuple[dict[str, float], pd.DataFrame]:
    with make(folder, task=task, labels=names, steps=1) as recorder:
        learn(recorder, 1)
        recorder.evaluation("test", **given)
    study = load(folder / "study")
    assert study.runs["status"].tolist() == ["done"] and study.runs["kind"].tolist() == [task]
    return read_run_json(recorder.folder)["metrics"], study.predictions().drop(columns="run")


def test_more_than_two_classes(tmp_path: Path) -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    metrics, found = evaluated(tmp_path, "classification", ("a", "b", "c"), labels=["a", "b"], probabilities=p)
    assert metrics == {"test_accuracy": 0.5, "test_loss": pytest.approx(-np.log([0.7, 0.3]).mean(), rel=1e-6)}
    assert found["prediction"].tolist() == [0, 2] and found["probability"].tolist() == pytest.approx([0.7, 0.4])
    table = pd.read_parquet(next((tmp_path / "study").glob("*/probabilities.parquet")))
    assert table["probability"].tolist() == pytest.approx(p.flatten().tolist())


def test_regression(tmp_path: Path) -> None:
    metrics, found = evaluated(tmp_path, "regression", (), labels=[1.0, 2.0, 4.0], predictions=[1.0, 3.0, 5.0])
    assert metrics == {"test_loss": pytest.approx(2 / 3), "test_spearman": pytest.approx(1.0)}
    assert found["prediction"].tolist() == [1.0, 3.0, 5.0]


@pytest.mark.parametrize("labels", [[[0, 1, 2], [0]], np.array([[0, 1, 2], [0, -100, -100]])], ids=["lists", "padded"])
def test_words(labels: Any, tmp_path: Path) -> None:
    guesses = [[0, 1, 0], [0]] if isinstance(labels, list) else np.array([[0, 1, 0], [0, 9, 9]])
    metrics, found = evaluated(
        tmp_path, "token_classification", ("O", "B-PER", "I-PER"), labels=labels, predictions=guesses, loss=0.5
    )
    assert metrics == {"test_accuracy": 0.75, "test_loss": 0.5, "test_entity_f1": 0.0}
    assert found["word"].tolist() == [0, 1, 2, 0] and found["example"].tolist() == [0, 0, 0, 1]


def test_a_language_model(tmp_path: Path) -> None:
    metrics, found = evaluated(tmp_path, "causal_lm", (), losses=[1.0, 3.0], tokens=[30, 10])
    assert metrics == {"test_loss": 1.5, "test_perplexity": pytest.approx(np.exp(1.5))}
    assert found["baseline"].isna().all()


def run_in_order(folder: Path, arm: str, order: Sequence[int] | None) -> None:
    with make(folder, factors={"clip": arm}) as recorder:
        if order is not None:
            recorder.order(order[:2])
            recorder.order(torch.tensor(order[2:]))
        learn(recorder)


@pytest.mark.parametrize("orders", [([3, 1, 2], [3, 1, 2]), ([3, 1, 2], [3, 2, 1]), ([3, 1, 2], None)], ids=str)
def test_the_order_of_examples_proves_or_refutes_a_pair(orders: Any, tmp_path: Path) -> None:
    for arm, order in zip(("none", "fixed"), orders, strict=True):
        run_in_order(tmp_path, arm, order)
    study = load(tmp_path / "study")
    if orders[0] == orders[1]:
        assert pair(study, ["none", "fixed"], ["clip"]).seeds == (0,)
    else:
        with pytest.raises(Refused, match=r"seed 0 differs in pairing.batches"):
            pair(study, ["none", "fixed"], ["clip"])


def test_the_page_names_the_maker_of_the_runs(tmp_path: Path) -> None:
    run_in_order(tmp_path, "none", [0])
    fact = makers_fact(load(tmp_path / "study"))[0]
    assert (
        fact.lines[0] == "ablate.Recorder: 1 run"
        and "declare: not all record the pairing of head, dropout" in fact.lines[1]
    )
    assert fact.flagged


DOCUMENT = (ROOT / "docs/tutorial/own_trainer.md").read_text(encoding="utf-8")


def test_the_documented_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs, adds eight lines at most, and gives the verdicts that the document shows."""
    script = re.search(r"```python\n# train.py\n(.*?)```", DOCUMENT, re.DOTALL)[1]
    assert len([line for line in script.splitlines() if re.search("ablate|recorder", line)]) == 8
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "train.py", "exec"), {})
    study = load(Path("outputs/mine"))
    assert study.runs["status"].tolist() == ["done"] * 10 and study.problems.empty
    findings = judge_claims(study, read_claims_for(study, named_claims(study))).findings
    shown = re.findall(r"^│ clip=fixed: ([a-z ]+?) +│.*│ ([a-z]+) +│$", DOCUMENT, re.MULTILINE)
    found = {found.id.partition(": ")[2]: found.verdict.value for found in findings}
    assert {name: verdict for name, verdict in shown if "time" not in name}.items() <= found.items() and len(shown) == 3
    said = answer(study, read_claims_for(study, named_claims(study)), findings)
    assert words(said.lead) in words(DOCUMENT)
    assert said.next.command == ""  # its sentence depends on whether the times of this machine differ


def words(text: str) -> str:
    """The text without its numbers, which another kind of CPU may round otherwise."""
    return re.sub(r"[\d.]+", "#", text)


def test_importing_ablate_stays_light() -> None:
    code = "import sys, ablate; assert 'Recorder' in ablate.__all__ and not {'torch', 'hydra'} & {*sys.modules}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert ablate.Recorder is ablate.recorder.Recorder
    with pytest.raises(AttributeError, match="no attribute Recoder"):
        ablate.Recoder  # noqa: B018
