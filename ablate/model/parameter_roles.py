"""The role of a parameter, read from its name: its block, its kind and its layer.

>>> role("bert.encoder.layer.7.output.dense.weight")
Role(block='mlp', kind='weight', layer=7)
>>> role("bert.encoder.layer.7.attention.output.LayerNorm.bias")
Role(block='attention', kind='norm', layer=7)

Names are those of transformers' `AutoModelForSequenceClassification`, as `named_parameters()` gives them.
To add a family, write its paths into `TABLE` and its output layers into the tuples below it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

PARAMETER_KINDS = ("weight", "bias", "norm")


@dataclass(frozen=True)
class Role:
    """A parameter's place in its model.

    block: one of `ablate.schema.BLOCKS`. A norm belongs to the block that contains it or that it feeds.
    kind: one of `PARAMETER_KINDS`; both the weight and the bias of a normalisation layer are "norm".
    layer: number of its transformer layer, from 0; None outside the layers and for weights that layers share.
    """

    block: str
    kind: str
    layer: int | None


# family -> {path: block}. In a path, `#` is a layer number, `?` any other number, `a|b` either segment, and `*` any
# rest that ends in weight or bias. If the paths of two families match a name, they give the same block, so order is
# irrelevant.
TABLE: dict[str, dict[str, str]] = {
    "BERT": {
        "bert.embeddings.*": "embedding",
        "bert.encoder.layer.#.attention.*": "attention",
        "bert.encoder.layer.#.intermediate|output.*": "mlp",
        "bert.pooler.*": "pooler",
        "classifier.*": "head",
    },
    "DistilBERT": {
        "distilbert.embeddings.*": "embedding",
        "distilbert.transformer.layer.#.attention|sa_layer_norm.*": "attention",
        "distilbert.transformer.layer.#.ffn|output_layer_norm.*": "mlp",
        "pre_classifier|classifier.*": "head",
    },
    "RoBERTa": {
        "roberta.embeddings.*": "embedding",
        "roberta.encoder.layer.#.attention.*": "attention",
        "roberta.encoder.layer.#.intermediate|output.*": "mlp",
        "classifier.*": "head",
    },
    "ALBERT": {
        "albert.embeddings.*": "embedding",
        "albert.encoder.embedding_hidden_mapping_in.*": "embedding",
        "albert.encoder.albert_layer_groups.?.albert_layers.?.attention.*": "attention",
        "albert.encoder.albert_layer_groups.?.albert_layers.?.ffn|ffn_output|full_layer_layer_norm.*": "mlp",
        "albert.pooler.*": "pooler",
        "classifier.*": "head",
    },
    "ELECTRA": {
        "electra.embeddings|embeddings_project.*": "embedding",
        "electra.encoder.layer.#.attention.*": "attention",
        "electra.encoder.layer.#.intermediate|output.*": "mlp",
        "classifier.*": "head",
    },
    "DeBERTa-v2": {
        "deberta.embeddings.*": "embedding",
        # The encoder's own LayerNorm normalises the relative position embeddings and nothing else.
        "deberta.encoder.rel_embeddings|LayerNorm.*": "embedding",
        "deberta.encoder.layer.#.attention.*": "attention",
        "deberta.encoder.layer.#.intermediate|output.*": "mlp",
        # A branch parallel to layer 0, added to its output. It is not attention, and the write-up's rule trains it too.
        "deberta.encoder.conv.*": "mlp",
        "pooler.*": "pooler",
        "classifier.*": "head",
    },
    "ModernBERT": {
        "model.embeddings.*": "embedding",
        "model.layers.#.attn_norm|attn.*": "attention",
        "model.layers.#.mlp_norm|mlp.*": "mlp",
        "model.final_norm.*": "final",
        "head|classifier.*": "head",
    },
    "GPT-2": {
        "transformer.wte|wpe.*": "embedding",
        "transformer.h.#.ln_1|attn.*": "attention",
        "transformer.h.#.ln_2|mlp.*": "mlp",
        "transformer.ln_f.*": "final",
        "score.*": "head",
    },
    "Llama, Qwen2, Qwen3": {
        "model.embed_tokens.*": "embedding",
        "model.layers.#.input_layernorm|self_attn.*": "attention",
        # It is named after the block before it, but it is the norm before the MLP.
        "model.layers.#.post_attention_layernorm|mlp.*": "mlp",
        "model.norm.*": "final",
        "score.*": "head",
    },
}

MLP_OUTPUTS = (
    "bert|roberta|electra|deberta.encoder.layer.#.output.dense.weight",
    "distilbert.transformer.layer.#.ffn.lin2.weight",
    "albert.encoder.albert_layer_groups.?.albert_layers.?.ffn_output.weight",
    "model.layers.#.mlp.Wo|down_proj.weight",
    "transformer.h.#.mlp.c_proj.weight",
)

# Modules that process the output of their layer's attention token by token, in families whose head reads only the
# first token.
AFTER_ATTENTION = (
    "bert|roberta|electra.encoder.layer.#.attention.output",
    "distilbert.transformer.layer.#.sa_layer_norm",
)

CLASSIFIERS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")


def _compile(path: str) -> re.Pattern[str]:
    """A path of the tables above as a regular expression for the whole name."""
    wildcards = {"#": r"(?P<layer>[0-9]+)", "?": r"[0-9]+", "*": r"(?:[^.]+\.)*(?:weight|bias)"}
    return re.compile(r"\.".join(wildcards.get(segment, f"(?:{segment})") for segment in path.split(".")))


_ROWS = tuple((_compile(path), block) for paths in TABLE.values() for path, block in paths.items())
_MLP_OUTPUTS = tuple(map(_compile, MLP_OUTPUTS))
_AFTER_ATTENTION = tuple(map(_compile, AFTER_ATTENTION))
_NORM = re.compile(r".*(norm|\.ln_\w+)\.(weight|bias)", re.IGNORECASE)
_ADAPTER = re.compile(
    r"\.(lora_\w+|ia3_l)\.[^.]+(\.weight)?$"
)  # peft's names; the segment between is the adapter's own


def role(name: str) -> Role:
    """Block, kind and layer of the parameter `name`.

    >>> role("model.layers.3.post_attention_layernorm.weight")
    Role(block='mlp', kind='norm', layer=3)

    A weight that peft adds has the place of the module that it adapts.

    >>> role("bert.encoder.layer.7.attention.self.query.lora_A.default.weight")
    Role(block='attention', kind='weight', layer=7)

    Raises ValueError if the name matches no family of `TABLE`.
    """
    name = unadapted(_ADAPTER.sub(".weight", name))
    for pattern, block in _ROWS:
        if match := pattern.fullmatch(name):
            kind = "norm" if _NORM.fullmatch(name) else name.rpartition(".")[2]
            layer = match.groupdict().get("layer")
            return Role(block, kind, None if layer is None else int(layer))
    raise ValueError(
        f"the parameter {name!r} has no known role; known are the sequence classifiers of {', '.join(TABLE)}"
    )


def unadapted(name: str) -> str:
    """The name that a pretrained parameter has without the adapter that peft put around its module.

    >>> unadapted("bert.encoder.layer.0.output.dense.base_layer.weight")
    'bert.encoder.layer.0.output.dense.weight'
    """
    return name.replace(".base_layer.", ".")


def mlp_weight(names: Iterable[str]) -> str:
    """The parameter whose gradient norm is G_MLP: the MLP's output projection in layer floor(7/12 · n) of n.

    names: all parameters of the model, trained or not, in any order. In BERT-base this is layer 7 of 12, the layer that
    the write-up tracks; 7/12 is the same relative depth elsewhere. Shared weights count once: ALBERT has one layer.

    >>> mlp_weight(f"bert.encoder.layer.{i}.output.dense.weight" for i in range(6))
    'bert.encoder.layer.3.output.dense.weight'

    Raises ValueError if no name is a known output projection.
    """
    outputs = _matching(_MLP_OUTPUTS, names)
    if not outputs:
        raise ValueError(_not_found("output projection of an MLP", "mlp", outputs))
    return outputs[7 * len(outputs) // 12]


def last_after_attention(modules: Iterable[str]) -> str | None:
    """The module after the last layer's attention, for models whose head reads only the first token.

    modules: all modules of the model, in any order. None for a family whose head reads other tokens, or all tokens.

    >>> last_after_attention(f"distilbert.transformer.layer.{i}.sa_layer_norm" for i in range(6))
    'distilbert.transformer.layer.5.sa_layer_norm'
    """
    found = _matching(_AFTER_ATTENTION, modules)
    return found[-1] if found else None


def classifier_weight(names: Iterable[str]) -> str:
    """The parameter whose gradient norm is G_CLS: the weight of the head's last layer, which gives the logits.

    >>> classifier_weight(["pre_classifier.weight", "classifier.weight", "classifier.bias"])
    'classifier.weight'

    Raises ValueError unless exactly one name is a known last layer.
    """
    found = [name for name in names if name in CLASSIFIERS]
    if len(found) != 1:
        raise ValueError(_not_found("last layer of a classification head", "classifier", found))
    return found[0]


def _matching(patterns: Iterable[re.Pattern[str]], names: Iterable[str]) -> list[str]:
    """The names that match, ordered by layer."""
    return sorted((name for name in names if any(p.fullmatch(unadapted(name)) for p in patterns)), key=_position)


def _position(name: str) -> list[int]:
    """The numbers in a name. Sorting by them puts layer 10 after layer 9."""
    return [int(segment) for segment in name.split(".") if segment.isdecimal()]


def _not_found(what: str, key: str, found: list[str]) -> str:
    return (
        f"the model must have one weight that is known as the {what} (got {', '.join(found) or 'none'}); known are the "
        f"sequence classifiers of {', '.join(TABLE)}. Name the weight yourself: trainer.track.{key}=<parameter name>"
    )
