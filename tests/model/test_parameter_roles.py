"""Compares roles with the models themselves: all families are built on the meta device, without memory."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForSequenceClassification

from ablate.model.parameter_roles import PARAMETER_KINDS, Role, classifier_weight, mlp_weight, model_families, role
from ablate.schema import BLOCKS, OTHER

LAYERS = 11  # floor(7/12 · 11) = 6, and layer 10 sorts before layer 2 as text
BERT_LIKE = {"num_hidden_layers": LAYERS}

# Parts that the default configuration leaves out (biases, convolution, factorised embeddings) are switched on.
DEBERTA_XLARGE = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "norm_rel_ebd": "layer_norm",
    "conv_kernel_size": 3,
    "embedding_size": 128,
    "type_vocab_size": 2,
}
MODERNBERT_BIASES = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
CONFIGS = {
    "bert": ("bert", BERT_LIKE),
    "distilbert": ("distilbert", {"n_layers": LAYERS}),
    "roberta": ("roberta", BERT_LIKE),
    "xlm-roberta": ("xlm-roberta", BERT_LIKE),
    "albert": ("albert", BERT_LIKE),
    "electra": ("electra", BERT_LIKE),
    "deberta-v2": ("deberta-v2", BERT_LIKE),
    "deberta-v2-xlarge": ("deberta-v2", BERT_LIKE | DEBERTA_XLARGE),
    "modernbert": ("modernbert", BERT_LIKE),
    "modernbert-biases": ("modernbert", BERT_LIKE | MODERNBERT_BIASES),
    "gpt2": ("gpt2", {"n_layer": LAYERS}),
    "llama": ("llama", BERT_LIKE | {"attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", BERT_LIKE),
    "qwen3": ("qwen3", BERT_LIKE),
}

BERT_6 = "encoder.layer.6.output.dense.weight"
LAST_LAYERS = {
    "bert": (f"bert.{BERT_6}", "classifier.weight"),
    "distilbert": ("distilbert.transformer.layer.6.ffn.lin2.weight", "classifier.weight"),
    "roberta": (f"roberta.{BERT_6}", "classifier.out_proj.weight"),
    "xlm-roberta": (f"roberta.{BERT_6}", "classifier.out_proj.weight"),
    "albert": (
        "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output.weight",
        "classifier.weight",
    ),
    "electra": (f"electra.{BERT_6}", "classifier.out_proj.weight"),
    "deberta-v2": (f"deberta.{BERT_6}", "classifier.weight"),
    "deberta-v2-xlarge": (f"deberta.{BERT_6}", "classifier.weight"),
    "modernbert": ("model.layers.6.mlp.Wo.weight", "classifier.weight"),
    "modernbert-biases": ("model.layers.6.mlp.Wo.weight", "classifier.weight"),
    "gpt2": ("transformer.h.6.mlp.c_proj.weight", "score.weight"),
    "llama": ("model.layers.6.mlp.down_proj.weight", "score.weight"),
    "qwen2": ("model.layers.6.mlp.down_proj.weight", "score.weight"),
    "qwen3": ("model.layers.6.mlp.down_proj.weight", "score.weight"),
}

SHARED = "albert.encoder.albert_layer_groups.0.albert_layers.0"
DOUBTFUL = [
    ("bert", "bert.embeddings.LayerNorm.bias", Role("embedding", "norm", None)),
    ("bert", "bert.encoder.layer.10.attention.output.LayerNorm.weight", Role("attention", "norm", 10)),
    ("bert", "bert.encoder.layer.10.attention.output.dense.bias", Role("attention", "bias", 10)),
    ("bert", "bert.encoder.layer.10.output.LayerNorm.bias", Role("mlp", "norm", 10)),
    ("bert", "bert.encoder.layer.10.output.dense.bias", Role("mlp", "bias", 10)),
    ("bert", "bert.pooler.dense.weight", Role("pooler", "weight", None)),
    ("distilbert", "distilbert.transformer.layer.2.sa_layer_norm.weight", Role("attention", "norm", 2)),
    ("distilbert", "distilbert.transformer.layer.2.output_layer_norm.weight", Role("mlp", "norm", 2)),
    ("distilbert", "pre_classifier.bias", Role("head", "bias", None)),
    ("roberta", "classifier.dense.weight", Role("head", "weight", None)),
    ("electra", "classifier.dense.weight", Role("head", "weight", None)),
    ("electra", "electra.embeddings_project.weight", Role("embedding", "weight", None)),
    ("albert", "albert.encoder.embedding_hidden_mapping_in.bias", Role("embedding", "bias", None)),
    ("albert", f"{SHARED}.attention.LayerNorm.weight", Role("attention", "norm", None)),
    ("albert", f"{SHARED}.full_layer_layer_norm.weight", Role("mlp", "norm", None)),
    ("albert", f"{SHARED}.ffn.weight", Role("mlp", "weight", None)),
    ("albert", "albert.pooler.bias", Role("pooler", "bias", None)),
    ("deberta-v2-xlarge", "deberta.embeddings.embed_proj.weight", Role("embedding", "weight", None)),
    ("deberta-v2-xlarge", "deberta.encoder.rel_embeddings.weight", Role("embedding", "weight", None)),
    ("deberta-v2-xlarge", "deberta.encoder.LayerNorm.weight", Role("embedding", "norm", None)),
    ("deberta-v2-xlarge", "deberta.encoder.conv.conv.weight", Role("mlp", "weight", None)),
    ("deberta-v2-xlarge", "deberta.encoder.conv.LayerNorm.bias", Role("mlp", "norm", None)),
    ("deberta-v2-xlarge", "pooler.dense.bias", Role("pooler", "bias", None)),
    ("modernbert-biases", "model.embeddings.norm.bias", Role("embedding", "norm", None)),
    ("modernbert-biases", "model.layers.1.attn_norm.bias", Role("attention", "norm", 1)),
    ("modernbert-biases", "model.layers.0.mlp_norm.weight", Role("mlp", "norm", 0)),
    ("modernbert-biases", "model.final_norm.weight", Role("final", "norm", None)),
    ("modernbert-biases", "head.norm.bias", Role("head", "norm", None)),
    ("modernbert-biases", "head.dense.bias", Role("head", "bias", None)),
    ("gpt2", "transformer.wpe.weight", Role("embedding", "weight", None)),
    ("gpt2", "transformer.h.10.ln_1.bias", Role("attention", "norm", 10)),
    ("gpt2", "transformer.h.10.ln_2.weight", Role("mlp", "norm", 10)),
    ("gpt2", "transformer.ln_f.weight", Role("final", "norm", None)),
    ("llama", "model.layers.0.input_layernorm.weight", Role("attention", "norm", 0)),
    ("llama", "model.layers.0.post_attention_layernorm.weight", Role("mlp", "norm", 0)),
    ("llama", "model.norm.weight", Role("final", "norm", None)),
    ("qwen2", "model.layers.4.self_attn.q_proj.bias", Role("attention", "bias", 4)),
    ("qwen3", "model.layers.4.self_attn.k_norm.weight", Role("attention", "norm", 4)),
]


def build(model_type: str, **settings) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(model_type, num_labels=2, **settings)
        )


@pytest.fixture(scope="module")
def models() -> dict[str, torch.nn.Module]:
    return {label: build(model_type, **settings) for label, (model_type, settings) in CONFIGS.items()}


@pytest.fixture(params=CONFIGS)
def model(request, models) -> torch.nn.Module:
    return models[request.param]


def rows() -> list[tuple[re.Pattern[str], str]]:
    return [row for family in model_families() for row in family.blocks]


def names(model: torch.nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def count_by_block(model: torch.nn.Module) -> Counter[str]:
    counts = Counter()
    for name, parameter in model.named_parameters():
        counts[role(name).block] += parameter.numel()
    return counts


def owned(model: torch.nn.Module, in_class_name: str) -> set[str]:
    """Parameters at or below a module whose class name contains this text, whatever the parameters' names are."""
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if in_class_name in type(module).__name__ and path
        for name, _ in module.named_parameters()
    }


