"""Values are converted to each scale and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.stats.scales import Log, Logit, Points, Raw

fast = settings(deadline=None, max_examples=60)


@fast
@given(arrays(float, 5, elements=st.floats(1e-3, 0.999)))
def test_scales_go_there_and_back(values):
    for scale in (Raw(), Points(), Log(), Logit(1000)):
        np.testing.assert_allclose(scale.back(scale.forward(values)), values, rtol=1e-10)


def test_scales():
    assert Points().forward(0.853) == pytest.approx(85.3)
    assert Log().forward(0.67) == pytest.approx(np.log(0.67))
    low, middle, high = Logit(300).forward([0.0, 0.5, 1.0])
    assert (low, middle, high) == pytest.approx((-np.log(599), 0, np.log(599)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Log().forward([1.0, 0.0]), "log scale must be above 0 .got 0.0"),
        (lambda: Logit(10).forward(1.1), "shares from 0 to 1 .got 1.1"),
        (lambda: Logit(0), "observations must be at least 1"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
