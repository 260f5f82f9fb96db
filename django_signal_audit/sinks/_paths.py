"""What may be wrong with the path of a file that is to be appended to."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from django_signal_audit.sinks._disk import EXECUTABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django_signal_audit.sinks._urls import SinkURL


_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
# Reading is needed to see a torn tail. O_NONBLOCK does nothing to a regular file and keeps the
# opening of a named pipe, which is refused afterwards, from waiting for its reader.
_OPENING: Final = _FLAGS | os.O_CREAT | os.O_NONBLOCK
_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class PathProblem:
    """Why a path cannot serve.

    Attributes:
        number: of the system check error, such as ``"E201"``.
        message: what is wrong.
        hint: what to do instead.
    """

    number: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def find_problem(path: Path, *, is_rotated: bool = False) -> PathProblem | None:
    """Look whether a file can be appended to, or else made, and leave nothing behind.

    It is tried, as permissions are not all: a file system may be read-only, or its files
    be made by the kernel alone, also for root.

    Args:
        path: an absolute path.
        is_rotated: whether files are to be made beside it, too.

    Returns:
        The first problem, or ``None``.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return _find_directory_problem(path.parent)
    except OSError as error:
        return PathProblem(
            "E203",
            f"{path} cannot be reached: {error.strerror}.",
            "Correct the path, or the permissions of its directories.",
        )
    problem = _find_kind_problem(path, mode) or _find_access_problem(path)
    if problem is None and is_rotated:
        return _find_directory_problem(path.parent)
    return problem


def open_regular(path: Path, mode: int) -> int:
    """Open a file for reading and appending, or make it.

    Args:
        path: an absolute path.
        mode: permissions of a new file, less the umask.

    Returns:
        The descriptor.

    Raises:
        OSError: that is impossible; the text says why and what to do.
    """
    try:
        descriptor = os.open(path, _OPENING, mode)
    except OSError as error:
        problem = find_problem(path)
        text = str(problem or f"the file cannot be opened: {error.strerror}")
        raise OSError(error.errno or errno.EIO, text) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, str(find_problem(path) or "the path is not a regular file."))
    return descriptor


def find_executable(path: Path) -> PathProblem | None:
    """Look whether a file, if it is there, may be executed.

    Args:
        path: of a file without another problem.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not mode & EXECUTABLE:
        return None
    return PathProblem(
        "W207",
        f"{path} may be executed, and its lines hold what users have typed.",
        f"Take the permission away: chmod a-x {path}",
    )


def file_url(url: SinkURL) -> SinkURL:
    """A URL of a file with the path, and the permissions as a number, among its parameters.

    Raises:
        AuditConfigurationError: it has no path, or a host.
    """
    path = url.path
    if url.host in {".", ".."}:
        path = url.host + path
    elif url.host not in {"", "localhost"}:
        raise url.error(
            "it names a host, and a file has none.",
            "Write three slashes before an absolute path, file:///var/log/app/audit.jsonl, and one "
            "dot before a relative one, file://./audit.jsonl.",
        )
    if not path and "path" not in url.parameters:
        raise url.error(
            "it has no path.", "Write the path of a file: file:///var/log/app/audit.jsonl."
        )
    url = replace(url, host="", path="")
    if path:
        url = url.with_parameter("path", path)
    modes = tuple(_permissions(url, said) for said in url.parameters.get("mode", ()))
    return replace(url, parameters={**url.parameters, "mode": modes}) if modes else url


def _permissions(url: SinkURL, octal: str) -> str:
    """Permissions are octal wherever they are written, with a leading 0o or without."""
    try:
        return str(int(octal, 8))
    except ValueError:
        raise url.error(
            f"option 'mode' of FileSink cannot be {octal!r}.",
            "Write permissions in octal digits, such as 640.",
        ) from None


def _find_kind_problem(path: Path, mode: int) -> PathProblem | None:
    if stat.S_ISLNK(mode):
        return PathProblem(
            "E204",
            f"{path} is a symbolic link, which is not followed.",
            "Write the path of the file that it points to.",
        )
    if stat.S_ISDIR(mode):
        return PathProblem("E202", f"{path} is a directory.", "Write the path of a file in it.")
    if not stat.S_ISREG(mode):
        return PathProblem(
            "E205",
            f"{path} is not a regular file.",
            "For the output of the process use StdoutSink.",
        )
    return None


def _find_access_problem(path: Path) -> PathProblem | None:
    reason = _refusal(lambda: os.close(os.open(path, _FLAGS)))
    if reason is not None:
        return PathProblem(
            "E203",
            f"{path} cannot be written by this process: {reason}.",
            "Permit its user to read and to write the file, or write another path.",
        )
    return None


def _find_directory_problem(directory: Path) -> PathProblem | None:
    if not directory.is_dir():
        return PathProblem(
            "E201",
            f"The directory {directory} does not exist.",
            "Create it, or correct the path in the sink's OPTIONS.",
        )
    # Without a name where the kernel can, so that no other process ever sees it.
    reason = _refusal(lambda: tempfile.TemporaryFile(dir=directory).close())
    if reason is not None:
        return PathProblem(
            "E203",
            f"No file can be made in {directory} by this process: {reason}.",
            "Permit its user to write to the directory, or write another path.",
        )
    return None


def _refusal(attempt: Callable[[], None]) -> str | None:
    """Why something cannot be done; ``None`` if it can, or if just the process lacks means."""
    try:
        attempt()
    except OSError as error:
        return None if error.errno in _SHORTAGES else error.strerror
    return None
