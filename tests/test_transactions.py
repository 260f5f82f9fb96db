"""The transaction rules, on real connections: what is recorded, when, and what is not."""

# ruff: noqa: PT012 - blocks that fail are what is tested

from __future__ import annotations

import logging
import threading
import time
import tracemalloc
from contextlib import contextmanager

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models import Count, Exists, Max, OuterRef
from django.http import HttpResponse
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

from django_signal_audit import (
    audit_context,
    define_event,
    event_signal,
    outcomes,
    transactions,
    wrapping,
)
from django_signal_audit.exceptions import AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink, counters, routing
from django_signal_audit.sinks.base import Sink, TransactionalSink
from tests.databases import shared_database, without_records
from tests.testapp.models import Author, Book, Plain

pytestmark = pytest.mark.django_db(transaction=True)
both = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DATABASE = {"BACKEND": "django_signal_audit.sinks.DatabaseSink"}
MEMORY = {"BACKEND": "django_signal_audit.sinks.MemorySink"}


class FaultySink(DatabaseSink):
    """Writes the rows, then raises what a test asks for."""

    error: BaseException | None = None
    half = False

    def write(self, connection, events, *, ignore_existing=False):
        super().write(
            connection,
            events[: len(events) // 2] if self.half else events,
            ignore_existing=ignore_existing,
        )
        if FaultySink.error is not None:
            raise FaultySink.error


class ListSink(TransactionalSink):
    """A transactional sink that is no database table."""

    error: BaseException | None = None
    written: list = []  # noqa: RUF012 - emptied by each test

    def write(self, connection, events, *, ignore_existing=False):
        if ListSink.error is not None:
            raise ListSink.error
        ListSink.written.extend(events)


class BrokenSink(Sink):
    """Fails after COMMIT."""

    error: BaseException = RuntimeError("broken")

    def emit(self, events):
        raise BrokenSink.error


class NosySink(DatabaseSink):
    """Writes an audited model, in a block of its own, while it is writing records."""

    def write(self, connection, events, *, ignore_existing=False):
        with transaction.atomic(using=connection.alias):
            Author.objects.using(connection.alias).create(name="of the sink")
        super().write(connection, events, ignore_existing=ignore_existing)


@pytest.fixture(autouse=True)
def _clean_classes():
    FaultySink.error = ListSink.error = None
    FaultySink.half = False
    ListSink.written.clear()
    BrokenSink.error = RuntimeError("broken")


@pytest.fixture(autouse=True)
def _left_in_order():
    yield
    for alias in ("default", "other"):
        if not connections[alias].in_atomic_block:  # a TestCase's is still open
            assert connections[alias].autocommit or connections[alias].connection is None
            state = getattr(connections[alias], "_signal_audit_state", None)
            assert state is None or not state.buffer


def sinks(*, size=5000, **named):
    return override_settings(SIGNAL_AUDIT={"SINKS": named, "BUFFER_SIZE": size})


@contextmanager
def database_and_memory(size=5000):
    with sinks(size=size, default=DATABASE, memory=MEMORY):
        yield routing.all_routes()[1].sink


@contextmanager
def manual(using="default"):
    """Autocommit off, as in code that manages transactions itself."""
    transaction.set_autocommit(False, using=using)
    try:
        yield
    finally:
        transaction.rollback(using=using)
        transaction.set_autocommit(True, using=using)


@pytest.fixture
def disk(tmp_path, transactional_db):
    with shared_database(tmp_path) as alias:
        yield alias


@contextmanager
def second_connection(alias):
    fresh = connections[alias].copy()
    try:
        yield fresh
    finally:
        fresh.close()


def count_on(fresh, table):
    with fresh.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {table}")
        return cursor.fetchone()[0]


def act(message="act", **options):
    event_signal.send(sender="test", message=message, **options)


def told(using="default"):
    """What the records say, oldest first: event, text, and whether marked."""
    return [
        (r.event, r.message if r.event == "event" else r.object_repr, r.rolled_back)
        for r in AuditRecord.objects.using(using).order_by("id")
    ]


def created(*names):
    return [("model.create", name, False) for name in names]


def texts(events):
    return [e.message if e.event == "event" else e.object_repr for e in events]


class OursError(Exception):
    """Raised by tests to leave a block."""


# Before COMMIT, in the same transaction


def statements(captured):
    """The first word of each statement, with the table for an INSERT."""
    found = []
    for query in captured:
        sql = query["sql"].removeprefix("1 times: ")
        if "WHERE 0" not in sql:
            word, *rest = sql.split()
            found.append(f"{word} {rest[1]}" if word == "INSERT" else word)
    return found


INSERTS = [
    f"INSERT {connection.ops.quote_name(model._meta.db_table)}" for model in (Author, AuditRecord)
]


def test_records_are_inserted_in_the_transaction_of_the_change():
    Author.objects.create(name="connects")
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        Author.objects.create(name="a")
    assert statements(captured) == ["BEGIN", *INSERTS, "COMMIT"]


def test_a_save_in_autocommit_is_one_transaction_with_its_record():
    Author.objects.create(name="connects")
    with CaptureQueriesContext(connection) as captured:
        Author.objects.create(name="a")
    assert statements(captured) == ["BEGIN", *INSERTS, "COMMIT"]


def test_many_changes_are_written_by_one_flush():
    Author.objects.create(name="connects")
    with transaction.atomic():
        for number in range(20):
            Author.objects.create(name=str(number))
        state = wrapping.state_of(connection)
        assert [entry.flush for entry in state.buffer._entries] == [0] * 20
    assert told() == created("connects", *map(str, range(20)))


@both
def test_other_connections_see_the_row_and_its_record_together(disk):
    with second_connection(disk) as fresh:
        with transaction.atomic(using=disk):
            Author.objects.using(disk).create(name="a")
            assert list(AuditRecord.objects.using(disk).values_list("object_repr")) == [("a",)]
            assert count_on(fresh, AuditRecord._meta.db_table) == 0
            assert count_on(fresh, Author._meta.db_table) == 0
        assert count_on(fresh, AuditRecord._meta.db_table) == 1
        assert count_on(fresh, Author._meta.db_table) == 1


def test_the_events_of_one_transaction_carry_its_id():
    with transaction.atomic():
        Author.objects.create(name="a")
        Author.objects.create(name="b")
    Author.objects.create(name="c")
    first, second, third = AuditRecord.objects.order_by("id").values_list("transaction", flat=True)
    assert first == second is not None
    assert third not in {None, first}


def test_a_transaction_without_events_leaves_its_id_to_no_other():
    with manual():
        transactions.transaction_id(connection)
        transaction.set_autocommit(True)
        transaction.set_autocommit(False)
        assert wrapping.state_of(connection).transaction_id is None


def test_other_sinks_follow_the_commit_and_precede_the_users_hooks():
    seen = []
    with database_and_memory() as memory:
        with transaction.atomic():
            Author.objects.create(name="a")
            transaction.on_commit(lambda: seen.append(texts(memory.events)))
            assert memory.events == []
        assert texts(memory.events) == ["a"]
    assert seen == [["a"]]


def test_a_raising_on_commit_hook_takes_nothing_from_our_sinks():
    with database_and_memory() as memory:
        with pytest.raises(OursError), transaction.atomic():
            transaction.on_commit(lambda: (_ for _ in ()).throw(OursError))
            Author.objects.create(name="a")
        assert texts(memory.events) == ["a"]
    assert told() == created("a")


def test_the_users_hooks_are_alone_in_their_list():
    with transaction.atomic():
        Author.objects.create(name="a")
        act()
        transaction.on_commit(lambda: None)
        assert len(connection.run_on_commit) == 1


# Nothing from what was rolled back


def test_nothing_is_left_of_a_rolled_back_transaction():
    with database_and_memory() as memory:
        with pytest.raises(OursError), transaction.atomic():
            Author.objects.create(name="a")
            raise OursError
        assert memory.events == []
    assert told() == []


def test_nothing_is_left_of_a_transaction_that_is_set_to_roll_back():
    with transaction.atomic():
        Author.objects.create(name="a")
        transaction.set_rollback(True)
    assert told() == []


def test_nothing_is_left_of_a_change_the_database_refuses():
    with pytest.raises(IntegrityError), transaction.atomic():
        Book.objects.create(title=None)
    assert told() == []


def test_nothing_is_left_of_a_rolled_back_savepoint():
    with database_and_memory() as memory:
        with transaction.atomic():
            Author.objects.create(name="a")
            with pytest.raises(OursError), transaction.atomic():
                Author.objects.create(name="b")
                raise OursError
            Author.objects.create(name="c")
        assert texts(memory.events) == ["a", "c"]
    assert told() == created("a", "c")


def test_nothing_is_left_of_a_manual_savepoint_that_is_rolled_back():
    with database_and_memory() as memory:
        with transaction.atomic():
            Author.objects.create(name="a")
            savepoint = connection.savepoint()
            Author.objects.create(name="b")
            transaction.savepoint_rollback(savepoint)
            Author.objects.create(name="c")
            transaction.savepoint_rollback(savepoint)
            Author.objects.create(name="d")
            transaction.savepoint_commit(savepoint)
        assert texts(memory.events) == ["a", "d"]
    assert told() == created("a", "d")


def test_an_inner_block_that_committed_goes_with_the_outer_savepoint():
    with transaction.atomic():
        with pytest.raises(OursError), transaction.atomic():
            with transaction.atomic():
                Author.objects.create(name="inner")
            raise OursError
        Author.objects.create(name="after")
    assert told() == created("after")


def test_a_savepoint_that_was_set_before_the_first_event_is_known():
    with transaction.atomic():
        with pytest.raises(OursError), transaction.atomic():
            with pytest.raises(OursError), transaction.atomic():
                Author.objects.create(name="a")
                raise OursError
            Author.objects.create(name="b")
            raise OursError
        Author.objects.create(name="c")
    assert told() == created("c")


def test_a_block_without_a_savepoint_dooms_the_outer_block():
    with transaction.atomic():
        Author.objects.create(name="a")
        with pytest.raises(OursError), transaction.atomic(savepoint=False):
            Author.objects.create(name="b")
            raise OursError
    assert told() == []


def test_a_block_without_a_savepoint_that_ends_well_changes_nothing():
    with transaction.atomic():
        Author.objects.create(name="a")
        with transaction.atomic(savepoint=False):
            Author.objects.create(name="b")
    assert told() == created("a", "b")


def test_a_durable_block_records_at_its_end():
    with transaction.atomic(durable=True):
        Author.objects.create(name="a")
    assert told() == created("a")


@both
def test_each_alias_has_its_own_transaction():
    with transaction.atomic():
        Author.objects.create(name="here")
        with pytest.raises(OursError), transaction.atomic(using="other"):
            Author.objects.using("other").create(name="there")
            raise OursError
        with transaction.atomic(using="other"):
            Author.objects.using("other").create(name="there again")
        assert told("other") == created("there again")
    assert told() == created("here")


def failing_view(request):
    Author.objects.create(name="a")
    act("attempt")
    raise OursError


def good_view(request):
    Author.objects.create(name="a")
    return HttpResponse()


urlpatterns = [path("fail/", failing_view), path("good/", good_view)]


@override_settings(ROOT_URLCONF="tests.test_transactions")
def test_an_error_under_atomic_requests_leaves_only_the_custom_event(client, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    with pytest.raises(OursError):
        client.get("/fail/")
    assert Author.objects.count() == 0
    assert told() == [("event", "attempt", True)]


@override_settings(ROOT_URLCONF="tests.test_transactions")
def test_a_view_that_ends_well_under_atomic_requests_is_recorded(client, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client.get("/good/")
    assert told() == created("a")


# Transactions managed by hand


def test_a_manual_commit_records():
    with database_and_memory() as memory:
        with manual():
            Author.objects.create(name="a")
            assert memory.events == []
            transaction.commit()
            assert texts(memory.events) == ["a"]
            Author.objects.create(name="b")
            transaction.commit()
        assert texts(memory.events) == ["a", "b"]
    assert told() == created("a", "b")


def test_a_manual_rollback_leaves_nothing():
    with database_and_memory() as memory:
        with manual():
            Author.objects.create(name="a")
            transaction.rollback()
            Author.objects.create(name="b")
            transaction.commit()
        assert texts(memory.events) == ["b"]
    assert told() == created("b")


@pytest.mark.skipif("connection.vendor == 'postgresql'", reason="psycopg refuses it")
def test_turning_autocommit_on_commits_the_records_too():
    with database_and_memory() as memory:
        transaction.set_autocommit(False)
        Author.objects.create(name="a")
        transaction.set_autocommit(True)
        assert texts(memory.events) == ["a"]
    assert Author.objects.count() == 1
    assert told() == created("a")


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="others commit")
def test_autocommit_that_cannot_be_turned_on_leaves_the_transaction_as_it_is():
    with database_and_memory() as memory:
        with manual():
            Author.objects.create(name="a")
            with pytest.raises(DatabaseError):
                transaction.set_autocommit(True)
            assert memory.events == []
            transaction.commit()
        assert texts(memory.events) == ["a"]
    assert told() == created("a")


@pytest.mark.skipif("connection.vendor == 'postgresql'", reason="psycopg refuses it")
def test_turning_autocommit_off_again_commits_nothing():
    with database_and_memory() as memory:
        with manual():
            Author.objects.create(name="a")
            transaction.set_autocommit(False)
            assert memory.events == []
            transaction.rollback()
            Author.objects.create(name="b")
            transaction.commit()
        assert texts(memory.events) == ["b"]
    assert told() == created("b")


def test_a_savepoint_that_the_database_does_not_know_takes_nothing_back(monkeypatch):
    monkeypatch.setattr(connections["default"], "_savepoint_allowed", lambda: False)
    with transaction.atomic():
        Author.objects.create(name="a")
        savepoint = connection.savepoint()
        assert savepoint is None
        Author.objects.create(name="b")
        transaction.savepoint_rollback(savepoint)
        transaction.savepoint_commit(savepoint)
    assert told() == created("a", "b")


def test_a_block_inside_a_manual_transaction_is_a_savepoint():
    with database_and_memory() as memory:
        with manual():
            Author.objects.create(name="a")
            with pytest.raises(OursError), transaction.atomic():
                Author.objects.create(name="b")
                raise OursError
            with transaction.atomic():
                Author.objects.create(name="c")
            transaction.commit()
        assert texts(memory.events) == ["a", "c"]
    assert told() == created("a", "c")


def test_a_block_that_begins_a_manual_transaction_keeps_rows_and_records_together():
    """On SQLite its savepoint is the transaction, and its release is a COMMIT."""
    with database_and_memory() as memory:
        with manual():
            with transaction.atomic():
                Author.objects.create(name="a")
            transaction.rollback()
        names = list(Author.objects.values_list("name", flat=True))
        assert names == (["a"] if connection.vendor == "sqlite" else [])
        assert texts(memory.events) == names
    assert told() == created(*names)


def test_a_block_that_begins_a_manual_transaction_and_fails_leaves_nothing():
    with manual():
        with pytest.raises(OursError), transaction.atomic():
            Author.objects.create(name="a")
            raise OursError
        Author.objects.create(name="b")
        transaction.commit()
    assert told() == created("b")


def test_a_custom_event_in_a_manual_transaction_survives_its_rollback():
    with manual():
        act("tried")
        assert told() == [("event", "tried", False)]
        transaction.rollback()
    assert told() == [("event", "tried", True)]


def test_with_the_policy_log_too_a_manual_rollback_takes_back_what_was_read():
    """On SQLite the savepoint around the INSERT must not be the transaction."""
    with sinks(default={**DATABASE, "ON_ERROR": "log"}), manual():
        act("tried")
        assert told() == [("event", "tried", False)]
        transaction.rollback()
        assert told() == [("event", "tried", True)]


# Reading your own trail


READS = {
    "list": lambda q: len(list(q)),
    "count": lambda q: q.count(),
    "exists": lambda q: int(q.exists()),
    "aggregate": lambda q: q.aggregate(n=Count("id"))["n"],
    "iterator": lambda q: len(list(q.iterator())),
    "values": lambda q: len(q.values("id")),
    "values_list": lambda q: len(q.values_list("id", flat=True)),
    "first": lambda q: int(q.order_by("id").first() is not None),
    "get": lambda q: int(bool(q.get())),
    "subquery": lambda q: Author.objects.filter(name__in=q.values("object_repr")).count(),
    "exists_subquery": lambda q: Author.objects.filter(
        Exists(q.filter(object_repr=OuterRef("name")))
    ).count(),
    "in_bulk": lambda q: len(q.in_bulk()),
    "union": lambda q: len(q.union(q)),
}


@pytest.mark.parametrize("read", READS)
def test_a_query_inside_the_transaction_sees_its_events(read):
    with transaction.atomic():
        Author.objects.create(name="a")
        assert READS[read](AuditRecord.objects.all()) == 1
    assert told() == created("a")


@pytest.mark.parametrize("read", READS)
def test_a_savepoint_rollback_takes_back_what_a_query_saw(read):
    with transaction.atomic():
        with pytest.raises(OursError), transaction.atomic():
            Author.objects.create(name="a")
            assert READS[read](AuditRecord.objects.all()) == 1
            raise OursError
        assert AuditRecord.objects.count() == 0
    assert told() == []


def test_what_was_read_inside_a_savepoint_is_written_again_after_its_rollback():
    with transaction.atomic():
        Author.objects.create(name="a")
        with pytest.raises(OursError), transaction.atomic():
            Author.objects.create(name="b")
            assert AuditRecord.objects.count() == 2
            raise OursError
        assert told() == created("a")
        Author.objects.create(name="c")
        assert told() == created("a", "c")
    assert told() == created("a", "c")


def test_reading_writes_the_events_of_the_alias_that_is_read_only():
    with transaction.atomic():
        Author.objects.create(name="a")
        transactions.flush_before_read("default")
        state = wrapping.state_of(connection)
        assert [entry.flush for entry in state.buffer._entries] == [1]
        transactions.flush_before_read("default")
        assert AuditRecord.objects.aggregate(last=Max("object_repr"))["last"] == "a"


def test_reading_in_a_broken_transaction_raises_what_django_raises():
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        Author.objects.create(name="a")
        connection.needs_rollback = True
        AuditRecord.objects.count()
    assert told() == []


def test_a_failing_flush_on_read_dooms_the_transaction():
    with sinks(default={"BACKEND": FaultySink}):
        with transaction.atomic():
            Author.objects.create(name="a")
            FaultySink.error = RuntimeError("no")
            with pytest.raises(AuditSinkError, match="'default'"):
                AuditRecord.objects.count()
            FaultySink.error = None
            assert connection.needs_rollback
        assert Author.objects.count() == 0
        assert told() == []


def test_a_flush_that_failed_half_way_on_read_can_be_undone_by_its_savepoint():
    with sinks(default={"BACKEND": FaultySink}):
        with transaction.atomic():
            Author.objects.create(name="a")
            with transaction.atomic():
                Author.objects.create(name="b")
                FaultySink.error, FaultySink.half = RuntimeError("no"), True
                with pytest.raises(AuditSinkError):
                    AuditRecord.objects.count()
                FaultySink.error, FaultySink.half = None, False
            Author.objects.create(name="c")
        assert told() == created("a", "c")


# Custom events survive


def test_a_custom_event_survives_a_rollback_marked_and_once():
    with database_and_memory() as memory:
        with pytest.raises(OursError), transaction.atomic():
            Author.objects.create(name="a")
            act("tried")
            raise OursError
        assert told() == [("event", "tried", True)]
        (event,) = memory.events
    assert event.rolled_back
    assert event.id == AuditRecord.objects.get().id


def test_a_custom_event_survives_a_savepoint_rollback_marked_and_in_order():
    with database_and_memory() as memory:
        with transaction.atomic():
            act("before")
            with pytest.raises(OursError), transaction.atomic():
                act("tried")
                assert ("event", "tried", False) in told()
                first = AuditRecord.objects.get(message="tried").id
                raise OursError
            act("after")
        assert [(e.message, e.rolled_back) for e in memory.events] == [
            ("before", False),
            ("tried", True),
            ("after", False),
        ]
    assert [(t[1], t[2]) for t in told()] == [("before", False), ("tried", True), ("after", False)]
    assert AuditRecord.objects.get(message="tried").id == first


def test_a_custom_event_survives_both_its_savepoint_and_its_transaction():
    with pytest.raises(OursError), transaction.atomic():
        with pytest.raises(OursError), transaction.atomic():
            act("tried")
            raise OursError
        raise OursError
    assert told() == [("event", "tried", True)]


def test_a_custom_event_outside_of_a_transaction_is_written_at_once():
    with database_and_memory() as memory:
        act("now")
        assert texts(memory.events) == ["now"]
    assert told() == [("event", "now", False)]
    assert AuditRecord.objects.get().transaction is None


def test_a_custom_event_survives_a_failed_flush():
    with sinks(
        default={"BACKEND": FaultySink, "EVENTS": ["model.*"]},
        acts={**DATABASE, "EVENTS": ["event"]},
    ):
        FaultySink.error = RuntimeError("no")
        with pytest.raises(AuditSinkError), transaction.atomic():
            Author.objects.create(name="a")
            act("tried")
    assert told() == [("event", "tried", True)]


def let_the_server_cut(cut):
    """End a connection from another one, as an administrator would."""
    if cut.vendor == "postgresql":
        statement, number = "SELECT pg_terminate_backend(%s)", cut.connection.info.backend_pid
    else:
        statement, number = "KILL %s", cut.connection.thread_id()
    with second_connection(cut.alias) as fresh, fresh.cursor() as cursor:
        cursor.execute(statement, [number])


has_a_server = pytest.mark.skipif("connection.vendor == 'sqlite'", reason="has no server")


@has_a_server
def test_custom_events_are_written_through_a_new_connection_when_the_server_cut_this_one():
    with pytest.raises(DatabaseError), transaction.atomic():
        Author.objects.create(name="a")
        act("tried")
        let_the_server_cut(connection)
        Author.objects.count()
    assert Author.objects.count() == 0
    assert told() == [("event", "tried", True)]


@has_a_server
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_connection_that_is_cut_before_commit_leaves_only_custom_events(by_hand):
    with database_and_memory() as memory:
        with pytest.raises(DatabaseError), manual() if by_hand else transaction.atomic():
            Author.objects.create(name="a")
            act("tried")
            let_the_server_cut(connection)
            if by_hand:
                transaction.commit()
        assert texts(memory.events) == ["tried"]
    connection.close()
    assert Author.objects.count() == 0
    assert told() == [("event", "tried", True)]


@has_a_server
def test_a_connection_that_is_cut_at_commit_leaves_rows_and_records_together(monkeypatch):
    """The records are written already; whether the COMMIT arrives, nobody can know."""
    connection.ensure_connection()
    commit = connection._commit

    def cut_then_commit():
        let_the_server_cut(connection)
        commit()

    monkeypatch.setattr(connection, "_commit", cut_then_commit)
    with database_and_memory() as memory:
        with pytest.raises(DatabaseError), transaction.atomic():
            Author.objects.create(name="a")
            act("tried")
        assert texts(memory.events) == ["tried"]
    monkeypatch.undo()
    assert Author.objects.count() == 0
    assert told() == [("event", "tried", True)]


@both
def test_custom_events_are_written_through_a_new_connection_when_this_one_is_closed(disk):
    with transaction.atomic(using=disk):
        Author.objects.using(disk).create(name="a")
        act("tried", using=disk)
        connections[disk].close()
    assert Author.objects.using(disk).count() == 0
    assert told(disk) == [("event", "tried", True)]


@both
def test_a_custom_event_after_close_inside_a_block_is_not_left_to_the_next_transaction(disk):
    with database_and_memory() as memory:
        with transaction.atomic(using=disk):
            connections[disk].close()
            act("tried", using=disk)
        assert texts(memory.events) == ["tried"]
    assert not wrapping.state_of(connections[disk]).buffer
    assert told(disk) == [("event", "tried", True)]


@both
def test_what_a_sink_wrote_before_it_failed_on_a_new_connection_is_undone(disk):
    with sinks(default={"BACKEND": FaultySink}):
        with transaction.atomic(using=disk):
            act("tried", using=disk)
            FaultySink.error = RuntimeError("no")
            connections[disk].close()
        assert counters.snapshot() == {"default": {"emitted": 1, "failed": 1, "lost": 1}}
    assert told(disk) == []


@both
def test_custom_events_are_written_when_a_manual_transaction_is_closed(disk):
    transaction.set_autocommit(False, using=disk)
    Author.objects.using(disk).create(name="a")
    act("tried", using=disk)
    connections[disk].close()
    assert Author.objects.using(disk).count() == 0
    assert told(disk) == [("event", "tried", True)]


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="Django closes all others")
def test_closing_an_in_memory_database_ends_nothing():
    with transaction.atomic():
        Author.objects.create(name="a")
        connection.close()
    assert told() == created("a")


# A COMMIT that fails


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="others refuse no COMMIT")
def test_a_refused_manual_commit_leaves_no_event_to_the_next_transaction():
    with database_and_memory() as memory:
        with manual():
            act("tried")
            Book.objects.create(title="b", author_id=404)
            with pytest.raises(IntegrityError):
                transaction.commit()
            Author.objects.create(name="next")
            transaction.commit()
        assert texts(memory.events) == ["tried", "next"]
    assert told() == [("event", "tried", True), *created("next")]


