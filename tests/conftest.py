"""Fixtures of the whole suite."""

import pytest

from django_signal_audit.sinks import counters, routing


@pytest.fixture(autouse=True)
def _fresh_sinks():
    """Every test starts with closed sinks and counters at zero."""
    routing.close_sinks()
    counters.reset()
    yield
    routing.close_sinks()
    counters.reset()
