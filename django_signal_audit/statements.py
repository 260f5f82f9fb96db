"""Statements that end a transaction behind Django's back, on MariaDB and MySQL.

A statement such as ``CREATE TABLE`` or ``TRUNCATE`` commits what is open, and the server answers
a deadlock by rolling the whole transaction back. Django learns of neither, and goes on. So the
statements of a connection with pending events are watched: records are written before
one that may commit, and events whose change was rolled back are dropped, by a statement
``ROLLBACK`` too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django.db import OperationalError

from django_signal_audit import internals
from django_signal_audit.outcomes import ConnectionState, deliver_ended, end_in_failure, flush

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_DEADLOCK: Final = 1213

# What may be in front of a statement: comments, but none that MariaDB executes, and parentheses.
_BEFORE: Final = r"(?:\s|\(|/\*(?!M?!).*?\*/|--[^\n]*\n)*"

# How statements begin that leave the transaction open. Some of SET commit it.
_ORDINARY: Final = re.compile(
    _BEFORE + r"(?:SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|VALUES|SHOW|EXPLAIN|DESC|DESCRIBE"
    r"|SAVEPOINT|RELEASE|ROLLBACK|SET\b(?!.*\b(?:AUTOCOMMIT|STATEMENT|PASSWORD|ROLE)\b))\b",
    re.IGNORECASE | re.DOTALL,
)

_ROLLBACK: Final = re.compile(_BEFORE + r"ROLLBACK\b(?!.*\bTO\b)", re.IGNORECASE | re.DOTALL)


def watch(connection: BaseDatabaseWrapper, state: ConnectionState) -> None:
    """Look at each statement of a connection from now on."""
    internals.wrap_statements(connection, functools.partial(_around, connection, state))


def _around(
    connection: BaseDatabaseWrapper,
    state: ConnectionState,
    execute: Callable[..., Any],
    sql: str,
    *arguments: Any,
) -> Any:
    if state.busy or not state.buffer or connection.needs_rollback:
        return execute(sql, *arguments)
    if _ORDINARY.match(sql):
        try:
            result = execute(sql, *arguments)
        except OperationalError as exc:
            if exc.args[0] == _DEADLOCK or _has_ended(connection):
                end_in_failure(connection, state, usable=False)
            raise
        if _ROLLBACK.match(sql):
            end_in_failure(connection, state, usable=False)
        return result
    flush(connection, state)
    try:
        return execute(sql, *arguments)
    finally:
        # A statement that fails has committed before, unless it could not be understood.
        if _has_ended(connection):
            deliver_ended(state)


def _has_ended(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server says that no transaction is open; MySQL itself does not say."""
    driver: Any = connection.connection
    try:
        with driver.cursor() as cursor:
            cursor.execute("SELECT @@in_transaction")
            return not cursor.fetchone()[0]
    except Exception:  # noqa: BLE001 - the driver's own; the connection is dead, or this is MySQL
        return False
