"""``Model.save`` and everything that ends in it.

Only the write of one table (``Model._save_table``) is wrapped, not the save: in autocommit
``post_save`` is sent after COMMIT, and must be, because receivers rely on it.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from django.db import models

from django_signal_audit import conf, context, internals
from django_signal_audit.capture import loaded
from django_signal_audit.capture.images import (
    Image,
    differences,
    make_change,
    read_row,
    stored_image,
)
from django_signal_audit.capture.plans import FieldPlan, ModelPlan, plan_for
from django_signal_audit.pipeline import emit_changes
from django_signal_audit.registry import AuditPolicy, policy_for
from django_signal_audit.transactions import write_transaction

if TYPE_CHECKING:
    from collections.abc import Collection


class _InFlight(threading.local):
    """Images of multi-table rows, read before their parents' tables are written.

    A stack for each thread, not an attribute of the instance: saves nest, and an instance
    may be pickled or copied while it is being saved.
    """

    def __init__(self) -> None:
        self.images: list[tuple[models.Model, Image | None]] = []


_in_flight = _InFlight()


def connect() -> None:
    """Wrap the two methods of ``Model`` that write; a second call changes nothing."""
    _wrap("_save_table", _save_table)
    _wrap("_save_parents", _save_parents)


def _wrap(name: str, replacement: Any) -> None:
    original = getattr(models.Model, name)
    if hasattr(original, "signal_audit_original"):
        return

    @functools.wraps(original)
    def wrapper(self: models.Model, *args: Any, **kwargs: Any) -> Any:
        return replacement(original, self, *args, **kwargs)

    wrapper.signal_audit_original = original  # type: ignore[attr-defined]
    setattr(models.Model, name, wrapper)


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
    policy = policy_for(model)
    if (
        policy is None
        or using is None
        or context.is_suspended()
        or not policy.on & {"create", "update"}
        or _is_parent_of_audited(self, model)
    ):
        return bool(original(self, raw, cls, force_insert, force_update, using, update_fields))
    plan = plan_for(model, policy)
    pk_before = self.pk
    try:
        with write_transaction(using, model._meta.db_table):
            touched = _touched(plan, update_fields)
            before = _before(self, model, policy, touched, using, force_insert=force_insert)
            updated = bool(
                original(self, raw, cls, force_insert, force_update, using, update_fields)
            )
            _record(self, plan, policy, using, touched, before, updated=updated, raw=raw)
    except BaseException:
        if pk_before is None and self._state.adding:
            # The INSERT may have been undone after it gave the instance its key.
            self.pk = None
        raise
    if policy.before == "loaded":
        loaded.remember(self, model)
    return updated


def _save_parents(
    original: Any, self: models.Model, cls: type[models.Model], *args: Any, **kwargs: Any
) -> Any:
    """Read the whole row of an audited child before its parents' tables are written."""
    concrete = type(self)._meta.concrete_model
    policy = policy_for(cls) if cls is concrete and cls._meta.parents else None
    if policy is None or context.is_suspended() or self.pk is None:
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


def _is_parent_of_audited(instance: models.Model, model: type[models.Model]) -> bool:
    """Whether this is a parent's table of a child that records the inherited columns itself."""
    concrete = type(instance)._meta.concrete_model
    return concrete is not None and concrete is not model and policy_for(concrete) is not None


def _touched(plan: ModelPlan, update_fields: Collection[str] | None) -> tuple[FieldPlan, ...]:
    """The recorded columns that an UPDATE may change."""
    if update_fields is None:
        return plan.fields
    return tuple(
        f
        for f in plan.fields
        if f.generated or f.name in update_fields or f.attname in update_fields
    )


def _before(
    instance: models.Model,
    model: type[models.Model],
    policy: AuditPolicy,
    touched: tuple[FieldPlan, ...],
    using: str,
    *,
    force_insert: Any,
) -> Image | None:
    if _in_flight.images and _in_flight.images[-1][0] is instance:
        return _in_flight.images.pop()[1]
    meta = model._meta
    if force_insert or not internals.is_pk_set(instance, meta):
        return None
    if instance._state.adding and all(
        f.has_default() or f.has_db_default() for f in internals.pk_fields(meta)
    ):
        return None  # Django goes straight to INSERT
    if policy.before == "loaded":
        image = loaded.image_of(instance, touched)
        if image is not None:
            return image
    return read_row(model, internals.pk_value(instance, meta), touched, using, lock=True)


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
    fields = touched if updated else plan.fields
    after = stored_image(instance, plan.model, fields, using)
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
    pk = internals.pk_value(instance, plan.model._meta)
    change = make_change(operation, plan, pk, changes, instance=own, data=data)
    emit_changes(policy, plan.model._meta.label, using, [change])
