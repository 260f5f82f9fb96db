"""How far a command is, on a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from django.core.management.base import OutputWrapper

_INTERVAL: Final = 0.2
_CLEAR_LINE: Final = "\r\x1b[K"


class Progress:
    """One line that counts: ``12,000 events, 45,000 a second``.

    Args:
        stream: where it is shown, usually ``self.stderr`` of a command.
        shown: show nothing if false.
    """

    def __init__(self, stream: OutputWrapper, *, shown: bool) -> None:
        self.count = 0
        self._stream = stream
        self._shown = shown
        self._started = time.monotonic()
        self._next = self._started + _INTERVAL

    def step(self) -> None:
        """Count one more."""
        self.count += 1
        if self._shown and time.monotonic() >= self._next:
            self._show()

    def clear(self) -> None:
        """Take the line away, so that a message can stand there."""
        if self._shown:
            self._write("")

    def _show(self) -> None:
        now = time.monotonic()
        self._next = now + _INTERVAL
        rate = self.count / (now - self._started)
        self._write(f"{self.count:,} events, {rate:,.0f} a second")

    def _write(self, text: str) -> None:
        # A style of its own: Django colours what goes to stderr as an error.
        self._stream.write(f"{_CLEAR_LINE}{text}", _plain, ending="")
        self._stream.flush()


def _plain(text: str) -> str:
    return text
