"""Environment variables change no number unnoticed: each has no effect, is refused, or is part of the key."""

import re
from pathlib import Path

import accelerate
import pytest
import torch
import transformers

from ablate.distributed.ranks import ALONE
from ablate.sweep.preflight import check_ranks
from ablate.trainer import Trainer
from ablate.training.device import make_accelerator
from ablate.training.environment import COUNTED, REFUSED, environment, variables
from ablate.training.memory import memory_line, process_peak
from tests.tools import compose_settings, run_settings

CPU = torch.device("cpu")
COUNTED_IF_COMPILED = (
    "TORCHINDUCTOR_USE_FAST_MATH", "TORCHINDUCTOR_EMULATE_PRECISION_CASTS", "TORCHINDUCTOR_CPP_MARCH",
    "TORCHINDUCTOR_MAX_AUTOTUNE", "TORCHDYNAMO_DISABLE", "TORCHDYNAMO_SUPPRESS_ERRORS", "TORCH_COMPILE_DISABLE",
    "TORCH_COMPILE_BACKEND", "TORCH_DYNAMO_AUTOMATIC_DYNAMIC_SHAPES", "TRITON_INTERPRET",
)  # fmt: skip
REFUSED_BY_DEVICE = {"ACCELERATE_TORCH_DEVICE": "cuda:0", "ACCELERATE_USE_CPU": "true"}
NO_EFFECT = {
    "set by our call": {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND",
        "ACCELERATE_DYNAMO_MODE", "ACCELERATE_DYNAMO_USE_FULLGRAPH", "ACCELERATE_DYNAMO_USE_DYNAMIC",
        "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TRUST_REMOTE_CODE",
    },
    "read only with an engine that is refused": {
        "ACCELERATE_DEEPSPEED_ZERO_STAGE", "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL",
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_NVME_PATH", "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE",
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE", "ACCELERATE_CONFIG_DS_FIELDS", "ACCELERATE_GRADIENT_CLIPPING",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT", "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_NVME_PATH",
        "ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE", "ACCELERATE_ALLOW_CP_STANDALONE",
    },
    "read only by a part of accelerate or transformers that we do not call": {
        "ACCELERATE_FP8_BACKEND", "ACCELERATE_FP8_OPT_LEVEL", "ACCELERATE_DOWNCAST_BF16", "ACCELERATE_NUM_PROCESSES",
        "ACCELERATE_BYPASS_DEVICE_MAP", "ACCELERATE_INIT_INCLUDE_BUFFERS", "ACCELERATE_DEBUG_RDV_FILE",
        "TRANSFORMERS_DISABLE_DEEPGEMM_LINEAR", "TRANSFORMERS_TEST_BACKEND", "TRANSFORMERS_TEST_DEVICE",
        "TRANSFORMERS_TEST_DEVICE_SPEC",
    },
    "speed, messages and checks": {
        "ACCELERATE_CPU_AFFINITY", "ACCELERATE_DEBUG_MODE", "ACCELERATE_LOG_LEVEL", "ACCELERATE_ENABLE_RICH",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS", "TRANSFORMERS_VERBOSITY", "TRANSFORMERS_IS_CI",
        "TRANSFORMERS_DISABLE_TORCH_CHECK", "TOKENIZERS_PARALLELISM", "TOKENIZERS_LOG", "RAYON_NUM_THREADS",
        "NUMPY_MADVISE_HUGEPAGE", "NPY_PROMOTION_STATE", "MKL_VERBOSE", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
        "TORCH_CPP_LOG_LEVEL", "LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "TORCHINDUCTOR_CACHE_DIR",
        "TRITON_CACHE_DIR", "CUDA_LAUNCH_BLOCKING", "NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME",
        "TORCH_DISTRIBUTED_DEBUG",
    },
}  # fmt: skip
HARMLESS = set().union(*NO_EFFECT.values())


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*COUNTED, *REFUSED, *REFUSED_BY_DEVICE, *HARMLESS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("library", [accelerate, transformers])
def test_every_variable_of_the_library_is_in_these_lists(library: object) -> None:
    """A new version with another variable makes this fail, until somebody has looked at what the variable does."""
    prefix = library.__name__.upper()
    pattern = re.compile(rf"(?:environ(?:\.get)?|getenv|from_env)[(\[]\s*[\"']({prefix}_[A-Z0-9_]+)[\"']")
    files = Path(library.__file__).parent.rglob("*.py")
    found = {name for file in files if "test_utils" not in file.parts for name in pattern.findall(file.read_text())}
    assert len(found) >= 5  # the control: the pattern finds some
    assert found <= {*COUNTED, *REFUSED, *REFUSED_BY_DEVICE, *HARMLESS}


