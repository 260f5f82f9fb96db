"""What a sink inherits, and what it must bring itself."""

from __future__ import annotations

import pytest

from django_signal_audit.sinks.base import Sink, TransactionalSink
from tests.factories import make_config, make_event


class Silent(Sink):
    pass


class SilentInside(TransactionalSink):
    pass


def test_a_sink_without_its_method_is_told_which_one():
    with pytest.raises(NotImplementedError, match=r"Silent must implement emit\(events\)"):
        Silent(make_config()).emit([make_event()])
    with pytest.raises(NotImplementedError, match=r"SilentInside must implement write\("):
        SilentInside(make_config()).write(None, [make_event()])


def test_a_transactional_sink_is_not_written_without_a_connection():
    with pytest.raises(TypeError, match=r"SilentInside is transactional; call write\("):
        SilentInside(make_config()).emit([make_event()])
