"""Counters in files, one for each sink, that all processes of a machine add to.

A file is a row of numbers that is read, changed and written in place under a lock. Nobody
waits for the lock for more than a few milliseconds: what cannot be added by then is added with the
next event, or when the process ends. A process that is killed, or ended by ``os._exit``, takes
along what it has not added yet.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from django_signal_audit.sinks import state

logger = logging.getLogger("django_signal_audit")

# There are fewer outcomes than that; a new one takes a place at the end.
_PLACES: Final = 24
_LAYOUT: Final = struct.Struct(f"<8s{_PLACES}Q")
_MAGIC: Final = b"audit01\n"
_PATIENCE: Final = 0.005
_PATIENCE_AT_EXIT: Final = 1.0
_PAUSE: Final = 0.0001

_Key = tuple[Path, str]

# A signal handler may record an event while its own thread is here.
_lock = threading.RLock()
_files: dict[_Key, int] = {}
_pending: dict[_Key, Counter[int]] = {}
_adding = False
_failed: set[_Key] = set()
_in_vain: set[_Key] = set()


def add(directory: Path, alias: str, numbers: Mapping[int, int]) -> None:
    """Add to a sink's counters; a failure to do so is logged once, and stops nothing.

    Args:
        directory: where the files are.
        alias: of the sink.
        numbers: what to add, by place.
    """
    global _adding  # noqa: PLW0603 - says that this thread is amid a change
    key = (directory, alias)
    failure = None
    with _lock:
        _pending.setdefault(key, Counter()).update(numbers)
        if _adding:
            return
        _adding = True
        try:
            # Where it was in vain the last time, a process that was stopped may have the lock.
            _write_within(key, 0 if key in _in_vain else _PATIENCE)
        except OSError as error:
            failure = error
        finally:
            _adding = False
    if failure is not None and key not in _failed:
        _failed.add(key)
        logger.warning("The counters of audit sink %r cannot be kept: %s", alias, failure)


def read(directory: Path) -> dict[str, dict[int, int]]:
    """The counters of every sink, by place, without those that are zero.

    Args:
        directory: where the files are.

    Raises:
        OSError: a file cannot be read.
    """
    found = {}
    for alias in state.aliases_of(directory, state.COUNTERS):
        numbers = _unpack(state.file_of(directory, alias, state.COUNTERS).read_bytes())
        found[alias] = {place: number for place, number in enumerate(numbers) if number}
    return found


def reset(directory: Path) -> None:
    """Set every counter to zero.

    Args:
        directory: where the files are.

    Raises:
        OSError: a file cannot be written.
    """
    for alias in state.aliases_of(directory, state.COUNTERS):
        descriptor = state.open_file(state.file_of(directory, alias, state.COUNTERS))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.pwrite(descriptor, _LAYOUT.pack(_MAGIC, *([0] * _PLACES)), 0)
        finally:
            os.close(descriptor)


def _write_within(key: _Key, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not _write(key):
        if time.monotonic() >= until:
            _in_vain.add(key)
            return
        time.sleep(_PAUSE)
    _in_vain.discard(key)


def _write(key: _Key) -> bool:
    """Add what is pending, unless another process is just adding; whether it was added."""
    descriptor = _descriptor(key)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        numbers = _unpack(os.pread(descriptor, _LAYOUT.size, 0))
        pending = _pending.pop(key)
        for place, number in pending.items():
            numbers[place] += number
        try:
            os.pwrite(descriptor, _LAYOUT.pack(_MAGIC, *numbers), 0)
        except OSError:
            _pending.setdefault(key, Counter()).update(pending)
            raise
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _unpack(content: bytes) -> list[int]:
    if len(content) < _LAYOUT.size:
        return [0] * _PLACES
    magic, *numbers = _LAYOUT.unpack(content[: _LAYOUT.size])
    return numbers if magic == _MAGIC else [0] * _PLACES


def _descriptor(key: _Key) -> int:
    descriptor = _files.get(key)
    if descriptor is not None:
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(_files.pop(key))  # somebody has removed the file
    _files[key] = state.open_file(state.file_of(key[0], key[1], state.COUNTERS))
    return _files[key]


def close() -> None:
    """Add what is pending, if that can be done soon, and close the files; ``add`` opens them."""
    with _lock:
        for key in list(_pending):
            try:
                _write_within(key, _PATIENCE_AT_EXIT)
            except OSError as error:
                logger.warning("Counters of audit sink %r were not kept: %s", key[1], error)
        _pending.clear()
        while _files:
            os.close(_files.popitem()[1])


def _forget() -> None:
    """In a forked child: the parent adds what is pending, and its lock is not the child's."""
    global _lock, _adding  # noqa: PLW0603 - start anew
    _lock = threading.RLock()
    _adding = False
    _pending.clear()
    while _files:
        os.close(_files.popitem()[1])


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
