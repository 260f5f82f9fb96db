"""What Django does not document of how a queryset picks its database and becomes SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models.sql import Query

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import QuerySet
    from django.db.models.sql.compiler import SQLCompiler


class AnnouncedQuery(Query):
    """A query that says when it is about to be compiled, subqueries too."""

    def before_compile(self, alias: str) -> None:
        """Do what must be done before the query reads; for subclasses.

        Args:
            alias: of the database that it will read.
        """

    def get_compiler(
        self,
        using: str | None = None,
        connection: BaseDatabaseWrapper | None = None,
        elide_empty: bool = True,
    ) -> SQLCompiler:
        """As Django's own, after ``before_compile``."""
        self.before_compile(using or (connection.alias if connection else DEFAULT_DB_ALIAS))
        compiler: SQLCompiler = super().get_compiler(using, connection, elide_empty)
        return compiler


def names_database(queryset: QuerySet[Any]) -> bool:
    """Whether a queryset's database is settled: by ``using()``, or by its manager's instance."""
    this: Any = queryset
    instance = this._hints.get("instance")
    return bool(this._db) or (instance is not None and bool(instance._state.db))


def routing_of(queryset: QuerySet[Any]) -> tuple[str, dict[str, Any]]:
    """What a queryset would ask of the routers: the name of the method, and its hints."""
    this: Any = queryset
    return ("db_for_write" if this._for_write else "db_for_read"), dict(this._hints)
