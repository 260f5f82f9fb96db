"""What a write sends to the database, as a transcript that can be written down and compared.

A transcript is one line for each statement, verb and table, such as ``UPDATE author``. A line
that begins with ``+`` is sent only if the model is audited, one with ``-`` only if it is not.
``LOCK`` is the DELETE of no row by which SQLite's write lock is taken, ``DECLARE`` a SELECT whose
rows PostgreSQL keeps to be fetched.
A line may end with conditions: ``@mysql`` for one database, ``@5.2`` for one Django,
``@mysql 6.0`` for either, ``@mysql/6.0`` for both, ``@!sqlite`` for the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit import suspend_audit
from django_signal_audit.models import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_STATEMENT = re.compile(
    r"""(?P<verb>SELECT|DECLARE|INSERT|UPDATE|DELETE|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)
        (?:.*?\b(?:FROM|INTO)\b|(?<=UPDATE))?
        \s*(?P<table>[\w"`]+)?""",
    re.VERBOSE | re.DOTALL,
)
_TABLED = {"SELECT", "DECLARE", "INSERT", "UPDATE", "DELETE"}
_TIMES = re.compile(r"^\d+ times: ")


@dataclass(frozen=True)
class Kind:
    """One kind of write.

    Attributes:
        write: a generator function: what stands before its ``yield`` prepares, what follows is
            measured. It takes a number of rows.
        transcript: what must be sent, for one row as for many.
        audits: the audited models with their policies; no other model is.
        rows: the numbers of rows it is tried with.
    """

    write: Callable[[int], Iterator[None]]
    transcript: str
    audits: Mapping[str, Any]
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.write.__name__


@dataclass
class Kinds:
    """The kinds of write of a module."""

    found: list[Kind] = field(default_factory=list)

    def add(self, transcript: str, *, rows: tuple[int, ...] = (1, 50), **audits: Any) -> Any:
        """Decorate a generator function; a keyword names an audited model, with its policy."""

        def decorate(write: Any) -> Any:
            self.found.append(Kind(write, transcript, audits, rows))
            return write

        return decorate


def expected(transcript: str, *, audited: bool) -> list[str]:
    """The lines that hold for this database, this Django, and an audited model or not."""
    unwanted = "-" if audited else "+"
    lines = []
    for line in filter(None, map(str.strip, re.split(r"[|\n]", transcript))):
        said, _, conditions = line.partition("@")
        if said[0] != unwanted and (not conditions or any(map(_holds, conditions.split()))):
            lines.append(said.strip(" +-"))
    return lines


def _holds(condition: str) -> bool:
    here = {connection.vendor, ".".join(map(str, django.VERSION[:2]))}
    words = condition.split("/")
    return all((word.removeprefix("!") in here) is not word.startswith("!") for word in words)


def sent(kind: Kind, rows: int, *, audited: bool, suspended: bool = False) -> list[str]:
    """The transcript of one write, on tables that hold nothing else."""
    models: dict[str, Any] = {"*": False}
    if audited:
        models |= {f"testapp.{name}": policy for name, policy in kind.audits.items()}
    empty_tables()
    steps = kind.write(rows)
    with override_settings(SIGNAL_AUDIT={"MODELS": models}):
        with suspend_audit():
            next(steps)
        with CaptureQueriesContext(connection) as captured:
            if suspended:
                with suspend_audit():
                    next(steps, None)
            else:
                next(steps, None)
    return [spelled(query["sql"]) for query in captured]


def spelled(sql: str) -> str:
    """A statement as a line of a transcript."""
    found = _STATEMENT.match(_TIMES.sub("", sql))
    assert found is not None, f"an unknown kind of statement: {sql}"
    verb = found["verb"]
    if verb not in _TABLED:
        return verb
    table = found["table"].strip('"`')
    if verb == "DELETE" and sql.endswith("WHERE 0"):
        verb = "LOCK"
    return f"{verb} {table.removeprefix('testapp_').removeprefix('django_signal_audit_audit')}"


def empty_tables() -> None:
    """Delete what any kind may have left."""
    models = apps.get_app_config("testapp").get_models(include_auto_created=True)
    tables = {model._meta.db_table for model in models} | {AuditRecord._meta.db_table}
    # Some models have a table on some databases alone.
    tables &= set(connection.introspection.table_names())
    with (
        suspend_audit(),
        connection.constraint_checks_disabled(),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        for table in sorted(tables):
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
