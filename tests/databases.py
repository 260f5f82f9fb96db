"""A database that several connections can share, and one without its table of records."""

from __future__ import annotations

from contextlib import contextmanager

from django.db import connections

from django_signal_audit.models import AuditRecord
from tests.testapp.models import Author, Book, Chapter, Loan, Reader, Tag

ALIAS = "other"
MODELS = (AuditRecord, Author, Reader, Tag, Book, Loan, Chapter)


@contextmanager
def shared_database(path):
    """Yield an alias that stands for a new SQLite file, or for a server's database.

    The suite's own SQLite databases are in memory: they ignore ``close()``, and a second
    connection to them locks whole tables.
    """
    suites = connections[ALIAS]
    if suites.vendor != "sqlite":
        yield ALIAS
        return
    settings = connections.settings[ALIAS]
    connections.settings[ALIAS] = {**settings, "NAME": str(path / "shared.sqlite3")}
    connections[ALIAS] = type(suites)(connections.settings[ALIAS], ALIAS)
    try:
        with connections[ALIAS].schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
        yield ALIAS
    finally:
        connections[ALIAS].close()
        connections.settings[ALIAS] = settings
        connections[ALIAS] = suites


@contextmanager
def without_records(alias="default"):
    """Drop the table of records for a while."""
    with connections[alias].schema_editor() as editor:
        editor.delete_model(AuditRecord)
    try:
        yield
    finally:
        with connections[alias].schema_editor() as editor:
            editor.create_model(AuditRecord)
