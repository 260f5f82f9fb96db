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
from django_signal_audit.capture.keys_found import found_keys

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_signal_audit.capture.plans import FieldPlan


def rows_of(
    queryset: QuerySet[Any], fields: Sequence[FieldPlan], using: str
) -> Iterator[tuple[list[Any], dict[Any, Image]]]:
    """Lock the rows of a queryset and read columns of them, chunk by chunk.

    The keys are read once, before the first chunk is given out, for the caller to write
    exactly these: the same filter asked twice can find a row that was inserted in between,
    and write it unseen.

    Returns:
        Pairs of keys and images by key.
    """
    connection = connections[using]
    # Only MariaDB updates in an order, which matters where a unique column is counted up.
    found = internals.rows_meant(queryset, using, keep_order=connection.vendor == "mysql")
    tests_again = not internals.can_lock(found)
    passes = internals.update_passes_locked_rows(connection)
    if passes and not internals.means_what_it_reads(found):
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
    with found_keys(CHUNK) as keys, found_keys(CHUNK) as left_keys:
        keys.add(_keys_of(rows, using))
        if tests_again:
            for chunk in keys.chunks():
                left_keys.add(_still_meant(found, chunk, using))
        for chunk in (left_keys if tests_again else keys).chunks():
            yield chunk, dict(read_rows(queryset.model, chunk, fields, using, lock=False))


def _found_then_locked(
    found: QuerySet[Any], fields: Sequence[FieldPlan], using: str, *, tests_again: bool
) -> Iterator[tuple[list[Any], dict[Any, Image]]]:
    """Find the keys without a lock, then lock just these rows, if they still are meant.

    A SELECT that locks would wait for every row it looks at, as the UPDATE itself does not.
    """
    names = [plan.attname for plan in fields]

    def lock(keys: list[Any]) -> tuple[list[Any], dict[Any, Image]]:
        rows = by_keys(found.model, keys, using) if tests_again else found.filter(pk__in=keys)
        images = _images(fields, list(locked(rows).values_list("pk", *names)))
        return _still_meant(found, list(images), using) if tests_again else list(images), images

    first = list(found.values_list("pk", flat=True)[: CHUNK + 1])
    if len(first) <= CHUNK:
        left, images = lock(list(dict.fromkeys(first)))
        if left:
            yield left, {key: images[key] for key in left}
        return
    with found_keys(CHUNK) as keys, found_keys(CHUNK) as left_keys:
        keys.add(_keys_of(found, using))
        # All are locked before the first is written: the filter may be about other rows.
        for chunk in keys.chunks():
            left_keys.add(lock(chunk)[0])
        for chunk in left_keys.chunks():
            yield chunk, dict(read_rows(found.model, chunk, fields, using, lock=True))


def _keys_of(rows: QuerySet[Any], using: str) -> Iterator[Any]:
    """The keys of many rows, each once, fetched piece by piece."""
    keys = rows.values_list("pk", flat=True)
    if not internals.is_of_one_table(rows):
        keys = keys.distinct()
    with internals.unbuffered(connections[using]):
        yield from keys.iterator(chunk_size=CHUNK)


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
