"""Sweeps over listed arms: which runs they are, that every launcher starts the same ones, and what is refused."""

from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from ablate.config.paths import conf
from ablate.run.job import Job
from ablate.sweep.compose import compose_jobs
from tests.faults.harness import COMMON, ablate, differences, output, record, runs

SMALL = ("model=tiny", "data=synthetic")
THREE = "leave_one_out=[freeze,clip,scheduler]"
TECHNIQUES = ("freeze", "clip", "scheduler")
OPTIMIZERS = ", ".join(sorted(file.stem for file in Path(conf(), "optimizer").glob("*.yaml")))
CLIP_OPTIONS = ", ".join(sorted(file.stem for file in Path(conf(), "clip").glob("*.yaml")))


def jobs_of(*overrides: str, folder: Path | None = None) -> list[Job]:
    """Return the jobs of `python -m ablate -m <overrides>`; `folder` is the user's own config folder."""
    with initialize_config_dir(conf(), version_base="1.3", job_name="ablate"):
        loader = GlobalHydra.instance().config_loader()
        own = [f"hydra.searchpath=[file://{folder}]"] if folder else []
        return compose_jobs(loader.load_configuration("config", [*SMALL, *own, *overrides], RunMode.MULTIRUN))


def experiment(folder: Path, content: str) -> Path:
    (folder / "experiment").mkdir()
    (folder / "experiment/own.yaml").write_text(f"# @package _global_\n{content}")
    return folder


def ids(jobs: list[Job]) -> list[str]:
    return [work.id for work in jobs]


def techniques(work: Job) -> tuple[str, ...]:
    return tuple(work.choices[name] for name in TECHNIQUES)


RECIPE = ("embeddings_attention", "fixed", "warmup_linear")
NOTHING = ("none", "none", "none")


# The arms


def test_leave_one_out_is_the_recipe_and_the_recipe_without_each_factor() -> None:
    jobs = jobs_of(THREE)
    assert [techniques(work) for work in jobs] == [
        RECIPE,
        ("none", "fixed", "warmup_linear"),
        ("embeddings_attention", "none", "warmup_linear"),
        ("embeddings_attention", "fixed", "none"),
    ]


def test_add_one_in_is_nothing_and_each_factor_alone_as_the_recipe_has_it() -> None:
    jobs = jobs_of("add_one_in=[freeze,clip,scheduler]", "clip=delayed", "clip.start=50")
    assert [techniques(work) for work in jobs] == [
        NOTHING,
        ("embeddings_attention", "none", "none"),
        ("none", "delayed", "none"),
        ("none", "none", "warmup_linear"),
    ]
    assert jobs[2].config["clip"]["start"] == 50


def test_both_together_have_each_arm_once() -> None:
    jobs = jobs_of(THREE, "add_one_in=[freeze,clip,scheduler]")
    assert len({*map(techniques, jobs)}) == len(jobs) == 8
    assert [techniques(work) for work in jobs].count(RECIPE) == 1
    two = jobs_of("leave_one_out=[freeze,clip]", "add_one_in=[freeze,clip]")
    assert len(two) == 4  # without one of two factors is with the other alone


def test_ids_are_those_of_a_product_sweep() -> None:
    product = jobs_of("freeze=none,embeddings_attention", "clip=none,fixed", "scheduler=none,warmup_linear", "seed=0,1")
    design = jobs_of(THREE, "add_one_in=[freeze,clip,scheduler]", "seed=0,1")
    assert len(design) == 16 and {*ids(design)} == {*ids(product)}
    assert {work.folder.name for work in design} == {work.folder.name for work in product}


def test_every_arm_has_all_seeds_seed_by_seed_and_other_values_form_the_product() -> None:
    jobs = jobs_of("optimizer.lr=1e-4,2e-4", "leave_one_out=[clip]", "seed=range(3)")
    found = [(work.config["seed"], work.config["optimizer"]["lr"], work.choices["clip"]) for work in jobs]
    assert found == [(s, lr, clip) for s in range(3) for lr in (1e-4, 2e-4) for clip in ("fixed", "none")]


