"""What Django does not document of saving, and of the SQL that a queryset becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db import models

from django_signal_audit.internals.models import is_pk_set, pk_fields, pk_value

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import QuerySet

WRITE_TABLE: Final = (models.Model, "_save_table")
"""The method by which a save writes one table, called for each table of the model."""

WRITE_PARENTS: Final = (models.Model, "_save_parents")
"""The method by which a save writes the tables of the parents, before the model's own."""

Converters = dict[int, tuple[list[Any], Any]]


def tries_update(instance: models.Model, model: type[models.Model], *, forced: bool) -> bool:
    """Whether a save tries an UPDATE of a table before it inserts.

    Args:
        instance: that is saved.
        model: whose table is written, the instance's own or a parent's.
        forced: the save is raw, or an UPDATE is asked for.
    """
    meta = model._meta
    return is_pk_set(instance, meta) and (
        forced
        or not instance._state.adding
        or not all(f.has_default() or f.has_db_default() for f in pk_fields(meta))
    )


def row_key(instance: models.Model, model: type[models.Model]) -> Any:
    """The key of an instance's row in a table, before its parents' tables are written.

    A child may as yet have the key of its parent alone, or a link to another parent, which Django
    sets to the key under which it writes the parent.
    """
    meta: Any = model._meta
    key = pk_value(instance, meta)
    while meta.pk.remote_field is not None and meta.pk.remote_field.parent_link:
        meta = meta.pk.remote_field.model._meta
        above = pk_value(instance, meta)
        key = key if above is None else above
    return key


def compiled(queryset: QuerySet[Any, Any], using: str) -> tuple[str, tuple[Any, ...], Converters]:
    """A queryset as SQL with its parameters, and what makes Python values of its columns.

    Raises:
        EmptyResultSet: Django knows without asking that no row can match.
    """
    compiler = queryset.query.get_compiler(using=using)
    sql, parameters = compiler.as_sql()
    columns = [column for column, _, _ in compiler.select]
    return sql, tuple(parameters), compiler.get_converters(columns)


def converted(row: Any, converters: Converters, connection: BaseDatabaseWrapper) -> list[Any]:
    """The Python values of a row as the driver has fetched it."""
    values = list(row)
    for index, (functions, expression) in converters.items():
        for convert in functions:
            values[index] = convert(values[index], expression, connection)
    return values
