"""Sinks that write after COMMIT: slow ones, failing ones, and their spools."""

from __future__ import annotations

import itertools
import time

import pytest
import structlog
from django.db import transaction
from django.test import override_settings

from django_signal_audit import event_signal
from django_signal_audit.sinks import MemorySink, after_commit, counters, routing
from django_signal_audit.sinks import spool as spool_module
from django_signal_audit.sinks.spool import Drained, Spool
from tests.testapp.models import Author

pytestmark = pytest.mark.django_db(transaction=True)


class Flaky(MemorySink):
    """Raises what ``error`` is, while it is something."""

    error = None
    seconds = 0

    def emit(self, events):
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        super().emit(events)


@pytest.fixture(autouse=True)
def _forgetful():
    after_commit._warned.clear()
    yield
    Flaky.error, Flaky.seconds = None, 0
    after_commit._warned.clear()


@pytest.fixture
def spooled(tmp_path):
    """A sink that may fail, with a spool, beside one that does not."""
    setting = {
        "STATE_DIR": tmp_path / "state",
        "SINKS": {
            "flaky": {"BACKEND": Flaky, "ON_ERROR": "spool"},
            "plain": {"BACKEND": MemorySink},
        },
    }
    with override_settings(SIGNAL_AUDIT=setting):
        yield Spool(tmp_path / "state", "flaky")


@pytest.fixture
def soon(monkeypatch):
    """A sink that failed is tried again at once."""
    monkeypatch.setattr(spool_module, "FIRST_PAUSE", 0)


def names(alias):
    [sink] = [route.sink for route in routing.all_routes() if route.alias == alias]
    return [event.object_repr or event.message for event in sink.events]


def create(*names):
    with transaction.atomic():
        for name in names:
            Author.objects.create(name=name)


def test_what_a_sink_did_not_take_waits_and_is_delivered_in_order(spooled, soon, caplog):
    create("a")
    Flaky.error = OSError("no room")
    create("b", "c")
    create("d")
    assert names("flaky") == ["a"]
    assert names("plain") == ["a", "b", "c", "d"]
    assert spooled.waiting().events == 3
    Flaky.error = None
    create("e")

    assert names("flaky") == ["a", "b", "c", "d", "e"]
    assert spooled.is_empty()
    shown = counters.snapshot()["flaky"]
    assert shown == {"emitted": 5, "written": 5, "failed": 4, "spooled": 4}
    assert counters.of_all_processes()["flaky"] == shown
    [said] = [r.getMessage() for r in caplog.records if "The spool" in r.getMessage()]
    event = Author.objects.get(name="b").pk
    assert f"could not write 2 events, first model.create of testapp.author {event} (id " in said
    assert str(spooled.path) in said
    assert "'flaky' still cannot write what waits in its spool: no room." in caplog.text


