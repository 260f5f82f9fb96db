"""What an export is, and which there are."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

_PACKAGE: Final = "django_signal_audit.exports"


@dataclass
class BaseExporter(ABC):
    """Turns events, one after the other, into the bytes of one file; made anew for each file.

    A subclass is a dataclass. Fields made with ``option`` are its options.

    Attributes:
        title: what people call the format.
        suffixes: how the names of such files end.
    """

    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def head(self) -> bytes:
        """What stands before the first event; nothing unless overridden."""
        return b""

    @abstractmethod
    def rows(self, event: AuditEvent) -> bytes:
        """One event, as whole lines.

        Raises:
            LookupError, TypeError, ValueError: it cannot be written in this format.
        """

    def warnings(self) -> list[str]:
        """What whoever opens the file should know, once all events are written."""
        return []


def option(text: str) -> Any:
    """A field of an exporter that is an option, off unless asked for.

    Args:
        text: what it does, for ``--help``.
    """
    return field(default=False, metadata={"help": text})


def options_of(exporter: type[BaseExporter]) -> dict[str, str]:
    """The options of an exporter: name to help text."""
    return {one.name: one.metadata["help"] for one in fields(exporter) if "help" in one.metadata}


def exporters() -> dict[str, type[BaseExporter]]:
    """The exports of this package: its public modules, ``base`` apart.

    Returns:
        Name to class, sorted by name.
    """
    path = import_module(_PACKAGE).__path__
    names = sorted(module.name for module in pkgutil.iter_modules(path))
    return {
        name: import_module(f"{_PACKAGE}.{name}").Exporter
        for name in names
        if name != "base" and not name.startswith("_")
    }