def test_a_refused_commit_of_a_block_leaves_only_custom_events():
    with pytest.raises(IntegrityError), transaction.atomic():
        act("tried")
        Book.objects.create(title="b", author_id=404)
    assert Book.objects.count() == 0
    assert told() == [("event", "tried", True)]


def test_an_interrupted_rollback_does_not_let_the_change_commit(monkeypatch):
    state = wrapping.state_of(connection)
    original = state.original["rollback"]
    calls = []

    def interrupted():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        original()

    monkeypatch.setitem(state.original, "rollback", interrupted)
    with pytest.raises(KeyboardInterrupt), transaction.atomic():
        Author.objects.create(name="a")
        raise OursError
    assert Author.objects.count() == 0
    assert told() == []


# Sinks that fail

ERRORS = [
    TypeError("odd"),
    RuntimeError("no"),
    DatabaseError("gone"),
    KeyboardInterrupt(),
    SystemExit(),
]


def write_in_autocommit():
    Author.objects.create(name="a")


def write_in_a_block():
    with transaction.atomic():
        Author.objects.create(name="a")


def write_in_nested_blocks():
    with transaction.atomic():
        Author.objects.create(name="a")
        with transaction.atomic():
            Author.objects.create(name="b")


def write_by_hand():
    with manual():
        Author.objects.create(name="a")
        transaction.commit()