def test_a_sink_that_fails_is_left_alone_for_a_while(spooled, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(spool_module.time, "monotonic", lambda: clock[0])
    attempts = []
    emit = Flaky.emit
    monkeypatch.setattr(Flaky, "emit", lambda self, e: (attempts.append(clock[0]), emit(self, e)))
    Flaky.error = OSError("no")
    for _ in range(400):
        event_signal.send("x")
        clock[0] += 0.5

    gaps = [b - a for a, b in itertools.pairwise(attempts)]
    assert gaps[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert max(gaps) == 60.0
    assert spooled.waiting().events == 400
    Flaky.error = None
    clock[0] += 60
    event_signal.send("x")
    assert spooled.is_empty()
    Flaky.error = OSError("no")
    attempts.clear()
    for _ in range(3):
        event_signal.send("x")
        clock[0] += 1
    assert attempts == [clock[0] - 3, clock[0] - 2], "after a success it begins anew"


def test_nobody_waits_long_for_what_was_spooled_before(spooled, soon):
    Flaky.error = OSError("no")
    for _ in range(5):
        event_signal.send("x")
    Flaky.error, Flaky.seconds = None, after_commit._PATIENCE
    event_signal.send("x")

    assert spooled.waiting().events == 5
    event_signal.send("x")
    assert spooled.waiting().events == 5, "one in, one out"


def test_an_interruption_is_raised_and_the_events_are_kept(spooled, soon):
    Flaky.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        create("a")
    with pytest.raises(KeyboardInterrupt):
        create("b")
    assert names("plain") == ["a", "b"]
    Flaky.error = None
    create("c")

    assert names("flaky") == ["a", "b", "c"]


def test_structlogs_drop_from_a_sink_is_a_failure_like_others(spooled, soon):
    Flaky.error = structlog.DropEvent()
    create("a")
    create("b")
    Flaky.error = None
    create("c")

    assert names("flaky") == ["a", "b", "c"]


def test_what_neither_sink_nor_spool_takes_is_lost_counted_and_named(spooled, soon, caplog):
    spooled.path.parent.mkdir()
    spooled.path.mkdir()
    Flaky.error = OSError("no")
    event_signal.send("x", event="shift.assigned")

    assert counters.snapshot()["flaky"] == {"emitted": 1, "failed": 1, "lost": 1}
    assert "'flaky' (Flaky) lost 1 event, shift.assigned (id " in caplog.text
    assert "Is a directory" in caplog.text


def test_while_the_spool_takes_nothing_the_sink_is_tried_at_once(spooled, soon, caplog):
    Flaky.error = OSError("no")
    create("a")
    spooled.path.rename(f"{spooled.path}.aside")
    spooled.path.mkdir()
    Flaky.error = None
    create("b")

    assert names("flaky") == ["b"]
    assert "The spool of audit sink 'flaky' takes nothing ([Errno 21] Is a directory" in caplog.text
    assert "goes past those that wait in it" in caplog.text


def test_a_spool_that_cannot_be_reached_does_not_keep_the_sink_from_writing(
    spooled, monkeypatch, caplog
):
    def refuse(self):
        raise PermissionError("not yours")

    monkeypatch.setattr(Spool, "is_empty", refuse)
    create("a")

    assert names("flaky") == ["a"]


def test_a_spool_that_cannot_be_emptied_is_said(spooled, soon, monkeypatch, caplog):
    Flaky.error = OSError("no")
    create("a")

    def fail(self, emit, **options):
        raise OSError("worn out")

    monkeypatch.setattr(Spool, "drain", fail)
    Flaky.error = None
    create("b")
    assert "The spool of audit sink 'flaky' cannot be emptied: worn out" in caplog.text
    assert spooled.waiting().events == 2


def test_lines_that_are_no_events_are_counted_as_lost_and_kept_aside(spooled, soon, caplog):
    Flaky.error = OSError("no")
    create("a")
    with spooled.path.open("ab") as file:
        file.write(b"torn\n")
    Flaky.error = None
    create("b")

    assert names("flaky") == ["a", "b"]
    assert counters.snapshot()["flaky"]["lost"] == 1
    assert "1 lines in the spool of audit sink 'flaky' are no events" in caplog.text
    assert spooled.skipped_path.read_bytes() == b"torn\n"


def interrupt(logger, method_name, event_dict):
    raise KeyboardInterrupt


def test_what_a_processor_was_to_change_is_not_spooled_without_it(tmp_path):
    setting = {
        "STATE_DIR": tmp_path / "state",
        "SINKS": {"a": {"BACKEND": Flaky, "ON_ERROR": "spool", "PROCESSORS": [interrupt]}},
    }
    with override_settings(SIGNAL_AUDIT=setting), pytest.raises(KeyboardInterrupt):
        create("a")

    assert Spool(tmp_path / "state", "a").is_empty()
    assert counters.snapshot() == {"a": {"emitted": 1, "failed": 1, "lost": 1}}


def drop(logger, method_name, event_dict):
    raise structlog.DropEvent


def test_a_sink_whose_processors_drop_everything_is_not_called():
    with override_settings(SIGNAL_AUDIT={"SINKS": {"a": {"BACKEND": Flaky, "PROCESSORS": [drop]}}}):
        Flaky.error = OSError("no")
        create("a")

    assert counters.snapshot() == {"a": {"emitted": 1, "dropped": 1}}


def test_a_slow_sink_is_counted_each_time_and_warned_of_once(caplog, monkeypatch):
    with override_settings(
        SIGNAL_AUDIT={"SINKS": {"slow": {"BACKEND": Flaky}, "quick": {"BACKEND": MemorySink}}}
    ):
        # Long enough that no quick sink takes as long on a busy machine.
        monkeypatch.setattr(after_commit, "SLOW", 0.4)
        Flaky.seconds = 0.4
        create("a")
        create("b")
        Flaky.error = OSError("no")
        create("c")

    assert counters.snapshot()["slow"]["slow"] == 3
    assert "slow" not in counters.snapshot()["quick"]
    said = [r.getMessage() for r in caplog.records if " ms for " in r.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("Audit sink 'slow' (Flaky) took ")
    assert "for 1 event, model.create of testapp.author" in said[0]


def test_while_another_process_delivers_the_pause_stays(spooled, monkeypatch):
    Flaky.error = OSError("no")
    create("a")
    [route] = [route for route in routing.all_routes() if route.alias == "flaky"]
    monkeypatch.setattr(Spool, "drain", lambda self, emit, **options: Drained(is_busy=True))
    route.spool.pause.until = 0
    create("b")

    assert route.spool.pause.seconds == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LookupError("a soft limit")])
def test_an_interruption_beside_the_sinks_keeps_no_other_sink_from_its_events(
    spooled, monkeypatch, error, caplog
):
    """A signal handler may raise anywhere, such as while the spool is forced to disk."""
    Flaky.error = OSError("no")

    def interrupted(route, *args):
        raise error

    monkeypatch.setattr(after_commit, "keep_or_lose", interrupted)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            create("a")
    else:
        create("a")

    assert names("plain") == ["a"]
    assert counters.snapshot()["flaky"] == {"emitted": 1, "failed": 1, "lost": 1}
    assert "Audit sink 'flaky' (Flaky) lost 1 event, model.create" in caplog.text


def test_a_sink_that_may_forget_promises_nothing_more_for_its_spool(tmp_path):
    setting = {
        "STATE_DIR": tmp_path,
        "SINKS": {"a": {"BACKEND": MemorySink, "ON_ERROR": "spool"}},
    }
    with override_settings(SIGNAL_AUDIT=setting):
        assert routing.all_routes()[0].promise == "at-most-once"
