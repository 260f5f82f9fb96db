"""What a processor made of an event becomes an event again, one that no sink can fail on.

What the processors left alone stays as it is. What is new is made safe, masked and scrubbed as
if the sender had said it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from django_signal_audit import conf
from django_signal_audit.actors import to_actor
from django_signal_audit.cleaning import NAME_LIMIT, clean_mapping, clean_text, clean_value
from django_signal_audit.event import (
    EVENT_FIELDS,
    LEVELS,
    REDACTED,
    Actor,
    AuditEvent,
    Outcome,
)
from django_signal_audit.redaction import redactor
from django_signal_audit.values import free_key, safe_text, stable_key

FIXED: Final = (
    "id",
    "timestamp",
    "cause",
    "database",
    "transaction",
    "rolled_back",
    "schema_version",
)
"""What identifies an event and its transaction; no processor may change it."""

_REQUIRED: Final = ("event", "level", "outcome")
_TEXTS: Final = ("sender", "message", "object_repr", "reason")
_ABSENT: Final[Mapping[str, Any]] = {
    "sender": "",
    "message": "",
    "object_repr": "",
    "context": {},
    "data": {},
}
_OUTCOMES: Final = tuple(outcome.value for outcome in Outcome)
_SIDES: Final = ("added", "removed")
_PAIR_LENGTH: Final = 2


def problem_of(event: AuditEvent, said: Any) -> str | None:
    """What is wrong with an event dict that a processor returned.

    Args:
        event: before the processors.
        said: what the processor returned.

    Returns:
        The rest of a sentence that begins with the processor's name, or ``None``.
    """
    if not isinstance(said, dict):
        return (
            f"returned {type(said).__name__}, no dict. Let it return the event dict, or raise "
            f"structlog.DropEvent."
        )
    before = event.to_dict()
    for name in FIXED:
        if not _same(before[name], said.get(name)):
            return (
                f"changed {name!r}, which tells what the event is and may not change. Leave it, "
                f"and write what you have to say under a name of your own."
            )
    for name in _REQUIRED:
        if name not in said:
            return f"removed {name!r}, which every event has. Leave it."
    for name, value in said.items():
        if not isinstance(name, str):
            return f"wrote under the key {name!r}. Let keys be texts."
        rule = _RULES.get(name)
        if rule is not None and not rule[0](value, before[name]):
            return f"made {name!r} {safe_text(repr(value), limit=100)}. Let it be {rule[1]}."
    return None


def revised(event: AuditEvent, said: Mapping[str, Any]) -> AuditEvent:
    """The event as the processors want it.

    Args:
        event: before the processors.
        said: the event dict after them, in which ``problem_of`` finds nothing wrong. Keys that
            are no fields of an event are added to its ``data``, never in place of another.

    Returns:
        The same event where nothing is new.
    """
    before = event.to_dict()
    after = {name: said.get(name, _ABSENT.get(name)) for name in EVENT_FIELDS}
    others = {key: value for key, value in said.items() if key not in before}
    after["data"] = dict(after["data"])
    for key, value in others.items():
        after["data"][free_key(key, after["data"])] = value
    new = {name: after[name] for name in EVENT_FIELDS if not _same(before[name], after[name])}
    if not new:
        return event
    # All secrets first: each of them must leave every text.
    secrets: set[str] = set()
    for name in ("context", "data", "changes"):
        clean_value(new.get(name), secrets)
    if secrets:
        new |= {name: after[name] for name in _TEXTS}
    cleaned = {name: _CLEANERS[name](new[name], secrets) for name in new if name != "changes"}
    changes = after["changes"] and _clean_changes(event.changes or {}, after["changes"], secrets)
    return replace(event, changes=changes, **cleaned)


def _same(before: Any, after: Any) -> bool:
    """Whether a value is what it was; unlike ``==`` it tells 1 from ``True`` and from 1.0."""
    if type(before) is not type(after):
        return False
    if type(before) is dict:
        return before.keys() == after.keys() and all(
            _same(value, after[key]) for key, value in before.items()
        )
    if type(before) is list:
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after)


# What a field may be


def _is_name(value: Any, before: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_level(value: Any, before: Any) -> bool:
    return isinstance(value, str) and value in LEVELS


def _is_outcome(value: Any, before: Any) -> bool:
    return isinstance(value, str) and value in _OUTCOMES


def _is_duration(value: Any, before: Any) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 <= value <= sys.float_info.max
    )


def _is_mapping(value: Any, before: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_actor(value: Any, before: Any) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and {"type"} <= value.keys() <= {"type", "id", "label"}
        and _is_name(value["type"], None)
    )


def _is_error(value: Any, before: Any) -> bool:
    return value is None or (isinstance(value, dict) and value.keys() == {"type", "message"})


def _is_changes(value: Any, before: Any) -> bool:
    if value is None:
        return True
    return _is_mapping(value, None) and all(
        _is_pair(change) or _is_membership(change, (before or {}).get(name))
        for name, change in value.items()
    )


def _is_pair(change: Any) -> bool:
    return isinstance(change, (list, tuple)) and len(change) == _PAIR_LENGTH


def _is_membership(change: Any, before: Any) -> bool:
    """Whether this is what changed in a many-to-many field."""
    if not isinstance(change, dict) or change.keys() != set(_SIDES):
        return False
    return all(
        isinstance(change[side], (list, tuple, set, frozenset))
        or change[side] == REDACTED
        or _same(_part(before, side), change[side])
        for side in _SIDES
    )


_ACTOR: Final = "None, or a dict of 'type', 'id' and 'label'"
_DICT: Final = "a dict whose keys are texts"

_RULES: Final[Mapping[str, tuple[Callable[[Any, Any], bool], str]]] = {
    "event": (_is_name, "a text such as 'shift.assigned'"),
    "level": (_is_level, f"one of {', '.join(map(repr, LEVELS))}"),
    "outcome": (_is_outcome, f"one of {', '.join(map(repr, _OUTCOMES))}"),
    "changes": (
        _is_changes,
        "None, or a dict of field names to [old, new] or {'added': [...], 'removed': [...]}",
    ),
    "actor": (_is_actor, _ACTOR),
    "on_behalf_of": (_is_actor, _ACTOR),
    "duration_ms": (_is_duration, "None, or a number of milliseconds that is not negative"),
    "error": (_is_error, "None, or a dict of 'type' and 'message'"),
    "context": (_is_mapping, _DICT),
    "data": (_is_mapping, _DICT),
}


# What is new is cleaned


Cleaner = Callable[[Any, set[str]], Any]


def _text(value: Any, secrets: set[str]) -> str:
    return "" if value is None else clean_text(value, secrets)


def _repr(value: Any, secrets: set[str]) -> str:
    if value is None:
        return ""
    return clean_text(value, secrets, limit=conf.current().REPR_LIMIT)


def _name(value: Any, secrets: set[str]) -> str:
    return clean_text(value, secrets, limit=NAME_LIMIT)


def _level(value: str, secrets: set[str]) -> str:
    return str.__str__(value)


def _outcome(value: str, secrets: set[str]) -> Outcome:
    return Outcome(value)


def _key(value: Any, secrets: set[str]) -> str:
    return stable_key(value)


def _duration(value: float, secrets: set[str]) -> float:
    return float(value)


def _actor(value: Mapping[str, Any], secrets: set[str]) -> Actor | None:
    return to_actor(Actor(value["type"], value.get("id"), value.get("label") or ""))


def _error(value: Mapping[str, Any], secrets: set[str]) -> dict[str, str]:
    return {"type": _name(value["type"], secrets), "message": _text(value["message"], secrets)}


def _context(value: Mapping[str, Any], secrets: set[str]) -> dict[str, Any]:
    return clean_mapping(value, secrets, "context")


def _data(value: Mapping[str, Any], secrets: set[str]) -> dict[str, Any]:
    return clean_mapping(value, secrets, "data")


def _or_none(clean: Cleaner) -> Cleaner:
    return lambda value, secrets: None if value is None else clean(value, secrets)


def _clean_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], secrets: set[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, change in after.items():
        hidden = redactor().is_sensitive(name)

        def side(old: Any, value: Any, hidden: bool = hidden) -> Any:
            if value is None or _same(old, value):
                return value
            if hidden:
                return REDACTED
            return clean_value(value, secrets, redactor().scrubber(secrets))

        was = before.get(name)
        if isinstance(change, dict):
            new: Any = {part: side(_part(was, part), change[part]) for part in _SIDES}
        else:
            pair = was if isinstance(was, list) else [None, None]
            new = [side(old, value) for old, value in zip(pair, change, strict=True)]
        found[free_key(safe_text(name, limit=NAME_LIMIT), found)] = new
    return found


def _part(change: Any, side: str) -> Any:
    return change.get(side) if isinstance(change, dict) else None


_CLEANERS: Final[Mapping[str, Cleaner]] = {
    "event": _name,
    "level": _level,
    "outcome": _outcome,
    "sender": _text,
    "message": _text,
    "object_type": _or_none(_name),
    "object_id": _or_none(_key),
    "object_repr": _repr,
    "actor": _or_none(_actor),
    "on_behalf_of": _or_none(_actor),
    "reason": _or_none(_text),
    "duration_ms": _or_none(_duration),
    "error": _or_none(_error),
    "context": _context,
    "data": _data,
}
