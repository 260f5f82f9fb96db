"""The keys of the rows that a call is about, in little memory however many they are."""

from __future__ import annotations

import pickle
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_IN_MEMORY: Final = 100_000
"""Bytes, before the keys go to a file."""


class FoundKeys:
    """Keys in the order they were found, written once and read back in chunks.

    Args:
        file: an empty one.
        size: keys in a chunk.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size
        self._end = 0
        self._last: list[Any] = []

    def add(self, keys: Iterable[Any]) -> None:
        """Keep keys, before the first are read."""
        for key in keys:
            self._last.append(key)
            if len(self._last) == self._size:
                pickle.dump(self._last, self._file, protocol=pickle.HIGHEST_PROTOCOL)
                self._end = self._file.tell()
                self._last = []

    def chunks(self) -> Iterator[list[Any]]:
        """The keys, as often as they are asked for."""
        position = 0
        while position < self._end:
            self._file.seek(position)
            chunk: list[Any] = pickle.load(self._file)  # noqa: S301 - our own, unlinked file
            position = self._file.tell()
            yield chunk
        if self._last:
            yield self._last


@contextmanager
def found_keys(size: int) -> Iterator[FoundKeys]:
    """A place for keys while the block runs.

    Args:
        size: keys in a chunk.
    """
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, prefix="signal-audit-") as file:
        yield FoundKeys(file, size)
