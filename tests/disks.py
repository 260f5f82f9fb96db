"""A small disk that can be filled."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def small_disk(path, *, kilobytes):
    """A file system in memory, of this size; where none can be mounted the test is skipped.

    ``REQUIRE_FAULTS=1`` forbids skipping.
    """
    path.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "audit-test", str(path)],
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"no small disk can be mounted: {error}"
        if os.environ.get("REQUIRE_FAULTS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield path
    finally:
        # Lazily: whatever a test has left open there.
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk, *, spare=0):
    """Fill a disk but for some bytes; the file that does so."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            _write_for_ever(file)
        file.truncate(max(0, file.tell() - spare))
    return filler


def _write_for_ever(file):
    while True:
        file.write(b"x" * 4096)
