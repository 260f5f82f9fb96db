"""What becomes of a transaction's events: written before COMMIT, delivered after it, or dropped.

When a transaction fails, its model events go with it; its custom events are written after
the rollback, marked.
"""

from __future__ import annotations

import functools
import itertools
import logging
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import Error

from django_signal_audit import conf, internals
from django_signal_audit.buffer import Entry, TransactionBuffer
from django_signal_audit.coalescing import coalesced
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.after_commit import dispatch_after_commit
from django_signal_audit.sinks.delivery import (
    count_lost,
    count_written,
    survivors_by_route,
    write_survivor,
    write_transactional,
)
from django_signal_audit.sinks.following import Committed
from django_signal_audit.tasks import log_failure

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks.routing import Route


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
        committed: events of such transactions that no sink was told of yet.
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
    committed: Committed = field(default_factory=Committed)
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


def flush(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    """Write what is unwritten to the transactional sinks, inside the open transaction.

    If that fails, the transaction lacks records it needs, so an open block is doomed.
    """
    if state.busy:
        return

    def write(entries: list[Entry]) -> None:
        internals.begin_for_raw_statements(connection)
        write_transactional(connection, entries, tally=state.buffer.tally)

    state.busy = True
    try:
        if state.buffer.may_fold:
            keep_unchanged = conf.current().RECORD_UNCHANGED
            state.buffer.fold(functools.partial(coalesced, keep_unchanged=keep_unchanged))
        state.buffer.flush(write)
    except BaseException as exc:
        if connection.in_atomic_block:
            internals.doom(connection, exc)
        raise
    finally:
        state.busy = False


def deliver_ended(state: ConnectionState) -> None:
    """Hand the events of a committed transaction to the sinks that follow COMMIT."""
    state.commits += 1
    ended = state.end()
    try:
        entries = itertools.chain.from_iterable(ended.batches())
        state.committed.add((entry.event for entry in entries), complete=not ended.has_spilled)
        _count(ended)
        dispatch_after_commit(ended.batches())
    finally:
        ended.clear()


def end_quietly(state: ConnectionState) -> None:
    """End a committed transaction of which nothing is remembered, maybe because it was large."""
    ended = state.end()
    if ended.has_spilled:
        state.committed.add((), complete=False)
    _count(ended)
    ended.clear()


def _count(ended: TransactionBuffer) -> None:
    for alias, numbers in ended.tallied:
        counters.count_all(alias, numbers)


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
            routes = survivors_by_route(batch)
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
            count_lost(route, events, exc, handled)
            _roll_back_quietly(state)
        else:
            count_written(route, len(events))
            state.committed.add(events)


def _roll_back_quietly(state: ConnectionState) -> None:
    handled = sys.exception()
    try:
        state.original["rollback"]()
    except Error as exc:
        # Django closes a connection that cannot roll back; so does its next user.
        log_failure(
            "A connection could not be rolled back.",
            error=exc,
            handled=handled,
            level=logging.WARNING,
        )


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
                count_lost(route, events, exc, handled)
                fresh.close()
            else:
                count_written(route, len(events))
    finally:
        fresh.close()
