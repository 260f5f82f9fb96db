"""Moves one batch of records to another database; what that refuses for itself, stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from django.db import DataError, IntegrityError, connections, transaction

from django_signal_audit.exceptions import AuditError
from django_signal_audit.sinks import mariadb

if TYPE_CHECKING:
    import uuid

    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.models import AuditRecordQuerySet

Write = Callable[["BaseDatabaseWrapper", Sequence["AuditEvent"]], None]

_OF_ONE_RECORD: Final = (DataError, IntegrityError, OverflowError, TypeError, ValueError)
# How a trigger refuses a row: PostgreSQL's RAISE EXCEPTION, MariaDB's SIGNAL.
_RAISED: Final = "P0001"
_SIGNALLED: Final = 1644


@dataclass(frozen=True, slots=True)
class Page:
    """What became of one batch.

    Attributes:
        read: how many records were found.
        moved: how many are now there and no longer here, by this move.
        last: the highest id that was read.
        unreadable: records that are no events, which stay.
        refused: why the other database did not take a record, which stays, by its id.
    """

    read: int = 0
    moved: int = 0
    last: uuid.UUID | None = None
    unreadable: tuple[uuid.UUID, ...] = ()
    refused: Mapping[uuid.UUID, str] = field(default_factory=dict)


def waiting(source: str) -> AuditRecordQuerySet:
    """The records that an alias holds, oldest first."""
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    records: AuditRecordQuerySet = AuditRecord.objects.using(source).order_by("id")
    return records


def move_page(
    records: AuditRecordQuerySet, target: str, write: Write, *, new: bool = False
) -> Page:
    """Move a few records: read here, write there, COMMIT there, delete here.

    Args:
        records: of the alias that holds them, ordered by id.
        target: the alias of the database they go to.
        write: INSERTs events through a connection, and raises if one is not written.
        new: whether they have just been committed, so that nobody should have moved them.

    Raises:
        AuditError: the connection that they are read through loses characters.
        Exception: what a database said, unless it refuses a record for what is in it.
    """
    source = connections[records.db]
    found = list(records)
    if not found:
        return Page()
    if not mariadb.returns_every_character(source):
        raise AuditError(
            f"The connection to database {source.alias!r} shows question marks for characters that "
            "its character set lacks, and moved records would keep those. Leave 'charset' out of "
            f"DATABASES[{source.alias!r}]['OPTIONS'], and send no SET NAMES."
        )
    events: list[AuditEvent] = []
    unreadable: list[uuid.UUID] = []
    for record in found:
        try:
            events.append(record.to_event())
        except (KeyError, TypeError, ValueError):
            unreadable.append(record.id)
    refused = _insert_what_is_taken(connections[target], events, write, new=new)
    taken = [event.id for event in events if event.id not in refused]
    moved = _delete(source, taken) if taken else 0
    return Page(len(found), moved, found[-1].id, tuple(unreadable), refused)


def _insert_what_is_taken(
    target: BaseDatabaseWrapper, events: list[AuditEvent], write: Write, *, new: bool
) -> dict[uuid.UUID, str]:
    """Insert all but what is refused for itself, which is found by halves; return why, by id."""
    try:
        _insert(target, events, write, new=new)
    except Exception as exc:
        if not _is_of_one_record(exc):
            raise
        if len(events) == 1:
            return {events[0].id: first_line(exc)}
    else:
        return {}
    middle = len(events) // 2
    return {
        **_insert_what_is_taken(target, events[:middle], write, new=False),
        **_insert_what_is_taken(target, events[middle:], write, new=False),
    }


def _is_of_one_record(error: Exception) -> bool:
    """Whether it is about what is in a record, not about a database that is away or not ready."""
    if isinstance(error, _OF_ONE_RECORD):
        return True
    cause = error.__cause__
    codes = (*error.args[:1], getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))
    return _SIGNALLED in codes or _RAISED in codes


def first_line(error: Exception) -> str:
    """What an error says, without the row that a database may quote in the lines after."""
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")


def _insert(
    target: BaseDatabaseWrapper, events: list[AuditEvent], write: Write, *, new: bool
) -> None:
    """Return only when every event is in the other database, committed.

    No statement is told to ignore what it cannot insert: on MariaDB that would also hide
    a value that was cut or changed.
    """
    missing = events if new or not events else _not_stored(target, events)
    while missing:
        try:
            with transaction.atomic(using=target.alias):
                write(target, missing)
        except IntegrityError:
            # Another mover was quicker with some of them.
            before = len(missing)
            missing = _not_stored(target, events)
            if len(missing) >= before:
                raise
        else:
            return


def _not_stored(target: BaseDatabaseWrapper, events: list[AuditEvent]) -> list[AuditEvent]:
    ids = [event.id for event in events]
    stored = set(waiting(target.alias).filter(id__in=ids).values_list("id", flat=True))
    return [event for event in events if event.id not in stored]


def _delete(source: BaseDatabaseWrapper, ids: list[uuid.UUID]) -> int:
    """Delete records that are known to be in the other database; how many there were."""
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    meta = AuditRecord._meta
    table, key = source.ops.quote_name(meta.db_table), source.ops.quote_name("id")
    marks = ", ".join(["%s"] * len(ids))
    values = [meta.pk.get_db_prep_value(one, source) for one in ids]
    with source.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {key} IN ({marks})", values)  # noqa: S608
        return int(cursor.rowcount)
