"""Holds events until their transaction's fate is known.

Django has ``on_commit`` but nothing before COMMIT, so this module wraps six methods on each
connection that audited code writes through. A transactional sink is written just before
COMMIT, in the same transaction: the change and its record live or die together. The other
sinks follow just after COMMIT, before the users' ``on_commit`` hooks.
"""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django.db import Error, connections, transaction

from django_signal_audit import conf, internals
from django_signal_audit.buffer import Entry, TransactionBuffer
from django_signal_audit.ids import uuid7
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.delivery import (
    by_route,
    dispatch_after_commit,
    log_loss,
    write_survivor,
    write_transactional,
)
from django_signal_audit.sinks.routing import Route, routes_for

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent

logger = logging.getLogger("django_signal_audit")

_STATE: Final = "_signal_audit_state"


@dataclass(slots=True)
class ConnectionState:
    """What this module knows of one connection.

    Attributes:
        buffer: the events of the open transaction.
        transaction_id: groups them; made with the first event.
        of_testcase: the transaction is a ``TestCase``'s, whose rollback is no failure.
        testcase_savepoint: of a test inside a ``TestCase``; its rollback is no failure either.
        write_locked: on SQLite, this transaction holds the write lock for certain.
        begun_by: the savepoint that began this transaction, whose release commits it.
        busy: a flush is running; nothing else may flush.
        original: the methods of the connection that are wrapped.
    """

    buffer: TransactionBuffer = field(default_factory=TransactionBuffer)
    transaction_id: uuid.UUID | None = None
    of_testcase: bool = False
    testcase_savepoint: str | None = None
    write_locked: bool = False
    begun_by: str | None = None
    busy: bool = False
    original: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def end(self) -> TransactionBuffer:
        """Hand over the buffer and start with an empty one."""
        ended, self.buffer = self.buffer, TransactionBuffer()
        self.transaction_id = None
        self.of_testcase = False
        self.testcase_savepoint = None
        self.write_locked = False
        self.begun_by = None
        return ended


def state_of(connection: BaseDatabaseWrapper) -> ConnectionState:
    """The state of a connection; its methods are wrapped on the first call."""
    try:
        state: ConnectionState = getattr(connection, _STATE)
    except AttributeError:
        state = _install(connection)
    return state


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a write now would wait for a COMMIT, without connecting to find out."""
    if connection.in_atomic_block:
        return True
    if connection.connection is None:
        return not connection.settings_dict["AUTOCOMMIT"]
    return not connection.autocommit


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
        # SQLite takes the lock for any statement that may write, also if it finds no row.
        cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)} WHERE 0")  # noqa: S608
    state.write_locked = True


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
        _end_in_failure(connection, state, usable=False)
    elif state.buffer.is_full and not state.busy and not connection.needs_rollback:
        _flush(connection, state)
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
    state: ConnectionState | None = getattr(connection, _STATE, None)
    if state is not None and state.buffer and not connection.needs_rollback:
        _flush(connection, state)


def connect_reads() -> None:
    """Let queries on records see the events of their own transaction; needs loaded apps."""
    from django_signal_audit import models  # noqa: PLC0415 - not before apps are loaded

    models.before_read = flush_before_read


# Delivery


def _flush(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    """Write what is unwritten to the transactional sinks, inside the open transaction.

    If that fails, the transaction lacks records it needs, so an open block is doomed.
    """
    if state.busy:
        return

    def write(entries: list[Entry]) -> None:
        internals.begin_for_raw_statements(connection)
        write_transactional(connection, entries, in_transaction=True)

    state.busy = True
    try:
        state.buffer.flush(write)
    except BaseException as exc:
        if connection.in_atomic_block:
            internals.doom(connection, exc)
        raise
    finally:
        state.busy = False


def _deliver_now(connection: BaseDatabaseWrapper, entry: Entry) -> None:
    """Deliver an event that belongs to no transaction."""
    entries = [entry]
    try:
        if routes_for(entry.key).transactional:
            write_transactional(connection, entries, in_transaction=False)
    finally:
        dispatch_after_commit([entries])


# The wrapped connection


def _install(connection: BaseDatabaseWrapper) -> ConnectionState:
    """Shadow the methods that decide a transaction's fate, on this connection alone."""
    state = ConnectionState()
    for wrapper in (
        _commit,
        _rollback,
        _close,
        _set_autocommit,
        _savepoint,
        _savepoint_rollback,
        _savepoint_commit,
    ):
        name = wrapper.__name__.removeprefix("_")
        state.original[name] = getattr(connection, name)
        setattr(connection, name, functools.partial(wrapper, connection, state))
    setattr(connection, _STATE, state)
    return state


def _savepoint(connection: BaseDatabaseWrapper, state: ConnectionState) -> str | None:
    if state.buffer.has_spilled and not connection.needs_rollback:
        _flush(connection, state)
    begins = internals.savepoint_begins_transaction(connection)
    savepoint: str | None = state.original["savepoint"]()
    if savepoint is not None:
        state.buffer.mark(savepoint)
        if begins:
            state.begun_by = savepoint
    return savepoint


