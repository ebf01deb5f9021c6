"""A sweep that starts beside busy processes says so, with the setting that helps."""

import logging
import subprocess
import sys
import time

import pytest

from ablate.sweep import core_use
from ablate.sweep.core_use import CoreUse, warn_if_busy


@pytest.mark.parametrize(
    ("others", "threads", "parallel_runs", "said"),
    [
        (0.4, 2, 1, None),
        (1.0, 1, 1, None),
        (1.0, 2, 1, "trainer.threads=1"),
        (5.0, 2, 1, "trainer.threads=1"),
        (1.0, 1, 2, "hydra.launcher.n_jobs=1"),
        (2.0, 1, 1, "Wait until they have ended"),
    ],
)
def test_the_warning_names_the_setting_that_helps(monkeypatch, caplog, others, threads, parallel_runs, said):
    monkeypatch.setattr(core_use.os, "cpu_count", lambda: 2)
    with caplog.at_level(logging.WARNING, logger="ablate"):
        warn_if_busy(others, threads, parallel_runs)
    assert (said in caplog.text and f"{others:.1f} of the 2 cores" in caplog.text) if said else not caplog.text


def test_what_others_use_is_measured():
    measured = CoreUse()
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(1)
    child.kill()
    child.wait()
    assert measured.by_others() > 0.5


def test_this_process_does_not_count():
    measured = CoreUse()
    while time.process_time() - measured.own < 0.5:
        pass
    others, elapsed = measured.by_others(), time.monotonic() - measured.since
    assert others * elapsed <= core_use.seconds_in_use() - measured.used - 0.4  # clocks tick in hundredths
