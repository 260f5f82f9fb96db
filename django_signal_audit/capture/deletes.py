"""Deletes: instances, fast deletes, and the field updates that come with them.

The statements of ``Collector.delete`` are wrapped, not the signals: a ``pre_delete``
receiver of our own would switch off Django's fast deletes for the model.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from django.db.models.deletion import Collector
from django.db.models.sql.subqueries import DeleteQuery, UpdateQuery

from django_signal_audit import context, internals
from django_signal_audit.capture.images import (
    CHUNK,
    by_keys,
    differences,
    make_change,
    read_rows,
)
from django_signal_audit.capture.patching import wrap
from django_signal_audit.capture.plans import plan_for
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.updates import changes_of, touched_by
from django_signal_audit.keys import object_key, object_type
from django_signal_audit.pipeline import emit_changes
from django_signal_audit.registry import policy_for
from django_signal_audit.transactions import write_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from django.db.models import Model

    from django_signal_audit.capture.images import Image
    from django_signal_audit.capture.plans import ModelPlan
    from django_signal_audit.pipeline import Change
    from django_signal_audit.registry import AuditPolicy


class _Frame:
    """One running ``Collector.delete``.

    Attributes:
        instances: the collected objects by type and key, for their ``str()``.
        recorded: rows of parents' tables that are recorded with their child.
    """

    def __init__(self, collector: Collector) -> None:
        self.instances = {
            (object_type(model), object_key(model, obj.pk)): obj
            for model, objs in collector.data.items()
            if policy_for(model) is not None
            for obj in objs
        }
        self.recorded: set[tuple[str, str]] = set()


class _Frames(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Frame] = []


_frames = _Frames()


def connect() -> None:
    """Wrap the three methods; a second call changes nothing."""
    for owner, name, replacement in (
        (Collector, "delete", _collector_delete),
        (DeleteQuery, "delete_batch", _delete_batch),
        (UpdateQuery, "update_batch", _update_batch),
    ):
        wrap(owner, name, functools.partial(_unless_suspended, replacement))


def _unless_suspended(
    replacement: Any, original: Any, self: Any, /, *args: Any, **kwargs: Any
) -> Any:
    if context.is_suspended():
        return original(self, *args, **kwargs)
    return replacement(original, self, *args, **kwargs)


def _collector_delete(original: Any, self: Any) -> Any:
    fast_deletes = self.fast_deletes
    _frames.stack.append(_Frame(self))
    self.fast_deletes = [_recorded_fast_delete(queryset) for queryset in fast_deletes]
    try:
        return original(self)
    finally:
        self.fast_deletes = fast_deletes
        _frames.stack.pop()


class _FastDelete:
    """Stands in for a queryset of ``Collector.fast_deletes``, and records what it deletes."""

    def __init__(self, policy: AuditPolicy, queryset: Any) -> None:
        self.policy = policy
        self.queryset = queryset
        self.model = queryset.model

    def _raw_delete(self, using: str) -> int:
        """Delete exactly the rows that were read, still without signals or instances."""
        plan = plan_for(self.model._meta.concrete_model, self.policy)
        count = 0
        with write_transaction(using, self.model._meta.db_table):
            for keys, images in rows_of(self.queryset, plan.fields, using):
                count += by_keys(self.model, keys, using)._raw_delete(using)
                _emit(self.policy, plan, using, images)
        return count


def _recorded_fast_delete(queryset: Any) -> Any:
    policy = policy_for(queryset.model)
    if policy is None or "delete" not in policy.on:
        return queryset
    return _FastDelete(policy, queryset)


def _delete_batch(original: Any, self: Any, pk_list: Sequence[Any], using: str) -> int:
    model = self.get_meta().concrete_model
    policy = policy_for(model)
    if policy is None or "delete" not in policy.on:
        return int(original(self, pk_list, using))
    plan = plan_for(model, policy)
    count = 0
    with write_transaction(using, model._meta.db_table):
        for start in range(0, len(pk_list), CHUNK):
            keys = list(pk_list[start : start + CHUNK])
            images = dict(read_rows(model, keys, plan.fields, using, lock=True))
            count += int(original(self, keys, using))
            _emit(policy, plan, using, images)
    return count


def _update_batch(
    original: Any, self: Any, pk_list: Sequence[Any], values: Mapping[str, Any], using: str
) -> None:
    model = self.get_meta().concrete_model
    policy = policy_for(model)
    plan = plan_for(model, policy) if policy is not None else None
    touched = touched_by(plan, values) if plan is not None else ()
    if policy is None or plan is None or not touched or "update" not in policy.on:
        original(self, pk_list, values, using)
        return
    with write_transaction(using, model._meta.db_table):
        images = dict(read_rows(model, list(pk_list), touched, using, lock=True))
        original(self, pk_list, values, using)
        changes = changes_of(plan, touched, values, images, using, {"bulk": "on_delete"})
        emit_changes(policy, model._meta.label, using, changes)


def _emit(policy: AuditPolicy, plan: ModelPlan, using: str, images: Mapping[Any, Image]) -> None:
    emit_changes(policy, plan.model._meta.label, using, _changes(plan, images))


def _changes(plan: ModelPlan, images: Mapping[Any, Image]) -> Iterator[Change]:
    frame = _frames.stack[-1] if _frames.stack else None
    kind = object_type(plan.model)
    for pk, image in images.items():
        key = object_key(plan.model, pk)
        if frame is not None and (kind, key) in frame.recorded:
            continue
        instance = frame.instances.get((kind, key)) if frame is not None else None
        if frame is not None:
            _note_parents(frame, plan.model, instance, key)
        changes = differences(plan.fields, image, None)
        yield make_change("delete", plan, pk, changes, instance=instance)


def _note_parents(frame: _Frame, model: type[Model], instance: Model | None, key: str) -> None:
    """A child's delete has recorded the inherited columns; the parents' rows follow unrecorded."""
    for parent in model._meta.all_parents:
        if instance is not None:
            # The second of several parents has a key of its own.
            key = object_key(parent, internals.pk_value(instance, parent._meta))
        frame.recorded.add((object_type(parent), key))
