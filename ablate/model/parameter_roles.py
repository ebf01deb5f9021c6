"""The role of a parameter, read from its name: its block, its kind and its layer.

>>> role("bert.encoder.layer.7.output.dense.weight")
Role(block='mlp', kind='weight', layer=7)
>>> role("bert.encoder.layer.7.attention.output.LayerNorm.bias")
Role(block='attention', kind='norm', layer=7)
>>> role("transformer.layer.0.rel_attn.q")
Role(block='other', kind='weight', layer=None)

Names are those of transformers' `AutoModelForSequenceClassification`, as `named_parameters()` gives them. The files of
conf/roles describe families of models, one per file:

    model_types       `model_type` of the models in their config.json, a list
    blocks            path: block
    mlp_output        path of the weights of which one gives G_MLP
    classifier        path of the weight of G_CLS
    after_attention   path of the modules that process the output of their layer's attention token by token; only for
                      families whose head reads nothing but the first token

In a path, `#` is a layer number, `?` any other number, `a|b` either segment, and `*` any rest. Only `blocks` is
required. A parameter whose path no file has is in the block "other"; options that need to know what it is refuse the
model (`check_known`).

A user adds a family by a file conf/roles/<family>.yaml in the folder of the command. If the paths of several files
match a name, they must give the same block, so a file adds names and changes none.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ablate.config.checks import refusal
from ablate.config.paths import conf
from ablate.files.hashing import files_sha256
from ablate.files.reading import Damaged, read_regular
from ablate.schema import BLOCKS, OTHER

PARAMETER_KINDS = ("weight", "bias", "norm")

OWN_ROLES = Path("conf/roles")
"""Where the user's own files are, in the folder of the command."""

HEADS = "classifier|pre_classifier|score|classification_head|head|sequence_summary|logits_proj|dense|lm_head"
"""The modules outside the base model of transformers' classifiers and language models, whatever their family."""


@dataclass(frozen=True)
class Role:
    """A parameter's place in its model.

    block: one of `ablate.schema.BLOCKS`, or `OTHER` where it is unknown. A norm belongs to the block that contains it
        or that it feeds.
    kind: one of `PARAMETER_KINDS`; both the weight and the bias of a normalisation layer are "norm".
    layer: number of its transformer layer, from 0; None outside the layers and for weights that layers share.
    """

    block: str
    kind: str
    layer: int | None


@dataclass(frozen=True)
class ModelFamily:
    """A file of conf/roles. Absent paths match nothing."""

    file: Path
    model_types: tuple[str, ...]
    blocks: tuple[tuple[re.Pattern[str], str], ...]
    mlp_output: re.Pattern[str]
    after_attention: re.Pattern[str]
    classifier: re.Pattern[str]


def pattern_of(path: str) -> re.Pattern[str]:
    """A path of conf/roles as a regular expression for the whole name."""
    wildcards = {"#": r"(?P<layer>[0-9]+)", "?": r"[0-9]+", "*": r".+"}
    segments = (wildcards.get(segment, f"(?:{'|'.join(map(re.escape, segment.split('|')))})") for segment in
                path.split("."))  # fmt: skip
    return re.compile(r"\.".join(segments))


_ADAPTER = re.compile(r"\.(lora_\w+|ia3_l)\.[^.]+(\.weight)?$")
"""What peft adds to the names of weights of its own; the segment between is the adapter's name."""
NEVER = re.compile(r"(?!)")
GENERAL = ((pattern_of(f"{HEADS}.*"), "head"), (re.compile(r"(?:[^.]+\.)?pooler\..+"), "pooler"))
"""What the names of any family mean if no file has them."""


def model_families() -> tuple[ModelFamily, ...]:
    """The families of conf/roles: those that are shipped, then the user's own. Raises ValueError for a wrong file."""
    return _model_families(os.getcwd())


