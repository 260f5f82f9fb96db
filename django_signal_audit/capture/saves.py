"""``Model.save`` and everything that ends in it.

Only the write of one table (``Model._save_table``) is wrapped, not the save: in autocommit
``post_save`` is sent after COMMIT, and must be, because receivers rely on it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from django.db import connections, models

from django_signal_audit import context, internals
from django_signal_audit.capture import fixtures, loaded
from django_signal_audit.capture.images import Image, read_row, stored_image
from django_signal_audit.capture.patching import save_writes, wrap
from django_signal_audit.capture.watching import Row, Watch, recording, watch_for
from django_signal_audit.registry import policy_for
from django_signal_audit.transactions import write_transaction
from django_signal_audit.wrapping import state_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_signal_audit.capture.plans import FieldPlan, ModelPlan


class _InFlight(threading.local):
    """Images of multi-table rows, read before their parents' tables are written.

    A stack for each thread, not an attribute of the instance: saves nest, and an instance
    may be pickled or copied while it is being saved.
    """

    def __init__(self) -> None:
        self.images: list[tuple[models.Model, type[models.Model], Image | None]] = []
        self.without_row: list[tuple[models.Model, type[models.Model]]] = []

    def take(self, instance: models.Model, model: type[models.Model]) -> tuple[bool, Image | None]:
        """Whether an image was read for this save, and the image."""
        if self.images and self.images[-1][0] is instance and self.images[-1][1] is model:
            return True, self.images.pop()[2]
        return False, None


_in_flight = _InFlight()


def connect() -> None:
    """Wrap the methods of ``Model`` that write; a second call changes nothing."""
    wrap(*internals.WRITE_TABLE, _save_table, writes=save_writes)
    wrap(*internals.WRITE_PARENTS, _save_parents)
    wrap(*internals.OPEN_CURSOR, internals.refusable_cursor)
    fixtures.connect()


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
    watch = _watch_of_save(self, model)
    if watch is None or using is None or (raw and fixtures.is_left_out(self, raw=True)):
        loaded.forget(self)
        return bool(original(self, raw, cls, force_insert, force_update, using, update_fields))
    moved = _moved(watch.plan, update_fields)
    touched = _touched(watch.plan, update_fields, moved, raw=raw)
    known, before = _in_flight.take(self, model)
    pk_before = self.pk
    state = state_of(connections[using])
    commits = state.commits
    try:
        with write_transaction(using, model._meta.db_table):
            tries_update = internals.tries_update(self, model, forced=raw or force_update)
            if tries_update and not (known or force_insert) and watch.wants("update"):
                before = _before(self, watch, touched, using)
            updated = bool(
                original(self, raw, cls, force_insert, force_update, using, update_fields)
            )
            _record(self, watch, using, touched, moved, before, updated=updated, raw=raw)
    except BaseException:
        if pk_before is None and self._state.adding and state.commits == commits:
            # The INSERT was undone after it gave the instance its key.
            self.pk = None
        raise
    if watch.policy is not None and watch.policy.before == "loaded":
        loaded.note_save(self, model, using, update_fields)
    return updated


def _save_parents(
    original: Any, self: models.Model, cls: type[models.Model], *args: Any, **kwargs: Any
) -> Any:
    """Read the whole row of an audited child before its parents' tables are written."""
    watch = _watch_of_save(self, cls) if cls._meta.parents else None
    if watch is None or not watch.wants("update"):
        return original(self, cls, *args, **kwargs)
    key = internals.row_key(self, cls)
    if key is None:
        return original(self, cls, *args, **kwargs)
    using = kwargs["using"] if "using" in kwargs else args[0]
    with write_transaction(using, cls._meta.db_table):
        image = read_row(cls, key, watch.plan.fields, using, lock=True)
        if image is None and _update_fields_of(args, kwargs) is not None:
            # None will be made, and Django may have nothing to write to its table and go on. What
            # it writes to the parents' tables is theirs to tell.
            _in_flight.without_row.append((self, cls))
            try:
                return original(self, cls, *args, **kwargs)
            finally:
                _in_flight.without_row.pop()
        _in_flight.images.append((self, cls, image))
        try:
            inserted = original(self, cls, *args, **kwargs)
        except BaseException:
            _in_flight.images.pop()
            raise
    return inserted


