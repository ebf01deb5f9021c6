"""The line that explains what a run took of memory."""

from ablate.training.memory import memory_line, process_peak


def test_the_count_stands_beside_the_most_that_was_taken() -> None:
    memory = {"weights": 4_940_000_000, "gradients": 3_220_000_000, "optimizer": 6_440_000_000, "peak": 16_000_000_000}
    assert memory_line(memory) == (
        "memory by count: weights 4.94 + gradients 3.22 + optimizer 6.44 = 14.6 GB; at most 16 GB on the device"
    )


def test_without_cuda_it_is_the_processs_own(monkeypatch) -> None:
    held = bytearray(64 << 20)
    assert (process_peak() or 0) > len(held)
    monkeypatch.setattr("ablate.training.memory.process_peak", lambda: 2_500_000_000)
    memory = {"weights": 1_000_000_000, "gradients": 0, "optimizer": None, "peak": None}
    assert memory_line(memory).endswith("= 1 GB; at most 2.5 GB on this process so far")
