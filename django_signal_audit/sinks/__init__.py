"""Sinks: each module of this package is one place where events go."""

from __future__ import annotations

from django_signal_audit.sinks._urls import SinkURL
from django_signal_audit.sinks.base import Sink, SinkConfig, TransactionalSink
from django_signal_audit.sinks.database import DatabaseSink
from django_signal_audit.sinks.file import FileSink
from django_signal_audit.sinks.logger import LoggerSink
from django_signal_audit.sinks.memory import MemorySink
from django_signal_audit.sinks.stdout import StdoutSink

__all__ = [
    "DatabaseSink",
    "FileSink",
    "LoggerSink",
    "MemorySink",
    "Sink",
    "SinkConfig",
    "SinkURL",
    "StdoutSink",
    "TransactionalSink",
]
