"""Random streams: stable, distinct, and valid seeds for torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablate.seeds import stream

RUNS = st.tuples(st.sampled_from(["head", "order", "dropout"]), st.integers(), st.integers())


@pytest.mark.parametrize(
    ("run", "value"),
    [
        (("head", 0), 6185504081550206116),
        (("order", 0), 3188057147386964236),
        (("dropout", 0), 5228354956717339050),
        (("dropout", 0, 1), 4878933031176269984),
        (("head", 1), 4816739452020235901),
    ],
)
def test_streams_never_change(run: tuple, value: int) -> None:
    """A change would invalidate every study on disk. If you must change it, raise `ablate.experiment.NUMERICS`."""
    assert stream(*run) == value


@given(one=RUNS, other=RUNS)
def test_every_run_and_name_has_a_stream_of_its_own(one: tuple, other: tuple) -> None:
    assert (stream(*one) == stream(*other)) == (one == other)


def test_a_thousand_streams_are_all_different() -> None:
    runs = [(name, seed, n) for name in ("head", "order", "dropout") for seed in range(100) for n in range(4)]
    assert len({stream(*run) for run in runs}) == len(runs)


@given(run=RUNS)
def test_range(run: tuple) -> None:
    assert 0 <= stream(*run) < 2**63
    torch.Generator().manual_seed(stream(*run))


def test_all_63_bits_are_used() -> None:
    streams = [stream("order", seed) for seed in range(400)]
    share = [sum(value >> bit & 1 for value in streams) / len(streams) for bit in range(63)]
    assert all(0.35 < found < 0.65 for found in share)  # 6 standard deviations
