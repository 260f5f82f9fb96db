"""The options of the file sink, and what may be wrong with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks._compression import Compression, zstd_library
from django_signal_audit.sinks._disk import EXECUTABLE
from django_signal_audit.sinks._rotation import Period

FsyncPolicy = Literal["never", "interval", "commit"]

_ALL_PERMISSIONS: Final = 0o777
_OWN: Final = 0o600  # of the owner, to read and to write
_LONGEST: Final = 86_400


@dataclass(frozen=True, slots=True)
class FileOptions:
    """The options as they were given, so of any type; ``FileSink`` says what they mean."""

    path: object
    fsync: object
    fsync_interval: object
    mode: object
    rotate_bytes: object
    rotate_every: object
    compress: object
    keep: object
    timeout: object


def mistakes(alias: str, options: FileOptions) -> Iterator[AuditConfigurationError]:
    """What is wrong with the options.

    Args:
        alias: of the sink.
        options: what was given.
    """
    for name, hint in (*_wrong_writing(options), *_wrong_rotation(options)):
        problem = f"Sink {alias!r}: {name} is {getattr(options, name)!r}."
        yield AuditConfigurationError(problem, hint=hint, number="E024")
    if options.compress == "zstd":
        try:
            zstd_library()
        except AuditConfigurationError as missing:
            problem = f"Sink {alias!r}: compress is 'zstd'. {missing.problem}"
            yield AuditConfigurationError(problem, hint=missing.hint, number="E024")


def _wrong_writing(options: FileOptions) -> Iterator[tuple[str, str]]:
    path, mode = options.path, options.mode
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text or "\0" in text:
        yield "path", "Write the path of a file, such as '/var/log/app/audit.jsonl'."
    if options.fsync not in get_args(FsyncPolicy):
        yield "fsync", "Write 'never', 'interval' or 'commit'."
    if not _is_seconds(options.fsync_interval, sys.float_info.max):
        yield "fsync_interval", "Write a number of seconds above 0."
    if not _is_seconds(options.timeout, _LONGEST):
        yield "timeout", f"Write a number of seconds above 0, at most {_LONGEST}."
    if isinstance(mode, bool) or not (isinstance(mode, int) and 0 <= mode <= _ALL_PERMISSIONS):
        yield "mode", "Write a number of permissions such as 0o640."
    elif mode & EXECUTABLE:
        yield (
            "mode",
            f"Nobody runs a trail: write {oct((mode | _OWN) & ~EXECUTABLE)}, so that nobody can.",
        )
    elif mode & _OWN != _OWN:
        yield (
            "mode",
            f"The sink reads and writes its file: write {oct(mode | _OWN)}.",
        )


def _wrong_rotation(options: FileOptions) -> Iterator[tuple[str, str]]:
    if options.rotate_bytes is not None and not _is_count(options.rotate_bytes):
        yield "rotate_bytes", "Write a whole number of bytes above 0, such as 100_000_000."
    if options.rotate_every not in (None, *get_args(Period)):
        yield "rotate_every", "Write 'hour', 'day', 'week' or 'month'."
    if options.compress not in (None, *get_args(Compression)):
        yield "compress", "Write 'gzip' or 'zstd'."
    if options.keep is not None and not _is_count(options.keep):
        yield "keep", "Write a whole number of files above 0, or leave it out to keep all."
    if options.rotate_bytes is None and options.rotate_every is None:
        for name in ("compress", "keep"):
            if getattr(options, name) is not None:
                yield (
                    name,
                    "It is about rotated files: write 'rotate_bytes' or 'rotate_every' as well.",
                )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_seconds(value: object, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most
