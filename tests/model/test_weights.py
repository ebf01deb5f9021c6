"""A checkpoint is used as it is, with a fresh head, or refused: nothing of its backbone is lost or random unnoticed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertForPreTraining, ModernBertConfig
from transformers import ModernBertForMaskedLM as ModernBertMLM

from ablate.model.loading import Pretrained, Vocabulary
from tests.faults.models import save_model

VOCABULARY = Vocabulary(size=64, pad_token_id=0)
SIZES = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Change the tensors of a checkpoint."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def head(folder: Path, rule: str, seed: int, labels: int = 2) -> torch.Tensor:
    model = Pretrained(str(folder), None, 1e-3, rule).build(labels, seed, VOCABULARY)
    return torch.cat(
        [p.detach().flatten() for n, p in model.named_parameters() if n.startswith(("classifier", "head"))]
    )


def refused(folder: Path, *words: str) -> None:
    """Both the check before the first run and the run itself refuse a checkpoint."""
    model = Pretrained(str(folder), None, 1e-3)
    for use in (lambda: model.skeleton(2), lambda: model.build(2, 0, VOCABULARY)):
        with pytest.raises(ValueError) as error:
            use()
        for word in words:
            assert word in str(error.value)


WORD = "embeddings.word_embeddings.weight"
LAYER = "encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: {f"module.{name}": value for name, value in t.items()}, f"bert.{WORD}"),
        (lambda t: {name: value for name, value in t.items() if name != LAYER}, f"bert.{LAYER}"),
        (lambda t: {name.replace("layer.1.output", "layer.1.outpuu"): value for name, value in t.items()}, LAYER),
        (lambda t: t | {WORD: torch.zeros(60, 16)}, f"bert.{WORD} (60, 16) instead of (64, 16)"),
        (lambda t: t | {"encoder.layer.2.output.dense.weight": torch.zeros(16, 32)}, "encoder.layer.2.output"),
        (lambda t: t | {"bert.encoder.layer.0.attention.self.query.lora_A.weight": torch.zeros(2, 16)}, "lora_A"),
    ],
    ids=["prefix", "one missing", "one letter", "shape", "more layers", "adapter"],
)
def test_a_backbone_that_does_not_fit_is_refused(folder: Path, change: Callable, named: str) -> None:
    edit(folder, change)
    refused(folder, "model.path must be a checkpoint", str(folder), named)


def test_a_message_names_five_tensors_and_counts_the_others(folder: Path) -> None:
    edit(folder, lambda t: {f"module.{name}": value for name, value in t.items()})
    refused(folder, "bert.embeddings.LayerNorm.bias, ", " and 32 more")


def test_heads_of_other_tasks_and_old_buffers_are_dropped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    BertForPreTraining(BertConfig(**SIZES)).save_pretrained(tmp_path)
    edit(tmp_path, lambda t: t | {"bert.embeddings.position_ids": torch.arange(512)[None]})
    model = Pretrained(str(tmp_path), None, 1e-3).build(2, 0, VOCABULARY)
    assert torch.equal(
        model.bert.pooler.dense.weight, load_file(tmp_path / "model.safetensors")["bert.pooler.dense.weight"]
    )


def with_trained_head(folder: Path, labels: int) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels)
    with torch.no_grad():
        model.classifier.weight.fill_(7)
        model.classifier.bias.fill_(7)
    model.save_pretrained(folder)


@pytest.mark.parametrize("rule", ["default", "xavier"])
@pytest.mark.parametrize("labels", [2, 3])
def test_the_head_is_that_of_a_checkpoint_without_one(folder: Path, rule: str, labels: int) -> None:
    """A fine-tuned head, of the same or another size, is drawn again from the seed's stream, to the bit."""
    fresh = [head(folder, rule, seed) for seed in (0, 1)]
    with_trained_head(folder, labels)
    again = [head(folder, rule, seed) for seed in (0, 1)]
    assert torch.equal(fresh[0], again[0]) and torch.equal(fresh[1], again[1])
    assert not torch.equal(again[0], again[1])
    assert rule == "xavier" or again[0][:-2].std().item() == pytest.approx(0.02, rel=0.5)


@pytest.mark.parametrize("rule", ["default", "xavier"])
def test_a_part_of_a_head_is_no_head(tmp_path: Path, rule: str) -> None:
    """ModernBERT's masked-language model has a dense layer and a norm with the names of the classifier's."""
    torch.manual_seed(0)
    config = ModernBertConfig(**SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
    ModernBertMLM(config).save_pretrained(tmp_path)
    edit(tmp_path, lambda t: t | {"head.norm.weight": torch.full((16,), 7.0)})
    one, other = head(tmp_path, rule, 0), head(tmp_path, rule, 1)
    assert not (one == 7).any()
    assert (one[: 16 * 16] != other[: 16 * 16]).all()


# Files


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def pointer(name: str) -> Callable[[Path], None]:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1000\n"
    return lambda folder: (folder / name).write_text(text)


def index(*shards: str) -> Callable[[Path], None]:
    """The folder's weights as shards, each a copy of the whole, of which the index names these."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        names = load_file(folder / "model-1.safetensors")
        weight_map = {name: shards[i % len(shards)] for i, name in enumerate(names)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        shutil.copy(folder / "model-1.safetensors", folder.parent / "outside.safetensors")
        shutil.copy(folder / "model-1.safetensors", folder / "weights.st")

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut, ("model.safetensors", "cut or damaged")),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), ("model.safetensors", "cut or damaged")),
        (pointer("model.safetensors"), ("model.safetensors", "Git LFS pointer", "git lfs pull")),
        (pointer("tokenizer.json"), ("tokenizer.json", "Git LFS pointer")),
        (index("model-1.safetensors", "model-2.safetensors"), ("model-2.safetensors", "missing")),
        (index("../outside.safetensors"), ("names only", "../outside.safetensors")),
        (index("weights.st"), ("names only", "weights.st")),
        (lambda folder: (folder / "config.json").write_text("{"), ("config.json", "JSON object")),
        (lambda folder: configure(folder, model_type="berd"), ("model.path must be", "berd")),
        (lambda folder: configure(folder, model_type="resnet"), ("model.path must be",)),
        (lambda folder: configure(folder, transformers_weights="other.safetensors"), ("does not name other weights",)),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), ("merge the adapter",)),
    ],
    ids=["cut", "empty", "pointer", "pointer of the tokenizer", "lost shard", "index outside", "index unhashed",
         "config", "model type", "not for text", "other weights", "adapter"],
)  # fmt: skip
def test_damaged_or_misleading_files_are_refused(folder: Path, change: Callable, words: tuple[str, ...]) -> None:
    change(folder)
    refused(folder, *words)


def test_whole_shards_are_read(folder: Path) -> None:
    before = head(folder, "xavier", 0)
    index("model-1.safetensors")(folder)
    assert torch.equal(head(folder, "xavier", 0), before)


def test_a_family_without_roles_is_loaded(tmp_path: Path) -> None:
    from transformers import BartConfig, BartForSequenceClassification

    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = BartConfig(vocab_size=64, encoder_attention_heads=2, decoder_attention_heads=2, **sizes)
    BartForSequenceClassification(config).save_pretrained(tmp_path)
    _, found = Pretrained(str(tmp_path), None, lr=1.0).load(2)
    assert "model.shared.weight" in found and "classification_head.out_proj.weight" not in found  # three labels