def test_a_clean_environment_records_no_variables() -> None:
    assert variables(compiled=True) == {} and "variables" not in environment(CPU, compiled=True)


@pytest.mark.parametrize("name", COUNTED)
def test_in_the_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment(CPU)
    monkeypatch.setenv(name, "1")
    after = environment(CPU)
    assert after["variables"] == {name: "1"} and after["key"] != before["key"]


@pytest.mark.parametrize("name", COUNTED_IF_COMPILED)
def test_in_the_key_of_compiled_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [environment(CPU, compiled=compiled)["key"] for compiled in (False, True)]
    monkeypatch.setenv(name, "1")
    after = [environment(CPU, compiled=compiled)["key"] for compiled in (False, True)]
    assert after[0] == before[0] and after[1] != before[1]


def test_our_own_setting_for_cublas_is_not_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment(CPU)["key"]
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    assert environment(CPU)["key"] == before


@pytest.mark.parametrize("value", ["true", "True", "1", "yes"])
@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_BY_DEVICE])
def test_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(device="cuda")
    check_ranks(trainer, ALONE)
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} must not be"):
        check_ranks(trainer, ALONE)


@pytest.mark.parametrize("name", REFUSED)
def test_what_accelerate_launch_sets_to_false_is_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "False")
    check_ranks(Trainer(), ALONE)


def test_accelerate_reads_no_setting_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our plugins, accelerate divides each gradient by 4 and compiles the model."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    found = make_accelerator(Trainer(device="cpu"))
    assert found.gradient_accumulation_steps == 1 and found.mixed_precision == "no"
    assert found.state.dynamo_plugin.backend.value == "NO"


def test_the_numbers_of_a_run_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = compose_settings(
        "model=tiny", "data=synthetic", "trainer.steps=2", "trainer.batch_size=4", "trainer.threads=1",
        "trainer.probe_every=1", "data.train_examples=8", "data.test_examples=4",
    )  # fmt: skip
    plain = run_settings(settings, tmp_path / "plain")
    for name, value in (
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"), ("ACCELERATE_MIXED_PRECISION", "bf16"),
        ("ACCELERATE_DYNAMO_BACKEND", "eager"), ("TOKENIZERS_PARALLELISM", "false"), ("OMP_NUM_THREADS", "3"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    again = run_settings(settings, tmp_path / "again")
    assert again["metrics"] == plain["metrics"] and again["environment"]["key"] == plain["environment"]["key"]


# --- Memory: the log line that explains it ---


def test_the_line_has_the_count_and_the_peak() -> None:
    memory = {"weights": 4_940_000_000, "gradients": 3_220_000_000, "optimizer": 6_440_000_000, "peak": 16_000_000_000}
    assert memory_line(memory) == (
        "memory by count: weights 4.94 + gradients 3.22 + optimizer 6.44 = 14.6 GB; peak 16 GB on the device"
    )


def test_without_cuda_the_peak_is_that_of_the_process(monkeypatch) -> None:
    held = bytearray(64 << 20)
    assert (process_peak() or 0) > len(held)
    monkeypatch.setattr("ablate.training.memory.process_peak", lambda: 2_500_000_000)
    memory = {"weights": 1_000_000_000, "gradients": 0, "optimizer": None, "peak": None}
    assert memory_line(memory).endswith("= 1 GB; peak 2.5 GB in this process so far")
