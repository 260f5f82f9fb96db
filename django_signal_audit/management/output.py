"""A file that is there as a whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from django.core.management.base import CommandError

from django_signal_audit.exceptions import AuditError
from django_signal_audit.sinks import FileSink, routing, state
from django_signal_audit.sinks._rotation import rotated_files

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MODE: Final = 0o640  # less the umask; a trail is not for everyone


def refuse_trail(path: Path, read: Iterable[Path]) -> None:
    """Refuse an output that would replace a part of the trail itself.

    Those are what is read, and whatever the settings name: the files of file sinks with
    those rotated away from them, and those in ``STATE_DIR``.

    Args:
        path: the output that is wanted; no other name of such a file either, and it need not
            exist yet.
        read: the files that are read.

    Raises:
        CommandError: it is one of them, or what the settings name cannot be found out.
    """
    target = Path(os.path.realpath(path))
    # The part is emptied, so it must be none of them, either.
    ours = (target, _part_of(target))
    try:
        for file in (*read, *_kept_files()):
            if any(_is_same(our, file) for our in ours):
                raise CommandError(
                    f"{path} may not be the output: {file} is a part of the trail, and its events "
                    "would be lost. Choose another path."
                )
        folder = state.directory()
        if folder is not None and target.parent == Path(os.path.realpath(folder)):
            raise CommandError(
                f"{path} may not be the output: {folder} is the STATE_DIR, where spools are kept. "
                "Choose a path in another directory."
            )
    except (AuditError, OSError) as error:
        raise CommandError(f"Whether {path} is a part of the trail is unknown: {error}") from error


def _kept_files() -> Iterator[Path]:
    for route in routing.all_routes():
        if isinstance(route.sink, FileSink):
            yield route.sink.path
            with suppress(FileNotFoundError):  # the directory is still to be made
                for names in rotated_files(route.sink.path).values():
                    yield from names
    folder = state.directory()
    if folder is not None and folder.is_dir():
        yield from folder.iterdir()


def _is_same(path: Path, other: Path) -> bool:
    if path == Path(os.path.realpath(other)):
        return True
    try:
        return path.samefile(other)
    except FileNotFoundError:
        return False


@contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Write ``PATH.part``, force it to disk, then rename it; after an error nothing is left.

    Args:
        path: the file that is wanted; of a symbolic link, the file it points to.
        overwrite: whether it may exist already.

    Raises:
        CommandError: it may not be written, or could not be.
    """
    # Renaming over a link would replace the link.
    target = Path(os.path.realpath(path))
    part = _part_of(target)
    try:
        _refuse(path, target, overwrite=overwrite)
        # Without O_TRUNC: it may be another process's part.
        with os.fdopen(os.open(part, _FLAGS, _MODE), "wb") as file:
            try:
                _claim(file, part)
                yield file
                file.flush()
                os.fsync(file.fileno())
                _refuse(path, target, overwrite=overwrite)
                part.replace(target)
            except BaseException:
                # Before the file is closed, and with it the lock: a later part is not ours.
                if _is_ours(file, part):
                    part.unlink()
                raise
        _sync_directory(target.parent)
    except OSError as error:
        raise CommandError(_advice(path, target, error)) from error


def _part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _refuse(path: Path, target: Path, *, overwrite: bool) -> None:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise CommandError(f"{path} is a directory. Write the path of a file in it.")
    if not stat.S_ISREG(mode):
        raise CommandError(
            f"{path} is no regular file, so it cannot be replaced. Write --output - and redirect "
            f"stdout: > {path}."
        )
    if not overwrite:
        raise CommandError(f"{path} exists. Choose another path, or replace it with --overwrite.")


def _claim(file: BinaryIO, part: Path) -> None:
    """Lock and empty the part; one that a killed process left is used again."""
    if not _is_ours(file, part):
        raise CommandError(
            f"Another process is writing {part}. Wait until it is done, or choose another path."
        )
    os.ftruncate(file.fileno(), 0)


def _is_ours(file: BinaryIO, part: Path) -> bool:
    """Lock the part; false if another holds it, or finished it before the lock was taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), part.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _advice(path: Path, target: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and not target.parent.is_dir():
        return f"The directory {target.parent} does not exist. Make it, or choose another path."
    return (
        f"{path} cannot be written: {error.strerror or error}. Choose a path that this user may "
        "write to, with space on its disk."
    )


def _sync_directory(directory: Path) -> None:
    """Force the new name to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
