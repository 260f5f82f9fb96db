"""An update of a child that is not audited: its inherited columns may be an audited parent's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_signal_audit.capture.images import by_keys, read_rows
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.summaries import by_rows
from django_signal_audit.capture.updates import pieces_of, rows_written, touched_by
from django_signal_audit.capture.watching import Watch, recording, watch_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import Model, QuerySet

    from django_signal_audit.capture.images import Image
    from django_signal_audit.capture.plans import FieldPlan


@dataclass(frozen=True, slots=True)
class Part:
    """What an update of a child writes to the table of one audited parent.

    Attributes:
        watch: of the parent, or what is left of it row by row.
        touched: its columns that may change.
        given: the keywords of the update that are about them.
    """

    watch: Watch
    touched: tuple[FieldPlan, ...]
    given: dict[str, Any]


def parents_of(model: type[Model]) -> Iterator[Watch]:
    """The parents with tables of their own that are audited."""
    meta = model._meta
    for parent in meta.all_parents:
        has_table = not parent._meta.proxy and parent is not meta.concrete_model
        watch = watch_for(parent) if has_table else None
        if watch is not None:
            yield watch


def given_to(watch: Watch, model: type[Model], values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the keywords of an update, those about columns of a parent's own table.

    Args:
        watch: of the parent.
        model: that is updated.
        values: the keywords.
    """
    if watch.model is model._meta.concrete_model:
        return dict(values)
    return {
        name: value
        for name, value in values.items()
        if model._meta.get_field(name).model is watch.model
    }


def parts_by_rows(model: type[Model], values: Mapping[str, Any]) -> list[Part]:
    """What an update of a child writes that is recorded row by row as its parents'."""
    found = []
    for watch in parents_of(model):
        rows = by_rows(watch, "update")
        if rows is None:
            continue
        given = given_to(watch, model, values)
        touched = touched_by(rows.plan, given)
        if touched:
            found.append(Part(rows, touched, given))
    return found


def update_rows(
    write: Callable[..., int],
    parts: list[Part],
    queryset: QuerySet[Any],
    using: str,
    values: Mapping[str, Any],
) -> int:
    """Update the rows of a child, and record what that does to its parents' rows.

    Args:
        write: updates a queryset.
        parts: at least one.
        queryset: which rows.
        using: the database alias, in a transaction.
        values: the keywords of the update.

    Returns:
        How many rows there were.
    """
    count: int | None = None
    found = _parents_before(parts, queryset, using)
    for target, pieces in pieces_of(queryset, found, values, using):
        count = (count or 0) + write(target, **values)
        for part, images in (pair for before in pieces for pair in zip(parts, before, strict=True)):
            with recording(part.watch, using) as record:
                data = {"bulk": "update"}
                record(rows_written(part.watch.plan, part.touched, part.given, images, using, data))
    if count is None:
        # No row to write, but Django still refuses wrong values.
        count = write(by_keys(queryset.model, [], using), **values)
    return count


def _parents_before(
    parts: list[Part], queryset: QuerySet[Any], using: str
) -> Iterator[tuple[list[Any], list[dict[Any, Image]]]]:
    """The keys of the children, locked, and for each part the images of its parents' rows."""
    for keys, _ in rows_of(queryset, (), using):
        children = by_keys(queryset.model, keys, using)
        before = []
        for part in parts:
            key = part.watch.model._meta.pk.name
            parents = list(children.values_list(key, flat=True))
            rows = read_rows(part.watch.model, parents, part.touched, using, lock=True)
            before.append(dict(rows))
        yield keys, before
