"""``event_signal`` and ``define_event``: events of your own.

An ``AuditSignal`` records first and dispatches after, so that no receiver can silence it.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model
from django.dispatch import Signal

from django_signal_audit import conf, internals, registry, tasks
from django_signal_audit.cleaning import TEXT_LIMIT
from django_signal_audit.definitions import remember
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError, raise_found
from django_signal_audit.keys import default_repr, object_key, object_type, own_text
from django_signal_audit.masking import instance_secrets
from django_signal_audit.pipeline import Act
from django_signal_audit.recording import record_act
from django_signal_audit.sinks.routing import LEVELS
from django_signal_audit.values import safe_text

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_EVENT: Final = "event"

_OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)

# Keywords of send() that describe the event itself; all others become its data.
_OWN: Final = ("message", "instance", "request", "event", "level", "outcome", "reason", "using")


def check_definition(where: str, event: Any, level: Any, **lists: Collection[str] | None) -> None:
    """Refuse a wrong definition of an event.

    Args:
        where: what to name in the message.
        event: its name.
        level: its level.
        **lists: arguments that must be lists of names; ``sinks`` may be ``None``, but not empty.

    Raises:
        AuditConfigurationError: saying what to write instead.
    """
    raise_found(_definition_mistakes(where, event, level, lists))


def _definition_mistakes(
    where: str, event: Any, level: Any, lists: Mapping[str, Collection[str] | None]
) -> Iterator[AuditConfigurationError]:
    if not isinstance(event, str) or not event:
        yield AuditConfigurationError(
            f"{where}: the event's name is {event!r}.",
            hint="Write a text, such as 'shift.assigned'.",
        )
    if not isinstance(level, str) or level not in LEVELS:
        yield AuditConfigurationError(
            f"{where}: level {level!r} is no level.", hint=conf.nearest(level, LEVELS)
        )
    yield from _list_mistakes(where, lists)


def check_lists(where: str, **lists: Collection[str] | None) -> None:
    """Refuse what is no list of names.

    Args:
        where: what to name in the message.
        **lists: arguments that must be lists of names; ``sinks`` may be ``None``, but not empty.

    Raises:
        AuditConfigurationError: saying what to write instead.
    """
    raise_found(_list_mistakes(where, lists))


def _list_mistakes(
    where: str, lists: Mapping[str, Collection[str] | None]
) -> Iterator[AuditConfigurationError]:
    for name, value in lists.items():
        if isinstance(value, str):
            yield AuditConfigurationError(
                f"{where}: {name} is {value!r}.",
                hint=f"Write a list of names, such as [{value!r}].",
            )
        elif name == "sinks" and value is None:
            continue
        elif not isinstance(value, Collection) or not all(isinstance(one, str) for one in value):
            yield AuditConfigurationError(
                f"{where}: {name} is {value!r:.100}.",
                hint="Write a list of names, such as ['default'].",
            )
        elif name == "sinks" and not value:
            yield AuditConfigurationError(
                f"{where}: sinks is empty, so that nothing would be recorded.",
                hint="Leave it out for all sinks, or name some of them.",
            )


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
        check_definition(f"Event {event!r}", event, level, sinks=sinks, required=required)
        self.event = event
        self.level = level
        self.sinks = None if sinks is None else tuple(sinks)
        self.required = tuple(required)
        self._texts: dict[str, str] = {}
        remember(self, f"define_event({event!r})", self.sinks)

    # Django tells senders apart by identity, and two equal texts may be two objects.

    def connect(
        self,
        receiver: Callable[..., Any],
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Any = None,
    ) -> None:
        """Connect a receiver as ``Signal.connect`` does; a ``str`` sender means any equal one."""
        if isinstance(sender, str):
            sender = self._texts.setdefault(sender, sender)
        super().connect(receiver, sender, weak, dispatch_uid)

    def disconnect(
        self, receiver: Any = None, sender: Any = None, dispatch_uid: Any = None
    ) -> bool:
        """Disconnect a receiver as ``Signal.disconnect`` does."""
        return super().disconnect(receiver, self._known_sender(sender), dispatch_uid)

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether a sending by this sender would reach a receiver."""
        return super().has_listeners(self._known_sender(sender))

    def _known_sender(self, sender: Any) -> Any:
        """The very text that Django knows a ``str`` sender by; any other sender as it is."""
        return self._texts.get(sender, sender) if isinstance(sender, str) else sender

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
        return super().send(self._known_sender(sender), **named)

    def send_robust(
        self, sender: Any, **named: Any
    ) -> list[tuple[Callable[..., Any], Any | Exception]]:
        """Record the event, then call the receivers as ``Signal.send_robust`` does."""
        self._record(sender, named)
        return super().send_robust(self._known_sender(sender), **named)

    async def asend(self, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Record the event, then call the receivers as ``Signal.asend`` does."""
        await tasks.run(functools.partial(self._record, sender, named))
        return await super().asend(self._known_sender(sender), **named)

    async def asend_robust(
        self, sender: Any, **named: Any
    ) -> list[tuple[Callable[..., Any], Any | Exception]]:
        """Record the event, then call the receivers as ``Signal.asend_robust`` does."""
        await tasks.run(functools.partial(self._record, sender, named))
        return await super().asend_robust(self._known_sender(sender), **named)

    def _record(self, sender: Any, named: dict[str, Any]) -> None:
        record_act(self._act(sender, named), _request_in(named))

    def _act(self, sender: Any, named: dict[str, Any]) -> Act:
        event = str(named.get("event") or self.event)
        for name in self.required:
            if name not in named:
                raise TypeError(
                    f"event {event!r} needs the keyword {name!r}: send(sender, {name}=...)"
                )
        level = _choice(event, "level", named.get("level", self.level), LEVELS)
        outcome = _choice(event, "outcome", named.get("outcome", "success"), _OUTCOMES)
        data = {key: value for key, value in named.items() if key not in _OWN}
        if named.get("request") is not _request_in(named):
            data["request"] = named["request"]
        act = Act(
            event=event,
            level=level,
            outcome=Outcome(outcome),
            sender=describe_sender(sender),
            message=named.get("message", ""),
            reason=named.get("reason"),
            data=data,
            database=named.get("using") or DEFAULT_DB_ALIAS,
            sinks=self.sinks,
        )
        instance = internals.unwrapped(named.get("instance"))
        if isinstance(instance, Model):
            describe_instance(act, instance)
            if named.get("using") is None:
                # An instance may have been read from a replica, which takes no records.
                act.database = router.db_for_write(type(instance), instance=instance)
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
    if internals.is_pk_set(instance, model._meta):
        act.object_id = object_key(model, instance.pk)
    limit = conf.current().REPR_LIMIT
    if limit:
        text = None if instance.get_deferred_fields() else own_text(instance, limit=TEXT_LIMIT)
        act.object_repr = default_repr(model, act.object_id or "None") if text is None else text
    policy = registry.policy_for(model)
    act.secrets |= instance_secrets(instance, frozenset() if policy is None else policy.mask_fields)


def describe_sender(sender: Any) -> str:
    """A sender as text: a model by its label, a function or class by its name."""
    if isinstance(sender, str):
        return sender
    if isinstance(sender, type) and issubclass(sender, Model):
        return sender._meta.label
    if isinstance(sender, type) or callable(sender):
        return f"{sender.__module__}.{getattr(sender, '__qualname__', type(sender).__qualname__)}"
    if isinstance(sender, AppConfig):
        return sender.name
    return "" if sender is None else safe_text(sender)


def _choice(event: str, keyword: str, value: Any, good: Collection[str]) -> str:
    if not isinstance(value, str) or value not in good:
        raise ValueError(f"event {event!r}: {keyword}={value!r}? {conf.nearest(value, good)}")
    return value


def _request_in(named: dict[str, Any]) -> Any:
    """The keyword ``request``, if it is one; anything else of that name is data."""
    request = named.get("request")
    return request if hasattr(request, "META") else None
