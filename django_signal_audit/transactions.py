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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django.db import Error, connections, transaction

from django_signal_audit import conf, internals
from django_signal_audit.buffer import Entry, TransactionBuffer
from django_signal_audit.exceptions import AuditSinkError
from django_signal_audit.ids import uuid7
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.base import TransactionalSink
from django_signal_audit.sinks.migrating import table_is_missing
from django_signal_audit.sinks.routing import Route, routes_for

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent

logger = logging.getLogger("django_signal_audit")

_STATE: Final = "_signal_audit_state"
_SAVEPOINT: Final = "signal_audit_flush"


@dataclass(slots=True)
class ConnectionState:
    """What this module knows of one connection.

    Attributes:
        buffer: the events of the open transaction.
        transaction_id: groups them; made with the first event.
        of_testcase: the transaction is a ``TestCase``'s, whose rollback is no failure.
        write_locked: on SQLite, this transaction holds the write lock for certain.
        busy: a flush is running, so reads and writes in it are our own.
    """

    buffer: TransactionBuffer
    transaction_id: uuid.UUID | None = None
    of_testcase: bool = False
    write_locked: bool = False
    busy: bool = False
    original: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def end(self) -> TransactionBuffer:
        """Hand over the buffer and start with an empty one."""
        ended, self.buffer = self.buffer, _new_buffer()
        self.transaction_id = None
        self.of_testcase = False
        self.write_locked = False
        return ended


def _new_buffer() -> TransactionBuffer:
    return TransactionBuffer(limit=conf.current().BUFFER_SIZE)


def state_of(connection: BaseDatabaseWrapper) -> ConnectionState:
    """The state of a connection; its methods are wrapped on the first call."""
    try:
        state: ConnectionState = connection.__dict__[_STATE]
    except KeyError:
        state = _install(connection)
    return state


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a write now would wait for a COMMIT, without connecting to find out."""
    if connection.in_atomic_block:
        return True
    if connection.connection is None:
        return not connection.settings_dict["AUTOCOMMIT"]
    return not connection.autocommit


def is_flushing(connection: BaseDatabaseWrapper) -> bool:
    """Whether a statement that runs now is the package's own."""
    state: ConnectionState | None = connection.__dict__.get(_STATE)
    return state is not None and state.busy


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
    _dispatch_after_commit([[entry]])


def submit(connection: BaseDatabaseWrapper, entry: Entry) -> None:
    """Accept one event: hold it in an open transaction, or deliver it now.

    Args:
        connection: of the database the event belongs to.
        entry: the event with its route.

    Raises:
        AuditSinkError: there is no transaction, and a sink whose policy is ``raise`` failed.
    """
    if not in_transaction(connection):
        _deliver_now(connection, entry)
        return
    state = state_of(connection)
    if not state.buffer:
        state.of_testcase = internals.in_testcase_transaction(connection)
    state.buffer.append(entry)
    if state.buffer.is_full and not state.busy and not connection.needs_rollback:
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
    state: ConnectionState | None = connection.__dict__.get(_STATE)
    if state is None or not state.buffer or state.busy or connection.needs_rollback:
        return
    try:
        _flush(connection, state)
    except BaseException:
        if connection.in_atomic_block:
            # The transaction lacks records it needs; it must not be committed.
            connection.needs_rollback = True
        raise


def connect_reads() -> None:
    """Let queries on records see the events of their own transaction; needs loaded apps."""
    from django_signal_audit import models  # noqa: PLC0415 - not before apps are loaded

    models.before_read = flush_before_read


# Delivery


def _flush(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    """Write what is unwritten to the transactional sinks, inside the open transaction."""
    state.busy = True
    try:
        state.buffer.flush(lambda entries: _write_entries(connection, entries))
    finally:
        state.busy = False


def _write_entries(connection: BaseDatabaseWrapper, entries: list[Entry]) -> None:
    for route, events in _by_route(entries, transactional=True):
        if table_is_missing(connection):
            counters.count(route.alias, "dropped", len(events))
            continue
        if route.on_error == "log":
            _write_or_log(connection, route, events)
        else:
            _write_or_raise(connection, route, events)


def _write_or_raise(
    connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent]
) -> None:
    try:
        _transactional(route).write(connection, events)
    except Exception as exc:
        raise AuditSinkError(
            f"Audit sink {route.alias!r} ({type(route.sink).__name__}) could not write "
            f"{_described(events)} to database {connection.alias!r}: {exc}. The change was "
            "rolled back, because this sink's ON_ERROR is 'raise'. Is the table there "
            "(manage.py migrate)? To keep changes without their record, set ON_ERROR to 'log'."
        ) from exc
    counters.count(route.alias, "written", len(events))


def _write_or_log(connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent]) -> None:
    """Write in a savepoint: on PostgreSQL a failed INSERT would poison the transaction."""
    ops = connection.ops
    with connection.cursor() as cursor:
        cursor.execute(ops.savepoint_create_sql(_SAVEPOINT))
        try:
            _transactional(route).write(connection, events)
        except Exception as exc:  # noqa: BLE001 - logged and counted, as the policy says
            cursor.execute(ops.savepoint_rollback_sql(_SAVEPOINT))
            cursor.execute(ops.savepoint_commit_sql(_SAVEPOINT))
            _log_loss(route, events, exc)
            return
        cursor.execute(ops.savepoint_commit_sql(_SAVEPOINT))
    counters.count(route.alias, "written", len(events))


