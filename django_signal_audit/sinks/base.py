"""The contract of a sink.

A sink of your own is one file with one class that derives from ``Sink`` and implements
``emit``. Options are the keyword arguments of ``__init__`` after ``config``; an option
that the signature does not know is a system check error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

from django.core.checks import ERROR

from django_signal_audit.event import LEVELS
from django_signal_audit.sinks._urls import options_of

if TYPE_CHECKING:
    import uuid

    from django.core.checks import CheckMessage
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.formats import Formatter
    from django_signal_audit.sinks._urls import SinkURL

Promise = Literal["transactional", "at-least-once", "at-most-once"]
"""What a sink keeps, a kill included.

- ``transactional``: the record is there exactly if the change is.
- ``at-least-once``: every event is there, maybe twice.
- ``at-most-once``: no event is there twice; a failure or a kill may lose some.
"""


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """What every sink is given beside its own options.

    Attributes:
        alias: the key in ``SIGNAL_AUDIT["SINKS"]``, for messages.
        format: turns an event into one line of text without its newline; sinks that
            do not write text ignore it.
        terminal_format: the same for a terminal, with colours; ``None`` where that is no other.
        level: number of the lowest level that goes here, as in ``logging``.
    """

    alias: str
    format: Formatter
    terminal_format: Formatter | None = None
    level: int = LEVELS["debug"]


class Sink:
    """Base of all sinks: where events go."""

    transactional: ClassVar[bool] = False
    """True: ``emit`` runs inside the transaction, just before COMMIT. False: just after."""

    promise: ClassVar[Promise] = "at-most-once"
    """What the sink keeps of the events that it is given; what ``ON_ERROR`` adds is added to it."""

    is_lasting: ClassVar[bool] = True
    """False: what the sink has taken may be gone all the same, whatever ``ON_ERROR`` says."""

    default_format: ClassVar[str] = "json"
    """The format used where the settings name none."""

    development_only: ClassVar[bool] = False
    """True: ``check --deploy`` warns where this sink is configured."""

    schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes of the sink's URLs. For a sink of this package the name of its module, where it
    names none; a sink of your own is named in the URL by ``backend=``."""

    def __init__(self, config: SinkConfig) -> None:
        self.config = config

    @classmethod
    def options_from_url(cls, url: SinkURL) -> dict[str, object]:
        """What a URL says, as the keyword arguments of ``__init__``.

        As it stands, a parameter is the option of its name, converted by its annotation, and so
        are the parts ``username``, ``password``, ``host``, ``port`` and ``path``. Override it
        where a part means something else. It may be called while settings are being read.

        Args:
            url: the URL, without the keys of ``SINKS`` such as ``format``.

        Raises:
            AuditConfigurationError: the URL says what the sink does not take; see
                ``SinkURL.error``.
        """
        return options_of(cls, url)

    @property
    def alias(self) -> str:
        """The sink's key in the settings."""
        return self.config.alias

    def emit(self, events: Sequence[AuditEvent]) -> None:
        """Write the events of one transaction, in order, all or none.

        Returning means that they are written as durably as the sink promises; raising means
        that they are not. It may not use the ORM while a transaction is being
        committed.

        Args:
            events: at least one event, already redacted and safe for JSON.

        Raises:
            Exception: whatever went wrong; the caller applies the sink's ``ON_ERROR``.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement emit(events)")

    def flush(self) -> None:
        """Hand over what is buffered. The default sink buffers nothing."""

    def close(self) -> None:
        """Release files and connections; ``emit`` after ``close`` opens them again."""

    def check(self) -> list[CheckMessage]:
        """System check messages of this sink, such as a path that cannot be written."""
        return []

    def health(self) -> list[str]:
        """What keeps the sink from writing now, for ``manage.py audit_status``.

        Unlike ``check``, it may ask a server.

        Returns:
            A sentence for each problem; as it stands, the errors of ``check``.
        """
        return [
            f"{m.msg} {m.hint or ''}".removeprefix(f"Sink {self.alias!r}: ").strip()
            for m in self.check()
            if m.level >= ERROR
        ]


class TransactionalSink(Sink):
    """Base of sinks that write into the very transaction whose events they are given."""

    transactional = True
    promise: ClassVar[Promise] = "transactional"

    def write(
        self,
        connection: BaseDatabaseWrapper,
        events: Sequence[AuditEvent],
        *,
        ignore_existing: bool = False,
    ) -> None:
        """Write events through a connection, inside whatever transaction it has open.

        Args:
            connection: of the database the events belong to.
            events: at least one event.
            ignore_existing: an event whose id is stored already is left as it is; used
                where it is unknown whether a COMMIT reached the database.

        Raises:
            Exception: whatever went wrong; the caller rolls back or counts the loss.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement write(...)")

    follows_commit: bool = False
    """True: ``committed`` is called after each COMMIT that has written events."""

    def committed(
        self, connection: BaseDatabaseWrapper, ids: Sequence[uuid.UUID], *, complete: bool
    ) -> None:
        """Follow up on a COMMIT, outside of any transaction; nothing can be rolled back any more.

        Args:
            connection: that has committed; it is in autocommit mode.
            ids: of events that it wrote.
            complete: whether these are all; large transactions are not remembered event by event.
        """

    @final
    def emit(self, events: Sequence[AuditEvent]) -> None:
        """Not used: a transactional sink needs to know the connection."""
        raise TypeError(f"{type(self).__name__} is transactional; call write(connection, events)")
