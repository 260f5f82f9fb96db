"""What one transaction has said so far: its events, in order, in bounded memory.

The buffer knows nothing of databases. It remembers which events were INSERTed by which
flush, so that a rolled-back savepoint can undo exactly what the database undid.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks.routing import RouteKey

UNWRITTEN: Final = 0


@dataclass(slots=True)
class Entry:
    """An event that waits for its transaction's fate.

    Attributes:
        event: what happened.
        key: tells which sinks it goes to.
        survives: true for custom events, which a rollback marks instead of dropping.
        keep: whether it is needed after COMMIT, so that an early flush must not forget it.
        position: its place in the transaction.
        flush: number of the flush that INSERTed it, ``UNWRITTEN`` before.
    """

    event: AuditEvent
    key: RouteKey
    survives: bool
    keep: bool
    position: int = 0
    flush: int = UNWRITTEN


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the buffer stood when a savepoint was set."""

    position: int
    flush: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Entries that were moved to the temporary file; a changed chunk is written anew."""

    offset: int
    last: int
    newest_flush: int
    has_unwritten: bool


@dataclass(slots=True)
class TransactionBuffer:
    """The events of one open transaction.

    Args:
        limit: entries held in memory before ``is_full``.
    """

    limit: int
    _entries: list[Entry] = field(default_factory=list)
    _chunks: list[_Chunk] = field(default_factory=list)
    _file: IO[bytes] | None = None
    _marks: dict[str, _Mark] = field(default_factory=dict)
    _next: int = 1
    _flushes: int = 0
    _spilled: bool = False

    def __bool__(self) -> bool:
        return bool(self._entries or self._chunks)

    @property
    def is_full(self) -> bool:
        """Whether it is time to flush early and ``spill``."""
        return len(self._entries) >= self.limit

    @property
    def has_spilled(self) -> bool:
        """Whether this transaction was ever too large for memory."""
        return self._spilled

    def append(self, entry: Entry) -> None:
        """Add an event at the end."""
        entry.position = self._next
        self._next += 1
        self._entries.append(entry)

    # Savepoints

    def mark(self, savepoint: str) -> None:
        """Remember where the buffer stands as a savepoint is set."""
        self._marks[savepoint] = _Mark(self._next, self._flushes)

    def release(self, savepoint: str) -> None:
        """Forget a released savepoint; its events now belong to the enclosing one."""
        self._marks.pop(savepoint, None)

    def roll_back_to(self, savepoint: str) -> None:
        """Undo what the database undid.

        Events since the savepoint are dropped, custom ones marked; older ones that were
        INSERTed since are unwritten again. A savepoint that was set before the first event
        of the transaction is unknown here and undoes all.
        """
        mark = self._marks.get(savepoint, _Mark(1, UNWRITTEN))
        self._drop_later_marks(mark)
        self._chunks = [c for chunk in self._chunks if (c := self._undone(chunk, mark))]
        self._entries = _undo(self._entries, mark)

    def _drop_later_marks(self, mark: _Mark) -> None:
        """The database destroys savepoints that were set after the one rolled back to."""
        self._marks = {
            name: other
            for name, other in self._marks.items()
            if other.position <= mark.position and other.flush <= mark.flush
        }

    def _undone(self, chunk: _Chunk, mark: _Mark) -> _Chunk | None:
        if chunk.last < mark.position and chunk.newest_flush <= mark.flush:
            return chunk
        entries = _undo(self._read(chunk), mark)
        return self._store(entries) if entries else None

    # Flushing

    def flush(self, write: Callable[[list[Entry]], None]) -> None:
        """Hand every unwritten entry to ``write``, in order, and remember that it was written.

        Args:
            write: called with at most about ``limit`` entries at a time. If it raises,
                nothing since the last successful call is remembered as written.
        """
        number = self._flushes + 1
        for index, chunk in enumerate(self._chunks):
            if chunk.has_unwritten:
                entries = self._read(chunk)
                _write(entries, write, number)
                self._chunks[index] = self._store(entries)
        _write(self._entries, write, number)
        self._flushes = number

    def spill(self) -> None:
        """Move flushed entries out of memory.

        An entry is forgotten if the database alone can carry its fate from here: no sink
        wants it after COMMIT, a rollback drops it, and no savepoint that is still open was
        set between it and its INSERT. All others go to a temporary file.
        """
        marks = set(self._marks.values())
        kept = [
            entry
            for entry in self._entries
            if entry.keep
            or entry.survives
            or any(m.position > entry.position and m.flush < entry.flush for m in marks)
        ]
        if kept:
            self._chunks.append(self._store(kept))
        self._entries = []
        self._spilled = True

    def _store(self, entries: list[Entry]) -> _Chunk:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="signal-audit-")  # noqa: SIM115 - closed by clear()
        offset = self._file.seek(0, 2)
        pickle.dump(entries, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        return _Chunk(
            offset=offset,
            last=entries[-1].position,
            newest_flush=max(entry.flush for entry in entries),
            has_unwritten=any(entry.flush == UNWRITTEN for entry in entries),
        )

    def _read(self, chunk: _Chunk) -> list[Entry]:
        if self._file is None:
            raise RuntimeError("a spilled chunk has no file")
        self._file.seek(chunk.offset)
        entries: list[Entry] = pickle.load(self._file)  # noqa: S301 - our own, unlinked file
        return entries

    # The end of the transaction

    def batches(self) -> Iterator[list[Entry]]:
        """All remembered entries in order, at most about ``limit`` at a time."""
        for chunk in self._chunks:
            yield self._read(chunk)
        if self._entries:
            yield self._entries

    def survivors(self) -> Iterator[list[Entry]]:
        """The custom events, marked as rolled back."""
        for batch in self.batches():
            kept = [entry for entry in batch if entry.survives]
            for entry in kept:
                entry.event = entry.event.as_rolled_back()
            if kept:
                yield kept

    def clear(self) -> None:
        """Forget everything; the transaction has ended."""
        if self._file is not None:
            self._file.close()


def _undo(entries: list[Entry], mark: _Mark) -> list[Entry]:
    """What is left of some entries after the database rolled back to a savepoint."""
    left = []
    for entry in entries:
        if entry.flush > mark.flush:
            entry.flush = UNWRITTEN
        if entry.position >= mark.position:
            if not entry.survives:
                continue
            entry.event = entry.event.as_rolled_back()
        left.append(entry)
    return left


def _write(entries: list[Entry], write: Callable[[list[Entry]], None], number: int) -> None:
    unwritten = [entry for entry in entries if entry.flush == UNWRITTEN]
    if unwritten:
        write(unwritten)
        for entry in unwritten:
            entry.flush = number
