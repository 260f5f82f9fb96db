"""The memory sink: keeps events in the process, for tests and for a first look."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks._lock import SinkLock
from django_signal_audit.sinks.base import Sink, SinkConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_signal_audit.event import AuditEvent


class MemorySink(Sink):
    """Keeps events in a list of this process; they are gone when it ends.

    Args:
        config: what every sink is given.
        capacity: how many events are kept, the newest; ``None`` for all.

    Raises:
        AuditConfigurationError: ``capacity`` is not a positive number.
    """

    development_only: ClassVar[bool] = True
    is_lasting: ClassVar[bool] = False

    def __init__(self, config: SinkConfig, *, capacity: int | None = None) -> None:
        super().__init__(config)
        if not _is_capacity(capacity):
            raise AuditConfigurationError(
                f"Sink {config.alias!r}: capacity is {capacity!r}.",
                hint="Write a positive number, or None to keep every event.",
                number="E024",
            )
        self._lock = SinkLock()
        self._events: deque[AuditEvent] = deque(maxlen=capacity)

    @property
    def events(self) -> list[AuditEvent]:
        """The events kept so far, oldest first; a list of the caller's own."""
        with self._lock:
            return list(self._events)

    def emit(self, events: Sequence[AuditEvent]) -> None:
        """Keep the events.

        Args:
            events: the events of one transaction; they stay together.
        """
        with self._lock:
            self._events.extend(events)

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._events.clear()


def _is_capacity(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
