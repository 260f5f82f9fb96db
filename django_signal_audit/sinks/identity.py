"""Whether two aliases reach the same table of records.

A record that is "moved" inside one table would be found at its goal, and then deleted there.
Settings alone do not tell: the same database has many addresses, poolers and roles.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_SETTINGS: Final = ("ENGINE", "HOST", "PORT", "NAME", "USER", "OPTIONS")
_LOCK_NAME_BYTES: Final = 16
_IS_FREE: Final = "SELECT IS_FREE_LOCK(%s)"
_CLUSTER: Final = "SHOW STATUS LIKE 'wsrep_cluster_state_uuid'"


def is_same_table(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> bool:
    """Ask both databases; neither may be in a transaction.

    A database to which a server copies the table of the other one, by replication, is not known
    as the same.

    Args:
        one: a connection whose database has the table of records.
        other: another one; its database may lack the table.

    Raises:
        DatabaseError: a database cannot be asked.
    """
    if one is other or have_same_settings(one, other):
        return True
    if one.vendor != other.vendor:
        return False
    ask = _BY_VENDOR.get(one.vendor)
    return ask is not None and ask(one, other)


def have_same_settings(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> bool:
    """Whether the settings of two aliases name one database, without asking it."""
    if _is_private_memory(one):
        return False
    return all(one.settings_dict.get(key) == other.settings_dict.get(key) for key in _SETTINGS)


def _is_private_memory(connection: BaseDatabaseWrapper) -> bool:
    return connection.vendor == "sqlite" and connection.settings_dict["NAME"] == ":memory:"


def _same_sqlite(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> bool:
    query = "SELECT file FROM pragma_database_list WHERE name = 'main'"
    files = [_row(connection, query)[0] for connection in (one, other)]
    if all(files):
        return all(Path(file).exists() for file in files) and Path(files[0]).samefile(files[1])
    # A database in memory has no file; shared ones have equal names.
    names = {str(connection.settings_dict["NAME"]) for connection in (one, other)}
    return len(names) == 1 and not _is_private_memory(one)


def _same_postgresql(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> bool:
    """The moment at which a server was started names it, whoever asks and by whatever way."""
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    query = (
        "SELECT pg_postmaster_start_time(), "
        "(SELECT oid FROM pg_database WHERE datname = current_database()), to_regclass(%s)::oid"
    )
    table = one.ops.quote_name(AuditRecord._meta.db_table)
    return _row(one, query, table) == _row(other, query, table)


def _same_mysql(one: BaseDatabaseWrapper, other: BaseDatabaseWrapper) -> bool:
    """A lock that one has taken is seen by the other if, and only if, they share a server.

    The nodes of a Galera cluster share data, but no locks; the cluster has an id.
    """
    if _row(one, "SELECT DATABASE()") != _row(other, "SELECT DATABASE()"):
        return False
    cluster = _row(one, _CLUSTER)
    if any(cluster[1:]) and cluster == _row(other, _CLUSTER):
        return True
    name = f"signal_audit_{secrets.token_hex(_LOCK_NAME_BYTES)}"
    _row(one, "SELECT GET_LOCK(%s, 0)", name)
    try:
        return not _row(other, _IS_FREE, name)[0]
    finally:
        _row(one, "SELECT RELEASE_LOCK(%s)", name)


def _row(connection: BaseDatabaseWrapper, query: str, *values: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return tuple(cursor.fetchone() or ())


_BY_VENDOR: Final[dict[str, Callable[[BaseDatabaseWrapper, BaseDatabaseWrapper], bool]]] = {
    "sqlite": _same_sqlite,
    "postgresql": _same_postgresql,
    "mysql": _same_mysql,
}
