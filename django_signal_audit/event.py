"""The one value that flows through the house: ``AuditEvent``, with its actor and outcome."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

SCHEMA_VERSION: Final = 1

REDACTED: Final = "[redacted]"

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""The levels of structlog and of ``logging``, with the numbers of the latter."""


class Outcome(StrEnum):
    """How an act ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted, as text: the trail never points at a row that may be deleted.

    Attributes:
        type: ``user``, ``service``, ``api_key``, ``task``, ``command``, ``system`` or
            ``anonymous``; any other word is kept as it is.
        id: the actor's key as a string, ``None`` where there is none.
        label: a name for people, such as the username.
    """

    type: str
    id: str | None = None
    label: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The actor as the published JSON shape."""
        return {"type": self.type, "id": self.id, "label": self.label}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Actor:
        """Read an actor back from its published JSON shape."""
        return cls(value["type"], value.get("id"), value.get("label") or "")


def format_timestamp(value: datetime) -> str:
    """ISO 8601 in UTC with microseconds and a ``Z``, as every timestamp of the trail."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One immutable fact. Every value in it is already redacted and safe for JSON.

    The meaning of each field is in the reference (``docs/reference/events.md``) and in
    the published JSON Schema (``schema/event.v1.json``).
    """

    id: uuid.UUID
    timestamp: datetime
    event: str
    level: str = "info"
    outcome: Outcome = Outcome.SUCCESS
    sender: str = ""
    message: str = ""
    object_type: str | None = None
    object_id: str | None = None
    object_repr: str = ""
    changes: dict[str, Any] | None = None
    actor: Actor | None = None
    on_behalf_of: Actor | None = None
    reason: str | None = None
    cause: uuid.UUID | None = None
    duration_ms: float | None = None
    error: dict[str, str] | None = None
    context: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    database: str | None = None
    transaction: uuid.UUID | None = None
    rolled_back: bool = False
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """The published shape: a plain dict in the field order of the schema, all JSON types."""
        return {
            "id": str(self.id),
            "timestamp": format_timestamp(self.timestamp),
            "event": self.event,
            "level": self.level,
            "outcome": self.outcome.value,
            "sender": self.sender,
            "message": self.message,
            "object_type": self.object_type,
            "object_id": self.object_id,
            "object_repr": self.object_repr,
            "changes": self.changes,
            "actor": self.actor.to_dict() if self.actor else None,
            "on_behalf_of": self.on_behalf_of.to_dict() if self.on_behalf_of else None,
            "reason": self.reason,
            "cause": str(self.cause) if self.cause else None,
            "duration_ms": self.duration_ms,
            "error": self.error,
            "context": self.context,
            "data": self.data,
            "database": self.database,
            "transaction": str(self.transaction) if self.transaction else None,
            "rolled_back": self.rolled_back,
            "schema_version": self.schema_version,
        }

    def own_dict(self) -> dict[str, Any]:
        """``to_dict()`` for those who may change it: its containers are the caller's own."""
        return {name: _copied(value) for name, value in self.to_dict().items()}

    def as_rolled_back(self) -> AuditEvent:
        """The same event, marked as made in a transaction (or savepoint) that failed."""
        return self if self.rolled_back else replace(self, rolled_back=True)


def _copied(value: Any) -> Any:
    """A copy of plain JSON types; nothing else is in an event."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if type(value) is list else value


EVENT_FIELDS: Final = tuple(f.name for f in fields(AuditEvent))
