"""Every touch of an API that Django does not document, in one place.

``tests/test_internals.py`` checks the shape of each on every supported version, so that a
change in Django fails there, with its name, before it fails anywhere else.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from asgiref.sync import AsyncToSync, SyncToAsync
from django.db import router
from django.dispatch import dispatcher
from django.utils.functional import LazyObject, SimpleLazyObject, empty

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model
    from django.dispatch import Signal
    from django.http import HttpRequest, StreamingHttpResponse


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a write now would wait for a COMMIT, without connecting to find out."""
    if connection.in_atomic_block:
        return True
    if connection.connection is None:
        return not connection.settings_dict["AUTOCOMMIT"]
    return not connection.autocommit


def in_testcase_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether the open transaction is the one a ``TestCase`` rolls back at its end."""
    blocks: list[Any] = connection.atomic_blocks
    return bool(blocks) and bool(blocks[0]._from_testcase)


def testcase_savepoint(connection: BaseDatabaseWrapper) -> str | None:
    """The savepoint that one test of a ``TestCase`` runs in, inside its class's transaction."""
    blocks: list[Any] = connection.atomic_blocks
    inner = zip(blocks[1:], connection.savepoint_ids, strict=False)
    return next((sid for block, sid in reversed(list(inner)) if block._from_testcase), None)


