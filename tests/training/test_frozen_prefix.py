"""The frozen prefix: the same bits from the cache, anew and with another process; the model's own numbers to 1e-5."""

import copy
import dataclasses
import functools
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from ablate.data.batches import Examples
from ablate.data.corpus import Corpus
from ablate.data.hidden_states import states_folder
from ablate.freeze import FirstLayers, Freezing, Nothing
from ablate.model.first_token import skip_unread
from ablate.model.loading import Vocabulary
from ablate.model.parameter_roles import Role
from ablate.trainer import Trainer
from ablate.training import step as training
from ablate.training.device import make_accelerator
from ablate.training.dropout import Masks, rest_frozen
from ablate.training.frozen_prefix import FrozenPrefix, frozen_depths
from tests.faults.harness import FIXTURE, ablate, the_run
from tests.model.test_families import FAMILIES
from tests.together import agree, together
from tests.tools import compose_settings, run_settings
from tests.training.test_fast_paths import content, stop_after
from tests.training.test_step import small_learner

TEXTS = [[2, 5, 9, 7, 3], [2, 11, 3], [2, 8, 6, 3]]
IDS = torch.tensor([[2, 5, 9, 7, 3], [2, 11, 3, 0, 0], [2, 8, 6, 3, 0]])
MASK = (IDS != 0).long()
LABELS = torch.tensor([0, 1, 1])
CORPUS = Corpus(*(Examples([row], [0], 0) for row in TEXTS), tokenizer=Vocabulary(20, 0), overlap=0)
SUPPORTED = ("BERT", "RoBERTa", "ELECTRA", "DistilBERT")
SMALL = (
    "model=tiny", "model.hidden=8", "data=synthetic", "trainer.threads=1", "trainer.steps=8", "trainer.batch_size=4",
    "trainer.length_splits=2", "trainer.probe_every=4", "data.train_examples=20", "data.test_examples=10",
    "trainer.keep_checkpoint=true", "trainer.frozen_dropout=false",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class HeadThenLast:
    """Trains the head alone, from step 5 on the last of two layers, too."""

    def freezes(self, name: str, role: Role, t: int) -> bool:
        return role.block != "head" and not (t >= 5 and role.layer == 1)

    def changes(self) -> list[int]:
        return [5]


PHASES = ("freeze=none", f"freeze._target_={__name__}.HeadThenLast", f"allow_targets=[{__name__}]")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    return states_folder()


def classifier(family: str, seed: int = 0) -> nn.Module:
    """A random classifier, always with the same backbone. `seed` decides its head."""
    model_type, settings = FAMILIES[family]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, vocab_size=20, pad_token_id=0, **settings)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    torch.manual_seed(seed)
    nn.init.normal_(model.get_parameter("classifier.weight" if family in ("BERT", "DistilBERT") else HEAD))
    return model


HEAD = "classifier.out_proj.weight"


def with_prefix(model: nn.Module, n: int, **settings: Any) -> tuple[nn.Module, FrozenPrefix]:
    trainer = Trainer(frozen_dropout=False, threads=1, **settings)
    if trainer.skip_unread:
        skip_unread(model)
    freezing = Freezing(model, [FirstLayers(n)])
    accelerator = make_accelerator(trainer)
    return model, FrozenPrefix(model, frozen_depths(model, freezing), CORPUS, trainer, accelerator)


