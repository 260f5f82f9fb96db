"""Several saves of one object in one transaction, told as one event: ``coalesce=True``.

Nothing is folded that would then say something else: who did it and why must be the same, and
each save must begin where the one before it ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps

from django_signal_audit.buffer import UNWRITTEN, Entry
from django_signal_audit.event import REDACTED

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

_SAVES: Final = frozenset({"model.create", "model.update"})
_ROW_EVENTS: Final = frozenset({*_SAVES, "model.delete"})

_SAME: Final = (
    "level",
    "outcome",
    "sender",
    "message",
    "actor",
    "on_behalf_of",
    "reason",
    "cause",
    "context",
    "transaction",
    "rolled_back",
)
"""What two events must share; ``message`` only if it is not the event's own name."""

_COUNT: Final = "coalesced"

# Two marks of this kind may be alike and stand for different values.
_HIDES: Final = "$cut"


def coalesced(entries: Iterable[Entry], *, keep_unchanged: bool) -> list[Entry]:
    """Fold the saves of each object, as far as nothing lies between them.

    A save stays apart from an earlier one if another event about the object's row came
    between, such as a bulk update, or one that is stored already.

    Args:
        entries: in order, with no savepoint between them that may yet be rolled back.
        keep_unchanged: an update in which all columns end as they began stays an event.

    Returns:
        The entries that are left. Those that others were folded into are changed.
    """
    kept: list[Entry] = []
    open_saves: dict[tuple[str | None, str | None, str | None], Entry] = {}
    for entry in entries:
        event = entry.event
        if event.event not in _ROW_EVENTS:
            kept.append(entry)
            continue
        row = (event.database, event.object_type, event.object_id)
        if entry.folds and entry.flush == UNWRITTEN:
            earlier = open_saves.get(row)
            folded = None if earlier is None else fold(earlier.event, event)
            if earlier is not None and folded is not None:
                earlier.event = folded
                continue
            _end_saves(open_saves, event)
            open_saves[row] = entry
        else:
            _end_saves(open_saves, event)
        kept.append(entry)
    return [e for e in kept if keep_unchanged or not _came_to_nothing(e.event)]


def fold(first: AuditEvent, second: AuditEvent) -> AuditEvent | None:
    """Two saves of one object as one event, ``None`` if they must stay two.

    Args:
        first: a create or an update.
        second: a later event about the same row.

    Returns:
        An event with the identity, the time and the old values of the first, and the new values
        of the second. A masked column stays, because its values cannot be compared.
    """
    if first.event not in _SAVES or second.event != "model.update":
        return None
    if not _agree(first, second):
        return None
    old, new = first.changes or {}, second.changes or {}
    if any(old[name][1] != new[name][0] for name in old.keys() & new.keys()):
        return None  # somebody wrote in between, unseen
    changes = {
        name: [before, new.get(name, (None, after))[1]] for name, (before, after) in old.items()
    }
    for name, (before, after) in new.items():
        if name not in changes:
            changes[name] = [None if first.event == "model.create" else before, after]
    if first.event == "model.update":
        changes = {
            name: pair for name, pair in changes.items() if pair[0] != pair[1] or _hides(pair[0])
        }
    data = {**first.data, _COUNT: _saves_in(first) + _saves_in(second)}
    return replace(first, object_repr=second.object_repr, changes=changes, data=data)


def _agree(first: AuditEvent, second: AuditEvent) -> bool:
    for name in _SAME:
        one, other = getattr(first, name), getattr(second, name)
        own_names = name == "message" and (one, other) == (first.event, second.event)
        if one != other and not own_names:
            return False
    data = _plain(first.data)
    # Old values that nobody knows are nothing to go on from.
    return data == _plain(second.data) and "before" not in data


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != _COUNT}


def _saves_in(event: AuditEvent) -> int:
    count = event.data.get(_COUNT)
    # A processor may have put anything there.
    return count if isinstance(count, int) else 1


def _hides(value: Any) -> bool:
    """Whether two values that are shown like this may differ."""
    if isinstance(value, dict):
        return _HIDES in value or any(map(_hides, value.values()))
    if isinstance(value, list):
        return any(map(_hides, value))
    return bool(value == REDACTED)


def _came_to_nothing(event: AuditEvent) -> bool:
    return event.event == "model.update" and not event.changes and _COUNT in event.data


def _end_saves(open_saves: dict[Any, Entry], event: AuditEvent) -> None:
    """Let later saves stand alone: this event has written to the same row, or to a part of it."""
    open_saves.pop((event.database, event.object_type, event.object_id), None)
    family = _family(event.object_type or "")
    for row in [row for row in open_saves if row[1] in family and row[0] == event.database]:
        # Rows of several parents have keys of their own, so no key tells which is which.
        del open_saves[row]


@lru_cache(maxsize=2048)
def _family(object_type: str) -> Collection[str]:
    """The other models, as object types, whose rows share a table with a model's rows."""
    try:
        model = apps.get_model(object_type)
    except (LookupError, ValueError):
        return frozenset()  # a migration knows it; a processor renamed it
    parents = set(model._meta.all_parents)
    related = parents | {
        other
        for other in apps.get_models()
        if model in other._meta.all_parents or parents & set(other._meta.all_parents)
    }
    return frozenset(m._meta.label_lower for m in related - {model})
