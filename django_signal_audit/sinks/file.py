"""The file sink: whole lines in one file that many threads and processes may share."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from django.core import checks

from django_signal_audit.exceptions import AuditConfigurationError, raise_found
from django_signal_audit.formats.base import render_lines
from django_signal_audit.sinks._lock import SinkLock
from django_signal_audit.sinks._paths import file_url, find_problem
from django_signal_audit.sinks.base import Sink, SinkConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks._urls import SinkURL

FsyncPolicy = Literal["never", "interval", "commit"]

# Reading is needed to see a torn tail. O_NONBLOCK does nothing to a regular file and keeps the
# opening of a named pipe, which is refused afterwards, from waiting for its reader.
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_REOPENINGS: Final = 1000
_NEWLINE: Final = b"\n"
_ALL_PERMISSIONS: Final = 0o777


class FileSink(Sink):
    """Appends events to a file in UTF-8, one line each.

    The lines of one ``emit`` are one ``write`` on an ``O_APPEND`` descriptor, under a lock
    between threads and a lock between processes (``flock``), after making sure that
    the path still names the open file: a file that ``logrotate`` renamed is left, and the new one
    begun. A line that a killed process left torn is ended before the next one begins.

    Args:
        config: what every sink is given.
        path: the file; it is made if it is missing, its directory is not. A relative path is
            resolved now, against the current directory.
        fsync: when the file is forced to disk: ``"never"`` (the kernel decides; lines survive
            the end of the process but not a power cut), ``"interval"`` (by the first ``emit``
            after ``fsync_interval`` seconds, and on ``flush`` and ``close``) or ``"commit"``
            (before each ``emit`` returns).
        fsync_interval: seconds, for ``"interval"``.
        mode: permissions of a new file, less the process's umask.

    Raises:
        AuditConfigurationError: an option has a value that it cannot have.
    """

    def __init__(
        self,
        config: SinkConfig,
        *,
        path: str | os.PathLike[str],
        fsync: FsyncPolicy = "never",
        fsync_interval: float = 1.0,
        mode: int = 0o640,
    ) -> None:
        super().__init__(config)
        raise_found(_mistakes(config.alias, path, fsync, fsync_interval, mode))
        # Not Path.resolve(), which would follow the symbolic link that is to be refused.
        self.path: Final = Path(os.path.abspath(path))  # noqa: PTH100
        self._fsync = fsync
        self._fsync_interval = fsync_interval
        self._mode = mode
        self._descriptor: int | None = None
        self._unsynced = False
        self._synced_at = time.monotonic()
        self._lock = SinkLock(after_fork=self._forget)

    @classmethod
    def options_from_url(cls, url: SinkURL) -> dict[str, object]:
        """The path: ``file:///var/log/x``, or relative as ``file:x``; ``mode`` is octal."""
        return super().options_from_url(file_url(url))

    def emit(self, events: Sequence[AuditEvent]) -> None:
        """Append the events as lines, all or none.

        Args:
            events: the events of one transaction.

        Raises:
            OSError: the file could not be opened, written or forced to disk. What was
                written in part was cut off again.
        """
        block = render_lines(self.config.format, events)
        if not block:
            return
        with self._lock:
            try:
                descriptor = self._lock_current_file()
                self._append(descriptor, block)
            finally:
                self._unlock()
            # Without the processes' lock: while this one waits for its disk, others may write.
            self._unsynced = self._fsync != "never"
            if self._is_sync_due():
                self._sync(descriptor)

    def flush(self) -> None:
        """Force what was written to disk, unless ``fsync`` is ``"never"``.

        Raises:
            OSError: the disk reported an error.
        """
        with self._lock:
            if self._descriptor is not None and self._unsynced:
                self._sync(self._descriptor)

    def close(self) -> None:
        """As ``flush``, then close the file; the next ``emit`` opens it again.

        Raises:
            OSError: the disk reported an error; the file is closed all the same.
        """
        with self._lock:
            self._release()

    def check(self) -> list[checks.CheckMessage]:
        """Look whether the file can be written, without making it.

        Returns:
            At most one error.
        """
        problem = find_problem(self.path)
        if problem is None:
            return []
        return [
            checks.Error(
                f"Sink {self.alias!r}: {problem.message}",
                hint=problem.hint,
                id=f"django_signal_audit.{problem.number}",
            )
        ]

    def _lock_current_file(self) -> int:
        """Take the processes' lock on the file that the path names at this moment."""
        for _ in range(_REOPENINGS):
            if self._descriptor is None:
                self._descriptor = self._open()
            descriptor = self._descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Asked under the lock: a writer that rotates does so under it, too.
            if self._is_current(descriptor):
                return descriptor
            self._release()
        raise self._error(
            errno.EBUSY, f"the path named another file each of {_REOPENINGS} times it was opened"
        )

    def _unlock(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _is_current(self, descriptor: int) -> bool:
        try:
            named = self.path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(descriptor))

    def _open(self) -> int:
        try:
            descriptor = os.open(self.path, _FLAGS, self._mode)
        except OSError as error:
            problem = find_problem(self.path)
            text = str(problem or f"the file cannot be opened: {error.strerror}")
            raise self._error(error.errno or errno.EIO, text) from error
        try:
            self._require_regular_file(descriptor)
            if self._fsync != "never":
                _sync_directory(self.path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _require_regular_file(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            text = str(find_problem(self.path) or "the path is not a regular file.")
            raise self._error(errno.EINVAL, text)

    def _append(self, descriptor: int, block: bytes) -> None:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != _NEWLINE:
            block = _NEWLINE + block
        try:
            self._write(descriptor, block)
        except BaseException as error:
            try:
                os.ftruncate(descriptor, size)
            except OSError as cut_error:  # such as an append-only file; the next line ends the torn
                error.add_note(f"{self.path} could not be cut back to {size} bytes: {cut_error}")
            if isinstance(error, OSError) and error.filename is None:
                raise self._error(
                    error.errno or errno.EIO,
                    f"{len(block)} bytes could not be written: {error.strerror}",
                ) from error
            raise

    def _write(self, descriptor: int, block: bytes) -> None:
        written = os.write(descriptor, block)
        if written < len(block):
            raise self._error(
                errno.ENOSPC,
                f"only {written} of {len(block)} bytes could be written, and were taken back. "
                f"Make room on the file system, or raise the limit on the size of files",
            )

    def _is_sync_due(self) -> bool:
        if self._fsync == "interval":
            return time.monotonic() - self._synced_at >= self._fsync_interval
        return self._fsync == "commit"

    def _sync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        self._unsynced = False
        self._synced_at = time.monotonic()

    def _release(self) -> None:
        """Close the file, and with it the processes' lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            if self._unsynced:
                self._sync(descriptor)
        finally:
            self._unsynced = False
            os.close(descriptor)

    def _forget(self) -> None:
        """In a forked child: drop the inherited descriptor, whose lock is the parent's as well.

        Closing it does not unlock it for the parent, as ``LOCK_UN`` would.
        """
        descriptor, self._descriptor = self._descriptor, None
        self._unsynced = False
        if descriptor is not None:
            os.close(descriptor)

    def _error(self, number: int, text: str) -> OSError:
        return OSError(number, f"Sink {self.alias!r}: {text}", str(self.path))


def _mistakes(
    alias: str, path: object, fsync: object, fsync_interval: object, mode: object
) -> Iterator[AuditConfigurationError]:
    """What is wrong with the options."""

    def wrong(name: str, value: object, hint: str) -> AuditConfigurationError:
        problem = f"Sink {alias!r}: {name} is {value!r}."
        return AuditConfigurationError(problem, hint=hint, number="E024")

    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text or "\0" in text:
        yield wrong("path", path, "Write the path of a file, such as '/var/log/app/audit.jsonl'.")
    if fsync not in get_args(FsyncPolicy):
        yield wrong("fsync", fsync, "Write 'never', 'interval' or 'commit'.")
    if not (isinstance(fsync_interval, (int, float)) and fsync_interval > 0):
        yield wrong("fsync_interval", fsync_interval, "Write a number of seconds above 0.")
    if not (isinstance(mode, int) and 0 <= mode <= _ALL_PERMISSIONS):
        yield wrong("mode", mode, "Write a number of permissions such as 0o640.")


def _sync_directory(directory: Path) -> None:
    """Force the file's name to disk: a file without its name is lost in a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
