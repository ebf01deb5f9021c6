"""Commands run exactly the requested arms and seeds."""

import shlex
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.claims.more_seeds import merged, new_seeds, sweep_command, to_run
from analysis.records.arms import canonical
from analysis.records.study import load
from tests.analysis.runs import change, write_run

arm = st.fixed_dictionaries(
    {"freeze": st.sampled_from("ab"), "clip": st.sampled_from("xyz"), "optimizer.lr": st.sampled_from([0.1, 0.2])},
    optional={"clip.start": st.integers(1, 3)},
)


@given(st.lists(arm, max_size=12))
def test_the_products_of_the_lines_are_the_arms(arms):
    lines = merged(arms)
    made = [dict(zip(line, values, strict=True)) for line in lines for values in product(*line.values())]
    assert sorted(map(canonical, made)) == sorted({canonical(arm) for arm in arms})  # each once, and no other
    assert len(lines) <= max(1, len(arms))


def test_a_factorial_is_one_line_and_settings_go_with_their_option():
    arms = [{"freeze": freeze, "clip": clip} for freeze in ("none", "blocks") for clip in ("none", "fixed")]
    assert sweep_command("run", "s", arms, [1]) == "run study=s seed=1 freeze=none,blocks clip=none,fixed"
    delayed = {"clip": "delayed", "clip.start": 50, "clip.rule": "fixed", "clip.rule.threshold": 1.0}
    assert sweep_command("run", "s", [{"clip": "none"}, delayed], range(3)).splitlines() == [
        "run study=s seed=0,1,2 clip=none",
        "run study=s seed=0,1,2 clip=delayed clip.start=50 clip@clip.rule=fixed clip.rule.threshold=1.0",
    ]


@pytest.mark.parametrize("name", ["a b", "x;rm -rf ~", "$(id)", "it's", "`id`", "a,b", "[a]", "ü"])
def test_names_are_quoted_for_the_shell_and_for_hydra(name):
    words = shlex.split(sweep_command("run", name, [{"clip": name}], [0]))
    assert len(words) == 4 and words[3].startswith("clip=") and name in words[3]
    assert words[3] == f"clip={name}" or words[3] == f'clip="{name}"'


def test_seeds_of_other_arms_come_first(tmp_path):
    for seed in (0, 1, 5):
        folder = write_run(tmp_path, seed=seed)
    change(folder, status="failed")  # its seed is known, though the run is not done
    study = load(tmp_path)
    assert new_seeds(0, study) == ()
    assert new_seeds(4, study, taken=[0]) == (1, 5, 6, 7)
    (tmp_path / "empty").mkdir()
    assert new_seeds(3, load(tmp_path / "empty")) == (0, 1, 2)


def test_a_cell_is_run_with_the_settings_that_distinguish_its_arm(tmp_path):
    write_run(tmp_path, {"optimizer": "sgd"}, {"optimizer": {"lr": 0.01, "momentum": 0.9}}, nuisance=0)
    write_run(tmp_path, {"clip": "fixed"}, {"data": {"sha256": "1"}}, nuisance=1)
    study = load(tmp_path)
    sgd = next(label for label, arm in study.arms.items() if arm["optimizer"] == "sgd")
    (found,) = to_run([{"nuisance": 0, "clip": "none", "optimizer": "sgd"}], [sgd], study)
    assert found == {"clip": "none", "optimizer": "sgd", "optimizer.lr": 0.01}  # neither momentum nor a hash
    assert to_run([{"nuisance": 1}], [], study) == ({"nuisance": 1},)
