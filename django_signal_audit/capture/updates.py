"""An UPDATE of known keys with the same values for all: what it did to each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections
from django.db.models import Model

from django_signal_audit import internals
from django_signal_audit.capture.images import Image, by_keys, read_rows
from django_signal_audit.capture.plans import UNKNOWN, FieldPlan, ModelPlan
from django_signal_audit.capture.watching import Row
from django_signal_audit.keys import object_key

if TYPE_CHECKING:
    from django.db.models import QuerySet

T = TypeVar("T")


def touched_by(plan: ModelPlan, values: Mapping[str, Any]) -> tuple[FieldPlan, ...]:
    """The recorded columns that an UPDATE with these keywords may change."""
    names = set(values_by_field(plan, values))
    found = tuple(f for f in plan.fields if f.name in names)
    return found + tuple(f for f in plan.fields if f.generated) if found else ()


def target_of(queryset: QuerySet[Any], keys: Sequence[Any], using: str) -> QuerySet[Any]:
    """The rows to update: exactly the keys that were read.

    Args:
        queryset: what the update was called on.
        keys: of rows that it means.
        using: the database alias.
    """
    if internals.has_order_or_annotations(queryset):
        # Values may refer to annotations, and MariaDB updates in the given order.
        return internals.with_keys_alone(queryset, keys, using)
    return by_keys(queryset.model, keys, using)


def pieces_of(
    queryset: QuerySet[Any],
    found: Iterable[tuple[list[Any], T]],
    values: Mapping[str, Any],
    using: str,
) -> Iterator[tuple[QuerySet[Any], list[T]]]:
    """The rows to update with one statement, and what is known of them.

    Few at a time, so that memory stays bounded. But all at once where a value is looked up in
    a table: it may be the one that is updated, and a second statement would find there
    what the first has written.

    Args:
        queryset: what the update was called on.
        found: keys of its rows, locked, with what is known of them.
        values: the keywords of the update.
        using: the database alias.
    """
    if not _looks_up(queryset, values):
        for keys, known in found:
            yield target_of(queryset, keys, using), [known]
        return
    every: list[Any] = []
    pieces: list[T] = []
    for keys, known in found:
        every += keys
        pieces.append(known)
    if len(pieces) > 1 and connections[using].vendor == "sqlite":
        # It takes no statement with very many keys, and lets nobody else write meanwhile.
        yield queryset, pieces
    elif pieces:
        yield target_of(queryset, every, using), pieces


def _looks_up(queryset: QuerySet[Any], values: Mapping[str, Any]) -> bool:
    return any(
        internals.reads_other_rows(*internals.resolved_for_update(queryset, value))
        for value in values.values()
        if hasattr(value, "resolve_expression")
    )


def rows_written(
    plan: ModelPlan,
    touched: Sequence[FieldPlan],
    values: Mapping[str, Any],
    before: Mapping[Any, Image],
    using: str,
    data: dict[str, Any],
) -> Iterator[Row]:
    """The rows that an UPDATE has written, as they were and as they are.

    Args:
        plan: of the model.
        touched: columns that may have changed.
        values: the keywords of the update, by field name or attname.
        before: the images of the rows by key.
        using: the database alias; the UPDATE has run there.
        data: goes into each event.
    """
    constant, unknown = _new_values(plan, touched, values, using)
    read = _read_back(plan, unknown, values, list(before), using) if unknown else {}
    for key, old in before.items():
        after = {**constant, **read.get(key, {})}
        yield Row("update", key, old, after, data=dict(data))


def _read_back(
    plan: ModelPlan,
    unknown: Sequence[FieldPlan],
    values: Mapping[str, Any],
    keys: list[Any],
    using: str,
) -> dict[Any, Image]:
    """Columns as they are now, by the key that each row had before the UPDATE."""
    given = values_by_field(plan, values)
    written = {
        number: _raw(part, given[part.name])
        for number, part in enumerate(internals.pk_fields(plan.model._meta))
        if part.name in given
    }
    if not written or any(hasattr(value, "resolve_expression") for value in written.values()):
        return dict(read_rows(plan.model, keys, unknown, using, lock=False))
    # The UPDATE has given the rows another key, by which they are found now.
    now = {key: _with_parts(key, written) for key in keys}
    rows = read_rows(plan.model, list(now.values()), unknown, using, lock=False)
    found = {object_key(plan.model, key): image for key, image in rows}
    return {key: found.get(object_key(plan.model, new), {}) for key, new in now.items()}


def _with_parts(key: Any, written: Mapping[int, Any]) -> Any:
    """A key, composite or not, with some of its parts exchanged."""
    if not isinstance(key, tuple):
        return written[0]
    return tuple(written.get(number, part) for number, part in enumerate(key))


def values_by_field(plan: ModelPlan, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of an update by field name, however they name the fields."""
    meta = plan.model._meta
    found: dict[str, Any] = {}
    for name, value in values.items():
        found[meta.get_field(name).name] = value
    return found


def _new_values(
    plan: ModelPlan, touched: Sequence[FieldPlan], values: Mapping[str, Any], using: str
) -> tuple[Image, list[FieldPlan]]:
    """New values that are the same for every row, and the columns that must be read back."""
    # Rows whose key is written are not found again by the old one.
    if internals.cuts_silently(connections[using]) and not any(
        field.field.primary_key for field in touched
    ):
        return {}, list(touched)
    given = values_by_field(plan, values)
    constant: Image = {}
    unknown: list[FieldPlan] = []
    for field in touched:
        value = UNKNOWN if field.generated else constant_of(field, given[field.name])
        if value is UNKNOWN:
            unknown.append(field)
        else:
            constant[field.name] = value
    return constant, unknown


def constant_of(plan: FieldPlan, given: Any) -> Any:
    """The value that a column holds after an update to it; ``UNKNOWN`` if that cannot be told."""
    if hasattr(given, "resolve_expression"):
        return UNKNOWN
    return plan.stored(_raw(plan.field, given))


def _raw(field: Any, given: Any) -> Any:
    """What is written to a column for which an update was given a value, maybe an instance."""
    if isinstance(given, Model):
        return getattr(given, getattr(field, "target_field", field).attname)
    return given
