"""Code of others that must not reach any database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

T = TypeVar("T")

OPEN_CURSOR: Final = (BaseDatabaseWrapper, "_cursor")
"""The method by which a connection makes every cursor that it gives out."""


class QueryRefusedError(Exception):
    """A value was to be shown without asking a database."""


class _Refusing(threading.local):
    """Whether this thread may not query, and of which connections it has asked nevertheless."""

    refused: list[tuple[BaseDatabaseWrapper, bool, Any]] | None = None


_refusing = _Refusing()


def refusable_cursor(original: Any, self: BaseDatabaseWrapper, *args: Any, **kwargs: Any) -> Any:
    """Stands in for ``OPEN_CURSOR``.

    Raises:
        QueryRefusedError: inside ``call_without_queries``.
    """
    if _refusing.refused is None:
        return original(self, *args, **kwargs)
    doom = (self.needs_rollback, self.rollback_exc)  # type: ignore[attr-defined]
    _refusing.refused.append((self, *doom))
    raise QueryRefusedError("No query may run while an object is shown in the trail.")


def call_without_queries(function: Callable[[], T]) -> tuple[T, bool]:
    """Call a function while no connection gives this thread a cursor.

    What is refused never reaches a database, is logged nowhere, and cannot break an open
    transaction.

    Args:
        function: of others; its exceptions pass.

    Returns:
        What it returns, and whether it was refused a query.
    """
    outer, refused = _refusing.refused, []  # type: ignore[var-annotated]
    _refusing.refused = refused
    try:
        return function(), bool(refused)
    finally:
        _refusing.refused = outer
        for connection, needs_rollback, rollback_exc in reversed(refused):
            # Django takes a refused statement for one that failed, but none was sent.
            connection.needs_rollback = needs_rollback
            connection.rollback_exc = rollback_exc
