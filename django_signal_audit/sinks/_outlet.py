"""Writes to an output stream that other processes share, and whose reader may keep it waiting.

Nothing here changes what is shared with them, such as the descriptor's ``O_NONBLOCK``.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import time
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

_FLAGS: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FLOCK: Final = "hhqqi"  # struct flock: type, whence, start, length, process
_LOCK_PAUSE: Final = 0.002

# Which byte of the stream is locked says what for. Nothing is read or written at these places;
# locks are what the writers of a pipe can tell each other by.
_WRITING: Final = 0
_FIRST_MARK: Final = 1  # plus the process's id


class _Handle:
    """A descriptor to lock.

    Where the stream can be opened once more, through ``/proc``, it is a descriptor of our own:
    it alone does not block, and its locks, unlike POSIX locks, are not lost as soon as the process
    closes any other descriptor of the same pipe. A socket, or the pipe of another user, cannot;
    there it is the shared one, with POSIX locks, which do exclude the locks of the other kind.
    """

    def __init__(self, shared: int) -> None:
        self.is_own = True
        try:
            self.descriptor = os.open(f"/proc/self/fd/{shared}", _FLAGS)
        except OSError:
            self.is_own = False
            self.descriptor = shared
        _handles.add(self)

    def lock(self, start: int) -> bool:
        """Whether the lock was got, or the system has no such locks."""
        try:
            self._control("SETLK", fcntl.F_WRLCK, start)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as POSIX has it
            return False
        except OSError:  # a line that may be mixed with another is better than one that is lost
            return True
        return True

    def is_locked_by_another(self, start: int) -> bool:
        """Whether anybody else holds a lock from there on."""
        try:
            return self._control("GETLK", fcntl.F_WRLCK, start, length=0) != fcntl.F_UNLCK
        except OSError:
            return False

    def close(self, *locked: int) -> None:
        """Unlock, and close what is our own.

        A child that was forked in between may have the descriptor, and keep its locks.
        """
        for start in locked:
            try:
                self._control("SETLK", fcntl.F_UNLCK, start)
            except OSError:  # the shared one is closed, which has unlocked it
                continue
        self.forget()

    def forget(self) -> None:
        """Close what is our own."""
        _handles.discard(self)
        if self.is_own:
            os.close(self.descriptor)

    def _control(self, name: str, kind: int, start: int, length: int = 1) -> int:
        command: int = getattr(fcntl, f"F_OFD_{name}" if self.is_own else f"F_{name}")
        request = struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)
        answer: int = struct.unpack(_FLOCK, fcntl.fcntl(self.descriptor, command, request))[0]
        return answer


_handles: set[_Handle] = set()


def forget_inherited() -> None:
    """In a forked child: close the descriptors that are its parent's."""
    for handle in list(_handles):
        handle.forget()


class Outlet:
    """The stream behind a descriptor, for the time of one block.

    Args:
        descriptor: of the stream.

    Attributes:
        identity: tells this stream from others.
        written: how many bytes of the block were written.

    Raises:
        OSError: it is closed.
    """

    def __init__(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.identity: Final = (found.st_dev, found.st_ino)
        self.written = 0
        self._handle = _Handle(descriptor)
        self._piece: int | None = None
        if stat.S_ISREG(found.st_mode):
            # It never waits, and the place that its writers have reached is in what they share.
            self._target = descriptor
        else:
            self._target = self._handle.descriptor
            if not self._handle.is_own:  # it may block where more is written than there is room for
                self._piece = select.PIPE_BUF
        self._poll = select.poll()
        self._poll.register(self._target, select.POLLOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._handle.close(_WRITING)

    def lock(self, until: float) -> bool:
        """Keep other processes that write here waiting.

        Args:
            until: when to give up, by ``time.monotonic()``; it is tried once in any case.

        Returns:
            Whether they are.
        """
        while not self._handle.lock(_WRITING):
            left = until - time.monotonic()
            if left <= 0:
                return False
            # Not by waiting in the kernel: who holds the lock may be stopped and never let go.
            time.sleep(min(_LOCK_PAUSE, left))
        return True

    def wait(self, until: float) -> bool:
        """Wait for room, or for an error that the next write raises.

        Args:
            until: when to give up, by ``time.monotonic()``; it is looked once in any case.

        Returns:
            Whether there is any.
        """
        left = until - time.monotonic()
        return bool(self._poll.poll(int(left * 1000) + 1 if left > 0 else 0))

    def flush(self, stream: Any, until: float) -> bool:
        """Write what the program has printed, unless there is no room.

        Args:
            stream: of this descriptor.
            until: when to give up, by ``time.monotonic()``.

        Returns:
            Whether it was written.

        Raises:
            OSError: it cannot be written.
            ValueError: the stream is closed.
        """
        while self.wait(until):
            try:
                stream.flush()
            except BlockingIOError:  # not all; the stream keeps the rest
                continue
            return True
        return False

    def write(self, block: bytes, until: float) -> bool:
        """Write as much as there is room for in the time.

        Args:
            block: whole lines.
            until: when to give up, by ``time.monotonic()``.

        Returns:
            Whether that was all; ``written`` tells how much it was, also after an error.

        Raises:
            OSError: nobody reads any more, the disk is full, and the like.
        """
        rest = memoryview(block)
        while rest:
            if not self.wait(until):
                return False
            try:
                done = os.write(self._target, rest[: self._piece])
            except BlockingIOError:  # somebody else has taken the room
                continue
            self.written += done
            rest = rest[done:]
        return True

    def is_marked(self) -> bool:
        """Whether another process has left a line unfinished here; see ``Mark``."""
        return self._handle.is_locked_by_another(_FIRST_MARK)


class Mark:
    """Tells other processes, while it is there, that the last line of a stream is unfinished.

    Args:
        descriptor: of the stream.
    """

    def __init__(self, descriptor: int) -> None:
        self._handle = _Handle(descriptor)
        self._place = _FIRST_MARK + os.getpid()
        self._handle.lock(self._place)

    def remove(self) -> None:
        """The line was ended."""
        if self._handle in _handles:  # not in a child, whose parent will remove it
            self._handle.close(self._place)
