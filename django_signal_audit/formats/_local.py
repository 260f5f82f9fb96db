"""The time of an event as the people of the project read it."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone


def local_time(timestamp: str) -> datetime:
    """An event's time in the project's ``TIME_ZONE``.

    It is not the zone that a request activated for its user: the lines of one file must be
    comparable.

    Args:
        timestamp: as ``AuditEvent.to_dict()`` writes it.
    """
    return timezone.localtime(datetime.fromisoformat(timestamp), timezone.get_default_timezone())
