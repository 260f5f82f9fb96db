"""Fixtures of the tests of commands."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.factories import make_event
from tests.management.trails import NOON, store


@pytest.fixture
def events():
    found = [make_event(timestamp=NOON + timedelta(hours=n)) for n in range(3)]
    store(found)
    return found
