"""Events for tests: the seed's own line, with what a test overrides."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django_signal_audit.event import AuditEvent
from django_signal_audit.formats import get_formatter
from django_signal_audit.ids import uuid7
from django_signal_audit.sinks.base import SinkConfig


def make_event(**overrides: Any) -> AuditEvent:
    """An event with every field as the seed sends it; ``id`` follows ``timestamp``."""
    values: dict[str, Any] = {
        "timestamp": datetime(2022, 11, 14, 13, 31, 12, tzinfo=UTC),
        "event": "test.logging",
        "sender": "View: test_logging",
        "message": "Employees object created: user1 last_user",
        "object_type": "speedy.employees",
        "object_id": "72",
        "object_repr": "Employees object (72)",
    } | overrides
    values.setdefault("id", uuid7(values["timestamp"]))
    return AuditEvent(**values)


def make_config(alias: str = "audit", format_name: str = "json") -> SinkConfig:
    """What a sink is given, with a format of the package."""
    return SinkConfig(alias, get_formatter(format_name))
