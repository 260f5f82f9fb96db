"""The rows that a queryset means, locked before an UPDATE or DELETE of exactly these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.db import connections

from django_signal_audit import internals
from django_signal_audit.capture.images import (
    CHUNK,
    Image,
    all_rows,
    by_keys,
    locked,
    read_rows,
)

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_signal_audit.capture.plans import FieldPlan


def rows_of(
    queryset: QuerySet[Any], fields: Sequence[FieldPlan], using: str
) -> Iterator[tuple[list[Any], dict[Any, Image]]]:
    """Lock the rows of a queryset and read columns of them, chunk by chunk.

    The keys are read once, for the caller to write exactly these: the same filter asked
    twice can find a row that was inserted in between, and write it unseen.

    Returns:
        Pairs of keys and images by key.
    """
    found = _one_table(queryset, using)
    connection = connections[using]
    tests_again = not _can_lock(found)
    passes = internals.update_passes_locked_rows(connection)
    if passes and not _means_what_it_reads(found.query):
        yield from _found_then_locked(found, fields, using, tests_again=tests_again)
        return
    if tests_again and not internals.reads_the_past(connection):
        rows = locked(all_rows(queryset.model, using).filter(pk__in=found.values("pk")))
    else:
        rows, tests_again = locked(found), False
    names = [plan.attname for plan in fields]
    first = list(rows.values_list("pk", *names)[: CHUNK + 1])
    if len(first) <= CHUNK:
        images = _images(fields, first)
        left = _still_meant(found, list(images), using) if tests_again else list(images)
        if left:
            yield left, {key: images[key] for key in left}
        return
    del first
    keys = list(dict.fromkeys(rows.values_list("pk", flat=True)))
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        left = _still_meant(found, chunk, using) if tests_again else chunk
        yield left, dict(read_rows(queryset.model, left, fields, using, lock=False))


def _found_then_locked(
    found: QuerySet[Any], fields: Sequence[FieldPlan], using: str, *, tests_again: bool
) -> Iterator[tuple[list[Any], dict[Any, Image]]]:
    """Find the keys without a lock, then lock just these rows, if they still are meant.

    A SELECT that locks would wait for every row it looks at, as the UPDATE itself does not.
    """
    names = [plan.attname for plan in fields]
    keys = list(dict.fromkeys(found.values_list("pk", flat=True)))
    images: dict[Any, Image] = {}
    left: list[Any] = []
    # All are locked before the first is written: the filter may be about other rows.
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        rows = by_keys(found.model, chunk, using) if tests_again else found.filter(pk__in=chunk)
        images = _images(fields, list(locked(rows).values_list("pk", *names)))
        left += _still_meant(found, list(images), using) if tests_again else images
    if len(keys) <= CHUNK:
        if left:
            yield left, {key: images[key] for key in left}
        return
    for start in range(0, len(left), CHUNK):
        chunk = left[start : start + CHUNK]
        yield chunk, dict(read_rows(found.model, chunk, fields, using, lock=True))


def _means_what_it_reads(query: Any) -> bool:
    """Whether no row is read only to be left: all are meant, or those of some keys."""
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


def _one_table(queryset: QuerySet[Any], using: str) -> QuerySet[Any]:
    """The rows of a queryset; where they are of one table, as plainly as possible.

    Only MariaDB updates in an order, which matters where a unique column is counted up.
    """
    found = queryset.using(using)
    if not (found.query.order_by and connections[using].vendor == "mysql"):
        found = found.order_by()
    query = found.query
    query.select_for_update = False
    if len(query.alias_map) <= 1 and not _aggregates(query):
        # An UPDATE or DELETE of one table does not group rows, nor make them distinct.
        query.group_by = None
        query.distinct, query.distinct_fields = False, ()
    return found


def _can_lock(queryset: QuerySet[Any]) -> bool:
    """Whether every backend can lock these rows where it finds them.

    PostgreSQL locks no grouped or distinct rows, nor the nullable side of a join. MariaDB does.
    """
    query = queryset.query
    return len(query.alias_map) <= 1 and not (
        _aggregates(query)
        or query.distinct
        or query.group_by
        or query.extra
        or query.extra_tables
        or query.combinator
    )


def _aggregates(query: Any) -> bool:
    return any(
        expression.contains_aggregate or expression.contains_over_clause
        for expression in query.annotations.values()
    )


def _still_meant(queryset: QuerySet[Any], keys: list[Any], using: str) -> list[Any]:
    """The locked rows that still are what was asked for.

    A database that waits for a lock tests the row's own condition again, but not one
    that stands in a subquery: another transaction may have changed the row meanwhile, and a
    guard such as ``free__gte=10`` must see that.
    """
    if not connections[using].features.has_select_for_update:
        return keys
    return list(dict.fromkeys(queryset.filter(pk__in=keys).values_list("pk", flat=True)))


def _images(fields: Sequence[FieldPlan], rows: Sequence[tuple[Any, ...]]) -> dict[Any, Image]:
    return {
        row[0]: {p.name: value for p, value in zip(fields, row[1:], strict=True)} for row in rows
    }
