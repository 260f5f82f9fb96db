"""Holds events until their transaction's fate is known.

Django has ``on_commit`` but nothing before COMMIT, so ``wrapping`` shadows the methods that
decide a transaction's fate. Here is what the rest of the package asks of it: a
transaction around an audited write, and a place to submit events to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.db import connections, transaction

from django_signal_audit import conf, internals
from django_signal_audit.ids import uuid7
from django_signal_audit.outcomes import ConnectionState, end_in_failure, flush
from django_signal_audit.sinks.after_commit import dispatch_after_commit
from django_signal_audit.sinks.aliases import own_databases
from django_signal_audit.sinks.delivery import write_transactional
from django_signal_audit.sinks.following import Committed
from django_signal_audit.sinks.routing import routes_for
from django_signal_audit.wrapping import STATE, state_of

if TYPE_CHECKING:
    import uuid

    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.buffer import Entry


in_transaction = internals.in_transaction


@contextmanager
def write_transaction(using: str, table: str) -> Iterator[ConnectionState]:
    """A transaction around an audited write: the open one, or one of our own.

    On SQLite the write lock is taken before anything is read. A SELECT that is
    followed by an UPDATE in a deferred transaction fails at once with "database is locked"
    when another process wrote in between; the unaudited UPDATE alone would have waited.

    Args:
        using: the database alias.
        table: the name of a table that is about to be written.
    """
    connection = connections[using]
    state = state_of(connection)
    if in_transaction(connection):
        with transaction.mark_for_rollback_on_error(using=using):
            _take_write_lock(connection, state, table)
            yield state
        return
    with internals.write_lock_first(connection):
        block = transaction.atomic(using=using, savepoint=False)
        block.__enter__()
    state.write_locked = True
    try:
        yield state
    except BaseException as exc:
        block.__exit__(type(exc), exc, exc.__traceback__)
        raise
    else:
        block.__exit__(None, None, None)


def _take_write_lock(connection: BaseDatabaseWrapper, state: ConnectionState, table: str) -> None:
    if connection.vendor != "sqlite" or state.write_locked or connection.needs_rollback:
        return
    with connection.cursor() as cursor:
        cursor.execute(write_lock_statement(connection, table))
    state.write_locked = True


def write_lock_statement(connection: BaseDatabaseWrapper, table: str) -> str:
    """What takes SQLite's lock: any statement that may write does, also if it finds no row."""
    return f"DELETE FROM {connection.ops.quote_name(table)} WHERE 0"  # noqa: S608


def deliver_without_database(entry: Entry) -> None:
    """Hand an event to the sinks that need no database, outside of any transaction."""
    dispatch_after_commit([[entry]])


def submit(connection: BaseDatabaseWrapper, entry: Entry) -> None:
    """Accept one event: hold it in an open transaction, or deliver it now.

    Args:
        connection: of the database the event belongs to.
        entry: the event with its route.

    Raises:
        AuditSinkError: a sink whose policy is ``raise`` failed, on an event outside of a
            transaction or on the early flush of a large one.
    """
    if not in_transaction(connection):
        _deliver_now(connection, entry)
        return
    state = state_of(connection)
    if not state.buffer:
        state.buffer.limit = conf.current().BUFFER_SIZE
        state.of_testcase = internals.in_testcase_transaction(connection)
    if state.of_testcase:
        state.testcase_savepoint = internals.testcase_savepoint(connection)
    state.buffer.append(entry)
    if connection.closed_in_transaction:
        # The block goes on, but its transaction ended when the connection was closed.
        end_in_failure(connection, state, usable=False)
    elif state.buffer.is_full and not state.busy and not connection.needs_rollback:
        flush(connection, state)
        state.buffer.spill()


def transaction_id(connection: BaseDatabaseWrapper) -> uuid.UUID | None:
    """The id that groups the events of the open transaction, ``None`` outside of one."""
    if not in_transaction(connection):
        return None
    state = state_of(connection)
    if state.transaction_id is None:
        state.transaction_id = uuid7(datetime.now(tz=UTC))
    return state.transaction_id


def flush_before_read(alias: str) -> None:
    """Write this thread's pending events of one alias, so that a query can see them."""
    connection = connections[alias]
    state: ConnectionState | None = getattr(connection, STATE, None)
    if state is not None and state.buffer and not connection.needs_rollback:
        flush(connection, state)


def connect_reads() -> None:
    """Let queries on records see the events of their own transaction; needs loaded apps."""
    from django_signal_audit import models  # noqa: PLC0415 - not before apps are loaded

    models.before_read = flush_before_read
    models.own_database = _own_database


def _own_database() -> str | None:
    """The alias of the trail's own database, where one is configured."""
    return next(iter(own_databases()), None)


def _deliver_now(connection: BaseDatabaseWrapper, entry: Entry) -> None:
    """Deliver an event that belongs to no transaction."""
    entries = [entry]
    try:
        if routes_for(entry.key).transactional:
            write_transactional(connection, entries, tally=None)
    finally:
        dispatch_after_commit([entries])
    committed = Committed()
    committed.add([entry.event])
    if committed:
        committed.tell(connection)
