"""``bulk_create``: the rows as they were stored, or one event for the call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from django.db import connections, transaction

from django_signal_audit import internals
from django_signal_audit.capture.conflicts import Conflicts
from django_signal_audit.capture.images import (
    CHUNK,
    Image,
    attribute_image,
    differences,
    instance_repr,
    read_rows,
)
from django_signal_audit.capture.summaries import by_rows, record_summary, summarises
from django_signal_audit.capture.watching import Row, Watch, recording
from django_signal_audit.keys import object_key
from django_signal_audit.pipeline import Change
from django_signal_audit.transactions import write_transaction

if TYPE_CHECKING:
    from django_signal_audit.capture.plans import FieldPlan, ModelPlan

AT_ONCE: Final = 5000
"""Objects that are compared with the rows they may meet, in one piece."""


class _RefusedError(Exception):
    """Django refused to create the objects.

    Attributes:
        error: what it raised.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def bulk_create(
    watch: Watch | None,
    original: Any,
    self: Any,
    objs: Iterable[Any],
    batch_size: int | None = None,
    ignore_conflicts: bool = False,
    update_conflicts: bool = False,
    update_fields: Collection[str] | None = None,
    unique_fields: Collection[str] | None = None,
) -> Any:
    """Stands in for ``QuerySet.bulk_create``, and records what it inserts or updates.

    Args:
        watch: of the table, ``None`` if nobody watches it.
        original: Django's method.
        self: the queryset.
        objs: as Django takes them, like all that follows.
        batch_size: as above.
        ignore_conflicts: as above.
        update_conflicts: as above.
        update_fields: as above.
        unique_fields: as above.

    Returns:
        What Django returns.
    """
    objs = list(objs)
    options = (batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)
    rows = by_rows(watch, "create") or (by_rows(watch, "update") if update_conflicts else None)
    summary = _operation_of_summary(watch, updates=update_conflicts)
    if not objs or (rows is None and summary is None):
        return original(self, objs, *options)
    using = internals.database_to_write(self)
    # A database cannot tell which rows it inserted; they are looked up before and after.
    compares = rows is not None and (ignore_conflicts or update_conflicts)
    error: Exception | None = None
    result: Any = objs
    with write_transaction(using, self.model._meta.db_table):
        try:
            if rows is not None and compares:
                _create_comparing(rows, original, self, objs, using, options)
            else:
                result = _call(original, self, objs, options)
        except _RefusedError as refused:
            # Django leaves the caller's transaction usable; what it began itself it has doomed.
            error = refused.error
        else:
            if rows is not None and not compares:
                with recording(rows, using) as record:
                    for start in range(0, len(objs), CHUNK):
                        record(_creates(rows.plan, objs[start : start + CHUNK], using))
            if watch is not None and summary is not None:
                record_summary(watch, summary, using, _summary_data(objs, *options))
    if error is not None:
        raise error
    return result


def _call(original: Any, queryset: Any, objs: Sequence[Any], options: tuple[Any, ...]) -> Any:
    try:
        return original(queryset, objs, *options)
    except Exception as exc:
        raise _RefusedError(exc) from exc


def _operation_of_summary(watch: Watch | None, *, updates: bool) -> str | None:
    if summarises(watch, "create"):
        return "create"
    return "update" if updates and summarises(watch, "update") else None


def _summary_data(
    objs: Sequence[Any],
    batch_size: int | None,
    ignore_conflicts: bool,
    update_conflicts: bool,
    update_fields: Collection[str] | None,
    unique_fields: Collection[str] | None,
) -> dict[str, Any]:
    data: dict[str, Any] = {"bulk": "bulk_create"}
    if not (ignore_conflicts or update_conflicts):
        return {**data, "rows": len(objs)}
    data["conflicts"] = "update" if update_conflicts else "ignore"
    if update_conflicts:
        data["update_fields"] = list(update_fields or ())
    if unique_fields:
        data["unique_fields"] = list(unique_fields)
    return {**data, "rows_attempted": len(objs)}


def _create_comparing(
    watch: Watch,
    original: Any,
    queryset: Any,
    objs: Sequence[Any],
    using: str,
    options: tuple[Any, ...],
) -> None:
    """Create objects that rows may be in the way of, piece by piece, and record what that did."""
    connection = connections[using]
    # What Django refuses in a later piece takes the earlier ones with it.
    block = transaction.atomic(using) if len(objs) > AT_ONCE else nullcontext()
    _, _, update, _, unique_fields = options
    doomed = False
    try:
        with block, recording(watch, using) as record:
            for piece in _pieces(objs):
                conflicts = Conflicts(watch.plan, piece, using, update, unique_fields)
                try:
                    with internals.counting_inserts(connection, watch.model) as inserted:
                        _call(original, queryset, piece, options)
                except _RefusedError:
                    doomed = connection.needs_rollback
                    raise
                # MariaDB counts a row that is updated twice.
                record(conflicts.rows(None if update else inserted.rows))
    except _RefusedError as refused:
        if doomed:
            internals.doom(connection, refused.error)
        raise


def _pieces(objs: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The objects in the order in which Django inserts them: those with a key first."""
    if len(objs) > AT_ONCE and not objs[0]._meta.pk.has_default():
        keyed: list[Any] = []
        others: list[Any] = []
        for obj in objs:
            (keyed if internals.has_key(obj) else others).append(obj)
        keyed += others
        objs = keyed
        del others
    for start in range(0, len(objs), AT_ONCE):
        yield objs[start : start + AT_ONCE]


def _creates(plan: ModelPlan, objs: Sequence[Any], using: str) -> Iterator[Row | Change]:
    images: list[Image] = []
    unknown: dict[str, FieldPlan] = {}
    for obj in objs:
        image, missing = attribute_image(obj, plan.fields, using)
        images.append(image)
        unknown.update((field.name, field) for field in missing)
    read = _read_back(plan, objs, list(unknown.values()), using)
    for obj, image in zip(objs, images, strict=True):
        data: dict[str, Any] = {"bulk": "bulk_create"}
        if internals.is_pk_set(obj, plan.model._meta):
            image.update(read.get(object_key(plan.model, obj.pk), {}))
            yield Row("create", obj.pk, None, image, obj, data)
        else:
            # The backend returns no keys: the row is there, but cannot be named.
            text = instance_repr(plan, obj, str(obj.pk))
            changes = differences(plan.fields, None, image)
            yield Change("create", None, text, changes, {**data, "key": "unknown"})


def _read_back(
    plan: ModelPlan, objs: Sequence[Any], unknown: list[FieldPlan], using: str
) -> dict[str, Image]:
    if not unknown:
        return {}
    keys = [obj.pk for obj in objs if internals.is_pk_set(obj, plan.model._meta)]
    rows = read_rows(plan.model, keys, unknown, using, lock=False)
    return {object_key(plan.model, key): image for key, image in rows}
