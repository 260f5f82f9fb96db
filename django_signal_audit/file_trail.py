"""Reads a trail back from files of JSON lines, in constant memory, compressed ones too."""

from __future__ import annotations

import os
import sqlite3
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import orjson

from django_signal_audit.event_shape import event_from_dict
from django_signal_audit.sinks._compression import SUFFIXES, damage_errors, open_compressed
from django_signal_audit.sinks._rotation import rotated_files
from django_signal_audit.trail_filter import TrailFilter

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

# The values of an event are bounded by VALUE_LIMIT; a "line" beyond this is damage, such as the
# zeros that a file system leaves after a power cut.
MAX_LINE: Final = 64 * 1024 * 1024


class FileTrail:
    """The events that files of JSON lines hold, in the order of the lines, each event once.

    Lines that are no event - torn by a killed process, or of another format - are left out and
    counted, and so is what follows in a compressed file that is damaged. What is
    appended while a file is read is left to the next reading.

    Args:
        paths: the files; read one after the other. What ends in ``.gz`` or ``.zst`` is compressed.
        trail_filter: which events; all of them if left out.
        rotated: whether the files that a file sink has rotated away from these paths are
            read before each; a path itself need not exist then. None is missed where the sink
            rotates, compresses or deletes meanwhile, except those that it has deleted.

    Attributes:
        paths: the files.
        damaged: how many lines of each file the last reading left out.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        trail_filter: TrailFilter | None = None,
        *,
        rotated: bool = False,
    ) -> None:
        self.paths: Final = tuple(dict.fromkeys(paths))
        self.damaged: dict[Path, int] = dict.fromkeys(self.paths, 0)
        self._filter = trail_filter or TrailFilter()
        self._rotated = rotated

    def __iter__(self) -> Iterator[AuditEvent]:
        """Read the files.

        Raises:
            OSError: a file cannot be read.
            AuditConfigurationError: a file is compressed by what is not installed.
        """
        self.damaged = dict.fromkeys(self.paths, 0)
        with closing(_SeenIds()) as seen:
            for path in self.paths:
                for event in self._read_with_rotated(path) if self._rotated else self._read(path):
                    if self._filter.matches(event) and seen.add(event.id):
                        yield event

    def _read_with_rotated(self, path: Path) -> Iterator[AuditEvent]:
        # The current file is opened first: whatever is renamed from now on is either open or still
        # to be listed.
        try:
            current = path.open("rb")
        except FileNotFoundError:  # a program that rotates has not made the next one yet
            for stem in list_rotated(path):
                yield from self._read_rotated(stem)
            return
        with current:
            yield from self._read_around(path, current)

    def _read_around(self, path: Path, current: BinaryIO) -> Iterator[AuditEvent]:
        """Read the open file at its place: last, unless it was rotated away meanwhile."""
        status = os.fstat(current.fileno())
        is_read = False
        for stem in list_rotated(path):
            if _names(stem, status):
                is_read = True
                yield from self._events(path, current, _end_of(current))
            else:
                yield from self._read_rotated(stem)
        if not is_read:
            yield from self._events(path, current, _end_of(current))

    def _read_rotated(self, stem: Path) -> Iterator[AuditEvent]:
        names = [stem, *(stem.with_name(stem.name + suffix) for suffix in SUFFIXES.values())]
        for name in names:
            try:
                yield from self._read(name)
                break
            except FileNotFoundError:  # compressed meanwhile; or deleted, as the oldest
                continue

    def _read(self, path: Path) -> Iterator[AuditEvent]:
        file = open_compressed(path)
        if file is None:
            with path.open("rb") as plain:
                yield from self._events(path, plain, _end_of(plain))
            return
        self.damaged.setdefault(path, 0)
        with file:
            try:
                if not path.stat().st_size:  # even of nothing there would be a frame
                    raise EOFError
                yield from self._events(path, file, None)
            except damage_errors(path):
                self.damaged[path] += 1

    def _events(self, path: Path, file: BinaryIO, end: int | None) -> Iterator[AuditEvent]:
        self.damaged.setdefault(path, 0)
        for line in _lines(file, end):
            try:
                event = event_from_dict(orjson.loads(line))
            except ValueError:
                self.damaged[path] += 1
                continue
            yield event


def list_rotated(path: Path) -> list[Path]:
    """The rotated files of a path, oldest first, under the names they have uncompressed.

    Args:
        path: of the current file.

    Raises:
        OSError: the directory cannot be read.
    """
    # A name that changes while a directory is listed may be missed under both. Each changes once,
    # so the second listing has what the first one missed.
    try:
        return sorted(rotated_files(path) | rotated_files(path))
    except FileNotFoundError:  # the directory is still to be made
        return []


class _SeenIds:
    """A set of ids that grows on disk: SQLite moves a nameless database there as needed."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, identifier: uuid.UUID) -> bool:
        """Add an id; whether it is new."""
        statement = "INSERT OR IGNORE INTO seen VALUES (?)"
        return self._connection.execute(statement, (identifier.bytes,)).rowcount == 1

    def close(self) -> None:
        """Remove what is on disk."""
        self._connection.close()


def _names(path: Path, status: os.stat_result) -> bool:
    """Whether a path names the file that has this status."""
    try:
        return os.path.samestat(path.stat(), status)
    except FileNotFoundError:
        return False


def _end_of(file: BinaryIO) -> int | None:
    """Where a file ends now; a pipe ends when it says so."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _lines(file: BinaryIO, end: int | None) -> Iterator[bytes]:
    """The lines, up to a position; an overlong one is cut, and so damaged."""
    position = 0
    while end is None or position < end:
        line = file.readline(MAX_LINE)
        if not line:  # or someone has cut the file meanwhile
            return
        position += len(line)
        if not line.isspace():
            yield line
        while len(line) == MAX_LINE and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)
            position += len(line)
