"""Exports: each module of this package is one way to write a whole trail down.

An export module defines ``class Exporter(BaseExporter)``. Its name is what ``audit_export
--format`` takes, and its options become options of the command: adding the file is all it takes.
"""

from __future__ import annotations

from django_signal_audit.exports.base import BaseExporter, exporters, option

__all__ = ["BaseExporter", "exporters", "option"]
