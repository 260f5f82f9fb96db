"""What one transaction has said so far: its events, in order, in bounded memory.

The buffer knows nothing of databases. It remembers which events were INSERTed by which
flush, so that a rolled-back savepoint can undo exactly what the database undid.
"""

from __future__ import annotations

import itertools
import os
import pickle
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks.counters import Outcome
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
        folds: it is a save, which may become one event with others of its object.
        position: its place in the transaction.
        flush: number of the flush that INSERTed it, ``UNWRITTEN`` before.
    """

    event: AuditEvent
    key: RouteKey
    survives: bool
    keep: bool
    folds: bool = False
    position: int = 0
    flush: int = UNWRITTEN


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the buffer stood when a savepoint was set."""

    savepoint: str
    position: int
    flush: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Entries that were moved to the temporary file; a changed chunk is written anew."""

    file: IO[bytes]
    offset: int
    last: int
    newest_flush: int
    has_unwritten: bool


@dataclass(slots=True)
class TransactionBuffer:
    """The events of one open transaction.

    Args:
        limit: entries held in memory before ``is_full``; may be set until the first one.
    """

    limit: int = 1
    _entries: list[Entry] = field(default_factory=list)
    _chunks: list[_Chunk] = field(default_factory=list)
    _file: IO[bytes] | None = None
    _marks: list[_Mark] = field(default_factory=list)
    _next: int = 1
    _flushes: int = 0
    _folding: int = 0
    _spilled: bool = False
    _tally: list[tuple[int, dict[str, Counter[Outcome]]]] = field(default_factory=list)

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
        self._folding += entry.folds
        self._entries.append(entry)

    @property
    def may_fold(self) -> bool:
        """Whether there are saves that ``fold`` may make one event of."""
        return self._folding > 1

    def fold(self, fold: Callable[[Iterable[Entry]], list[Entry]]) -> None:
        """Let a function make fewer entries of those in memory.

        Args:
            fold: called with entries that will share their fate, because no savepoint that is still
                open was set between them; returns what is left, in order.
        """
        marks = sorted(mark.position for mark in self._marks)
        parts = itertools.groupby(self._entries, lambda e: bisect_right(marks, e.position))
        self._entries = [entry for _, part in parts for entry in fold(part)]

    # Savepoints

    def mark(self, savepoint: str) -> None:
        """Remember where the buffer stands as a savepoint is set."""
        self._marks.append(_Mark(savepoint, self._next, self._flushes))

    def release(self, savepoint: str) -> None:
        """Forget a released savepoint; its events now belong to the enclosing one."""
        index = self._index_of(savepoint)
        if index is not None:
            # The database releases the savepoints that were set after it, too.
            del self._marks[index:]

    def roll_back_to(self, savepoint: str, *, discard: bool = False) -> None:
        """Undo what the database undid.

        Events since the savepoint are dropped, custom ones marked; older ones that were
        INSERTed since are unwritten again.

        Args:
            savepoint: one that was set before the first event is unknown here and undoes all.
            discard: drop custom events too.
        """
        index = self._index_of(savepoint)
        if index is None:
            mark = _Mark(savepoint, 1, UNWRITTEN)
            self._marks.clear()
        else:
            mark = self._marks[index]
            del self._marks[index + 1 :]
        self._chunks = [c for chunk in self._chunks if (c := self._undone(chunk, mark, discard))]
        self._entries = _undo(self._entries, mark, discard)
        self._folding = sum(entry.folds for entry in self._entries if entry.flush == UNWRITTEN)
        self._tally = [one for one in self._tally if one[0] <= mark.flush]

    def _index_of(self, savepoint: str) -> int | None:
        """A name that is used twice means the savepoint that was set last, as in SQL."""
        for index in range(len(self._marks) - 1, -1, -1):
            if self._marks[index].savepoint == savepoint:
                return index
        return None

    def _undone(self, chunk: _Chunk, mark: _Mark, discard: bool) -> _Chunk | None:
        if chunk.last < mark.position and chunk.newest_flush <= mark.flush:
            return chunk
        entries = _undo(_read(chunk), mark, discard)
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
                entries = _read(chunk)
                _write(entries, write, number)
                self._chunks[index] = self._store(entries)
        _write(self._entries, write, number)
        self._flushes = number
        self._folding = 0

    def tally(self, alias: str, numbers: Mapping[Outcome, int]) -> None:
        """Remember what to count of a sink once the transaction is committed.

        It is called while ``flush`` writes; a rollback to a savepoint before that forgets it.

        Args:
            alias: of the sink.
            numbers: what to count.
        """
        number = self._flushes + 1
        if not self._tally or self._tally[-1][0] != number:
            self._join_tallies()
            self._tally.append((number, {}))
        self._tally[-1][1].setdefault(alias, Counter()).update(numbers)

    def _join_tallies(self) -> None:
        """Join the last two, unless a savepoint that is still open may part them again."""
        if len(self._tally) < 2:  # noqa: PLR2004 - two
            return
        (older, counts), (newer, more) = self._tally[-2:]
        if any(older <= mark.flush < newer for mark in self._marks):
            return
        for alias, numbers in more.items():
            counts.setdefault(alias, Counter()).update(numbers)
        del self._tally[-1]

    @property
    def tallied(self) -> list[tuple[str, Mapping[Outcome, int]]]:
        """What to count, by alias of the sink."""
        return [item for _, counts in self._tally for item in counts.items()]

    def spill(self) -> None:
        """Move flushed entries out of memory.

        An entry is forgotten if the database alone can carry its fate from here: no sink
        wants it after COMMIT, a rollback drops it, and no savepoint that is still open was
        set between it and its INSERT. All others go to a temporary file.
        """
        marks = {(mark.position, mark.flush) for mark in self._marks}
        kept = [
            entry
            for entry in self._entries
            if entry.keep
            or entry.survives
            or any(position > entry.position and flush < entry.flush for position, flush in marks)
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
            file=self._file,
            offset=offset,
            last=entries[-1].position,
            newest_flush=max(entry.flush for entry in entries),
            has_unwritten=any(entry.flush == UNWRITTEN for entry in entries),
        )

    # The end of the transaction

    def batches(self) -> Iterator[list[Entry]]:
        """All remembered entries in order, at most about ``limit`` at a time."""
        for chunk in self._chunks:
            yield _read(chunk)
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

    def abandon(self) -> None:
        """Forget everything in a forked child: it is the parent's, whose temporary file this is."""
        if self._file is not None:
            # Closing a file that was read from moves its position, which the parent shares.
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nothing, self._file.fileno(), inheritable=False)
            os.close(nothing)
        self.clear()


def _read(chunk: _Chunk) -> list[Entry]:
    chunk.file.seek(chunk.offset)
    entries: list[Entry] = pickle.load(chunk.file)  # noqa: S301 - our own, unlinked file
    return entries


def _undo(entries: list[Entry], mark: _Mark, discard: bool) -> list[Entry]:
    """What is left of some entries after the database rolled back to a savepoint."""
    left = []
    for entry in entries:
        if entry.flush > mark.flush:
            entry.flush = UNWRITTEN
        if entry.position >= mark.position:
            if discard or not entry.survives:
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
