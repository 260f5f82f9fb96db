"""Formats: each module of this package is one format, a chain of structlog processors.

A format module defines ``processors()``: a list of structlog processors that ends
in a renderer which returns ``str`` or ``bytes``. The event dict that enters the chain is
``AuditEvent.to_dict()``. ``FORMAT`` in the settings names a module of this package, or
any other processor factory by dotted path.
"""

from __future__ import annotations

from django_signal_audit.formats.base import Formatter, available_formats, get_formatter

__all__ = ["Formatter", "available_formats", "get_formatter"]
