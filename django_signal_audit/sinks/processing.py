"""Runs a sink's own processors on the events that are for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from structlog import DropEvent

from django_signal_audit.exceptions import AuditProcessorError
from django_signal_audit.processors import run
from django_signal_audit.sinks import counters
from django_signal_audit.sinks.failures import log_loss

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent
    from django_signal_audit.sinks.routing import Route


def processed(route: Route, events: list[AuditEvent]) -> tuple[list[AuditEvent], int]:
    """Events as the sink's own processors want them.

    Returns:
        Those that are left, and how many were dropped.

    Raises:
        AuditProcessorError: one of the processors failed.
    """
    if not route.processors:
        return events, 0
    kept = []
    for event in events:
        try:
            kept.append(run(route.processors, event))
        except DropEvent:
            continue
    return kept, len(events) - len(kept)


def processed_or_lost(route: Route, events: list[AuditEvent]) -> list[AuditEvent]:
    """The same where nothing can be undone: an event that a processor failed on is lost.

    What was dropped is counted.
    """
    if not route.processors:
        return events
    handled = sys.exception()
    kept = []
    for event in events:
        try:
            given, dropped = processed(route, [event])
        except AuditProcessorError as exc:
            log_loss(route, [event], exc, handled)
        else:
            kept += given
            counters.count(route.alias, "dropped", dropped)
    return kept
