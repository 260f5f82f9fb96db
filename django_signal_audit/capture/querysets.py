"""``QuerySet.update``, ``bulk_update`` and ``bulk_create``: they send no signals.

So they are wrapped. Everything else that writes in bulk (related managers, ``aupdate`` and
its kin) ends in one of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.db.models.query import QuerySet

from django_signal_audit import context, internals
from django_signal_audit.capture.creates import bulk_create
from django_signal_audit.capture.filters import filter_text, values_shown
from django_signal_audit.capture.images import CHUNK, by_keys
from django_signal_audit.capture.inherited import given_to, parents_of, parts_by_rows, update_rows
from django_signal_audit.capture.patching import queryset_writes, wrap
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.summaries import by_rows, record_summary, summarises, summed
from django_signal_audit.capture.updates import (
    pieces_of,
    rows_written,
    touched_by,
    values_by_field,
)
from django_signal_audit.capture.watching import Watch, recording, watch_for
from django_signal_audit.exceptions import APPEND_ONLY, AppendOnlyError
from django_signal_audit.registry import is_record
from django_signal_audit.transactions import write_transaction

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.capture.plans import FieldPlan


def connect() -> None:
    """Wrap the three methods; a second call changes nothing."""
    for name, replacement in (
        ("update", _update),
        ("bulk_update", _bulk_update),
        ("bulk_create", bulk_create),
    ):
        recorded = functools.partial(_if_audited, name, replacement)
        wrap(QuerySet, name, recorded, writes=queryset_writes)


def _if_audited(
    name: str, replacement: Any, original: Any, self: Any, /, *args: Any, **kwargs: Any
) -> Any:
    watch = watch_for(self.model)
    if watch is None and name == "update" and is_record(self.model):
        raise AppendOnlyError(APPEND_ONLY)
    if context.is_suspended() or (watch is None and not self.model._meta.all_parents):
        return original(self, *args, **kwargs)
    return replacement(watch, original, self, *args, **kwargs)


def _update(watch: Watch | None, original: Any, self: Any, /, **values: Any) -> int:
    # By position only: a column may be called `watch`.
    if internals.refuses_update(self):
        return int(original(self, **values))
    model = self.model
    # The rows that a foreign key's on_delete changes are those of a delete, not of this call.
    on_delete = internals.is_on_delete(self)
    rows = watch if on_delete and watch else by_rows(watch, "update")
    touched = touched_by(rows.plan, values) if rows is not None else ()
    parts = parts_by_rows(model, values) if _speaks_for_parents(watch) else []
    summaries = [
        (one, fields)
        for one in _audited(watch, model)
        if not on_delete and summarises(one, "update") and (fields := _shown(one, model, values))
    ]
    if not (touched or parts or summaries):
        return int(original(self, **values))
    # Django refuses wrong fields before it marks an open transaction as broken; so do we.
    internals.check_update_values(self, values)
    using = internals.database_to_write(self)

    def write(queryset: Any, **values: Any) -> int:
        return int(original(queryset, **values))

    def write_parts(queryset: Any, **values: Any) -> int:
        return update_rows(write, parts, queryset, using, values)

    inner = write_parts if parts else write
    with write_transaction(using, model._meta.db_table):
        if rows is not None and touched:
            count = _update_rows(rows, touched, inner, self, using, values)
        else:
            count = inner(self, **values)
        if count:
            for one, fields in summaries:
                given = given_to(one, model, values)
                data = {
                    "bulk": "update",
                    "filter": filter_text(self),
                    "values": values_shown(one.plan, fields, given, self),
                    "rows": count,
                }
                record_summary(one, "update", using, data)
    internals.forget_results(self)
    return count


def _update_rows(
    watch: Watch,
    touched: tuple[FieldPlan, ...],
    write: Any,
    queryset: Any,
    using: str,
    values: Mapping[str, Any],
) -> int:
    count: int | None = None
    data = {"bulk": "on_delete" if internals.is_on_delete(queryset) else "update"}
    with recording(watch, using) as record:
        found = rows_of(queryset, touched, using)
        for target, pieces in pieces_of(queryset, found, values, using):
            count = (count or 0) + write(target, **values)
            for before in pieces:
                record(rows_written(watch.plan, touched, values, before, using, data))
    if count is None:
        # No row to write, but Django still refuses wrong values.
        count = write(by_keys(queryset.model, [], using), **values)
    return int(count)


def _bulk_update(
    watch: Watch | None,
    original: Any,
    self: Any,
    objs: Iterable[Any],
    fields: Iterable[str],
    batch_size: int | None = None,
) -> int:
    objs, fields = tuple(objs), list(fields)
    audited = _audited(watch, self.model)
    if any(by_rows(one, "update") for one in audited):
        # Each inner update is read in one piece: its CASE names every row of the batch.
        batch_size = min(CHUNK, CHUNK if batch_size is None else batch_size)
    summaries = [one for one in audited if summarises(one, "update")]
    if not (objs and summaries):
        return int(original(self, objs, fields, batch_size))
    using = internals.database_to_write(self)
    error: Exception | None = None
    count = 0
    with write_transaction(using, self.model._meta.db_table):
        try:
            with summed(summaries):
                count = int(original(self, objs, fields, batch_size))
        except Exception as exc:  # noqa: BLE001 - raised below
            # Django leaves the caller's transaction usable, or has doomed it itself.
            error = exc
        if count:
            values = dict.fromkeys(fields)
            for one in summaries:
                if shown := _shown(one, self.model, values):
                    data = {
                        "bulk": "bulk_update",
                        "filter": filter_text(self),
                        "fields": [field.name for field in shown],
                        "rows_given": len(objs),
                        "rows": count,
                    }
                    record_summary(one, "update", using, data)
    if error is not None:
        raise error
    return count


def _speaks_for_parents(watch: Watch | None) -> bool:
    """Whether inherited columns are recorded as the parents': no policy of the child's own."""
    return watch is None or watch.policy is None


def _audited(watch: Watch | None, model: type[Model]) -> list[Watch]:
    """The watches of the tables that an update of a model writes."""
    own = [] if watch is None else [watch]
    return [*own, *parents_of(model)] if _speaks_for_parents(watch) else own


def _shown(watch: Watch, model: type[Model], values: Mapping[str, Any]) -> tuple[FieldPlan, ...]:
    """The recorded columns among the keywords of an update; none where they alone make no event."""
    names = values_by_field(watch.plan, given_to(watch, model, values))
    fields = tuple(f for f in watch.plan.fields if f.recorded and f.name in names)
    if watch.policy is not None and watch.policy.ignore_only.issuperset(f.name for f in fields):
        return ()
    return fields
