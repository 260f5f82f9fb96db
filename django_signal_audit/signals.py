"""``event_signal`` and ``define_event``: events of your own.

An ``AuditSignal`` records first and dispatches after, so that no receiver can silence it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model
from django.dispatch import Signal

from django_signal_audit import conf, context, pipeline, tasks
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.keys import default_repr, object_key, object_type
from django_signal_audit.pipeline import Act, emit_act, redactor
from django_signal_audit.sinks.routing import LEVELS
from django_signal_audit.values import safe_text

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_EVENT: Final = "event"

# Keywords of send() that describe the event itself; all others become its data.
_OWN: Final = ("message", "instance", "request", "event", "level", "outcome", "reason", "using")


class AuditSignal(Signal):
    """A ``django.dispatch.Signal`` whose every sending is an audit event.

    Args:
        event: the dotted name of the event.
        level: structlog level.
        sinks: aliases of the only sinks it goes to; ``None`` means all.
        required: keywords that every ``send`` must give.
    """

    def __init__(
        self,
        event: str = DEFAULT_EVENT,
        *,
        level: str = "info",
        sinks: Collection[str] | None = None,
        required: Collection[str] = (),
    ) -> None:
        # use_caching stays off: a `str` sender cannot be weakly referenced.
        super().__init__(use_caching=False)
        if level not in LEVELS:
            raise AuditConfigurationError(
                f"Event {event!r}: {level!r} is no level. {conf.nearest(str(level), LEVELS)}"
            )
        for name, value in (("sinks", sinks), ("required", required)):
            if isinstance(value, str):
                raise AuditConfigurationError(
                    f"Event {event!r}: {name} must be a list of names, such as [{value!r}]."
                )
        self.event = event
        self.level = level
        self.sinks = None if sinks is None else tuple(sinks)
        self.required = tuple(required)

    def send(self, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Record the event, then call the receivers as ``Signal.send`` does.

        Args:
            sender: who sends; any object, often a plain string.
            **named: ``message``, ``instance`` (a model instance the event is about),
                ``request`` (if the middleware does not know it), ``event``, ``level``,
                ``outcome``, ``reason``, ``using`` (database alias); anything else becomes
                the event's data. Receivers get all of them.

        Returns:
            Pairs of receiver and response.

        Raises:
            TypeError: a required keyword is missing.
            AuditSinkError: outside of a transaction, a sink whose policy is ``raise`` failed.
        """
        self._record(sender, named)
        return super().send(sender, **named)

    def send_robust(
        self, sender: Any, **named: Any
    ) -> list[tuple[Callable[..., Any], Any | Exception]]:
        """Record the event, then call the receivers as ``Signal.send_robust`` does."""
        self._record(sender, named)
        return super().send_robust(sender, **named)

    async def asend(self, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Record the event, then call the receivers as ``Signal.asend`` does."""
        act = self._act(sender, named)
        await sync_to_async(_emit)(act, named.get("request"))
        return await super().asend(sender, **named)

    async def asend_robust(
        self, sender: Any, **named: Any
    ) -> list[tuple[Callable[..., Any], Any | Exception]]:
        """Record the event, then call the receivers as ``Signal.asend_robust`` does."""
        act = self._act(sender, named)
        await sync_to_async(_emit)(act, named.get("request"))
        return await super().asend_robust(sender, **named)

    def _record(self, sender: Any, named: dict[str, Any]) -> None:
        act = self._act(sender, named)
        if _loop_is_running():
            tasks.start(sync_to_async(_emit)(act, named.get("request")))
        else:
            _emit(act, named.get("request"))

    def _act(self, sender: Any, named: dict[str, Any]) -> Act:
        event = str(named.get("event") or self.event)
        for name in self.required:
            if name not in named:
                raise TypeError(
                    f"event {event!r} needs the keyword {name!r}: send(sender, {name}=...)"
                )
        level = named.get("level", self.level)
        if level not in LEVELS:
            raise ValueError(
                f"event {event!r}: {level!r} is no level. {conf.nearest(str(level), LEVELS)}"
            )
        act = Act(
            event=event,
            level=level,
            outcome=Outcome(named.get("outcome", Outcome.SUCCESS)),
            sender=describe_sender(sender),
            message=named.get("message", ""),
            reason=named.get("reason"),
            data={key: value for key, value in named.items() if key not in _OWN},
            database=named.get("using") or DEFAULT_DB_ALIAS,
            sinks=self.sinks,
        )
        instance = named.get("instance")
        if isinstance(instance, Model):
            describe_instance(act, instance)
            if named.get("using") is None and instance._state.db is not None:
                act.database = instance._state.db
        elif instance is not None:
            act.data = {**act.data, "instance": instance}
        return act


def define_event(
    event: str,
    *,
    level: str = "info",
    sinks: Collection[str] | None = None,
    required: Collection[str] = (),
) -> AuditSignal:
    """Make a signal for one kind of event.

    Args:
        event: dotted name, such as ``"shift.assigned"``.
        level: structlog level, ``debug`` to ``critical``.
        sinks: aliases of the only sinks it goes to; ``None`` means all.
        required: keywords that every ``send`` must give.

    Raises:
        AuditConfigurationError: the level is unknown, or a list is a plain string.
    """
    return AuditSignal(event, level=level, sinks=sinks, required=required)


event_signal: Final = AuditSignal()
"""The signal for events that need no definition."""


def describe_instance(act: Act, instance: Model) -> None:
    """Say in an act which object it is about, without loading anything of it."""
    model = type(instance)
    act.object_type = object_type(model)
    act.object_id = None if instance.pk is None else object_key(model, instance.pk)
    limit = conf.current().REPR_LIMIT
    if limit and instance.get_deferred_fields():
        act.object_repr = default_repr(model, act.object_id or "None")
    elif limit:
        act.object_repr = safe_text(instance, limit=pipeline.TEXT_LIMIT)
    hide = redactor()
    act.secrets |= {
        str(value)
        for name, value in instance.__dict__.items()
        if value and isinstance(value, str | int) and hide.is_sensitive(name)
    }


def describe_sender(sender: Any) -> str:
    """A sender as text: a model by its label, a function or class by its name."""
    if isinstance(sender, str):
        return sender
    if isinstance(sender, type) and issubclass(sender, Model):
        return sender._meta.label
    if isinstance(sender, type) or callable(sender):
        return f"{sender.__module__}.{getattr(sender, '__qualname__', type(sender).__qualname__)}"
    return "" if sender is None else safe_text(sender)


def _emit(act: Act, request: Any) -> None:
    if request is None:
        emit_act(act)
        return
    with context.request_scope(request):
        emit_act(act)


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
