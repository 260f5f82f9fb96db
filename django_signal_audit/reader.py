"""Reads a trail back, in constant memory: from databases or from the files of sinks.

    for event in read_databases(trail_databases(), TrailFilter(object_type="shop.order")):
        ...

Both sources apply the same ``TrailFilter`` and yield the same ``AuditEvent``.
"""

from __future__ import annotations

import heapq
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import orjson
from django.db import connections
from django.db.models import Q
from django.utils import timezone

from django_signal_audit import conf
from django_signal_audit.event import (
    EVENT_FIELDS,
    SCHEMA_VERSION,
    Actor,
    AuditEvent,
    Outcome,
)
from django_signal_audit.exceptions import AuditError
from django_signal_audit.ids import lowest_uuid7
from django_signal_audit.models import AuditRecord, AuditRecordQuerySet, record_table_exists
from django_signal_audit.sinks import FileSink, routing

if TYPE_CHECKING:
    from operator import attrgetter  # noqa: F401

PAGE_SIZE: Final = 1000

# One event is bounded by VALUE_LIMIT for each of its values; a "line" beyond this is damage, such
# as the zeros that a file system leaves after a power cut.
MAX_LINE: Final = 64 * 1024 * 1024

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WILDCARDS: Final = "*?["
_JSON_FORMATS: Final = ("json", "django_signal_audit.formats.json.processors")
_DUMMY_ENGINE: Final = "django.db.backends.dummy"
