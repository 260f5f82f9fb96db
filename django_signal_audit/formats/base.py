"""From the name of a format to the function that makes one line of an event."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from django.utils.module_loading import import_string
from structlog import DropEvent

from django_signal_audit.event import AuditEvent
from django_signal_audit.exceptions import AuditConfigurationError

if TYPE_CHECKING:
    from structlog.typing import Processor

Formatter: TypeAlias = Callable[[AuditEvent], bytes]
"""Turns an event into one line: UTF-8, without the newline at its end and with none inside."""

_PACKAGE = "django_signal_audit.formats"


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
    event_dict)``, beginning with ``event.to_dict()``. A ``structlog.DropEvent`` that one of
    them raises reaches the caller of the formatter: see ``render_lines``.

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
    factory = _dotted_factory(name) if "." in name else _module_factory(name)
    return _make_formatter(name, factory())


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
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise AuditConfigurationError(
            f"There is no format {name!r}.{hint} The formats are {', '.join(known)}; for one of "
            f"your own, write the dotted path of a function that returns structlog processors."
        )
    try:
        module = import_module(f"{_PACKAGE}.{name}")
    except ImportError as error:
        raise AuditConfigurationError(
            f"The format {name!r} cannot be imported: {error}. Install what it needs, or choose "
            f"another FORMAT."
        ) from error
    return _checked_factory(name, getattr(module, "processors", None))


def _dotted_factory(name: str) -> Callable[[], Sequence[Processor]]:
    try:
        factory = import_string(name)
    except ImportError as error:
        raise AuditConfigurationError(
            f"The format {name!r} cannot be imported: {error}. Write the dotted path of a function "
            f"that returns structlog processors, or one of {', '.join(available_formats())}."
        ) from error
    return _checked_factory(name, factory)


def _checked_factory(name: str, factory: Any) -> Callable[[], Sequence[Processor]]:
    if not callable(factory):
        raise AuditConfigurationError(
            f"The format {name!r} has no function processors() that returns a list of structlog "
            f"processors. Define one, or name such a function by its dotted path."
        )
    return factory  # type: ignore[no-any-return]


def _make_formatter(name: str, processors: Any) -> Formatter:
    if (
        not isinstance(processors, (list, tuple))
        or not processors
        or not all(callable(processor) for processor in processors)
    ):
        raise AuditConfigurationError(
            f"The format {name!r} returned {processors!r}. Return a list of structlog processors "
            f"that ends in a renderer."
        )
    chain = tuple(processors)

    def formatter(event: AuditEvent) -> bytes:
        value: Any = event.to_dict()
        level = event.level
        for processor in chain:
            value = processor(None, level, value)
        return _one_line(name, value)

    return formatter


def _one_line(name: str, rendered: object) -> bytes:
    if isinstance(rendered, str):
        rendered = rendered.encode("utf-8", "backslashreplace")
    if not isinstance(rendered, bytes):
        raise AuditConfigurationError(
            f"The format {name!r} rendered a {type(rendered).__name__}. Let its last processor "
            f"return str or bytes, as structlog.processors.JSONRenderer does."
        )
    if b"\n" in rendered:
        # A renderer that breaks lines must not be able to break the file's lines.
        rendered = rendered.removesuffix(b"\n").replace(b"\n", b"\\n")
    return rendered
