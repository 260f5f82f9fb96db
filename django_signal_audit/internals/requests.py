"""What Django does not document of requests, sessions, responses and lazy objects."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from django.utils.functional import LazyObject, SimpleLazyObject, empty

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, StreamingHttpResponse


def wrapped_by(value: Any) -> Any:
    """What a lazy object wraps, which may be lazy itself."""
    if value.__dict__["_wrapped"] is empty:
        value._setup()
    return value.__dict__["_wrapped"]


def unwrapped(value: Any) -> Any:
    """What a lazy object, such as ``request.user``, stands for; anything else as it is."""
    while isinstance(value, LazyObject):
        value = wrapped_by(value)
    return value


def known_user(request: HttpRequest, user: Any) -> Any:
    """The user of a request, if no query is needed to know; ``None`` if one is.

    Args:
        request: where ``await request.auser()`` keeps what it found.
        user: its attribute of that name, maybe a lazy one.
    """
    if isinstance(user, LazyObject) and user.__dict__["_wrapped"] is empty:
        return vars(request).get("_acached_user")
    return user


def session_user(request: HttpRequest, user: Any) -> Callable[[], Any] | None:
    """A way to ask who is logged in, as the session says now, that leaves the session alone.

    The view may be using the session meanwhile, in another thread. So a copy is read: whether
    the session was touched, and what became of it, is still the view's doing alone.

    Args:
        request: with the session.
        user: its attribute of that name.

    Returns:
        ``None`` where the user is not the lazy one of Django's ``AuthenticationMiddleware``.
    """
    session = getattr(request, "session", None)
    if type(user) is not SimpleLazyObject or session is None:
        return None
    if user.__dict__["_setupfunc"].__module__ != "django.contrib.auth.middleware":
        return None
    twin = _ReadOnly(session)

    def find() -> Any:
        from django.contrib.auth import get_user  # noqa: PLC0415 - its models need loaded apps

        found = get_user(twin)  # type: ignore[arg-type]
        if not twin.is_outdated:
            # The view need not query again, but its asking has to show as before.
            user.__dict__["_setupfunc"] = _told(request, session, found)
            vars(session).setdefault("_session_cache", twin.session._session_cache)
        return found

    return find


def evaluated_user(request: HttpRequest, user: Any) -> Any:
    """The user behind somebody's lazy one, which is left as lazy as it was.

    Who acts is the audit's question, not the view's: it must not add ``Vary: Cookie`` to a
    response that does not depend on the session. If the view asks later, its answer must
    still add it, or a shared cache would show one user's page to others.

    Args:
        request: with the session, if there is one.
        user: its attribute of that name, maybe a lazy one.
    """
    session = getattr(request, "session", None)
    if type(user) is not SimpleLazyObject or getattr(session, "accessed", True):
        return user
    look_up = user.__dict__["_setupfunc"]
    try:
        found = look_up()
    finally:
        session.accessed = False  # type: ignore[union-attr]
    vars(request).pop("_cached_user", None)
    user.__dict__["_setupfunc"] = _told(request, session, found)
    return found


class _ReadOnly:
    """What ``get_user`` takes of a request: a session, which here is a copy that it cannot save."""

    def __init__(self, session: Any) -> None:
        self.session = copy.copy(session)
        if "_session_cache" in vars(session):
            self.session._session_cache = dict(session._session_cache)
        self.session.flush = self.session.cycle_key = self._needs_writing
        self._key = session.session_key
        self._modified = session.modified
        self._outdated = False

    @property
    def is_outdated(self) -> bool:
        """Whether the session is to be ended or changed: that is left to the view's own asking."""
        same = self.session.session_key == self._key and self.session.modified == self._modified
        return self._outdated or not same

    def _needs_writing(self) -> None:
        self._outdated = True


def _told(request: HttpRequest, session: Any, user: Any) -> Callable[[], Any]:
    def get_user() -> Any:
        session.accessed = True
        request._cached_user = user  # type: ignore[attr-defined]
        return user

    return get_user


def parts_of(response: StreamingHttpResponse) -> Any:
    """The iterator, sync or async, that a streamed response was given."""
    return response._iterator  # type: ignore[attr-defined]
