"""Who acts: what a caller calls an actor, or the user of a request."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from django_signal_audit import internals
from django_signal_audit.event import Actor
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.tasks import log_failure
from django_signal_audit.values import safe_text, stable_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

LABEL_LIMIT: Final = 255

_CACHE: Final = "_signal_audit_actor"


def to_actor(value: Any) -> Actor | None:
    """Turn what a caller calls an actor into an ``Actor`` that fits its columns.

    Args:
        value: an ``Actor``, a user object, a plain name (type ``service``), or ``None``.

    Raises:
        AuditConfigurationError: it is none of these.
    """
    if value is None:
        return None
    if isinstance(value, Actor):
        return _actor(value.type or "unknown", value.id, value.label)
    if isinstance(value, str):
        return _actor("service", value, value)
    if hasattr(value, "is_authenticated"):
        if not value.is_authenticated:
            return Actor("anonymous")
        label = value.get_username() if hasattr(value, "get_username") else value
        return _actor("user", getattr(value, "pk", None), label)
    raise AuditConfigurationError(
        f"An actor is a user, an Actor(type, id, label) or a name, not {type(value).__name__}."
    )


def _actor(kind: Any, key: Any, label: Any) -> Actor:
    return Actor(
        safe_text(kind, limit=LABEL_LIMIT),
        None if key is None else stable_key(key),
        safe_text(label, limit=LABEL_LIMIT),
    )


def actor_look_up(request: HttpRequest) -> Callable[[], Actor | None]:
    """A way to ask for the user of a request, as an actor, now or later.

    Where a coroutine sends an event no query may be made to know; where one may be made, a
    moment later, the user may have logged out. The answer is that of now. A user who was asked
    for once stays the same actor, also after deleting the account.

    Returns:
        A function; it returns ``None`` where no middleware gave the request a user.
    """
    user = getattr(request, "user", None)
    if user is None:
        return _nobody
    kept: tuple[Any, _LookUp] | None = getattr(request, _CACHE, None)
    if kept is None or kept[0] is not user:
        kept = (user, _LookUp(request, user))
        setattr(request, _CACHE, kept)
    return kept[1]


def _nobody() -> None:
    return None


class _LookUp:
    """Who one user of a request is, found out once."""

    def __init__(self, request: HttpRequest, user: Any) -> None:
        self._request = request
        self._user = user
        self._in_session: Callable[[], Any] | None = None
        self._actor: Actor | None = None
        if internals.known_user(request, user) is None:
            self._in_session = internals.session_user(request, user)

    def __call__(self) -> Actor | None:
        if self._actor is None:
            handled = sys.exception()
            try:
                self._actor = to_actor(self._find())
            except Exception as exc:  # noqa: BLE001 - logged
                # The session store may be down, a broken transaction or an event loop may refuse
                # the query. The event is worth more than its actor's name.
                message = "The actor of this request could not be read."
                log_failure(message, error=exc, handled=handled, level=logging.WARNING)
                return Actor("user", None, f"unresolved ({type(exc).__name__})")
        return self._actor

    def _find(self) -> Any:
        known = internals.known_user(self._request, self._user)
        if known is not None:
            return known
        if self._in_session is not None:
            return self._in_session()
        return internals.evaluated_user(self._request, self._user)
