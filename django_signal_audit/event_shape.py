"""Reads an event back from its published shape, ``AuditEvent.to_dict()``."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from django_signal_audit.event import EVENT_FIELDS, SCHEMA_VERSION, Actor, AuditEvent, Outcome

_NAMES: Final = frozenset(EVENT_FIELDS)
_OPTIONAL_TEXT: Final = (str, type(None))
_OPTIONAL_OBJECT: Final = (dict, type(None))
_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    **dict.fromkeys(("id", "timestamp", "event", "level", "outcome"), str),
    **dict.fromkeys(("sender", "message", "object_repr"), str),
    **dict.fromkeys(("object_type", "object_id", "reason", "database"), _OPTIONAL_TEXT),
    **dict.fromkeys(("cause", "transaction"), _OPTIONAL_TEXT),
    **dict.fromkeys(("changes", "error", "actor", "on_behalf_of"), _OPTIONAL_OBJECT),
    **dict.fromkeys(("context", "data"), dict),
    "duration_ms": (int, float, type(None)),
    "rolled_back": bool,
}


def event_from_dict(value: Any) -> AuditEvent:
    """Read an event back from its published shape, ``AuditEvent.to_dict()``.

    Raises:
        ValueError: the value has not that shape, or that of another schema version.
    """
    if not isinstance(value, dict) or value.keys() != _NAMES:
        raise ValueError("An event is an object with exactly the fields of the schema.")
    if value["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"This is schema version {value['schema_version']!r}, not 1.")
    for name, kinds in _KINDS.items():
        if not isinstance(value[name], kinds):
            raise ValueError(f"{name} is {value[name]!r}.")  # noqa: TRY004 - damage, not misuse
    timestamp = datetime.fromisoformat(value["timestamp"])
    if timestamp.tzinfo is None:
        raise ValueError("The timestamp has no time zone.")
    return AuditEvent(
        **value
        | {
            "id": uuid.UUID(value["id"]),
            "timestamp": timestamp,
            "outcome": Outcome(value["outcome"]),
            "actor": _actor(value["actor"]),
            "on_behalf_of": _actor(value["on_behalf_of"]),
            "cause": _uuid_or_none(value["cause"]),
            "transaction": _uuid_or_none(value["transaction"]),
        }
    )


def _actor(value: dict[str, Any] | None) -> Actor | None:
    if value is None:
        return None
    if not (isinstance(value.get("type"), str) and isinstance(value.get("id"), _OPTIONAL_TEXT)):
        raise ValueError(f"{value!r} is no actor.")  # noqa: TRY004 - damage, not misuse
    return Actor.from_dict(value)


def _uuid_or_none(value: str | None) -> uuid.UUID | None:
    return None if value is None else uuid.UUID(value)
