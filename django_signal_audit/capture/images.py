"""Rows before and after a write, as the database holds them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet

from django_signal_audit import conf, internals
from django_signal_audit.capture.plans import UNKNOWN, FieldPlan
from django_signal_audit.cleaning import clean_text
from django_signal_audit.keys import default_repr, object_key, own_text
from django_signal_audit.masking import instance_secrets
from django_signal_audit.pipeline import Change
from django_signal_audit.registry import policy_for

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

    from django_signal_audit.capture.plans import ModelPlan

Image = dict[str, Any]
"""Field name to the value the database holds."""

CHUNK: Final = 500
"""Rows that are read or written by key in one statement; SQLite once took 999 parameters."""

_INTEGER_BITS: Final = 64

_STATEMENTS: Final = "_signal_audit_statements"
_MOST_STATEMENTS: Final = 1000


def read_row(
    model: type[Model], pk: Any, fields: Sequence[FieldPlan], using: str, *, lock: bool
) -> Image | None:
    """Read one row by key.

    Args:
        model: concrete class.
        pk: its primary key, as an attribute or a database value.
        fields: columns to read.
        using: the database alias.
        lock: keep others from changing the row until the transaction ends; if not, this
            transaction has written it.

    Returns:
        The image, ``None`` if there is no such row.
    """
    return next((image for _, image in read_rows(model, [pk], fields, using, lock=lock)), None)


def read_rows(
    model: type[Model], pks: Sequence[Any], fields: Sequence[FieldPlan], using: str, *, lock: bool
) -> Iterator[tuple[Any, Image]]:
    """Read rows by key, as pairs of key and image; rows that are gone are left out.

    The SQL for a single row is compiled once for each connection.

    Args:
        model: concrete class.
        pks: primary keys, as attributes or database values.
        fields: columns to read.
        using: the database alias.
        lock: as for ``read_row``.
    """
    connection = connections[using]
    lock = lock or internals.reads_the_past(connection)
    for start in range(0, len(pks), CHUNK):
        chunk = pks[start : start + CHUNK]
        statement = None
        if len(chunk) == 1:
            try:
                statement = _statement(connection, model, tuple(fields), chunk[0], lock=lock)
            except EmptyResultSet:
                continue  # Django knows that the column cannot hold this key
        rows: Iterable[Sequence[Any]]
        if statement is not None:
            rows = _fetched(connection, model, chunk[0], statement)
        else:
            found = by_keys(model, chunk, using)
            names = [plan.attname for plan in fields]
            # Not iterator(): PostgreSQL would open a cursor, with three round trips for one.
            rows = (locked(found) if lock else found).values_list("pk", *names)
        for pk, *values in rows:
            yield pk, {plan.name: value for plan, value in zip(fields, values, strict=True)}


def _fetched(
    connection: BaseDatabaseWrapper,
    model: type[Model],
    pk: Any,
    statement: tuple[str, internals.Converters],
) -> list[list[Any]]:
    """The row with a key, if there is one."""
    sql, converters = statement
    key = model._meta.pk
    parameter = key.get_db_prep_value(key.get_prep_value(pk), connection, prepared=True)
    if connection.vendor == "sqlite" and _is_too_large(parameter):
        return []  # the same with a compiled statement; the driver refuses to ask
    with connection.cursor() as cursor:
        cursor.execute(sql, (parameter,))
        row = cursor.fetchone()
    return [] if row is None else [internals.converted(row, converters, connection)]


def _is_too_large(parameter: Any) -> bool:
    return isinstance(parameter, int) and parameter.bit_length() >= _INTEGER_BITS


def by_keys(model: type[Model], pks: Sequence[Any], using: str) -> QuerySet[Model]:
    """The rows with these keys."""
    return all_rows(model, using).filter(pk__in=pks)


def all_rows(model: type[Model], using: str) -> QuerySet[Model]:
    """The rows of a model in no order, whatever its managers hide or add."""
    return QuerySet(model, using=using).order_by()


def locked(queryset: QuerySet[Model]) -> QuerySet[Model]:
    """The same rows, locked as weakly as the backend can: a foreign key may still point here."""
    no_key = connections[queryset.db].features.has_select_for_no_key_update
    return queryset.select_for_update(no_key=no_key)


def _statement(
    connection: BaseDatabaseWrapper,
    model: type[Model],
    fields: tuple[FieldPlan, ...],
    pk: Any,
    *,
    lock: bool,
) -> tuple[str, internals.Converters] | None:
    """The SELECT of one row by key; ``None`` where the key is not one parameter."""
    cache: dict[Any, Any] = connection.__dict__.setdefault(_STATEMENTS, {})
    key = (model, fields, lock)
    if isinstance(pk, tuple) or hasattr(pk, "resolve_expression"):
        return None
    if key in cache:
        return cache[key]  # type: ignore[no-any-return]
    if len(cache) >= _MOST_STATEMENTS:
        cache.clear()
    names = [plan.attname for plan in fields]
    found = all_rows(model, connection.alias).filter(pk=pk)
    wanted = (locked(found) if lock else found).values_list("pk", *names)
    sql, parameters, converters = internals.compiled(wanted, connection.alias)
    statement = (sql, converters) if len(parameters) == 1 else None
    if not internals.is_historical(model):
        cache[key] = statement
    return statement


def attribute_image(
    instance: Model, fields: Sequence[FieldPlan], using: str
) -> tuple[Image, list[FieldPlan]]:
    """What the attributes say the row holds now, and which columns they cannot tell.

    A deferred attribute is never loaded: its column is among those that cannot be told.
    """
    if internals.cuts_silently(connections[using]):
        return {}, list(fields)
    image: Image = {}
    unknown: list[FieldPlan] = []
    attributes = instance.__dict__
    for plan in fields:
        value = plan.stored(attributes[plan.attname]) if plan.attname in attributes else UNKNOWN
        if value is UNKNOWN or plan.generated:
            unknown.append(plan)
        else:
            image[plan.name] = value
    return image, unknown


def stored_image(
    instance: Model, model: type[Model], fields: Sequence[FieldPlan], using: str
) -> Image:
    """The row just written: from the attributes where they are certain, else read back."""
    image, unknown = attribute_image(instance, fields, using)
    if unknown:
        pk = internals.pk_value(instance, model._meta)
        image.update(read_row(model, pk, unknown, using, lock=False) or {})
    return image


def differences(
    fields: Sequence[FieldPlan], old: Image | None, new: Image | None
) -> dict[str, Any]:
    """``changes`` of an event: what a create, an update or a delete altered.

    Args:
        fields: the columns that may have changed.
        old: the row before, ``None`` for a create.
        new: the row after, ``None`` for a delete.
    """
    recorded = [plan for plan in fields if plan.recorded]
    if old is None:
        image = new or {}
        return {p.name: [None, p.shown(image[p.name])] for p in recorded if p.name in image}
    if new is None:
        return {p.name: [p.shown(old[p.name]), None] for p in recorded if p.name in old}
    return {
        p.name: [p.shown(old[p.name]), p.shown(new[p.name])]
        for p in recorded
        if p.name in old and p.name in new and not p.same(old[p.name], new[p.name])
    }


def make_change(
    operation: str,
    plan: ModelPlan,
    pk: Any,
    changes: dict[str, Any],
    *,
    instance: Model | None = None,
    data: dict[str, Any] | None = None,
) -> Change:
    """A row's change with its key and its short text."""
    key = object_key(plan.model, pk)
    text = default_repr(plan.model, key) if instance is None else instance_repr(plan, instance, key)
    return Change(operation, key, text, changes, data or {})


def instance_repr(plan: ModelPlan, instance: Model, key: str) -> str:
    """The instance's ``str()``, bounded and without secrets, if it takes no query to have it."""
    limit = conf.current().REPR_LIMIT
    if limit == 0:
        return ""
    text = None if instance.get_deferred_fields() else own_text(instance, limit=sys.maxsize)
    if text is None:
        return default_repr(plan.model, key)
    return clean_text(text, instance_secrets(instance, plan.mask_fields), limit=limit)


def secrets_of(instance: Model) -> set[str]:
    """The values of an audited instance that must not reappear in texts about it."""
    policy = policy_for(type(instance))
    return set() if policy is None else instance_secrets(instance, policy.mask_fields)
