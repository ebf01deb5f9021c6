"""Adapters: their formulas, what they train, and the roles of their weights, on small models of each family."""

import copy
import dataclasses
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from ablate.adapter import IA3, Adapter, DoRA, LoRA, Nothing
from ablate.experiment import build_options
from ablate.freeze import Blocks, Freezing
from ablate.model.loading import Random
from ablate.model.parameter_roles import classifier_weight, mlp_weight, role, unadapted
from ablate.sweep.sizes import estimated_size
from ablate.sweep.technique_check import check_techniques
from ablate.training.learner import drawing_from, roles_of
from tests.model.test_families import ENCODER, FAMILIES
from tests.tools import compose_settings

ADAPTERS = {"lora": LoRA(r=2), "dora": DoRA(r=2), "ia3": IA3()}
OF_EACH = pytest.mark.parametrize("option", ADAPTERS)
WORDS = 30
QUERY = "bert.encoder.layer.0.attention.self.query"
VALUE = "bert.encoder.layer.0.attention.self.value"


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    found = {}
    for model_type, settings in (*FAMILIES.values(), ("xlm-roberta", ENCODER)):
        special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
        torch.manual_seed(0)
        config = AutoConfig.for_model(model_type, vocab_size=WORDS, num_labels=2, **special, **settings)
        found[model_type] = AutoModelForSequenceClassification.from_config(config).eval()
    return found


TYPES = [*(model_type for model_type, _ in FAMILIES.values()), "xlm-roberta"]


def wrapped(model: nn.Module, adapter: Adapter, seed: int = 0) -> nn.Module:
    model = copy.deepcopy(model).requires_grad_(True)
    with drawing_from(seed):
        return adapter.wrap(model, roles_of(model))


