"""Strict mode: statements that write to an audited table, and that capture does not see.

``BLIND_WRITES`` says what becomes of raw SQL, of ``_raw_delete`` and the like: a
``model.blind_write`` in the trail, a warning too, or an error before anything is written.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import django
from django.db import connections, transaction
from django.db.backends.signals import connection_created

from django_signal_audit import context as surroundings
from django_signal_audit import internals
from django_signal_audit.capture.patching import (
    any_writes,
    blind_writes,
    is_expected,
    schema_writes,
    wrap,
)
from django_signal_audit.capture.statement import Reading, read
from django_signal_audit.capture.tables import Touched, touched_by
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditBlindWriteError, AuditBlindWriteWarning
from django_signal_audit.pipeline import Act, Change, emit_act, emit_changes
from django_signal_audit.transactions import in_transaction, write_lock_statement, write_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

_OPERATION: Final = "blind_write"

_UID: Final = "django_signal_audit.blind"

_ADVICE: Final = (
    "Use the ORM, or say with suspend_audit() that it is not to be recorded, or choose another "
    "value of SIGNAL_AUDIT['BLIND_WRITES']."
)

_RETURNING: Final = re.compile(r"\breturning\b", re.IGNORECASE)

_NOT_THE_CALLER: Final = tuple(
    f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(django.__file__).parent)
)


def connect() -> None:
    """Look at the statements of every connection, also of those that are yet to be made."""
    wrap(*internals.FLUSH, _unchanged, writes=any_writes)
    internals.connect_first(connection_created, _connected, None, _UID)
    for connection in connections.all(initialized_only=True):
        watch(connection)


def watch(connection: BaseDatabaseWrapper) -> None:
    """Look at each statement of a connection from now on; a second call changes nothing."""
    internals.wrap_statements(connection, _around, outermost=True)
    editor = internals.schema_editor_of(connection)
    if editor is None:
        return  # what Django makes of settings without DATABASES
    for name in internals.FILLS_COLUMNS:
        wrap(editor, name, _unchanged, writes=schema_writes)


def _connected(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    # Events go by the alias; a connection that a program has made for itself is another one.
    if connection in connections.all(initialized_only=True):
        watch(connection)


def _unchanged(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return original(*args, **kwargs)


def _around(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Mapping[str, Any]
) -> Any:
    mode = blind_writes()
    if mode == "ignore" or surroundings.is_suspended():
        return execute(sql, params, many, context)
    connection: BaseDatabaseWrapper = context["connection"]
    text = internals.statement_text(sql, connection)
    reading = read(text, connection.vendor)
    touched = _blind(text, reading, connection)
    if not touched:
        return execute(sql, params, many, context)
    if mode == "raise":
        _refuse(touched, connection)
    if mode == "warn":
        _warn(touched)

    def write() -> Any:
        return execute(sql, params, many, context)

    return _recorded(write, text, reading, touched, context)


def _blind(text: str, reading: Reading, connection: BaseDatabaseWrapper) -> list[Touched]:
    """The audited tables that a text writes to, and that nobody else tells of."""
    return [
        touched
        for write in reading.writes
        if not is_expected(write.table)
        for touched in touched_by(write)
        if text != write_lock_statement(connection, touched.through or touched.table)
    ]


def _recorded(
    write: Callable[[], Any],
    text: str,
    reading: Reading,
    touched: list[Touched],
    context: Mapping[str, Any],
) -> Any:
    """Run a statement and record it in its transaction: both stay or neither does."""
    connection, cursor = context["connection"], context["cursor"]
    if in_transaction(connection) or _must_not_commit(text, connection):
        result = write()
        with transaction.mark_for_rollback_on_error(using=connection.alias):
            _emit(touched, connection, internals.rows_written(cursor, connection))
        return result
    with write_transaction(connection.alias, touched[0].table):
        result = write()
        rows = internals.rows_written(cursor, connection)
        if reading.statements > 1:
            internals.read_to_the_end(cursor, connection)
        _emit(touched, connection, rows)
    return result


def _must_not_commit(text: str, connection: BaseDatabaseWrapper) -> bool:
    """Whether the end of the transaction is up to the caller, though Django knows of none.

    So it is after a BEGIN as raw SQL. And SQLite's own transaction for a statement with RETURNING
    ends with its last row, and takes in what is written meanwhile: the record is.
    """
    if connection.vendor == "sqlite" and _RETURNING.search(text) is not None:
        return True
    return internals.has_begun_by_sql(connection)


def _emit(touched: list[Touched], connection: BaseDatabaseWrapper, rows: int | None) -> None:
    for one in touched:
        # Not asked: `when` judges changes of rows, which nobody knows here.
        policy = replace(one.policy, when=None)
        change = Change(_OPERATION, None, "", {}, _data(one, rows))
        emit_changes(policy, one.label, connection.alias, [change])


def _data(touched: Touched, rows: int | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "table": touched.table,
        "operation": touched.operation,
        "rows": rows if touched.counted else None,
    }
    if touched.field is not None:
        data["field"] = touched.field
    if touched.through is not None:
        data["through"] = touched.through
    return data


def _refuse(touched: list[Touched], connection: BaseDatabaseWrapper) -> None:
    """Tell of the attempt, which is no part of any transaction, and end it.

    Raises:
        AuditBlindWriteError: always.
    """
    error = AuditBlindWriteError(f"{_described(touched)} was refused, not run. {_ADVICE}")
    for one in touched:
        emit_act(
            Act(
                event=f"model.{_OPERATION}",
                level="warning",
                outcome=Outcome.DENIED,
                sender=one.label,
                message=f"model.{_OPERATION}",
                object_type=one.policy.label,
                data=_data(one, None),
                database=connection.alias,
                sinks=one.policy.sinks,
            )
        )
    raise error


def _warn(touched: list[Touched]) -> None:
    """Warn before the statement runs: who makes an error of the warning has nothing undone."""
    frame = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() may be None for a type checker
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_CALLER):
        frame = frame.f_back
    warnings.warn_explicit(
        f"{_described(touched)} is recorded as such, without its rows. {_ADVICE}",
        AuditBlindWriteWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _described(touched: list[Touched]) -> str:
    tables = [f"{one.operation.upper()} of {one.table} ({_model(one)})" for one in touched]
    return f"A blind {', '.join(tables)}"


def _model(touched: Touched) -> str:
    model = touched.label if touched.field is None else f"{touched.label}.{touched.field}"
    return model if touched.through is None else f"{model}, by way of {touched.through}"
