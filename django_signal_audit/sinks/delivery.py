"""Writes events to the transactional sinks, and applies each one's failure policy."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from django.db import OperationalError, ProgrammingError

from django_signal_audit import context, internals
from django_signal_audit.exceptions import (
    AuditConfigurationError,
    AuditSinkError,
    AuditSinkOperationalError,
)
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.base import TransactionalSink
from django_signal_audit.sinks.counters import Outcome
from django_signal_audit.sinks.failures import described, log_loss, short
from django_signal_audit.sinks.migrating import table_is_missing, was_never_migrated
from django_signal_audit.sinks.processing import processed, processed_or_lost
from django_signal_audit.sinks.routing import Route, Routes, routes_for

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.buffer import Entry
    from django_signal_audit.event import AuditEvent

logger = logging.getLogger("django_signal_audit")

_SAVEPOINT: Final = "signal_audit_flush"
_NOWHERE: Final = Routes((), ())


Tally = Callable[[str, Mapping[Outcome, int]], None]
"""Takes a sink's alias, and what is to be counted once the transaction is committed."""


def write_transactional(
    connection: BaseDatabaseWrapper, entries: list[Entry], *, tally: Tally | None
) -> None:
    """Write events to the transactional sinks, through the connection they belong to.

    Args:
        connection: with the transaction that the events share the fate of.
        entries: in order.
        tally: called with what was written; ``None`` where there is no transaction, so that
            each write is its own and is counted at once.

    Raises:
        AuditSinkError: a sink whose policy is ``raise`` failed.
    """
    with context.suspend_audit():
        for route, events in by_route(entries, transactional=True):
            if table_is_missing(connection):
                _count_dropped(route, len(events))
            elif route.on_error == "raise":
                _write_or_raise(connection, route, events, tally)
            else:
                given = processed_or_lost(route, events)
                counters.count(route.alias, "emitted", len(events) - len(given))
                if given and tally is not None:
                    _write_in_savepoint(connection, route, given, tally)
                elif given:
                    _write_or_log(connection, route, given)


def write_survivor(connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent]) -> None:
    """Write events that outlived their transaction; any of them may be stored already.

    Raises:
        Exception: whatever the sink raised; the caller rolls back and calls ``log_loss``.
    """
    with context.suspend_audit():
        transactional(route).write(connection, events, ignore_existing=True)


def by_route(entries: list[Entry], *, transactional: bool) -> list[tuple[Route, list[AuditEvent]]]:
    """The events of each sink, in order."""
    found: dict[str, tuple[Route, list[AuditEvent]]] = {}
    for entry in entries:
        routes = _routes_now(entry)
        for route in routes.transactional if transactional else routes.after_commit:
            found.setdefault(route.alias, (route, []))[1].append(entry.event)
    return list(found.values())


def count_written(route: Route, events: int) -> None:
    """Count events that a transactional sink has for good."""
    counters.count_all(route.alias, {"emitted": events, "written": events})


def count_lost(
    route: Route, events: list[AuditEvent], error: BaseException, handled: BaseException | None
) -> None:
    """Count and log events that a transactional sink did not take; see ``log_loss``."""
    counters.count(route.alias, "emitted", len(events))
    log_loss(route, events, error, handled)


def survivors_by_route(entries: list[Entry]) -> list[tuple[Route, list[AuditEvent]]]:
    """What each transactional sink gets of events that outlived their transaction, in order."""
    with context.suspend_audit():
        found = []
        for route, events in by_route(entries, transactional=True):
            given = processed_or_lost(route, events)
            counters.count(route.alias, "emitted", len(events) - len(given))
            if given:
                found.append((route, given))
    return found


def transactional(route: Route) -> TransactionalSink:
    """The sink of a route, known to be transactional."""
    if not isinstance(route.sink, TransactionalSink):
        raise TypeError(f"audit sink {route.alias!r} is not transactional")
    return route.sink


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
    tally: Tally | None,
) -> None:
    in_transaction = tally is not None
    try:
        given, dropped = processed(route, events)
        if given:
            transactional(route).write(connection, given)
    except Exception as exc:
        if not in_transaction and _lacks_table(exc) and _is_to_be_migrated(connection):
            _drop_before_migration(connection, route, events)
            return
        counters.count_all(route.alias, {"emitted": len(events), "failed": len(events)})
        text = (
            f"Audit sink {route.alias!r} ({type(route.sink).__name__}) could not write "
            f"{described(events)} to database {connection.alias!r}: {short(exc).rstrip('.')}."
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
    (tally or counters.count_all)(
        route.alias, {"emitted": len(events), "written": len(given), "dropped": dropped}
    )


def _is_to_be_migrated(connection: BaseDatabaseWrapper) -> bool:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    allowed = internals.forbidding_router(connection.alias, AuditRecord) is None
    return allowed and was_never_migrated(connection)


def _drop_before_migration(
    connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent]
) -> None:
    """Nothing was changed, and raising could stop the ``migrate`` that makes the table."""
    _count_dropped(route, len(events))
    logger.warning(
        "Audit sink %r dropped %s because database %r has no table of records yet. %s",
        route.alias,
        described(events).rstrip(","),
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
        count_lost(route, events, exc, handled)
    else:
        count_written(route, len(events))


def _write_in_savepoint(
    connection: BaseDatabaseWrapper, route: Route, events: list[AuditEvent], tally: Tally
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
            count_lost(route, events, exc, handled)
            return
        cursor.execute(ops.savepoint_commit_sql(_SAVEPOINT))
    tally(route.alias, {"emitted": len(events), "written": len(events)})


def _count_dropped(route: Route, events: int) -> None:
    counters.count_all(route.alias, {"emitted": events, "dropped": events})
