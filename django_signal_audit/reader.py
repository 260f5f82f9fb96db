"""Reads a trail back, in constant memory: from databases or from the files of sinks.

    for event in read_databases(trail_databases(), TrailFilter(object_type="shop.Order")):
        ...

Both sources apply the same ``TrailFilter`` and yield the same ``AuditEvent``.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from django.db import DatabaseError, connections

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditError
from django_signal_audit.file_trail import FileTrail, list_rotated
from django_signal_audit.models import AuditRecord, record_table_exists
from django_signal_audit.sinks import FileSink, routing
from django_signal_audit.sinks.aliases import own_databases
from django_signal_audit.trail_filter import TrailFilter

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

__all__ = [
    "FileTrail",
    "has_database_sink",
    "has_trail",
    "list_rotated",
    "read_database",
    "read_databases",
    "trail_databases",
    "trail_files",
]

PAGE_SIZE: Final = 500

_JSON_FORMATS: Final = ("json", "django_signal_audit.formats.json.processors")
_DUMMY_ENGINE: Final = "django.db.backends.dummy"


def read_database(
    alias: str,
    trail_filter: TrailFilter | None = None,
    *,
    page_size: int = PAGE_SIZE,
    after: uuid.UUID | None = None,
    until: uuid.UUID | None = None,
) -> Iterator[AuditEvent]:
    """The events that one database holds, oldest first.

    Each page is a query of its own that starts after the last id seen: no transaction
    stays open and no cursor stays on the server, however long the reading takes.

    Args:
        alias: the database.
        trail_filter: which events; all of them if left out.
        page_size: how many records are in memory at a time.
        after: the last id that is left out.
        until: the last id that is included.

    Raises:
        AuditError: a record cannot be read as an event.
    """
    wanted = trail_filter or TrailFilter()
    records = wanted.narrow(AuditRecord.objects.using(alias)).order_by("id")
    if until is not None:
        records = records.filter(id__lte=until)
    page = (records if after is None else records.filter(id__gt=after))[:page_size]
    while True:
        rows = list(page)
        for record in rows:
            event = _to_event(record, alias)
            if wanted.matches(event):
                yield event
        if len(rows) < page_size:
            return
        page = records.filter(id__gt=rows[-1].id)[:page_size]


def read_databases(
    aliases: Iterable[str], trail_filter: TrailFilter | None = None
) -> Iterator[AuditEvent]:
    """The events that several databases hold, oldest first, each event once.

    Args:
        aliases: the databases; two may be the same one, such as a replica.
        trail_filter: which events; all of them if left out.

    Raises:
        AuditError: a record cannot be read as an event.
    """
    found = list(aliases)
    own = [alias for alias in own_databases() if alias in found]
    waiting = heapq.merge(
        *(read_database(alias, trail_filter) for alias in found if alias not in own), key=_order
    )
    last: uuid.UUID | None = None
    for event in _with_own(waiting, own, trail_filter):
        if event.id != last:
            yield event
        last = event.id


def _with_own(
    waiting: Iterator[AuditEvent], own: Sequence[str], trail_filter: TrailFilter | None
) -> Iterator[AuditEvent]:
    """Merge what waits to be moved with what was moved to the trail's own database.

    A record leaves its first database only when it is in the other one. So each stretch of the
    trail is read where records wait first: one that is moved meanwhile is seen twice, and
    never missed.
    """
    after: uuid.UUID | None = None
    while block := list(islice(waiting, PAGE_SIZE)) if own else []:
        until = block[-1].id
        moved = [read_database(one, trail_filter, after=after, until=until) for one in own]
        yield from heapq.merge(block, *moved, key=_order)
        after = until
    rest = [read_database(one, trail_filter, after=after) for one in own]
    yield from heapq.merge(waiting, *rest, key=_order)


def trail_databases() -> list[str]:
    """The aliases whose database has the table of records.

    Raises:
        AuditError: a database cannot be asked; it names the alias.
    """
    return [alias for alias in connections if has_trail(alias)]


def has_trail(alias: str) -> bool:
    """Whether the database of an alias has the table of records.

    Raises:
        AuditError: the database cannot be asked.
    """
    if connections[alias].settings_dict["ENGINE"] == _DUMMY_ENGINE:  # "default": {} beside others
        return False
    try:
        return record_table_exists(alias)
    except DatabaseError as error:
        raise AuditError(f"Database {alias!r} cannot be read: {str(error).strip()}") from error


def has_database_sink() -> bool:
    """Whether a configured sink keeps the trail in the database."""
    return any(route.sink.transactional for route in routing.all_routes())


def trail_files() -> dict[str, Path]:
    """The files from which a trail can be read: those of the file sinks in ``json`` format.

    Returns:
        Sink alias to path; the file need not exist yet. Those rotated away from it are found by
        ``list_rotated``, and read by ``FileTrail(paths, rotated=True)``.
    """
    said = conf.current().SINKS
    return {
        route.alias: route.sink.path
        for route in routing.all_routes()
        if isinstance(route.sink, FileSink)
        and said[route.alias].get("FORMAT", route.sink.default_format) in _JSON_FORMATS
    }


def _to_event(record: AuditRecord, alias: str) -> AuditEvent:
    try:
        return record.to_event()
    except (KeyError, TypeError, ValueError) as error:
        raise AuditError(
            f"Record {record.pk} of database {alias!r} is no audit event: {error!r}. Something "
            "other than this package has written it; look at it with SQL."
        ) from error


def _order(event: AuditEvent) -> int:
    return event.id.int
