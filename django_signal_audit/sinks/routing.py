"""Which sinks an event goes to: the configured sinks, built once for each process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from django_signal_audit import conf
from django_signal_audit.event import LEVELS
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks.entries import KEYS, Route, build_route
from django_signal_audit.sinks.failures import ON_ERROR
from django_signal_audit.tasks import log_failure

__all__ = [
    "KEYS",
    "LEVELS",
    "ON_ERROR",
    "Route",
    "RouteKey",
    "Routes",
    "all_routes",
    "build_route",
    "close_sinks",
    "routes_for",
]

# Event names may be made up as they go; the answers for them must not pile up.
_ANSWERS_KEPT: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """Where events of one kind go, in the order of the settings."""

    transactional: tuple[Route, ...]
    after_commit: tuple[Route, ...]

    def __bool__(self) -> bool:
        return bool(self.transactional or self.after_commit)


RouteKey = tuple[str, str | None, str, tuple[str, ...] | None]
"""Event name, object type, level, and the aliases a policy or definition allows."""


@dataclass(slots=True, eq=False)
class _Table:
    """All routes of one parsed configuration, with the answers already found."""

    config: conf.Config
    routes: tuple[Route, ...]
    found: dict[RouteKey, Routes] = field(default_factory=dict)


_lock = threading.RLock()
_table: _Table | None = None


def routes_for(key: RouteKey) -> Routes:
    """The sinks for events of one kind.

    Raises:
        AuditConfigurationError: the ``SINKS`` setting is wrong.
    """
    table = _current_table()
    try:
        return table.found[key]
    except KeyError:
        if len(table.found) >= _ANSWERS_KEPT:
            table.found.clear()
        routes = table.found[key] = _find(table, key)
        return routes


def all_routes() -> tuple[Route, ...]:
    """Every configured sink, built."""
    return _current_table().routes


def close_sinks() -> None:
    """Close every sink; the next event builds them anew."""
    global _table  # noqa: PLW0603 - one table for each process
    with _lock:
        if _table is not None:
            for route in _table.routes:
                _close(route)
        _table = None


def _close(route: Route) -> None:
    handled = sys.exception()
    try:
        route.sink.close()
    except Exception as exc:  # noqa: BLE001 - it must not keep the others open
        message = "Audit sink %r could not be closed."
        log_failure(message, route.alias, error=exc, handled=handled)


def _current_table() -> _Table:
    global _table  # noqa: PLW0603 - one table for each process
    config = conf.current()
    table = _table
    if table is not None and table.config is config:
        return table
    with _lock:
        if _table is None or _table.config is not config:
            routes = tuple(
                build_route(alias, said, config.STATE_DIR) for alias, said in config.SINKS.items()
            )
            close_sinks()
            _table = _Table(config, routes)
        return _table


def _find(table: _Table, key: RouteKey) -> Routes:
    event, object_type, level, aliases = key
    if aliases is not None:
        _require_aliases(aliases, [route.alias for route in table.routes])
    wanted = [
        route
        for route in table.routes
        if (aliases is None or route.alias in aliases) and route.accepts(event, object_type, level)
    ]
    return Routes(
        transactional=tuple(r for r in wanted if r.sink.transactional),
        after_commit=tuple(r for r in wanted if not r.sink.transactional),
    )


def _require_aliases(aliases: Sequence[str], good: Sequence[str]) -> None:
    for alias in aliases:
        if alias not in good:
            raise AuditConfigurationError(
                f"There is no audit sink {alias!r} in {conf.SETTING}['SINKS'].",
                hint=conf.nearest(alias, good) if good else "SINKS is empty.",
                number="E016",
            )


def _renew_lock() -> None:
    """Start anew in a forked child: the thread that held the lock was not copied."""
    global _lock  # noqa: PLW0603 - one lock for one process
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
