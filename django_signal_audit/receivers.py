"""``audit_receiver``: ``django.dispatch.receiver``, and each call of the handler is recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack, cast

from django.db.models.signals import ModelSignal
from django.dispatch import Signal

from django_signal_audit import calls, conf, definitions, handlers
from django_signal_audit.acts import ActKind
from django_signal_audit.arguments import signature_of
from django_signal_audit.capture.signals import BUILT_IN
from django_signal_audit.connections import built_in_name
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.signals import check_definition

if TYPE_CHECKING:
    from django.apps.registry import Apps

    from django_signal_audit.calls import F

DEFAULT_NAME: Final = "receiver"

# What the signals of models send, beside the sender.
SENT: Final[dict[str, tuple[str, ...]]] = {
    "pre_init": ("args", "kwargs"),
    "post_init": ("instance",),
    "pre_save": ("instance", "raw", "using", "update_fields"),
    "post_save": ("instance", "created", "raw", "using", "update_fields"),
    "pre_delete": ("instance", "using", "origin"),
    "post_delete": ("instance", "using", "origin"),
    "m2m_changed": ("instance", "action", "reverse", "model", "pk_set", "using", "raw"),
    "class_prepared": (),
}

_OWN: Final = ("sender", "event", "arguments", "target", "level", "sinks", "started")


class ConnectOptions(TypedDict, total=False):
    """Keywords of ``Signal.connect`` that are passed on; a signal of your own may take more."""

    weak: bool
    dispatch_uid: Hashable
    apps: Apps


def audit_receiver(
    signal: Signal | Collection[Signal],
    /,
    *more: Any,
    sender: Any = None,
    event: str | None = None,
    arguments: Collection[str] = (),
    target: str = "instance",
    level: str = "info",
    sinks: Collection[str] | None = None,
    started: bool = False,
    **connect: Unpack[ConnectOptions],
) -> Callable[[F], F]:
    """Connect a handler to signals, as ``django.dispatch.receiver`` does, and record each call.

    An exception makes the call a ``failure``, ``PermissionDenied`` makes it ``denied``; it goes
    on as it was. What the handler writes carries the event as its cause. The event survives a
    rollback, and belongs to the database that the signal's ``using`` names.

    What is returned is what ``signal.disconnect`` knows the handler by. A bound method or a
    callable object is returned as it was given.

    Args:
        signal: one signal, or a list or tuple of signals.
        *more: nothing; several signals are a list.
        sender: the only one to answer to. A text means a model for the signals of models, and
            any equal text for all others.
        event: dotted name; left out, it is ``receiver.<name of the function>``.
        arguments: names of the signal's arguments to keep in ``data``.
        target: name of the signal's argument that the call is about, where it is a model
            instance.
        level: level of a success; a denial is a ``warning``, a failure an ``error``.
        sinks: aliases of the only sinks it goes to; ``None`` means all.
        started: also record ``<event>.started``, before the handler is called.
        **connect: ``weak``, ``dispatch_uid`` and what else ``signal.connect`` takes.

    Raises:
        AuditConfigurationError: naming what is wrong, and what to write instead.
    """
    signals = _require_signals(signal, more)
    where = "@audit_receiver" if event is None else f"@audit_receiver(event={event!r})"
    name = DEFAULT_NAME if event is None else event
    check_definition(where, name, level, sinks=sinks, arguments=arguments)
    calls.require_target(where, target)
    calls.require_options(where, started=started)
    _require_sender(where, signals, sender)
    options = cast("dict[str, Any]", connect)
    _require_options(where, signals, options)

    def decorate(function: F) -> F:
        if isinstance(function, staticmethod):
            return cast("F", staticmethod(decorate(function.__func__)))
        _require_handler(where, function)
        _require_arguments(where, signals, function, arguments, target)
        kind = ActKind(
            event=event or f"{DEFAULT_NAME}.{handlers.named(function).__name__}",
            level=level,
            sinks=None if sinks is None else tuple(sinks),
            started=started,
        )
        weak = options.get("weak", True)
        handler, receiver, uid = handlers.handler_of(function, weak=weak)
        for one in signals:
            connection = handlers.connect(
                handler,
                receiver,
                uid,
                one,
                sender,
                options,
                kind=kind,
                arguments=tuple(arguments),
                target=target,
            )
            definitions.remember(connection, f"{where} of {handler.name}", sinks)
        return function if handler.owned else cast("F", handler.wrapper)

    return decorate


def _require_signals(signal: Any, more: tuple[Any, ...]) -> list[Signal]:
    if more:
        hint = "Write a list of signals: @audit_receiver([post_save, post_delete])."
        if not isinstance(more[0], Signal):
            hint = "Write the sender by its name: @audit_receiver(post_save, sender=...)."
        raise AuditConfigurationError("@audit_receiver takes one positional argument.", hint=hint)
    signals = list(signal) if isinstance(signal, Collection) else [signal]
    if isinstance(signal, str):
        module = "django.db.models.signals" if signal in BUILT_IN else "its.module"
        raise AuditConfigurationError(
            f"@audit_receiver needs the signal itself, not its name {signal!r}.",
            hint=f"Write `from {module} import {signal}`.",
        )
    wrong = next((one for one in signals if not isinstance(one, Signal)), None)
    if wrong is not None or not signals:
        what = f", not {wrong!r:.100}" if signals else ""
        raise AuditConfigurationError(
            f"@audit_receiver needs the signal{what}.", hint="Write @audit_receiver(post_save)."
        )
    return signals


def _require_sender(where: str, signals: Collection[Signal], sender: Any) -> None:
    if isinstance(sender, list | tuple | set | frozenset):
        raise AuditConfigurationError(
            f"{where} answers to one sender, not to several.",
            hint="Write the decorator once for each of them.",
        )
    of_models = any(isinstance(one, ModelSignal) for one in signals)
    if of_models and isinstance(sender, str) and sender.count(".") != 1:
        raise AuditConfigurationError(
            f"{where}: the sender {sender!r} is no model.",
            hint="Write the model, or its label such as 'shop.Order'.",
        )


def _require_options(where: str, signals: Collection[Signal], options: Collection[str]) -> None:
    for one in signals:
        taken = inspect.signature(one.connect).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
            continue
        for name in options:
            if name not in taken:
                good = [*_OWN, *(n for n in taken if n not in {"receiver", "sender"})]
                raise AuditConfigurationError(
                    f"{where} has no option {name!r}.", hint=conf.nearest(name, good)
                )


def _require_handler(where: str, function: Any) -> None:
    if isinstance(function, classmethod):
        raise AuditConfigurationError(
            f"{where} cannot connect the class method {function.__func__.__qualname__}: its "
            "class is still to be made.",
            hint="Connect it below the class: audit_receiver(signal)(TheClass.method).",
        )
    calls.require_function(where, function)
    if inspect.isfunction(function):
        first = next(iter(inspect.signature(function).parameters), "")
        if first in {"self", "cls"}:
            raise AuditConfigurationError(
                f"{where} cannot connect {function.__qualname__}: no signal gives it "
                f"its {first!r}.",
                hint="Make it a static method, with @staticmethod above the decorator, or "
                "connect a bound method: audit_receiver(signal)(an_object.method).",
            )


def _require_arguments(
    where: str,
    signals: Collection[Signal],
    function: Callable[..., Any],
    arguments: Collection[str],
    target: str,
) -> None:
    """What a signal sends is known of those of models; of others the handler may say it."""
    known = [built_in_name(one) for one in signals]
    sent = {name for one in known if one is not None for name in SENT[one]}
    if None in known:
        if not (inspect.isfunction(function) or inspect.ismethod(function)):
            return
        parameters = signature_of(function).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            return
        sent |= parameters.keys() - {"sender", "signal"}
    for name in arguments if target == "instance" else [*arguments, target]:
        if name not in sent:
            raise AuditConfigurationError(
                f"{where}: the signal has no argument {name!r}.",
                hint=conf.nearest(name, sent or ["(none)"]),
            )