def test_listed_arms_are_mappings_or_overrides_as_typed(tmp_path: Path) -> None:
    listed = (
        "arms:\n  base: {clip: none}\n  late: [clip=delayed, clip.start=50]\n  recipe: {}\n  again: {nuisance: 1}\n"
    )
    folder = experiment(tmp_path, listed)
    jobs = jobs_of("experiment=own", folder=folder)
    alone = [("clip=none",), ("clip=delayed", "clip.start=50"), (), ("nuisance=1",)]
    assert ids(jobs) == [jobs_of(*arm)[0].id for arm in alone]
    typed = jobs_of("arms={base:{clip:none},late:{clip:delayed,clip.start:50},recipe:{},again:['nuisance=1']}")
    assert ids(typed) == ids(jobs)


def test_an_arm_replaces_what_the_sweep_has_for_all(tmp_path: Path) -> None:
    jobs = jobs_of("arms={a:{optimizer.lr:1e-3},b:{}}", "optimizer.lr=1e-4")
    assert [work.config["optimizer"]["lr"] for work in jobs] == [1e-3, 1e-4]


def test_an_interpolation_is_that_of_the_run() -> None:
    jobs = jobs_of("arms={a:{model:minilm,trainer.steps:'${trainer.batch_size}'},b:{trainer.batch_size:7}}")
    assert jobs[0].config["trainer"]["steps"] == jobs[0].config["trainer"]["batch_size"] == 32
    linked = jobs_of("arms={a:['trainer.batch_size=7','trainer.steps=${trainer.batch_size}'],b:{}}")
    assert linked[0].config["trainer"]["steps"] == 7


def test_another_option_than_none() -> None:
    for design in ("leave_one_out={clip:none,optimizer:sgd}", "leave_one_out=[clip,{optimizer:sgd}]"):
        jobs = jobs_of(design)
        assert [(w.choices["clip"], w.choices["optimizer"]) for w in jobs] == [
            ("fixed", "adamw"), ("none", "adamw"), ("fixed", "sgd"),
        ]  # fmt: skip


def test_a_setting_is_left_out_by_a_value() -> None:
    jobs = jobs_of("leave_one_out=[clip,{optimizer.weight_decay:0,model.dropout:0}]")
    found = [(w.choices["clip"], w.config["optimizer"]["weight_decay"], w.config["model"]["dropout"]) for w in jobs]
    assert found == [("fixed", 0.01, 0.1), ("none", 0.01, 0.1), ("fixed", 0, 0.1), ("fixed", 0.01, 0)]  # those of tiny
    alone = ((), ("clip=none",), ("optimizer.weight_decay=0",), ("model.dropout=0",))
    assert ids(jobs) == [jobs_of(*arm)[0].id for arm in alone]


def test_listed_and_derived_arms_together() -> None:
    jobs = jobs_of("arms={late:{clip:delayed}}", "leave_one_out=[clip]")
    assert [work.choices["clip"] for work in jobs] == ["delayed", "fixed", "none"]


# The settings of a factor that is left out


def test_settings_of_a_factor_stay_in_the_arms_that_have_it(tmp_path: Path) -> None:
    """Whether an experiment's file has them, its sweep or the command line."""
    body = experiment(tmp_path, "clip: {threshold: 0.5}\nleave_one_out: [clip, freeze]\n")
    typed = ("leave_one_out=[clip,freeze]", "clip=fixed", "clip.threshold=0.5")
    expected = ids(jobs_of(*typed))
    assert ids(jobs_of("experiment=own", folder=body)) == expected
    assert expected[1] == jobs_of("clip=none")[0].id
    (tmp_path / "experiment/own.yaml").write_text(
        "# @package _global_\nleave_one_out: [clip, freeze]\nhydra: {sweeper: {params: {clip.threshold: 0.5}}}\n"
    )
    assert ids(jobs_of("experiment=own", folder=body)) == expected


def test_a_factor_that_is_left_out_has_one_run_whatever_its_settings() -> None:
    jobs = jobs_of("leave_one_out=[clip]", "clip.threshold=0.5,1,2", "seed=0,1")
    found = [(work.config["seed"], work.config["clip"].get("threshold")) for work in jobs]
    assert found == [(s, t) for s in (0, 1) for t in (0.5, None, 1, 2)]


