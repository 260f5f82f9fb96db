"""What Django does not document of querysets, their queries, and how results are fetched."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import django
from django.db.models.sql.subqueries import UpdateQuery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import QuerySet


def database_to_write(queryset: QuerySet[Any]) -> str:
    """The alias that a write of a queryset goes to."""
    queryset._for_write = True  # type: ignore[attr-defined]
    return queryset.db


def forget_results(queryset: QuerySet[Any]) -> None:
    """Let a queryset that was evaluated ask the database again, as after ``update()``."""
    queryset._result_cache = None


def refuses_update(queryset: QuerySet[Any]) -> bool:
    """Whether there is nothing to update, or an error that Django itself words best."""
    query: Any = queryset.query
    # Before 6.1 an update after distinct(*fields) is none.
    distinct = query.distinct_fields and django.VERSION >= (6, 1)
    return bool(query.is_sliced or distinct or query.combinator or query.is_empty())


def check_update_values(queryset: QuerySet[Any], values: Mapping[str, Any]) -> None:
    """Refuse fields that ``update()`` refuses, and expressions that it cannot resolve.

    Django does so before it marks an open transaction as broken.

    Raises:
        FieldError: as ``update()``; its ``FieldDoesNotExist`` too.
    """
    query: Any = queryset.query
    query.chain(UpdateQuery).add_update_values(values)


def resolved_for_update(queryset: QuerySet[Any], expression: Any) -> Any:
    """An expression given to ``update()``, with its names resolved to columns.

    Returns:
        The expression, and the query that its columns belong to.
    """
    query = queryset.query.chain(UpdateQuery)
    return expression.resolve_expression(query, allow_joins=True, for_save=True), query


def with_keys_alone(queryset: QuerySet[Any], keys: Sequence[Any], using: str) -> QuerySet[Any]:
    """The rows with these keys, with a queryset's annotations and order but not its filter."""
    target: Any = queryset._chain().using(using)  # type: ignore[attr-defined]
    target.query.clear_where()
    found: QuerySet[Any] = target.filter(pk__in=keys)
    return found


def has_order_or_annotations(queryset: QuerySet[Any]) -> bool:
    """Whether an update of other rows would need more of a queryset than its model."""
    query: Any = queryset.query
    return bool(query.annotations or query.order_by)


def is_of_one_table(queryset: QuerySet[Any]) -> bool:
    """Whether a queryset joins nothing, so that each row is found once."""
    query: Any = queryset.query
    # What was joined to compare a foreign key with an object's key is not joined after all.
    return bool(sum(query.alias_refcount[alias] > 0 for alias in query.alias_map) <= 1)


def rows_meant(queryset: QuerySet[Any], using: str, *, keep_order: bool) -> QuerySet[Any]:
    """The rows of a queryset; where they are of one table, as plainly as possible.

    Args:
        queryset: left as it is.
        using: the database alias.
        keep_order: keep the order that was asked for; that of the model goes in any case.
    """
    found = queryset.using(using)
    query: Any = found.query
    if not (keep_order and query.order_by):
        found = found.order_by()
        query = found.query
    query.select_for_update = False
    if is_of_one_table(found) and not _aggregates(query):
        # An UPDATE or DELETE of one table does not group rows, nor make them distinct.
        query.group_by = None
        query.distinct, query.distinct_fields = False, ()
    return found


def can_lock(queryset: QuerySet[Any]) -> bool:
    """Whether every backend can lock these rows where it finds them.

    PostgreSQL locks no grouped or distinct rows, nor the nullable side of a join. MariaDB does.
    """
    query: Any = queryset.query
    unlike_a_table = bool(
        _aggregates(query)
        or query.distinct
        or query.group_by
        or query.extra
        or query.extra_tables
        or query.combinator
    )
    return is_of_one_table(queryset) and not unlike_a_table


def means_what_it_reads(queryset: QuerySet[Any]) -> bool:
    """Whether no row is read only to be left: all are meant, or those of some keys."""
    query: Any = queryset.query
    where = query.where.children
    if not where:
        return True
    lookup = where[0]
    return (
        len(where) == 1
        and not query.where.negated
        and getattr(lookup, "lookup_name", None) in {"exact", "in"}
        and getattr(lookup.lhs, "target", None) is query.get_meta().pk
    )


def _aggregates(query: Any) -> bool:
    return any(
        expression.contains_aggregate or expression.contains_over_clause
        for expression in query.annotations.values()
    )


@contextmanager
def unbuffered(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let ``QuerySet.iterator()`` really fetch piece by piece, on MariaDB too.

    Its driver otherwise fetches a whole result at once. No other statement may be sent before
    an unbuffered result has been read to its end.
    """
    if connection.vendor != "mysql":
        yield
        return
    from django.db.backends.mysql.base import CursorWrapper  # noqa: PLC0415 - needs its driver

    mysql: Any = connection

    def chunked_cursor() -> Any:
        raw = mysql.connection.cursor(mysql.Database.cursors.SSCursor)
        return mysql._prepare_cursor(CursorWrapper(raw))

    mysql.ensure_connection()
    mysql.chunked_cursor = chunked_cursor
    try:
        yield
    finally:
        del mysql.chunked_cursor
