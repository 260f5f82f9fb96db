"""From a bare fact to an event on its way: context, redaction, routing, buffer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections
from structlog import DropEvent

from django_signal_audit import conf, context, transactions
from django_signal_audit.buffer import Entry
from django_signal_audit.cleaning import NAME_LIMIT, clean_mapping, clean_text, clean_value
from django_signal_audit.event import AuditEvent, Outcome
from django_signal_audit.exceptions import AuditProcessorError
from django_signal_audit.ids import uuid7
from django_signal_audit.keys import message_text
from django_signal_audit.processors import Processor, global_processors, run
from django_signal_audit.redaction import redactor
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.routing import RouteKey, Routes, routes_for
from django_signal_audit.tasks import log_failure

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from django_signal_audit.registry import AuditPolicy

Observer = Callable[[AuditEvent], None]

_observers: list[Observer] = []
_waiting: list[tuple[Context, Act]] = []
_sinks_known = False


@dataclass(slots=True, kw_only=True)
class Act:
    """A custom event as its sender describes it, with raw values."""

    event: str
    level: str = "info"
    outcome: Outcome = Outcome.SUCCESS
    sender: str = ""
    message: Any = ""
    object_type: str | None = None
    object_id: str | None = None
    object_repr: str = ""
    error: BaseException | None = None
    reason: str | None = None
    duration_ms: float | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    database: str = DEFAULT_DB_ALIAS
    sinks: tuple[str, ...] | None = None
    id: uuid.UUID | None = None
    timestamp: datetime | None = None
    secrets: frozenset[str] = frozenset()


@dataclass(slots=True)
class Change:
    """One row's change as capture found it; its values are safe and masked already."""

    operation: str
    object_id: str | None
    object_repr: str
    changes: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)


def emit_changes(policy: AuditPolicy, label: str, using: str, changes: Iterable[Change]) -> None:
    """Record row changes of one model; call it inside the transaction that made them.

    Args:
        policy: of the model.
        label: the model's label as people write it, ``shop.Order``.
        using: the database alias that was written.
        changes: the rows, in the order they were written.

    Raises:
        AuditProcessorError: a processor of ``SIGNAL_AUDIT["PROCESSORS"]`` failed.
        AuditSinkError: an early flush failed on a sink whose policy is ``raise``.
    """
    connection = connections[using]
    processors = global_processors()
    around: _Around | None = None
    keys: dict[str, tuple[RouteKey, Routes]] = {}
    for change in changes:
        name = f"model.{change.operation}"
        if name not in keys:
            key: RouteKey = (name, policy.label, "info", policy.sinks)
            keys[name] = (key, routes_for(key))
        key, routes = keys[name]
        if not (routes or processors or _observers or policy.when):
            continue
        if around is None:
            around = _surroundings()
        now = datetime.now(tz=UTC)
        event = AuditEvent(
            id=uuid7(now),
            timestamp=now,
            event=name,
            sender=label,
            message=name,
            object_type=policy.label,
            object_id=change.object_id,
            object_repr=change.object_repr,
            changes=change.changes,
            actor=around.said.actor,
            on_behalf_of=around.said.on_behalf_of,
            reason=around.reason,
            cause=around.said.cause,
            context=around.context,
            data=change.data,
            database=using,
            transaction=transactions.transaction_id(connection),
        )
        if policy.when is not None and not policy.when(event):
            continue
        folds = policy.coalesce and _is_save(change)
        _submit(connection, event, key, routes, processors, survives=False, folds=folds)


def _is_save(change: Change) -> bool:
    """Whether one object was saved; what calls wrote that write many rows is told apart."""
    saves = change.operation in {"create", "update"}
    return saves and change.object_id is not None and "bulk" not in change.data


def emit_act(act: Act) -> uuid.UUID | None:
    """Record a custom event: it survives a rollback, marked.

    Returns:
        The event's id; ``None`` where a processor dropped it, or before the apps are ready (it
        then goes to the sinks that need no database, as soon as those are known).

    Raises:
        AuditProcessorError: a processor of ``SIGNAL_AUDIT["PROCESSORS"]`` failed.
        AuditSinkError: outside of a transaction, a sink whose policy is ``raise`` failed.
        ConnectionDoesNotExist: ``act.database`` is no alias of a database.
    """
    if not apps.ready:
        act.timestamp = act.timestamp or datetime.now(tz=UTC)
        if _sinks_known:
            _emit_without_database(act)
        else:
            act.data = dict(act.data)
            _waiting.append((copy_context(), act))
        return None
    event = build_act(act)
    connection = connections[act.database]
    key = _key_of(event, act.sinks)
    kept = _submit(connection, event, key, routes_for(key), global_processors(), survives=True)
    return event.id if kept else None


