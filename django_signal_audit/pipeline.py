"""From a bare fact to an event on its way: context, redaction, routing, buffer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections

from django_signal_audit import conf, context, transactions
from django_signal_audit.buffer import Entry
from django_signal_audit.event import AuditEvent, Outcome
from django_signal_audit.ids import uuid7
from django_signal_audit.redaction import redactor
from django_signal_audit.sinks.routing import RouteKey, Routes, routes_for
from django_signal_audit.values import make_safe, safe_text, stable_key

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from django_signal_audit.registry import AuditPolicy

TEXT_LIMIT = 10_000
NAME_LIMIT = 255
_SCRUBBED_BEYOND = 1000
_KEYS_KEPT = 100

Observer = Callable[[AuditEvent], None]

_observers: list[Observer] = []
_observers_lock = threading.Lock()
_waiting: list[Act] = []
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
        AuditSinkError: an early flush failed on a sink whose policy is ``raise``.
    """
    connection = connections[using]
    around: _Around | None = None
    keys: dict[str, tuple[RouteKey, Routes]] = {}
    for change in changes:
        name = f"model.{change.operation}"
        if name not in keys:
            key: RouteKey = (name, policy.label, "info", policy.sinks)
            keys[name] = (key, routes_for(key))
        key, routes = keys[name]
        if not routes and not _observers and policy.when is None:
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
        _submit(connection, event, key, routes, survives=False)


def emit_act(act: Act) -> uuid.UUID | None:
    """Record a custom event: it survives a rollback, marked.

    Returns:
        The event's id; ``None`` while auditing is suspended, or before the apps are ready
        (it then goes to the sinks that need no database, as soon as those are known).

    Raises:
        AuditSinkError: outside of a transaction, a sink whose policy is ``raise`` failed.
        ConnectionDoesNotExist: ``act.database`` is no alias of a database.
    """
    if context.is_suspended():
        return None
    if not apps.ready:
        act.timestamp = act.timestamp or datetime.now(tz=UTC)
        if _sinks_known:
            _emit_without_database(act)
        else:
            _waiting.append(act)
        return None
    event = build_act(act)
    connection = connections[act.database]
    key: RouteKey = (event.event, event.object_type, event.level, act.sinks)
    _submit(connection, event, key, routes_for(key), survives=True)
    return event.id


def emit_waiting() -> None:
    """Record what was sent before the apps were ready, where no database is needed."""
    global _sinks_known  # noqa: PLW0603 - apps get ready once
    _sinks_known = True
    acts, _waiting[:] = _waiting[:], []
    for act in acts:
        _emit_without_database(act)


def _emit_without_database(act: Act) -> None:
    event = build_act(act, in_database=False)
    key: RouteKey = (event.event, event.object_type, event.level, act.sinks)
    _observe(event)
    transactions.deliver_without_database(Entry(event, key, survives=True, keep=True))


def freeze(act: Act) -> None:
    """Take an act's time and values as they are now, because it is emitted later."""
    act.timestamp = act.timestamp or datetime.now(tz=UTC)
    secrets = set(act.secrets)
    act.data = _safe_mapping(act.data, secrets, "data")
    if act.message is not None:
        act.message = safe_text(act.message, limit=sys.maxsize)
    act.secrets = frozenset(secrets)


def build_act(act: Act, *, in_database: bool = True) -> AuditEvent:
    """Complete a custom event with its surroundings, redacted and safe."""
    # All secrets first: each of them must leave every text.
    secrets = set(act.secrets)
    _safe(act.data, secrets)
    around = _surroundings(secrets)
    data = _safe_mapping(act.data, secrets, "data")
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
        message="" if act.message is None else clean_text(act.message, secrets),
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


def clean_text(value: Any, secrets: Collection[str] = (), *, limit: int = TEXT_LIMIT) -> str:
    """A text for people: safe, without secrets, and at most ``limit`` characters.

    Secrets are taken out before the text is cut, so that no half of one stays.

    Args:
        value: shown by its ``str()``.
        secrets: values that must not reappear in it.
        limit: characters that are kept.
    """
    whole = safe_text(value, limit=sys.maxsize)
    text = safe_text(whole, limit=limit + _SCRUBBED_BEYOND)
    text = redactor().scrub_text(text, secrets)
    keep = limit - len(f"...[+{len(whole)}]")
    if len(text) <= limit or keep <= 0 or len(whole) <= limit + _SCRUBBED_BEYOND:
        return safe_text(text, limit=limit)
    # It was cut before it was scrubbed: what is left out is counted from its true length.
    return f"{text[:keep]}...[+{len(whole) - keep}]"


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Show every event to a function while the block runs, from any thread."""
    with _observers_lock:
        _observers.append(observer)
    try:
        yield
    finally:
        with _observers_lock:
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
    safe = _safe_mapping(around, secrets, "context")
    reason = None if said.reason is None else clean_text(said.reason, secrets)
    return _Around(said, safe, reason)


def _safe_mapping(values: Mapping[str, Any], secrets: set[str], name: str) -> dict[str, Any]:
    """Named values, safe, masked and without the secrets, to which it adds those found here.

    Where they are too long together, each is cut alone.
    """
    if not values:
        return {}
    # A secret may stand in a text before the name that says so.
    _safe(dict(values), secrets)
    scrub = redactor().scrubber(secrets)
    whole = _safe(dict(values), secrets, scrub)
    if "$cut" not in whole:
        return whole  # type: ignore[no-any-return]
    if len(values) > _KEYS_KEPT:
        return {name: whole}
    parts: dict[str, Any] = {}
    for key, value in values.items():
        part = _safe({key: value}, secrets, scrub)
        if "$cut" in part:
            part = {stable_key(scrub(key)): _safe(value, secrets, scrub)}
        parts.update(part)
    return parts


def _safe(value: Any, secrets: set[str], scrub: Callable[[str], str] | None = None) -> Any:
    limit, hide = conf.current().VALUE_LIMIT, redactor()
    return make_safe(
        value,
        limit=limit,
        is_sensitive=hide.is_sensitive,
        secrets=secrets,
        pairs=True,
        scrub=scrub,
    )


def _submit(
    connection: Any, event: AuditEvent, key: RouteKey, routes: Routes, *, survives: bool
) -> None:
    _observe(event)
    if routes:
        transactions.submit(
            connection, Entry(event, key, survives=survives, keep=bool(routes.after_commit))
        )


def _observe(event: AuditEvent) -> None:
    for observer in tuple(_observers):
        observer(event)
