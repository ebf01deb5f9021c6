"""What a sweep ends with, in terminals of any width."""

import io

import pandas as pd
import pytest
from rich.console import Console

from ablate.sweep.summary import as_rich, closing_table
from analysis.claims.reading import read_claims
from analysis.records.study import load
from analysis.tables.ablation import ablation
from analysis.tables.closing import Differences, arm_differences
from analysis.tables.formats import summary, summary_in_words
from tests.analysis.studies import written
from tests.analysis.tables.test_ablation import write_arms

NUMBERS = {"seeds": "5", "validation accuracy %": "84.0 ± 10.0", "test accuracy %": "85.0 ± 10.0",
           "difference (95 % interval)": "−10.0 (−12.5 to −7.5)"}  # fmt: skip
COMPARE = "seeds: 2\nlooks: open\ncompare:\n  reference: {clip: none}\n  quantities: {test_accuracy: points}\n"


@pytest.mark.parametrize("width", [80, 100, 140])
def test_arms_and_numbers_are_whole(width: int) -> None:
    arms = ["embeddings_attention-delayed-warmup_linear-adamw", "no clipping, no freezing"]
    console = Console(file=io.StringIO(), width=width)
    console.print(as_rich(pd.DataFrame([{"arm": arm, **NUMBERS} for arm in arms]), width))
    shown = console.file.getvalue().splitlines()
    assert max(map(len, shown)) <= width
    lines = [line.split("│")[1:-1] for line in shown if line.startswith("│")]
    assert "".join(line[0].strip() for line in lines).replace(" ", "") == "".join(arms).replace(" ", "")
    firsts = [line for line in lines if line[1].strip()]
    assert [[cell.strip() for cell in line[1:]] for line in firsts] == [list(NUMBERS.values())] * 2


def test_differences_are_those_of_the_ablation_table(tmp_path) -> None:
    write_arms(tmp_path / "study", {"none": {}, "fixed": {"clip": "fixed"}, "delayed": {"clip": "delayed"}}, seeds=4)
    study = load(tmp_path / "study")
    claims = read_claims(written(tmp_path, COMPARE))
    found = arm_differences(study, claims)
    table = ablation(study, {"clip": "none"})
    expected = table.words["test accuracy, difference in points"].tolist()
    assert found.heading == "difference (95 % interval)" and found.reference == "none"
    assert [found.texts[arm] for arm in table.numbers["arm"][1:]] == [
        text.partition("]")[0].replace("[", "(") + ")" for text in expected[1:]
    ]
    closing = closing_table(summary_in_words(summary(study)), study.arms, found)
    assert [*closing] == ["arm", "seeds", "validation accuracy %", "test accuracy %", found.heading]
    assert closing[found.heading].tolist()[0] == "reference"
    fewer = closing_table(summary_in_words(summary(study)), {"fixed"}, found)
    assert fewer["arm"].tolist() == ["fixed"]


@pytest.mark.parametrize("seeds, with_interval", [(1, False), (2, True)])
def test_one_seed_has_no_interval(tmp_path, seeds: int, with_interval: bool) -> None:
    write_arms(tmp_path / "study", {"none": {}, "fixed": {"clip": "fixed"}}, seeds=seeds)
    found = arm_differences(load(tmp_path / "study"), read_claims(written(tmp_path, COMPARE)))
    assert isinstance(found, Differences) and ("to" in found.texts["fixed"]) == with_interval
    assert ("interval" in found.heading) == with_interval


def test_one_arm_has_no_differences(tmp_path) -> None:
    write_arms(tmp_path / "study", {"none": {}}, seeds=2)
    study = load(tmp_path / "study")
    assert arm_differences(study, read_claims(written(tmp_path, COMPARE))) is None
    assert [*closing_table(summary_in_words(summary(study)), study.arms, None)][-1] == "test accuracy %"