def test_the_config_of_a_run_has_no_design() -> None:
    """So that it is the same, whatever sweep the run belongs to."""
    for work in jobs_of(THREE, "arms={a:{clip:delayed}}"):
        assert [work.config[key] for key in ("arms", "leave_one_out", "add_one_in")] == [None] * 3


def test_a_factor_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mixout").mkdir()
    for option, name in (("none", "Nothing"), ("on", "Fixed")):  # any dataclass of ours will do
        (tmp_path / f"mixout/{option}.yaml").write_text(f"_target_: ablate.clip.{name}\n")
    product = jobs_of("+mixout=on,none", folder=tmp_path)
    assert ids(jobs_of("leave_one_out=[mixout]", "+mixout=on", folder=tmp_path)) == ids(product)
    assert ids(jobs_of("arms={a:{+mixout:on},b:{}}", folder=tmp_path)) == ids(product)
    with pytest.raises(ValueError, match="leave_one_out must list factors"):
        jobs_of("leave_one_out=[mixout]", folder=tmp_path)


def test_the_shipped_experiments_have_four_arms_on_ten_seeds() -> None:
    for name in ("leave_one_out", "add_one_in"):
        jobs = jobs_of(f"experiment={name}")
        assert len({*ids(jobs)}) == len(jobs) == 40 and jobs[0].config["optimizer"]["lr"] == 1e-4


# Bad input


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["leave_one_out=[freze]"], "leave_one_out must list factors (got freze); did you mean freeze"),
        (["leave_one_out=[seed]"], "leave_one_out must list factors (got seed); allowed: adapter, average, clip"),
        (["leave_one_out=[tracker]"], "leave_one_out must list factors (got tracker)"),
        (["add_one_in=[clip,optimizer]"],
         "add_one_in must list factors that have an option none (got optimizer); name the option to use instead: "
         f"{{optimizer: <option>}}, one of {OPTIMIZERS}"),
        (["add_one_in={optimizer:sgdd}"], f"add_one_in.optimizer must be one of {OPTIMIZERS} (got sgdd)"),
        (["add_one_in={clip:null}"], f"add_one_in.clip must be one of {CLIP_OPTIONS} (got null)"),
        (["leave_one_out={optimizer.decay:0}"],
         "leave_one_out must list factors or settings of the recipe (got optimizer.decay); did you mean optimizer."),
        (["leave_one_out={optimizer.weight_decay:0}", "optimizer.weight_decay=0"],
         "leave_one_out.optimizer.weight_decay must be another value than the recipe's 0"),
        (["leave_one_out=[]"], "leave_one_out must be a list of factors"),
        (["leave_one_out=clip"], "leave_one_out must be a list of factors"),
        (["leave_one_out=[1]"], "leave_one_out must be a list of factors"),
        (["leave_one_out=freeze,clip"], "leave_one_out must be one list or mapping, as in leave_one_out=[freeze,clip]"),
        (["leave_one_out=[clip]", "clip=none,fixed"],
         "clip must have one value where an arm sets it (got clip=none,fixed; arm: clip=none)"),
        (["leave_one_out=[clip]", "clip=none"],
         "arms must differ from each other (got the recipe and clip=none, which are the same run)"),
        (["arms={}"], "arms must be a mapping from the arms' names to their overrides (got {})"),
        (["arms=[clip]"], "arms must be a mapping"),
        (["arms={a:null}"], "arms.a must be overrides: a mapping from keys to values"),
        (["arms={a:['clip fixed']}"], "arms.a must be overrides"),
        (["arms={a:['clip=[']}"], "arms.a must be overrides"),
        (["arms={a:[1]}"], "arms.a must be overrides"),
        (["arms={a:{clip:fixd}}"], f"arms.a.clip must be one of {CLIP_OPTIONS} (got fixd)"),
        (["arms={a:{clip:{threshold:1}}}"], f"arms.a.clip must be one of {CLIP_OPTIONS}"),
        (["arms={a:{seed:1}}"], "arms.a must not set seed (got seed=1): all arms of a sweep share it"),
        (["arms={a:{study:x}}"], "arms.a must not set study (got study='x'): all arms of a sweep share it"),
        (["arms={a:{leave_one_out:[clip]}}"], "arms.a must not set leave_one_out"),
        (["arms={a:['hydra/launcher=local']}"], "arms.a must not set hydra/launcher"),
        (["arms={a:['hydra.sweep.dir=x']}"], "arms.a must not set hydra.sweep.dir"),
        (["arms={a:['clip=none,fixed']}"], "arms.a must be overrides with one value each (got clip=none,fixed)"),
        (["arms={a:['~clip']}"], "arms.a must be overrides with one value each (got ~clip)"),
        (["arms={a:{clip:none},b:['clip=none']}"],
         "arms must differ from each other (got arms.a and arms.b, which are the same run)"),
        (["arms={a:{trainer.steps:300},b:{}}"], "arms must differ from each other (got arms.a and arms.b"),
        (["arms={a:{optimizer.lr:1e-3}}", "optimizer.lr=1e-4,2e-4"],
         "optimizer.lr must have one value where an arm sets it (got optimizer.lr=1e-4,2e-4; arm: arms.a)"),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_wrong_design_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        jobs_of(*overrides)
    assert str(caught.value).startswith(message)


