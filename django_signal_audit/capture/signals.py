"""Signals as they are: built-in ones of a model, and any custom one named in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import Model
from django.db.models import signals as model_signals
from django.dispatch import Signal
from django.http import HttpRequest

from django_signal_audit import conf
from django_signal_audit.capture.images import secrets_of
from django_signal_audit.definitions import remember
from django_signal_audit.dotted import load, nearest_path
from django_signal_audit.event import REDACTED
from django_signal_audit.exceptions import AuditConfigurationError, raise_found
from django_signal_audit.internals import connect_first, unwrapped
from django_signal_audit.pipeline import Act
from django_signal_audit.recording import record_act
from django_signal_audit.registry import policy_for
from django_signal_audit.signals import check_definition, describe_instance, describe_sender

if TYPE_CHECKING:
    from collections.abc import Collection

BUILT_IN: Final[dict[str, Signal]] = {
    name: getattr(model_signals, name)
    for name in (
        "pre_save",
        "post_save",
        "pre_delete",
        "post_delete",
        "pre_init",
        "post_init",
        "m2m_changed",
        "class_prepared",
    )
}

SIGNAL_KEYS: Final = ("event", "level")

_SIGNAL_ADVICE: Final = (
    "Write the dotted path of a django.dispatch.Signal, such as 'shop.signals.order_paid'."
)

_recorded: list[tuple[type[Model], str, tuple[str, ...] | None]] = []
_from_settings: list[tuple[Signal, str]] = []


def name_of(signal: Signal) -> str:
    """The name of a built-in model signal.

    Raises:
        AuditConfigurationError: it is none.
    """
    for name, built_in in BUILT_IN.items():
        if signal is built_in:
            return name
    raise AuditConfigurationError(
        f"@audit_signals serves {', '.join(BUILT_IN)}, not {signal!r}. Name a custom signal in "
        f"{conf.SETTING}['SIGNALS'] by its dotted path."
    )


def record_dispatches(
    model: type[Model], names: Collection[str], sinks: tuple[str, ...] | None
) -> None:
    """Remember which built-in signals of a model are recorded; connect if apps are ready."""
    remember(model, f"@audit_signals on {model.__name__}", sinks, model.__module__)
    for name in names:
        _recorded.append((model, name, sinks))
        if name == "class_prepared":
            # It was sent when the class was made, just before a decorator could see it.
            _connect_class_prepared(model, sinks)
        elif apps.ready:
            _connect(model, name, sinks)


def connect() -> None:
    """Connect what decorators asked for and what the settings name."""
    for model, name, sinks in _recorded:
        if name != "class_prepared":
            _connect(model, name, sinks)
    connect_settings()


def _connect(model: type[Model], name: str, sinks: tuple[str, ...] | None) -> None:
    if model._meta.abstract:
        for concrete in apps.get_models(include_auto_created=True):
            if issubclass(concrete, model):
                _connect(concrete, name, sinks)
        return
    receiver = _Recorder(f"signal.{name}", "info", sinks)
    if name != "m2m_changed":
        connect_first(BUILT_IN[name], receiver, model, _uid(name, model._meta.label))
        return
    for field in model._meta.many_to_many:
        through = field.remote_field.through
        uid = _uid(name, f"{model._meta.label}.{field.name}")
        connect_first(model_signals.m2m_changed, receiver, through, uid)


def _connect_class_prepared(model: type[Model], sinks: tuple[str, ...] | None) -> None:
    receiver = _Recorder("signal.class_prepared", "info", sinks)
    if not model._meta.abstract:
        receiver(sender=model, signal=model_signals.class_prepared)

    def of_subclass(sender: type[Model], **kwargs: Any) -> None:
        if issubclass(sender, model) and sender is not model:
            receiver(sender=sender, **kwargs)

    uid = _uid("class_prepared", model._meta.label)
    connect_first(model_signals.class_prepared, of_subclass, None, uid)


def connect_settings() -> None:
    """Connect the signals of ``SIGNAL_AUDIT["SIGNALS"]``, in place of those connected before.

    Raises:
        AuditConfigurationError: a path or an option is wrong.
    """
    for signal, uid in _from_settings:
        signal.disconnect(dispatch_uid=uid)
    _from_settings.clear()
    for path, said in conf.current().SIGNALS.items():
        signal, event, level = resolve_setting(path, said)
        uid = _uid("settings", path)
        connect_first(signal, _Recorder(event, level, None), None, uid)
        _from_settings.append((signal, uid))


def resolve_setting(path: str, said: Any) -> tuple[Signal, str, str]:
    """Check one entry of ``SIGNALS``.

    Returns:
        The signal, the event's name and its level.

    Raises:
        AuditConfigurationError: naming the entry and what to write instead.
    """
    where = f"{conf.SETTING}['SIGNALS'][{path!r}]"
    options = {"event": f"signal.{path.rpartition('.')[2]}", "level": "info"}
    mistakes: list[AuditConfigurationError] = []
    signal: Signal | None = None
    try:
        signal = _import_signal(where, path)
    except AuditConfigurationError as exc:
        mistakes.append(exc)
    try:
        options |= _signal_options(where, said)
        check_definition(where, options["event"], options["level"])
    except AuditConfigurationError as exc:
        for mistake in exc.all():
            mistake.number = "E032"
        mistakes.append(exc)
    raise_found(mistakes)
    return cast("Signal", signal), options["event"], options["level"]


def _import_signal(where: str, path: str) -> Signal:
    signal = load(
        path,
        f"{where}: the signal cannot be imported",
        advice=lambda: nearest_path(path, _is_signal) or _SIGNAL_ADVICE,
        number="E031",
    )
    if not isinstance(signal, Signal):
        raise AuditConfigurationError(
            f"{where} is a {type(signal).__name__}, no Signal.",
            hint=_SIGNAL_ADVICE,
            number="E031",
        )
    return signal


def _is_signal(found: object) -> bool:
    return isinstance(found, Signal)


def _signal_options(where: str, said: Any) -> Mapping[str, Any]:
    if not isinstance(said, Mapping):
        raise AuditConfigurationError(
            f"{where} is {said!r}.", hint="Write a dict, such as {'event': 'order.paid'}."
        )
    raise_found(
        AuditConfigurationError(f"{where} has no key {key!r}.", hint=conf.nearest(key, SIGNAL_KEYS))
        for key in said
        if key not in SIGNAL_KEYS
    )
    return said


def _uid(kind: str, name: str) -> str:
    return f"django_signal_audit.{kind}.{name}"


class _Recorder:
    """A receiver that turns each dispatch into an event."""

    def __init__(self, event: str, level: str, sinks: tuple[str, ...] | None) -> None:
        self.event = event
        self.level = level
        self.sinks = sinks
        # send_robust() of Django names a receiver that raised by this.
        self.__qualname__ = type(self).__qualname__

    def __call__(self, sender: Any, signal: Any = None, **arguments: Any) -> None:
        act = Act(
            event=self.event,
            level=self.level,
            sender=describe_sender(sender),
            message=self.event,
            sinks=self.sinks,
        )
        using: Any = arguments.get("using")
        # In a signal of the program's own the word may mean anything.
        known = isinstance(using, str) and apps.ready and using in connections
        act.database = using if known else DEFAULT_DB_ALIAS
        instance = unwrapped(arguments.pop("instance", None))
        if isinstance(instance, Model):
            describe_instance(act, instance)
            if apps.ready and not known:
                act.database = router.db_for_write(type(instance), instance=instance)
            act.secrets |= secrets_of(instance)
        elif instance is not None:
            arguments["instance"] = instance
        if isinstance(arguments.get("model"), type):
            arguments["model"] = describe_sender(arguments["model"])
        if self.event == "signal.pre_init":
            arguments |= named_values(sender, arguments["args"], arguments["kwargs"])
        request = None
        if isinstance(arguments.get("request"), HttpRequest):
            # Such as user_logged_in: it is where the event happened, not a part of it.
            request = arguments.pop("request")
        act.data = arguments
        record_act(act, request)


def named_values(
    model: type[Model], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of ``pre_init`` by field, so that secrets among them are known as such."""
    policy = policy_for(model)
    masked = frozenset[str]() if policy is None else policy.mask_fields
    named = {field.name: value for field, value in zip(model._meta.fields, args, strict=False)}
    return {
        "args": {name: REDACTED if name in masked else value for name, value in named.items()},
        "kwargs": {name: REDACTED if name in masked else value for name, value in kwargs.items()},
    }
