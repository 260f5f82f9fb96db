"""``DatabaseSink``: records in the same database, written in the same transaction.

From there they can be moved on, to a database of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from django.conf import settings
from django.utils import timezone

from django_signal_audit.sinks import aliases, mariadb
from django_signal_audit.sinks.base import SinkConfig, TransactionalSink
from django_signal_audit.sinks.forwarding import Forwarder

if TYPE_CHECKING:
    import uuid

    from django.core.checks import CheckMessage
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks._urls import SinkURL

COLUMNS: Final = (
    "id",
    "timestamp",
    "event",
    "level",
    "outcome",
    "sender",
    "message",
    "object_type",
    "object_id",
    "object_repr",
    "changes",
    "actor_type",
    "actor_id",
    "actor_label",
    "on_behalf_of",
    "reason",
    "cause",
    "duration_ms",
    "error",
    "context",
    "data",
    "database",
    "transaction",
    "rolled_back",
    "schema_version",
)

# PostgreSQL takes at most 65,535 parameters a statement. MariaDB takes 16 MB by default, where
# a character is up to four bytes. These leave room.
MAX_ROWS: Final = 1000
MAX_CHARACTERS: Final = 3_000_000

_EMPTY: Final = "{}"
_ONE_ROW: Final = f"({', '.join(['%s'] * len(COLUMNS))})"


class DatabaseSink(TransactionalSink):
    """Stores events as ``AuditRecord`` rows on the alias that was written.

    Args:
        config: what every sink is given.
        database: alias of a database of the trail's own, to which records are moved after COMMIT.
        forward: who moves them: ``after_commit``, the process that wrote them, or ``command``,
            ``manage.py audit_forward`` alone.

    Raises:
        AuditConfigurationError: ``database`` is no alias, or ``forward`` is neither or alone.
    """

    def __init__(
        self, config: SinkConfig, database: str | None = None, forward: str = "after_commit"
    ) -> None:
        super().__init__(config)
        aliases.require_options(config.alias, database, forward)
        self.database = database
        self.follows_commit = database is not None and forward == "after_commit"
        self._forwarder = Forwarder(config.alias, database, self.write) if database else None

    @classmethod
    def options_from_url(cls, url: SinkURL) -> dict[str, object]:
        """``database://audit`` is short for ``database://?database=audit``."""
        return super().options_from_url(url.with_host_as("database"))

    def committed(
        self, connection: BaseDatabaseWrapper, ids: Sequence[uuid.UUID], *, complete: bool
    ) -> None:
        """Move what was committed to the trail's own database; if that fails, it waits."""
        if self._forwarder is not None:
            self._forwarder.after_commit(connection, ids, complete=complete)

    def check(self) -> list[CheckMessage]:
        """Whether routers and aliases let records be written, moved and read."""
        return aliases.messages(self, self.database)

    def health(self) -> list[str]:
        """What is wrong with the settings, and with the databases, which are asked."""
        return [*super().health(), *aliases.health(self, self.database)]

    def write(
        self,
        connection: BaseDatabaseWrapper,
        events: Sequence[AuditEvent],
        *,
        ignore_existing: bool = False,
    ) -> None:
        """INSERT the events with as few statements as their number and size allow."""
        statement = _insert_statement(connection, ignore_existing=ignore_existing)
        with connection.cursor() as cursor:
            rows = (_row(connection, event) for event in events)
            if connection.vendor == "sqlite":
                # One prepared statement run for each row: SQLite has no round trip to save.
                cursor.executemany(statement + _ONE_ROW, list(rows))
                return
            one = _ONE_ROW
            if mariadb.loses_characters(connection):
                one = mariadb.placeholders(COLUMNS)
                rows = (mariadb.as_hex(COLUMNS, row) for row in rows)
            for batch in _cut(rows):
                cursor.execute(
                    statement
                    + ", ".join([one] * len(batch))
                    + _conflict(connection, ignore_existing=ignore_existing),
                    [value for row in batch for value in row],
                )


def _insert_statement(connection: BaseDatabaseWrapper, *, ignore_existing: bool) -> str:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    quote = connection.ops.quote_name
    verb = "INSERT"
    if ignore_existing and connection.vendor == "sqlite":
        verb = "INSERT OR IGNORE"
    names = ", ".join(quote(name) for name in COLUMNS)
    return f"{verb} INTO {quote(AuditRecord._meta.db_table)} ({names}) VALUES "


def _conflict(connection: BaseDatabaseWrapper, *, ignore_existing: bool) -> str:
    """What follows the rows where an id that is there already is left as it is."""
    if not ignore_existing:
        return ""
    # INSERT IGNORE would also cut what is too long, and skip what is wrong.
    return mariadb.KEEP_EXISTING if connection.vendor == "mysql" else " ON CONFLICT DO NOTHING"


def _cut(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    """Batches within MAX_ROWS and MAX_CHARACTERS; a row that is larger alone goes alone."""
    batch: list[list[Any]] = []
    size = 0
    for row in rows:
        weight = sum(len(value) for value in row if isinstance(value, str))
        if batch and (len(batch) == MAX_ROWS or size + weight > MAX_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight
    if batch:
        yield batch


def _row(connection: BaseDatabaseWrapper, event: AuditEvent) -> list[Any]:
    actor = event.actor
    native_uuid = connection.features.has_native_uuid_field
    return [
        event.id if native_uuid else event.id.hex,
        connection.ops.adapt_datetimefield_value(_stored_moment(event.timestamp)),
        event.event,
        event.level,
        event.outcome.value,
        event.sender,
        event.message,
        event.object_type,
        event.object_id,
        event.object_repr,
        _json(event.changes),
        actor.type if actor else None,
        actor.id if actor else None,
        actor.label if actor else "",
        _json(event.on_behalf_of.to_dict() if event.on_behalf_of else None),
        event.reason,
        _uuid(event.cause, native=native_uuid),
        event.duration_ms,
        _json(event.error),
        _json(event.context) if event.context else _EMPTY,
        _json(event.data) if event.data else _EMPTY,
        event.database,
        _uuid(event.transaction, native=native_uuid),
        event.rolled_back,
        event.schema_version,
    ]


def _stored_moment(moment: datetime) -> datetime:
    """As Django stores it: in local time, naive, where ``USE_TZ`` is off."""
    return (
        moment if settings.USE_TZ else timezone.make_naive(moment, timezone.get_default_timezone())
    )


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _uuid(value: Any, *, native: bool) -> Any:
    if value is None or native:
        return value
    return value.hex
