"""Sinks from the environment: each is a URL, as databases and caches are in twelve-factor apps.

    SIGNAL_AUDIT = {"SINKS": sinks_from_env(env, "AUDIT_SINKS")}

    AUDIT_SINKS=database://,file:///var/log/app/audit.jsonl,stdout://?format=logfmt

Everything here may be called in a settings module. A mistake in a URL raises nothing there: its
place in ``SINKS`` is taken by the mistake, which ``manage.py check`` reports, and which every write
of an audited model raises.
"""

from __future__ import annotations

import os
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol, TypeAlias

from django.core.exceptions import ImproperlyConfigured

from django_signal_audit import conf, sinks
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import Sink, SinkURL
from django_signal_audit.sinks._urls import WrongSink, is_near, parse_url
from django_signal_audit.sinks.routing import KEYS

SinkEntry: TypeAlias = dict[str, Any]
"""One value of ``SIGNAL_AUDIT["SINKS"]``."""

# OPTIONS is what all other parameters are.
_KEYS: Final = {key.lower(): key for key in KEYS if key != "OPTIONS"}
_LISTS: Final = frozenset({"EVENTS", "MODELS", "PROCESSORS"})
_ALIAS: Final = re.compile(r"[A-Za-z0-9_.\-]+")
_OWN_SINK: Final = "A sink of your own is named by ?backend=myapp.sinks.MySink."


class Environment(Protocol):
    """What is asked of ``environ.Env``."""

    @property
    def prefix(self) -> str:
        """Before the name of each variable."""

    @property
    def ENVIRON(self) -> Mapping[str, str]:  # noqa: N802 - django-environ's name
        """The variables."""

    def str(self, var: str, /) -> Any:
        """The value of a variable; its default there may be any."""


def sinks_from_env(
    env: Environment | Mapping[str, str],
    name: str = "AUDIT_SINKS",
    default: Mapping[str, Any] | str | None = None,
) -> dict[str, Any]:
    """``SIGNAL_AUDIT["SINKS"]`` from a variable that holds URLs separated by commas.

    Args:
        env: of django-environ, or a mapping such as ``os.environ``.
        name: of the variable.
        default: what holds if the variable is not set: a ``SINKS`` dict, or URLs. Without it,
            the database sink. A variable that is set and empty is a mistake.

    Returns:
        Alias to entry. A URL that is wrong is an entry that carries the mistake.
    """
    try:
        said = env.get(name) if isinstance(env, Mapping) else _read(env, name)
    except (ImproperlyConfigured, OSError, UnicodeDecodeError) as exc:
        # The variable points to another one, or to a file, that is not there.
        reason = exc.strerror if isinstance(exc, OSError) else type(exc).__name__
        return {
            name: _wrong(
                f"{name} is set, but its value cannot be read ({reason}).",
                "Set the variable, or correct the file, that it points to.",
            )
        }
    if said is None:
        if isinstance(default, str):
            return sinks_from_urls(default, f"The default of {name}")
        default = conf.DEFAULT_SINKS if default is None else default
        return {
            alias: dict(entry) if isinstance(entry, Mapping) else entry
            for alias, entry in default.items()
        }
    if isinstance(said, str) and not said.strip():
        return {
            name: _wrong(
                f"{name} is set, but empty.",
                "Unset it for the default sinks, or write a URL such as 'database://'. To switch "
                f"the trail off, say {conf.SETTING} = {{'SINKS': {{}}}} in the settings.",
            )
        }
    holders = tuple(variable for variable, value in os.environ.items() if value == said)
    return _sinks(said, name, holders)


def sinks_from_urls(urls: str | Iterable[str], origin: str = "SINKS") -> dict[str, Any]:
    """``SIGNAL_AUDIT["SINKS"]`` from URLs.

    Args:
        urls: a list of them, or a text that holds them separated by commas.
        origin: where they were written, for messages.

    Returns:
        Alias to entry. The alias is what the URL's ``alias`` parameter says, or its
        scheme.
    """
    return _sinks(urls, origin)


def sink_from_url(url: str) -> SinkEntry:
    """One entry of ``SIGNAL_AUDIT["SINKS"]`` from one URL.

    Args:
        url: without an ``alias``, which is the entry's key.

    Returns:
        ``BACKEND``, ``OPTIONS`` and what else the URL says.
    """
    return _sink("sink_from_url()", url, may_name_alias=False)[1]


