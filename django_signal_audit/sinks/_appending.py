"""Appends whole lines to a file, or leaves it as it was."""

from __future__ import annotations

import errno
import os
from typing import Final

_NEWLINE: Final = b"\n"


def append_lines(descriptor: int, size: int, block: bytes) -> int:
    """Append lines with one ``write``; a line that was left torn before them is ended.

    The caller holds whatever lock keeps others from writing.

    Args:
        descriptor: of a file opened for reading and appending.
        size: of the file now, in bytes.
        block: whole lines.

    Returns:
        The size afterwards.

    Raises:
        OSError: nothing was added: what was written in part is cut off again, or, where that
            is impossible, ended by the next call.
    """
    if size and os.pread(descriptor, 1, size - 1) != _NEWLINE:
        block = _NEWLINE + block
    try:
        _write(descriptor, block)
    except BaseException as error:
        try:
            os.ftruncate(descriptor, size)
        except OSError as cut_error:  # such as an append-only file
            error.add_note(f"What was written in part could not be cut off again: {cut_error}")
        raise
    return size + len(block)


def _write(descriptor: int, block: bytes) -> None:
    written = os.write(descriptor, block)
    if written < len(block):
        raise OSError(
            errno.ENOSPC,
            f"only {written} of {len(block)} bytes could be written, and were taken back. "
            f"Make room on the file system, or raise the limit on the size of files",
        )
