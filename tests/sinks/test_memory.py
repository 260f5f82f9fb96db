from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks.memory import MemorySink
from tests.factories import make_config, make_event
from tests.sinks.contract import SinkContract

ROOT = Path(__file__).resolve().parents[2]


class TestContract(SinkContract):
    @pytest.fixture
    def sink(self):
        return MemorySink(make_config())

    def written(self, sink):
        return [event.to_dict() for event in sink.events]


def test_keeps_the_events_themselves():
    sink = MemorySink(make_config())
    event = make_event()
    sink.emit([event])

    assert sink.events == [event]
    assert sink.events[0] is event


def test_its_list_is_the_callers_own():
    sink = MemorySink(make_config())
    sink.emit([make_event()])
    sink.events.clear()

    assert len(sink.events) == 1


def test_clear_forgets_all():
    sink = MemorySink(make_config())
    sink.emit([make_event()])
    sink.clear()

    assert sink.events == []


def test_capacity_keeps_the_newest():
    sink = MemorySink(make_config(), capacity=2)
    events = [make_event(), make_event(), make_event()]
    sink.emit(events)

    assert sink.events == events[1:]


@pytest.mark.parametrize("capacity", [0, -1, "10", 1.5, True])
def test_a_wrong_capacity_is_refused(capacity):
    with pytest.raises(AuditConfigurationError, match=r"'audit': capacity is .* positive number"):
        MemorySink(make_config(), capacity=capacity)


def test_is_for_development_only():
    assert MemorySink.development_only


def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have():
    script = """
        import os
        from django_signal_audit.sinks.memory import MemorySink
        from tests.factories import make_config, make_event

        sink = MemorySink(make_config())
        sink._lock._lock.acquire()  # as another thread would hold it
        child = os.fork()
        if child == 0:
            sink.emit([make_event()])
            os._exit(len(sink.events))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("1\n", "")


def test_an_event_from_inside_the_same_write_is_refused_and_does_not_hang():
    sink = MemorySink(make_config())

    class Events(list):
        def __iter__(self):
            sink.emit([make_event()])
            return super().__iter__()

    with pytest.raises(RuntimeError, match="while the same thread was writing"):
        sink.emit(Events([make_event()]))
    sink.emit([make_event()])

    assert len(sink.events) == 1
