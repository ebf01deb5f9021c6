"""The contrast of failures: which arm's runs learn."""

import pytest

from tests.analysis.runs import predictions_frame, write_run
from tests.analysis.studies import MINIMAL, finding

FAILURES = MINIMAL.replace("seeds: 10", "seeds: 20").replace(
    "    quantity: test_accuracy\n", "    contrast: failures\n"
)


@pytest.mark.parametrize(("failures", "verdict"), [(8, "supported"), (5, "inconclusive")])
def test_a_rescue_from_failures_can_be_supported(tmp_path, failures, verdict):
    """Of 20 runs without clipping 8 do not learn, with clipping all do: exact p = 2 / 2^8."""
    study = tmp_path / "study"
    for seed in range(20):
        write_run(study, {"clip": "fixed"}, seed=seed)
        accuracy = 0.5 if seed < failures else 0.8
        write_run(study, {"clip": "none"}, seed=seed, frames={"predictions.parquet": predictions_frame(accuracy)})
    found = finding(study, FAILURES)
    assert (found.effect, found.p) == pytest.approx((5 * failures, 2 * 0.5**failures))
    assert (found.n, found.n_unlearned, found.verdict.value) == (20, failures, verdict)
