"""``QuerySet.update`` and ``bulk_create``: they send no signals, so they are wrapped.

Everything else that writes in bulk (``bulk_update``, related managers, ``aupdate``) ends
in one of the two; ``bulk_update`` is wrapped to bound its batches.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import django
from django.db.models.query import QuerySet
from django.db.models.sql.subqueries import UpdateQuery

from django_signal_audit import context, internals
from django_signal_audit.capture.conflicts import Conflicts
from django_signal_audit.capture.images import (
    CHUNK,
    Image,
    attribute_image,
    by_keys,
    differences,
    instance_repr,
    make_change,
    read_rows,
)
from django_signal_audit.capture.patching import wrap
from django_signal_audit.capture.plans import FieldPlan, ModelPlan, plan_for
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.updates import changes_of, touched_by
from django_signal_audit.exceptions import APPEND_ONLY, AppendOnlyError
from django_signal_audit.keys import object_key
from django_signal_audit.pipeline import Change, emit_changes
from django_signal_audit.registry import is_record, policy_for
from django_signal_audit.transactions import write_transaction

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.registry import AuditPolicy


def connect() -> None:
    """Wrap the three methods; a second call changes nothing."""
    for name, replacement in (
        ("update", _update),
        ("bulk_update", _bulk_update),
        ("bulk_create", _bulk_create),
    ):
        wrap(QuerySet, name, functools.partial(_if_audited, name, replacement))


def _if_audited(
    name: str, replacement: Any, original: Any, self: Any, /, *args: Any, **kwargs: Any
) -> Any:
    policy = policy_for(self.model)
    if policy is None and name == "update" and is_record(self.model):
        raise AppendOnlyError(APPEND_ONLY)
    if context.is_suspended():
        return original(self, *args, **kwargs)
    if policy is not None:
        return replacement(policy, original, self, *args, **kwargs)
    if name == "update" and self.model._meta.all_parents:
        return _update_inherited(original, self, **kwargs)
    return original(self, *args, **kwargs)


def _update(policy: AuditPolicy, original: Any, self: Any, /, **values: Any) -> int:
    # By position only: a column may be called `policy`.
    if "update" not in policy.on or _is_refused(self.query):
        return int(original(self, **values))
    plan = plan_for(self.model._meta.concrete_model, policy)
    touched = touched_by(plan, values)
    if not touched:
        return int(original(self, **values))
    # Django refuses wrong fields before it marks an open transaction as broken; so do we.
    self.query.chain(UpdateQuery).add_update_values(values)
    self._for_write = True
    using = self.db
    rows: int | None = None
    with write_transaction(using, self.model._meta.db_table):
        for keys, before in rows_of(self, touched, using):
            rows = (rows or 0) + int(original(_target(self, keys, using), **values))
            changes = changes_of(plan, touched, values, before, using, {"bulk": "update"})
            emit_changes(policy, plan.model._meta.label, using, changes)
        if rows is None:
            # No row to write, but Django still refuses wrong values.
            rows = int(original(by_keys(self.model, [], using), **values))
    self._result_cache = None
    return rows


def _is_refused(query: Any) -> bool:
    """Whether there is nothing to update, or an error that Django itself words best."""
    # Before 6.1 an update after distinct(*fields) is none.
    distinct = query.distinct_fields and django.VERSION >= (6, 1)
    return bool(query.is_sliced or distinct or query.combinator or query.is_empty())


def _update_inherited(original: Any, self: Any, /, **values: Any) -> int:
    """Update a child that is not audited: its inherited columns may be an audited parent's."""
    parts = [] if _is_refused(self.query) else list(_audited_parts(self.model, values))
    if not parts:
        return int(original(self, **values))
    self._for_write = True
    using = self.db
    rows: int | None = None
    with write_transaction(using, self.model._meta.db_table):
        for keys, _ in rows_of(self, (), using):
            children = by_keys(self.model, keys, using)
            before = []
            for _, plan, touched, _ in parts:
                parents = list(children.values_list(plan.model._meta.pk.name, flat=True))
                before.append(dict(read_rows(plan.model, parents, touched, using, lock=True)))
            rows = (rows or 0) + int(original(_target(self, keys, using), **values))
            for (policy, plan, touched, given), images in zip(parts, before, strict=True):
                changes = changes_of(plan, touched, given, images, using, {"bulk": "update"})
                emit_changes(policy, plan.model._meta.label, using, changes)
        if rows is None:
            rows = int(original(by_keys(self.model, [], using), **values))
    self._result_cache = None
    return rows


def _audited_parts(
    model: type[Model], values: Mapping[str, Any]
) -> Iterator[tuple[AuditPolicy, ModelPlan, tuple[FieldPlan, ...], dict[str, Any]]]:
    """The audited parents whose columns are among the values, each with those values."""
    meta = model._meta
    for parent in meta.all_parents:
        policy = policy_for(parent)
        if policy is None or "update" not in policy.on:
            continue
        given = {
            name: value
            for name, value in values.items()
            if name != "pk" and meta.get_field(name).model is parent
        }
        plan = plan_for(parent, policy)
        touched = touched_by(plan, given)
        if touched:
            yield policy, plan, touched, given


def _target(queryset: Any, keys: list[Any], using: str) -> Any:
    """The rows to update: exactly the keys that were read."""
    if queryset.query.annotations or queryset.query.order_by:
        # Values may refer to annotations, and MariaDB updates in the given order.
        target = queryset._chain().using(using)
        target.query.clear_where()
        return target.filter(pk__in=keys)
    return by_keys(queryset.model, keys, using)


def _bulk_update(
    policy: AuditPolicy,
    original: Any,
    self: Any,
    objs: Iterable[Any],
    fields: Iterable[str],
    batch_size: int | None = None,
) -> int:
    """Let each inner ``update`` be read in one piece: its CASE names every row of the batch."""
    if "update" in policy.on:
        batch_size = min(CHUNK, CHUNK if batch_size is None else batch_size)
    return int(original(self, objs, fields, batch_size))


def _bulk_create(
    policy: AuditPolicy,
    original: Any,
    self: Any,
    objs: Iterable[Any],
    batch_size: int | None = None,
    ignore_conflicts: bool = False,
    update_conflicts: bool = False,
    update_fields: Collection[str] | None = None,
    unique_fields: Collection[str] | None = None,
) -> Any:
    objs = list(objs)
    options = (batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)
    if not objs or not policy.on & {"create", "update"}:
        return original(self, objs, *options)
    self._for_write = True
    using = self.db
    plan = plan_for(self.model._meta.concrete_model, policy)
    has_conflicts = ignore_conflicts or update_conflicts
    error: Exception | None = None
    with write_transaction(using, self.model._meta.db_table):
        conflicts = (
            Conflicts(plan, objs, using, update_conflicts, unique_fields) if has_conflicts else None
        )
        try:
            result = original(self, objs, *options)
        except Exception as exc:  # noqa: BLE001 - raised below
            # Django leaves the caller's transaction usable; what it began itself it has doomed.
            error = exc
        else:
            changes = conflicts.changes() if conflicts else _creates(plan, objs, using)
            recorded = (change for change in changes if change.operation in policy.on)
            emit_changes(policy, plan.model._meta.label, using, recorded)
    if error is not None:
        raise error
    return result


def _creates(plan: ModelPlan, objs: Sequence[Any], using: str) -> Iterator[Change]:
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
            changes = differences(plan.fields, None, image)
            yield make_change("create", plan, obj.pk, changes, instance=obj, data=data)
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