def logits(model: nn.Module) -> Tensor:
    words = torch.randint(4, WORDS, (4, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(input_ids=words, attention_mask=torch.ones_like(words)).logits


def shaken(model: nn.Module) -> dict[str, Tensor]:
    """Change the adapter's weights; return the weights of all, by name."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad and role(name).block != "head":
                p.add_(torch.randn(p.shape, generator=draw))
    return dict(model.named_parameters())


@OF_EACH
@pytest.mark.parametrize("model_type", TYPES)
def test_an_adapter_in_each_family(models: dict[str, nn.Module], model_type: str, option: str) -> None:
    """It starts as the model was, trains a few new weights and the whole head, and keeps the place of each weight."""
    model, adapted = models[model_type], wrapped(models[model_type], ADAPTERS[option])
    torch.testing.assert_close(logits(adapted), logits(model), rtol=1e-5, atol=1e-6)
    own, roles = dict(model.named_parameters()), roles_of(adapted)
    kept = {unadapted(name): name for name in roles if "lora_" not in name and "ia3_l" not in name}
    assert kept.keys() == own.keys()
    assert all(roles[name] == role(before) for before, name in kept.items())
    new = roles.keys() - kept.values()
    assert new and {roles[name].block for name in new} <= {"attention", "mlp"}
    assert all(f".{roles[name].layer}." in name for name in new if model_type != "albert")
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained == new | {name for name in own if role(name).block == "head"}
    shaken(adapted)
    assert not torch.allclose(logits(adapted), logits(model), rtol=1e-5, atol=1e-6)
    assert unadapted(mlp_weight(roles)) == mlp_weight(own) and classifier_weight(roles) == classifier_weight(own)


def merged(model: nn.Module, module: str, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a model in which one weight is changed."""
    model = copy.deepcopy(model)
    weight = model.get_parameter(f"{module}.weight")
    with torch.no_grad():
        weight.copy_(change(weight))
    return model


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_lora_adds_a_scaled_product(models: dict[str, nn.Module], rank_stabilised: bool) -> None:
    rule = LoRA(r=4, alpha=6.0, targets=("layer.0.attention.self.query",), rank_stabilised=rank_stabilised)
    adapted = wrapped(models["bert"], rule)
    found = shaken(adapted)
    a, b = found[f"{QUERY}.lora_A.default.weight"], found[f"{QUERY}.lora_B.default.weight"]
    scale = 6.0 / (2.0 if rank_stabilised else 4.0)
    expected = merged(models["bert"], QUERY, lambda w: w + scale * b @ a)
    torch.testing.assert_close(logits(adapted), logits(expected), rtol=1e-5, atol=1e-6)
    other = merged(models["bert"], QUERY, lambda w: w + 1.1 * scale * b @ a)
    assert not torch.allclose(logits(adapted), logits(other), rtol=1e-5, atol=1e-6)


def test_dora_gives_each_output_a_norm(models: dict[str, nn.Module]) -> None:
    adapted = wrapped(models["bert"], DoRA(r=4, alpha=8.0, targets=("layer.0.attention.self.query",)))
    found = shaken(adapted)
    a, b, m = (found[f"{QUERY}.lora_{part}.default.weight"] for part in ("A", "B", "magnitude_vector"))

    def change(w: Tensor) -> Tensor:
        direction = w + 2.0 * b @ a
        return m[:, None] * direction / direction.norm(dim=1, keepdim=True)

    torch.testing.assert_close(logits(adapted), logits(merged(models["bert"], QUERY, change)), rtol=1e-5, atol=1e-6)
    without = merged(models["bert"], QUERY, lambda w: w + 2.0 * b @ a)
    assert not torch.allclose(logits(adapted), logits(without), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("of_input", [False, True])
def test_ia3_scales_outputs_or_inputs(models: dict[str, nn.Module], of_input: bool) -> None:
    targets = ("layer.0.attention.self.value",)
    adapted = wrapped(models["bert"], IA3(targets, targets if of_input else None))
    scale = shaken(adapted)[f"{VALUE}.ia3_l.default"].flatten()
    expected = merged(models["bert"], VALUE, lambda w: w * scale if of_input else w * scale[:, None])
    if not of_input:  # the bias is scaled, too
        with torch.no_grad():
            expected.get_parameter(f"{VALUE}.bias").mul_(scale)
    torch.testing.assert_close(logits(adapted), logits(expected), rtol=1e-5, atol=1e-6)
    other = merged(models["bert"], VALUE, lambda w: w * scale[:, None] if of_input else w * scale)
    assert not torch.allclose(logits(adapted), logits(other), rtol=1e-5, atol=1e-6)


def test_another_seed_draws_other_weights(models: dict[str, nn.Module]) -> None:
    first, same, other = (dict(wrapped(models["bert"], LoRA(), seed).named_parameters()) for seed in (0, 0, 1))
    name = f"{QUERY}.lora_A.default.weight"
    assert torch.equal(first[name], same[name]) and not torch.equal(first[name], other[name])


def test_freezing_rules_have_nothing_to_decide(models: dict[str, nn.Module]) -> None:
    adapted = wrapped(models["bert"], LoRA())
    before = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert Freezing(adapted, [Blocks(("attention", "head"))], adapted=True).trained.keys() == before


def test_none_changes_nothing(models: dict[str, nn.Module]) -> None:
    model = models["bert"]
    assert Nothing().wrap(model, {}) is model


@OF_EACH
def test_checks_before_the_first_run(models: dict[str, nn.Module], option: str) -> None:
    options = build_options(compose_settings(f"adapter={option}", "freeze=none", "model=tiny", "data=synthetic"))
    check_techniques(options, copy.deepcopy(models["bert"]).to("meta"), 2)


def test_targets_that_the_model_does_not_have(models: dict[str, nn.Module]) -> None:
    options = build_options(
        compose_settings("adapter=lora", "adapter.targets=[q_proj]", "freeze=none", "model=tiny", "data=synthetic")
    )
    with pytest.raises(ValueError, match=r"^adapter.targets must be names of modules .* \(got \['q_proj'\]\)"):
        check_techniques(options, models["distilbert"], 2)
    with pytest.raises(ValueError, match=r"^adapter.targets must be names of modules that .* outside of its head"):
        wrapped(models["bert"], LoRA(targets=("classifier",)))


@pytest.mark.parametrize(
    ("adapter", "key", "value"),
    [
        (LoRA, "r", 0), (LoRA, "alpha", 0.0), (LoRA, "alpha", float("inf")), (DoRA, "dropout", 1.0),
        (LoRA, "targets", ()), (LoRA, "targets", ("",)), (IA3, "targets", ()), (IA3, "feedforward", ("output.dense",)),
    ],
)  # fmt: skip
def test_settings_out_of_range(adapter: type, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{key} must be "):
        adapter(**{key: value})


def test_a_run_with_an_adapter_needs_less_memory() -> None:
    """Sizes of MiniLM: gradients and the two states of AdamW are of what is trained."""
    config = ENCODER | {"vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
    sizes = []
    for each in ("none", "lora"):
        options = build_options(compose_settings(f"adapter={each}", "freeze=none", "data=synthetic"))
        sizes.append(estimated_size(dataclasses.replace(options, model=Random("bert", config, lr=1e-3))))
    full, lora = sizes
    added, head = 6 * 2 * 2 * 8 * 384, 2 * 384 + 2  # A and B of query and value in six layers
    assert lora.snapshot == 4 * 3 * (added + head)
    assert lora.memory == full.memory - full.snapshot + 4 * added + lora.snapshot


@OF_EACH
def test_without_peft_the_extra_is_named(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r'the package peft is needed: .* "ablate-finetuning\[adapters\]"'):
        type(ADAPTERS[option])()