@cache
def _model_families(folder: str) -> tuple[ModelFamily, ...]:
    shipped = sorted((Path(conf()) / "roles").glob("*.yaml"))
    own = [Path(folder) / file for file in own_files()]
    return tuple(read_family(file) for file in (*shipped, *own))


def own_files() -> list[Path]:
    """The user's own files of roles; none where the command runs in the checkout, whose files are shipped."""
    if OWN_ROLES.resolve() == (Path(conf()) / "roles").resolve():
        return []
    return sorted(OWN_ROLES.glob("*.yaml"))


def own_roles(model_type: str | None) -> dict[str, str]:
    """What identifies the user's own files of roles, for a model of this type; nothing where they change nothing.

    They are part of a run's id unless the model is of a shipped family, whose parameters all have a role already.
    `model_type`: None where it is unknown before a download.
    """
    files = own_files()
    if not files:
        return {}
    shipped = [family for family in model_families() if family.file.parent == Path(conf()) / "roles"]
    if any(model_type in family.model_types for family in shipped):
        return {}
    return {"roles": files_sha256(OWN_ROLES, [file.name for file in files])}


def read_family(file: Path) -> ModelFamily:
    """Read a file of conf/roles. Raises ValueError, with the file's name, for what is not as described above."""
    try:
        content = yaml.safe_load(read_regular(file))
    except (OSError, Damaged, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file} must be a file of YAML, but cannot be read: {error}") from error
    try:
        return family_of(file, content)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def family_of(file: Path, content: Any) -> ModelFamily:
    paths = ("mlp_output", "after_attention", "classifier")
    if not isinstance(content, Mapping) or not set(content) <= {"model_types", "blocks", *paths}:
        raise refusal("the file", content, f"a mapping with blocks, and with model_types, {', '.join(paths)} if needed")
    model_types, blocks = content.get("model_types", []), content.get("blocks")
    if not isinstance(model_types, list) or not all(isinstance(each, str) for each in model_types):
        raise refusal("model_types", model_types, "a list of names")
    if not isinstance(blocks, Mapping) or not blocks:
        raise refusal("blocks", blocks, "a mapping of paths to blocks")
    for path, block in blocks.items():
        if block not in BLOCKS:
            raise refusal(f"blocks: {path}", block, f"one of {', '.join(BLOCKS)}")
    texts = {key: content[key] for key in paths if key in content}
    for key, path in (*texts.items(), *(("blocks", path) for path in blocks)):
        if not isinstance(path, str) or not all(path.split(".")):
            raise refusal(key, path, "a path, such as transformer.layer.#.ff.*")
    found = {key: pattern_of(texts[key]) if key in texts else NEVER for key in paths}
    return ModelFamily(file, tuple(model_types), tuple((pattern_of(p), b) for p, b in blocks.items()), **found)


def role(name: str) -> Role:
    """Block, kind and layer of the parameter `name`.

    >>> role("model.layers.3.post_attention_layernorm.weight")
    Role(block='mlp', kind='norm', layer=3)

    A weight that peft adds has the place of the module that it adapts.

    >>> role("bert.encoder.layer.7.attention.self.query.lora_A.default.weight")
    Role(block='attention', kind='weight', layer=7)

    Raises ValueError if two files of conf/roles give different blocks.
    """
    return _role(unadapted(_ADAPTER.sub(".weight", name)), os.getcwd())


@cache
def _role(name: str, folder: str) -> Role:
    found: dict[tuple[str, int | None], Path] = {}
    for family in _model_families(folder):
        for pattern, block in family.blocks:
            if match := pattern.fullmatch(name):
                layer = match.groupdict().get("layer")
                found.setdefault((block, None if layer is None else int(layer)), family.file)
    if len(found) > 1:
        raise refusal(f"the role of {name}", " and ".join(map(str, found.values())), "the same in all files of roles")
    for block, layer in found:
        return Role(block, kind_from_name(name), layer)
    general = [block for pattern, block in GENERAL if pattern.fullmatch(name)]
    return Role(general[0] if general else OTHER, kind_from_name(name), None)


