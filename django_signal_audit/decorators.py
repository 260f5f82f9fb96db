"""``@audited``, ``@audit_signals`` and ``@audit_event``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload

from django.db.models import Model

from django_signal_audit import calls, definitions, registry
from django_signal_audit.acts import ActKind, OpenAct
from django_signal_audit.arguments import Parameters, apart
from django_signal_audit.capture import signals as capture
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.signals import check_definition, check_lists, describe_sender

if TYPE_CHECKING:
    from django.dispatch import Signal

    from django_signal_audit.calls import F

M = TypeVar("M", bound=type[Model])


@overload
def audited(model: M, /) -> M: ...
@overload
def audited(**options: Unpack[registry.PolicyOptions]) -> Callable[[M], M]: ...
def audited(model: M | None = None, /, **options: Unpack[registry.PolicyOptions]) -> Any:
    """Record the row changes of a model; bare, or with the options of ``AuditPolicy``.

    On an abstract model its subclasses inherit it; on a concrete parent they do not; on a
    proxy it means the concrete model.

    Raises:
        AuditConfigurationError: an option is unknown or has a wrong value.
    """
    if model is not None:
        _require_model("audited", model)
        registry.register(model)
        return model

    def decorate(decorated: M) -> M:
        _require_model("audited", decorated)
        registry.register(decorated, **options)
        return decorated

    return decorate


def audit_signals(*signals: Signal, sinks: Collection[str] | None = None) -> Callable[[M], M]:
    """Record every dispatch of built-in signals of a model, as ``signal.<name>``.

    Args:
        *signals: of ``django.db.models.signals``: ``pre_save``, ``post_save``,
            ``pre_delete``, ``post_delete``, ``pre_init``, ``post_init``, ``m2m_changed``,
            ``class_prepared``.
        sinks: aliases of the only sinks they go to; ``None`` means all.

    Raises:
        AuditConfigurationError: no signal is given, or one is not of this list.
    """
    if not signals or isinstance(signals[0], type):
        raise AuditConfigurationError(
            "@audit_signals needs the signals to record: @audit_signals(post_save, post_delete)."
        )
    check_lists("@audit_signals", sinks=sinks)
    names = [capture.name_of(signal) for signal in signals]

    def decorate(model: M) -> M:
        _require_model("audit_signals", model)
        capture.record_dispatches(model, names, None if sinks is None else tuple(sinks))
        return model

    return decorate


def audit_event(
    event: str,
    *,
    arguments: Collection[str] = (),
    target: str | None = None,
    level: str = "info",
    sinks: Collection[str] | None = None,
    using: str | None = None,
    started: bool = False,
) -> Callable[[F], F]:
    """Record each call of a function or view: how it ended, and how long it took.

    An exception makes it a ``failure``, ``PermissionDenied`` makes it ``denied``; it is raised
    as it was. A response with the status 401 or 403 makes it ``denied``, any other from 400 on
    a ``failure``. What the function writes carries the event as its cause. The event survives a
    rollback.

    Args:
        event: dotted name, such as ``"shift.assign"``.
        arguments: names of the function's arguments to keep in ``data``, as they were when
            it was called.
        target: name of the argument that the call is about: a model instance. Anything else
            given for it is kept in ``data``.
        level: level of a success; a denial is a ``warning``, a failure an ``error``.
        sinks: aliases of the only sinks it goes to; ``None`` means all.
        using: alias whose transaction, if one is open, the event belongs to; left out, that
            of the target.
        started: also record ``<event>.started``, before the function is called.

    Raises:
        AuditConfigurationError: ``arguments`` or ``target`` names one that the function does
            not have, or it is nothing that is called once and then done.
    """
    calls.require_name("@audit_event", event)
    where = f"@audit_event({event!r})"
    check_definition(where, event, level, sinks=sinks, arguments=arguments)
    calls.require_target(where, target)
    calls.require_options(where, started=started, using=using)
    names = [*arguments] if target is None else [*arguments, target]
    limited = None if sinks is None else tuple(sinks)
    kind = ActKind(event=event, level=level, sinks=limited, using=using, started=started)

    def decorate(function: F) -> F:
        if isinstance(function, classmethod | staticmethod):
            return cast("F", type(function)(decorate(function.__func__)))
        calls.require_function(where, function)
        parameters, sender = Parameters(function), describe_sender(function)
        parameters.require(where, names)

        def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> OpenAct:
            data, about = apart(parameters.chosen(args, kwargs, names), arguments, target)
            secrets = parameters.secrets(args, kwargs)
            act = OpenAct(kind, sender, data=data, target=about, secrets=secrets)
            act.keep_data()
            return act

        wrapper = cast("F", calls.recorded(function, start))
        return definitions.remember(wrapper, where, sinks)

    return decorate


def _require_model(decorator: str, model: Any) -> None:
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise AuditConfigurationError(
            f"@{decorator} belongs on a model class, not on {model!r}. For a function or view "
            "use @audit_event('its.name')."
        )
