"""The errors of the package: each names the thing and says what to write instead."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError


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


class AppendOnlyError(AuditError, TypeError):
    """An audit record was about to be changed or deleted through the ORM."""
