"""What is particular to records on MariaDB and MySQL: characters, and ids that sort by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.core import checks
from django.db import connections

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

CHARSET: Final = "utf8mb4"

KEEP_EXISTING: Final = " ON DUPLICATE KEY UPDATE id = id"
"""Ends an INSERT that leaves rows alone whose id is there already."""

# Columns of records that hold no text of people.
_ASCII: Final = frozenset(
    {
        "id",
        "timestamp",
        "cause",
        "duration_ms",
        "transaction",
        "rolled_back",
        "schema_version",
    }
)

# Two ids of version 7, in order, that MariaDB 10.7 to 10.11.4 sorts the other way round.
_EARLIER: Final = "01900000-0000-7000-8000-000000000002"
_LATER: Final = "01900000-0001-7000-8000-000000000001"


def loses_characters(connection: BaseDatabaseWrapper) -> bool:
    """Whether text sent as text would lose what the connection's character set does not know."""
    if connection.vendor != "mysql":
        return False
    driver: Any = connection.connection
    return bool(driver.character_set_name() != CHARSET)


def returns_every_character(connection: BaseDatabaseWrapper) -> bool:
    """Whether what is read is what is stored; asks the server, which ``SET NAMES`` has told."""
    if connection.vendor != "mysql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@character_set_results")
        (results,) = cursor.fetchone()
    return results == CHARSET and not loses_characters(connection)


def placeholders(columns: Sequence[str]) -> str:
    """One row of placeholders for values from ``as_hex``."""
    one = f"CONVERT(UNHEX(%s) USING {CHARSET})"
    return f"({', '.join('%s' if name in _ASCII else one for name in columns)})"


def as_hex(columns: Sequence[str], row: Sequence[Any]) -> list[Any]:
    """The values of a row with its texts as digits, which every character set knows."""
    return [
        value.encode().hex() if isinstance(value, str) and name not in _ASCII else value
        for name, value in zip(columns, row, strict=True)
    ]


def server_warnings(alias: str) -> Iterator[checks.CheckMessage]:
    """What a MariaDB or MySQL server, or the connection to it, does to a trail.

    Args:
        alias: of any database; others than MariaDB and MySQL have nothing to warn of.
    """
    connection = connections[alias]
    if connection.vendor != "mysql":
        return
    connection.ensure_connection()
    if loses_characters(connection):
        yield checks.Warning(
            f"The connection to database {alias!r} has the character set "
            f"{connection.connection.character_set_name()}, which lacks characters: records "
            "are stored whole, but read back with question marks.",
            hint=f"Leave 'charset' out of DATABASES[{alias!r}]['OPTIONS']; Django's default "
            f"is {CHARSET}.",
            id="django_signal_audit.W054",
        )
    if connection.features.has_native_uuid_field and not sorts(alias, _EARLIER, _LATER):
        yield checks.Warning(
            f"The server of database {alias!r} does not sort ids by time: records come out of "
            "order, and between() misses some.",
            hint="Use MariaDB 10.11.6 or newer (of 11.0, 11.0.4).",
            id="django_signal_audit.W055",
        )


def sorts(alias: str, first: str, second: str) -> bool:
    """Whether a MariaDB server with a UUID type puts one id before the other."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT CAST(%s AS UUID) < CAST(%s AS UUID)", [first, second])
        return bool(cursor.fetchone()[0])