_NORM = re.compile(r".*(norm|\.ln_\w+)\.(weight|bias)", re.IGNORECASE)


def kind_from_name(name: str) -> str:
    """The kind of a parameter, by its name alone.

    >>> [kind_from_name(name) for name in ("h.0.ln_1.bias", "mlp.c_fc.bias", "rel_attn.r_w_bias", "mask_emb")]
    ['norm', 'bias', 'bias', 'weight']
    """
    if _NORM.fullmatch(name):
        return "norm"
    return "bias" if name.rpartition(".")[2].endswith("bias") else "weight"


def check_known(key: str, rule: str, names: Iterable[str], family: str) -> None:
    """Raise ValueError if a parameter has no known role.

    key, rule: the config group and the option that needs the roles, for the message.
    family: the model's type, as its config.json names it.
    """
    unknown = [name for name in names if role(name).block == OTHER]
    if unknown:
        raise ValueError(
            f"{refusal(key, rule, 'an option that needs no roles of parameters, such as none')}: {len(unknown)} "
            f"parameters of the family {family} have no known role, such as {unknown[0]}. {how_to_describe(family)}"
        )


def how_to_describe(family: str) -> str:
    """The sentence that says how to add a family."""
    known = ", ".join(each.file.stem for each in model_families())
    return f"Describe the family in {OWN_ROLES}/{family}.yaml, in the folder of the command; described are {known}"


def unadapted(name: str) -> str:
    """The name that a pretrained parameter has without the adapter that peft put around its module.

    >>> unadapted("bert.encoder.layer.0.output.dense.base_layer.weight")
    'bert.encoder.layer.0.output.dense.weight'
    """
    return name.replace(".base_layer.", ".")


def mlp_weight(names: Iterable[str]) -> str | None:
    """The parameter whose gradient norm is G_MLP: the MLP's output projection in layer floor(7/12 · n) of n.

    names: all parameters of the model, trained or not, in any order. In BERT-base this is layer 7 of 12, the layer that
    the write-up tracks; 7/12 is the same relative depth elsewhere. Shared weights count once: ALBERT has one layer.

    >>> mlp_weight(f"bert.encoder.layer.{i}.output.dense.weight" for i in range(6))
    'bert.encoder.layer.3.output.dense.weight'

    None if no name is a known output projection.
    """
    outputs = _matching((family.mlp_output for family in model_families()), names)
    return outputs[7 * len(outputs) // 12] if outputs else None


def last_after_attention(modules: Iterable[str]) -> str | None:
    """The module after the last layer's attention, for models whose head reads only the first token.

    modules: all modules of the model, in any order. None for a family whose head reads other tokens, or all tokens.

    >>> last_after_attention(f"distilbert.transformer.layer.{i}.sa_layer_norm" for i in range(6))
    'distilbert.transformer.layer.5.sa_layer_norm'
    """
    found = _matching((family.after_attention for family in model_families()), modules)
    return found[-1] if found else None


def classifier_weight(names: Iterable[str]) -> str | None:
    """The parameter whose gradient norm is G_CLS: the weight of the head's last layer, which gives the logits.

    >>> classifier_weight(["pre_classifier.weight", "classifier.weight", "classifier.bias"])
    'classifier.weight'

    None unless exactly one name is a known last layer.
    """
    found = _matching((family.classifier for family in model_families()), names)
    return found[0] if len(found) == 1 else None


def _matching(patterns: Iterable[re.Pattern[str]], names: Iterable[str]) -> list[str]:
    """The names that match, ordered by layer."""
    patterns = tuple(patterns)
    found = (name for name in names if any(p.fullmatch(unadapted(name)) for p in patterns))
    return sorted(found, key=_position)


def _position(name: str) -> list[int]:
    """The numbers in a name. Sorting by them puts layer 10 after layer 9."""
    return [int(segment) for segment in name.split(".") if segment.isdecimal()]
