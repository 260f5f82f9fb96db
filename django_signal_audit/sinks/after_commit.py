"""Hands events to the sinks that write after COMMIT, and looks after their spools."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from structlog import DropEvent

from django_signal_audit import context
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.delivery import by_route
from django_signal_audit.sinks.failures import (
    described,
    keep_or_lose,
    log_loss,
    refused_by_spool,
    short,
)
from django_signal_audit.sinks.processing import processed_or_lost

if TYPE_CHECKING:
    from django_signal_audit.buffer import Entry
    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks.routing import Route
    from django_signal_audit.sinks.spool import Drained, Spool

logger = logging.getLogger("django_signal_audit")

SLOW: Final = 0.05
"""Seconds of a call after which a sink counts as slow: the program waits for it."""

# How long one event may be kept waiting for those that were spooled before it, in seconds.
_PATIENCE: Final = 0.05


# structlog's DropEvent is no Exception; from a sink it is an error like any other.
_ERRORS: Final = (Exception, DropEvent)

_warned: set[str] = set()


def dispatch_after_commit(batches: Iterable[list[Entry]]) -> None:
    """Hand events to the sinks that follow COMMIT; none can stop another, or the caller.

    What no sink may swallow (KeyboardInterrupt, SystemExit) is raised after the last one.
    """
    interruption: BaseException | None = None
    handled = sys.exception()
    with context.suspend_audit():
        for batch in batches:
            for route, events in by_route(batch, transactional=False):
                counters.count(route.alias, "emitted", len(events))
                try:
                    caught = _process_and_deliver(route, events, handled)
                except BaseException as exc:  # noqa: BLE001 - a signal handler may raise anywhere
                    # It may have been written, or be in the spool; nobody can know.
                    log_loss(route, events, exc, handled)
                    caught = None if isinstance(exc, _ERRORS) else exc
                interruption = caught or interruption
    if interruption is not None:
        raise interruption


def deliver_spooled(
    route: Route, spool: Spool, *, seconds: float | None = None, singly: bool = False
) -> Drained:
    """Hand to a sink what waits in its spool.

    Args:
        route: to the sink.
        spool: of the sink; its policy may be another one by now.
        seconds: when to stop, looked at after each transaction; ``None`` for never.
        singly: hand over one event at a time, to find the one that is refused.

    Returns:
        What became of it.

    Raises:
        OSError: the spool cannot be read or written.
    """

    def emit(events: list[AuditEvent]) -> None:
        _emit(route, events)
        counters.count(route.alias, "written", len(events))

    with context.suspend_audit():
        drained = spool.drain(emit, seconds=seconds, singly=singly)
    if drained.error is not None:
        counters.count(route.alias, "failed", len(drained.refused))
    if drained.damaged:
        counters.count(route.alias, "lost", drained.damaged)
        logger.error(
            "%s lines in the spool of audit sink %r are no events, such as one that a killed "
            "process left torn. They were moved to %s.",
            drained.damaged,
            route.alias,
            spool.skipped_path,
        )
    return drained


def _process_and_deliver(
    route: Route, events: list[AuditEvent], handled: BaseException | None
) -> BaseException | None:
    """Hand events to a sink, behind those that wait in its spool.

    Returns:
        What is to be raised when all sinks were called.
    """
    try:
        given = processed_or_lost(route, events)
    except BaseException as exc:  # noqa: BLE001 - what processors raise beside errors
        # Not into the spool: what the processors take out must not be in it.
        log_loss(route, events, exc, handled)
        return exc
    if not given:
        return None
    if route.spool is not None and _has_waiting(route.spool):
        refused = refused_by_spool(route.spool, route.alias, given)
        if refused is None:
            return _try_again(route, route.spool)
        # Rather out of order than lost.
        logger.warning(
            "The spool of audit sink %r takes nothing (%s); %s goes past those that wait in it.",
            route.alias,
            short(refused),
            described(given).rstrip(","),
        )
    try:
        _emit(route, given)
    except BaseException as exc:  # noqa: BLE001 - a sink may raise anything; it is logged and counted
        keep_or_lose(route, given, exc, handled)
        if route.spool is not None:
            route.spool.pause.begin()
        return None if isinstance(exc, _ERRORS) else exc
    counters.count(route.alias, "written", len(given))
    return None


def _has_waiting(spool: Spool) -> bool:
    try:
        return not spool.is_empty()
    except OSError:
        # Then nothing can be added to it either. If the sink does not take the events now, that
        # is logged, with this error.
        return False


def _try_again(route: Route, spool: Spool) -> BaseException | None:
    if not spool.pause.is_over():
        return None
    spool.pause.begin()  # also for the other threads, while this one tries
    try:
        drained = deliver_spooled(route, spool, seconds=_PATIENCE)
    except (OSError, RuntimeError) as error:
        logger.warning("The spool of audit sink %r cannot be emptied: %s", route.alias, error)
        return None
    if drained.error is None:
        if not drained.is_busy:
            spool.pause.forget()
    else:
        logger.warning(
            "Audit sink %r still cannot write what waits in its spool: %s. It is tried again in "
            "%.0f seconds.",
            route.alias,
            short(drained.error).rstrip("."),
            spool.pause.seconds,
        )
    return None if isinstance(drained.error, _ERRORS) else drained.error


def _emit(route: Route, events: list[AuditEvent]) -> None:
    begun = time.perf_counter()
    try:
        route.sink.emit(events)
    finally:
        taken = time.perf_counter() - begun
        if taken > SLOW:
            _count_slow(route, events, taken)


def _count_slow(route: Route, events: list[AuditEvent], taken: float) -> None:
    counters.count(route.alias, "slow", 1)
    if route.alias not in _warned:
        _warned.add(route.alias)
        logger.warning(
            "Audit sink %r (%s) took %.0f ms for %s after COMMIT, while the program waited for "
            "it. Further calls of more than %.0f ms are only counted: manage.py audit_status.",
            route.alias,
            type(route.sink).__name__,
            taken * 1000,
            described(events).rstrip(","),
            SLOW * 1000,
        )