def test_a_design_is_no_swept_parameter(tmp_path: Path) -> None:
    for value in ("[freeze, clip]", "'[freeze,clip]'"):
        folder = tmp_path / value[0].replace("'", "q").replace("[", "l")
        folder.mkdir()
        experiment(folder, f"hydra: {{sweeper: {{params: {{leave_one_out: {value}}}}}}}\n")
        with pytest.raises(ValueError, match="leave_one_out must be one list or mapping"):
            jobs_of("experiment=own", folder=folder)


def test_a_setting_that_an_arm_lacks_is_hydras_error() -> None:
    with pytest.raises(HydraException):
        jobs_of("arms={a:{clip.start:50},b:{}}")


# As a user runs it

TINY = (*COMMON, "clip=fixed", "trainer.steps=4")
DESIGN = ("-m", *TINY, "leave_one_out=[clip]", "seed=0,1")


def test_the_same_records_as_a_product(tmp_path: Path) -> None:
    """The same command then finds all runs done. (The tests of each launcher list arms as well: LISTED.)"""
    product, basic = (tmp_path / name for name in ("product", "basic"))
    for folder in (product, basic):
        folder.mkdir()
    assert ablate(product, "-m", *TINY, "clip=fixed,none", "seed=0,1") == 0
    assert ablate(basic, *DESIGN) == 0
    assert differences(basic, product) == []
    assert len(runs(product)) == 4
    assert list(OmegaConf.load(basic / "outputs/faults/multirun.yaml").arms) == ["the recipe", "clip=none"]
    assert ablate(basic, *DESIGN) == 0
    assert "all 4 runs are done already" in output(basic)


def test_arms_share_their_starts_and_are_done_again(tmp_path: Path) -> None:
    arms = "arms={late:{clip:delayed,clip.start:6},later:{clip:delayed,clip.start:9}}"
    study = ("-m", *TINY, "trainer.steps=10", arms)
    assert ablate(tmp_path, *study, "plan=true") == 0
    assert "2 runs: 1 new, 1 fork" in output(tmp_path) and runs(tmp_path) == {}
    assert ablate(tmp_path, *study) == 0
    forked = [record(folder)["forked_from"] for folder in runs(tmp_path).values()]
    assert [origin["step"] for origin in forked if origin] == [5]
    assert ablate(tmp_path, *study, "rerun=true") == 0
    assert [record(folder)["forked_from"] for folder in runs(tmp_path).values()] == [None, None]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("leave_one_out=[clip]",), "leave_one_out must be null in a single run (got ['clip']); add -m"),
        (("-m", "leave_one_out=[freze]"), "leave_one_out must list factors (got freze); did you mean freeze"),
        (("-m", "arms={a:{clip.stat:50},b:{}}", "clip=delayed"), "there is no setting clip.stat"),
    ],
)  # fmt: skip
def test_a_wrong_design_ends_before_any_run(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert ablate(tmp_path, *arguments, *SMALL) == 2
    assert said in output(tmp_path) and "Traceback" not in output(tmp_path)
    assert not list(tmp_path.glob("outputs/*/*-s*"))
