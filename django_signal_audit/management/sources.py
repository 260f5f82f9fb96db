"""Where a command finds the trail: in databases, or in the files of sinks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.management.base import CommandError
from django.db import DatabaseError

from django_signal_audit import reader
from django_signal_audit.exceptions import AuditError

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent
    from django_signal_audit.management.selection import Selection
    from django_signal_audit.trail_filter import TrailFilter


class Source:
    """The events of a selection, oldest first; it can be read once.

    Args:
        selection: which events, and of which databases.
        note: called with what the user should know, such as which file is read.
        files: to read instead of what the settings name, and no others.

    Raises:
        CommandError: there is no trail, or it cannot be read.
    """

    def __init__(
        self,
        selection: Selection,
        note: Callable[[str], None],
        files: Sequence[Path] = (),
    ) -> None:
        self._note = note
        with _explained():
            self._trail = self._read_files(selection, files) if files else self._find(selection)

    def __iter__(self) -> Iterator[AuditEvent]:
        """Read the trail.

        Raises:
            CommandError: it cannot be read.
        """
        with _explained():
            yield from self._trail

    def warn_of_damage(self) -> None:
        """Say which lines of files were left out while reading."""
        if not isinstance(self._trail, reader.FileTrail):
            return
        for path, count in self._trail.damaged.items():
            if count:
                lines = "1 line" if count == 1 else f"{count} lines"
                self._note(f"Warning: {lines} of {path} could not be read and were left out.")

    def _read_files(self, selection: Selection, files: Sequence[Path]) -> reader.FileTrail:
        if selection.databases:
            raise CommandError(
                "--file and --database exclude each other: an export is of files or of databases."
            )
        for path in files:
            if not path.exists():
                raise CommandError(f"--file {path} does not exist. Write the path of a file.")
            if path.is_dir():
                raise CommandError(
                    f"--file {path} is a directory. Write the path of a file in it, and --file "
                    "again for each further one."
                )
            if not os.access(path, os.R_OK):
                raise CommandError(
                    f"--file {path} cannot be read by this user. Permit it, or run as one who may."
                )
        return reader.FileTrail(files, selection.trail_filter)

    def _find(self, selection: Selection) -> Iterable[AuditEvent]:
        databases = selection.databases
        if not databases and not reader.has_database_sink():
            return self._find_files(selection.trail_filter)
        for alias in databases:
            if not reader.has_trail(alias):
                raise CommandError(
                    f"Database {alias!r} has no audit table. Make it with: manage.py migrate "
                    f"django_signal_audit --database {alias}"
                )
        databases = databases or reader.trail_databases()
        if not databases:
            raise CommandError(
                "No database has the audit table. Make it with: manage.py migrate "
                "django_signal_audit"
            )
        return reader.read_databases(databases, selection.trail_filter)

    def _find_files(self, trail_filter: TrailFilter) -> reader.FileTrail:
        files = reader.trail_files()
        if not files:
            raise CommandError(
                "No sink keeps a trail that can be read back. In SIGNAL_AUDIT['SINKS'], configure "
                "django_signal_audit.sinks.DatabaseSink, or django_signal_audit.sinks.FileSink in "
                "the format json; or name a database that holds a trail with --database."
            )
        found = []
        for alias, path in files.items():
            rotated = len(reader.list_rotated(path))
            if path.exists() or rotated:
                found.append(path)
                more = f" and {rotated} rotated away from it" if rotated else ""
                self._note(
                    f"No database sink is configured: reading {path}{more} (sink {alias!r})."
                )
            else:
                self._note(f"{path} (sink {alias!r}) does not exist: nothing was written to it.")
        return reader.FileTrail(found, trail_filter, rotated=True)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what goes wrong while reading into an error without a traceback."""
    try:
        yield
    except (AuditError, DatabaseError, OSError) as error:
        raise CommandError(f"The trail cannot be read: {str(error).strip()}") from error
