"""Which sinks an event goes to: the configured sinks, built once for each process."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from django.utils.module_loading import import_string

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats import get_formatter
from django_signal_audit.sinks.base import Sink, SinkConfig, TransactionalSink

if TYPE_CHECKING:
    from django_signal_audit.formats import Formatter

logger = logging.getLogger("django_signal_audit")

KEYS: Final = ("BACKEND", "OPTIONS", "FORMAT", "EVENTS", "MODELS", "LEVEL", "ON_ERROR")
ON_ERROR: Final = ("raise", "log")
_ABSTRACT: Final = (Sink, TransactionalSink)
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

# Event names may be made up as they go; the answers for them must not pile up.
_ANSWERS_KEPT: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A sink with its filters and its failure policy."""

    alias: str
    sink: Sink
    events: tuple[str, ...] | None
    models: tuple[str, ...] | None
    level: int
    on_error: str

    def accepts(self, event: str, object_type: str | None, level: str) -> bool:
        """Whether an event of this name, model and level goes here."""
        if LEVELS.get(level, LEVELS["info"]) < self.level:
            return False
        if self.events is not None and not any(fnmatchcase(event, p) for p in self.events):
            return False
        return self.models is None or (
            object_type is not None
            and any(fnmatchcase(object_type.lower(), p) for p in self.models)
        )


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
    try:
        route.sink.close()
    except Exception:
        # A sink that cannot be closed must not keep the others open.
        logger.exception("Audit sink %r could not be closed.", route.alias)


def _current_table() -> _Table:
    global _table  # noqa: PLW0603 - one table for each process
    config = conf.current()
    table = _table
    if table is not None and table.config is config:
        return table
    with _lock:
        if _table is None or _table.config is not config:
            routes = tuple(build_route(alias, said) for alias, said in config.SINKS.items())
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
                f"There is no audit sink {alias!r} in {conf.SETTING}['SINKS']. "
                f"{conf.nearest(alias, good) if good else 'SINKS is empty.'}"
            )


def build_route(alias: str, said: Any) -> Route:
    """Build one sink from its entry in ``SINKS``.

    Args:
        alias: the entry's key.
        said: the entry; not changed.

    Raises:
        AuditConfigurationError: naming the alias, what is wrong, and what to write instead.
    """
    where = f"{conf.SETTING}['SINKS'][{alias!r}]"
    if not isinstance(said, Mapping):
        raise AuditConfigurationError(
            f"{where} must be a dict with a 'BACKEND', not {type(said).__name__}."
        )
    for key in said:
        if key not in KEYS:
            raise AuditConfigurationError(f"{where} has no key {key!r}. {conf.nearest(key, KEYS)}")
    backend = _backend(where, said.get("BACKEND"))
    sink = _build_sink(where, alias, backend, said)
    return Route(
        alias=alias,
        sink=sink,
        events=_patterns(where, "EVENTS", said.get("EVENTS")),
        models=_patterns(where, "MODELS", said.get("MODELS"), lower=True),
        level=_level(where, said.get("LEVEL", "debug")),
        on_error=_on_error(where, said.get("ON_ERROR"), backend),
    )


def _backend(where: str, path: Any) -> type[Sink]:
    found = path
    if isinstance(path, str):
        try:
            found = import_string(path)
        except ImportError as exc:
            raise AuditConfigurationError(
                f"{where}: cannot import BACKEND {path!r} ({exc}). {_nearest_sink(path)}"
            ) from exc
    elif not isinstance(path, type):
        raise AuditConfigurationError(
            f"{where} needs a 'BACKEND', such as 'django_signal_audit.sinks.FileSink'."
        )
    if not (isinstance(found, type) and issubclass(found, Sink)) or found in _ABSTRACT:
        raise AuditConfigurationError(
            f"{where}: BACKEND {path!r} is no sink; derive one from django_signal_audit.sinks.Sink."
        )
    return found


def _nearest_sink(path: str) -> str:
    from django_signal_audit import sinks  # noqa: PLC0415 - the package imports this module

    shipped = {
        f"django_signal_audit.sinks.{name}": getattr(sinks, name)
        for name in sinks.__all__
        if name.endswith("Sink")
    }
    return conf.nearest(path, [name for name, sink in shipped.items() if sink not in _ABSTRACT])


def _build_sink(where: str, alias: str, backend: type[Sink], said: Mapping[str, Any]) -> Sink:
    options = said.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        raise AuditConfigurationError(f"{where}['OPTIONS'] must be a dict, not {options!r}.")
    parameters = inspect.signature(backend).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    known = [name for name in parameters if name != "config"]
    for name in options:
        if name not in known and not takes_any:
            advice = conf.nearest(name, known) if known else "It takes no options."
            raise AuditConfigurationError(
                f"{where}: {backend.__name__} has no option {name!r}. {advice}"
            )
    missing = [
        p.name
        for p in parameters.values()
        if p.name != "config"
        and p.default is inspect.Parameter.empty
        and p.kind in {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
        and p.name not in options
    ]
    if missing:
        raise AuditConfigurationError(
            f"{where}: {backend.__name__} needs the option {missing[0]!r}: "
            f"'OPTIONS': {{{missing[0]!r}: ...}}."
        )
    config = SinkConfig(alias=alias, format=_formatter(where, said, backend))
    try:
        return backend(config, **options)
    except AuditConfigurationError:
        raise
    except Exception as exc:
        raise AuditConfigurationError(
            f"{where}: {backend.__name__} cannot be made of 'OPTIONS': {dict(options)!r} "
            f"({type(exc).__name__}: {exc})."
        ) from exc


def _formatter(where: str, said: Mapping[str, Any], backend: type[Sink]) -> Formatter:
    name = said.get("FORMAT", backend.default_format)
    if not isinstance(name, str):
        raise AuditConfigurationError(
            f"{where}['FORMAT'] must be the name of a format, such as 'json', not {name!r}."
        )
    try:
        return get_formatter(name)
    except AuditConfigurationError as exc:
        raise AuditConfigurationError(f"{where}['FORMAT']: {exc}") from exc


def _patterns(where: str, key: str, value: Any, *, lower: bool = False) -> tuple[str, ...] | None:
    if value is None:
        return None
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence | set | frozenset)
        or not all(isinstance(pattern, str) for pattern in value)
    ):
        raise AuditConfigurationError(
            f"{where}[{key!r}] must be a list of patterns, such as ['auth.*'], not {value!r}."
        )
    return tuple(pattern.lower() if lower else pattern for pattern in value)


def _level(where: str, value: Any) -> int:
    if not isinstance(value, str) or value not in LEVELS:
        raise AuditConfigurationError(
            f"{where}['LEVEL'] = {value!r} is no level. {conf.nearest(str(value), LEVELS)}"
        )
    return LEVELS[value]


def _on_error(where: str, value: Any, backend: type[Sink]) -> str:
    if value is None:
        return "raise" if issubclass(backend, TransactionalSink) else "log"
    if value not in ON_ERROR:
        raise AuditConfigurationError(
            f"{where}['ON_ERROR'] = {value!r} is no policy. {conf.nearest(str(value), ON_ERROR)}"
        )
    if value == "raise" and not issubclass(backend, TransactionalSink):
        raise AuditConfigurationError(
            f"{where}['ON_ERROR'] = 'raise' would be a lie: {backend.__name__} writes after "
            "COMMIT, when nothing can be rolled back any more. Use 'log'."
        )
    return str(value)
