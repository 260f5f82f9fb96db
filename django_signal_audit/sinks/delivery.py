"""Hands events to the sinks they are routed to, and applies each sink's failure policy."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from django.db import OperationalError, ProgrammingError
from structlog import DropEvent

from django_signal_audit import context, internals
from django_signal_audit.exceptions import (
    AuditConfigurationError,
    AuditProcessorError,
    AuditSinkError,
    AuditSinkOperationalError,
)
from django_signal_audit.processors import run
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.base import TransactionalSink
from django_signal_audit.sinks.migrating import table_is_missing, was_never_migrated
from django_signal_audit.sinks.routing import Route, Routes, routes_for
from django_signal_audit.tasks import log_failure

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.buffer import Entry
    from django_signal_audit.event import AuditEvent

logger = logging.getLogger("django_signal_audit")

_SAVEPOINT: Final = "signal_audit_flush"
_NOWHERE: Final = Routes((), ())


def write_transactional(
    connection: BaseDatabaseWrapper, entries: list[Entry], *, in_transaction: bool
) -> None:
    """Write events to the transactional sinks, through the connection they belong to.

    Args:
        connection: with the transaction that the events share the fate of.
        entries: in order.
        in_transaction: whether there is one; if not, each write is its own.

    Raises:
        AuditSinkError: a sink whose policy is ``raise`` failed.
    """
    with context.suspend_audit():
        for route, events in by_route(entries, transactional=True):
            if table_is_missing(connection):
                counters.count(route.alias, "dropped", len(events))
            elif route.on_error == "raise":
                _write_or_raise(connection, route, events, in_transaction=in_transaction)
            elif given := _processed_or_lost(route, events):
                write = _write_in_savepoint if in_transaction else _write_or_log
                write(connection, route, given)


def write_survivor(connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent]) -> None:
    """Write events that outlived their transaction; any of them may be stored already.

    Raises:
        Exception: whatever the sink raised; the caller rolls back and calls ``log_loss``.
    """
    with context.suspend_audit():
        transactional(route).write(connection, events, ignore_existing=True)


def dispatch_after_commit(batches: Iterable[list[Entry]]) -> None:
    """Hand events to the sinks that follow COMMIT; none can stop another, or the caller.

    What no sink may swallow (KeyboardInterrupt, SystemExit) is raised after the last one.
    """
    interruption: BaseException | None = None
    handled = sys.exception()
    with context.suspend_audit():
        for batch in batches:
            for route, events in by_route(batch, transactional=False):
                given = events
                try:
                    given = _processed_or_lost(route, events)
                    if given:
                        route.sink.emit(given)
                except (Exception, DropEvent) as exc:  # noqa: BLE001 - a sink may raise anything; it is logged and counted
                    log_loss(route, given, exc, handled)
                except BaseException as exc:  # noqa: BLE001 - raised below
                    log_loss(route, given, exc, handled)
                    interruption = exc
                else:
                    counters.count(route.alias, "written", len(given))
    if interruption is not None:
        raise interruption


def by_route(entries: list[Entry], *, transactional: bool) -> list[tuple[Route, list[AuditEvent]]]:
    """The events of each sink, in order."""
    found: dict[str, tuple[Route, list[AuditEvent]]] = {}
    for entry in entries:
        routes = _routes_now(entry)
        for route in routes.transactional if transactional else routes.after_commit:
            found.setdefault(route.alias, (route, []))[1].append(entry.event)
    return list(found.values())


def survivors_by_route(entries: list[Entry]) -> list[tuple[Route, list[AuditEvent]]]:
    """What each transactional sink gets of events that outlived their transaction, in order."""
    with context.suspend_audit():
        found = [
            (route, _processed_or_lost(route, events))
            for route, events in by_route(entries, transactional=True)
        ]
    return [(route, events) for route, events in found if events]


def _processed(route: Route, events: list[AuditEvent]) -> list[AuditEvent]:
    """Events as the sink's own processors want them, without those that they dropped.

    Raises:
        AuditProcessorError: one of them failed.
    """
    if not route.processors:
        return events
    kept = []
    for event in events:
        try:
            kept.append(run(route.processors, event))
        except DropEvent:
            continue
    if len(kept) < len(events):
        counters.count(route.alias, "dropped", len(events) - len(kept))
    return kept


def _processed_or_lost(route: Route, events: list[AuditEvent]) -> list[AuditEvent]:
    """The same, for a sink whose policy is ``log``: an event that a processor failed on is lost."""
    if not route.processors:
        return events
    handled = sys.exception()
    kept = []
    for event in events:
        try:
            kept += _processed(route, [event])
        except AuditProcessorError as exc:
            log_loss(route, [event], exc, handled)
    return kept


def transactional(route: Route) -> TransactionalSink:
    """The sink of a route, known to be transactional."""
    if not isinstance(route.sink, TransactionalSink):
        raise TypeError(f"audit sink {route.alias!r} is not transactional")
    return route.sink


def log_loss(
    route: Route,
    events: list[AuditEvent],
    error: BaseException,
    handled: BaseException | None,
) -> None:
    """Count and log events that a sink failed to write.

    Args:
        route: to the sink.
        events: that it was given.
        error: what it raised.
        handled: what the program was handling before, whose text may quote a secret.
    """
    counters.count(route.alias, "lost", len(events))
    log_failure(
        "Audit sink %r (%s) lost %s because it could not write: %s",
        route.alias,
        type(route.sink).__name__,
        _described(events).rstrip(","),
        _short(error),
        error=error,
        handled=handled,
    )


def _routes_now(entry: Entry) -> Routes:
    """Where an event goes; nowhere if the settings it was accepted under are gone.

    That happens where a test's ``override_settings`` ends before its transaction does.
    """
    try:
        return routes_for(entry.key)
    except AuditConfigurationError as exc:
        logger.warning("Audit event %s goes nowhere, the settings changed: %s", entry.event.id, exc)
        return _NOWHERE


def _write_or_raise(
    connection: BaseDatabaseWrapper,
    route: Route,
    events: list[AuditEvent],
    *,
    in_transaction: bool,
) -> None:
    try:
        given = _processed(route, events)
        if given:
            transactional(route).write(connection, given)
    except Exception as exc:
        if not in_transaction and _lacks_table(exc) and _is_to_be_migrated(connection):
            _drop_before_migration(connection, route, events)
            return
        text = (
            f"Audit sink {route.alias!r} ({type(route.sink).__name__}) could not write "
            f"{_described(events)} to database {connection.alias!r}: {_short(exc).rstrip('.')}."
        )
        if in_transaction:
            text += " The change was rolled back, because this sink's ON_ERROR is 'raise'."
        if isinstance(exc, OperationalError) and not _lacks_table(exc):
            # As the driver's error would be at COMMIT: retries ask its cause for the code.
            raise AuditSinkOperationalError(text) from exc.__cause__ or exc
        if _lacks_table(exc):
            text += f" {_how_to_make_the_table(connection.alias)}"
        text += " To keep changes without their record, set ON_ERROR to 'log'."
        raise AuditSinkError(text) from exc
    counters.count(route.alias, "written", len(given))


def _is_to_be_migrated(connection: BaseDatabaseWrapper) -> bool:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    allowed = internals.forbidding_router(connection.alias, AuditRecord) is None
    return allowed and was_never_migrated(connection)


def _drop_before_migration(
    connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent]
) -> None:
    """Nothing was changed, and raising could stop the ``migrate`` that makes the table."""
    counters.count(route.alias, "dropped", len(events))
    logger.warning(
        "Audit sink %r dropped %s because database %r has no table of records yet. %s",
        route.alias,
        _described(events).rstrip(","),
        connection.alias,
        _how_to_make_the_table(connection.alias),
    )


def _how_to_make_the_table(alias: str) -> str:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    make = f"Run manage.py migrate --database {alias} to make the table."
    forbids = internals.forbidding_router(alias, AuditRecord)
    if forbids is None:
        return make
    return (
        f"{forbids} in DATABASE_ROUTERS keeps the table from this database: let its "
        f"allow_migrate() return True for 'django_signal_audit' here. {make}"
    )


def _lacks_table(error: Exception) -> bool:
    """Whether a statement failed because the table of records is not there."""
    if isinstance(error, ProgrammingError):
        return True
    return isinstance(error, OperationalError) and "no such table" in str(error)


def _write_or_log(connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent]) -> None:
    handled = sys.exception()
    try:
        transactional(route).write(connection, events)
    except Exception as exc:  # noqa: BLE001 - logged and counted, as the policy says
        log_loss(route, events, exc, handled)
    else:
        counters.count(route.alias, "written", len(events))


def _write_in_savepoint(
    connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent]
) -> None:
    """Write in a savepoint: on PostgreSQL a failed INSERT would poison the transaction."""
    ops = connection.ops
    handled = sys.exception()
    with connection.cursor() as cursor:
        cursor.execute(ops.savepoint_create_sql(_SAVEPOINT))
        try:
            transactional(route).write(connection, events)
        except Exception as exc:  # noqa: BLE001 - logged and counted, as the policy says
            cursor.execute(ops.savepoint_rollback_sql(_SAVEPOINT))
            cursor.execute(ops.savepoint_commit_sql(_SAVEPOINT))
            log_loss(route, events, exc, handled)
            return
        cursor.execute(ops.savepoint_commit_sql(_SAVEPOINT))
    counters.count(route.alias, "written", len(events))


def _described(events: list[AuditEvent]) -> str:
    first = events[0]
    about = f" of {first.object_type} {first.object_id}" if first.object_type else ""
    one = f"{first.event}{about} (id {first.id})"
    return f"1 event, {one}," if len(events) == 1 else f"{len(events)} events, first {one},"


def _short(error: BaseException) -> str:
    """The first line: drivers add the statement and a caret, which the traceback shows too."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
