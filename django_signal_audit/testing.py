"""Helpers for your tests: what would have been recorded, without waiting for a COMMIT.

They see events in the pipeline, so they work in ``TestCase``, whose transaction never
commits, and whatever the sinks are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from django_signal_audit import conf, pipeline
from django_signal_audit.actors import to_actor
from django_signal_audit.event import EVENT_FIELDS, AuditEvent
from django_signal_audit.keys import object_key, object_type

if TYPE_CHECKING:
    from django.db.models import Model

_MISSING: Final = object()
_ACTORS: Final = frozenset({"actor", "on_behalf_of"})


class CapturedEvents(list[AuditEvent]):
    """The events of a block, in the order they were made; safe to append from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def add(self, event: AuditEvent) -> None:
        """Append an event."""
        with self._lock:
            self.append(event)

    def named(self, pattern: str) -> list[AuditEvent]:
        """The events whose name matches, such as ``"model.*"``."""
        return [event for event in self if fnmatchcase(event.event, pattern)]

    def of(self, obj: Model) -> list[AuditEvent]:
        """The events about one object."""
        kind, key = object_type(type(obj)), object_key(type(obj), obj.pk)
        return [e for e in self if (e.object_type, e.object_id) == (kind, key)]


@contextmanager
def capture_events() -> Iterator[CapturedEvents]:
    """Collect every event made while the block runs, by any thread of this process.

    Events of a change that is rolled back later are among them: they were made.
    """
    captured = CapturedEvents()
    with pipeline.observe(captured.add):
        yield captured


@contextmanager
def assert_audited(
    event: str,
    obj: Model | None = None,
    *,
    changes: dict[str, Any] | None = None,
    count: int | None = None,
    **attributes: Any,
) -> Iterator[CapturedEvents]:
    """Fail unless the block makes a matching event.

    Args:
        event: name or pattern, such as ``"model.update"`` or ``"auth.*"``.
        obj: the object it must be about; it may be created inside the block only if it is
            saved by the end of it.
        changes: field to ``[old, new]`` that it must contain; other fields may be there too.
        count: how many must match exactly; at least one where it is ``None``.
        **attributes: further attributes of the event, such as ``reason="..."``; ``actor`` may
            be a user.

    Raises:
        AssertionError: listing what was recorded instead.
        TypeError: an attribute is none of an event's.
    """
    for name in attributes:
        if name not in EVENT_FIELDS:
            raise TypeError(f"An event has no {name!r}. {conf.nearest(name, EVENT_FIELDS)}")
    for name in _ACTORS & attributes.keys():
        attributes[name] = to_actor(attributes[name])
    with capture_events() as captured:
        yield captured
    found = [e for e in captured.named(event) if _matches(e, obj, changes, attributes)]
    if (count is None and not found) or (count is not None and len(found) != count):
        wanted = "at least one" if count is None else str(count)
        listing = "\n".join(f"  {_summary(e)}" for e in captured) or "  (nothing)"
        raise AssertionError(
            f"expected {wanted} {event!r} event(s){_described(obj, changes, attributes)}, "
            f"found {len(found)}. Recorded:\n{listing}"
        )


def _matches(
    event: AuditEvent,
    obj: Model | None,
    changes: dict[str, Any] | None,
    attributes: dict[str, Any],
) -> bool:
    if obj is not None and (event.object_type, event.object_id) != (
        object_type(type(obj)),
        object_key(type(obj), obj.pk),
    ):
        return False
    recorded = event.changes or {}
    for name, expected in (changes or {}).items():
        if recorded.get(name, _MISSING) != expected:
            return False
    return all(getattr(event, name) == value for name, value in attributes.items())


def _described(
    obj: Model | None, changes: dict[str, Any] | None, attributes: dict[str, Any]
) -> str:
    parts = []
    if obj is not None:
        parts.append(f"about {obj._meta.label} {obj.pk}")
    if changes:
        parts.append(f"with changes {changes}")
    parts += [f"with {name}={value!r}" for name, value in attributes.items()]
    return " " + ", ".join(parts) if parts else ""


def _summary(event: AuditEvent) -> str:
    about = f" {event.object_type} {event.object_id}" if event.object_type else ""
    return f"{event.event}{about} {event.changes or event.data or ''}".rstrip()
