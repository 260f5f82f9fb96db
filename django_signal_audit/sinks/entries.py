"""One entry of ``SINKS``: what is wrong with it, and the route that it makes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from django_signal_audit import conf
from django_signal_audit.dotted import load, nearest_path
from django_signal_audit.event import LEVELS
from django_signal_audit.exceptions import AuditConfigurationError, raise_found
from django_signal_audit.formats import get_formatter
from django_signal_audit.formats.base import get_terminal_formatter
from django_signal_audit.processors import Processor, resolve
from django_signal_audit.sinks import failures
from django_signal_audit.sinks._secrets import quotable, without_secrets
from django_signal_audit.sinks._urls import SinkURL, WrongSink
from django_signal_audit.sinks.base import Sink, SinkConfig, TransactionalSink

if TYPE_CHECKING:
    from django_signal_audit.formats import Formatter
    from django_signal_audit.sinks.base import Promise
    from django_signal_audit.sinks.spool import Spool

P = ParamSpec("P")

KEYS: Final = (
    "BACKEND",
    "OPTIONS",
    "FORMAT",
    "EVENTS",
    "MODELS",
    "LEVEL",
    "PROCESSORS",
    "ON_ERROR",
)

_ABSTRACT: Final = (Sink, TransactionalSink)
_NAMED: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A sink with its filters, its processors and its failure policy."""

    alias: str
    sink: Sink
    events: tuple[str, ...] | None
    models: tuple[str, ...] | None
    level: int
    on_error: str
    processors: tuple[Processor, ...] = ()
    spool: Spool | None = None

    @property
    def promise(self) -> Promise:
        """What the sink keeps under its failure policy."""
        if self.on_error == "spool" and self.sink.is_lasting:
            return "at-least-once"
        if self.sink.transactional and self.on_error != "raise":
            return "at-most-once"
        return self.sink.promise

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


