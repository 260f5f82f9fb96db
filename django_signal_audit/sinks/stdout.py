"""The stdout sink: lines for whoever collects the output of the process."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats.base import render_lines
from django_signal_audit.sinks._lock import SinkLock
from django_signal_audit.sinks.base import Sink, SinkConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks._urls import SinkURL

_STREAMS = ("stdout", "stderr")

# One for all sinks of the process: two of them may share a pipe, and so may both streams.
_process_lock = SinkLock()


class StdoutSink(Sink):
    """Writes whole lines to the standard output, or to the standard error.

    The lines of one ``emit`` are never mixed with those of another thread. Between processes
    that share one pipe the kernel keeps up to 4,096 bytes (``PIPE_BUF``) together; a
    file sink keeps lines of any length.

    Args:
        config: what every sink is given.
        stream: ``"stdout"`` or ``"stderr"``; looked up in ``sys`` at each ``emit``, so that
            a redirected stream is honoured. A format that knows colours, such as
            ``console``, uses them where it is a terminal; the environment variable
            ``NO_COLOR`` keeps them away, ``FORCE_COLOR`` brings them also to a pipe.

    Raises:
        AuditConfigurationError: ``stream`` is another word.
    """

    schemes: ClassVar[tuple[str, ...]] = ("stdout", "stderr")

    def __init__(
        self, config: SinkConfig, *, stream: Literal["stdout", "stderr"] = "stdout"
    ) -> None:
        super().__init__(config)
        if stream not in _STREAMS:
            raise AuditConfigurationError(
                f"Sink {config.alias!r}: stream is {stream!r}.",
                hint="Write 'stdout' or 'stderr'.",
                number="E024",
            )
        self._stream = stream
        self._torn = False

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
        with _process_lock:
            stream.flush()  # what was printed before comes before
            descriptor = _descriptor(stream)
            if descriptor is None:
                stream.write(block.decode("utf-8"))
                stream.flush()
            else:
                self._write(descriptor, block)

    def _write(self, descriptor: int, block: bytes) -> None:
        # After a block that was cut half-way the next line starts on a line of its own.
        rest = memoryview(b"\n" + block if self._torn else block)
        while rest:
            try:
                written = os.write(descriptor, rest)
            except BlockingIOError:  # a pipe that somebody made non-blocking is full: wait
                poll = select.poll()
                poll.register(descriptor, select.POLLOUT)
                poll.poll()
                continue
            rest = rest[written:]
            self._torn = bool(rest)


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
