"""What a file needs beside its content: its name on disk, its access rights, and its lock."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

EXECUTABLE: Final = 0o111
_PERMISSIONS: Final = 0o666
_FIRST_PAUSE: Final = 0.00005
_LONGEST_PAUSE: Final = 0.002


def sync_directory(directory: Path) -> None:
    """Force the names in a directory to disk: a file without its name is lost in a power cut.

    Raises:
        OSError: the disk reported an error.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_access(status: os.stat_result, descriptor: int) -> None:
    """Give an open file the permissions of another one, and owner and group where permitted.

    A file that root makes in the place of one of the web workers must stay theirs. Permissions to
    execute are not copied.

    Args:
        status: of the other file.
        descriptor: of the file.

    Raises:
        OSError: the permissions cannot be set.
    """
    own = os.fstat(descriptor)
    if own.st_gid != status.st_gid:
        with suppress(PermissionError):
            os.fchown(descriptor, -1, status.st_gid)
    if own.st_uid != status.st_uid:
        with suppress(PermissionError):
            os.fchown(descriptor, status.st_uid, -1)
    os.fchmod(descriptor, status.st_mode & _PERMISSIONS)


def lock_file(descriptor: int, until: float) -> bool:
    """Take the lock of an open file, the one of ``flock``.

    Args:
        descriptor: of the file.
        until: when to give up, by ``time.monotonic()``; it is tried once in any case.

    Returns:
        Whether it was got.

    Raises:
        OSError: the file system has no such locks.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = until - time.monotonic()
        else:
            return True
        if left <= 0:
            return False
        # Not by waiting in the kernel: who holds the lock may be stopped and never let go.
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def named_status(path: Path, descriptor: int) -> os.stat_result | None:
    """The status of an open file; ``None`` if the path does not name it any more.

    Args:
        path: that named it when it was opened.
        descriptor: of the file.

    Raises:
        OSError: the path cannot be reached.
    """
    try:
        named = path.lstat()
    except FileNotFoundError:
        return None
    status = os.fstat(descriptor)
    return status if os.path.samestat(named, status) else None
