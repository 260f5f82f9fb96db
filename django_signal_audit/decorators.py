"""``@audited``, ``@audit_signals`` and ``@audit_event``."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from django_signal_audit import conf, context, registry, tasks
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.ids import uuid7

if TYPE_CHECKING:
    from django.dispatch import Signal

    from django_signal_audit.pipeline import Act

M = TypeVar("M", bound=type[Model])
F = TypeVar("F", bound=Callable[..., Any])


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
    # The module needs django.db.models, which may be imported before apps are ready.
    from django_signal_audit.capture import signals as capture  # noqa: PLC0415

    if not signals or isinstance(signals[0], type):
        raise AuditConfigurationError(
            "@audit_signals needs the signals to record: @audit_signals(post_save, post_delete)."
        )
    if isinstance(sinks, str):
        raise AuditConfigurationError(
            f"@audit_signals: sinks must be a list of names, such as [{sinks!r}]."
        )
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
    level: str = "info",
    sinks: Collection[str] | None = None,
    using: str = DEFAULT_DB_ALIAS,
) -> Callable[[F], F]:
    """Record each call of a function or view: how it ended, and how long it took.

    An exception makes it a ``failure``, ``PermissionDenied`` makes it ``denied``; it is raised
    as it was. What the function writes carries the event as its cause. The event survives a
    rollback.

    Args:
        event: dotted name, such as ``"shift.assign"``.
        arguments: names of the function's arguments to keep in ``data``, as they were when
            it was called.
        level: level of a success; a denial is a ``warning``, a failure an ``error``.
        sinks: aliases of the only sinks it goes to; ``None`` means all.
        using: alias whose transaction, if one is open, the event belongs to.

    Raises:
        AuditConfigurationError: ``arguments`` names one that the function does not have, or
            it is nothing that is called once and then done.
    """
    from django_signal_audit import signals  # noqa: PLC0415 - needs django.db.models

    if callable(event):
        raise AuditConfigurationError(
            "@audit_event needs the event's name: @audit_event('shift.assign')."
        )
    where = f"@audit_event({event!r})"
    signals.check_definition(where, event, level, sinks=sinks, arguments=arguments)
    limited = None if sinks is None else tuple(sinks)

    def decorate(function: F) -> F:
        if isinstance(function, classmethod | staticmethod):
            return cast("F", type(function)(decorate(function.__func__)))
        _require_function(where, function)
        choose = _chooser(where, function, arguments)
        sender = signals.describe_sender(function)

        def start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
            return _Call(event, sender, level, limited, using, choose(args, kwargs))

        recorded = _recorded_async if iscoroutinefunction(function) else _recorded
        return cast("F", functools.wraps(function)(recorded(function, start)))

    return decorate


def _require_function(where: str, function: Any) -> None:
    if isinstance(function, type):
        raise AuditConfigurationError(
            f"{where} belongs on a function, not on the class {function.__name__}. For a "
            "class-based view decorate a method, such as dispatch."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise AuditConfigurationError(
            f"{where} cannot tell when the generator {function.__qualname__} is done. "
            "Send an event_signal at its end."
        )


def _chooser(
    where: str, function: Callable[..., Any], names: Collection[str]
) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """A function that picks the named arguments out of a call."""
    # method_decorator() gives a partial that claims to wrap the unbound method.
    is_partial = isinstance(function, functools.partial)
    signature = inspect.signature(function, follow_wrapped=not is_partial)
    others = [
        p.name for p in signature.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD
    ]
    for name in names:
        if name not in signature.parameters and not others:
            raise AuditConfigurationError(
                f"{where}: {getattr(function, '__qualname__', function)} has no argument {name!r}. "
                f"{conf.nearest(name, list(signature.parameters) or ['(none)'])}"
            )

    def choose(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if not names:
            return {}
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return {}  # the call itself says better what is wrong, and is recorded with it
        bound.apply_defaults()
        given = {**(bound.arguments[others[0]] if others else {}), **bound.arguments}
        return {name: given[name] for name in names if name in given}

    return choose


def _recorded(function: Callable[..., Any], start: Callable[..., _Call]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = start(args, kwargs)
        try:
            with call.inside():
                result = function(*args, **kwargs)
        except BaseException as exc:
            call.record_failure(exc)
            raise
        call.record()
        return result

    return wrapper


def _recorded_async(
    function: Callable[..., Any], start: Callable[..., _Call]
) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = start(args, kwargs)
        try:
            with call.inside():
                result = await function(*args, **kwargs)
        except (asyncio.CancelledError, GeneratorExit) as exc:
            # Nothing may be awaited any more; a task does it, if the loop still runs.
            call.record_failure(exc)
            raise
        except BaseException as exc:
            await sync_to_async(call.record_failure)(exc)
            raise
        await sync_to_async(call.record)()
        return result

    return wrapper


class _Call:
    """One call of an audited function: its identity, its start, its end."""

    def __init__(
        self,
        event: str,
        sender: str,
        level: str,
        sinks: tuple[str, ...] | None,
        using: str,
        data: dict[str, Any],
    ) -> None:
        self.event = event
        self.sender = sender
        self.level = level
        self.sinks = sinks
        self.using = using
        self.data = data
        self.secrets: frozenset[str] = frozenset()
        self.duration_ms: float | None = None
        self.timestamp = datetime.now(tz=UTC)
        self.id = uuid7(self.timestamp)
        if data and apps.ready:
            self._keep_arguments()
        self.started = time.perf_counter()

    def inside(self) -> context.cause_scope:
        """A scope in which events carry this call as their cause."""
        return context.cause_scope(self.id)

    def _keep_arguments(self) -> None:
        """The function may change what it was given, so its arguments are noted before."""
        from django_signal_audit import pipeline  # noqa: PLC0415 - needs django.db.models

        act = self._act(None)
        pipeline.freeze(act)
        self.data, self.secrets = dict(act.data), act.secrets

    def record(self, error: BaseException | None = None) -> None:
        """Emit the event of the call, now that its outcome is known."""
        from django_signal_audit import recording  # noqa: PLC0415 - needs django.db.models

        self.duration_ms = round((time.perf_counter() - self.started) * 1000, 3)
        recording.record_act(self._act(error))

    def record_failure(self, error: BaseException) -> None:
        """Emit the event of a call that raised; its exception is the one to be raised."""
        try:
            self.record(error)
        except Exception as exc:  # noqa: BLE001 - logged; it must not hide the call's own
            tasks.log_failure(
                "The failure of %s (%s) could not be recorded as event %s.",
                self.sender,
                type(error).__name__,
                self.id,
                error=exc,
                handled=error,
            )

    def _act(self, error: BaseException | None) -> Act:
        from django_signal_audit.pipeline import Act  # noqa: PLC0415 - needs django.db.models

        level, outcome = _ending(self.level, error)
        return Act(
            id=self.id,
            timestamp=self.timestamp,
            event=self.event,
            level=level,
            outcome=outcome,
            sender=self.sender,
            message=self.event,
            error=error,
            duration_ms=self.duration_ms,
            data=self.data,
            database=self.using,
            sinks=self.sinks,
            secrets=self.secrets,
        )


def _ending(level: str, error: BaseException | None) -> tuple[str, Outcome]:
    if error is None:
        return level, Outcome.SUCCESS
    if isinstance(error, PermissionDenied):
        return "warning", Outcome.DENIED
    return "error", Outcome.FAILURE


def _require_model(decorator: str, model: Any) -> None:
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise AuditConfigurationError(
            f"@{decorator} belongs on a model class, not on {model!r}. For a function or view "
            "use @audit_event('its.name')."
        )
