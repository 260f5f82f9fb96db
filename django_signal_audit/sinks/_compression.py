"""Compressing rotated files, outside of every lock that a writer waits for."""

from __future__ import annotations

import fcntl
import gzip
import logging
import os
import threading
import time
import zlib
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol, cast

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks._disk import copy_access, named_status, sync_directory
from django_signal_audit.sinks._rotation import is_same_file, rotated_files

Compression = Literal["gzip", "zstd"]

SUFFIXES: Final[dict[Compression, str]] = {"gzip": ".gz", "zstd": ".zst"}

_PART: Final = ".part"
_CHUNK: Final = 1 << 20
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
# O_NONBLOCK: what is no regular file fails, rather than wait for its other end.
_READING: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITING: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_AT_WORK: Final = 600  # seconds: who compresses writes more often than that

logger = logging.getLogger("django_signal_audit")


class Stream(Protocol):
    """What both libraries compress with."""

    def compress(self, data: bytes, /) -> bytes:
        """Take some bytes, and give what is ready."""

    def flush(self) -> bytes:
        """Give the rest."""


class Compressor:
    """Compresses the rotated files of one path in a thread that ends when all are done.

    Not in a process of its own: under a server that embeds Python no program is known
    that could run it.

    Args:
        alias: of the sink, for messages.
        path: of the current file.
        method: ``"gzip"`` or ``"zstd"``.
    """

    def __init__(self, alias: str, path: Path, method: Compression) -> None:
        self._alias = alias
        self._path = path
        self._method = method
        self._has_failed = False
        self._thread: threading.Thread | None = None
        self._parts: set[int] = set()
        self.forget()

    def start(self) -> None:
        """Compress what is there, now or after what is being compressed."""
        with self._lock:
            self._wanted = True
            if self._thread is not None:
                return
            # No daemon: the program waits at its end for the file that is under way.
            thread = threading.Thread(target=self._work, name=f"audit-{self._method}")
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending; the next process compresses
                self._thread = None

    def wait(self) -> None:
        """Return when nothing is being compressed any more."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def forget(self) -> None:
        """In a forked child: no thread runs here, and its lock is the parent's alone."""
        # A signal handler may write an event, and so come here, while its own thread is here.
        self._lock = threading.RLock()
        self._thread = None
        self._wanted = False
        while self._parts:
            os.close(self._parts.pop())

    def _work(self) -> None:
        while self._is_wanted():
            self._has_failed = not self._compress_all()

    def _compress_all(self) -> bool:
        """Compress what is there; whether all of it could be."""
        errors: list[Exception] = []
        try:
            found = rotated_files(self._path)
            for stem, names in found.items():
                if stem not in names:
                    _remove_parts(stem, names)
                elif not is_same_file(stem, self._path):
                    try:
                        self._compress(stem)
                    except Exception as error:  # noqa: BLE001 - the others can do nothing for it
                        errors.append(error)
        except OSError as error:
            errors.append(error)
        if errors and not self._has_failed:
            logger.warning(
                "Sink %r: a rotated file of %s could not be compressed and stays as it is: %r. "
                "It is tried again at the next rotation.",
                self._alias,
                self._path,
                errors[0],
            )
        return not errors

    def _is_wanted(self) -> bool:
        with self._lock:
            wanted, self._wanted = self._wanted, False
            if not wanted:
                self._thread = None
            return wanted

    def _compress(self, stem: Path) -> None:
        target = stem.with_name(stem.name + SUFFIXES[self._method])
        part = target.with_name(target.name + _PART)
        try:
            source = os.open(stem, _READING)
        except FileNotFoundError:  # another process was faster
            return
        try:
            if not _remove_leftover(part):
                return
            try:
                descriptor = os.open(part, _WRITING, 0o600)
            except FileExistsError:  # another process was faster
                return
            self._parts.add(descriptor)
            try:
                if _is_ours(descriptor, part):
                    self._fill(source, descriptor, stem, part, target)
            finally:
                self._parts.discard(descriptor)
                os.close(descriptor)
        finally:
            os.close(source)

    def _fill(self, source: int, descriptor: int, stem: Path, part: Path, target: Path) -> None:
        """Write the part, which is locked, and put it in the place of the rotated file."""
        try:
            if not stem.exists():  # another process has compressed it before the lock was free
                part.unlink()
                return
            copy_access(os.fstat(source), descriptor)
            _copy(source, descriptor, new_stream(self._method))
            os.fsync(descriptor)
            if (
                named_status(part, descriptor) is None
            ):  # who may not open it has taken it for left over
                return
            part.replace(target)
            sync_directory(target.parent)
            stem.unlink()
        except FileNotFoundError:  # the oldest files were deleted meanwhile
            return
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def open_compressed(path: Path) -> BinaryIO | None:
    """Open a file to read what was compressed in it.

    Args:
        path: of the file, whose ending says how it was compressed.

    Returns:
        The content, or ``None`` for a file that is not compressed. Where it is damaged, reading
        raises one of ``damage_errors``.

    Raises:
        OSError: the file cannot be opened.
        AuditConfigurationError: the library is not installed.
    """
    if path.suffix == SUFFIXES["gzip"]:
        return cast("BinaryIO", gzip.open(path, "rb"))
    if path.suffix == SUFFIXES["zstd"]:
        return cast("BinaryIO", zstd_library().open(path, "rb"))
    return None


def damage_errors(path: Path) -> tuple[type[Exception], ...]:
    """What reading a damaged compressed file raises, beside what reading any file does."""
    if path.suffix == SUFFIXES["zstd"]:
        return (EOFError, zstd_library().ZstdError)
    return (EOFError, gzip.BadGzipFile, zlib.error)


def new_stream(method: Compression) -> Stream:
    """Begin a compressed file.

    Raises:
        AuditConfigurationError: the library is not installed.
    """
    if method == "gzip":
        return zlib.compressobj(wbits=_GZIP_WINDOW)
    stream: Stream = zstd_library().ZstdCompressor()
    return stream


def zstd_library() -> Any:
    """Python's own module for Zstandard since 3.14, or the one that does the same before.

    Raises:
        AuditConfigurationError: there is neither.
    """
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise AuditConfigurationError(
        "Zstandard needs a library that is not installed.",
        hint='Install it with: pip install "django-signal-audit[zstd]"',
        number="E024",
    )


def _remove_parts(stem: Path, names: Iterable[Path]) -> None:
    """Remove what a process began too late, of a file that is compressed, and was killed at."""
    if not stem.exists():
        for name in names:
            if name.suffix == _PART:
                name.unlink(missing_ok=True)


def _remove_leftover(part: Path) -> bool:
    """Remove a part that a killed process has left, rather than write it.

    By another name it may be another file, or it may be of a user who keeps it closed.

    Returns:
        Whether there is none now; false if another process is at work on it.
    """
    try:
        descriptor = os.open(part, _READING)
    except FileNotFoundError:
        return True
    except OSError:  # closed, so nobody can know whether it is locked
        if time.time() - part.lstat().st_mtime < _AT_WORK:
            raise
        part.unlink()
        return True
    try:
        if not _is_ours(descriptor, part):
            return False
        part.unlink()
    finally:
        os.close(descriptor)
    return True


def _is_ours(descriptor: int, part: Path) -> bool:
    """Lock the part; false if another process holds it, or has finished it meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return named_status(part, descriptor) is not None


def _copy(source: int, descriptor: int, stream: Stream) -> None:
    while chunk := os.read(source, _CHUNK):
        _write_all(descriptor, stream.compress(chunk))
    _write_all(descriptor, stream.flush())


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
