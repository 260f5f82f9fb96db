"""Moves records from the database that was written to a database of their own.

A record that waits is a row of ``AuditRecord`` on any other alias. It is INSERTed into its
new database, that is committed, and only then it is deleted here. Whatever is
interrupted in between leaves a row that is here, or in both: readers show it once, and
the next move takes it along.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from django.db import Error, connections

from django_signal_audit import internals
from django_signal_audit.exceptions import AuditError
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.identity import is_same_table
from django_signal_audit.sinks.moving import Page, Write, first_line, move_page, waiting
from django_signal_audit.tasks import log_failure

if TYPE_CHECKING:
    import uuid

    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.models import AuditRecordQuerySet

logger = logging.getLogger("django_signal_audit")

BATCH: Final = 500
"""How many records are in memory at a time, and the most that one commit moves."""

RETRY_AFTER: Final = 10.0
"""Seconds in which a process leaves a database alone that it could not write to."""

SWEEP_EVERY: Final = 60.0
"""Seconds after which a process looks for records that others have left behind."""

_REMEMBERED: Final = 10_000
_NAMED: Final = 10


def written_on(source: str) -> AuditRecordQuerySet:
    """Those of them that were written through this alias: a replica shows those of another."""
    others = [alias for alias in connections if alias != source]
    return waiting(source).exclude(database__in=others)


def move_all(
    records: AuditRecordQuerySet, target: str, write: Write, *, batch_size: int = BATCH
) -> Iterator[Page]:
    """Move records to another database, batch by batch.

    Args:
        records: of the alias that holds them, ordered by id.
        target: the alias of the database they go to.
        write: INSERTs events through a connection, and raises if one is not written.
        batch_size: records in a batch, at most 1,000.

    Raises:
        AuditError: one of the two is inside a transaction, both are the same database, or the
            connection to the first one loses characters.
        Exception: what a database said; what was moved until then is moved.
    """
    require_movable(connections[records.db], connections[target])
    page = move_page(records[:batch_size], target, write)
    while page.read:
        yield page
        if page.read < batch_size:
            return
        page = move_page(records.filter(id__gt=page.last)[:batch_size], target, write)


def require_movable(source: BaseDatabaseWrapper, target: BaseDatabaseWrapper) -> None:
    """Refuse a move that would not be one.

    Raises:
        AuditError: one of the two is inside a transaction, or both are the same database.
        DatabaseError: one of them cannot be asked.
    """
    for connection in (source, target):
        if internals.in_transaction(connection):
            raise AuditError(
                f"Records cannot be moved while database {connection.alias!r} is inside a "
                "transaction: they would share its fate. Move them after it has ended."
            )
    if is_same_table(source, target):
        raise AuditError(
            f"Databases {source.alias!r} and {target.alias!r} are one and the same, so records "
            "stay where they are. Give the audit trail a database of its own, or leave out the "
            "sink's option 'database'."
        )


@dataclass(slots=True, eq=False)
class Forwarder:
    """Moves records after each COMMIT of one process; whatever goes wrong, they wait.

    Args:
        sink: the sink's key in the settings, for the log and the counters.
        target: the alias of the database that records go to.
        write: INSERTs events through a connection, and raises if one is not written.
    """

    sink: str
    target: str
    write: Write
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_failing: bool = False
    _not_before: float = 0.0
    _next_sweep: dict[str, float] = field(default_factory=dict)
    _swept_until: dict[str, uuid.UUID | None] = field(default_factory=dict)
    _reported: set[uuid.UUID] = field(default_factory=set)
    _known_movable: set[str] = field(default_factory=set)

    def after_commit(
        self, source: BaseDatabaseWrapper, ids: Sequence[uuid.UUID], *, complete: bool
    ) -> None:
        """Move what was committed, and from time to time what was left; never raise an Exception.

        Args:
            source: the connection that has committed; it is in no transaction.
            ids: of what was committed.
            complete: whether these are all of them.
        """
        target = connections[self.target]
        if target.alias == source.alias:
            return
        if internals.in_transaction(target) or not self._may_try():
            # In the program's own transaction there, the trail would share its fate.
            self._leave(source, ids)
            return
        handled = sys.exception()
        try:
            self._move(source, target, ids, complete=complete)
        except Exception as exc:  # noqa: BLE001 - logged and counted; the records are safe where they are
            self._leave(source, ids)
            self._note_failure(source, exc, handled)
            _close_quietly(target)
        else:
            self._note_success()

    def _move(
        self,
        source: BaseDatabaseWrapper,
        target: BaseDatabaseWrapper,
        ids: Sequence[uuid.UUID],
        *,
        complete: bool,
    ) -> None:
        if source.alias not in self._known_movable:
            require_movable(source, target)
            self._known_movable.add(source.alias)
        records = waiting(source.alias)
        moved = 0
        if complete:
            page = move_page(records.filter(id__in=ids), self.target, self.write, new=True)
            moved += page.moved
            counters.count(self.sink, "delayed", len(page.refused) + len(page.unreadable))
            self._report(source, page)
        if not complete or time.monotonic() >= self._next_sweep.get(source.alias, 0.0):
            self._next_sweep[source.alias] = time.monotonic() + SWEEP_EVERY
            # What stays must not be in the way of what is behind it.
            last = self._swept_until.get(source.alias)
            rest = records if last is None else records.filter(id__gt=last)
            page = move_page(rest[:BATCH], self.target, self.write)
            moved += page.moved
            self._report(source, page)
            is_full = page.read == BATCH
            self._swept_until[source.alias] = page.last if is_full else None
            if is_full:
                self._next_sweep[source.alias] = 0.0
        counters.count(self.sink, "forwarded", moved)

    def _report(self, source: BaseDatabaseWrapper, page: Page) -> None:
        """Log each record that stays, once."""
        stays = dict.fromkeys(page.unreadable, "it is no event") | dict(page.refused)
        with self._lock:
            new = {key: why for key, why in stays.items() if key not in self._reported}
            if len(self._reported) + len(new) > _REMEMBERED:
                self._reported.clear()
            self._reported.update(new)
        if new:
            logger.error(
                "Audit sink %r could not move %d of the records on database %r to %r; they stay "
                "where they are, and manage.py audit_forward names them all: %s.",
                self.sink,
                len(new),
                source.alias,
                self.target,
                "; ".join(f"{key}: {why}" for key, why in list(new.items())[:_NAMED]),
            )

    def _may_try(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now < self._not_before:
                return False
            if self._is_failing:
                # One thread finds out whether it works again; the others do not wait with it.
                self._not_before = now + RETRY_AFTER
            return True

    def _leave(self, source: BaseDatabaseWrapper, ids: Sequence[uuid.UUID]) -> None:
        self._next_sweep[source.alias] = 0.0
        counters.count(self.sink, "delayed", len(ids))

    def _note_failure(
        self, source: BaseDatabaseWrapper, error: Exception, handled: BaseException | None
    ) -> None:
        with self._lock:
            is_new = not self._is_failing
            self._is_failing = True
            self._not_before = time.monotonic() + RETRY_AFTER
        if is_new:
            log_failure(
                "Audit sink %r could not move records from database %r to %r: %s. They wait where "
                "they are, and nothing is lost: a later commit moves them, or manage.py "
                "audit_forward.",
                self.sink,
                source.alias,
                self.target,
                first_line(error),
                error=error,
                handled=handled,
            )

    def _note_success(self) -> None:
        with self._lock:
            recovered, self._is_failing = self._is_failing, False
            self._not_before = 0.0
        if recovered:
            logger.info("Audit sink %r moves records to %r again.", self.sink, self.target)


def _close_quietly(connection: BaseDatabaseWrapper) -> None:
    """Let the next try connect anew: a server that was away leaves a dead connection."""
    handled = sys.exception()
    try:
        connection.close()
    except Error as exc:
        log_failure(
            "A connection could not be closed.",
            error=exc,
            handled=handled,
            level=logging.DEBUG,
        )