def work(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits [3, 2] and the gradients of their loss."""
    logits = model(input_ids=IDS, attention_mask=MASK).logits
    F.cross_entropy(logits, LABELS).backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("family", SUPPORTED)
def test_the_models_own_numbers_and_the_same_bits_again(
    family: str, n: int, skip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = classifier(family)
    Freezing(plain, [FirstLayers(n)])
    logits, gradients = work(plain)
    first, second = (work(with_prefix(classifier(family), n, skip_unread=skip)[0]) for _ in range(2))
    assert (first[0] - logits).abs().max() <= 1e-5 * max(1, logits.abs().max())
    for name, gradient in gradients.items():
        assert (first[1][name] - gradient).norm() <= 1e-5 * max(1e-2, gradient.norm()), name
    assert torch.equal(first[0], second[0]) and all(torch.equal(first[1][k], second[1][k]) for k in gradients)

    def must_not(*_: object) -> None:
        raise AssertionError("the states are kept")

    monkeypatch.setattr(FrozenPrefix, "compute", must_not)
    third = work(with_prefix(classifier(family), n, skip_unread=skip)[0])
    assert torch.equal(first[0], third[0])
    with pytest.raises(AssertionError, match="kept"):  # the control: other weights
        work(with_prefix(changed(classifier(family)), n, skip_unread=skip)[0])


def changed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(model.parameters()).mul_(1 + 1e-6)
    return model


def test_the_key_is_of_the_prefix_and_not_of_the_head() -> None:
    keys = {
        "base": with_prefix(classifier("BERT"), 1)[1].key(),
        "head": with_prefix(classifier("BERT", seed=1), 1)[1].key(),
        "depth": with_prefix(classifier("BERT"), 2)[1].key(),
        "weights": with_prefix(changed(classifier("BERT")), 1)[1].key(),
        "bf16": with_prefix(classifier("BERT"), 1, precision="bf16")[1].key(),
        "steps": with_prefix(classifier("BERT"), 1, steps=7, frozen_prefix_gb=1)[1].key(),
    }
    assert keys["base"] == keys["head"] == keys["steps"]
    assert len({keys[name] for name in ("base", "depth", "weights", "bf16")}) == 4


def test_an_example_does_not_depend_on_its_batch() -> None:
    """Unlike the plain model's states, which may round differently: these have the same bits in any batch."""
    model, prefix = with_prefix(classifier("BERT"), 1, frozen_prefix_gb=0)
    seen: list[Tensor] = []
    model.bert.encoder.layer[1].register_forward_pre_hook(
        lambda _, inputs: None if prefix.capturing else seen.append(inputs[0])
    )
    with torch.no_grad():
        model(input_ids=IDS, attention_mask=MASK)
        model(input_ids=IDS[1:2, :3], attention_mask=MASK[1:2, :3])
    assert torch.equal(seen[0][1, :3], seen[1][0])
    assert (seen[0][1, 3:] == 0).all()


@pytest.mark.parametrize(
    "call",
    [
        {"input_ids": IDS, "attention_mask": MASK, "output_hidden_states": True},
        {"input_ids": IDS, "attention_mask": MASK.flip(1)},
        {"input_ids": IDS},
    ],
)
def test_other_calls_compute_everything(call: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrozenPrefix, "hidden_states", None)
    expected = classifier("BERT")(**call).logits
    model, _ = with_prefix(classifier("BERT"), 2, skip_unread=False)
    assert torch.equal(model(**call).logits, expected)
    with pytest.raises(TypeError):  # the control
        model(input_ids=IDS, attention_mask=MASK)


def test_a_failed_call_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prefix = with_prefix(classifier("BERT"), 1)
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(model.classifier, "forward", None)
        model(input_ids=IDS, attention_mask=MASK)
    assert prefix.injected is None and not prefix.capturing


def test_changed_weights_are_an_error() -> None:
    model, _ = with_prefix(classifier("BERT"), 1)
    work(model)
    model.bert.embeddings.position_ids.copy_(model.bert.embeddings.position_ids.clone())  # as DDP does
    work(model)
    changed(model)
    with pytest.raises(RuntimeError, match=r"weights of the frozen prefix were changed.*trainer\.frozen_prefix=false"):
        work(model)


def test_a_copy_of_the_model_computes_everything_itself() -> None:
    model, _ = with_prefix(classifier("BERT"), 1)
    work(model)
    twin = changed(copy.deepcopy(model))
    alone = changed(classifier("BERT"))
    skip_unread(alone)
    assert torch.equal(twin(input_ids=IDS, attention_mask=MASK).logits, work(alone)[0])
    assert twin.bert.encoder.layer[0].forward.args[1].__self__ is twin.bert.encoder.layer[0]


def test_the_prefix_ends_where_training_has_begun() -> None:
    model = classifier("BERT")
    assert frozen_depths(model, Freezing(model, [HeadThenLast()])) == {1: 2, 5: 1}
    assert frozen_depths(model, Freezing(model, [HeadThenLast()]), steady=False) == {1: 1, 5: 1}
    assert frozen_depths(model, Freezing(model, [FirstLayers(1)])) == {1: 1}
    assert frozen_depths(model, Freezing(model, [FirstLayers(0)])) == {1: 0}
    assert frozen_depths(model, Freezing(model, [Nothing()])) == {1: 0}

    class Back(HeadThenLast):
        """Trains the first layer at first and freezes it later: its weights are not those of the checkpoint."""

        def freezes(self, name: str, role: Role, t: int) -> bool:
            return t >= 5 and role.block != "head"

    assert frozen_depths(model, Freezing(model, [Back()])) == {1: 0, 5: 0}


def test_frozen_modules_rest_and_others_draw() -> None:
    model = classifier("BERT")
    Freezing(model, [FirstLayers(1)])
    rest_frozen(model)
    resting = {name for name, module in model.named_modules() if not module.training}
    expected = ("bert.embeddings", "bert.encoder.layer.0")
    assert resting == {name for name, _ in model.named_modules() if name.startswith(expected)}
    Freezing(model, [Nothing()])
    rest_frozen(model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["trainer.gradient_checkpointing=true"], "trainer.gradient_checkpointing=true"),
        (["trainer.compile=true"], "trainer.compile=true"),
        (["freeze=embeddings_attention"], "no frozen prefix"),
        (["trainer.frozen_prefix=false"], ""),
        (["trainer.frozen_dropout=true"], ""),
        (["freeze=none"], ""),
        (
            ["model=llama_1b_random", "model.config.vocab_size=500", "model.config.hidden_size=8",
             "model.config.intermediate_size=8", "model.config.num_hidden_layers=1", "freeze=head_only",
             "model.config.num_attention_heads=1", "model.config.num_key_value_heads=1"],
            "LlamaForSequenceClassification, for which it is not tested",
        ),
    ],
)  # fmt: skip
def test_without_the_cache_where_it_is_not_proven(
    overrides: list[str], reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablate.training.learner.compile_forward", lambda model: None)
    caplog.set_level(logging.INFO)
    freeze = [] if any(word.startswith("freeze=") for word in overrides) else ["freeze=head_only"]
    words = {word.partition("=")[0]: word for word in ("trainer.frozen_dropout=false", *freeze, *overrides)}
    learner, _ = small_learner(*words.values())
    assert learner.prefix is None
    assert reason in caplog.text and bool(caplog.text) == bool(reason)


class Computed:
    """Counts the examples that the prefix computes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        compute = FrozenPrefix.compute

        def counted(prefix: FrozenPrefix, ids: np.ndarray) -> np.ndarray:
            self.count += 1
            return compute(prefix, ids)

        monkeypatch.setattr(FrozenPrefix, "compute", counted)

    def of(self, folder: Path, *overrides: str) -> tuple[dict[str, Any], int]:
        """A run's content, and how many examples it computed."""
        before = self.count
        run_settings(compose_settings(*SMALL, *overrides), folder)
        return content(folder), self.count - before


@pytest.mark.parametrize(
    "path", [["freeze=head_only"], ["freeze=first_n"], [*PHASES], ["freeze=head_only", "trainer.precision=bf16"]]
)
def test_a_run_is_the_same_with_and_without_the_cache(
    path: list[str], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with half of a cache; and other arms and seeds use the same states, in training and evaluation."""
    computed = Computed(monkeypatch)
    first, made = computed.of(tmp_path / "first", *path)
    again, read = computed.of(tmp_path / "again", *path)
    never, anew = computed.of(tmp_path / "never", *path, "trainer.frozen_prefix_gb=0")
    assert first == again == never
    assert read == 0 < made < anew
    for file in cache.iterdir():  # the second half of each file is lost
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    half, some = computed.of(tmp_path / "half", *path)
    assert half == first and 0 < some < made
    other, more = computed.of(tmp_path / "other", *path, "seed=1", "clip=none")
    assert other != first and more < made / 2  # examples that the eight steps of seed 0 did not reach
    plain, none = computed.of(tmp_path / "plain", *path, "trainer.frozen_prefix=false")
    assert none == 0 and plain["steps"]["loss"].to_pylist() == pytest.approx(
        first["steps"]["loss"].to_pylist(), rel=1e-2 if "trainer.precision=bf16" in path else 1e-4
    )


def use_cache(folder: str) -> None:
    os.environ["ABLATE_CACHE"] = folder


def test_two_ranks_agree_with_one(tmp_path: Path, cache: Path) -> None:
    """Both ranks write the same file at the same time; the process that they are compared with keeps nothing."""
    command = (*FIXTURE, "model.dropout=0", "freeze=first_n", "trainer.frozen_dropout=false")
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    assert ablate(tmp_path / "one", *command, "trainer.frozen_prefix_gb=0") == 0
    fault = functools.partial(use_cache, str(tmp_path / "cache"))
    assert together(tmp_path / "two", *command, faults={0: fault, 1: fault}) == [0, 0]
    one, two = the_run(tmp_path / "one"), the_run(tmp_path / "two")
    assert agree(one, two) and one.name == two.name
    assert any(any(file.read_bytes()) for file in cache.iterdir())


def test_a_run_resumes_bit_for_bit_across_phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = compose_settings(*SMALL, *PHASES)
    run_settings(settings, tmp_path / "alone")
    for step in (3, 6):
        stop_after(step, settings, tmp_path / str(step), monkeypatch)
        assert run_settings(settings, tmp_path / str(step))["timing"]["resumed_from"] == step
        assert content(tmp_path / str(step)) == content(tmp_path / "alone")


def test_frozen_dropout_changes_the_run_and_draws_only_for_what_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[bool, list[int]] = {True: [], False: []}
    losses = {}
    noise = Masks.noise
    for on in (True, False):
        monkeypatch.setattr(
            Masks, "noise", lambda mode, like, p, on=on: drawn[on].append(like.numel()) or noise(mode, like, p)
        )
        learner, batches = small_learner(
            "freeze=head_only", "trainer.steps=2", "trainer.frozen_prefix=false", f"trainer.frozen_dropout={on}"
        )
        losses[on] = [moment.row.loss for moment in training.train(learner, batches)]
    assert losses[True] != losses[False]
    hidden = 32
    assert sum(drawn[False]) == 2 * 8 * hidden < sum(drawn[True])  # the head's dropout of eight examples and two steps


@pytest.mark.parametrize(
    "options",
    [
        ("freeze=lp_ft", "freeze.steps=4"),
        ("freeze=gradual", "freeze.every=2"),
        ("freeze=first_n", "regularizer=r_drop", "average=ema"),
        ("freeze=head_only", "init=reinit_top"),
    ],
    ids=lambda options: options[0],
)
def test_other_techniques_keep_their_bits(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cache empty, filled and off, and where the run is resumed."""
    computed = Computed(monkeypatch)
    first, missed = computed.of(tmp_path / "first", *options)
    again, none = computed.of(tmp_path / "again", *options)
    off, every = computed.of(tmp_path / "off", *options, "trainer.frozen_prefix_gb=0")
    assert first == again == off and none == 0 < missed < every
    settings = compose_settings(*SMALL, *options)
    stop_after(6, settings, tmp_path / "resumed", monkeypatch)
    run_settings(settings, tmp_path / "resumed")
    assert content(tmp_path / "resumed") == first
