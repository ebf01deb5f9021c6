"""oneDNN in linear layers: equal to torch up to rounding, the same bits each time, and used only where it should be."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.trainer import Trainer
from ablate.training import device
from ablate.training.device import OneDNNLinear, matmul_backend, use_onednn
from ablate.training.environment import environment
from tests.tools import compose_settings, run_settings

ONEDNN: dict[str, Any] = {"linear": "onednn"}
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
WIDE = ("model=tiny", "model.hidden=128", "data=synthetic", "freeze=none", "trainer.threads=1", "trainer.steps=3",
        "trainer.batch_size=8", "data.test_examples=20")  # fmt: skip


def products(onednn: bool) -> list[Tensor]:
    """Output [3, 5, 160] and the gradients of input, weight and bias, of a layer with 128 · 160 weights."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Sequential(nn.Linear(128, 160))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=generator)
    if onednn:
        use_onednn(layer)
    x = torch.randn(3, 7, 128, generator=generator)[:, 1:6].requires_grad_()  # not contiguous
    y = layer(x)
    return [y, *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))]


@needs_onednn
def test_same_products_to_rounding_and_same_bits_each_time() -> None:
    torchs, onednns, again = products(False), products(True), products(True)
    for a, b, c in zip(torchs, onednns, again, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-4)
        assert torch.equal(b, c)


@needs_onednn
def test_onednn_computes_the_products() -> None:
    layer = nn.Linear(128, 128)
    use_onednn(layer)
    with torch.profiler.profile() as profile:
        layer(torch.ones(2, 128)).sum().backward()
    called = {event.key for event in profile.key_averages()}
    assert {"aten::mkldnn_linear", "aten::mkldnn_linear_backward"} <= called and "aten::addmm" not in called


def test_only_large_layers_and_no_subclass_of_linear() -> None:
    class Own(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return F.linear(input, 2 * self.weight)

    model = nn.ModuleDict({"large": nn.Linear(128, 128), "head": nn.Linear(128, 2), "own": Own(128, 128)})
    names = [name for name, _ in model.named_parameters()]
    use_onednn(model)
    assert {name: type(module) for name, module in model.items()} == {
        "large": OneDNNLinear,
        "head": nn.Linear,
        "own": Own,
    }
    assert [name for name, _ in model.named_parameters()] == names


@pytest.mark.parametrize("faster", [True, False])
def test_backend_that_auto_selects(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "onednn_is_faster", lambda: faster)
    on_cpu = Trainer(device="cpu")
    assert matmul_backend(on_cpu) == ("onednn" if faster and torch.backends.mkldnn.is_available() else "torch")
    others: list[dict[str, Any]] = [{"linear": "torch"}, {"precision": "bf16"}, {"compile": True}]
    for settings in (*others, {"distributed": "fsdp"}):
        assert matmul_backend(dataclasses.replace(on_cpu, **settings)) == "torch"


@pytest.mark.parametrize(
    ("vendor", "capability", "expected"),
    [("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False)],
)
def test_where_onednn_is_faster(vendor: str, capability: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert device.onednn_is_faster() is expected


@pytest.mark.parametrize(
    ("settings", "obstacle"),
    [
        ({"precision": "bf16"}, "trainer.precision=bf16, where torch uses oneDNN itself"),
        ({"compile": True}, "trainer.compile=true"),
        ({"distributed": "fsdp"}, "trainer.distributed=fsdp"),
    ],
)
def test_onednn_is_refused_where_it_cannot_be_used(settings: dict[str, Any], obstacle: str) -> None:
    with pytest.raises(ValueError, match=rf"^trainer.linear must be auto or torch with {obstacle} \(got onednn\)$"):
        matmul_backend(Trainer(device="cpu", linear="onednn", **settings))


def test_the_backend_is_part_of_the_environments_key() -> None:
    default, torchs, onednns = (
        environment(torch.device("cpu"), **given) for given in ({}, {"linear": "torch"}, ONEDNN)
    )
    assert default == torchs
    assert default["key"] != onednns["key"] and onednns["linear"] == "onednn"


@needs_onednn
def test_the_backend_changes_the_environment_but_not_the_pairing(tmp_path: Path) -> None:
    one, other = (
        run_settings(compose_settings(*WIDE, f"trainer.linear={name}"), tmp_path / name) for name in ("torch", "onednn")
    )
    assert one["environment"]["key"] != other["environment"]["key"]
    assert one["pairing"] == other["pairing"]
    assert other["metrics"]["test_loss"] == pytest.approx(one["metrics"]["test_loss"], rel=1e-4)
    assert other["metrics"]["test_loss"] != one["metrics"]["test_loss"]  # the control: the backend does change the bits
