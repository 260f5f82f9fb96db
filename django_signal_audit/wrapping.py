"""The wrapped connection: it keeps its transaction's events, and acts on the transaction's end.

Seven methods are shadowed on each connection that audited code writes through: ``commit``,
``rollback``, ``close``, ``set_autocommit``, ``savepoint``, ``savepoint_rollback`` and
``savepoint_commit``. A transactional sink is written just before COMMIT, in the same
transaction; the other sinks follow just after COMMIT, before the users' ``on_commit`` hooks.
"""

from __future__ import annotations

import functools
import logging
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.db import Error

from django_signal_audit import internals
from django_signal_audit.buffer import Entry, TransactionBuffer
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.delivery import (
    by_route,
    dispatch_after_commit,
    log_loss,
    write_survivor,
    write_transactional,
)

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks.routing import Route

logger = logging.getLogger("django_signal_audit")

STATE: Final = "_signal_audit_state"


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
        commits: how many transactions with events were committed on this connection.
        original: the methods of the connection that are wrapped.
    """

    buffer: TransactionBuffer = field(default_factory=TransactionBuffer)
    transaction_id: uuid.UUID | None = None
    of_testcase: bool = False
    testcase_savepoint: str | None = None
    write_locked: bool = False
    begun_by: str | None = None
    busy: bool = False
    commits: int = 0
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
        state: ConnectionState = getattr(connection, STATE)
    except AttributeError:
        state = _install(connection)
    return state


def flush(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
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
    setattr(connection, STATE, state)
    return state


def _savepoint(connection: BaseDatabaseWrapper, state: ConnectionState) -> str | None:
    if state.buffer.has_spilled and not connection.needs_rollback:
        flush(connection, state)
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
        flush(connection, state)
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
            end_in_failure(connection, state, usable=True)
        raise
    _deliver_ended(state)


def _flush_or_abandon(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    try:
        flush(connection, state)
    except BaseException:
        try:
            connection.rollback()
        except Error:
            connection.close()
        raise


def _deliver_ended(state: ConnectionState) -> None:
    state.commits += 1
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
        end_in_failure(connection, state, usable=True)
        raise
    end_in_failure(connection, state, usable=True)


def _close(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    try:
        state.original["close"]()
    finally:
        # Django ignores close() on an in-memory SQLite database: its transaction is still open.
        if connection.connection is None or connection.closed_in_transaction:
            end_in_failure(connection, state, usable=False)


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


def end_in_failure(
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
    handled = sys.exception()
    for route, events in routes:
        try:
            internals.begin_for_raw_statements(connection)
            write_survivor(connection, route, events)
            state.original["commit"]()
        except Exception as exc:  # noqa: BLE001 - logged and counted; the first error is on its way
            log_loss(route, events, exc, handled)
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
    handled = sys.exception()
    fresh = like.copy()
    try:
        for route, events in routes:
            try:
                fresh.set_autocommit(False)
                write_survivor(fresh, route, events)
                fresh.commit()
            except Exception as exc:  # noqa: BLE001 - logged and counted; the first error is on its way
                log_loss(route, events, exc, handled)
                fresh.close()
            else:
                counters.count(route.alias, "written", len(events))
    finally:
        fresh.close()
