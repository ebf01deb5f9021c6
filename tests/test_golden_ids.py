"""The ids of all published runs: what was once an experiment stays the same experiment."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablate.experiment import run_id
from tests.tools import ROOT

PUBLISHED = sorted((ROOT / "outputs/reference").glob("*/*/run.json"))


def choices(record: dict[str, Any]) -> dict[str, str]:
    """The options that Hydra chose for a run; those of nested rules too."""
    found = {factor: entry["option"] for factor, entry in record["factors"].items()}
    nested = {
        f"{factor}@{factor}.{key}": value
        for factor, entry in record["factors"].items()
        for key, value in entry["settings"].items()
        if key == "rule"
    }
    return found | nested


def id_of(path: Path, **changes: Any) -> str:
    settings = yaml.safe_load((path.parent / "config.yaml").read_text()) | changes
    return run_id(settings, choices(json.loads(path.read_text())))


def test_no_published_run_is_overlooked() -> None:
    assert len(PUBLISHED) == 432


@pytest.mark.parametrize("study", sorted({path.parent.parent.name for path in PUBLISHED}))
def test_published_ids_stay(study: str) -> None:
    of_study = [path for path in PUBLISHED if path.parent.parent.name == study]
    wrong = [path.parent.name for path in of_study if not path.parent.name.endswith(f"-{id_of(path)}")]
    assert wrong == []


def test_another_seed_has_another_id() -> None:
    path = PUBLISHED[0]
    assert id_of(path, seed=99) not in path.parent.name
