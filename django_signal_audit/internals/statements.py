"""What Django does not document of statements on their way to the driver."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db.backends.base.operations import BaseDatabaseOperations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

FLUSH: Final = (BaseDatabaseOperations, "execute_sql_flush")
"""What empties all tables, for ``flush`` and after each ``TransactionTestCase``."""

FILLS_COLUMNS: Final = ("add_field", "alter_field")
"""Methods of a schema editor that may UPDATE the rows that a new column or type leaves empty."""

_OUTERMOST: Final = "signal_audit_outermost"


def wrap_statements(
    connection: BaseDatabaseWrapper, wrapper: Callable[..., Any], *, outermost: bool = False
) -> None:
    """Call a function in place of each statement of a connection; a second call changes nothing.

    It stands first in the list, because a block of ``connection.execute_wrapper()`` takes the last
    one away; only one that is ``outermost`` stays before it, and so sees what it did.

    Args:
        connection: any.
        wrapper: as for ``connection.execute_wrapper()``.
        outermost: whether it is that one.
    """
    wrappers = connection.execute_wrappers
    if wrapper in wrappers:
        return
    if outermost:
        setattr(wrapper, _OUTERMOST, True)
    taken = bool(wrappers) and hasattr(wrappers[0], _OUTERMOST)
    wrappers.insert(int(taken), wrapper)


def schema_editor_of(connection: BaseDatabaseWrapper) -> Any:
    """The class of a backend's schema editors; ``None`` for a backend that is none."""
    return connection.SchemaEditorClass


def statement_text(sql: Any, connection: BaseDatabaseWrapper) -> str:
    """A statement as text; psycopg also takes objects that compose one, and bytes."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    compose = getattr(sql, "as_string", None)
    return compose(connection.connection) if compose else str(sql)


def rows_written(cursor: Any, connection: BaseDatabaseWrapper) -> int | None:
    """How many rows the last statement of a cursor wrote; ``None`` where the driver cannot say."""
    if connection.vendor == "sqlite" and cursor.description is not None:
        # With RETURNING it is known only when all rows have been fetched.
        return None
    count = int(cursor.rowcount)
    return None if count < 0 else count


@dataclass(slots=True)
class Inserted:
    """How many rows were inserted, those that met a conflict left out."""

    rows: int = 0


@contextmanager
def counting_inserts(connection: BaseDatabaseWrapper, model: type[Model]) -> Iterator[Inserted]:
    """Count the rows that the INSERTs inside put into a table, without ``RETURNING``.

    Args:
        connection: that is written through.
        model: of the rows.
    """
    inserted = Inserted()
    table = connection.ops.quote_name(model._meta.db_table)

    def count(execute: Callable[..., Any], sql: Any, params: Any, many: bool, given: Any) -> Any:
        result = execute(sql, params, many, given)
        start = statement_text(sql, connection)[: len(table) + 50]
        if start.startswith("INSERT") and table in start:
            inserted.rows += rows_written(given["cursor"], connection) or 0
        return result

    with connection.execute_wrapper(count):
        yield inserted


def read_to_the_end(cursor: Any, connection: BaseDatabaseWrapper) -> None:
    """Read what several statements of one text have brought; MariaDB takes no other before."""
    if connection.vendor == "mysql":
        while cursor.nextset():
            pass


def has_constraint(reference: Any) -> bool:
    """Whether the database knows of a foreign key."""
    return bool(getattr(reference, "db_constraint", False))
