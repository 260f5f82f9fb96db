"""The spool: a local file that keeps the events of a sink that failed, until it takes them.

Its first line says how much of it was delivered; each further line is one event, in the
``json`` format. What is delivered stays until all is, then the file is emptied. A process that
is killed after a delivery and before it was noted delivers those events again, at
most one transaction's: at least once, and in order.
"""

from __future__ import annotations

import errno
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from django_signal_audit.formats.json import serialize
from django_signal_audit.sinks import state
from django_signal_audit.sinks._spool_file import (
    append,
    groups,
    held,
    lines,
    note,
    opened,
    settled_size,
)

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

MAX_GROUP: Final = 500
"""Events handed to a sink at a time; those of one transaction, if they are not more."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds for which a sink that failed is left alone: the first time, and at most."""

_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in a spool.

    Attributes:
        events: how many.
        damaged: how many lines are no event.
        first: the event that is next; ``None`` if none waits.
    """

    events: int
    damaged: int
    first: AuditEvent | None


@dataclass(frozen=True, slots=True)
class Drained:
    """What became of an attempt to empty a spool.

    Attributes:
        delivered: how many events.
        damaged: how many lines were left out, because they are no event.
        error: why it ended early; ``None`` if it did not, or just for want of time.
        refused: the events that the sink did not take; of one call, so of one transaction.
        is_busy: another process is at it; nothing was done.
    """

    delivered: int = 0
    damaged: int = 0
    error: BaseException | None = None
    refused: tuple[AuditEvent, ...] = ()
    is_busy: bool = False


@dataclass(slots=True)
class Pause:
    """When a sink that failed is tried again in this process.

    Attributes:
        seconds: how long the pause is that began last.
        until: when it ends, by ``time.monotonic()``.
    """

    seconds: float = 0.0
    until: float = 0.0

    def is_over(self) -> bool:
        """Whether the sink may be tried."""
        return time.monotonic() >= self.until

    def begin(self) -> None:
        """Begin one, twice as long as the last; not while one lasts, that another thread began."""
        if self.is_over():
            self.seconds = min(max(FIRST_PAUSE, self.seconds * 2), LONGEST_PAUSE)
            self.until = time.monotonic() + self.seconds

    def forget(self) -> None:
        """The sink works: the next pause is a first one."""
        self.seconds = self.until = 0.0


def find_spools(directory: Path) -> dict[str, Spool]:
    """The spools in a directory that hold something, by alias of the sink, configured or not.

    Args:
        directory: as ``STATE_DIR`` says.

    Raises:
        OSError: one cannot be reached.
    """
    found = {alias: Spool(directory, alias) for alias in state.aliases_of(directory, state.SPOOL)}
    return {alias: spool for alias, spool in found.items() if not spool.is_empty()}


class Spool:
    """The spool of one sink.

    Two locks: the file's own, for an instant, by who adds and who empties it; and one that is
    held while events are delivered, so that one process does it and nobody who adds waits.

    Args:
        directory: where the file is kept, as ``STATE_DIR`` says.
        alias: of the sink.
    """

    def __init__(self, directory: Path, alias: str) -> None:
        self.path: Final = state.file_of(directory, alias, state.SPOOL)
        self.skipped_path: Final = state.file_of(directory, alias, state.SKIPPED)
        self.pause: Final = Pause()
        self._lock_path: Final = state.file_of(directory, alias, state.LOCK)

    def is_empty(self) -> bool:
        """Whether nothing waits; one look at the file's size.

        Raises:
            OSError: the file cannot be reached.
        """
        try:
            return self.path.stat().st_size == 0
        except FileNotFoundError:
            return True

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Add events at the end, all or none, and force them to disk.

        Raises:
            OSError: they are not in the spool, or may not stay there when the power fails.
            RuntimeError: a signal handler of this very thread wants it, amid another addition.
        """
        append(self.path, b"".join(serialize(event.to_dict()) + b"\n" for event in events))

    def waiting(self) -> Waiting:
        """Count what waits, without changing anything.

        While a process delivers, the numbers are those of a moment, and damaged lines are not
        counted.

        Raises:
            OSError: the file cannot be read.
        """
        events, damaged, first = 0, 0, None
        if not self.is_empty():
            with (
                self._delivering(reading=True) as mine,
                opened(self.path, reading=True) as descriptor,
            ):
                for line in lines(descriptor, settled_size(descriptor, reading=True)):
                    first = first or line.event
                    events += line.event is not None
                    damaged += line.event is None and mine
        return Waiting(events, damaged, first)

    def drain(
        self,
        emit: Callable[[list[AuditEvent]], object],
        *,
        seconds: float | None = None,
        singly: bool = False,
    ) -> Drained:
        """Hand over what waits, in order, and stop at the first failure.

        Args:
            emit: called with events of one transaction; what it raises ends the attempt.
            seconds: when to stop, looked at after each call; ``None`` for never.
            singly: hand over one event at a time, to find the one that is refused.

        Returns:
            What became of it.

        Raises:
            OSError: the spool cannot be read, or written.
        """
        with self._delivering() as mine:
            if not mine:
                return Drained(is_busy=True)
            with opened(self.path) as descriptor:
                return self._drain(descriptor, emit, seconds, 1 if singly else MAX_GROUP)

    def skip(self, identifier: uuid.UUID) -> bool:
        """Take the event that is next out of the way, into a file beside the spool.

        Args:
            identifier: its id, so that no other is taken by mistake.

        Returns:
            Whether it was next.

        Raises:
            OSError: a file cannot be read or written.
        """
        with self._delivering(_PATIENCE) as mine, opened(self.path) as descriptor:
            if not mine:
                raise TimeoutError(errno.ETIMEDOUT, "another process is delivering", str(self.path))
            taken = b""
            for line in lines(descriptor, settled_size(descriptor)):
                taken += line.raw
                if line.event is None:
                    continue
                if line.event.id != identifier:
                    return False
                append(self.skipped_path, taken, headed=False)
                note(descriptor, line.end)
                settled_size(descriptor)
                return True
        return False

    def _drain(
        self,
        descriptor: int,
        emit: Callable[[list[AuditEvent]], object],
        seconds: float | None,
        most: int,
    ) -> Drained:
        until = None if seconds is None else time.monotonic() + seconds
        delivered = damaged = 0
        while size := settled_size(descriptor):
            for group in groups(lines(descriptor, size), most):
                events = [line.event for line in group if line.event is not None]
                if events:
                    try:
                        emit(events)
                    except BaseException as error:  # noqa: BLE001 - whatever a sink raises; the caller decides
                        return Drained(delivered, damaged, error, tuple(events))
                else:
                    # Never thrown away: somebody may read what is left of it.
                    append(self.skipped_path, b"".join(line.raw for line in group), headed=False)
                    damaged += len(group)
                note(descriptor, group[-1].end)
                delivered += len(events)
                if until is not None and time.monotonic() >= until:
                    settled_size(descriptor)
                    return Drained(delivered, damaged)
        return Drained(delivered, damaged)

    @contextmanager
    def _delivering(self, seconds: float = 0, *, reading: bool = False) -> Iterator[bool]:
        """Hold the lock of whoever delivers; whether it could be had."""
        if reading and not self._lock_path.exists():  # nobody ever has
            yield True
            return
        with (
            opened(self._lock_path, reading=reading) as descriptor,
            held(descriptor, seconds) as mine,
        ):
            yield mine
