"""Checks of a checkpoint: its files are complete, and its tensors are those of the model that it is loaded into."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.checks import refusal
from ablate.model.parameter_roles import how_to_describe, role
from ablate.schema import OTHER

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "*.safetensors"
SMALL_FILES = ("*.json", "*.txt", "*.model")  # configuration and tokenizer
POINTER = b"version https://git-lfs.github.com"
BUFFERS = ("position_ids", "inv_freq", "attn.bias", "attn.masked_bias")  # that older versions of transformers saved
NAMED = 5  # tensors that a message names


def check_files(folder: Path, path: str) -> None:
    """Raise ValueError unless a model folder has a configuration and complete weights in safetensors.

    Only the headers of the weights are read. No file may direct transformers to weights outside of the files that
    identify the model.
    """
    for pattern in ("config.json", WEIGHTS):
        if not any(folder.glob(pattern)):
            raise ValueError(
                f"model.path must be a folder in transformers' format with safetensors (got {path}; {folder} has no "
                f"{pattern}). Convert pickled weights (*.bin): these can run code when they are read"
            )
    for file in sorted(file for pattern in (*SMALL_FILES, WEIGHTS) for file in folder.glob(pattern)):
        check_is_content(file)
    if (folder / "adapter_config.json").exists():
        raise refusal("model.path", path, "a folder without adapter_config.json: merge the adapter into its model")
    if "transformers_weights" in read_object(folder / "config.json"):
        raise refusal("model.path", path, "a folder whose config.json does not name other weights")
    for file in weight_files(folder, path):
        check_header(file)


def check_is_content(file: Path) -> None:
    """Raise ValueError for a Git LFS pointer, which a clone without LFS has in place of a large file."""
    with file.open("rb") as content:
        if content.read(len(POINTER)) == POINTER:
            raise ValueError(
                f"{file} must contain the model's data, but is a Git LFS pointer; run `git lfs pull` in its folder"
            )


def weight_files(folder: Path, path: str) -> list[Path]:
    """The files that transformers reads: model.safetensors, or the shards that the index names."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.exists():
        return sorted(folder.glob("model.safetensors")) or sorted(folder.glob(WEIGHTS))
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, Mapping) or not shards:
        raise ValueError(f"{index} must have a `weight_map` from the names of tensors to files, but has none")
    names = sorted(set(map(str, shards.values())))
    for name in names:
        if Path(name).name != name or not Path(name).match(WEIGHTS):
            raise refusal("model.path", path, f"a folder whose index names only {WEIGHTS} in the folder, not {name}")
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing: {index.name} says that it has a part of the weights")
    return [folder / name for name in names]


def check_header(file: Path) -> None:
    """Raise ValueError unless a file's header is valid and all of its tensors are in the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} must be a whole safetensors file, but is cut or damaged: {error}") from error


def model_type_of(folder: Path) -> str | None:
    """The family of a model folder, as its config.json names it; None if it cannot be read."""
    try:
        return read_object(folder / "config.json").get("model_type")
    except ValueError:
        return None


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file. ValueError if there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} must contain a JSON object, but cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must contain a JSON object, but contains something else")
    return found


def check_loaded(model: "nn.Module", info: Mapping[str, Any], path: str, new_head: bool = True) -> None:
    """Raise ValueError if a loaded model has random weights where a checkpoint should have given some, or lost some.

    info: transformers' loading info. Missing tensors may only be those of the head and the pooler, which start fresh,
    and of these none without a `new_head`. Tensors that the model does not have may only be those of another head.

    A missing tensor outside the base model whose role is unknown may be one of a head, so the message says how to name
    it.
    """
    blocks = {name: role(name).block for name, _ in model.named_parameters()}
    fresh = ("head", "pooler") if new_head else ("pooler",)
    random = [name for name in info["missing_keys"] if blocks.get(name, "head") not in fresh]
    other_shape = [
        f"{name} {tuple(here)} instead of {tuple(there)}"
        for name, here, there in info["mismatched_keys"]
        if blocks.get(name, "head") != "head"
    ]
    lost = [name for name in info["unexpected_keys"] if is_of_backbone(name, model)]
    for found, problem in (
        (random, "does not have weights of the model, which would be random"),
        (other_shape, "has weights of another shape than its config.json says"),
        (lost, "has weights for which the model of its config.json has no place"),
    ):
        if found:
            message = (
                f"model.path must be a checkpoint whose tensors are those of {type(model).__name__} (got {path}, which "
                f"{problem}: {first_few(found)})"
            )
            outside = (n for n in random if blocks[n] == OTHER and not n.startswith(f"{model.base_model_prefix}."))
            hint = f". {how_to_describe(model.config.model_type)}" if found is random and any(outside) else ""
            raise ValueError(message + hint)


def is_of_backbone(name: str, model: "nn.Module") -> bool:
    """Whether a tensor that the model lacks belongs to the backbone, rather than to a head of another task."""
    prefix = model.base_model_prefix
    backbone = {child for child, _ in getattr(model, prefix).named_children()} - {"pooler"}
    inner = name.removeprefix(f"{prefix}.")
    is_inside = inner != name or inner.partition(".")[0] in backbone
    return is_inside and not inner.startswith("pooler.") and not inner.endswith(BUFFERS)


def first_few(names: Iterable[str]) -> str:
    """The first names, and how many others there are."""
    names = sorted(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
