"""Who acts, and in which request: everything an event learns from its surroundings.

Each value lives in a ``ContextVar`` and is reset by its token in ``finally``, so nothing
leaks into the next request, job or thread.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import structlog
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError

from django_signal_audit.event import Actor
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.values import safe_text, stable_key

if TYPE_CHECKING:
    from types import TracebackType

    from django.http import HttpRequest

logger = logging.getLogger("django_signal_audit")

F = TypeVar("F", bound=Callable[..., Any])

LABEL_LIMIT: Final = 255
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")

_actor: ContextVar[Actor | None] = ContextVar("signal_audit_actor", default=None)
_on_behalf_of: ContextVar[Actor | None] = ContextVar("signal_audit_on_behalf_of", default=None)
_reason: ContextVar[str | None] = ContextVar("signal_audit_reason", default=None)
_values: ContextVar[Mapping[str, Any]] = ContextVar("signal_audit_values", default={})  # noqa: B039 - never mutated
_request: ContextVar[HttpRequest | None] = ContextVar("signal_audit_request", default=None)
_cause: ContextVar[uuid.UUID | None] = ContextVar("signal_audit_cause", default=None)
_suspended: ContextVar[bool] = ContextVar("signal_audit_suspended", default=False)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every event of one statement has in common."""

    actor: Actor | None
    on_behalf_of: Actor | None
    reason: str | None
    cause: uuid.UUID | None
    context: Mapping[str, Any]


def surroundings() -> Surroundings:
    """The present actor, reason, cause and context, still unredacted."""
    request = _request.get()
    context: dict[str, Any] = dict(structlog.contextvars.get_contextvars())
    if request is not None:
        context.update(_request_context(request))
    context.update(_values.get())
    return Surroundings(
        actor=current_actor(),
        on_behalf_of=_on_behalf_of.get(),
        reason=_reason.get(),
        cause=_cause.get(),
        context=context,
    )


def current_actor() -> Actor | None:
    """Who acts now: what ``set_actor`` said, else the user of the request, else ``None``."""
    explicit = _actor.get()
    if explicit is not None:
        return explicit
    request = _request.get()
    return None if request is None else _request_actor(request)


def is_suspended() -> bool:
    """Whether ``suspend_audit`` is in force here."""
    return _suspended.get()


def to_actor(value: Any) -> Actor | None:
    """Turn what a caller calls an actor into an ``Actor``.

    Args:
        value: an ``Actor``, a user object, a plain name (type ``service``), or ``None``.

    Raises:
        AuditConfigurationError: it is none of these.
    """
    if value is None or isinstance(value, Actor):
        return value
    if isinstance(value, str):
        return Actor("service", stable_key(value), safe_text(value, limit=LABEL_LIMIT))
    if hasattr(value, "is_authenticated"):
        if not value.is_authenticated:
            return Actor("anonymous")
        label = value.get_username() if hasattr(value, "get_username") else value
        return Actor("user", stable_key(value.pk), safe_text(label, limit=LABEL_LIMIT))
    raise AuditConfigurationError(
        f"An actor is a user, an Actor(type, id, label) or a name, not {type(value).__name__}."
    )


class _Scope:
    """Sets context variables for a block; also a decorator, for sync and async functions."""

    def __init__(self) -> None:
        self._assignments: list[tuple[ContextVar[Any], Any]] = []
        self._tokens: list[list[tuple[ContextVar[Any], Token[Any]]]] = []

    def _recreate(self) -> Self:
        """A fresh scope for each call of a decorated function: tokens belong to one use."""
        scope = type(self).__new__(type(self))
        scope._assignments = self._assignments
        scope._tokens = []
        return scope

    def __enter__(self) -> Self:
        self._tokens.append([(var, var.set(self._value(var, v))) for var, v in self._assignments])
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
        for var, token in reversed(self._tokens.pop()):
            var.reset(token)

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
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
                with self._recreate():
                    return await function(*args, **kwargs)

            return cast("F", async_wrapper)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._recreate():
                return function(*args, **kwargs)

        return cast("F", wrapper)


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
    """Events made inside carry this event's id as their cause."""

    def __init__(self, event_id: uuid.UUID) -> None:
        super().__init__()
        self._assignments.append((_cause, event_id))


def _request_actor(request: HttpRequest) -> Actor | None:
    user = getattr(request, "user", None)
    if user is None:
        return None
    session = getattr(request, "session", None)
    accessed = getattr(session, "accessed", None)
    try:
        return to_actor(user)
    except (DatabaseError, SynchronousOnlyOperation) as exc:
        # A lazy user needs a query, and a broken transaction or an event loop refuses it.
        # The event is worth more than its actor's name.
        logger.warning("The actor of this request could not be read: %s", exc)
        return Actor("user", None, f"unresolved ({type(exc).__name__})")
    finally:
        if accessed is False and session is not None:
            # Asking who acts is the audit's business, not the view's: it must not add
            # `Vary: Cookie` to a response that does not depend on the session.
            session.accessed = False


def _request_context(request: HttpRequest) -> Mapping[str, Any]:
    cached: Mapping[str, Any] | None = getattr(request, "_signal_audit_context", None)
    if cached is None:
        cached = {
            "request_id": _request_id(request),
            "method": request.method or "",
            "path": request.path,
            "ip": request.META.get("REMOTE_ADDR") or None,
            "user_agent": request.META.get("HTTP_USER_AGENT") or None,
        }
        request._signal_audit_context = cached  # type: ignore[attr-defined]
    return cached


def _request_id(request: HttpRequest) -> str:
    given = request.META.get("HTTP_X_REQUEST_ID", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
