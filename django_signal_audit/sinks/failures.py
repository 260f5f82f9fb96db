"""What becomes of events that a sink could not write: its ``ON_ERROR``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.base import Sink, TransactionalSink
from django_signal_audit.sinks.spool import Spool
from django_signal_audit.tasks import log_failure

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks.routing import Route

ON_ERROR: Final = ("raise", "log", "spool")


def policy_of(where: str, value: Any, backend: type[Sink] | None) -> str:
    """The failure policy of a sink.

    Args:
        where: the entry of ``SINKS``, for messages.
        value: of its key ``ON_ERROR``; ``None`` if it has none.
        backend: the class of the sink; ``None`` if it is not known.

    Raises:
        AuditConfigurationError: it is no policy, or cannot be that of this sink.
    """
    transactional = backend is not None and issubclass(backend, TransactionalSink)
    if value is None:
        return "raise" if transactional else "log"
    if value not in ON_ERROR:
        raise AuditConfigurationError(
            f"{where}['ON_ERROR'] is {value!r}, which is no policy.",
            hint=conf.nearest(value, ON_ERROR),
            number="E028",
        )
    if backend is not None and value == ("spool" if transactional else "raise"):
        why, hint = _WRONG_PLACE[value]
        raise AuditConfigurationError(
            f"{where}['ON_ERROR'] cannot be {value!r}: {backend.__name__} writes {why}",
            hint=hint,
            number="E029",
        )
    return str(value)


_WRONG_PLACE: Final = {
    "raise": (
        "after COMMIT, when nothing can be rolled back any more.",
        "Use 'spool' or 'log', or a sink that writes inside the transaction.",
    ),
    "spool": (
        "inside the transaction, and what waits in a spool has left it.",
        "Use 'raise', which rolls the change back, or 'log'.",
    ),
}


def spool_of(where: str, alias: str, state_dir: str | os.PathLike[str] | None) -> Spool:
    """The spool of a sink whose policy is ``spool``.

    Args:
        where: the entry of ``SINKS``, for messages.
        alias: of the sink.
        state_dir: the setting ``STATE_DIR``.

    Raises:
        AuditConfigurationError: ``STATE_DIR`` is not set.
    """
    if state_dir is None:
        raise AuditConfigurationError(
            f"{where}['ON_ERROR'] is 'spool', but there is no directory for the spool.",
            hint=f"Write {conf.SETTING}['STATE_DIR'], a directory of this machine that is still "
            "there after a restart, such as BASE_DIR / 'audit-state'.",
            number="E036",
        )
    return Spool(Path(state_dir), alias)


def keep_or_lose(
    route: Route,
    events: list[AuditEvent],
    error: BaseException,
    handled: BaseException | None,
) -> None:
    """Count a failed write, and put the events into the sink's spool, or else lose them.

    Args:
        route: to the sink.
        events: that it was given.
        error: what it raised.
        handled: what the program was handling before, whose text may quote a secret.
    """
    if route.spool is None:
        log_loss(route, events, error, handled)
        return
    counters.count(route.alias, "failed", len(events))
    refused = refused_by_spool(route.spool, route.alias, events)
    if refused is not None:
        log_loss(route, events, refused, handled, counted=0)
        return
    log_failure(
        "Audit sink %r (%s) could not write %s: %s. The spool %s keeps it until the sink "
        "takes it; manage.py audit_spool shows what waits.",
        route.alias,
        type(route.sink).__name__,
        described(events).rstrip(","),
        short(error).rstrip("."),
        route.spool.path,
        error=error,
        handled=handled,
    )


def refused_by_spool(spool: Spool, alias: str, events: list[AuditEvent]) -> Exception | None:
    """Put events into a spool, and count them.

    Args:
        spool: of the sink.
        alias: of the sink.
        events: in order.

    Returns:
        Why they are not in it; ``None`` if they are.
    """
    try:
        spool.append(events)
    except Exception as exc:  # noqa: BLE001 - the caller has another way, or logs the loss
        return exc
    counters.count(alias, "spooled", len(events))
    return None


def log_loss(
    route: Route,
    events: list[AuditEvent],
    error: BaseException,
    handled: BaseException | None,
    *,
    counted: int | None = None,
) -> None:
    """Count and log events that a sink failed to write, and that are nowhere else.

    Args:
        route: to the sink.
        events: that it was given.
        error: what it raised.
        handled: what the program was handling before, whose text may quote a secret.
        counted: how many of them to count as failed; all, if left out.
    """
    failed = len(events) if counted is None else counted
    counters.count_all(route.alias, {"failed": failed, "lost": len(events)})
    log_failure(
        "Audit sink %r (%s) lost %s because it could not write: %s",
        route.alias,
        type(route.sink).__name__,
        described(events).rstrip(","),
        short(error),
        error=error,
        handled=handled,
    )


def described(events: list[AuditEvent]) -> str:
    """Which events these are: how many, and the first and the last of them."""
    if len(events) == 1:
        return f"1 event, {_named(events[0])},"
    return f"{len(events)} events, first {_named(events[0])}, last {_named(events[-1])},"


def _named(event: AuditEvent) -> str:
    about = f" of {event.object_type} {event.object_id}" if event.object_type else ""
    return f"{event.event}{about} (id {event.id})"


def short(error: BaseException) -> str:
    """The first line: drivers add the statement and a caret, which the traceback shows too."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
