"""oneDNN's products in linear layers: the same to rounding, the same bits each time, and only where they belong."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.trainer import Trainer
from ablate.training import device
from ablate.training.device import Linear, hand_to_onednn, library
from ablate.training.environment import environment
from tests.tools import compose_settings, run_settings

ONEDNN: dict[str, Any] = {"linear": "onednn"}
takes_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
WIDE = ("model=tiny", "model.hidden=128", "data=synthetic", "freeze=none", "trainer.threads=1", "trainer.steps=3",
        "trainer.batch_size=8", "data.test_examples=20")  # fmt: skip


def products(handed: bool) -> list[Tensor]:
    """Output [3, 5, 160] and the gradients of input, weight and bias, of one layer with 128 · 160 weights."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Sequential(nn.Linear(128, 160))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=generator)
    if handed:
        hand_to_onednn(layer)
    x = torch.randn(3, 7, 128, generator=generator)[:, 1:6].requires_grad_()  # not contiguous
    y = layer(x)
    return [y, *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))]


@takes_onednn
def test_same_products_to_rounding_and_same_bits_each_time() -> None:
    plain, handed, again = products(False), products(True), products(True)
    for a, b, c in zip(plain, handed, again, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-4)
        assert torch.equal(b, c)


@takes_onednn
def test_it_is_onednn_that_multiplies() -> None:
    layer = nn.Linear(128, 128)
    hand_to_onednn(layer)
    with torch.profiler.profile() as profile:
        layer(torch.ones(2, 128)).sum().backward()
    called = {event.key for event in profile.key_averages()}
    assert {"aten::mkldnn_linear", "aten::mkldnn_linear_backward"} <= called and "aten::addmm" not in called


def test_large_layers_only_and_no_class_of_somebody_elses() -> None:
    class Own(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return F.linear(input, 2 * self.weight)

    model = nn.ModuleDict({"large": nn.Linear(128, 128), "head": nn.Linear(128, 2), "own": Own(128, 128)})
    names = [name for name, _ in model.named_parameters()]
    hand_to_onednn(model)
    assert {name: type(module) for name, module in model.items()} == {"large": Linear, "head": nn.Linear, "own": Own}
    assert [name for name, _ in model.named_parameters()] == names


@pytest.mark.parametrize("has_gain", [True, False])
def test_what_auto_comes_to(has_gain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "gains", lambda: has_gain)
    on_cpu = Trainer(device="cpu")
    assert library(on_cpu) == ("onednn" if has_gain and torch.backends.mkldnn.is_available() else "torch")
    others: list[dict[str, Any]] = [{"linear": "torch"}, {"precision": "bf16"}, {"compile": True}]
    for settings in (*others, {"distributed": "fsdp"}):
        assert library(dataclasses.replace(on_cpu, **settings)) == "torch"


@pytest.mark.parametrize(
    ("vendor", "capability", "expected"),
    [("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False)],
)
def test_where_it_gains(vendor: str, capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert device.gains() is expected


@pytest.mark.parametrize(
    ("settings", "obstacle"),
    [
        ({"precision": "bf16"}, "trainer.precision=bf16, whose products torch hands to it"),
        ({"compile": True}, "trainer.compile=true"),
        ({"distributed": "fsdp"}, "trainer.distributed=fsdp"),
    ],
)
def test_asked_for_where_it_cannot_be_had(settings: dict[str, Any], obstacle: str) -> None:
    with pytest.raises(ValueError, match=rf"^trainer.linear must be auto or torch with {obstacle} \(got onednn\)$"):
        library(Trainer(device="cpu", linear="onednn", **settings))


def test_the_environments_key_tells() -> None:
    plain, torchs, handed = (environment(torch.device("cpu"), **said) for said in ({}, {"linear": "torch"}, ONEDNN))
    assert plain == torchs
    assert plain["key"] != handed["key"] and handed["linear"] == "onednn"


@takes_onednn
def test_runs_of_both_are_the_same_run_in_other_environments(tmp_path: Path) -> None:
    one, other = (
        run_settings(compose_settings(*WIDE, f"trainer.linear={name}"), tmp_path / name) for name in ("torch", "onednn")
    )
    assert one["environment"]["key"] != other["environment"]["key"]
    assert one["pairing"] == other["pairing"]
    assert other["metrics"]["test_loss"] == pytest.approx(one["metrics"]["test_loss"], rel=1e-4)
    assert other["metrics"]["test_loss"] != one["metrics"]["test_loss"]  # the control: it does multiply otherwise