def _sinks(
    urls: str | Iterable[str], origin: str, variables: tuple[str, ...] = ()
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    places: dict[str, int] = {}
    for number, text in enumerate(urls.split(",") if isinstance(urls, str) else urls, 1):
        where = f"{origin}, URL {number}"
        alias, entry = _sink(where, text, variables)
        if alias in places:
            entry = _wrong(
                f"{where}: the alias {alias!r} is that of URL {places[alias]} already.",
                "Give one of the two a name of its own: ?alias=...",
            )
            alias = where
        places.setdefault(alias, number)
        found[alias] = entry
    return found


def _read(env: Environment, name: str) -> Any:
    try:
        return env.str(name)
    except ImproperlyConfigured:
        if f"{env.prefix}{name}" in env.ENVIRON:
            raise
        return None


def _wrong(problem: str, hint: str) -> SinkEntry:
    return {"BACKEND": WrongSink(problem, hint)}


def _sink(
    origin: str, text: object, variables: tuple[str, ...] = (), *, may_name_alias: bool = True
) -> tuple[str, SinkEntry]:
    """The alias and the entry, or the mistake, of one URL."""
    alias = origin
    try:
        url = replace(parse_url(origin, text), variables=variables)
        backend = _backend(url)
        alias = _alias(url) if may_name_alias else origin
        return alias, _entry(url, backend, ignore="alias" if may_name_alias else "")
    except AuditConfigurationError as exc:
        return alias, _wrong(exc.problem, exc.hint)


def _backend(url: SinkURL) -> type[Sink] | str:
    """The class of a sink of this package, or the path of another.

    A sink of the user's own is not imported: its module may need loaded apps, or the very
    settings that are being made.
    """
    path = _one(url, "backend")
    if path is not None:
        return path
    known = shipped_sinks()
    sink = known.get(url.scheme.lower())
    if sink is not None:
        return sink
    what = f"the scheme {url.scheme!r}" if is_near(url.scheme, known) else "its scheme"
    raise url.error(f"no sink has {what}.", f"{conf.nearest(url.scheme, known)} {_OWN_SINK}")


def _alias(url: SinkURL) -> str:
    alias = _one(url, "alias")
    if alias is None:
        return url.scheme.lower()
    if not _ALIAS.fullmatch(alias):
        raise url.error(
            f"{alias!r} cannot be an alias.",
            "Write letters, digits, dots, hyphens, underscores.",
        )
    return alias


def _entry(url: SinkURL, backend: type[Sink] | str, *, ignore: str) -> SinkEntry:
    entry: SinkEntry = {"BACKEND": backend}
    for name, key in _KEYS.items():
        if name == "backend" or name not in url.parameters:
            continue
        if key in _LISTS:
            items = [item.strip() for text in url.parameters[name] for item in text.split(",")]
            entry[key] = [item for item in items if item]
        else:
            entry[key] = _one(url, name)
    rest = {
        name: values
        for name, values in url.parameters.items()
        if name not in _KEYS and name != ignore
    }
    url = replace(url, parameters=rest)
    if isinstance(backend, str):
        entry["OPTIONS"] = url
        return entry
    entry["BACKEND"] = _path_of(backend)
    if options := backend.options_from_url(url):
        entry["OPTIONS"] = options
    return entry


def _one(url: SinkURL, name: str) -> str | None:
    values = url.parameters.get(name, ())
    if len(values) > 1:
        raise url.error(f"{name!r} is given more than once.", "Write it once.")
    return values[0] if values else None


@cache
def shipped_sinks() -> dict[str, type[Sink]]:
    """The sinks of this package by the schemes of their URLs.

    A sink becomes available by adding its file.
    """
    names = {
        f"{sinks.__name__}.{module.name}": module.name
        for module in pkgutil.iter_modules(sinks.__path__)
        if module.name != "base" and not module.name.startswith("_")
    }
    for path in names:
        import_module(path)
    return {
        scheme: sink
        for sink in _subclasses_of(Sink)
        if sink.__module__ in names
        for scheme in vars(sink).get("schemes", (names[sink.__module__],))
    }


def _subclasses_of(sink: type[Sink]) -> Iterator[type[Sink]]:
    # Not a look into the modules: to ask Django's lazy settings for their class loads them.
    for subclass in sink.__subclasses__():
        yield subclass
        yield from _subclasses_of(subclass)


def _path_of(sink: type[Sink]) -> str:
    """Its dotted path: the short one, where the package exports it."""
    exported = getattr(sinks, sink.__name__, None) is sink
    return f"{sinks.__name__ if exported else sink.__module__}.{sink.__name__}"
