"""The database sink: each column, few statements, and rows that exist already."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit.event import Actor, Outcome
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink
from django_signal_audit.sinks import database as module
from tests.factories import make_config, make_event

pytestmark = pytest.mark.django_db

FULL = {
    "timestamp": datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC),
    "event": "model.update",
    "level": "warning",
    "outcome": Outcome.FAILURE,
    "sender": "shop.Order",
    "message": "naïve 🦆 'quoted' %s %(x)s",
    "object_type": "shop.order",
    "object_id": "5",
    "object_repr": "Order 5",
    "changes": {"total": ["1.00", "2.00"], "note": [None, "a"], "n": [1, 2.5], "on": [True, None]},
    "actor": Actor("user", "7", "ann"),
    "on_behalf_of": Actor("user", "8", "bob"),
    "reason": "because",
    "cause": uuid.UUID("01890000-0000-7000-8000-000000000001"),
    "duration_ms": 12.5,
    "error": {"type": "ValueError", "message": "no"},
    "context": {"ip": "127.0.0.1", "nested": {"a": [1, "ß"]}},
    "data": {"raw": True},
    "database": "default",
    "transaction": uuid.UUID("01890000-0000-7000-8000-000000000002"),
    "rolled_back": True,
}


@pytest.fixture
def sink():
    return DatabaseSink(make_config())


@pytest.fixture
def connection():
    return connections["default"]


def many(count, **values):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [make_event(timestamp=start + timedelta(seconds=n), **values) for n in range(count)]


def test_every_column_of_a_record_is_written():
    columns = [field.attname for field in AuditRecord._meta.concrete_fields]
    assert sorted(module.COLUMNS) == sorted(columns)
    assert [f.column for f in AuditRecord._meta.concrete_fields] == columns


def test_an_event_with_every_field_comes_back_as_it_was(sink, connection):
    event = make_event(**FULL)
    sink.write(connection, [event])
    assert AuditRecord.objects.get().to_event() == event


def test_an_event_with_the_least_comes_back_as_it_was(sink, connection):
    event = make_event(object_type=None, object_id=None, object_repr="", message="", sender="")
    sink.write(connection, [event])
    assert AuditRecord.objects.get().to_event() == event


def test_events_of_all_kinds_fit_in_one_statement(sink, connection):
    """PostgreSQL deduces one type for a column of all rows, NULL first or not."""
    events = [make_event(), make_event(**FULL), make_event(object_id=None)]
    sink.write(connection, events)
    found = {record.id: record.to_event() for record in AuditRecord.objects.all()}
    assert found == {event.id: event for event in events}


@pytest.mark.skipif("connections['default'].vendor != 'postgresql'", reason="a psycopg option")
@pytest.mark.django_db(transaction=True)
def test_parameters_may_be_bound_by_the_server(sink, monkeypatch):
    fresh = connections["default"].copy()
    fresh.settings_dict["OPTIONS"] = {"server_side_binding": True}
    events = [make_event(), make_event(**FULL)]
    try:
        sink.write(fresh, events)
    finally:
        fresh.close()
    assert {r.to_event().id for r in AuditRecord.objects.all()} == {e.id for e in events}


def test_an_event_that_is_stored_already_is_refused(sink, connection):
    event = make_event()
    sink.write(connection, [event])
    with pytest.raises(IntegrityError), transaction.atomic():
        sink.write(connection, [event])


def test_an_event_that_is_stored_already_can_be_left_as_it_is(sink, connection):
    first, second = many(2)
    sink.write(connection, [first])
    sink.write(connection, [first.as_rolled_back(), second], ignore_existing=True)
    assert list(AuditRecord.objects.order_by("id").values_list("id", "rolled_back")) == [
        (first.id, False),
        (second.id, False),
    ]


def test_many_events_take_few_statements(sink, connection, monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 100)
    with CaptureQueriesContext(connection) as captured:
        sink.write(connection, many(250))
    assert len(captured) == (1 if connection.vendor == "sqlite" else 3)
    assert AuditRecord.objects.count() == 250


def test_a_statement_stays_below_the_limits_of_every_database():
    assert len(module.COLUMNS) * module.MAX_ROWS < 65_535
    assert module.MAX_CHARACTERS * 4 < 16 * 1024 * 1024


def test_rows_are_cut_by_number(monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    assert [len(batch) for batch in module._cut(iter([["a"]] * 5))] == [2, 2, 1]


def test_rows_are_cut_by_size_and_a_large_one_goes_alone(monkeypatch):
    monkeypatch.setattr(module, "MAX_CHARACTERS", 10)
    rows = [["12345"], ["12345"], ["1"], ["12345678901234"], ["1"]]
    assert list(module._cut(iter(rows))) == [rows[0:2], rows[2:3], rows[3:4], rows[4:5]]


def test_no_rows_are_no_batch():
    assert list(module._cut(iter([]))) == []


@override_settings(USE_TZ=False)
def test_without_time_zones_the_moment_is_stored_in_local_time(sink, connection):
    fresh = connection if connection.vendor == "sqlite" else connections["default"]
    sink.write(fresh, [make_event(timestamp=datetime(2026, 7, 1, 12, 0, tzinfo=UTC))])
    (stored,) = AuditRecord.objects.values_list("timestamp", flat=True)
    local = stored if stored.tzinfo is None else stored.astimezone(UTC)
    expected = 14 if stored.tzinfo is None else 12  # Europe/Berlin
    assert (local.hour, local.minute) == (expected, 0)


def test_a_large_value_is_stored_whole(sink, connection):
    sink.write(connection, [make_event(data={"text": "x" * 100_000})])
    assert len(AuditRecord.objects.get().data["text"]) == 100_000
