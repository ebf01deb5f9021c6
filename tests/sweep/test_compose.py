"""The jobs of a sweep: lists and removed keys as users of Hydra write them."""

from collections.abc import Sequence
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from ablate.config.paths import conf
from ablate.run.job import Job
from ablate.sweep.compose import compose_jobs, composed_job

SMALL = ("model=tiny", "data=synthetic")


def jobs_of(*overrides: str, params: dict[str, Any] | None = None) -> Sequence[Job]:
    """Return the jobs of `python -m ablate -m <overrides>`; `params` are the experiment's `hydra.sweeper.params`."""
    with initialize_config_dir(conf(), version_base="1.3", job_name="ablate"):
        config = compose("config", [*SMALL, *(o for o in overrides if "," not in o)], return_hydra_config=True)
        with open_dict(config):
            config.hydra.sweeper = OmegaConf.create({**config.hydra.sweeper, "params": params or {}})
            config.hydra.overrides.task = [*SMALL, *overrides]
        return compose_jobs(config)


def job_of(*overrides: str) -> Job:
    with initialize_config_dir(conf(), version_base="1.3", job_name="ablate"):
        return composed_job(compose("config", [*SMALL, *overrides], return_hydra_config=True))


def test_a_list_under_sweeper_params_means_its_values() -> None:
    listed = jobs_of(params={"clip": ["none", "fixed"], "optimizer.lr": [1e-3, 0.5], "seed": [3, 4], "plan": None})
    typed = jobs_of(params={"clip": "none,fixed", "optimizer.lr": "1e-3,0.5", "seed": "3,4", "plan": "null"})
    assert [work.id for work in listed] == [work.id for work in typed]
    assert len({work.id for work in listed}) == 8
    assert listed[0].config["plan"] is None


def test_a_list_of_names_with_special_characters() -> None:
    listed = jobs_of(params={"trainer.track.mlp": ["a b", "it's, so", "x=y"]})
    assert [work.config["trainer"]["track"]["mlp"] for work in listed] == ["a b", "it's, so", "x=y"]


def test_a_list_stays_one_value_for_a_setting_that_is_a_list() -> None:
    (work,) = jobs_of(params={"allow_targets": ["one", "two"]})
    assert work.config["allow_targets"] == ["one", "two"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("~clip", "clip must not be removed (got ~clip); the option that does nothing is called none: clip=none"),
        ("~clip=fixed", "clip must not be removed (got ~clip); the option that does nothing is called none: clip=none"),
        ("~tracker",
         "tracker must not be removed (got ~tracker); the option that does nothing is called none: tracker=none"),
        ("~optimizer", "optimizer must not be removed (got ~optimizer); choose one of its options: adafactor, adamw, "
         "adamw_no_bias_correction, lion, muon, sgd"),
        ("~seed", "seed must not be removed (got ~seed); set it: seed=<value>"),
        ("~trainer.fork", "trainer.fork must not be removed (got ~trainer.fork); set it: trainer.fork=<value>"),
        ("clip=[none]", "clip must be the name of one option (got a list); to compare several: -m clip=a,b"),
    ],
)  # fmt: skip
def test_removed_keys_and_lists_of_options(override: str, message: str) -> None:
    for composed in (job_of, jobs_of):
        with pytest.raises(ValueError) as caught:
            composed(override)
        assert str(caught.value) == message


def test_the_group_without_a_choice_may_be_removed() -> None:
    assert job_of("~experiment").id == job_of().id


@pytest.mark.parametrize("key", ["seed", "clip", "tracker", "plan"])
def test_a_primary_config_that_lacks_a_key(key: str) -> None:
    with initialize_config_dir(conf(), version_base="1.3", job_name="ablate"):
        config = compose("config", list(SMALL), return_hydra_config=True)
    with open_dict(config):
        del config[key]
    with pytest.raises(ValueError, match=f"{key} is missing from the config"):
        composed_job(config)


def test_a_trainer_that_lacks_settings_has_their_defaults() -> None:
    work = job_of("trainer.steps=2")
    del work.config["trainer"]["fork"], work.config["trainer"]["keep_checkpoint"]
    assert work.trainer.fork.enabled and not work.trainer.keep_checkpoint