def write_by_hand_and_turn_autocommit_on():
    transaction.set_autocommit(False)
    try:
        Author.objects.create(name="a")
        transaction.set_autocommit(True)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def write_in_a_block_by_hand():
    with manual():
        with transaction.atomic():
            Author.objects.create(name="a")
        transaction.commit()


def write_in_bulk():
    Author.objects.bulk_create([Author(name="a"), Author(name="b")])


WRITES = [
    write_in_autocommit,
    write_in_a_block,
    write_in_nested_blocks,
    write_by_hand,
    write_by_hand_and_turn_autocommit_on,
    write_in_a_block_by_hand,
    write_in_bulk,
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("backend", [FaultySink, ListSink])
def test_a_row_is_never_committed_without_its_record(write, error, backend):
    backend.error = error
    expected = AuditSinkError if isinstance(error, Exception) else type(error)
    with sinks(default={"BACKEND": backend}):
        with pytest.raises(expected):
            write()
        backend.error = None
        assert Author.objects.count() == 0
        assert told() == []
        Author.objects.create(name="usable")
    assert Author.objects.count() == 1


def test_the_error_names_the_sink_and_what_to_do():
    with (
        without_records(),
        sinks(ledger=DATABASE),
        pytest.raises(AuditSinkError, match=r"'ledger' \(DatabaseSink\).*migrate.*ON_ERROR"),
    ):
        Author.objects.create(name="a")


@pytest.mark.parametrize("write", WRITES)
def test_without_the_table_a_change_is_rolled_back(write):
    with without_records():
        with pytest.raises(AuditSinkError, match="'default'"):
            write()
        assert Author.objects.count() == 0
    Author.objects.create(name="usable")
    assert told() == created("usable")


@pytest.mark.parametrize("write", WRITES)
def test_with_the_policy_log_a_change_stays_without_the_table(write, caplog):
    if write is write_by_hand_and_turn_autocommit_on and connection.vendor == "postgresql":
        pytest.skip("psycopg refuses it")
    with (
        without_records(),
        sinks(default={**DATABASE, "ON_ERROR": "log"}),
        caplog.at_level(logging.ERROR, "django_signal_audit"),
    ):
        write()
        lost = counters.snapshot()["default"]["lost"]
        assert lost == Author.objects.count() > 0
    assert "Audit sink 'default' (DatabaseSink) lost" in caplog.text


def test_a_loss_is_logged_with_the_id_of_the_event(caplog):
    with sinks(default={"BACKEND": FaultySink, "ON_ERROR": "log"}, memory=MEMORY):
        FaultySink.error = RuntimeError("no")
        with caplog.at_level(logging.ERROR, "django_signal_audit"):
            Author.objects.create(name="a")
        (event,) = routing.all_routes()[1].sink.events
        assert str(event.id) in caplog.text
        assert counters.snapshot() == {
            "default": {"emitted": 1, "failed": 1, "lost": 1},
            "memory": {"emitted": 1, "written": 1},
        }
    assert told() == []


def test_a_block_goes_on_after_a_logged_loss():
    with without_records(), sinks(default={**DATABASE, "ON_ERROR": "log"}), transaction.atomic():
        Author.objects.create(name="a")
        transactions.flush_before_read("default")
        Author.objects.create(name="b")
    assert Author.objects.count() == 2


def test_a_custom_event_that_cannot_be_written_is_counted_when_the_transaction_fails(caplog):
    with without_records():
        with pytest.raises(OursError), transaction.atomic():
            act("tried")
            raise OursError
        assert counters.snapshot() == {"default": {"emitted": 1, "failed": 1, "lost": 1}}
        assert connection.autocommit
    assert "lost 1 event" in caplog.text


def test_a_rollback_that_fails_once_a_custom_event_is_lost_hides_no_error(monkeypatch, caplog):
    state = wrapping.state_of(connection)
    original = state.original["rollback"]
    calls = []

    def fails_the_second_time():
        original()
        calls.append(1)
        if len(calls) == 2:
            raise OperationalError("gone")

    monkeypatch.setitem(state.original, "rollback", fails_the_second_time)
    with sinks(default={"BACKEND": FaultySink}):
        with pytest.raises(OursError), transaction.atomic():
            act("tried")
            FaultySink.error = RuntimeError("no")
            raise OursError
        assert counters.snapshot() == {"default": {"emitted": 1, "failed": 1, "lost": 1}}
    assert len(calls) == 2
    assert "A connection could not be rolled back." in caplog.text
    assert told() == []


def test_with_the_policy_log_a_custom_event_outside_of_a_transaction_is_counted(caplog):
    with sinks(default={"BACKEND": ListSink, "ON_ERROR": "log"}):
        act("written")
        ListSink.error = RuntimeError("no")
        act("lost")
        assert counters.snapshot() == {
            "default": {"emitted": 2, "failed": 1, "written": 1, "lost": 1}
        }
    assert texts(ListSink.written) == ["written"]
    assert "Audit sink 'default' (ListSink) lost 1 event" in caplog.text


def test_a_sink_that_fails_after_commit_stops_no_other(caplog):
    with sinks(broken={"BACKEND": BrokenSink}, memory=MEMORY, default=DATABASE):
        Author.objects.create(name="a")
        assert texts(routing.all_routes()[1].sink.events) == ["a"]
        assert counters.snapshot()["broken"] == {"emitted": 1, "failed": 1, "lost": 1}
    assert told() == created("a")
    assert "Audit sink 'broken' (BrokenSink) lost" in caplog.text


def test_an_interrupt_in_a_sink_after_commit_is_raised_when_the_others_are_done():
    BrokenSink.error = KeyboardInterrupt()
    with sinks(broken={"BACKEND": BrokenSink}, memory=MEMORY, default=DATABASE):
        with pytest.raises(KeyboardInterrupt):
            Author.objects.create(name="a")
        assert texts(routing.all_routes()[1].sink.events) == ["a"]
    assert Author.objects.count() == 1
    assert told() == created("a")


def test_one_transactional_sink_that_logs_takes_nothing_from_the_other():
    FaultySink.error = RuntimeError("no")
    with sinks(faulty={"BACKEND": FaultySink, "ON_ERROR": "log"}, default=DATABASE):
        Author.objects.create(name="a")
    assert told() == created("a")


def test_what_a_sink_writes_is_not_audited():
    with sinks(default={"BACKEND": NosySink}):
        with transaction.atomic():
            Author.objects.create(name="a")
        assert Author.objects.filter(name="of the sink").count() == 1
        Author.objects.create(name="b")
        act("now")
    assert [t[1] for t in told()] == ["a", "b", "now"]


def test_a_sink_may_use_savepoints_while_a_large_transaction_is_flushed():
    with sinks(size=2, default={"BACKEND": NosySink}), transaction.atomic():
        for number in range(5):
            Author.objects.create(name=str(number))
    assert told() == created(*"01234")


def test_settings_that_are_gone_at_the_flush_do_not_break_it(caplog):
    signal = define_event("special.one", sinks=["special"])
    with transaction.atomic():
        with sinks(special=MEMORY):
            signal.send(sender="test")
        with caplog.at_level(logging.WARNING, "django_signal_audit"):
            assert AuditRecord.objects.count() == 0
    assert "goes nowhere" in caplog.text


def test_wrong_settings_do_not_break_transactions_without_events():
    wrapping.state_of(connection)
    with override_settings(SIGNAL_AUDIT={"SINK": {}}), transaction.atomic():
        Plain._base_manager.count()


# Bounded memory


def names_in(using="default"):
    return list(
        AuditRecord.objects.using(using).order_by("id").values_list("object_repr", flat=True)
    )


def write_many(count, chunk=500):
    for start in range(0, count, chunk):
        Author.objects.bulk_create([Author(name=str(n)) for n in range(start, start + chunk)])


@contextmanager
def peak():
    """The most memory that was taken inside, in bytes."""
    found = []
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_a_large_transaction_is_held_in_bounded_memory_and_recorded_once():
    with database_and_memory(size=500) as memory:
        seen = []
        memory.emit = lambda events: seen.extend(e.object_repr for e in events)
        with transaction.atomic():
            write_many(22_000)
            state = wrapping.state_of(connection)
            assert len(state.buffer._entries) < 500
            with peak() as found:  # tracing is slow
                write_many(8000)
        expected = [str(n) for n in (*range(22_000), *range(8000))]
        assert seen == expected
    assert names_in() == expected
    # Holding the last 8,000 events takes more than 11 MB.
    assert found[0] < 8_000_000


def test_a_large_transaction_without_a_database_sink_waits_in_a_file():
    with sinks(size=500, memory=MEMORY):
        with transaction.atomic():
            write_many(3000)
            state = wrapping.state_of(connection)
            assert len(state.buffer._entries) < 500
        assert texts(routing.all_routes()[0].sink.events) == [str(n) for n in range(3000)]


def test_a_large_transaction_that_is_rolled_back_leaves_only_its_custom_events():
    with database_and_memory(size=50) as memory:
        with pytest.raises(OursError), transaction.atomic():
            act("first")
            write_many(300, 100)
            act("last")
            raise OursError
        assert texts(memory.events) == ["first", "last"]
        assert all(e.rolled_back for e in memory.events)
    assert told() == [("event", "first", True), ("event", "last", True)]


@pytest.mark.parametrize("memory_too", [True, False])
def test_savepoints_are_rolled_back_exactly_around_spills(memory_too):
    """Some savepoints are set before the first spill, some after; some hold several spills."""
    expected = []
    named = {"default": DATABASE, **({"memory": MEMORY} if memory_too else {})}
    with sinks(size=7, **named):
        with transaction.atomic():
            for turn, inside in enumerate([3, 2, 20, 5, 30, 1]):
                Author.objects.create(name=f"{turn}-before")
                expected.append(f"{turn}-before")
                with pytest.raises(OursError), transaction.atomic():
                    for number in range(inside):
                        Author.objects.create(name=f"{turn}-undone-{number}")
                    raise OursError
                with transaction.atomic():
                    for number in range(inside):
                        Author.objects.create(name=f"{turn}-kept-{number}")
                        expected.append(f"{turn}-kept-{number}")
        assert names_in() == expected
        if memory_too:
            assert texts(routing.all_routes()[1].sink.events) == expected
    assert sorted(Author.objects.values_list("name", flat=True)) == sorted(expected)


def test_after_a_spill_events_are_written_before_each_savepoint():
    """So that no savepoint can unwrite them, and they need not be kept."""
    with sinks(size=3, default=DATABASE), transaction.atomic():
        for number in range(3):
            Author.objects.create(name=str(number))
        Author.objects.create(name="3")
        with transaction.atomic():
            for number in range(4, 6):
                Author.objects.create(name=str(number))
            assert wrapping.state_of(connection).buffer._chunks == []
    assert told() == created(*"012345")


def test_a_new_buffer_size_counts_from_the_next_transaction():
    Author.objects.create(name="connects")
    with sinks(size=2, default=DATABASE), transaction.atomic():
        for number in range(5):
            Author.objects.create(name=str(number))
        assert wrapping.state_of(connection).buffer.has_spilled
    assert told() == created("connects", *"01234")


def test_a_failing_early_flush_dooms_the_block():
    with sinks(size=2, default={"BACKEND": FaultySink}):
        with transaction.atomic():
            act("one")
            FaultySink.error = RuntimeError("no")
            with pytest.raises(AuditSinkError):
                act("two")
            FaultySink.error = None
            assert connection.needs_rollback
        assert told() == [("event", "one", True), ("event", "two", True)]


# Threads


@both
def test_threads_have_transactions_of_their_own(disk):
    started, read = threading.Event(), threading.Event()
    errors = []

    def other():
        try:
            with transaction.atomic(using=disk):
                started.wait(10)
                read.set()
        except BaseException as exc:  # noqa: BLE001 - shown by the assertion below
            errors.append(exc)
        finally:
            connections[disk].close()

    thread = threading.Thread(target=other)
    thread.start()
    with transaction.atomic(using=disk):
        Author.objects.using(disk).create(name="a")
        started.set()
        assert read.wait(10)
        assert told(disk) == created("a")
    thread.join()
    assert errors == []


def test_the_context_of_the_change_counts_not_that_of_the_commit():
    with transaction.atomic(), audit_context(actor="importer"):
        Author.objects.create(name="a")
    assert AuditRecord.objects.get().actor_id == "importer"


def test_a_bare_transaction_costs_almost_nothing():
    wrapping.state_of(connection)
    start = time.perf_counter()
    for _ in range(1000):
        with transaction.atomic():
            pass
    assert time.perf_counter() - start < 5


# Inside a TestCase, whose transaction is never committed


class TestInATestCase(TestCase):
    def test_events_can_be_read_and_the_final_rollback_is_no_failure(self):
        with database_and_memory() as memory:
            Author.objects.create(name="a")
            act("done")
            assert [t[1] for t in told()] == ["a", "done"]
            state = wrapping.state_of(connection)
            assert state.of_testcase
            outcomes.end_in_failure(connection, state, usable=True)
            assert not state.buffer
            assert memory.events == []

    def test_a_failed_block_still_marks_its_custom_events(self):
        with pytest.raises(OursError), transaction.atomic():
            Author.objects.create(name="a")
            act("tried")
            raise OursError
        assert told() == [("event", "tried", True)]

    def test_hooks_are_counted_as_without_the_package(self):
        with self.captureOnCommitCallbacks() as callbacks:
            Author.objects.create(name="a")
            act()
            with transaction.atomic():
                transaction.on_commit(lambda: None)
                AuditRecord.objects.count()
        assert len(callbacks) == 1


class TestAfterATestCase(TestCase):
    """The final rollback of a TestCase discards everything, in whatever order tests run."""

    @classmethod
    def setUpTestData(cls):
        Author.objects.create(name="of the class")
        act("of the class")

    def test_one(self):
        Author.objects.create(name="one")
        assert [t[1] for t in told()] == ["of the class", "of the class", "one"]

    def test_two(self):
        act("two")
        assert [t[1] for t in told()] == ["of the class", "of the class", "two"]

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        assert not wrapping.state_of(connection).buffer


# What the caller is told


@pytest.fixture
def faulty():
    with sinks(default={"BACKEND": FaultySink}):
        yield
    FaultySink.error = None


class Interrupted(Sink):
    """Interrupted while it follows a COMMIT."""

    def emit(self, events):
        raise KeyboardInterrupt


def test_a_save_interrupted_after_its_commit_is_not_taken_back():
    with sinks(default=DATABASE, after={"BACKEND": f"{__name__}.Interrupted"}):
        author = Author(name="a")
        with pytest.raises(KeyboardInterrupt):
            author.save()

    assert author.pk is not None
    assert Author.objects.get().pk == author.pk


def test_a_save_that_was_rolled_back_leaves_no_key_on_the_instance():
    author = Author(name="a")
    with sinks(default=DATABASE), without_records("default"), pytest.raises(AuditSinkError):
        author.save()

    assert author.pk is None


@pytest.mark.parametrize("error", [OperationalError("deadlock"), OperationalError()])
def test_what_the_database_gave_up_can_be_tried_again(error, faulty):
    FaultySink.error = error
    with pytest.raises(OperationalError) as caught, transaction.atomic():
        Author.objects.create(name="a")

    assert isinstance(caught.value, AuditSinkError)
    assert "migrate" not in str(caught.value)


def test_other_errors_are_not_to_be_tried_again(faulty):
    FaultySink.error = IntegrityError("no")
    with pytest.raises(AuditSinkError) as caught, transaction.atomic():
        Author.objects.create(name="a")

    assert not isinstance(caught.value, OperationalError)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="others detect no such failure")
