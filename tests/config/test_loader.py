"""Configs are composed once: as Hydra composes them, and as they were when they were checked."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

from ablate.config.loader import CheckedLoader
from ablate.config.paths import conf
from tests.tools import compose_config

OWN = ["model=tiny", "clip=own", "trainer.steps=3"]


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[CheckedLoader]:
    """A loader of the package's configs and of the option clip=own."""
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/own.yaml").write_text("_target_: ablate.clip.Fixed\nthreshold: 1.0\n")
    compose_config()  # sets the name of the job
    yield CheckedLoader(create_config_search_path(conf()))


def test_it_is_what_hydra_composes(loader: CheckedLoader, tmp_path: Path) -> None:
    overrides = [f"hydra.searchpath=[file://{tmp_path}]", *OWN, "hydra.mode=MULTIRUN"]
    theirs = ConfigLoaderImpl(loader.config_search_path).load_configuration("config", overrides, RunMode.MULTIRUN)
    for _ in range(2):
        ours = loader.load_configuration("config", overrides, RunMode.MULTIRUN)
        assert ours == theirs and OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)
        ours.clip.threshold = 5.0  # a change of what it returned is no change of what it returns next


def test_a_file_that_changes_after_the_check_changes_no_job(loader: CheckedLoader, tmp_path: Path) -> None:
    overrides = [f"hydra.searchpath=[file://{tmp_path}]", *OWN]
    for text in ("_target_: ablate.clip.Fixed\nthreshold: 2.0\n", "_target_: os.system\n"):
        assert loader.load_configuration("config", overrides, RunMode.RUN).clip.threshold == 1
        (tmp_path / "clip/own.yaml").write_text(text)
    in_a_worker = cloudpickle.loads(cloudpickle.dumps(loader))  # as launchers send it
    assert in_a_worker.load_configuration("config", overrides, RunMode.RUN).clip._target_ == "os.system"  # the control


def test_an_option_without_a_value_is_skipped_by_a_sweep_only(loader: CheckedLoader, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/own.yaml").write_text("# @package _global_\ndefaults:\n  - override /clip: '???'\n")
    overrides = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=own"]
    assert "clip" not in loader.load_configuration("config", overrides, RunMode.MULTIRUN)
    with pytest.raises(ConfigCompositionException, match="You must specify 'clip'"):
        loader.load_configuration("config", overrides, RunMode.RUN)


def test_values_to_sweep_over_are_refused_in_a_run(loader: CheckedLoader) -> None:
    overrides = ["seed=0,1"]
    loader.load_configuration("config", overrides, RunMode.MULTIRUN)
    with pytest.raises(ConfigCompositionException, match="Ambiguous value"):
        loader.load_configuration("config", overrides, RunMode.RUN)


def test_the_options_of_a_group_are_a_copy(loader: CheckedLoader) -> None:
    first = loader.get_group_options("clip", config_name="config")
    assert "fixed" in first and loader.get_group_options("optimizer", config_name="config") != first
    first.clear()
    assert "fixed" in loader.get_group_options("clip", config_name="config")


def test_a_config_that_cannot_be_pickled_is_composed_once_too(
    loader: CheckedLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a SLURM job, where Hydra's search for plugins has defined the classes of its configs again."""
    monkeypatch.setattr(sys.modules[BasicSweeper.__module__], "BasicSweeperConf", object)
    overrides = [f"hydra.searchpath=[file://{tmp_path}]", *OWN]
    first = loader.load_configuration("config", overrides, RunMode.RUN)
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        pickle.dumps(first)
    first.clip.threshold = 5.0
    (tmp_path / "clip/own.yaml").write_text("_target_: os.system\n")
    second = loader.load_configuration("config", overrides, RunMode.RUN)
    assert second.clip.threshold == 1
    assert first != second and OmegaConf.to_yaml(second.hydra) == OmegaConf.to_yaml(first.hydra)
