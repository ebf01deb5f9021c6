"""The name of a run's folder: it shows what differs from the defaults, and a finished run is found by its id."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ablate.run.folder_name import run_folder
from analysis.records.source import open_study_archive, possible_runs
from tests.tools import ROOT, compose_config, compose_settings


def folder(*overrides: str) -> Path:
    choices = OmegaConf.to_container(compose_config(*overrides).hydra.runtime.choices)
    return run_folder(compose_settings(*overrides), choices)


@pytest.mark.parametrize(
    ("overrides", "readable"),
    [
        ((), "default-s0"),
        (("seed=12", "nuisance=3"), "default-n3-s12"),
        (("clip=none", "optimizer=sgd"), "clip=none-optimizer=sgd-s0"),
        (("optimizer.lr=1e-3",), "optimizer.lr=0.001-s0"),
        (("model=tiny", "data=synthetic"), "model=tiny-data=synthetic-s0"),
        (("freeze.blocks=[mlp,head]",), "freeze.blocks=mlp+head-s0"),
        (("clip=delayed", "clip.start=50"), "clip=delayed-clip.start=50-s0"),
        (("clip=delayed", "clip.rule.threshold=3"), "clip=delayed-clip.rule.threshold=3-s0"),
        (("clip=delayed", "clip@clip.rule=none"), "clip=delayed-clip.rule=none-s0"),
        (("trainer.steps=10", "trainer.threads=1"), "default-s0"),
        (("model=tiny", "model.lr=0.5"), "model=tiny-s0"),  # the optimizer's rate follows the model's
    ],
)
def test_what_differs_is_shown(overrides: tuple[str, ...], readable: str) -> None:
    path = folder(*overrides)
    assert path.parent == Path("outputs/default")
    assert path.name.rpartition("-")[0] == readable


def test_four_optimizers_have_four_names() -> None:
    names = {folder("optimizer=sgd", f"optimizer.momentum={m}").name.rpartition("-")[0] for m in (0, 0.5, 0.8, 0.9)}
    assert len(names) == 4


def test_a_long_name_is_cut_and_the_id_kept() -> None:
    path = folder(f"model.path={'x' * 150}/y", "clip=none")
    assert path.name.startswith("clip=none-model.path=y-")
    long = folder(f"model.path={'x' * 150}", "clip=none")
    assert long.name.startswith("clip=none-s0-") and len(long.name.rpartition("-")[2]) == 10


def test_a_folder_with_the_id_is_found_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    id = folder("clip=none").name.rpartition("-")[2]
    former = tmp_path / f"outputs/default/embeddings_attention-none-warmup_linear-s0-{id}"
    former.mkdir(parents=True)
    assert folder("clip=none").name == former.name
    assert folder("clip=fixed").name.startswith("default-s0-")
    (tmp_path / f"outputs/default/clip=none-s0-{id}").mkdir()
    assert folder("clip=none").name == f"clip=none-s0-{id}"


def test_published_runs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are named in the archive, by version 1."""
    monkeypatch.chdir(tmp_path)
    for run in possible_runs(open_study_archive(ROOT / "outputs/reference/paper.zip")):
        (tmp_path / "outputs/reference/paper" / run).mkdir(parents=True)
    published = (
        "optimizer.lr=1e-4", "trainer.batch_size=16", "trainer.probe_every=5", "trainer.probe_examples=32",
        "trainer.skip_unread=false", "trainer.piece_multiple=1", "study=reference/paper", "clip=delayed", "freeze=none",
    )  # fmt: skip
    assert folder(*published, "seed=3").name.startswith("none-delayed-warmup_linear-s3-")


def test_a_rule_of_the_users_own_is_compared_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf/clip").mkdir(parents=True)
    (tmp_path / "conf/clip/half.yaml").write_text("_target_: ablate.clip.Fixed\nthreshold: 0.5\n")
    monkeypatch.chdir(tmp_path)
    search = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    assert folder(search, "clip=half").name.startswith("clip=half-s0-")
    assert folder(search, "clip=half", "clip.threshold=2").name.startswith("clip=half-clip.threshold=2-s0-")
