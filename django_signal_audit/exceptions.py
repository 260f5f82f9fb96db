"""The errors of the package: each names the thing and says what to write instead."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError


class AuditError(Exception):
    """Base of every error this package raises on its own account."""


class AuditConfigurationError(AuditError, ImproperlyConfigured):
    """A setting, decorator argument or sink option is wrong.

    Args:
        problem: one sentence that names the thing and says what is wrong with it.
        hint: what to write instead, such as the nearest good name.
        number: of the system check that reports it, such as ``"E001"``; empty where only
            code can make the mistake, which raises at once.
    """

    def __init__(self, problem: str, *, hint: str = "", number: str = "") -> None:
        super().__init__(f"{problem} {hint}".rstrip())
        self.problem = problem
        self.hint = hint
        self.number = number
        self.others: tuple[AuditConfigurationError, ...] = ()

    def all(self) -> list[AuditConfigurationError]:
        """This mistake, and those that were found beside it."""
        return [self, *self.others]


def raise_found(mistakes: Iterable[AuditConfigurationError]) -> None:
    """Raise the first mistake, which carries the others; do nothing if there is none.

    Raises:
        AuditConfigurationError: the first.
    """
    found = [one for mistake in mistakes for one in mistake.all()]
    if found:
        first, *others = found
        first.others = tuple(others)
        raise first


class AuditProcessorError(AuditError):
    """A processor raised, or made of an event what is none; the event is not recorded as it was.

    Of a processor of ``SIGNAL_AUDIT["PROCESSORS"]`` it undoes the write, as a raising ``when``
    does; of a sink's own processors it is a failure of that sink.
    """


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


class AuditBlindWriteError(AuditError):
    """A statement would have written to an audited table unseen, and was not run.

    It is no ``DatabaseError``: code that expects a database to refuse a row must not take this
    for such a refusal.
    """


class AuditBlindWriteWarning(UserWarning):
    """A statement writes to an audited table, and only that fact is in the trail."""