def test_every_parameter_has_exactly_one_role(model):
    for name in names(model):
        blocks = {block for pattern, block in rows() if pattern.fullmatch(name)}
        assert len(blocks) == 1, (name, blocks)
        assert role(name).block in blocks and blocks <= set(BLOCKS)
        assert role(name).kind in PARAMETER_KINDS


def test_every_path_of_the_table_is_used(models):
    everything = {name for model in models.values() for name in names(model)}
    idle = [pattern.pattern for pattern, _ in rows() if not any(map(pattern.fullmatch, everything))]
    assert idle == []


def test_kinds_agree_with_the_modules(model):
    norms = owned(model, "Norm")
    assert norms
    for name in names(model):
        assert role(name).kind == ("norm" if name in norms else name.rpartition(".")[2]), name


def test_blocks_agree_with_the_modules(model):
    # Embedding holds nn.Embedding and the families' own BertEmbeddings and the like.
    assert owned(model, "Embedding")
    assert {role(name).block for name in owned(model, "Embedding")} == {"embedding"}
    assert {role(name).block for name in owned(model, "Attention")} == {"attention"}
    assert {role(name).block for name in owned(model, "MLP")} <= {"mlp"}
    assert {role(name).block for name in owned(model, "Head")} <= {"head"}


def test_layers_are_numbered(model):
    layers = {"attention": set(), "mlp": set()}
    for name in names(model):
        if (layer := role(name).layer) is not None:
            layers[role(name).block].add(layer)
            assert f".{layer}." in name
    shared = model.config.model_type == "albert"
    expected = set() if shared else set(range(LAYERS))
    assert layers == {"attention": expected, "mlp": expected}


