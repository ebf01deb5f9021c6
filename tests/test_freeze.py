"""Freezing on a small random BERT: θ is the disjoint union of θ_frozen and θ_trained."""

import hashlib
import re
from collections.abc import Callable
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from ablate.experiment import build_option
from ablate.freeze import (
    AllBut,
    Blocks,
    FirstLayers,
    FittedRule,
    FreezeRule,
    FreezeSchedule,
    Freezing,
    Gradual,
    LastLayers,
    NamePattern,
    Nothing,
    ProbeFirst,
    RandomTensors,
    Rule,
    TopDown,
    fit_rule,
    freeze,
)
from ablate.model.parameter_roles import role
from ablate.schema import BLOCKS
from tests.model.test_parameter_roles import DEBERTA_XLARGE, build
from tests.tools import compose_settings

WRITE_UP = Blocks(("embedding", "attention"))
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 64,
}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SMALL))


def loss(model: nn.Module) -> torch.Tensor:
    words = torch.randint(64, (4, 6), generator=torch.Generator().manual_seed(0))
    return model(input_ids=words, labels=torch.tensor([0, 1, 1, 0])).loss


def frozen(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


def test_the_write_ups_rule_freezes_what_the_notebook_froze(model: nn.Module) -> None:
    names = [name for name, _ in model.named_parameters()]
    trained = freeze(model, WRITE_UP)
    assert frozen(model) == {name for name in names if "attention" in name or "embeddings" in name}
    assert list(trained) == [name for name in names if name not in frozen(model)]  # the rest, in the model's order
    assert all(p is dict(model.named_parameters())[name] for name, p in trained.items())


def test_the_write_ups_share_of_bert_base() -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    trained = sum(p.numel() for p in freeze(model, WRITE_UP).values())
    total = sum(p.numel() for p in model.parameters())
    assert (trained, total) == (57_279_746, 109_483_778)


def test_none_freezes_nothing(model: nn.Module) -> None:
    assert freeze(model, Nothing()) == dict(model.named_parameters())
    assert frozen(model) == set()


def test_a_rule_does_not_depend_on_the_one_before(model: nn.Module) -> None:
    freeze(model, WRITE_UP)
    freeze(model, Blocks(("head",)))
    assert frozen(model) == {"classifier.weight", "classifier.bias"}


def test_frozen_parameters_get_no_gradient(model: nn.Module) -> None:
    trained = freeze(model, WRITE_UP)
    loss(model).backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == frozen(model)
    assert all(p.grad.abs().sum() > 0 for p in trained.values())


def test_frozen_parameters_keep_every_bit(model: nn.Module) -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = freeze(model, WRITE_UP)
    optimizer = torch.optim.AdamW(trained.values(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        loss(model).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert {name for name, p in model.named_parameters() if torch.equal(p, before[name])} == frozen(model)


@pytest.mark.parametrize("block", ["attentions", "Attention", "", "classifier"])
def test_unknown_block(block: str) -> None:
    with pytest.raises(ValueError, match=rf"^blocks must be one of {', '.join(BLOCKS)} \(got {block}\)$"):
        Blocks(("embedding", block))


def test_nothing_left_to_train(model: nn.Module) -> None:
    with pytest.raises(
        ValueError, match=r"^freeze must be a rule that leaves at least one parameter to train \(got Blocks\(.*\)\)$"
    ):
        freeze(model, Blocks(BLOCKS))


def test_a_parameter_of_unknown_role_is_trained() -> None:
    assert freeze(nn.Linear(2, 2), Nothing()).keys() == {"weight", "bias"}


@pytest.mark.parametrize("rule", [Nothing(), WRITE_UP])
def test_rules_are_freeze_rules(rule: object) -> None:
    assert isinstance(rule, FreezeRule)


# --- Rules by layer, kind and name ---

DEPTH = 3
SHALLOW = {
    "bert": {"num_hidden_layers": DEPTH},
    "albert": {"num_hidden_layers": DEPTH},
    "deberta-v2": DEBERTA_XLARGE | {"num_hidden_layers": DEPTH},
    "gpt2": {"n_layer": DEPTH},
    "llama": {"num_hidden_layers": DEPTH},
    "modernbert": {"num_hidden_layers": DEPTH},
}
NUMBERED = [family for family in SHALLOW if family != "albert"]  # ALBERT's layers share their parameters
WITH_BIASES = ["bert", "albert", "deberta-v2", "gpt2"]


@pytest.fixture(scope="module")
def families() -> dict[str, nn.Module]:
    return {family: build(family, **settings) for family, settings in SHALLOW.items()}


def names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def frozen_by(model: nn.Module, rule: FreezeRule) -> set[str]:
    freeze(model, fit_rule(rule, names(model)))
    return frozen(model)


def layer_in(name: str) -> int | None:
    """The number after .layer., .layers. or .h., read without our table of roles."""
    found = re.search(r"\.(?:layer|layers|h)\.(\d+)\.", name)
    return int(found[1]) if found else None


def head_of(model: nn.Module) -> set[str]:
    return {name for name in names(model) if name.startswith(("classifier.", "score.", "head."))}


@pytest.mark.parametrize("family", NUMBERED)
def test_first_and_last_layers(families: dict[str, nn.Module], family: str) -> None:
    model = families[family]
    for n in range(DEPTH + 1):
        first, last = frozen_by(model, FirstLayers(n)), frozen_by(model, LastLayers(DEPTH - n))
        in_layers = {name for name in names(model) if layer_in(name) is not None}
        assert first & in_layers == {name for name in in_layers if layer_in(name) < n}
        after = {
            name for name in set(names(model)) - in_layers if name.split(".")[0] in ("pooler", "classifier", "score")
        }
        assert after and not first & after
        assert frozen_by(model, Blocks(("embedding",))) <= first
        assert first == last
    sizes = [len(frozen_by(model, FirstLayers(n))) for n in range(DEPTH + 1)]
    assert sizes == sorted(set(sizes))  # the control: each layer counts


def test_what_is_outside_of_the_numbered_layers(families: dict[str, nn.Module]) -> None:
    """DeBERTa's convolution runs parallel to layer 0; the pooler and a final norm come after the layers."""
    convolution = {name for name in names(families["deberta-v2"]) if ".conv." in name}
    assert convolution and not convolution & frozen_by(families["deberta-v2"], FirstLayers(0))
    assert convolution <= frozen_by(families["deberta-v2"], FirstLayers(1))
    assert "bert.pooler.dense.weight" not in frozen_by(families["bert"], LastLayers(0))
    assert "transformer.ln_f.weight" not in frozen_by(families["gpt2"], LastLayers(0))


@pytest.mark.parametrize("rule", [FirstLayers, LastLayers])
def test_more_layers_than_the_model_has(families: dict[str, nn.Module], rule: type) -> None:
    with pytest.raises(ValueError, match=rf"^freeze.n must be at most {DEPTH}, the number of .* \(got {DEPTH + 1}\)$"):
        fit_rule(rule(DEPTH + 1), names(families["bert"]))
    with pytest.raises(ValueError, match=r"^freeze.n must be at most 0, .* have their own parameters \(got 1\)$"):
        fit_rule(rule(1), names(families["albert"]))
    fit_rule(rule(DEPTH), names(families["bert"]))


def test_last_layers_cannot_be_asked_before_the_model_is_known() -> None:
    with pytest.raises(ValueError, match=r"fit_rule"):
        LastLayers(1).freezes("classifier.weight", role("classifier.weight"))


@pytest.mark.parametrize("family", SHALLOW)
def test_head_only(families: dict[str, nn.Module], family: str) -> None:
    rule = build_option("freeze", compose_settings("freeze=head_only"))
    assert set(names(families[family])) - frozen_by(families[family], rule) == head_of(families[family])


@pytest.mark.parametrize("family", WITH_BIASES)
def test_bitfit_trains_all_biases_and_the_head(families: dict[str, nn.Module], family: str) -> None:
    model = families[family]
    biases = {name for name in names(model) if name.rpartition(".")[2] == "bias"}
    assert set(names(model)) - frozen_by(model, AllBut(("bias",))) == biases | head_of(model)
    assert biases - head_of(model)


def test_bitfits_share_of_bert_base() -> None:
    """0.09 % of the parameters, as in table 1 of Ben Zaken et al. for BERT-base, without the head."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    trained = freeze(model, fit_rule(AllBut(("bias",)), names(model)))
    share = sum(p.numel() for name, p in trained.items() if name not in head_of(model))
    assert round(100 * share / sum(p.numel() for p in model.parameters()), 2) == 0.09


@pytest.mark.parametrize("family", SHALLOW)
def test_layernorm_trains_the_norms_and_the_head(families: dict[str, nn.Module], family: str) -> None:
    """The reference are the classes of the modules; roles know names only."""
    model = families[family]
    norms = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if "Norm" in type(module).__name__
        for name, _ in module.named_parameters()
    }
    assert set(names(model)) - frozen_by(model, AllBut(("norm",))) == norms | head_of(model)
    assert norms - head_of(model)


def test_a_kind_that_the_model_lacks(families: dict[str, nn.Module]) -> None:
    """Llama has no biases: the arm would be head_only under another name."""
    with pytest.raises(
        ValueError, match=r"^freeze.kinds must be a kind of parameter that the model has .* \(got bias\)$"
    ):
        fit_rule(AllBut(("norm", "bias")), names(families["llama"]))
    fit_rule(AllBut(("norm",)), names(families["llama"]))


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("embeddings|attention", WRITE_UP),
        (r"embeddings|\.layer\.[01]\.", FirstLayers(2)),
        (r"^(?!classifier|.*bias$)", AllBut(("bias",))),
    ],
)
def test_a_pattern_as_another_rule(families: dict[str, nn.Module], pattern: str, rule: FreezeRule) -> None:
    assert frozen_by(families["bert"], NamePattern(pattern)) == frozen_by(families["bert"], rule)
    assert frozen_by(families["bert"], NamePattern("pooler")) != frozen_by(families["bert"], rule)


@pytest.mark.parametrize(("pattern", "frozen"), [("no such name", "0"), ("", r"\d+"), ("bert|classifier", r"\d+")])
def test_a_pattern_that_matches_nothing_or_everything(
    families: dict[str, nn.Module], pattern: str, frozen: str
) -> None:
    message = (
        rf"^freeze.pattern must be an expression that matches some parameters and not all; it matches {frozen} of the "
    )
    with pytest.raises(ValueError, match=message):
        fit_rule(NamePattern(pattern), names(families["bert"]))


def test_a_pattern_asks_for_no_role() -> None:
    """A model of a family outside the table of roles can be frozen by name."""
    rule = fit_rule(NamePattern("weight"), ["weight", "bias"])
    assert [rule.freezes(name, None) for name in ("weight", "bias")] == [True, False]


RANDOM = [RandomTensors(0.3, draw) for draw in range(20)]


def test_random_tensors_are_their_share_and_never_the_head(families: dict[str, nn.Module]) -> None:
    model = families["deberta-v2"]
    body = set(names(model)) - head_of(model)
    found = [frozen_by(model, rule) for rule in RANDOM]
    assert all(tensors <= body for tensors in found)
    assert len({frozenset(tensors) for tensors in found}) == len(RANDOM)  # every draw is another choice
    mean, error = 0.3 * len(body), (0.3 * 0.7 * len(body) / len(RANDOM)) ** 0.5
    assert abs(fmean(map(len, found)) - mean) < 3 * error


def test_random_tensors_are_the_same_in_every_process_and_more_with_a_larger_share(
    families: dict[str, nn.Module],
) -> None:
    model = families["bert"]
    shares = [frozen_by(model, RandomTensors(share, draw=1)) for share in (0.2, 0.5, 0.9)]
    assert shares[0] < shares[1] < shares[2]
    name = "bert.encoder.layer.0.output.dense.weight"
    digest = hashlib.sha256(f"1:{name}".encode()).hexdigest()
    u = int(digest[:16], 16) / 16**16
    for share in (u - 1e-9, u + 1e-9):
        assert RandomTensors(share, draw=1).freezes(name, role(name)) == (u < share)


def test_random_tensors_that_freeze_nothing(families: dict[str, nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"^freeze.share must be enough to freeze one of \d+ tensors \(got 1e-09\)$"):
        fit_rule(RandomTensors(1e-9), names(families["bert"]))


@pytest.mark.parametrize("rule", [Nothing(), WRITE_UP], ids=repr)
def test_a_rule_that_needs_no_model_is_itself(rule: FreezeRule) -> None:
    assert fit_rule(rule, ["any name"]) is rule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FirstLayers(-1), r"^n must be a number of layers, at least 0 \(got -1\)$"),
        (lambda: LastLayers(-1), r"^n must be a number of layers, at least 0 \(got -1\)$"),
        (lambda: AllBut(("weight",)), r"^kinds must be bias or norm \(got weight\)$"),
        (lambda: NamePattern("layer.[0"), r"^pattern must be a regular expression, but .* \(got layer.\[0\)$"),
        (lambda: RandomTensors(1.0), r"^share must be a share of the tensors between 0 and 1 \(got 1.0\)$"),
        (lambda: RandomTensors(draw=-1), r"^draw must be a whole number, at least 0 \(got -1\)$"),
    ],
)
def test_settings_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rule", [FirstLayers(1), LastLayers(1), AllBut(()), NamePattern("x"), RandomTensors()])
def test_new_rules_are_freeze_rules(rule: object) -> None:
    assert isinstance(rule, FreezeRule)
    assert isinstance(rule, FittedRule)


# --- Rules that change during the run: `tests/training/test_learner.py` has which weights move ---

SCHEDULES = [Gradual(10), ProbeFirst(10)]


def frozen_at(model: nn.Module, rule: Rule, t: int) -> set[str]:
    freezing = Freezing(model, [rule])
    assert freezing.trained.keys() == set(names(model))
    assert freezing.changes[0] == 1
    return set(freezing.at(t))


@pytest.mark.parametrize("rule", SCHEDULES)
def test_schedules_are_freeze_schedules(rule: object) -> None:
    assert isinstance(rule, FreezeSchedule) and not isinstance(Nothing(), FreezeSchedule)


@pytest.mark.parametrize("family", SHALLOW)
def test_gradual_unfreezing_goes_from_the_top_down(families: dict[str, nn.Module], family: str) -> None:
    model, layers = families[family], DEPTH if family in NUMBERED else 1
    for stage in range(layers + 1):
        first, last = 10 * stage + 1, 10 * stage + 10
        expected = {name for name in names(model) if FirstLayers(layers - stage).freezes(name, role(name))}
        assert expected == frozen_at(model, Gradual(10), first) == frozen_at(model, Gradual(10), last)
    assert frozen_at(model, Gradual(10), 10 * layers + 10) == frozen_by(model, Blocks(("embedding",)))
    assert frozen_at(model, Gradual(10), 10 * layers + 11) == frozen_at(model, Gradual(10), 10**6) == set()


@pytest.mark.parametrize("family", SHALLOW)
def test_lp_ft_begins_as_head_only(families: dict[str, nn.Module], family: str) -> None:
    model, probe = families[family], build_option("freeze", compose_settings("freeze=head_only"))
    expected = frozen_by(model, probe)
    assert frozen_at(model, ProbeFirst(10), 1) == frozen_at(model, ProbeFirst(10), 10) == expected
    assert frozen_at(model, ProbeFirst(10), 11) == set()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 6), st.integers(1, 400))
def test_what_is_frozen_changes_only_where_a_schedule_says_so(every: int, layers: int, t: int) -> None:
    places = [f"bert.encoder.layer.{i}.output.dense.weight" for i in range(layers)]
    places += ["bert.embeddings.LayerNorm.bias", "bert.pooler.dense.bias", "classifier.bias"]
    for rule in (TopDown(every, layers), ProbeFirst(every)):
        before, after = ([rule.freezes(name, role(name), step) for name in places] for step in (t, t + 1))
        assert (before != after) == (t + 1 in rule.changes())
        assert all(a >= b for a, b in zip(before, after, strict=True))  # nothing is frozen again


@pytest.mark.parametrize(("rule", "key"), [(Gradual, "every"), (ProbeFirst, "steps")])
def test_schedules_need_a_step(rule: type, key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key} must be a number of steps, at least 1 \(got 0\)$"):
        rule(0)


def test_gradual_unfreezing_cannot_be_asked_before_the_model_is_known() -> None:
    for ask in (Gradual(1).changes, lambda: Gradual(1).freezes("classifier.weight", role("classifier.weight"), 1)):
        with pytest.raises(ValueError, match=r"fit_rule"):
            ask()
