"""Moving a batch of records: refused, interrupted, raced, or of records that are no events."""

from __future__ import annotations

import pytest
from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
    transaction,
)

from django_signal_audit.exceptions import AuditError
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink, counters, forwarding
from tests.databases import another_alias, refusing
from tests.factories import make_config, make_event
from tests.management.trails import store

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture
def sink():
    return DatabaseSink(make_config(), database="other")


def ids_on(alias):
    return list(AuditRecord.objects.using(alias).order_by("id").values_list("id", flat=True))


def move_all(sink, **options):
    records = forwarding.waiting("default")
    return list(forwarding.move_all(records, "other", sink.write, **options))


def test_everything_is_moved_batch_by_batch(sink):
    events = [make_event() for _ in range(7)]
    store(events)
    assert [page.moved for page in move_all(sink, batch_size=3)] == [3, 3, 1]
    assert ids_on("default") == []
    assert ids_on("other") == [event.id for event in events]


@pytest.mark.parametrize("count", [0, 6])
def test_the_end_is_found_also_where_the_last_batch_is_full(sink, count):
    store([make_event() for _ in range(count)])
    assert sum(page.moved for page in move_all(sink, batch_size=3)) == count
    assert ids_on("default") == []


def test_what_is_there_already_is_only_deleted_here(sink):
    events = [make_event() for _ in range(4)]
    store(events)
    store(events[1:3], "other")
    (page,) = move_all(sink)
    assert (page.read, page.moved) == (4, 4)
    assert ids_on("other") == [event.id for event in events]


def test_what_is_there_in_whole_is_not_written_again(sink):
    events = [make_event() for _ in range(2)]
    store(events)
    store(events, "other")

    def write(connection, events):
        raise AssertionError(events)

    forwarding.move_page(forwarding.waiting("default"), "other", write)
    assert ids_on("default") == []


def test_a_mover_that_was_slower_moves_the_rest(sink):
    """It thinks that the records are new, and another one has moved some of them."""
    events = [make_event() for _ in range(3)]
    store(events)
    store(events[:1], "other")
    written = []

    def write(connection, missing):
        written.append(len(missing))
        sink.write(connection, missing)

    page = forwarding.move_page(forwarding.waiting("default"), "other", write, new=True)
    assert written == [3, 2]
    assert page.moved == 3
    assert ids_on("other") == [event.id for event in events]


@pytest.mark.parametrize("size", [1, 3, 500])
def test_a_record_that_is_refused_stays_and_does_not_hold_up_the_others(sink, size):
    events = [make_event(event=name) for name in ("a", "b.refused", "c", "d", "e.refused", "f")]
    store(events)
    with refusing():
        pages = move_all(sink, batch_size=size)
    bad = [events[1].id, events[4].id]
    reasons = {key: why for page in pages for key, why in page.refused.items()}
    assert list(reasons) == bad
    assert all("no such events" in why for why in reasons.values())
    assert ids_on("default") == bad
    assert ids_on("other") == [event.id for event in events if event.id not in bad]


@pytest.mark.parametrize("kind", [IntegrityError, DataError, ValueError])
def test_a_refusal_is_told_by_its_first_line(sink, kind):
    event = make_event()
    store([event])

    def write(connection, events):
        raise kind("some rule of this database.\nDETAIL: a whole row")

    page = forwarding.move_page(forwarding.waiting("default"), "other", write, new=True)
    assert page.refused == {event.id: "some rule of this database"}
    assert (page.read, page.moved, ids_on("default")) == (1, 0, [event.id])


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError, ProgrammingError, OSError])
def test_a_database_that_is_away_or_not_ready_is_not_tried_for_each_record(sink, kind):
    store([make_event() for _ in range(3)])
    calls = []

    def write(connection, events):
        calls.append(len(events))
        raise kind(1, "away")

    with pytest.raises(kind):
        forwarding.move_page(forwarding.waiting("default"), "other", write)
    assert calls == [3]
    assert len(ids_on("default")) == 3


def test_half_of_a_batch_is_never_there(sink):
    store([make_event() for _ in range(4)])

    def write(connection, events):
        sink.write(connection, events[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forwarding.move_page(forwarding.waiting("default"), "other", write)
    assert ids_on("other") == []
    assert len(ids_on("default")) == 4


def test_a_record_that_is_no_event_stays_and_does_not_hold_up_the_others(sink):
    first, second = make_event(), make_event()
    store([first, second])
    with connections["default"].cursor() as cursor:
        table = AuditRecord._meta.db_table
        key = AuditRecord._meta.pk.get_db_prep_value(first.id, connections["default"])
        cursor.execute(f"UPDATE {table} SET outcome = 'strange' WHERE id = %s", [key])
    pages = move_all(sink, batch_size=1)
    assert [(page.moved, page.unreadable) for page in pages] == [(0, (first.id,)), (1, ())]
    assert ids_on("default") == [first.id]
    assert ids_on("other") == [second.id]


@pytest.mark.parametrize("alias", ["default", "other"])
def test_inside_a_transaction_nothing_is_moved(sink, alias):
    store([make_event()])
    with transaction.atomic(using=alias), pytest.raises(AuditError) as refused:
        move_all(sink)
    assert str(refused.value) == (
        f"Records cannot be moved while database {alias!r} is inside a transaction: they would "
        "share its fate. Move them after it has ended."
    )
    assert len(ids_on("default")) == 1


def test_what_a_replica_shows_is_not_its_own():
    store([make_event(database=alias) for alias in ("default", "other", "gone", None)])
    found = {record.database for record in forwarding.written_on("default")}
    assert found == {"default", "gone", None}


def test_a_sink_without_a_database_follows_nothing():
    sink = DatabaseSink(make_config())
    assert not sink.follows_commit
    sink.committed(connections["default"], [make_event().id], complete=True)
    assert counters.snapshot() == {}


def test_a_connection_that_cannot_even_be_closed_is_left(sink, monkeypatch, caplog):
    """The records wait, whatever the state of the other connection."""
    with another_alias("broken", "other") as broken:
        sink = DatabaseSink(make_config(), database=broken)
        store([make_event()])

        def fail(*args, **kwargs):
            raise InterfaceError("closed already")

        monkeypatch.setattr(connections[broken], "close", fail)
        monkeypatch.setattr(sink._forwarder, "write", fail)
        sink.committed(connections["default"], ids_on("default"), complete=True)
        monkeypatch.undo()
    assert len(ids_on("default")) == 1
    assert "could not move records" in caplog.text
