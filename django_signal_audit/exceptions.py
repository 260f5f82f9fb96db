"""The errors of the package: each names the thing and says what to write instead."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError


class AuditError(Exception):
    """Base of every error this package raises on its own account."""


class AuditConfigurationError(AuditError, ImproperlyConfigured):
    """A setting, decorator argument or sink option is wrong."""


class AuditSinkError(AuditError, DatabaseError):
    """A sink whose policy is ``raise`` could not write, so the change was rolled back.

    It is a ``DatabaseError`` on purpose: ``Atomic.__exit__`` rolls back on a failing
    ``commit()`` only for that class; after any other exception it would restore
    autocommit, which commits the row without its record.
    """


class AuditSinkOperationalError(AuditSinkError, OperationalError):
    """The same, where the database itself gave up, as in a deadlock or on a lost connection.

    Code that tries a transaction again on ``OperationalError`` would have met that error at
    COMMIT without the package, and must meet it with the package.
    """


APPEND_ONLY = (
    "Audit records are append-only: the trail would stop being evidence. To correct "
    "something, send an event that says so (event_signal.send(...)); to hide a value, mask "
    "its field; to remove old records, use SQL with a database role that may."
)


class AppendOnlyError(AuditError, TypeError):
    """An audit record was about to be changed or deleted through the ORM."""
