"""The seeds that a decision needs follow from the sd and the smallest effect alone."""

import re

import numpy as np
import pytest

from analysis.claims.looks import LookPlan, Occasion
from analysis.claims.planned_power import power_lines
from analysis.claims.power import power_at, seeds_needed
from analysis.claims.reading import read_claims
from analysis.records.study import load
from analysis.stats.effects import ALPHA, one_sample_effect, power_of_t
from analysis.stats.variances import jackknifed_variance_ratio
from tests.analysis.studies import MINIMAL, NOISE, write_two, written

NEAR = np.array([1.0, 2.0, 1.5, 2.5, 1.2, 1.8, 2.2, 0.9, 1.6, 2.3])
ONE = Occasion(LookPlan((10,), "obrien_fleming", 10), "planned", 1, 10)
OPEN = Occasion(LookPlan((), "obrien_fleming", 3), "planned", 2, 10)


def test_eighty_per_cent_power_at_the_smallest_effect():
    effect = one_sample_effect(NEAR)
    found = seeds_needed(effect, 0.5, ONE, 11)
    assert power_of_t(0.5 / effect.sd, found.total, ALPHA / 11) >= 0.8
    assert power_of_t(0.5 / effect.sd, found.total - 1, ALPHA / 11) < 0.8
    assert found.more == found.total - 10 > 0 and f"about {found.more} more seeds are needed" in found.note
    assert f"a study of new seeds with looks: [{found.total}] would decide" in found.note


@pytest.mark.parametrize("shift", [-5.0, 0.0, 0.4, 3.0])
def test_the_effect_that_was_seen_does_not_matter(shift):
    assert seeds_needed(one_sample_effect(NEAR + shift), 0.5, ONE, 11) == seeds_needed(
        one_sample_effect(NEAR), 0.5, ONE, 11
    )


def test_the_level_is_that_of_the_next_look():
    effect = one_sample_effect(NEAR)
    found = seeds_needed(effect, 0.5, OPEN, 1)
    assert (
        power_of_t(0.5 / effect.sd, found.total, ALPHA / 8)
        >= 0.8
        > power_of_t(0.5 / effect.sd, found.total - 1, ALPHA / 8)
    )
    assert "new seeds" not in found.note


def test_where_the_power_is_there_nothing_is_added():
    found = seeds_needed(one_sample_effect(NEAR), 2.0, ONE, 1)
    assert found.total <= 10 and found.more == 0 and found.note.startswith("no further seeds are planned: 10 seeds")


def test_without_a_smallest_effect_the_detectable_one_is_given():
    effect = one_sample_effect(NEAR)
    found = seeds_needed(effect, None, ONE, 11)
    assert (found.total, found.more) == (None, None)
    size = float(re.search(r"10 seeds detect an effect of ([\d.]+)", found.note)[1])
    assert effect.power(size, 10, ALPHA / 11) == pytest.approx(0.8, abs=0.005)
    alike = seeds_needed(one_sample_effect([0.5] * 10), 1.0, ONE, 1)
    assert alike.total is None and "differences are equal" in alike.note


def test_a_variance_ratio_has_its_own_power():
    a, b = np.random.default_rng(0).normal(size=(2, 10))
    ratio = jackknifed_variance_ratio(a + b, b)
    found = seeds_needed(ratio, np.log(2), ONE, 11)
    assert ratio.power(np.log(2), found.total, ALPHA / 11) >= 0.8 > ratio.power(np.log(2), found.total - 1, ALPHA / 11)


def test_power_at_the_smallest_effect():
    effect = one_sample_effect(NEAR)
    assert power_at(effect, 0.5, 10, 0.05) == power_of_t(0.5 / effect.sd, 10)
    assert power_at(effect, None, 10, 0.05) is power_at(None, 0.5, 10, 0.05) is power_at(effect, 0.5, 1, 0.05) is None


# --- In a plan: from the spread of the runs so far, never from their mean ---


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
