"""A plan says which claims its seeds can detect: from the spread of the runs so far, never from their mean."""

import re

import pytest

from analysis.claims.planned_power import power_lines
from analysis.claims.reading import read_claims
from analysis.records.study import load
from analysis.stats.effects import power_of_t
from tests.analysis.studies import MINIMAL, NOISE, write_two, written

ASKED = MINIMAL + "    smallest_effect: 3\n    why: an example\n"


def test_without_runs_the_spread_that_it_takes(tmp_path):
    (line,) = power_lines(read_claims(written(tmp_path, ASKED)), None)
    limit = float(re.search(r"an sd below ([\d.]+) on the points scale", line)[1])
    assert power_of_t(3 / limit, 10) == pytest.approx(0.5, abs=0.01)
    assert line.startswith("claim one: 10 seeds detect its smallest effect with at least 50% power if")


@pytest.mark.parametrize(("spread", "low"), [(1, False), (6, True)])
def test_with_runs_the_power_at_the_planned_seeds(tmp_path, spread, low):
    claims, lines = read_claims(written(tmp_path, ASKED)), []
    for shift in (0, 5):  # the effect that was seen does not matter
        study = tmp_path / f"{shift}"
        write_two(study, 0.8 + (shift + spread * NOISE[:5]) / 100, [0.8] * 5)
        lines.append(power_lines(claims, load(study)))
    assert lines[0] == lines[1]
    assert ("which is low" in lines[0][0]) == low
    assert re.match(r"claim one: 10 seeds detect its smallest effect with \d+% power", lines[0][0])


def test_claims_without_a_smallest_effect_have_no_line(tmp_path):
    assert power_lines(read_claims(written(tmp_path, MINIMAL)), None) == []
