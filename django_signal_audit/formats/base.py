"""From the name of a format to the function that makes one line of an event."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from structlog import DropEvent

from django_signal_audit import conf
from django_signal_audit.dotted import load, nearest_path, reason_of
from django_signal_audit.event import AuditEvent
from django_signal_audit.exceptions import AuditConfigurationError

if TYPE_CHECKING:
    from structlog.typing import Processor

Formatter: TypeAlias = Callable[[AuditEvent], bytes]
"""Turns an event into one line: UTF-8, without the newline at its end and with none inside."""

_PACKAGE = "django_signal_audit.formats"
_NUMBER = "E025"


def available_formats() -> list[str]:
    """The formats of this package: its public modules, ``base`` apart.

    Returns:
        Their names, sorted. A format becomes available by adding its file.
    """
    path = import_module(_PACKAGE).__path__
    return sorted(
        module.name
        for module in pkgutil.iter_modules(path)
        if module.name != "base" and not module.name.startswith("_")
    )


def get_formatter(name: str) -> Formatter:
    """Find a format by its name and make a formatter of its processors.

    The formatter runs the processors as structlog does, ``processor(None, event.level,
    event_dict)``, beginning with a dict like ``event.to_dict()``. A ``structlog.DropEvent``
    that one of them raises reaches the caller of the formatter: see ``render_lines``.

    Args:
        name: a module of ``django_signal_audit.formats``, such as ``"json"``, or the dotted
            path of a function that takes nothing and returns a list of structlog
            processors, the last of which returns ``str`` or ``bytes``.

    Returns:
        The formatter.

    Raises:
        AuditConfigurationError: there is no such format, it cannot be imported, or its
            factory returns something else than processors.
    """
    if "." in name:
        return _formatter_of(name, _made_by(name, _dotted_factory(name)), foreign=True)
    return _formatter_of(name, _made_by(name, _module_factory(name)), foreign=False)


def get_terminal_formatter(name: str) -> Formatter | None:
    """What a format is on a terminal, where that differs: with colours.

    Args:
        name: as for ``get_formatter``, which accepts it.

    Returns:
        The formatter; ``None`` unless the format's module defines ``terminal_processors()``.
    """
    if "." in name:
        return None
    factory = getattr(import_module(f"{_PACKAGE}.{name}"), "terminal_processors", None)
    if factory is None:
        return None
    return _formatter_of(name, _made_by(name, factory), foreign=False)


def render_lines(formatter: Formatter, events: Iterable[AuditEvent]) -> bytes:
    """Format events as whole lines, each ended by a newline.

    Args:
        formatter: the sink's formatter.
        events: the events, in the order in which they are to be written.

    Returns:
        The lines in one piece; without those that a processor dropped, so possibly ``b""``.
    """
    lines = []
    for event in events:
        try:
            lines.append(formatter(event))
        except DropEvent:  # structlog's way to say: not this one
            continue
    lines.append(b"")
    return b"\n".join(lines)


def _module_factory(name: str) -> Callable[[], Sequence[Processor]]:
    known = available_formats()
    if name not in known:
        raise _error(f"There is no format {name!r}.", conf.nearest(name, known))
    try:
        module = import_module(f"{_PACKAGE}.{name}")
    except Exception as error:
        raise _error(
            f"The format {name!r} cannot be imported ({reason_of(error)}).",
            "Install what it needs, or choose another FORMAT.",
        ) from error
    return _checked_factory(name, getattr(module, "processors", None))


def _dotted_factory(name: str) -> Callable[[], Sequence[Processor]]:
    factory = load(
        name,
        f"The format {name!r} cannot be imported",
        advice=lambda: (
            nearest_path(name, callable)
            or "Write the dotted path of a function that returns structlog processors, or one of "
            f"{', '.join(map(repr, available_formats()))}."
        ),
        number=_NUMBER,
    )
    return _checked_factory(name, factory)


def _checked_factory(name: str, factory: Any) -> Callable[[], Sequence[Processor]]:
    if not callable(factory):
        raise _error(
            f"The format {name!r} is no function that returns a list of structlog processors.",
            "Define processors() in its module, or name such a function by its dotted path.",
        )
    return factory  # type: ignore[no-any-return]


def _made_by(name: str, factory: Callable[[], Any]) -> tuple[Processor, ...]:
    try:
        processors = factory()
    except Exception as error:
        raise _error(
            f"The format {name!r} raised {type(error).__name__} ({error}).",
            "Let it take nothing and return a list of structlog processors.",
        ) from error
    if (
        not isinstance(processors, (list, tuple))
        or not processors
        or not all(callable(processor) for processor in processors)
    ):
        raise _error(
            f"The format {name!r} returned {processors!r}.",
            "Return a list of structlog processors that ends in a renderer.",
        )
    return tuple(processors)


def _error(problem: str, hint: str) -> AuditConfigurationError:
    return AuditConfigurationError(problem, hint=hint, number=_NUMBER)


def _formatter_of(name: str, chain: tuple[Processor, ...], *, foreign: bool) -> Formatter:
    def formatter(event: AuditEvent) -> bytes:
        # Ours leave what is inside as it is; others may not, and other sinks have the same event.
        value: Any = event.own_dict() if foreign else event.to_dict()
        level = event.level
        for processor in chain:
            value = processor(None, level, value)
        return _one_line(name, value)

    return formatter


def _one_line(name: str, rendered: object) -> bytes:
    if isinstance(rendered, str):
        rendered = rendered.encode("utf-8", "backslashreplace")
    if not isinstance(rendered, bytes):
        raise _error(
            f"The format {name!r} rendered a {type(rendered).__name__}.",
            "Let its last processor return str or bytes, as structlog.processors.JSONRenderer "
            "does.",
        )
    if b"\n" in rendered:
        # A renderer that breaks lines must not be able to break the file's lines.
        rendered = rendered.removesuffix(b"\n").replace(b"\n", b"\\n")
    return rendered