def build_route(alias: str, said: Any, state_dir: str | os.PathLike[str] | None = None) -> Route:
    """Build one sink from its entry in ``SINKS``.

    Args:
        alias: the entry's key.
        said: the entry; not changed.
        state_dir: the setting ``STATE_DIR``, for the spool of a sink that wants one.

    Raises:
        AuditConfigurationError: naming the alias, what is wrong, and what to write instead; it
            carries all further mistakes of the entry.
    """
    where = f"{conf.SETTING}['SINKS'][{alias!r}]"
    if not isinstance(said, Mapping):
        raise AuditConfigurationError(
            f"{where} is a {type(said).__name__}.",
            hint="Write a dict with a 'BACKEND'.",
            number="E021",
        )
    mistakes = [
        AuditConfigurationError(
            f"{where} has no key {key!r}.", hint=conf.nearest(key, KEYS), number="E021"
        )
        for key in said
        if key not in KEYS
    ]

    values: dict[str, Any] = {}

    def read(name: str, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            values[name] = function(*args, **kwargs)
        except AuditConfigurationError as exc:
            mistakes.append(exc)

    read("backend", _backend, where, said.get("BACKEND"))
    backend = values.get("backend", Sink)
    read("format", _formatters, where, said, backend)
    if "backend" in values:
        read("options", _options, where, said, backend)
    read("level", _level, where, said.get("LEVEL", "debug"))
    if {"options", "format", "level"} <= values.keys():
        plain, terminal = values["format"]
        config = SinkConfig(alias, plain, terminal, values["level"])
        read("sink", _sink, where, backend, config, values["options"], said.get("OPTIONS"))
    read("events", _patterns, where, "EVENTS", said.get("EVENTS"))
    read("models", _patterns, where, "MODELS", said.get("MODELS"), lower=True)
    read("processors", resolve, f"{where}['PROCESSORS']", said.get("PROCESSORS", ()))
    read("on_error", failures.policy_of, where, said.get("ON_ERROR"), values.get("backend"))
    if values.get("on_error") == "spool":
        read("spool", failures.spool_of, where, alias, state_dir)
    raise_found(mistakes)
    return Route(
        alias=alias,
        sink=values["sink"],
        events=values["events"],
        models=values["models"],
        level=values["level"],
        on_error=values["on_error"],
        processors=values["processors"],
        spool=values.get("spool"),
    )


def _backend(where: str, path: Any) -> type[Sink]:
    if isinstance(path, WrongSink):
        raise path.error()
    found = path
    if isinstance(path, str):
        found = load(
            path,
            f"{where}['BACKEND']: {path!r} cannot be imported",
            advice=lambda: _nearest_sink(path),
            number="E022",
        )
    elif not isinstance(path, type):
        raise AuditConfigurationError(
            f"{where}['BACKEND'] is {path!r}.",
            hint="Write the dotted path of a sink, such as 'django_signal_audit.sinks.FileSink'.",
            number="E022",
        )
    if not _is_sink(found):
        raise AuditConfigurationError(
            f"{where}['BACKEND']: {path!r} is no sink.",
            hint="Derive one from django_signal_audit.sinks.Sink.",
            number="E022",
        )
    return found  # type: ignore[no-any-return]


def _is_sink(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Sink) and found not in _ABSTRACT


def _nearest_sink(path: str) -> str:
    from django_signal_audit import sinks  # noqa: PLC0415 - the package imports this module

    shipped = [f"{sinks.__name__}.{name}" for name, value in vars(sinks).items() if _is_sink(value)]
    # A name alone is looked for among the sinks that are shipped.
    return (
        nearest_path(path if "." in path else f"{sinks.__name__}.{path}", _is_sink)
        or f"Choose one of {', '.join(map(repr, sorted(shipped)))}."
    )


def _options(where: str, said: Mapping[str, Any], backend: type[Sink]) -> dict[str, Any]:
    options = said.get("OPTIONS", {})
    if isinstance(options, SinkURL):
        options = _options_from_url(options, backend)
    if not isinstance(options, Mapping):
        raise AuditConfigurationError(
            f"{where}['OPTIONS'] is a {type(options).__name__}.",
            hint="Write a dict.",
            number="E023",
        )
    raise_found(_option_mistakes(where, options, backend))
    return dict(options)


def _options_from_url(url: SinkURL, backend: type[Sink]) -> dict[str, object]:
    try:
        return backend.options_from_url(url)
    except AuditConfigurationError as exc:
        if quotable(exc, url.secrets):
            raise
        raise _quoting_nothing(exc, url.secrets) from None
    except Exception as exc:  # noqa: BLE001 - a class of the user's own may raise anything
        # Not what the error says: it may quote the URL.
        raise url.error(
            f"{backend.__name__}.options_from_url() raised {type(exc).__name__}.",
            "Let it raise url.error(problem, hint) where the URL is wrong.",
        ) from None


def _option_mistakes(
    where: str, options: Mapping[Any, Any], backend: type[Sink]
) -> Iterator[AuditConfigurationError]:
    parameters = inspect.signature(backend).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    named = {p.name: p for p in parameters.values() if p.name != "config" and p.kind in _NAMED}
    for name in options:
        if name not in named and not (takes_any and isinstance(name, str) and name != "config"):
            yield AuditConfigurationError(
                f"{where}: {backend.__name__} has no option {name!r}.",
                hint=conf.nearest(name, named) if named else "It takes no options.",
                number="E023",
            )
    for name, parameter in named.items():
        if parameter.default is inspect.Parameter.empty and name not in options:
            yield AuditConfigurationError(
                f"{where}: {backend.__name__} needs the option {name!r}.",
                hint=f"Write 'OPTIONS': {{{name!r}: ...}}.",
                number="E023",
            )


def _sink(
    where: str,
    backend: type[Sink],
    config: SinkConfig,
    options: Mapping[str, Any],
    said: Mapping[str, Any] | SinkURL | None,
) -> Sink:
    hidden = (options, said.secrets) if isinstance(said, SinkURL) else options
    try:
        return backend(config, **options)
    except AuditConfigurationError as exc:
        exc.number = exc.number or "E024"
        if quotable(exc, hidden):
            raise
        raise _quoting_nothing(exc, hidden) from None
    except Exception as exc:  # noqa: BLE001 - a class of the user's own may raise anything
        # Neither the values nor what the error says of them: one may be a password.
        text = without_secrets(f"{type(exc).__name__}: {exc}", hidden)
        names = ", ".join(map(repr, options)) or "no options"
        raise AuditConfigurationError(
            f"{where}: {backend.__name__} cannot be made of {names} ({text}).",
            hint="Correct the values in its OPTIONS.",
            number="E024",
        ) from quotable(exc, hidden)


def _quoting_nothing(error: AuditConfigurationError, hidden: object) -> AuditConfigurationError:
    return AuditConfigurationError(
        without_secrets(error.problem, hidden),
        hint=without_secrets(error.hint, hidden),
        number=error.number,
    )


def _formatters(
    where: str, said: Mapping[str, Any], backend: type[Sink]
) -> tuple[Formatter, Formatter | None]:
    """The format that the sink writes, and what it is on a terminal."""
    name = said.get("FORMAT", backend.default_format)
    if not isinstance(name, str):
        raise AuditConfigurationError(
            f"{where}['FORMAT'] is {name!r}.",
            hint="Write the name of a format, such as 'json'.",
            number="E025",
        )
    try:
        return get_formatter(name), get_terminal_formatter(name)
    except AuditConfigurationError as exc:
        raise AuditConfigurationError(
            f"{where}['FORMAT']: {exc.problem}", hint=exc.hint, number="E025"
        ) from exc


def _patterns(where: str, key: str, value: Any, *, lower: bool = False) -> tuple[str, ...] | None:
    if value is None:
        return None
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence | set | frozenset)
        or not all(isinstance(pattern, str) for pattern in value)
    ):
        example = value if isinstance(value, str) else "auth.*"
        raise AuditConfigurationError(
            f"{where}[{key!r}] is {value!r}.",
            hint=f"Write a list of patterns, such as [{example!r}].",
            number="E027",
        )
    return tuple(pattern.lower() if lower else pattern for pattern in value)


def _level(where: str, value: Any) -> int:
    if not isinstance(value, str) or value not in LEVELS:
        raise AuditConfigurationError(
            f"{where}['LEVEL'] is {value!r}, which is no level.",
            hint=conf.nearest(str(value), LEVELS),
            number="E027",
        )
    return LEVELS[value]
