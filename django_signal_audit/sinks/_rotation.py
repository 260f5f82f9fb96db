"""Rotated files of a file sink: when one is made, under which name, and which ones stay.

A rotated file is ``PATH.STAMP``, compressed ``PATH.STAMP.gz`` or ``.zst``. The stamp is a moment
in UTC with microseconds, so that names sort in order of time. ``rotate`` wants the lock on the
current file; the others may be called by any process at any time.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from django_signal_audit.sinks._disk import copy_access

Period = Literal["hour", "day", "week", "month"]

_STAMP: Final = "%Y%m%dT%H%M%S.%fZ"
_NAME: Final = re.compile(r"\.([0-9]{8}T[0-9]{6}\.[0-9]{6}Z)((?:\.gz|\.zst)?(?:\.part)?|\.new)")
_NEW: Final = ".new"
_PART: Final = ".part"
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_FAR: Final = timedelta(days=366)
_MONDAY: Final = 3  # days from the Monday of its week to 1 January 1970


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is rotated.

    Attributes:
        size: bytes that a file holds at most, unless one block is longer; ``None`` for any.
        every: a new file begins with each of these, in UTC; ``None`` for never.
    """

    size: int | None
    every: Period | None

    def is_due(self, status: os.stat_result, more: int) -> bool:
        """Whether a file is to be rotated before something is appended; never an empty one.

        Args:
            status: of the file.
            more: the bytes to append.
        """
        if not status.st_size:
            return False
        if self.size is not None and status.st_size + more > self.size:
            return True
        if self.every is None:
            return False
        return _period(self.every, status.st_mtime) < _period(self.every, time.time())


def rotate(path: Path, descriptor: int) -> int:
    """Give the current file its rotated name and put an empty one with its rights in its place.

    The path names a file at every moment, so that no other process makes one of its own
    rights meanwhile. A process that is killed half-way leaves the current file current, maybe with
    two names, the second of which the next rotation finds again.

    Args:
        path: of the current file.
        descriptor: of the current file, locked.

    Returns:
        The descriptor of the new file, locked. After an error the old one is still current.

    Raises:
        OSError: the file system refuses a step.
    """
    status = os.fstat(descriptor)
    stamps = []
    for name, stamp, ending in _names(path):
        stamps.append(stamp)
        if ending == _NEW:
            path.with_name(name).unlink(missing_ok=True)
    target = _find_link(path) if status.st_nlink > 1 else None
    is_linked = target is not None
    target = target or _next_name(path, stamps)
    begun = target.with_name(target.name + _NEW)
    new = os.open(begun, _FLAGS, 0o600)
    try:
        # Before the file has its name, so nobody should be faster; nor is anybody waited for.
        fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
        copy_access(status, new)
        if not is_linked:  # a link never replaces a file, as a renaming would
            os.link(path, target, follow_symlinks=False)
        begun.replace(path)
    except BaseException:
        os.close(new)
        begun.unlink(missing_ok=True)
        raise
    return new


def rotated_files(path: Path) -> dict[Path, list[Path]]:
    """The rotated files of a path.

    Args:
        path: of the current file, which need not exist.

    Returns:
        ``PATH.STAMP``, oldest first, each with the names that are there: its own, the compressed
        ones, and those of files that are being made.

    Raises:
        OSError: the directory cannot be read.
    """
    found: dict[Path, list[Path]] = {}
    for name, stamp, _ in _names(path):
        found.setdefault(path.with_name(f"{path.name}.{stamp}"), []).append(path.with_name(name))
    return dict(sorted(found.items()))


def is_same_file(path: Path, other: Path) -> bool:
    """Whether both names are there and name one file."""
    try:
        return os.path.samestat(path.lstat(), other.lstat())
    except FileNotFoundError:
        return False


def delete_oldest(path: Path, keep: int) -> None:
    """Delete the oldest rotated files, so that so many stay.

    Args:
        path: of the current file.
        keep: how many.

    Raises:
        OSError: one cannot be deleted.
    """
    found = rotated_files(path)
    whole = [
        stem
        for stem, names in found.items()
        if {name.suffix for name in names} - {_NEW, _PART} and not is_same_file(stem, path)
    ]
    for stem in whole[:-keep]:
        for name in found[stem]:
            name.unlink(missing_ok=True)


def _names(path: Path) -> Iterator[tuple[str, str, str]]:
    """The names beside the path that are made of it: the whole, its stamp, and its ending."""
    start = len(path.name)
    for name in os.listdir(path.parent):  # noqa: PTH208 - names are what is compared
        if name.startswith(path.name) and (said := _NAME.fullmatch(name, start)):
            yield name, said[1], said[2]


def _find_link(path: Path) -> Path | None:
    """The rotated name that a killed process has already given to the current file."""
    for stem in rotated_files(path):
        if is_same_file(stem, path):
            return stem
    return None


def _next_name(path: Path, stamps: Iterable[str]) -> Path:
    """A name later than all that are there, also where the clock was put back."""
    moment = datetime.now(UTC)
    # Stamps are of one length, so that texts compare as moments do. What is far in the future
    # was made by hand, or under a clock that was very wrong: it does not count, as nothing could
    # come after the last stamp that there is. Readers, who go by names, still find it last.
    now, far = (when.strftime(_STAMP) for when in (moment, moment + _FAR))
    for stamp in sorted((stamp for stamp in set(stamps) if now <= stamp < far), reverse=True):
        try:
            moment = _moment(stamp) + timedelta(microseconds=1)
        except ValueError:  # such as a 31 February: of digits, and no moment
            continue
        break
    return path.with_name(f"{path.name}.{moment.strftime(_STAMP)}")


def _moment(stamp: str) -> datetime:
    """Not by ``strptime``, which imports: not possible for a process that has given up rights."""
    date, clock = stamp[:8], stamp[9:]
    return datetime(
        int(date[:4]),
        int(date[4:6]),
        int(date[6:]),
        int(clock[:2]),
        int(clock[2:4]),
        int(clock[4:6]),
        int(clock[7:13]),
        tzinfo=UTC,
    )


def _period(every: Period, moment: float) -> int:
    """The number of the hour, day, week or month in which a moment is."""
    if every == "hour":
        return int(moment // _HOUR)
    day = int(moment // _DAY)
    if every == "day":
        return day
    if every == "week":
        return (day + _MONDAY) // 7
    year, month = time.gmtime(moment)[:2]
    return year * 12 + month
