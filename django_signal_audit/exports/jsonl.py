"""``jsonl``: one JSON object a line, the same bytes as the ``json`` format of a sink writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django_signal_audit.exports.base import BaseExporter
from django_signal_audit.formats import get_formatter

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

_format: Final = get_formatter("json")


@dataclass
class Exporter(BaseExporter):
    """JSON Lines, in the published shape of an event."""

    title = "JSON Lines"
    suffixes = (".jsonl", ".ndjson", ".json")

    def rows(self, event: AuditEvent) -> bytes:
        """One line.

        Raises:
            TypeError: a value is none that JSON can hold.
        """
        return _format(event) + b"\n"
