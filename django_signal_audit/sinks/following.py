"""Sinks that act on what was committed, as soon as no transaction is open any more."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from django_signal_audit import context
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import routing
from django_signal_audit.sinks.base import TransactionalSink

if TYPE_CHECKING:
    import uuid

    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_signal_audit.event import AuditEvent

LIMIT: Final = 500
"""How many committed events are remembered one by one."""


@dataclass(slots=True)
class Committed:
    """Events that were committed, until the sinks that follow a commit are told.

    Attributes:
        ids: of the events, in order; a bounded number of them.
        complete: whether these are all.
    """

    ids: list[uuid.UUID] = field(default_factory=list)
    complete: bool = True

    def __bool__(self) -> bool:
        return bool(self.ids) or not self.complete

    def add(self, events: Iterable[AuditEvent], *, complete: bool = True) -> None:
        """Remember more of them, while there is room and a sink wants to know.

        Args:
            events: that were committed.
            complete: whether these are all.
        """
        if not followers():
            return
        room = LIMIT - len(self.ids)
        more = [event.id for event in itertools.islice(events, room + 1)]
        self.ids += more[:room]
        self.complete = self.complete and complete and len(more) <= room

    def tell(self, connection: BaseDatabaseWrapper) -> None:
        """Tell the sinks, and forget.

        Args:
            connection: that has committed; it is in autocommit mode.
        """
        ids, complete = self.ids, self.complete
        self.forget()
        with context.suspend_audit():
            for sink in followers():
                sink.committed(connection, ids, complete=complete)

    def forget(self) -> None:
        """Start anew."""
        self.ids, self.complete = [], True


def followers() -> list[TransactionalSink]:
    """The sinks that want to know; none if the settings are wrong by now."""
    try:
        sinks = [route.sink for route in routing.all_routes()]
    except AuditConfigurationError:
        return []
    return [sink for sink in sinks if isinstance(sink, TransactionalSink) and sink.follows_commit]
