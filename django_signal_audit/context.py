"""Who acts, and in which request: everything an event learns from its surroundings.

Each value lives in a ``ContextVar`` and is reset by its token on the way out, so nothing
leaks into the next request, job or thread.
"""

from __future__ import annotations

import functools
import inspect
import re
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar, Token
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeGuard, TypeVar, cast

import structlog
from asgiref.sync import iscoroutinefunction

from django_signal_audit.actors import actor_look_up, to_actor
from django_signal_audit.event import REDACTED
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.redaction import redactor

if TYPE_CHECKING:
    from types import TracebackType

    from django.http import HttpRequest
    from django.urls import ResolverMatch

    from django_signal_audit.event import Actor

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")

_actor: ContextVar[Actor | None] = ContextVar("signal_audit_actor", default=None)
_on_behalf_of: ContextVar[Actor | None] = ContextVar("signal_audit_on_behalf_of", default=None)
_reason: ContextVar[str | None] = ContextVar("signal_audit_reason", default=None)
_values: ContextVar[Mapping[str, Any]] = ContextVar("signal_audit_values", default={})  # noqa: B039 - never mutated
_request: ContextVar[HttpRequest | None] = ContextVar("signal_audit_request", default=None)
_cause: ContextVar[uuid.UUID | None] = ContextVar("signal_audit_cause", default=None)
_suspended: ContextVar[bool] = ContextVar("signal_audit_suspended", default=False)

_Tokens = tuple[tuple[ContextVar[Any], Token[Any]], ...]
_entered: ContextVar[tuple[tuple[_Scope, _Tokens], ...]] = ContextVar(
    "signal_audit_entered", default=()
)