def _savepoint_rollback(
    connection: BaseDatabaseWrapper, state: ConnectionState, sid: str | None
) -> None:
    state.original["savepoint_rollback"](sid)
    # Where savepoints are not supported just now, Django gave None and rolls nothing back.
    if sid is not None:
        state.buffer.roll_back_to(sid, discard=sid == state.testcase_savepoint)


def _savepoint_commit(
    connection: BaseDatabaseWrapper, state: ConnectionState, sid: str | None
) -> None:
    commits = sid is not None and sid == state.begun_by
    if commits:
        _flush(connection, state)
    state.original["savepoint_commit"](sid)
    if commits:
        _deliver_ended(state)
    elif sid is not None:
        state.buffer.release(sid)


def _commit(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    if not state.buffer:
        state.original["commit"]()
        state.end().clear()
        return
    # The original's own checks, made before anything is written or rolled back.
    connection.validate_thread_sharing()
    connection.validate_no_atomic_block()
    _flush_or_abandon(connection, state)
    try:
        state.original["commit"]()
    except Error:
        # A COMMIT that fails is a rollback on PostgreSQL; SQLite lets it be tried again.
        if internals.has_no_transaction(connection):
            _end_in_failure(connection, state, usable=True)
        raise
    _deliver_ended(state)


def _flush_or_abandon(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    try:
        _flush(connection, state)
    except BaseException:
        try:
            connection.rollback()
        except Error:
            connection.close()
        raise


def _deliver_ended(state: ConnectionState) -> None:
    ended = state.end()
    try:
        dispatch_after_commit(ended.batches())
    finally:
        ended.clear()


def _rollback(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    try:
        state.original["rollback"]()
    except Error:
        # Nothing is known of the transaction until the caller closes the connection.
        raise
    except BaseException:
        # Interrupted before ROLLBACK or after: what follows must not commit in its place.
        state.original["rollback"]()
        _end_in_failure(connection, state, usable=True)
        raise
    _end_in_failure(connection, state, usable=True)


def _close(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    try:
        state.original["close"]()
    finally:
        # Django ignores close() on an in-memory SQLite database: its transaction is still open.
        if connection.connection is None or connection.closed_in_transaction:
            _end_in_failure(connection, state, usable=False)


def _set_autocommit(
    connection: BaseDatabaseWrapper,
    state: ConnectionState,
    autocommit: bool,
    force_begin_transaction_with_broken_autocommit: bool = False,
) -> None:
    set_it = functools.partial(
        state.original["set_autocommit"],
        autocommit,
        force_begin_transaction_with_broken_autocommit=(
            force_begin_transaction_with_broken_autocommit
        ),
    )
    if not state.buffer:
        set_it()
        state.end().clear()
        return
    if not autocommit:
        set_it()
        return
    # Turning autocommit on commits what is open.
    connection.validate_no_atomic_block()
    _flush_or_abandon(connection, state)
    try:
        set_it()
    finally:
        if connection.autocommit:
            _deliver_ended(state)


# Custom events after a rollback


def _end_in_failure(
    connection: BaseDatabaseWrapper, state: ConnectionState, *, usable: bool
) -> None:
    """Drop the model events of a failed transaction, and write its custom ones, marked.

    Nothing is raised: the caller is handling the error that failed the transaction. What
    cannot be written is counted and logged.

    Args:
        connection: the wrapped connection.
        state: its state.
        usable: whether it can take statements, outside of any transaction.
    """
    discard = state.of_testcase
    ended = state.end()
    try:
        if discard:
            return
        for batch in ended.survivors():
            routes = by_route(batch, transactional=True)
            if routes and usable:
                _write_survivors(connection, state, routes)
            elif routes:
                _write_survivors_anew(connection, routes)
            dispatch_after_commit([batch])
    finally:
        ended.clear()


def _write_survivors(
    connection: BaseDatabaseWrapper,
    state: ConnectionState,
    routes: list[tuple[Route, list[AuditEvent]]],
) -> None:
    for route, events in routes:
        try:
            internals.begin_for_raw_statements(connection)
            write_survivor(connection, route, events)
            state.original["commit"]()
        except Exception as exc:  # noqa: BLE001 - logged and counted; the first error is on its way
            log_loss(route, events, exc)
            _roll_back_quietly(state)
        else:
            counters.count(route.alias, "written", len(events))


def _roll_back_quietly(state: ConnectionState) -> None:
    try:
        state.original["rollback"]()
    except Error:
        # Django closes a connection that cannot roll back; so does its next user.
        logger.warning("A connection could not be rolled back.", exc_info=True)


def _write_survivors_anew(
    like: BaseDatabaseWrapper, routes: list[tuple[Route, list[AuditEvent]]]
) -> None:
    """Write through a new connection, because the old one is dead or stuck in a block."""
    fresh = like.copy()
    try:
        for route, events in routes:
            try:
                fresh.set_autocommit(False)
                write_survivor(fresh, route, events)
                fresh.commit()
            except Exception as exc:  # noqa: BLE001 - logged and counted; the first error is on its way
                log_loss(route, events, exc)
                fresh.close()
            else:
                counters.count(route.alias, "written", len(events))
    finally:
        fresh.close()