def _update_fields_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``update_fields`` of ``_save_parents(cls, using, update_fields, ...)``."""
    return kwargs["update_fields"] if "update_fields" in kwargs else args[1]


def _watch_of_save(instance: models.Model, model: type[models.Model]) -> Watch | None:
    """What a write of this table is recorded under, if it is recorded."""
    watch = watch_for(model)
    if watch is None or context.is_suspended():
        return None
    if not (watch.wants("create") or watch.wants("update")):
        return None
    return None if _is_recorded_by_child(instance, model) else watch


def _is_recorded_by_child(instance: models.Model, model: type[models.Model]) -> bool:
    """Whether this is a parent's table, of a child that records the inherited columns itself."""
    concrete = type(instance)._meta.concrete_model
    if concrete is None or concrete is model:
        return False
    return any(
        model in child._meta.all_parents
        and policy_for(child) is not None
        and not any(one is instance and cls is child for one, cls in _in_flight.without_row)
        for child in (concrete, *concrete._meta.all_parents)
    )


def _moved(plan: ModelPlan, update_fields: Collection[str] | None) -> tuple[FieldPlan, ...]:
    """Inherited columns that may be those of another row, for the link to it is written.

    A child of several parents has one of their keys as its own, and links to the others. With
    ``update_fields`` a link may be written without the columns that it leads to.
    """
    if update_fields is None:
        return ()
    parents: set[type[models.Model]] = set()
    for parent, link in plan.model._meta.parents.items():
        if link is None or link.primary_key:
            continue
        if link.name in update_fields or link.attname in update_fields:
            parents.update((parent, *parent._meta.all_parents))
    return tuple(f for f in plan.fields if f.field.model in parents) if parents else ()


def _touched(
    plan: ModelPlan,
    update_fields: Collection[str] | None,
    moved: tuple[FieldPlan, ...],
    *,
    raw: bool,
) -> tuple[FieldPlan, ...]:
    """The recorded columns that an UPDATE may change, and the row's own key."""
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
        or f.field is plan.model._meta.pk
        or f in moved
        or f.name in update_fields
        or f.attname in update_fields
    )


def _before(
    instance: models.Model, watch: Watch, touched: tuple[FieldPlan, ...], using: str
) -> Image | None:
    if watch.policy is not None and watch.policy.before == "loaded":
        image = loaded.image_of(instance, touched)
        if image is not None:
            return image
    pk = internals.pk_value(instance, watch.model._meta)
    return read_row(watch.model, pk, touched, using, lock=True)


def _record(
    instance: models.Model,
    watch: Watch,
    using: str,
    touched: tuple[FieldPlan, ...],
    moved: tuple[FieldPlan, ...],
    before: Image | None,
    *,
    updated: bool,
    raw: bool,
) -> None:
    operation = "update" if updated else "create"
    if not watch.wants(operation):
        return
    model = watch.model
    data: dict[str, Any] = {"raw": True} if raw else {}
    fields = touched if updated or raw else watch.plan.fields
    told = [f for f in fields if f not in moved] if moved else fields
    after = stored_image(instance, model, told, using)
    pk = internals.pk_value(instance, model._meta)
    inherited = [f for f in watch.plan.fields if f not in touched] if raw and not updated else []
    if inherited:
        # The row of a fixture's child joins one of its parent's, which is there already.
        after.update(read_row(model, pk, inherited, using, lock=False) or {})
    if moved:
        after.update(read_row(model, pk, moved, using, lock=False) or {})
    if not updated:
        before = None
    elif before is None:
        # Inserted by another process between our look and our UPDATE; or there is no row, and
        # Django had nothing to write: it calls an UPDATE of no columns a success.
        found = read_row(model, pk, fields, using, lock=False)
        if found is None:
            return
        after = found
        data["before"] = "unknown"
    else:
        pk = _keep_key(watch.plan, before, after, pk)
    # A parent's table is written before the child's key is set, and is not the child's row.
    own = instance if type(instance)._meta.concrete_model is model else None
    with recording(watch, using) as record:
        record([Row(operation, pk, before, after, own, data)])


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