VARIABLES: Final[tuple[ContextVar[Any], ...]] = (
    _actor,
    _on_behalf_of,
    _reason,
    _values,
    _request,
    _cause,
    _suspended,
    _entered,
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every event of one statement has in common.

    Attributes:
        secrets: values that must not stay in any text of the event.
    """

    actor: Actor | None
    on_behalf_of: Actor | None
    reason: str | None
    cause: uuid.UUID | None
    context: Mapping[str, Any]
    secrets: frozenset[str]


def surroundings() -> Surroundings:
    """The present actor, reason, cause and context; the last three are still unredacted."""
    request = _request.get()
    context: dict[str, Any] = {}
    secrets: frozenset[str] = frozenset()
    if request is not None:
        context, secrets = _request_context(request)
    # What the application bound wins: its logs carry the same request id then.
    context.update(structlog.contextvars.get_contextvars())
    context.update(_values.get())
    return Surroundings(
        actor=_without_secrets(current_actor()),
        on_behalf_of=_without_secrets(_on_behalf_of.get()),
        reason=_reason.get(),
        cause=_cause.get(),
        context=context,
        secrets=secrets,
    )


def _without_secrets(actor: Actor | None) -> Actor | None:
    """The actor with a label that shows no secret; a service may be named by its URL."""
    if actor is None:
        return None
    label = redactor().scrub_text(actor.label)
    return actor if label == actor.label else replace(actor, label=label)


def current_actor() -> Actor | None:
    """Who acts now: what ``set_actor`` said, else the user of the request, else ``None``."""
    return actor_now()()


def actor_now() -> Callable[[], Actor | None]:
    """A way to ask later who acts now, where a query is allowed that may be needed to know."""
    explicit, request = _actor.get(), _request.get()
    if explicit is not None or request is None:
        return lambda: explicit
    return actor_look_up(request)


def current_cause() -> uuid.UUID | None:
    """The id of the event that this code runs inside, if any."""
    return _cause.get()


def entered() -> tuple[_Scope, ...]:
    """The scopes that this code runs inside, the innermost last."""
    return tuple(scope for scope, _ in _entered.get())


def is_suspended() -> bool:
    """Whether ``suspend_audit`` is in force here."""
    return _suspended.get()


class _Scope:
    """Sets context variables for a block; also a decorator, for sync and async functions.

    One scope may be entered again inside itself, and by several threads and tasks at once:
    its tokens are kept in the context that made them.
    """

    def __init__(self) -> None:
        self._assignments: list[tuple[ContextVar[Any], Any]] = []

    def __enter__(self) -> Self:
        tokens = tuple((var, var.set(self._value(var, v))) for var, v in self._assignments)
        _entered.set((*_entered.get(), (self, tokens)))
        return self

    @staticmethod
    def _value(var: ContextVar[Any], value: Any) -> Any:
        return {**var.get(), **value} if var is _values else value

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = _entered.get()
        for place in reversed(range(len(entered))):
            scope, tokens = entered[place]
            if scope is self:
                _entered.set(entered[:place] + entered[place + 1 :])
                for var, token in reversed(tokens):
                    _reset(var, token)
                return
        # Not entered here: an event loop closes a forgotten async generator in a context of
        # its own, where there is nothing to reset.

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise AuditConfigurationError(
                f"{type(self).__name__} cannot decorate the generator {function.__qualname__}: "
                "it would end before the first item is made. Use `with` inside of it."
            )
        if iscoroutinefunction(function):

            @functools.wraps(function)
            async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("F", async_wrapper)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                result = function(*args, **kwargs)
            if is_coroutine(result):
                # Such as of View.dispatch, where the handler is async: nothing is done yet.
                return named_as(result, self._go_on(result))
            return result

        return cast("F", wrapper)

    async def _go_on(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self:
            return await coroutine


def is_coroutine(result: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    """Whether what a plain function returned is a coroutine, which has done nothing yet.

    A task or a future is none: it goes on by itself, and whoever asked for it may cancel it.
    """
    # Its type is asked: isinstance() would evaluate a lazy object.
    return issubclass(type(result), Coroutine)


def named_as(original: Coroutine[Any, Any, T], coroutine: Coroutine[Any, Any, T]) -> Any:
    """A coroutine that tools show by the name of the one that it awaits.

    Args:
        original: perhaps never awaited; Python's warning should name it then.
        coroutine: awaits it.
    """
    for name in ("__name__", "__qualname__"):
        setattr(coroutine, name, getattr(original, name, type(original).__qualname__))
    return coroutine


def _reset(var: ContextVar[Any], token: Token[Any]) -> None:
    try:
        var.reset(token)
    except ValueError:
        # This context is a copy of the one that entered: an async generator's items are asked
        # for by several tasks. The value must not stay here either.
        before = token.old_value
        var.set(Context().run(var.get) if before is Token.MISSING else before)


class audit_context(_Scope):  # noqa: N801 - used like a function
    """Add to the context of every event made inside; nested blocks add to the outer one.

    Args:
        actor: who acts; see ``to_actor``.
        on_behalf_of: for whom, when impersonating.
        reason: why, as free text.
        **values: further keys of ``context``, such as ``ticket="T-17"``.
    """

    def __init__(
        self,
        *,
        actor: Any = None,
        on_behalf_of: Any = None,
        reason: str | None = None,
        **values: Any,
    ) -> None:
        super().__init__()
        if actor is not None:
            self._assignments.append((_actor, to_actor(actor)))
        if on_behalf_of is not None:
            self._assignments.append((_on_behalf_of, to_actor(on_behalf_of)))
        if reason is not None:
            self._assignments.append((_reason, reason))
        if values:
            self._assignments.append((_values, values))


class set_actor(_Scope):  # noqa: N801 - used like a function
    """Say who acts inside the block; ``None`` hides an outer actor again.

    Args:
        actor: a user, an ``Actor``, a service's name, or ``None``.
        on_behalf_of: for whom, when impersonating.
    """

    def __init__(self, actor: Any, *, on_behalf_of: Any = None) -> None:
        super().__init__()
        self._assignments.append((_actor, to_actor(actor)))
        self._assignments.append((_on_behalf_of, to_actor(on_behalf_of)))


class suspend_audit(_Scope):  # noqa: N801 - used like a function
    """Record nothing inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self._assignments.append((_suspended, True))


class request_scope(_Scope):  # noqa: N801 - used like a function
    """The middleware's scope: events made inside belong to this request."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__()
        self._assignments.append((_request, request))


class cause_scope(_Scope):  # noqa: N801 - used like a function
    """Events made inside carry this event's id as their cause, and its reason if it has one."""

    def __init__(self, event_id: uuid.UUID, reason: str | None = None) -> None:
        super().__init__()
        self._assignments.append((_cause, event_id))
        if reason is not None:
            self._assignments.append((_reason, reason))


def _request_context(request: HttpRequest) -> tuple[dict[str, Any], frozenset[str]]:
    """What is recorded of a request, and the secrets among the parts of its path."""
    cached: dict[str, Any] | None = getattr(request, "_signal_audit_context", None)
    if cached is None:
        cached = {
            "request_id": _request_id(request),
            "method": request.method or "",
            "path": request.path,
            "ip": request.META.get("REMOTE_ADDR") or None,
            "user_agent": request.META.get("HTTP_USER_AGENT") or None,
        }
        if request.META.get("QUERY_STRING"):
            cached["query"] = request.META["QUERY_STRING"]
        # Several threads may come here at once: all events of a request carry one id.
        cached = vars(request).setdefault("_signal_audit_context", cached)
    found = dict(cached)
    match = getattr(request, "resolver_match", None)
    if match is None:
        return found, frozenset()
    # Known only after the middleware chain; events before it go without.
    found["route"] = match.route
    secrets = _path_secrets(match)
    if secrets:
        found["path"] = _path_without(found["path"], secrets)
    return found, secrets


def _path_secrets(match: ResolverMatch) -> frozenset[str]:
    """Values that the URL gives to sensitive names, such as ``reset/<uidb64>/<token>/``."""
    hide = redactor()
    # What a route adds to the kwargs itself stands in no path; only a match of Django's own
    # making tells that apart.
    captured = getattr(match, "captured_kwargs", None)
    if captured is None:
        captured = match.kwargs
    values = {str(value) for name, value in captured.items() if hide.is_sensitive(name)}
    return frozenset(values - {"", "None"})


def _path_without(path: str, secrets: frozenset[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        shorter = redactor().scrub_text(path, [secret])
        if shorter == path:
            # A converter has made another value of it: which part it was cannot be told.
            return REDACTED
        path = shorter
    return path


def _request_id(request: HttpRequest) -> str:
    given = request.META.get("HTTP_X_REQUEST_ID", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
