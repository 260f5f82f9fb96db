"""``csv``: flat rows for a spreadsheet, with columns that never depend on the data.

How a value stands in a cell, and why nothing in it is run, is told in ``_cells.py``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django_signal_audit.event import EVENT_FIELDS
from django_signal_audit.exports._cells import read_text, write_cell, write_value
from django_signal_audit.exports.base import BaseExporter, option

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

__all__ = ["CHANGE_COLUMNS", "COLUMNS", "Exporter", "read_text"]

_PARTS: Final = {
    "actor": ("type", "id", "label"),
    "on_behalf_of": ("type", "id", "label"),
    "error": ("type", "message"),
}

COLUMNS: Final = tuple(
    column
    for name in EVENT_FIELDS
    for column in ([f"{name}_{part}" for part in _PARTS[name]] if name in _PARTS else [name])
)
"""The fields of an event in their order; those made of parts as one column a part."""

CHANGE_COLUMNS: Final = ("field", "old", "new")
"""What ``per_field`` adds at the end."""

# The most that Excel and LibreOffice Calc take; characters are counted as UTF-16 does.
_MOST_ROWS: Final = 1_048_576
_MOST_CHARACTERS: Final = 32_767


class _Echo:
    """A file for ``csv.writer``, whose ``writerow`` returns what ``write`` does."""

    def write(self, line: str) -> str:
        return line


_writer: Final = csv.writer(_Echo(), lineterminator="\r\n")


@dataclass
class Exporter(BaseExporter):
    """CSV as RFC 4180 has it, in UTF-8: one row an event, or one row a changed field.

    Attributes:
        per_field: one row for each changed field, and one for an event without any.
        bom: begin with a byte order mark.
    """

    title = "CSV"
    suffixes = (".csv",)

    per_field: bool = option("one row for each changed field, with columns field, old and new")
    bom: bool = option("begin with a byte order mark, by which Excel knows UTF-8")
    _rows: int = field(default=1, init=False, repr=False)
    _overlong: int = field(default=0, init=False, repr=False)

    def head(self) -> bytes:
        """The names of the columns."""
        names = COLUMNS + CHANGE_COLUMNS if self.per_field else COLUMNS
        return (b"\xef\xbb\xbf" if self.bom else b"") + _line(names)

    def rows(self, event: AuditEvent) -> bytes:
        """One row, or one for each changed field.

        Raises:
            LookupError, TypeError, ValueError: the event has not the published shape.
        """
        lines = []
        for values in self._values(event):
            cells = [*values]
            line = _line(cells)
            lines.append(line)
            self._rows += 1
            # No text has more characters than bytes; most rows are not worth a closer look.
            if len(line) > _MOST_CHARACTERS:
                self._overlong += any(map(_is_overlong, cells))
        return b"".join(lines)

    def warnings(self) -> list[str]:
        """What does not fit into a spreadsheet."""
        found = []
        if self._rows > _MOST_ROWS:
            found.append(
                f"the file has {self._rows:,} rows. Excel and LibreOffice show the first "
                f"{_MOST_ROWS:,}; export shorter spans of time with --since and --until."
            )
        if self._overlong:
            rows = (
                "1 row has a cell" if self._overlong == 1 else f"{self._overlong:,} rows have cells"
            )
            found.append(
                f"{rows} of more than {_MOST_CHARACTERS:,} characters, which Excel cuts. The file "
                "holds the whole; read it with another program."
            )
        return found

    def _values(self, event: AuditEvent) -> Iterator[Iterable[str]]:
        cells = {column: write_cell(value) for column, value in _flat(event)}
        if not self.per_field:
            yield cells.values()
            return
        if not event.changes:
            yield (*cells.values(), "", "", "")
            return
        for name, change in event.changes.items():
            cells["changes"] = write_cell({name: change})
            old, new = _sides(change)
            yield (*cells.values(), write_cell(name), write_value(old), write_value(new))


def _flat(event: AuditEvent) -> Iterator[tuple[str, Any]]:
    """The columns of an event, in the order of ``COLUMNS``."""
    for name, value in event.to_dict().items():
        if name not in _PARTS:
            yield name, value
            continue
        for part in _PARTS[name]:
            yield f"{name}_{part}", value and value[part]


def _sides(change: Any) -> tuple[Any, Any]:
    """Old and new; of a many-to-many field, what was removed and what was added."""
    if isinstance(change, dict):
        return change["removed"], change["added"]
    old, new = change
    return old, new


def _line(cells: Iterable[str]) -> bytes:
    line: str = _writer.writerow(cells)
    return line.encode()


def _is_overlong(cell: str) -> bool:
    return len(cell.encode("utf-16-le")) // 2 > _MOST_CHARACTERS
