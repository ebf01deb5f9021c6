"""Model families as users have them: a folder with weights, configuration and tokenizer, trained with our trainer.

Each family is a tiny random checkpoint that `model=minilm model.path=<folder>` reads. Differences between families
(pooler or none, place of the head, padding token, roles of parameters) must be handled without settings.
"""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from ablate.model import parameter_roles
from ablate.model.loading import Pretrained, Vocabulary
from ablate.model.word_tokenizer import word_tokenizer
from tests.faults import harness
from tests.together import agree, together
from tests.tools import compose_settings, run_settings

WORDS = ["a fine film", "a dull film", "the plot is fine", "the plot is dull and the cast is worse"]
STEPS = 5
ENCODER = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
DECODER = ENCODER | {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("bert", ENCODER),
    "DistilBERT": ("distilbert", {"n_layers": 2, "dim": 32, "n_heads": 2, "hidden_dim": 48}),
    "RoBERTa": ("roberta", ENCODER),
    "ALBERT": ("albert", ENCODER | {"embedding_size": 16}),
    "ELECTRA": ("electra", ENCODER | {"embedding_size": 16}),
    "DeBERTa-v2": ("deberta-v2", ENCODER | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "ModernBERT": ("modernbert", ENCODER),
    "GPT-2": ("gpt2", {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_inner": 48}),
    "Llama": ("llama", DECODER),
    "Qwen2": ("qwen2", DECODER),
    "Qwen3": ("qwen3", DECODER),
}
POOLED = {"BERT", "ALBERT", "DeBERTa-v2"}
PADDED = ("GPT-2", "Llama", "Qwen2", "Qwen3")  # their tokenizers often have no padding token


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save(tmp_path_factory.mktemp("families"))


def save(root: Path, dropout: bool = True) -> dict[str, Path]:
    """Save a checkpoint of each family. As in real ones, the decoders' tokenizers have no padding token."""
    for family, (model_type, settings) in FAMILIES.items():
        tokenizer = word_tokenizer(WORDS, 100, 64)
        if family in PADDED:
            tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
        config = AutoConfig.for_model(
            model_type, vocab_size=len(tokenizer), pad_token_id=None if family in PADDED else 0, bos_token_id=2,
            eos_token_id=3, cls_token_id=2, sep_token_id=3, **settings,
        )  # fmt: skip
        if not dropout:
            config.update({key: 0.0 for key, value in config.to_dict().items() if "drop" in key and value})
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config)
        model.save_pretrained(root / family)
        tokenizer.save_pretrained(root / family)
    return {family: root / family for family in FAMILIES}


def settings_of(folder: Path, freeze: str, *more: str) -> dict[str, Any]:
    return compose_settings(
        "model=minilm", f"model.path={folder}", "data=synthetic", f"freeze={freeze}", f"trainer.steps={STEPS}",
        "trainer.batch_size=8", "trainer.threads=1", "trainer.track.layers_every=1", "optimizer.lr=0.01",
        "trainer.keep_checkpoint=true", *more,
    )  # fmt: skip


@pytest.mark.parametrize("freeze", ["none", "embeddings_attention"])
@pytest.mark.parametrize("family", FAMILIES)
def test_trains_under_both_freezing_rules(family: str, freeze: str, folders: dict[str, Path], tmp_path: Path) -> None:
    record = run_settings(settings_of(folders[family], freeze), tmp_path)
    steps = pq.read_table(tmp_path / "steps.parquet").to_pydict()
    blocks = record["parameters"]["by_block"]
    assert record["status"] == "done"
    assert len(steps["step"]) == STEPS
    for column in ("grad_norm", "mlp_grad_norm", "classifier_grad_norm"):
        assert all(value > 0 for value in steps[column]), column
    assert ("pooler" in blocks) == (family in POOLED)
    for block, count in blocks.items():
        frozen = freeze != "none" and block in ("embedding", "attention")
        assert count["trained"] == (0 if frozen else count["total"]), block
    layers = pq.read_table(tmp_path / "layers.parquet").to_pylist()
    assert {row["block"] for row in layers} == {block for block, count in blocks.items() if count["trained"]}
    whole = sum(row["grad_norm"] ** 2 for row in layers if row["step"] == 1) ** 0.5
    assert whole == pytest.approx(steps["grad_norm"][0], rel=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_parameters_stay_and_the_others_move(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    settings = settings_of(folders[family], "embeddings_attention", "scheduler=none")
    run_settings(settings, tmp_path)
    trained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trained"]
    start = model_of(folders[family])
    assert trained.keys() == {n for n in start if parameter_roles.role(n).block not in ("embedding", "attention")}
    assert {name for name, value in trained.items() if torch.equal(value, start[name])} == set()


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    """The initial parameters of a run with seed 0."""
    option = Pretrained(str(folder), None, lr=0.01)
    tokenizer = option.tokenizer([])
    model = option.build(2, 0, Vocabulary(len(tokenizer), tokenizer.pad_token_id))
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_does_not_change_what_is_predicted(family: str, folders: dict[str, Path]) -> None:
    """The model knows the padding token: a text has the same logits alone and in a batch with a longer one."""
    option = Pretrained(str(folders[family]), None, lr=0.01)
    tokenizer = option.tokenizer([])
    model = option.build(2, 0, Vocabulary(len(tokenizer), tokenizer.pad_token_id)).eval()
    alone, longer = tokenizer(WORDS[0])["input_ids"], tokenizer(WORDS[3])["input_ids"]
    padding = [tokenizer.pad_token_id] * (len(longer) - len(alone))
    with torch.no_grad():
        one = model(input_ids=torch.tensor([alone]), attention_mask=torch.ones(1, len(alone), dtype=torch.long)).logits
        ids, mask = torch.tensor([alone + padding, longer]), torch.ones(2, len(longer), dtype=torch.long)
        mask[0, len(alone) :] = 0
        both = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(both[:1], one, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_without_a_padding_token_would_fail(folders: dict[str, Path]) -> None:
    """The control for the test above: the decoders' folders really have no padding token."""
    model = AutoModelForSequenceClassification.from_pretrained(folders["Llama"])
    with pytest.raises(ValueError, match="batch sizes > 1"):
        model(input_ids=torch.ones(2, 5, dtype=torch.long))


@pytest.fixture(scope="module")
def on_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A sweep over all families with one rank, and its command."""
    cwd = tmp_path_factory.mktemp("on_one")
    folders = save(cwd / "families", dropout=False)
    command = (
        "-m", "model=minilm", f"model.path={','.join(map(str, folders.values()))}", "data=synthetic", "study=faults",
        "data.train_examples=40", "data.test_examples=20", "clip=fixed", f"trainer.steps={STEPS}",
        "trainer.batch_size=8", "trainer.threads=1", "trainer.length_splits=2", "optimizer.lr=0.001",
    )  # fmt: skip
    assert harness.ablate(cwd, *command) == 0
    return cwd, command


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_each_family_on_two_ranks_agrees_with_one(tmp_path: Path, on_one: tuple[Path, Any], way: str) -> None:
    one, command = on_one
    assert together(tmp_path, *command, f"trainer.distributed={way}") == [0, 0]
    ours, theirs = harness.runs(one), harness.runs(tmp_path)
    assert len(ours) == len(FAMILIES) and ours.keys() == theirs.keys()
    assert [name for name in ours if not agree(ours[name], theirs[name])] == []
