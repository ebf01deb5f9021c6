"""The log line that explains a run's memory."""

from ablate.training.memory import memory_line, process_peak


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
