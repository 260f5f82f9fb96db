"""What Django does not document of connections and of the databases behind them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db.migrations.recorder import MigrationRecorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a write now would wait for a COMMIT, without connecting to find out."""
    if connection.in_atomic_block:
        return True
    if connection.connection is None:
        return not connection.settings_dict["AUTOCOMMIT"]
    return not connection.autocommit


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


def is_left_open(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open that keeps PostgreSQL's drivers from changing autocommit."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    open_or_failed = (2, 3)
    left_open: bool = connection.connection.info.transaction_status in open_or_failed
    return left_open


def has_begun_by_sql(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open that a program began by a statement, unknown to Django."""
    if connection.vendor == "sqlite":
        return bool(connection.connection.in_transaction)
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@in_transaction")
            return bool(cursor.fetchone()[0])
    return is_left_open(connection)


def is_mariadb(connection: BaseDatabaseWrapper) -> bool:
    """Whether a connection whose vendor is ``mysql`` is one to MariaDB."""
    return bool(connection.mysql_is_mariadb)  # type: ignore[attr-defined]


def reads_the_past(connection: BaseDatabaseWrapper) -> bool:
    """Whether a plain SELECT may not show a row as it is, although this transaction wrote it.

    Under REPEATABLE READ, MariaDB reads from a snapshot, but writes to the newest row; an
    UPDATE that finds the row as it wants it leaves the snapshot's version to later reads.
    """
    return connection.vendor == "mysql"


def update_passes_locked_rows(connection: BaseDatabaseWrapper) -> bool:
    """Whether an UPDATE waits only for rows it means, but a SELECT that locks for all it reads.

    So it is on MariaDB under READ COMMITTED, which is what Django asks for. Under REPEATABLE
    READ both wait, and only a SELECT that locks reads the newest rows.
    """
    if connection.vendor != "mysql":
        return False
    connection.ensure_connection()
    level: str | None = connection.isolation_level  # type: ignore[attr-defined]
    return level in {"read committed", "read uncommitted"}


def cuts_silently(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server stores something else where a column cannot hold a value."""
    if connection.vendor != "mysql":
        return False
    modes: set[str] = connection.sql_mode  # type: ignore[attr-defined]
    return not any(mode.startswith("STRICT_") for mode in modes)


def has_migrated(connection: BaseDatabaseWrapper, app_label: str, migration: str) -> bool:
    """Whether ``migrate`` has noted on this database that a migration was applied."""
    return (app_label, migration) in MigrationRecorder(connection).applied_migrations()
