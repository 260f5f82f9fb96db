"""Every touch of an API that Django does not document, in one place.

``tests/test_internals.py`` checks the shape of each on every supported version, so that a
change in Django fails there, with its name, before it fails anywhere else.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model
    from django.dispatch import Signal


def in_testcase_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether the open transaction is the one a ``TestCase`` rolls back at its end."""
    blocks: list[Any] = connection.atomic_blocks
    return bool(blocks) and bool(blocks[0]._from_testcase)


def testcase_savepoint(connection: BaseDatabaseWrapper) -> str | None:
    """The savepoint that one test of a ``TestCase`` runs in, inside its class's transaction."""
    blocks: list[Any] = connection.atomic_blocks
    inner = zip(blocks[1:], connection.savepoint_ids, strict=False)
    return next((sid for block, sid in reversed(list(inner)) if block._from_testcase), None)


@contextmanager
def write_lock_first(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """On SQLite, let the transaction that is opened inside begin with ``BEGIN IMMEDIATE``."""
    if connection.vendor != "sqlite":
        yield
        return
    sqlite: Any = connection
    if connection.connection is None:
        # Connecting reads transaction_mode from the settings; it must not undo ours.
        connection.ensure_connection()
    before = sqlite.transaction_mode
    if before == "EXCLUSIVE":
        yield
        return
    sqlite.transaction_mode = "IMMEDIATE"
    try:
        yield
    finally:
        sqlite.transaction_mode = before


def doom(connection: BaseDatabaseWrapper, error: BaseException) -> None:
    """Let the open ``atomic`` block end in a rollback, because of this error."""
    connection.needs_rollback = True
    connection.rollback_exc = error  # type: ignore[attr-defined]


def begin_for_raw_statements(connection: BaseDatabaseWrapper) -> None:
    """Open a transaction outside of ``atomic`` while autocommit is off.

    Other databases begin one by themselves; Django keeps SQLite in autocommit mode inside
    of ``atomic`` blocks, so there it takes an explicit BEGIN.
    """
    if connection.vendor != "sqlite":
        return
    connection.ensure_connection()
    if not connection.connection.in_transaction:
        connection.cursor().execute("BEGIN IMMEDIATE")


def savepoint_begins_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a savepoint set now would be the transaction, so that its release commits.

    So it is on SQLite for an ``atomic`` block while autocommit is off and nothing was
    written yet: no BEGIN was sent.
    """
    if connection.vendor != "sqlite" or connection.connection is None:
        return False
    return connection.in_atomic_block and not connection.connection.in_transaction


def has_no_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server is known to have ended the transaction; PostgreSQL's drivers say so."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    idle: bool = connection.connection.info.transaction_status == 0
    return idle


def is_pk_set(instance: Model, meta: Any) -> bool:
    """Whether every part of the primary key has a value."""
    return bool(instance._is_pk_set(meta))  # type: ignore[attr-defined]


def pk_fields(meta: Any) -> list[Any]:
    """The columns of a primary key: several if it is composite."""
    return list(meta.pk_fields)


def pk_value(instance: Model, meta: Any) -> Any:
    """The primary key of an instance, or of its row in a parent's table."""
    return instance._get_pk_val(meta)


def connect_first(
    signal: Signal, receiver: Callable[..., Any], sender: Any, dispatch_uid: str
) -> None:
    """Connect a receiver, strongly, so that it is called before those connected until now.

    ``Signal`` calls its receivers in the order in which they were connected, and one that
    raises keeps the later ones from being called.
    """
    signal.connect(receiver, sender=sender, weak=False, dispatch_uid=dispatch_uid)
    with signal.lock:
        ours = [entry for entry in signal.receivers if entry[1] is receiver]
        # A new list in one step: send() looks at it without the lock.
        signal.receivers = ours + [entry for entry in signal.receivers if entry[1] is not receiver]
        signal.sender_receivers_cache.clear()
