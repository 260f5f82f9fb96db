"""The file of a spool: a line that says how much was delivered, then a line for each event."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from django_signal_audit.event_shape import event_from_dict
from django_signal_audit.sinks import state
from django_signal_audit.sinks._appending import append_lines
from django_signal_audit.sinks._lock import SinkLock

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

_DIGITS: Final = 20
_HEAD: Final = b'{"audit_spool": 1, "delivered_to_byte": "'
_HEADER_SIZE: Final = len(_HEAD) + _DIGITS + len(b'"}\n')
_BLOCK: Final = 1024 * 1024
_PATIENCE: Final = 5.0
_PAUSE: Final = 0.001


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the spool: the event in it, if there is one, and where the next begins."""

    event: AuditEvent | None
    raw: bytes
    end: int


# A signal handler or a finalizer may record an event while its own thread is here; it gets an
# error, where the file's lock would let the thread wait for itself.
_thread = SinkLock()

# A forked child has its parent's descriptors, and with them the parent's locks.
_open: set[int] = set()


@contextmanager
def opened(path: Path, *, append: bool = False, reading: bool = False) -> Iterator[int]:
    """Open a file of a spool, made if it is missing unless it is just for reading.

    Args:
        path: the file.
        append: whether what is written goes to the end. Where something is to be noted at the
            beginning it must not, for Linux would put that at the end, too.
        reading: whether nothing will be written, so that no right to do so is needed.

    Raises:
        OSError: it cannot be opened.
    """
    if reading:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    else:
        descriptor = state.open_file(path, append=append)
    _open.add(descriptor)
    try:
        yield descriptor
    finally:
        if descriptor in _open:  # not in a child that was forked meanwhile
            _open.discard(descriptor)
            os.close(descriptor)


@contextmanager
def held(descriptor: int, seconds: float) -> Iterator[bool]:
    """Hold the lock of an open file.

    Args:
        descriptor: of the file.
        seconds: how long to wait for whoever has it, who may be a process that was stopped.

    Returns:
        Whether it could be had.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= until:
                yield False
                return
            time.sleep(_PAUSE)
    try:
        yield True
    finally:
        if descriptor in _open:
            # By word: a child that was forked meanwhile may still have the lock as well.
            fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def _settled(descriptor: int) -> Iterator[None]:
    """Keep all others from adding, for an instant."""
    with _thread, held(descriptor, _PATIENCE) as mine:
        if not mine:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"another process has held the lock of the spool for {_PATIENCE:.0f} seconds; "
                "lslocks shows which one",
            )
        yield


def append(path: Path, block: bytes, *, headed: bool = True) -> None:
    """Append lines to a file, all or none, and force them to disk.

    Args:
        path: the file.
        block: whole lines.
        headed: whether the file begins with the line that says how much was delivered.

    Raises:
        OSError: they are not there; or, where forcing them to disk failed, may not stay there.
    """
    with opened(path, append=True) as descriptor:
        with _settled(descriptor):
            size = _size(descriptor)
            if headed and size < _HEADER_SIZE:
                os.ftruncate(descriptor, 0)  # a process was killed amid its very first line
                size = 0
                block = _header(_HEADER_SIZE) + block
            append_lines(descriptor, size, block)
        os.fsync(descriptor)


def _header(delivered_to: int) -> bytes:
    return _HEAD + b"%020d" % delivered_to + b'"}\n'


def note(descriptor: int, position: int) -> None:
    """Remember that everything before a position was delivered."""
    os.pwrite(descriptor, _header(position), 0)


def _size(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def settled_size(descriptor: int, *, reading: bool = False) -> int:
    """The size while nobody is adding; a file of which all was delivered is emptied first.

    It is emptied at once, header and all, so that a kill leaves no half of it.

    Args:
        descriptor: of the spool.
        reading: leave it as it is.

    Raises:
        OSError: it cannot be had, or the file is no spool.
    """
    with _settled(descriptor):
        size = _size(descriptor)
        if size and _delivered_to(descriptor) >= size:
            if not reading:
                os.ftruncate(descriptor, 0)
            return 0
        return size


def _delivered_to(descriptor: int) -> int:
    """Up to which byte the file was delivered.

    Raises:
        OSError: the file does not begin as a spool does.
    """
    header = os.pread(descriptor, _HEADER_SIZE, 0)
    if len(header) < _HEADER_SIZE:  # a process was killed amid its very first line
        return _HEADER_SIZE
    digits = header[len(_HEAD) :][:_DIGITS]
    if not (header.startswith(_HEAD) and digits.isdigit()):
        raise OSError(
            errno.EBADMSG,
            "the file is no spool, its first line was changed. Move it elsewhere; its lines are "
            "events in the json format",
            str(Path(f"/proc/self/fd/{descriptor}").readlink()),
        )
    return int(digits)


def lines(descriptor: int, size: int) -> Iterator[Line]:
    """The lines that were not delivered, up to a size."""
    position = _delivered_to(descriptor) if size else 0
    rest = b""
    while position + len(rest) < size:
        start = position + len(rest)
        block = os.pread(descriptor, min(_BLOCK, size - start), start)
        if not block:  # somebody has cut the file meanwhile
            break
        rest += block
        *whole, rest = rest.split(b"\n")
        for text in whole:
            position += len(text) + 1
            if text:  # else it ends a line that was torn
                yield Line(_event_in(text), text + b"\n", position)
    if rest:  # torn by a process that was killed
        yield Line(None, rest + b"\n", position + len(rest))


def _event_in(raw: bytes) -> AuditEvent | None:
    try:
        return event_from_dict(orjson.loads(raw))
    except ValueError:
        return None


def groups(found: Iterator[Line], most: int) -> Iterator[list[Line]]:
    """Lines that go together, up to a number: of one transaction, or lines that are no event."""

    def key(line: Line) -> object:
        return line.event and (line.event.transaction or line.event.id)

    for _, group in itertools.groupby(found, key):
        while part := list(itertools.islice(group, most)):
            yield part


def _leave_to_the_parent() -> None:
    """In a forked child: give up the parent's descriptors, whose locks would stay with them."""
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_leave_to_the_parent)
