"""The table that ends a sweep, in terminals of any width."""

import io

import pandas as pd
import pytest
from rich.console import Console

from ablate.sweep.summary import as_rich

NUMBERS = {"seeds": "5", "validation accuracy %": "84.0 ± 10.0", "test accuracy %": "85.0 ± 10.0", "last loss": "0.698",
           "‖g‖": "1.31", "clip rate": "0.50", "Δg": "0.49", "training s": "1234.5"}  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 140])
def test_arms_and_numbers_are_whole(width: int) -> None:
    arms = ["embeddings_attention-delayed-warmup_linear-adamw", "none"]
    console = Console(file=io.StringIO(), width=width)
    console.print(as_rich(pd.DataFrame([{"arm": arm, **NUMBERS} for arm in arms]), width))
    shown = console.file.getvalue().splitlines()
    assert max(map(len, shown)) <= width
    lines = [line.split("│")[1:-1] for line in shown if line.startswith("│")]
    assert "".join(line[0].strip() for line in lines) == "".join(arms)
    for line in (lines[0], lines[-1]):
        assert [cell.strip() for cell in line[1:]] == list(NUMBERS.values())
