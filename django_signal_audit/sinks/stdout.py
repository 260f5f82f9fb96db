"""The stdout sink: lines for whoever collects the output of the process."""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats.base import render_lines
from django_signal_audit.sinks._lock import SinkLock
from django_signal_audit.sinks._outlet import Mark, Outlet, forget_inherited
from django_signal_audit.sinks.base import Sink, SinkConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks._urls import SinkURL

_STREAMS = ("stdout", "stderr")
_LONGEST = 86_400

# One for all sinks of the process: two of them may share a pipe, and so may both streams.
_process_lock = SinkLock(after_fork=forget_inherited)


class StdoutSink(Sink):
    """Writes whole lines to the standard output, or to the standard error.

    The lines of one ``emit`` are never mixed with those of another, in whatever thread or process
    that shares the stream. A reader that takes nothing keeps an ``emit`` waiting for ``timeout``
    seconds, and later ones not at all until it reads again.

    Args:
        config: what every sink is given.
        stream: ``"stdout"`` or ``"stderr"``; looked up in ``sys`` at each ``emit``, so that
            a redirected stream is honoured. A format that knows colours, such as
            ``console``, uses them where it is a terminal; the environment variable
            ``NO_COLOR`` keeps them away, ``FORCE_COLOR`` brings them also to a pipe.
        timeout: how many seconds an ``emit`` waits at most, for its turn and for the reader.

    Raises:
        AuditConfigurationError: ``stream`` is another word, or ``timeout`` no number above 0.
    """

    schemes: ClassVar[tuple[str, ...]] = ("stdout", "stderr")

    def __init__(
        self,
        config: SinkConfig,
        *,
        stream: Literal["stdout", "stderr"] = "stdout",
        timeout: float = 1.0,
    ) -> None:
        super().__init__(config)
        if stream not in _STREAMS:
            raise self._mistake("stream", stream, "Write 'stdout' or 'stderr'.")
        if not _is_time(timeout):
            hint = f"Write a number of seconds above 0, at most {_LONGEST}."
            raise self._mistake("timeout", timeout, hint)
        self._stream = stream
        self._timeout = timeout
        self._stalled: tuple[int, int] | None = None
        self._torn: tuple[int, int] | None = None
        self._mark: Mark | None = None

    @classmethod
    def options_from_url(cls, url: SinkURL) -> dict[str, object]:
        """``stderr://`` is short for ``stdout://?stream=stderr``."""
        if url.scheme.lower() == "stderr":
            url = url.with_parameter("stream", "stderr")
        return super().options_from_url(url)

    def emit(self, events: Sequence[AuditEvent]) -> None:
        """Write the events as lines.

        Args:
            events: the events of one transaction.

        Raises:
            BrokenPipeError: nobody reads any more.
            TimeoutError: the reader, or who else writes, has kept it waiting. Of more than
                4,096 bytes a part may be written; the next line is then one of its own.
            OSError: the stream could not be written, or it is ``None``.
            ValueError: the stream is closed.
        """
        stream = getattr(sys, self._stream)
        if stream is None:
            raise OSError(
                f"Sink {self.alias!r}: sys.{self._stream} is None, the process has no such "
                f"stream. Use a file sink."
            )
        plain, coloured = self.config.format, self.config.terminal_format
        line = coloured if coloured is not None and _takes_colours(stream) else plain
        block = render_lines(line, events)
        if not block:
            return
        until = time.monotonic() + self._timeout
        if not _process_lock.acquire(timeout=self._timeout):
            raise self._late("other threads were writing. Use a file sink")
        try:
            descriptor = _descriptor(stream)
            if descriptor is None:
                stream.flush()  # what was printed before comes before
                stream.write(block.decode("utf-8"))
                stream.flush()
            else:
                self._write(stream, descriptor, block, until)
        finally:
            _process_lock.release()

    def close(self) -> None:
        """Take back what other processes are told; the next ``emit`` goes on all the same."""
        with _process_lock:
            self._unmark()

    def _write(self, stream: Any, descriptor: int, block: bytes, until: float) -> None:
        with Outlet(descriptor) as outlet:
            was_stalled, self._stalled = self._stalled == outlet.identity, None
            try:
                if not outlet.lock(0 if was_stalled else until):
                    raise self._late("other processes were writing. Look for one that is stopped")
                # Asked first whether there is room, for a flush would wait for ever.
                if not outlet.flush(stream, 0 if was_stalled else until):
                    raise self._blocked(0, block)
                if not self._write_block(outlet, descriptor, block, until):
                    raise self._blocked(outlet.written, block)
            except TimeoutError:
                self._stalled = outlet.identity
                raise

    def _write_block(self, outlet: Outlet, descriptor: int, block: bytes, until: float) -> bool:
        if self._torn == outlet.identity or outlet.is_marked():
            block = b"\n" + block
        try:
            return outlet.write(block, until)
        finally:
            if outlet.written:
                self._unmark()
                self._torn = None
            if 0 < outlet.written < len(block):
                self._torn = outlet.identity
                self._mark = Mark(descriptor)

    def _unmark(self) -> None:
        if self._mark is not None:
            self._mark.remove()
            self._mark = None

    def _blocked(self, written: int, block: bytes) -> TimeoutError:
        return self._late(
            f"its reader took {written} of {len(block)} bytes. Let it read on, or use a file sink"
        )

    def _late(self, reason: str) -> TimeoutError:
        return TimeoutError(
            errno.ETIMEDOUT,
            f"Sink {self.alias!r}: sys.{self._stream} could not be written within "
            f"{self._timeout} seconds: {reason}, or give the sink a longer timeout.",
        )

    def _mistake(self, name: str, value: object, hint: str) -> AuditConfigurationError:
        problem = f"Sink {self.alias!r}: {name} is {value!r}."
        return AuditConfigurationError(problem, hint=hint, number="E024")


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value <= _LONGEST


def _takes_colours(stream: Any) -> bool:
    """Whether a format may use colours: on a terminal, unless the environment says otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no such method, or closed
        return False


def _descriptor(stream: Any) -> int | None:
    """The stream's file descriptor; ``None`` for one that lives in memory, such as StringIO."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
        return None
    # Proxies such as Celery's have a fileno() that returns None.
    return descriptor if isinstance(descriptor, int) and descriptor >= 0 else None