def test_a_serialization_failure_is_what_it_would_have_been():
    one, two = Author.objects.create(name="one"), Author.objects.create(name="two")
    both_have_read, both_have_written = threading.Barrier(2), threading.Barrier(2)
    told = []

    def skew(author):
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                list(Author.objects.values("name"))
                both_have_read.wait(20)
                author.name = "changed"
                author.save()
                both_have_written.wait(20)
            told.append(None)
        except OperationalError as exc:
            told.append(exc.__cause__.sqlstate)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=skew, args=(author,)) for author in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(told, key=str) == ["40001", None]


def test_an_event_without_a_transaction_was_not_rolled_back(faulty):
    FaultySink.error = ValueError("no")
    with pytest.raises(AuditSinkError) as caught:
        event_signal.send(sender="x", message="m")

    assert "rolled back" not in str(caught.value)


def test_a_loss_is_logged_without_what_the_program_was_handling(caplog):
    after = {"BACKEND": f"{__name__}.BrokenSink"}
    with (
        sinks(default=DATABASE, after=after),
        pytest.raises(ValueError, match="canary"),
        transaction.atomic(),
    ):
        event_signal.send(sender="x", message="m")
        raise ValueError("bad password 'canary'")

    assert "lost 1 event" in caplog.text
    assert "canary" not in caplog.text
