"""Transactions and savepoints around writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import ProgrammingError, connections, transaction

# Since Django 6.1 its old name warns.
savepoint = getattr(transaction, "savepoint_create", None) or transaction.savepoint


class UndoneError(Exception):
    """Raised by a block to roll itself back."""


@dataclass(frozen=True)
class Atomic:
    """``atomic()``: ``end`` is ``commit``, ``rollback`` or ``raise``."""

    writes: tuple[Any, ...]
    end: str = "commit"
    using: str = "default"

    def run(self, held, attempt):
        try:
            with transaction.atomic(self.using):
                for write in self.writes:
                    attempt(write, held)
                if self.end == "raise":
                    raise UndoneError  # noqa: TRY301 - that is what is tried
                if self.end == "rollback":
                    transaction.set_rollback(True, self.using)
        except UndoneError:
            pass


@dataclass(frozen=True)
class Savepoint:
    """A savepoint by hand, inside of an ``atomic()``; after its end ``more`` is written."""

    writes: tuple[Any, ...]
    more: tuple[Any, ...] = ()
    end: str = "commit"
    using: str = "default"

    def run(self, held, attempt):
        with transaction.atomic(self.using):
            mark = savepoint(self.using)
            for write in self.writes:
                attempt(write, held)
            if self.end == "commit":
                transaction.savepoint_commit(mark, self.using)
            else:
                transaction.savepoint_rollback(mark, self.using)
            for write in self.more:
                attempt(write, held)


@dataclass(frozen=True)
class Manual:
    """Autocommit switched off, and ``commit()`` or ``rollback()`` by hand.

    With ``end="switch"`` switching autocommit on again is what commits.
    """

    writes: tuple[Any, ...]
    end: str = "commit"
    using: str = "default"

    def run(self, held, attempt):
        if connections[self.using].in_atomic_block:
            Atomic(self.writes, self.end, self.using).run(held, attempt)
            return
        transaction.set_autocommit(False, self.using)
        try:
            for write in self.writes:
                attempt(write, held)
            if self.end == "rollback":
                transaction.rollback(self.using)
            elif self.end == "commit":
                transaction.commit(self.using)
            else:
                self._switch()
        except BaseException:
            transaction.rollback(self.using)
            raise
        finally:
            transaction.set_autocommit(True, self.using)

    def _switch(self):
        """Commit by switching autocommit on, which psycopg refuses."""
        try:
            transaction.set_autocommit(True, self.using)
        except ProgrammingError:
            transaction.commit(self.using)
