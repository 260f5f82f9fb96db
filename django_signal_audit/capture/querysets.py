"""``QuerySet.update`` and ``bulk_create``: they send no signals, so they are wrapped.

Everything else that writes in bulk (``bulk_update``, related managers, ``aupdate``) ends
in one of the two.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.db.models.query import QuerySet

from django_signal_audit import context
from django_signal_audit.capture.images import (
    Image,
    attribute_image,
    by_keys,
    differences,
    make_change,
    read_rows,
    rows_of,
)
from django_signal_audit.capture.plans import FieldPlan, ModelPlan, plan_for
from django_signal_audit.capture.updates import changes_of, touched_by
from django_signal_audit.keys import object_key
from django_signal_audit.pipeline import Change, emit_changes
from django_signal_audit.registry import policy_for
from django_signal_audit.transactions import write_transaction

if TYPE_CHECKING:
    from django_signal_audit.registry import AuditPolicy


def connect() -> None:
    """Wrap the two methods; a second call changes nothing."""
    _wrap("update", _update)
    _wrap("bulk_create", _bulk_create)


def _wrap(name: str, replacement: Any) -> None:
    original = getattr(QuerySet, name)
    if hasattr(original, "signal_audit_original"):
        return

    # functools.wraps copies alters_data and queryset_only, which Django sets on the function.
    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        policy = policy_for(self.model)
        if policy is None or context.is_suspended():
            return original(self, *args, **kwargs)
        return replacement(policy, original, self, *args, **kwargs)

    wrapper.signal_audit_original = original  # type: ignore[attr-defined]
    setattr(QuerySet, name, wrapper)


def _update(policy: AuditPolicy, original: Any, self: Any, **values: Any) -> int:
    query = self.query
    if (
        "update" not in policy.on
        or query.is_sliced
        or query.distinct_fields
        or query.combinator
        or query.is_empty()
    ):
        # Not ours to record, or an error that Django itself words best.
        return int(original(self, **values))
    plan = plan_for(self.model._meta.concrete_model, policy)
    touched = touched_by(plan, values)
    if not touched:
        return int(original(self, **values))
    self._for_write = True
    using = self.db
    rows = 0
    with write_transaction(using, self.model._meta.db_table):
        for keys, before in rows_of(self, touched, using):
            rows += int(original(_target(self, keys, using), **values))
            changes = changes_of(plan, touched, values, before, using, {"bulk": "update"})
            emit_changes(policy, plan.model._meta.label, using, changes)
    self._result_cache = None
    return rows


def _target(queryset: Any, keys: list[Any], using: str) -> Any:
    """The rows to update: exactly the keys that were read."""
    if queryset.query.annotations or queryset.query.order_by:
        # Values may refer to annotations, and MariaDB updates in the given order.
        return queryset._chain().using(using).filter(pk__in=keys)
    return by_keys(queryset.model, keys, using)


def _bulk_create(
    policy: AuditPolicy, original: Any, self: Any, objs: Iterable[Any], *args: Any, **kwargs: Any
) -> Any:
    objs = list(objs)
    if "create" not in policy.on or not objs:
        return original(self, objs, *args, **kwargs)
    self._for_write = True
    using = self.db
    plan = plan_for(self.model._meta.concrete_model, policy)
    conflicts = _conflict_policy(args, kwargs)
    with write_transaction(using, self.model._meta.db_table):
        existing = _existing(plan, objs, using) if conflicts else {}
        result = original(self, objs, *args, **kwargs)
        if conflicts:
            changes = _conflicting(plan, objs, existing, conflicts, using)
        else:
            changes = _creates(plan, objs, using)
        emit_changes(policy, plan.model._meta.label, using, changes)
    return result


def _conflict_policy(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    names = ("batch_size", "ignore_conflicts", "update_conflicts")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if given.get("ignore_conflicts"):
        return "ignore"
    return "update" if given.get("update_conflicts") else ""


def _creates(plan: ModelPlan, objs: Sequence[Any], using: str) -> Iterator[Change]:
    images: list[Image] = []
    unknown: dict[str, FieldPlan] = {}
    for obj in objs:
        image, missing = attribute_image(obj, plan.fields)
        images.append(image)
        unknown.update((field.name, field) for field in missing)
    read = _read_back(plan, objs, list(unknown.values()), using)
    for obj, image in zip(objs, images, strict=True):
        data: dict[str, Any] = {"bulk": "bulk_create"}
        if obj.pk is None:
            # The backend returns no keys: the row is there, but cannot be named.
            data["key"] = "unknown"
        else:
            image.update(read.get(object_key(plan.model, obj.pk), {}))
        changes = differences(plan.fields, None, image)
        yield make_change("create", plan, obj.pk, changes, instance=obj, data=data)


def _read_back(
    plan: ModelPlan, objs: Sequence[Any], unknown: list[FieldPlan], using: str
) -> dict[str, Image]:
    if not unknown:
        return {}
    keys = [obj.pk for obj in objs if obj.pk is not None]
    rows = read_rows(plan.model, keys, unknown, using, lock=False)
    return {object_key(plan.model, key): image for key, image in rows}


def _existing(plan: ModelPlan, objs: Sequence[Any], using: str) -> dict[Any, Image]:
    keys = [obj.pk for obj in objs if obj.pk is not None]
    return dict(read_rows(plan.model, keys, plan.fields, using, lock=True))


def _conflicting(
    plan: ModelPlan, objs: Sequence[Any], existing: dict[Any, Image], conflicts: str, using: str
) -> Iterator[Change]:
    """What ``ignore_conflicts`` or ``update_conflicts`` did, as far as keys can tell.

    Rows that were given without a key cannot be found again: no backend says which of
    them were inserted. One event says so, with their number.
    """
    data = {"bulk": "bulk_create", "conflicts": conflicts}
    keys = [obj.pk for obj in objs if obj.pk is not None]
    for key, after in read_rows(plan.model, keys, plan.fields, using, lock=False):
        before = existing.get(key)
        changes = differences(plan.fields, before, after)
        if before is None:
            yield make_change("create", plan, key, changes, data=dict(data))
        elif changes:
            yield make_change("update", plan, key, changes, data=dict(data))
    without_key = len(objs) - len(keys)
    if without_key:
        yield Change("create", None, "", {}, {**data, "rows_attempted": without_key})
