"""``STATE_DIR``: where what must outlive a process is kept, spools and counters."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks._disk import sync_directory

_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
SPOOL: Final = ".spool.jsonl"
SKIPPED: Final = ".skipped.jsonl"
LOCK: Final = ".spool.lock"
COUNTERS: Final = ".counters"
"""How the names of the files end."""

_SUFFIXES: Final = (SPOOL, SKIPPED, LOCK, COUNTERS)
_DIRECTORY_MODE: Final = 0o750
_FILE_MODE: Final = 0o640


def directory() -> Path | None:
    """The directory as the settings say it now; ``None`` where they name none, or are wrong."""
    try:
        said = conf.current().STATE_DIR
    except AuditConfigurationError:
        # Something was counted just when the settings changed; the checks report what is wrong.
        return None
    return None if said is None else Path(said)


def find_problem(path: Path) -> tuple[str, str] | None:
    """Look whether files can be kept in a directory, or it be made, and leave nothing behind.

    Args:
        path: the directory.

    Returns:
        What is wrong and what to do, or ``None``.
    """
    try:
        there = path if path.exists() else path.parent
        if not there.is_dir():
            if there is path:
                return f"{path} is no directory.", "Name a directory."
            return f"The directory {there} does not exist.", "Create it, or correct the path."
    except OSError as error:
        return f"{path} cannot be reached: {error.strerror}.", "Correct the path, or its rights."
    try:
        tempfile.TemporaryFile(dir=there).close()
        foreign = [] if there is not path else [f for f in _files(path) if not _is_ours(f)]
    except OSError as error:
        return (
            f"No file can be made in {there} by this process: {error.strerror}.",
            "Permit its user to write to the directory, or name another one.",
        )
    if foreign:
        hint = "Let all processes of the project run as one user, or share a group that may write."
        return f"{foreign[0]} cannot be written by this process.", hint
    return None


def _files(directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as found:
        for entry in found:
            if entry.name.endswith(_SUFFIXES):
                yield Path(entry.path)


def _is_ours(file: Path) -> bool:
    return os.access(file, os.R_OK | os.W_OK)


def file_of(path: Path, alias: str, suffix: str) -> Path:
    """The file of one sink in a directory.

    Args:
        path: the directory.
        alias: of the sink; any text.
        suffix: what the file is for, such as ``.counters``.
    """
    return path / f"{quote(alias, safe=' ')}{suffix}"


def aliases_of(path: Path, suffix: str) -> list[str]:
    """The aliases that have a file with this suffix in a directory, which may be missing.

    Raises:
        OSError: the directory may not be read.
    """
    try:
        names = [file.name for file in _files(path)]
    except FileNotFoundError:
        return []
    return sorted(unquote(name.removesuffix(suffix)) for name in names if name.endswith(suffix))


def open_file(path: Path, *, append: bool = False) -> int:
    """Open a file, made if it is missing, and the directory around it too.

    A new one belongs to whom the directory belongs to, as far as this process may give it, and
    the group may write it if it may write to the directory: what one process makes is to be written
    by the others as well.

    Args:
        path: the file.
        append: whether what is written goes to the end.

    Returns:
        A descriptor for reading and writing.

    Raises:
        OSError: it cannot be opened.
    """
    flags = _FLAGS | (os.O_APPEND if append else 0)
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        _make_directory(path.parent)
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    except FileExistsError:  # another process was quicker
        return os.open(path, flags)
    _give(descriptor, path.parent)
    sync_directory(path.parent)
    return descriptor


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(_DIRECTORY_MODE)
    except FileExistsError:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _give(descriptor, path.parent)
    finally:
        os.close(descriptor)


def _give(descriptor: int, parent: Path) -> None:
    like, own = parent.stat(), os.fstat(descriptor)
    with suppress(PermissionError):  # only root may, or a member of the group
        if own.st_gid != like.st_gid:
            os.fchown(descriptor, -1, like.st_gid)
        if own.st_uid != like.st_uid:
            os.fchown(descriptor, like.st_uid, -1)
    os.fchmod(descriptor, stat.S_IMODE(own.st_mode) | (like.st_mode & stat.S_IWGRP))