def emit_waiting() -> None:
    """Record what was sent before the apps were ready, where no database is needed."""
    global _sinks_known  # noqa: PLW0603 - apps get ready once
    _sinks_known = True
    waiting, _waiting[:] = _waiting[:], []
    for surroundings, act in waiting:
        surroundings.run(_emit_without_database, act)


def _emit_without_database(act: Act) -> None:
    event = build_act(act, in_database=False)
    key = _key_of(event, act.sinks)
    handled = sys.exception()
    try:
        event, key, _ = _processed(event, key, routes_for(key), global_processors())
    except DropEvent:
        return
    except AuditProcessorError as exc:
        # There is no write to undo, and the program could not start.
        log_failure("An audit event was lost.", error=exc, handled=handled)
        return
    _observe(event)
    transactions.deliver_without_database(Entry(event, key, survives=True, keep=True))


def freeze(act: Act) -> None:
    """Take an act's time and values as they are now, because it is emitted later."""
    act.timestamp = act.timestamp or datetime.now(tz=UTC)
    secrets = set(act.secrets)
    act.data = clean_mapping(act.data, secrets, "data")
    act.message = "" if act.message is None else message_text(act.message)
    act.secrets = frozenset(secrets)


def build_act(act: Act, *, in_database: bool = True) -> AuditEvent:
    """Complete a custom event with its surroundings, redacted and safe."""
    # All secrets first: each of them must leave every text.
    secrets = set(act.secrets)
    clean_value(act.data, secrets)
    around = _surroundings(secrets)
    data = clean_mapping(act.data, secrets, "data")
    now = act.timestamp or datetime.now(tz=UTC)
    error = None
    if act.error is not None:
        error = {"type": type(act.error).__name__, "message": clean_text(act.error, secrets)}
    reason = act.reason if act.reason is not None else around.reason
    return AuditEvent(
        id=act.id or uuid7(now),
        timestamp=now,
        event=clean_text(act.event, secrets, limit=NAME_LIMIT),
        level=act.level,
        outcome=act.outcome,
        sender=clean_text(act.sender, secrets),
        message="" if act.message is None else clean_text(message_text(act.message), secrets),
        object_type=act.object_type,
        object_id=act.object_id,
        object_repr=clean_text(act.object_repr, secrets, limit=conf.current().REPR_LIMIT),
        actor=around.said.actor,
        on_behalf_of=around.said.on_behalf_of,
        reason=None if reason is None else clean_text(reason, secrets),
        cause=around.said.cause,
        duration_ms=act.duration_ms,
        error=error,
        context=around.context,
        data=data,
        database=act.database if in_database else None,
        transaction=transactions.transaction_id(connections[act.database]) if in_database else None,
    )


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Show every event to a function while the block runs, from any thread."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


@dataclass(frozen=True, slots=True)
class _Around:
    said: context.Surroundings
    context: dict[str, Any]
    reason: str | None


def _surroundings(secrets: set[str] | None = None) -> _Around:
    """The surroundings of an event, safe and masked.

    Args:
        secrets: those of the event itself; receives those found here.
    """
    said = context.surroundings()
    secrets = set() if secrets is None else secrets
    secrets |= said.secrets
    around = dict(said.context)
    if isinstance(around.get("query"), str):
        around["query"] = redactor().redact_query_string(around["query"])
    safe = clean_mapping(around, secrets, "context")
    reason = None if said.reason is None else clean_text(said.reason, secrets)
    return _Around(said, safe, reason)


def _submit(
    connection: Any,
    event: AuditEvent,
    key: RouteKey,
    routes: Routes,
    processors: tuple[Processor, ...],
    *,
    survives: bool,
    folds: bool = False,
) -> bool:
    """Send an event on its way; false if a processor dropped it."""
    try:
        event, key, routes = _processed(event, key, routes, processors)
    except DropEvent:
        return False
    _observe(event)
    if routes:
        keep = bool(routes.after_commit)
        transactions.submit(connection, Entry(event, key, survives, keep, folds))
    return True


def _processed(
    event: AuditEvent, key: RouteKey, routes: Routes, processors: tuple[Processor, ...]
) -> tuple[AuditEvent, RouteKey, Routes]:
    """The event as the user's processors want it, and where it goes now.

    Raises:
        DropEvent: nowhere; each sink that it would have gone to counts it.
        AuditProcessorError: a processor failed.
    """
    if not processors:
        return event, key, routes
    try:
        with context.suspend_audit():
            event = run(processors, event)
    except DropEvent:
        for route in (*routes.transactional, *routes.after_commit):
            counters.count_all(route.alias, {"emitted": 1, "dropped": 1})
        raise
    key = _key_of(event, key[-1])
    return event, key, routes_for(key)


def _key_of(event: AuditEvent, aliases: tuple[str, ...] | None) -> RouteKey:
    return (event.event, event.object_type, event.level, aliases)


def _observe(event: AuditEvent) -> None:
    for observer in tuple(_observers):
        observer(event)
