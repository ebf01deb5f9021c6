"""Requests to stop, and errors that are none."""

from ablate.run.signals import Stopped, stop_behind


def test_an_error_that_is_its_own_cause_is_no_stop() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__ = error
    assert stop_behind(error) is None
    error.__cause__, other.__cause__ = other, error
    assert stop_behind(error) is None
    other.__cause__ = Stopped(15)
    assert isinstance(stop_behind(error), Stopped)
