"""Which events of a trail are wanted: the same choice in a database and in a file."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Final

from django.db.models import Q
from django.utils import timezone

from django_signal_audit.ids import lowest_uuid7

if TYPE_CHECKING:
    from django_signal_audit.event import Actor, AuditEvent
    from django_signal_audit.models import AuditRecordQuerySet

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class TrailFilter:
    """Which events of a trail are wanted; what is left out does not filter.

    Attributes:
        since: first moment included; naive values are in the default time zone.
        until: first moment left out.
        object_type: ``app_label.model``, in any case.
        object_id: the object's key as text; it needs ``object_type``.
        actor: ``type:id``, an id, a label, or the type of actors that have no id.
        event: patterns such as ``model.*``; one of them must match.

    Raises:
        ValueError: a text is empty, ``object_id`` stands alone, or the time span is empty.
    """

    since: datetime | None = None
    until: datetime | None = None
    object_type: str | None = None
    object_id: str | None = None
    actor: str | None = None
    event: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "" in (self.object_type, self.object_id, self.actor, *self.event):
            # An actor without a label has the label "": an empty text would match by accident.
            raise ValueError("A filter's text is empty; leave the filter out instead.")
        if self.object_id is not None and self.object_type is None:
            raise ValueError("object_id needs object_type: keys repeat from model to model.")
        if self.since and self.until and _aware(self.since) >= _aware(self.until):
            raise ValueError("since must be before until.")

    def matches(self, event: AuditEvent) -> bool:
        """Whether an event is wanted."""
        return (
            (self._lowest is None or event.id >= self._lowest)
            and (self._end is None or event.id < self._end)
            and (self._type is None or event.object_type == self._type)
            and (self.object_id is None or event.object_id == self.object_id)
            and (self.actor is None or self._is_actor(event.actor))
            and (not self.event or any(fnmatchcase(event.event, p) for p in self.event))
        )

    def narrow(self, records: AuditRecordQuerySet) -> AuditRecordQuerySet:
        """Let the database leave out what it can: the wanted records, and maybe some more.

        What a pattern says beyond its first wildcard, and how databases compare text (SQLite
        and MySQL ignore case here and there), is left to ``matches``.
        """
        records = records.filter(self._event_condition())
        if self._lowest is not None:
            records = records.filter(id__gte=self._lowest)
        if self._end is not None:
            records = records.filter(id__lt=self._end)
        if self._type is not None:
            records = records.filter(object_type=self._type)
        if self.object_id is not None:
            records = records.filter(object_id=self.object_id)
        if self.actor is not None:
            records = records.filter(_actor_condition(self.actor))
        return records

    @cached_property
    def _lowest(self) -> uuid.UUID | None:
        return _lowest_id(self.since)

    @cached_property
    def _end(self) -> uuid.UUID | None:
        return _lowest_id(self.until)

    @cached_property
    def _type(self) -> str | None:
        return self.object_type and self.object_type.lower()

    def _is_actor(self, actor: Actor | None) -> bool:
        if actor is None:
            return False
        if self.actor in (actor.id, actor.label):
            return True
        return self.actor == (actor.type if actor.id is None else f"{actor.type}:{actor.id}")

    def _event_condition(self) -> Q:
        condition = Q()
        for pattern in self.event:
            head = _literal_head(pattern)
            if not head:
                return Q()
            condition |= Q(event=head) if head == pattern else Q(event__startswith=head)
        return condition


def _actor_condition(text: str) -> Q:
    condition = Q(actor_id=text) | Q(actor_label=text) | Q(actor_type=text, actor_id__isnull=True)
    kind, colon, key = text.partition(":")
    return condition | Q(actor_type=kind, actor_id=key) if colon else condition


def _literal_head(pattern: str) -> str:
    """What stands before the first wildcard."""
    for position, character in enumerate(pattern):
        if character in "*?[":
            return pattern[:position]
    return pattern


def _lowest_id(moment: datetime | None) -> uuid.UUID | None:
    # Identifiers begin in 1970: no event is older, and no older moment has one.
    return None if moment is None else lowest_uuid7(max(_aware(moment), _EPOCH))


def _aware(moment: datetime) -> datetime:
    if timezone.is_aware(moment):
        return moment
    return timezone.make_aware(moment, timezone.get_default_timezone())