def _dispatch_after_commit(batches: Iterable[list[Entry]]) -> None:
    """Hand events to the sinks that follow COMMIT; none can stop another, or the caller.

    What no sink may swallow (KeyboardInterrupt, SystemExit) is raised after the last one.
    """
    interruption: BaseException | None = None
    for batch in batches:
        for route, events in _by_route(batch, transactional=False):
            try:
                route.sink.emit(events)
            except Exception as exc:  # noqa: BLE001 - a sink may raise anything; it is logged and counted
                _log_loss(route, events, exc)
            except BaseException as exc:  # noqa: BLE001 - raised below
                _log_loss(route, events, exc)
                interruption = exc
            else:
                counters.count(route.alias, "written", len(events))
    if interruption is not None:
        raise interruption


def _deliver_now(connection: BaseDatabaseWrapper, entry: Entry) -> None:
    """Deliver an event that belongs to no transaction."""
    entries = [entry]
    try:
        if routes_for(entry.key).transactional:
            state = state_of(connection)
            state.busy = True
            try:
                _write_alone(connection, entries)
            finally:
                state.busy = False
    finally:
        _dispatch_after_commit([entries])


def _write_alone(connection: BaseDatabaseWrapper, entries: list[Entry]) -> None:
    for route, events in _by_route(entries, transactional=True):
        if table_is_missing(connection):
            counters.count(route.alias, "dropped", len(events))
        elif route.on_error == "log":
            try:
                _transactional(route).write(connection, events)
            except Exception as exc:  # noqa: BLE001 - logged and counted, as the policy says
                _log_loss(route, events, exc)
            else:
                counters.count(route.alias, "written", len(events))
        else:
            _write_or_raise(connection, route, events)


def _transactional(route: Route) -> TransactionalSink:
    if not isinstance(route.sink, TransactionalSink):
        raise TypeError(f"audit sink {route.alias!r} is not transactional")
    return route.sink


def _by_route(entries: list[Entry], *, transactional: bool) -> list[tuple[Route, list[AuditEvent]]]:
    """The events of each sink, in order."""
    found: dict[str, tuple[Route, list[AuditEvent]]] = {}
    for entry in entries:
        routes = routes_for(entry.key)
        for route in routes.transactional if transactional else routes.after_commit:
            found.setdefault(route.alias, (route, []))[1].append(entry.event)
    return list(found.values())


def _described(events: list[AuditEvent]) -> str:
    first = events[0]
    about = f" of {first.object_type} {first.object_id}" if first.object_type else ""
    one = f"{first.event}{about} (id {first.id})"
    return f"1 event, {one}," if len(events) == 1 else f"{len(events)} events, first {one},"


def _log_loss(route: Route, events: list[AuditEvent], error: BaseException) -> None:
    """Count and log events that a sink failed to write."""
    counters.count(route.alias, "lost", len(events))
    logger.error(
        "Audit sink %r (%s) lost %s because it could not write: %s",
        route.alias,
        type(route.sink).__name__,
        _described(events).rstrip(","),
        error,
        exc_info=error,
    )


# The wrapped connection


def _install(connection: BaseDatabaseWrapper) -> ConnectionState:
    """Shadow the methods that decide a transaction's fate, on this connection alone."""
    state = ConnectionState(buffer=_new_buffer())
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
    connection.__dict__[_STATE] = state
    return state


def _savepoint(connection: BaseDatabaseWrapper, state: ConnectionState) -> str | None:
    if state.buffer.has_spilled and not connection.needs_rollback:
        _flush(connection, state)
    savepoint: str | None = state.original["savepoint"]()
    if savepoint is not None:
        state.buffer.mark(savepoint)
    return savepoint


def _savepoint_rollback(
    connection: BaseDatabaseWrapper, state: ConnectionState, sid: str | None
) -> None:
    state.original["savepoint_rollback"](sid)
    # Where savepoints are not supported just now, Django gave None and rolls nothing back.
    if sid is not None:
        state.buffer.roll_back_to(sid)


def _savepoint_commit(
    connection: BaseDatabaseWrapper, state: ConnectionState, sid: str | None
) -> None:
    state.original["savepoint_commit"](sid)
    if sid is not None:
        state.buffer.release(sid)


def _commit(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    if not state.buffer:
        state.original["commit"]()
        state.end()
        return
    # The original's own checks, made before anything is written or rolled back.
    connection.validate_thread_sharing()
    connection.validate_no_atomic_block()
    _flush_or_abandon(connection, state)
    state.original["commit"]()
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
        _dispatch_after_commit(ended.batches())
    finally:
        ended.clear()


def _rollback(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    state.original["rollback"]()
    if not state.buffer:
        state.end()
        return
    _end_in_failure(connection, state, usable=True)


def _close(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    if not state.buffer:
        state.original["close"]()
        state.write_locked = False
        return
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
    force = force_begin_transaction_with_broken_autocommit
    original = state.original["set_autocommit"]
    if not autocommit or not state.buffer:
        original(autocommit, force_begin_transaction_with_broken_autocommit=force)
        state.write_locked = False
        return
    # Turning autocommit on commits what is open.
    connection.validate_no_atomic_block()
    _flush_or_abandon(connection, state)
    try:
        original(autocommit, force_begin_transaction_with_broken_autocommit=force)
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
            routes = _by_route(batch, transactional=True)
            if routes:
                state.busy = True
                try:
                    if usable:
                        _write_survivors(connection, state, routes)
                    else:
                        _write_survivors_anew(connection, routes)
                finally:
                    state.busy = False
            _dispatch_after_commit([batch])
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
            _transactional(route).write(connection, events, ignore_existing=True)
            state.original["commit"]()
        except Exception as exc:  # noqa: BLE001 - logged and counted; the first error is on its way
            _log_loss(route, events, exc)
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
                _transactional(route).write(fresh, events, ignore_existing=True)
            except Exception as exc:  # noqa: BLE001 - logged and counted; the first error is on its way
                _log_loss(route, events, exc)
            else:
                counters.count(route.alias, "written", len(events))
    finally:
        fresh.close()
