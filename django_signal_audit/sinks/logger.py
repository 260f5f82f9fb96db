"""The logger sink: events for the program's own structlog or ``logging``."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import structlog
from django.core import checks

from django_signal_audit.event import LEVELS
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats._visible import visible
from django_signal_audit.sinks.base import Sink, SinkConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks._urls import SinkURL

_CHOICES: Final = {"library": ("auto", "structlog", "stdlib"), "message": ("line", "event")}

# The event is the first argument and the level the method. TimeStamper would overwrite the time,
# and ``logging`` refuses a value of the name "message".
_RENAMED: Final = {"timestamp": "audit_timestamp", "message": "audit_message"}
_LEFT_OUT: Final = ("event", "level")


class LoggerSink(Sink):
    """Hands each event to a logger of the program, at the event's level.

    What happens then is decided by the program's ``LOGGING`` or by its structlog processors. A
    handler that fails reports that itself, as ``logging`` does, and the event counts as written.
    There is no lock around the loggers, whose own locks could wait for it: the events of
    two transactions may come mixed.

    Args:
        config: what every sink is given; its format makes the message for ``logging``.
        logger: the logger's name.
        library: ``"structlog"``, ``"stdlib"`` for ``logging``, or ``"auto"``: structlog where the
            program has configured it, looked up at each ``emit``.
        message: for ``logging``: ``"line"``, which any handler shows whole, or ``"event"``, the
            event's name alone, for handlers that write the record's ``audit`` as well.

    Raises:
        AuditConfigurationError: an option has a value that it cannot have.
    """

    default_format: ClassVar[str] = "logfmt"
    is_lasting: ClassVar[bool] = False

    def __init__(
        self,
        config: SinkConfig,
        *,
        logger: str = "audit",
        library: Literal["auto", "structlog", "stdlib"] = "auto",
        message: Literal["line", "event"] = "line",
    ) -> None:
        super().__init__(config)
        if not _is_name(logger):
            raise _wrong(config, "logger", logger, "Write the name of a logger, such as 'audit'.")
        for option, value in (("library", library), ("message", message)):
            good = _CHOICES[option]
            if value not in good:
                hint = f"Choose one of {', '.join(map(repr, good))}."
                raise _wrong(config, option, value, hint)
        self._name = logger
        self._library = library
        self._message = message

    @classmethod
    def options_from_url(cls, url: SinkURL) -> dict[str, object]:
        """``logger://shop.audit`` names the logger."""
        return super().options_from_url(url.with_host_as("logger"))

    def emit(self, events: Sequence[AuditEvent]) -> None:
        """Hand the events over, one call of the logger each.

        Args:
            events: the events of one transaction. If the logger raises, those before are logged
                and those after are not.

        Raises:
            Exception: whatever the logger raised.
            TypeError: the logger is async.
        """
        log = self._log_structured if self._uses_structlog() else self._log_plain
        for event in events:
            log(event)

    def check(self) -> list[checks.CheckMessage]:
        """Whether the logger lets the events pass at all."""
        if self._uses_structlog():
            return []  # only its processors know
        level = max(self.config.level, LEVELS["info"])
        if logging.getLogger(self._name).isEnabledFor(level):
            return []
        name = logging.getLevelName(level)
        return [
            checks.Warning(
                f"Sink {self.alias!r}: the logger {self._name!r} drops events of level {name}.",
                hint=f"Give it a level of {name} or lower in LOGGING['loggers'], or give the "
                "sink a higher LEVEL.",
                id="django_signal_audit.W206",
            )
        ]

    def _uses_structlog(self) -> bool:
        return self._library == "structlog" or (
            self._library == "auto" and structlog.is_configured()
        )

    def _log_plain(self, event: AuditEvent) -> None:
        logger = logging.getLogger(self._name)
        level = LEVELS[event.level]
        if not logger.isEnabledFor(level):
            return
        message = visible(event.event)
        if self._message == "line":
            try:
                message = self.config.format(event).decode()
            except structlog.DropEvent:
                return
        logger.log(level, message, extra={"audit": event.own_dict()})

    def _log_structured(self, event: AuditEvent) -> None:
        fields = {
            _RENAMED.get(name, name): value
            for name, value in event.own_dict().items()
            if name not in _LEFT_OUT
        }
        logger = structlog.get_logger(self._name)
        result: Any = getattr(logger, event.level)(visible(event.event), **fields)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                f"Sink {self.alias!r}: structlog's logger {self._name!r} is async, and nothing "
                "would await it. Configure a wrapper_class whose methods are not async."
            )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _wrong(config: SinkConfig, option: str, value: object, hint: str) -> AuditConfigurationError:
    return AuditConfigurationError(
        f"Sink {config.alias!r}: {option} is {value!r}.", hint=hint, number="E024"
    )