@pytest.mark.parametrize(("label", "name", "expected"), DOUBTFUL, ids=[name for _, name, _ in DOUBTFUL])
def test_doubtful_cases(models, label, name, expected):
    assert name in names(models[label])
    assert role(name) == expected


def bert_blocks(vocab: int, hidden: int, layers: int, intermediate: int, positions: int) -> dict[str, int]:
    """A BERT's parameters by block, counted by hand: every norm is 2h, every linear in · out + out."""
    h, f = hidden, intermediate
    return {
        "embedding": (vocab + positions + 2) * h + 2 * h,
        "attention": layers * (4 * (h * h + h) + 2 * h),
        "mlp": layers * ((h * f + f) + (f * h + h) + 2 * h),
        "pooler": h * h + h,
        "head": 2 * h + 2,
    }


@pytest.mark.parametrize(
    ("hidden", "layers", "intermediate", "trained", "total"),
    [
        pytest.param(768, 12, 3072, 57_279_746, 109_483_778, id="bert-base"),
        pytest.param(384, 6, 1536, 7_242_626, 22_713_986, id="minilm-l6"),
    ],
)
def test_counts_of_the_studied_models(hidden, layers, intermediate, trained, total):
    model = build(
        "bert",
        vocab_size=30522,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=intermediate,
        max_position_embeddings=512,
        type_vocab_size=2,
    )
    counts = count_by_block(model)
    assert counts == bert_blocks(30522, hidden, layers, intermediate, 512)
    assert counts.total() == total
    assert counts.total() - counts["embedding"] - counts["attention"] == trained


def write_up_freezes(name: str) -> bool:
    """The write-up's own rule: it looks for parts of the name."""
    return "attention" in name or "embeddings" in name


def differs_from_write_up(model: torch.nn.Module) -> set[str]:
    return {n for n in names(model) if write_up_freezes(n) != (role(n).block in {"embedding", "attention"})}


@pytest.mark.parametrize("label", ["bert", "roberta", "electra", "deberta-v2"])
def test_blocks_agree_with_the_write_ups_rule(models, label):
    assert differs_from_write_up(models[label]) == set()


def test_the_write_ups_rule_misses_other_names_of_other_families(models):
    # The control for the comparison above: here the blocks are right and the rule by names is not.
    missed = {
        "distilbert": {"sa_layer_norm"},
        "albert": {"embedding_hidden_mapping_in"},
        "deberta-v2-xlarge": {"LayerNorm"},
        "gpt2": {"wte", "wpe", "ln_1", "c_attn", "c_proj"},
        "llama": {"embed_tokens", "input_layernorm", "post_attention_layernorm"} | {f"{x}_proj" for x in "qkvo"},
    }
    for label, modules in missed.items():
        assert {name.split(".")[-2] for name in differs_from_write_up(models[label])} == modules


@pytest.mark.parametrize("label", CONFIGS)
def test_tracked_weights(models, label):
    parameters = dict(models[label].named_parameters())
    mlp, classifier = mlp_weight(parameters), classifier_weight(parameters)
    assert (mlp, classifier) == LAST_LAYERS[label]
    assert role(mlp).block == "mlp" and role(mlp).kind == "weight"
    assert parameters[classifier].shape[0] == 2  # (labels, hidden)


@given(st.data(), st.integers(1, 60))
def test_mlp_weight_is_at_seven_twelfths_in_any_order(data, n):
    ordered = [
        f"bert.encoder.layer.{i}.{part}" for i in range(n) for part in ("output.dense.weight", "output.dense.bias")
    ]
    shuffled = data.draw(st.permutations(ordered))
    assert mlp_weight(iter(shuffled)) == f"bert.encoder.layer.{7 * n // 12}.output.dense.weight"


def test_bert_base_tracks_the_write_ups_layer():
    assert mlp_weight(names(build("bert"))) == "bert.encoder.layer.7.output.dense.weight"


@pytest.mark.parametrize(
    "name",
    [
        "vit.encoder.layer.0.output.dense.weight",
        "bert.encoder.layer.x.output.dense.weight",
        "bert.encoder.layer.0.crossattention.self.query.weight",
        "module.classifier.weight",
        "classifier",
        "classifiers.weight",
        "bert.encoder.layer.0.poolers.weight",
        "",
    ],
)
def test_unknown_name_is_in_no_block(name):
    assert role(name) == Role(OTHER, "weight", None)


def test_a_tracked_weight_of_an_unknown_family_is_none():
    others = ["vit.encoder.layer.0.output.dense.weight", "bert.encoder.layer.0.attention.output.dense.weight"]
    assert mlp_weight(others) is None
    assert classifier_weight([*others, "pre_classifier.weight", "classifier.dense.weight"]) is None
    assert classifier_weight(["classifier.weight", "score.weight"]) is None


def test_roles_need_no_torch():
    code = "import sys, ablate.model.parameter_roles; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
