"""The file sink: whole lines in one file that many threads and processes may share."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from django.core import checks

from django_signal_audit.exceptions import raise_found
from django_signal_audit.formats.base import render_lines
from django_signal_audit.sinks._appending import append_lines
from django_signal_audit.sinks._compression import Compression  # noqa: TC001 - URLs ask for it
from django_signal_audit.sinks._disk import lock_file, named_status, sync_directory
from django_signal_audit.sinks._file_options import FileOptions, FsyncPolicy, mistakes
from django_signal_audit.sinks._lock import SinkLock
from django_signal_audit.sinks._paths import file_url, find_executable, find_problem, open_regular
from django_signal_audit.sinks._rotation import Period, Rotation
from django_signal_audit.sinks._rotator import Rotator, report_cut
from django_signal_audit.sinks.base import Sink, SinkConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks._urls import SinkURL

_REOPENINGS: Final = 1000


class FileSink(Sink):
    """Appends events to a file in UTF-8, one line each.

    The lines of one ``emit`` are one ``write`` on an ``O_APPEND`` descriptor, under a lock
    between threads and a lock between processes (``flock``), after making sure that
    the path still names the open file: a file that ``logrotate`` renamed is left, and the new one
    begun. A line that a killed process left torn is ended before the next one begins.

    With ``rotate_bytes`` or ``rotate_every`` the sink renames the file itself, under its lock: to
    ``PATH.STAMP``, where the stamp is the moment in UTC. It always appends to one file the lines of
    one ``emit``.

    Args:
        config: what every sink is given.
        path: the file; it is made if it is missing, its directory is not. A relative path is
            resolved now, against the current directory.
        fsync: when the file is forced to disk: ``"never"`` (the kernel decides; lines survive
            the end of the process but not a power cut), ``"interval"`` (by the first ``emit``
            after ``fsync_interval`` seconds, and on ``flush`` and ``close``) or ``"commit"``
            (before each ``emit`` returns).
        fsync_interval: seconds, for ``"interval"``.
        mode: permissions of a new file, less the process's umask; the file after a rotated one
            has the permissions of that.
        rotate_bytes: rotate before the file grows beyond so many bytes.
        rotate_every: rotate before the first line of each ``"hour"``, ``"day"``, ``"week"`` (from
            Monday) or ``"month"``, in UTC.
        compress: compress rotated files, by ``"gzip"`` or ``"zstd"``, in a thread.
        keep: how many rotated files stay; the oldest are deleted. ``None`` for all.
        timeout: how many seconds an ``emit`` waits at most for its turn to write. After one that
            has waited in vain, others try just once, until one gets the lock.

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
        rotate_bytes: int | None = None,
        rotate_every: Period | None = None,
        compress: Compression | None = None,
        keep: int | None = None,
        timeout: float = 5.0,
    ) -> None:
        super().__init__(config)
        options = FileOptions(
            path, fsync, fsync_interval, mode, rotate_bytes, rotate_every, compress, keep, timeout
        )
        raise_found(mistakes(config.alias, options))
        # Not Path.resolve(), which would follow the symbolic link that is to be refused.
        self.path: Final = Path(os.path.abspath(path))  # noqa: PTH100
        self._fsync = fsync
        self._fsync_interval = fsync_interval
        self._mode = mode
        self._timeout = timeout
        self._is_stalled = False  # the last attempt to lock the file has waited in vain
        self._rotator = None
        if rotate_bytes is not None or rotate_every is not None:
            rotation = Rotation(rotate_bytes, rotate_every)
            self._rotator = Rotator(config.alias, self.path, rotation, keep, compress)
        self._descriptor: int | None = None
        self._size = 0  # of the open file, after what this process has last appended
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
            TimeoutError: another process, or another thread, has kept the file locked.
            OSError: the file could not be opened, written or forced to disk. What was
                written in part was cut off again.
        """
        block = render_lines(self.config.format, events)
        if not block:
            return
        until = time.monotonic() + self._timeout
        if not self._lock.acquire(self._timeout):
            raise self._late("other threads of this process were writing")
        try:
            try:
                descriptor, status = self._lock_current_file(until)
                # A writer that fails cuts off no lines but its own.
                is_cut = status.st_size < self._size
                rotator = self._rotator
                if rotator is not None and rotator.rotation.is_due(status, len(block)):
                    descriptor, status = self._rotate(rotator, descriptor, status)
                self._append(descriptor, status.st_size, block)
            finally:
                self._unlock()
            # Without the processes' lock: while this one waits for its disk, others may write.
            self._unsynced = self._fsync != "never"
            if self._is_sync_due():
                self._sync(descriptor)
        finally:
            self._lock.release()
        if is_cut:
            report_cut(self.alias, self.path)
        if rotator is not None and rotator.is_untidy:
            rotator.tidy()

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

        It waits for rotated files that are being compressed.

        Raises:
            OSError: the disk reported an error; the file is closed all the same.
        """
        try:
            with self._lock:
                self._release()
        finally:
            if self._rotator is not None:
                self._rotator.wait()

    def check(self) -> list[checks.CheckMessage]:
        """Look whether the file can be written, without making it.

        Returns:
            At most one error, or one warning.
        """
        problem = find_problem(self.path, is_rotated=self._rotator is not None)
        problem = problem or find_executable(self.path)
        if problem is None:
            return []
        kind = checks.Error if problem.number.startswith("E") else checks.Warning
        return [
            kind(
                f"Sink {self.alias!r}: {problem.message}",
                hint=problem.hint,
                id=f"django_signal_audit.{problem.number}",
            )
        ]

    def _lock_current_file(self, until: float) -> tuple[int, os.stat_result]:
        """Take the processes' lock on the file that the path names at this moment."""
        for _ in range(_REOPENINGS):
            if self._descriptor is None:
                self._descriptor = self._open()
            descriptor = self._descriptor
            is_locked = lock_file(descriptor, 0 if self._is_stalled else until)
            self._is_stalled = not is_locked
            # Asked under the lock: a writer that rotates does so under it, too. Without it, too:
            # a file that stays locked may be renamed to be rid of it.
            if (status := named_status(self.path, descriptor)) is None:
                self._is_stalled = False
                self._release()
            elif is_locked:
                return descriptor, status
            else:
                raise self._late(
                    "another process holds its lock, maybe one that is stopped. lslocks lists it"
                )
        raise self._error(
            errno.EBUSY, f"the path named another file each of {_REOPENINGS} times it was opened"
        )

    def _unlock(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _rotate(
        self, rotator: Rotator, descriptor: int, status: os.stat_result
    ) -> tuple[int, os.stat_result]:
        """Begin a new file, of which this process has the lock; where that fails, stay."""
        if self._fsync != "never":
            self._sync(descriptor)
        new = rotator.rotate(descriptor)
        if new is None:
            return descriptor, status
        self._descriptor, self._size = new, 0
        os.close(descriptor)
        if self._fsync != "never":
            sync_directory(self.path.parent)
        return new, os.fstat(new)

    def _open(self) -> int:
        try:
            descriptor = open_regular(self.path, self._mode)
        except OSError as error:
            raise self._error(error.errno or errno.EIO, str(error.strerror)) from error
        try:
            if self._fsync != "never":
                sync_directory(self.path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _append(self, descriptor: int, size: int, block: bytes) -> None:
        try:
            self._size = append_lines(descriptor, size, block)
        except OSError as error:
            raise self._error(
                error.errno or errno.EIO,
                f"{len(block)} bytes could not be written: {error.strerror}",
            ) from error

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
        self._size = 0
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
        self._size = 0
        if self._rotator is not None:
            self._rotator.forget()
        if descriptor is not None:
            os.close(descriptor)

    def _late(self, reason: str) -> OSError:
        text = f"the file could not be locked within {self._timeout} seconds: {reason}."
        return self._error(errno.ETIMEDOUT, text)

    def _error(self, number: int, text: str) -> OSError:
        return OSError(number, f"Sink {self.alias!r}: {text}", str(self.path))
