"""``DatabaseSink``: records in the same database, written in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from django.conf import settings
from django.utils import timezone

from django_signal_audit.sinks.base import TransactionalSink

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent

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

# PostgreSQL takes at most 65,535 parameters a statement, MariaDB 16 MB by default; these
# leave room.
MAX_ROWS: Final = 1000
MAX_BYTES: Final = 4_000_000

_EMPTY: Final = "{}"


class DatabaseSink(TransactionalSink):
    """Stores events as ``AuditRecord`` rows on the alias that was written."""

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
            if connection.vendor == "sqlite":
                # One prepared statement run for each row: SQLite has no round trip to save.
                one = statement + _placeholders(1)
                cursor.executemany(one, [_row(connection, event) for event in events])
                return
            for rows in _cut(_row(connection, event) for event in events):
                flat = [value for row in rows for value in row]
                cursor.execute(
                    statement + _placeholders(len(rows)) + _conflict(connection, ignore_existing),
                    flat,
                )


def _insert_statement(connection: BaseDatabaseWrapper, *, ignore_existing: bool) -> str:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    quote = connection.ops.quote_name
    verb = "INSERT"
    if ignore_existing and connection.vendor == "sqlite":
        verb = "INSERT OR IGNORE"
    elif ignore_existing and connection.vendor == "mysql":
        verb = "INSERT IGNORE"
    names = ", ".join(quote(name) for name in COLUMNS)
    return f"{verb} INTO {quote(AuditRecord._meta.db_table)} ({names}) VALUES "


def _conflict(connection: BaseDatabaseWrapper, ignore_existing: bool) -> str:
    return (
        " ON CONFLICT DO NOTHING" if ignore_existing and connection.vendor == "postgresql" else ""
    )


def _placeholders(rows: int) -> str:
    one = f"({', '.join(['%s'] * len(COLUMNS))})"
    return ", ".join([one] * rows)


def _cut(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    """Batches within MAX_ROWS and MAX_BYTES; a row that is larger alone goes alone."""
    batch: list[list[Any]] = []
    size = 0
    for row in rows:
        weight = sum(len(value) for value in row if isinstance(value, str))
        if batch and (len(batch) == MAX_ROWS or size + weight > MAX_BYTES):
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
