"""Every file in conf/ composes and can be built, and the config behaves as Hydra users expect."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from ablate.config.paths import conf
from ablate.experiment import FACTORS, build_options
from tests.tools import ROOT, ablate, compose_config, compose_settings

CONF = Path(conf())
NEEDED = {  # settings without a default
    "data/files": ("data.files.train=train.csv", "data.files.test=test.csv"),
    "freeze/regex": (r"freeze.pattern='layer\.[0-3]\.|embeddings'",),
}
EXPECTED_FILES = 124


def files() -> Iterator[str]:
    for path in sorted(CONF.rglob("*.yaml")):
        yield path.relative_to(CONF).with_suffix("").as_posix()


def test_no_file_is_overlooked() -> None:
    assert len(list(files())) == EXPECTED_FILES


@pytest.mark.parametrize("file", [f for f in files() if f.partition("/")[0] in {*FACTORS, "tracker"}])
def test_every_option_composes_and_is_built(file: str) -> None:
    group, _, option = file.partition("/")
    options = build_options(compose_settings(f"{group}={option}", *NEEDED.get(file, ())))
    target = yaml.safe_load((CONF / f"{file}.yaml").read_text())["_target_"]
    module, _, name = target.rpartition(".")
    assert type(getattr(options, group)) is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("file", [f for f in files() if f.startswith("experiment/")])
def test_every_experiment_composes_and_is_built(file: str) -> None:
    name = file.removeprefix("experiment/")
    config = compose_config(f"experiment={name}")
    build_options(compose_settings(f"experiment={name}"))
    assert next(iter(config.hydra.sweeper.params)) == "seed"
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.study == name or name.startswith(f"{config.study}_")  # several experiments may form one study


def test_every_key_of_an_option_is_explained() -> None:
    """By a comment on its line, or on the line of its parent key."""
    for path in [CONF / "config.yaml", *CONF.rglob("*/*.yaml")]:
        if path.parts[-2] in ("experiment", "help", "claims", "roles"):
            continue
        parent = ""
        for line in path.read_text().splitlines():
            if not line.strip() or line.lstrip().startswith(("#", "-", "_target_")) or line.rstrip().endswith(":"):
                continue
            parent = parent if line.startswith(" ") else line
            assert "#" in line or (line.startswith(" ") and "#" in parent), f"{path}: {line}"


def test_the_write_ups_recipe_is_the_default() -> None:
    choices = OmegaConf.to_container(compose_config().hydra.runtime.choices)
    recipe = {
        "model": "minilm", "data": "movie_snippets", "freeze": "embeddings_attention", "clip": "fixed",
        "scheduler": "warmup_linear", "optimizer": "adamw", "trainer": "default",
    }  # fmt: skip
    assert recipe.items() <= choices.items()
    settings = compose_settings()
    assert settings["optimizer"]["lr"] == settings["model"]["lr"] == 2e-4
    assert compose_settings("model=bert_base")["optimizer"]["lr"] == 2e-5
    assert (settings["trainer"]["steps"], settings["trainer"]["batch_size"]) == (300, 32)


def test_a_wrapped_rule_is_another_option() -> None:
    settings = compose_settings("clip=delayed", "clip@clip.rule=none", "clip.start=7")
    assert settings["clip"] == {
        "_target_": "ablate.clip.Delayed",
        "start": 7,
        "rule": {"_target_": "ablate.clip.Nothing"},
    }
    assert compose_settings("clip=delayed", "clip.rule.threshold=0.5")["clip"]["rule"]["threshold"] == 0.5
    window = compose_settings("clip=delayed", "clip@clip.rule=until", "clip@clip.rule.rule=zclip")["clip"]
    assert (window["start"], window["rule"]["last"], window["rule"]["rule"]["z_max"]) == (100, 100, 2.5)


def test_help_is_our_own_and_loads_nothing_heavy(tmp_path: Path) -> None:
    shown = ablate("--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "does this fine-tuning technique matter" in shown.stdout
    assert f"clip: {', '.join(sorted(file.stem for file in CONF.glob('clip/*.yaml')))}" in shown.stdout
    assert shown.stdout.count("python -m ablate -m ") >= 3
    code = "import sys, ablate.__main__; print([m for m in ('torch', 'transformers', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_cfg_job_resolves(tmp_path: Path) -> None:
    shown = ablate("--cfg", "job", "--resolve", "clip=delayed", cwd=tmp_path)
    assert shown.returncode == 0
    assert yaml.safe_load(shown.stdout)["clip"]["rule"]["threshold"] == 1.0
    assert not (tmp_path / "outputs").exists()


def test_config_is_found_from_any_folder() -> None:
    assert CONF.is_absolute() and CONF == ROOT / "conf"