@contextmanager
def write_lock_first(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """On SQLite, let the transaction that is opened inside begin with ``BEGIN IMMEDIATE``."""
    if connection.vendor != "sqlite":
        yield
        return
    sqlite: Any = connection
    if connection.connection is None:
        # Connecting reads transaction_mode from the settings; it must not undo ours.
        connection.ensure_connection()
    before = sqlite.transaction_mode
    if before == "EXCLUSIVE":
        yield
        return
    sqlite.transaction_mode = "IMMEDIATE"
    try:
        yield
    finally:
        sqlite.transaction_mode = before


def doom(connection: BaseDatabaseWrapper, error: BaseException) -> None:
    """Let the open ``atomic`` block end in a rollback, because of this error."""
    connection.needs_rollback = True
    connection.rollback_exc = error  # type: ignore[attr-defined]


def begin_for_raw_statements(connection: BaseDatabaseWrapper) -> None:
    """Open a transaction outside of ``atomic`` while autocommit is off.

    Other databases begin one by themselves; Django keeps SQLite in autocommit mode inside
    of ``atomic`` blocks, so there it takes an explicit BEGIN.
    """
    if connection.vendor != "sqlite":
        return
    connection.ensure_connection()
    if not connection.connection.in_transaction:
        connection.cursor().execute("BEGIN IMMEDIATE")


def savepoint_begins_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a savepoint set now would be the transaction, so that its release commits.

    So it is on SQLite for an ``atomic`` block while autocommit is off and nothing was
    written yet: no BEGIN was sent.
    """
    if connection.vendor != "sqlite" or connection.connection is None:
        return False
    return connection.in_atomic_block and not connection.connection.in_transaction


def has_no_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server is known to have ended the transaction; PostgreSQL's drivers say so."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    idle: bool = connection.connection.info.transaction_status == 0
    return idle


def is_left_open(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open that keeps PostgreSQL's drivers from changing autocommit."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return False
    open_or_failed = (2, 3)
    left_open: bool = connection.connection.info.transaction_status in open_or_failed
    return left_open


def is_mariadb(connection: BaseDatabaseWrapper) -> bool:
    """Whether a connection whose vendor is ``mysql`` is one to MariaDB."""
    return bool(connection.mysql_is_mariadb)  # type: ignore[attr-defined]


def reads_the_past(connection: BaseDatabaseWrapper) -> bool:
    """Whether a plain SELECT may not show a row as it is, although this transaction wrote it.

    Under REPEATABLE READ, MariaDB reads from a snapshot, but writes to the newest row; an
    UPDATE that finds the row as it wants it leaves the snapshot's version to later reads.
    """
    return connection.vendor == "mysql"


def update_passes_locked_rows(connection: BaseDatabaseWrapper) -> bool:
    """Whether an UPDATE waits only for rows it means, but a SELECT that locks for all it reads.

    So it is on MariaDB under READ COMMITTED, which is what Django asks for. Under REPEATABLE
    READ both wait, and only a SELECT that locks reads the newest rows.
    """
    if connection.vendor != "mysql":
        return False
    connection.ensure_connection()
    level: str | None = connection.isolation_level  # type: ignore[attr-defined]
    return level in {"read committed", "read uncommitted"}


def cuts_silently(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server stores something else where a column cannot hold a value."""
    if connection.vendor != "mysql":
        return False
    modes: set[str] = connection.sql_mode  # type: ignore[attr-defined]
    return not any(mode.startswith("STRICT_") for mode in modes)


def is_pk_set(instance: Model, meta: Any) -> bool:
    """Whether every part of the primary key has a value."""
    return bool(instance._is_pk_set(meta))  # type: ignore[attr-defined]


def pk_fields(meta: Any) -> list[Any]:
    """The columns of a primary key: several if it is composite."""
    return list(meta.pk_fields)


def pk_value(instance: Model, meta: Any) -> Any:
    """The primary key of an instance, or of its row in a parent's table."""
    return instance._get_pk_val(meta)


def receiver_key(receiver: Callable[..., Any]) -> Hashable:
    """What ``Signal`` tells receivers apart by, if they have no ``dispatch_uid``.

    Given as the ``dispatch_uid`` of another receiver, ``disconnect(receiver)`` finds that one.
    """
    key: Hashable = dispatcher._make_id(receiver)  # type: ignore[attr-defined]
    return key


def is_connected(signal: Signal, uid: Hashable, sender: Any) -> bool:
    """Whether a signal still has a receiver.

    Args:
        signal: any.
        uid: the receiver's ``dispatch_uid``, or else its ``receiver_key``.
        sender: what it was connected to; ``None`` means any.
    """
    key = (uid, dispatcher._make_id(sender))  # type: ignore[attr-defined]
    return any(entry[0] == key for entry in list(signal.receivers))


def unwrapped(value: Any) -> Any:
    """What a lazy object, such as ``request.user``, stands for; anything else as it is."""
    while isinstance(value, LazyObject):
        if value.__dict__["_wrapped"] is empty:
            value._setup()
        value = value.__dict__["_wrapped"]
    return value


def connect_first(
    signal: Signal, receiver: Callable[..., Any], sender: Any, dispatch_uid: str
) -> None:
    """Connect a receiver, strongly, so that it is called before those connected until now.

    ``Signal`` calls its receivers in the order in which they were connected, and one that
    raises keeps the later ones from being called.
    """
    signal.connect(receiver, sender=sender, weak=False, dispatch_uid=dispatch_uid)
    with signal.lock:
        ours = [entry for entry in signal.receivers if entry[1] is receiver]
        # A new list in one step: send() looks at it without the lock.
        signal.receivers = ours + [entry for entry in signal.receivers if entry[1] is not receiver]
        signal.sender_receivers_cache.clear()


def routed(action: str, model: type[Model], **hints: Any) -> str | None:
    """The alias that a router in ``DATABASE_ROUTERS`` names, before Django's own defaults.

    Args:
        action: ``db_for_read`` or ``db_for_write``.
        model: that is read or written.
        **hints: as Django gives them.
    """
    for one in router.routers:
        ask = getattr(one, action, None)
        alias: str | None = ask(model, **hints) if ask else None
        if alias:
            return alias
    return None


def forbidding_router(alias: str, model: type[Model]) -> str | None:
    """The class of the router that keeps a model's table from a database, ``None`` if none does."""
    meta = model._meta
    for one in router.routers:
        ask = getattr(one, "allow_migrate", None)
        said = ask(alias, meta.app_label, model_name=meta.model_name, model=model) if ask else None
        if said is not None:
            return None if said else type(one).__name__
    return None


# Requests


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


# asgiref


def sync_code_waits() -> bool:
    """Whether this coroutine was called by sync code, in whose thread all sync code then runs."""
    return getattr(AsyncToSync.executors, "current", None) is not None


def thread_is_gone() -> bool:
    """Whether the block that gave this task a thread of its own has ended, and the thread with it.

    Each ASGI request is such a block. asgiref would make a new thread, whose connections
    nobody closes.
    """
    block = SyncToAsync.thread_sensitive_context.get(None)
    return block is not None and block not in SyncToAsync.context_to_thread_executor
