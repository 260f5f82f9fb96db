"""The wrapped connection: it keeps its transaction's events, and acts on the transaction's end.

Seven methods are shadowed on each connection that audited code writes through: ``commit``,
``rollback``, ``close``, ``set_autocommit``, ``savepoint``, ``savepoint_rollback`` and
``savepoint_commit``. A transactional sink is written just before COMMIT, in the same
transaction; the other sinks follow just after COMMIT, before the users' ``on_commit`` hooks.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from django.db import Error

from django_signal_audit import internals, statements
from django_signal_audit.outcomes import (
    ConnectionState,
    deliver_ended,
    end_in_failure,
    end_quietly,
    flush,
)
from django_signal_audit.tasks import log_failure

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


STATE: Final = "_signal_audit_state"

_wrapped: WeakSet[BaseDatabaseWrapper] = WeakSet()


def state_of(connection: BaseDatabaseWrapper) -> ConnectionState:
    """The state of a connection; its methods are wrapped on the first call."""
    try:
        state: ConnectionState = getattr(connection, STATE)
    except AttributeError:
        state = _install(connection)
    return state


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
    if connection.vendor == "mysql":
        statements.watch(connection, state)
    setattr(connection, STATE, state)
    _wrapped.add(connection)
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
        deliver_ended(state)
    elif sid is not None:
        state.buffer.release(sid)


def _commit(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    if not state.buffer:
        state.original["commit"]()
        end_quietly(state)
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
    try:
        deliver_ended(state)
    finally:
        _end_what_sinks_began(connection, state)


def _end_what_sinks_began(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    """Commit what a sink wrote through this connection, as a handler of ``logging`` may.

    Django turns autocommit on next, which PostgreSQL's drivers refuse while a transaction is open.
    """
    if not internals.is_left_open(connection):
        return
    handled = sys.exception()
    try:
        state.original["commit"]()
    except Error as exc:
        message = "What a sink wrote after COMMIT was rolled back."
        log_failure(message, error=exc, handled=handled)
        state.original["rollback"]()


def _flush_or_abandon(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    try:
        flush(connection, state)
    except BaseException:
        try:
            connection.rollback()
        except Error:
            connection.close()
        raise


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
    _end_what_sinks_began(connection, state)


def _close(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    try:
        state.original["close"]()
    finally:
        # Whoever connects next may be amid something else.
        state.committed.forget()
        # Django ignores close() on an in-memory SQLite database: its transaction is still open.
        if connection.connection is None or connection.closed_in_transaction:
            end_in_failure(connection, state, usable=False)


def _set_autocommit(
    connection: BaseDatabaseWrapper,
    state: ConnectionState,
    autocommit: bool,
    force_begin_transaction_with_broken_autocommit: bool = False,
) -> None:
    try:
        _set_autocommit_and_deliver(
            connection, state, autocommit, force_begin_transaction_with_broken_autocommit
        )
    finally:
        # Only now no transaction is open, so statements of ours need no COMMIT of anybody.
        if state.committed and connection.autocommit and not connection.in_atomic_block:
            state.committed.tell(connection)


def _set_autocommit_and_deliver(
    connection: BaseDatabaseWrapper,
    state: ConnectionState,
    autocommit: bool,
    force_begin_transaction_with_broken_autocommit: bool,
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
        end_quietly(state)
        return
    # Turning autocommit on commits what is open.
    connection.validate_no_atomic_block()
    _flush_or_abandon(connection, state)
    try:
        set_it()
    finally:
        if connection.autocommit:
            deliver_ended(state)


def _leave_to_the_parent() -> None:
    """In a forked child: forget what the parent's transactions hold, without writing it.

    Their fate is the parent's to know and to record. A child that closes the inherited
    connection, as it should, would otherwise record the custom events as those of a
    transaction that failed.
    """
    for connection in list(_wrapped):
        state = state_of(connection)
        state.committed.forget()
        state.end().abandon()


os.register_at_fork(after_in_child=_leave_to_the_parent)
