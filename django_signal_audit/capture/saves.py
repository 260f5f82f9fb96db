"""``Model.save`` and everything that ends in it.

Only the write of one table (``Model._save_table``) is wrapped, not the save: in autocommit
``post_save`` is sent after COMMIT, and must be, because receivers rely on it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from django.db import connections, models

from django_signal_audit import conf, context, internals
from django_signal_audit.capture import loaded
from django_signal_audit.capture.images import (
    Image,
    differences,
    make_change,
    read_row,
    stored_image,
)
from django_signal_audit.capture.patching import wrap
from django_signal_audit.capture.plans import FieldPlan, ModelPlan, plan_for
from django_signal_audit.pipeline import emit_changes
from django_signal_audit.registry import AuditPolicy, policy_for
from django_signal_audit.transactions import write_transaction
from django_signal_audit.wrapping import state_of

if TYPE_CHECKING:
    from collections.abc import Collection


class _InFlight(threading.local):
    """Images of multi-table rows, read before their parents' tables are written.

    A stack for each thread, not an attribute of the instance: saves nest, and an instance
    may be pickled or copied while it is being saved.
    """

    def __init__(self) -> None:
        self.images: list[tuple[models.Model, Image | None]] = []

    def take(self, instance: models.Model) -> tuple[bool, Image | None]:
        """Whether an image was read for this save, and the image."""
        if self.images and self.images[-1][0] is instance:
            return True, self.images.pop()[1]
        return False, None


_in_flight = _InFlight()


def connect() -> None:
    """Wrap the two methods of ``Model`` that write; a second call changes nothing."""
    wrap(models.Model, "_save_table", _save_table)
    wrap(models.Model, "_save_parents", _save_parents)


def _save_table(
    original: Any,
    self: models.Model,
    raw: bool = False,
    cls: type[models.Model] | None = None,
    force_insert: bool = False,
    force_update: bool = False,
    using: str | None = None,
    update_fields: Collection[str] | None = None,
) -> bool:
    model = cls or type(self)
    policy = _policy_of_save(self, model)
    if policy is None or using is None:
        return bool(original(self, raw, cls, force_insert, force_update, using, update_fields))
    plan = plan_for(model, policy)
    touched = _touched(plan, update_fields, raw=raw)
    known, before = _in_flight.take(self) if _has_parents(self, model) else (False, None)
    pk_before = self.pk
    state = state_of(connections[using])
    commits = state.commits
    try:
        with write_transaction(using, model._meta.db_table):
            tries_update = _tries_update(self, model, forced=raw or force_update)
            if tries_update and not (known or force_insert) and "update" in policy.on:
                before = _before(self, model, policy, touched, using)
            updated = bool(
                original(self, raw, cls, force_insert, force_update, using, update_fields)
            )
            _record(self, plan, policy, using, touched, before, updated=updated, raw=raw)
    except BaseException:
        if pk_before is None and self._state.adding and state.commits == commits:
            # The INSERT was undone after it gave the instance its key.
            self.pk = None
        raise
    if policy.before == "loaded":
        loaded.note_save(self, model, using, update_fields)
    return updated


def _save_parents(
    original: Any, self: models.Model, cls: type[models.Model], *args: Any, **kwargs: Any
) -> Any:
    """Read the whole row of an audited child before its parents' tables are written."""
    policy = _policy_of_save(self, cls) if _has_parents(self, cls) else None
    if policy is None or self.pk is None or "update" not in policy.on:
        return original(self, cls, *args, **kwargs)
    using = kwargs["using"] if "using" in kwargs else args[0]
    plan = plan_for(cls, policy)
    with write_transaction(using, cls._meta.db_table):
        image = read_row(cls, self.pk, plan.fields, using, lock=True)
        _in_flight.images.append((self, image))
        try:
            inserted = original(self, cls, *args, **kwargs)
        except BaseException:
            _in_flight.images.pop()
            raise
    return inserted


def _policy_of_save(instance: models.Model, model: type[models.Model]) -> AuditPolicy | None:
    """The policy that a write of this table is recorded under, if it is recorded."""
    policy = policy_for(model)
    if policy is None or context.is_suspended() or not policy.on & {"create", "update"}:
        return None
    concrete = type(instance)._meta.concrete_model
    if concrete is not None and concrete is not model and policy_for(concrete) is not None:
        return None  # a parent's table of a child that records the inherited columns itself
    return policy


def _has_parents(instance: models.Model, model: type[models.Model]) -> bool:
    """Whether this is the last table of a multi-table save, after those of its parents."""
    return bool(model._meta.parents) and model is type(instance)._meta.concrete_model


def _touched(
    plan: ModelPlan, update_fields: Collection[str] | None, *, raw: bool
) -> tuple[FieldPlan, ...]:
    """The recorded columns that an UPDATE may change."""
    if raw and plan.model._meta.parents:
        # A fixture's row is that of one table; its instance lacks the inherited columns.
        local = {f.name for f in plan.model._meta.local_concrete_fields}
        return tuple(f for f in plan.fields if f.name in local)
    if update_fields is None:
        return plan.fields
    return tuple(
        f
        for f in plan.fields
        if f.generated
        or f.field.primary_key
        or f.name in update_fields
        or f.attname in update_fields
    )


def _tries_update(instance: models.Model, model: type[models.Model], *, forced: bool) -> bool:
    """Whether Django tries an UPDATE before it inserts."""
    meta = model._meta
    return internals.is_pk_set(instance, meta) and (
        forced
        or not instance._state.adding
        or not all(f.has_default() or f.has_db_default() for f in internals.pk_fields(meta))
    )


def _before(
    instance: models.Model,
    model: type[models.Model],
    policy: AuditPolicy,
    touched: tuple[FieldPlan, ...],
    using: str,
) -> Image | None:
    if policy.before == "loaded":
        image = loaded.image_of(instance, touched)
        if image is not None:
            return image
    return read_row(model, internals.pk_value(instance, model._meta), touched, using, lock=True)


def _record(
    instance: models.Model,
    plan: ModelPlan,
    policy: AuditPolicy,
    using: str,
    touched: tuple[FieldPlan, ...],
    before: Image | None,
    *,
    updated: bool,
    raw: bool,
) -> None:
    operation = "update" if updated else "create"
    if operation not in policy.on:
        return
    data: dict[str, Any] = {"raw": True} if raw else {}
    fields = touched if updated or raw else plan.fields
    after = stored_image(instance, plan.model, fields, using)
    pk = internals.pk_value(instance, plan.model._meta)
    if updated and before is not None:
        pk = _keep_key(plan, before, after, pk)
    if updated and before is None:
        # Inserted by another process between our look and our UPDATE.
        data["before"] = "unknown"
        changes = differences(fields, None, after)
    else:
        changes = differences(fields, before if updated else None, after)
    if updated and not changes and not conf.current().RECORD_UNCHANGED:
        return
    # A parent's table is written before the child's key is set, and is not the child's row.
    own = instance if type(instance)._meta.concrete_model is plan.model else None
    change = make_change(operation, plan, pk, changes, instance=own, data=data)
    emit_changes(policy, plan.model._meta.label, using, [change])


def _keep_key(plan: ModelPlan, before: Image, after: Image, pk: Any) -> Any:
    """The key of an updated row, as the row spells it.

    No save changes it. But a database that compares without regard to case has found the
    row ``abc`` for an instance whose key is ``ABC``.
    """
    names = [field.name for field in internals.pk_fields(plan.model._meta)]
    if not all(name in before for name in names):
        return pk
    after.update((name, before[name]) for name in names)
    return before[names[0]] if len(names) == 1 else tuple(before[name] for name in names)
