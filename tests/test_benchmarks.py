"""The benchmarks compare like with like: the rival's runs are ours, and their instruments measure what they say."""

from pathlib import Path

import pytest
import torch
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from ablate.data.batches import Batches
from ablate.data.corpus import corpus
from ablate.data.sources import load_splits
from ablate.experiment import build_options
from ablate.run.job import job
from ablate.sweep import plan
from ablate.training.device import make_accelerator
from ablate.training.learner import make_learner
from ablate.training.step import train
from tests.benchmarks.processes import spend
from tests.benchmarks.scaling import Growth
from tests.benchmarks.study import Arms, clips, delays, write_data
from tests.benchmarks.trainer_script import make_trainer, read_data
from tests.benchmarks.turns import Ratio, held, in_turns, multiplies_bf16, ratio
from tests.tools import compose_config, compose_settings

STEPS, BATCH = 8, 4
ORDER = torch.randperm(40, generator=torch.Generator().manual_seed(1))[: STEPS * BATCH]
TINY = (
    "model=tiny", "model.dropout=0", "data=synthetic", "data.train_examples=40", "data.test_examples=20",
    f"trainer.steps={STEPS}", f"trainer.batch_size={BATCH}", "trainer.length_splits=1", "trainer.threads=1",
)  # fmt: skip
CLIPS = {
    1: ("clip=fixed",),
    5: ("clip=delayed", "clip.start=5"),
    STEPS + 1: ("clip=none",),
}


def options_of(*overrides: str):
    options = build_options(compose_settings(*TINY, *overrides))
    return options, corpus(options.model, options.data)


def our_steps(*overrides: str) -> dict[str, list[float]]:
    options, texts = options_of(*overrides)
    learner = make_learner(options, texts, 0, make_accelerator(options.trainer))
    rows = [moment.row for moment in train(learner, Batches(texts.train, ORDER, BATCH, 1, 1, 0))]
    return {key: [getattr(row, key) for row in rows] for key in ("loss", "lr", "grad_norm")}


def their_steps(clip_from: int, folder: Path) -> dict[str, list[float]]:
    """The rival's log of the same batches, from the same weights; its data come by its own way, from CSV."""
    options, texts = options_of()
    model = options.model.build(texts.classes, 0, texts.tokenizer)
    write_data(folder, options.data)
    tokenizer = options.model.tokenizer(load_splits(options.data)["train"].text)
    data = read_data(folder, tokenizer, options.data.max_length)
    trainer = make_trainer(
        model, tokenizer, data, clip_from, 0, str(folder), steps=STEPS, batch_size=BATCH, lr=options.optimizer.lr
    )
    trainer._get_train_sampler = lambda dataset: ORDER.tolist()
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    names = {"loss": "loss", "lr": "learning_rate", "grad_norm": "grad_norm"}
    return {key: [row[name] for row in rows] for key, name in names.items()}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("clip_from", CLIPS)
def test_the_rival_trains_the_same_arm(tmp_path: Path, clip_from: int) -> None:
    ours, theirs = our_steps(*CLIPS[clip_from]), their_steps(clip_from, tmp_path)
    assert ours["lr"] == pytest.approx(theirs["lr"], rel=1e-12)
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_another_start_of_clipping_would_show(tmp_path: Path) -> None:
    ours, theirs = our_steps(*CLIPS[5]), their_steps(1, tmp_path)
    assert ours["loss"] != pytest.approx(theirs["loss"], rel=1e-4)


def test_delayed_arms_share_starts_as_in_the_readme() -> None:
    arms = delays(300)
    assert starts(arms) == [301, 50, 100, 150, 200, 250]
    sweep = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(arms.overrides)), None)[0]
    configs = [compose_config("model=tiny", "data=synthetic", *overrides) for overrides in sweep]
    jobs = [job(config, dict(config.hydra.runtime.choices)) for config in configs]
    shared = sum(snapshot.step * len(snapshot.children) for snapshot in plan.shared_starts(jobs))
    assert 300 * len(jobs) - shared == 1055


def test_arms_without_clipping_begin_past_the_last_step() -> None:
    assert starts(clips(300)) == [301, 1, 100]


def starts(arms: Arms) -> list[int]:
    return [int(start) for _, start in arms.options]


def test_sides_take_turns_in_both_orders() -> None:
    called: list[str] = []
    sides = {name: lambda name=name: called.append(name) for name in "abc"}
    said: list[str] = []
    found = in_turns(sides, 3, lambda name, result: said.append(name))
    assert {name: len(results) for name, results in found.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(called) == "".join(said) == "abccbaabc"


def test_a_ratio_is_of_the_same_turns() -> None:
    found = ratio([1.0, 20.0, 3.0], [2.0, 10.0, 6.0])
    assert found == Ratio(0.5, 0.5, 2.0)
    assert held(found, 0.5) == "≤ 0.50: yes" and held(found, 0.49) == "≤ 0.49: NO"


def test_memory_is_the_programs_own_and_adds_up(tmp_path: Path) -> None:
    here = bytearray(300 << 20)  # the program that measures is larger, which must not count
    here[::4096] = b"x" * len(here[::4096])
    idle = ["-c", "import time; time.sleep(1.2)"]
    full = ["-c", "import time; found = bytearray(b'x') * (100 << 20); time.sleep(1.2); print(len(found))"]
    small, one = spend([idle], tmp_path, 1), spend([full], tmp_path, 1)
    two = spend([full, full], tmp_path, 1, at_once=2)
    assert small.megabytes < 60
    assert 95 < one.megabytes - small.megabytes < 120
    assert 1.8 < two.megabytes / one.megabytes < 2.1
    assert 200 < two.proportional < two.megabytes  # the interpreter's pages are shared, the 100 MB are not
    assert two.output == ("104857600\n",) * 2
    del here


def test_a_program_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit code 3"):
        spend([["-c", "raise SystemExit(3)"]], tmp_path, 1)


def test_growth_finds_what_one_more_costs() -> None:
    growth = Growth((10, 20, 40), (7.0, 9.0, 13.0))
    assert growth.line == pytest.approx((0.2, 5.0))
    assert growth.bend == pytest.approx(1.0)
    assert Growth((10, 20, 40), (1.0, 4.0, 16.0)).bend == pytest.approx(2.0)


def test_bf16_instructions_are_found_by_name() -> None:
    assert multiplies_bf16("flags\t\t: fpu avx512_bf16 sse")
    assert not multiplies_bf16("flags\t\t: fpu avx512f avx2\nmodel name : bf16x")
