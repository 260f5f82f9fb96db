"""Trails for tests, put where a command looks for them."""

from __future__ import annotations

from datetime import UTC, datetime

from django_signal_audit.formats import get_formatter
from django_signal_audit.models import AuditRecord

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def store(events, alias="default"):
    """Put events into a database, as records."""
    records = [record(event) for event in events]
    AuditRecord.objects.using(alias).bulk_create(records, batch_size=1000)


def record(event):
    values = {name: getattr(event, name) for name in event.__slots__ if name != "actor"}
    values["on_behalf_of"] = event.on_behalf_of and event.on_behalf_of.to_dict()
    if event.actor:
        values |= {f"actor_{name}": getattr(event.actor, name) for name in ("type", "id", "label")}
    return AuditRecord(**values)


def write_lines(path, events):
    """Put events into a file, as the file sink does."""
    formatter = get_formatter("json")
    path.write_bytes(b"".join(formatter(event) + b"\n" for event in events))
    return path
