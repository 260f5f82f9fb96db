"""``manage.py audit_forward``: records that wait, to the trail's own database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from django_signal_audit import context, reader
from django_signal_audit.exceptions import AuditError
from django_signal_audit.management import arguments
from django_signal_audit.sinks import DatabaseSink, aliases, forwarding, moving, routing
from django_signal_audit.sinks.database import MAX_ROWS

if TYPE_CHECKING:
    import uuid
    from argparse import ArgumentParser
    from collections.abc import Iterator

    from django_signal_audit.models import AuditRecordQuerySet

_OPTION: Final = "'OPTIONS': {'database': 'audit'}"


class Command(BaseCommand):
    """Moves records batch by batch; any number may run at once, beside a running site."""

    help = (
        "Move audit records that wait on the databases that were written to the trail's own "
        "database. It can be stopped at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--database",
            action="append",
            metavar="ALIAS",
            help="Move from this database only; may be repeated. Default: all that hold records.",
        )
        parser.add_argument(
            "--batch-size",
            type=int,
            default=forwarding.BATCH,
            metavar="N",
            help=f"Records moved at a time, 1 to {MAX_ROWS:,}. Default: {forwarding.BATCH}.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Move nothing; say how many records wait."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Check the arguments, then move."""
        sink, target = _find_sink()
        size = options["batch_size"]
        if not 1 <= size <= MAX_ROWS:
            raise CommandError(
                f"--batch-size {size} is not possible. Write a number from 1 to {MAX_ROWS:,}."
            )
        named = arguments.parse_databases(options["database"])
        sources = _find_sources(named, target)
        unreadable: list[uuid.UUID] = []
        refused: dict[uuid.UUID, str] = {}
        for source in sources:
            records = moving.waiting(source) if named else forwarding.written_on(source)
            try:
                if options["dry_run"]:
                    count = records.count()
                    text = f"{_records(count)} on {source!r} to be moved to {target!r}."
                else:
                    pages = _move(records, target, sink, size)
                    for page in pages:
                        unreadable += page.unreadable
                        refused.update(page.refused)
                    count = sum(page.moved for page in pages)
                    text = f"Moved {_records(count)} from {source!r} to {target!r}."
            except (AuditError, DatabaseError) as error:
                raise CommandError(
                    f"Records of {source!r} could not all be moved to {target!r}: "
                    f"{str(error).strip().rstrip('.')}. What was not moved waits on {source!r}."
                ) from error
            if options["verbosity"] > 0:
                self.stdout.write(text)
        problems = [*_about_unreadable(unreadable), *_about_refused(refused, target)]
        if problems:
            raise CommandError("\n".join(problems))


def _find_sink() -> tuple[DatabaseSink, str]:
    for route in routing.all_routes():
        if isinstance(route.sink, DatabaseSink) and route.sink.database is not None:
            return route.sink, route.sink.database
    raise CommandError(
        "No sink sends the trail to a database of its own, so there is nothing to move. To do so, "
        f"write {_OPTION} at the database sink in SIGNAL_AUDIT['SINKS']."
    )


def _find_sources(named: list[str], target: str) -> list[str]:
    if target in named:
        raise CommandError(
            f"--database {target!r} is where records are moved to. Name one that they come from."
        )
    try:
        return [alias for alias in named or connections if _has_trail(alias, target, named)]
    except AuditError as error:
        raise CommandError(str(error)) from error


def _has_trail(alias: str, target: str, named: list[str]) -> bool:
    if alias == target or (not named and aliases.mirrors(alias) == target):
        return False
    found = reader.has_trail(alias)
    if named and not found:
        raise CommandError(f"Database {alias!r} has no audit table, so no record waits there.")
    return found


def _move(
    records: AuditRecordQuerySet, target: str, sink: DatabaseSink, batch_size: int
) -> list[moving.Page]:
    with context.suspend_audit():
        return list(forwarding.move_all(records, target, sink.write, batch_size=batch_size))


def _about_unreadable(ids: list[uuid.UUID]) -> Iterator[str]:
    if ids:
        what = "that is no event" if len(ids) == 1 else "that are no events"
        yield (
            f"Not moved: {_records(len(ids))} {what}: {', '.join(map(str, ids))}. Something other "
            "than this package has written that; look at it with SQL."
        )


def _about_refused(reasons: dict[uuid.UUID, str], target: str) -> Iterator[str]:
    if reasons:
        said = "".join(f"\n  {key}: {why}." for key, why in reasons.items())
        yield f"Not moved: {_records(len(reasons))} that database {target!r} refuses:{said}"


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"
