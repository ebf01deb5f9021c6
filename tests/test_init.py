"""Initialisation: which weights are drawn anew, and from which distribution."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from ablate.init import Initialiser, Nothing, TopLayers
from ablate.model.parameter_roles import Role, role
from ablate.training.learner import roles_of
from tests.model.test_families import FAMILIES
from tests.training.test_step import small_learner

DEPTH = 3
SHARED = "ALBERT"  # its layers share their weights


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    """Models whose weights are those of no initialisation."""
    found = {}
    for family, (model_type, settings) in FAMILIES.items():
        depth = {key: DEPTH for key in settings if key in ("num_hidden_layers", "n_layers", "n_layer")}
        special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
        config = AutoConfig.for_model(model_type, vocab_size=30, num_labels=2, **special, **settings | depth)
        model = found[family] = AutoModelForSequenceClassification.from_config(config)
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(3.0)
    return found


def drawn(model: nn.Module, rule: Initialiser, seed: int = 0) -> dict[str, nn.Parameter]:
    """The weights after a rule."""
    model = copy.deepcopy(model)
    rule.initialise(model, roles_of(model), torch.Generator().manual_seed(seed))
    return dict(model.named_parameters())


def changed(model: nn.Module, rule: Initialiser) -> set[str]:
    return {name for name, p in drawn(model, rule).items() if not torch.equal(p, model.get_parameter(name))}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != SHARED])
def test_the_top_layers_and_the_pooler_are_drawn_anew(models: dict[str, nn.Module], family: str) -> None:
    model = models[family]
    for n in range(DEPTH + 1):
        for pooler in {True, n == 0}:
            expected = {
                name
                for name, part in roles_of(model).items()
                if (part.layer is not None and part.layer >= DEPTH - n) or (pooler and part.block == "pooler")
            }
            assert changed(model, TopLayers(n, pooler)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_the_values_are_those_of_the_models_own_initialisation(models: dict[str, nn.Module], family: str) -> None:
    """The reference is a new model of transformers: equal biases and norms, and weights of the same spread."""
    model, n = models[family], 0 if family == SHARED else DEPTH
    torch.manual_seed(1)
    new = {name: p.detach() for name, p in type(model)(model.config).named_parameters()}
    found = {name: p.detach() for name, p in drawn(model, TopLayers(n)).items()}
    for name in changed(model, TopLayers(n)):
        if role(name).kind == "weight":
            spread = float(new[name].std())
            assert float(found[name].std()) == pytest.approx(spread, rel=0.2), name
            assert abs(found[name].mean()) < 0.2 * spread, name
        else:
            assert torch.equal(found[name], new[name]), name


def test_the_draw_depends_on_its_generator_alone(models: dict[str, nn.Module]) -> None:
    torch.manual_seed(5)
    first = drawn(models["BERT"], TopLayers(2))
    after = torch.rand(1)
    torch.manual_seed(6)
    same, other = drawn(models["BERT"], TopLayers(2)), drawn(models["BERT"], TopLayers(2), seed=1)
    name = "bert.encoder.layer.2.output.dense.weight"
    assert torch.equal(first[name], same[name]) and not torch.equal(first[name], other[name])
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))  # torch's own stream is left as it was


def test_more_layers_than_the_model_has(models: dict[str, nn.Module]) -> None:
    with pytest.raises(ValueError, match=rf"^init.n must be at most {DEPTH}, the number of .* \(got {DEPTH + 1}\)$"):
        drawn(models["BERT"], TopLayers(DEPTH + 1))
    with pytest.raises(ValueError, match=r"^init.n must be at most 0, .* have their own parameters \(got 1\)$"):
        drawn(models[SHARED], TopLayers(1))


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"^n must be a number of layers, at least 0 \(got -1\)$"):
        TopLayers(-1)
    with pytest.raises(ValueError, match=r"^n must be at least 1 where pooler=false \(got 0\)$"):
        TopLayers(0, pooler=False)


def test_none_keeps_everything(models: dict[str, nn.Module]) -> None:
    assert changed(models["BERT"], Nothing()) == set()


def test_a_run_starts_with_the_same_head_and_other_top_layers() -> None:
    plain, top = (dict(small_learner(f"init={each}")[0].model.named_parameters()) for each in ("none", "reinit_top"))
    differing = {name for name, p in plain.items() if not torch.equal(p, top[name])}
    assert {role(name) for name in differing} == {
        Role("attention", "weight", 1), Role("mlp", "weight", 1), Role("pooler", "weight", None)
    }  # fmt: skip
