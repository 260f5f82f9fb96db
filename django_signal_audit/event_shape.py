"""Reads an event back from its published shape, ``AuditEvent.to_dict()``."""

from __future__ import annotations

import math
import re
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from django_signal_audit.event import (
    EVENT_FIELDS,
    LEVELS,
    REDACTED,
    SCHEMA_VERSION,
    Actor,
    AuditEvent,
    Outcome,
)

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
_YEARS: Final = range(1000, 9999)
_ID_VERSION: Final = 7
_OLD_AND_NEW: Final = 2
_SHA256: Final = re.compile("[0-9a-f]{64}")


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
    if not value["event"]:
        raise ValueError("The event has no name.")
    if value["level"] not in LEVELS:
        raise ValueError(f"{value['level']!r} is no level.")
    duration = value["duration_ms"]
    if isinstance(duration, bool) or not (duration is None or 0 <= duration < math.inf):
        raise ValueError(f"{duration!r} is no duration.")
    if not all(_is_change(change) for change in (value["changes"] or {}).values()):
        raise ValueError(f"changes is {value['changes']!r}.")
    error = value["error"]
    if error is not None and not _has_texts(error, "type", "message"):
        raise ValueError(f"error is {error!r}.")
    return AuditEvent(
        **value
        | {
            "id": _uuid7(value["id"]),
            "timestamp": _moment(value["timestamp"]),
            "outcome": Outcome(value["outcome"]),
            "actor": _actor(value["actor"]),
            "on_behalf_of": _actor(value["on_behalf_of"]),
            "cause": None if value["cause"] is None else _uuid7(value["cause"]),
            "transaction": _uuid_or_none(value["transaction"]),
        }
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("The timestamp has no time zone.")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} in UTC is in no year of the calendar.") from error
    # A year of fewer digits has no form of its own on every system, and the end of the last one is
    # in no year where it is local time.
    if moment.year not in _YEARS:
        raise ValueError(f"{text} is no moment of a trail.")
    return moment


def _actor(value: dict[str, Any] | None) -> Actor | None:
    if value is None:
        return None
    if not (
        value.keys() == {"type", "id", "label"}
        and isinstance(value["type"], str)
        and isinstance(value["label"], str)
        and isinstance(value["id"], _OPTIONAL_TEXT)
        and value["type"]
    ):
        raise ValueError(f"{value!r} is no actor.")
    return Actor.from_dict(value)


def _is_change(change: Any) -> bool:
    """Whether a change is ``[old, new]`` or ``{"added": ..., "removed": ...}``."""
    if isinstance(change, list):
        return len(change) == _OLD_AND_NEW
    return (
        isinstance(change, dict)
        and change.keys() == {"added", "removed"}
        and all(_are_keys(keys) for keys in change.values())
    )


def _are_keys(value: Any) -> bool:
    """Whether a value is the keys of a many-to-many field, or stands for them."""
    if isinstance(value, list) or value == REDACTED:
        return True
    if not (isinstance(value, dict) and value.keys() == {"$cut"}):
        return False
    cut = value["$cut"]
    if not isinstance(cut, dict):
        return False
    if cut.keys() == {"items"}:
        return _is_count(cut["items"])
    return (
        cut.keys() == {"size", "sha256", "head"}
        and _is_count(cut["size"])
        and isinstance(cut["sha256"], str)
        and _SHA256.fullmatch(cut["sha256"]) is not None
        and isinstance(cut["head"], str)
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _has_texts(value: dict[str, Any], *names: str) -> bool:
    """Whether an object has just these names, and a text under each."""
    return value.keys() == set(names) and all(isinstance(text, str) for text in value.values())


def _uuid7(text: str) -> uuid.UUID:
    identifier = uuid.UUID(text)
    if identifier.version != _ID_VERSION:
        raise ValueError(f"{text} is no id of an event.")
    return identifier


def _uuid_or_none(text: str | None) -> uuid.UUID | None:
    return None if text is None else uuid.UUID(text)
