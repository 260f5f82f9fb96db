"""Many-to-many changes: ``add``, ``remove``, ``set`` and ``clear``, from either side.

The managers' methods are wrapped, not ``m2m_changed``: a receiver of our own would switch
off Django's fast adds, and sees ``set`` as two changes.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from django.db import router
from django.db.models import Manager, Model
from django.db.models.fields import related_descriptors

from django_signal_audit import conf, context
from django_signal_audit.capture.images import instance_repr
from django_signal_audit.capture.plans import plan_for
from django_signal_audit.keys import default_repr, object_key
from django_signal_audit.pipeline import Change, emit_changes
from django_signal_audit.registry import policy_for
from django_signal_audit.transactions import write_transaction
from django_signal_audit.values import make_safe

if TYPE_CHECKING:
    from django_signal_audit.registry import AuditPolicy

METHODS: Final = ("add", "remove", "clear", "set", "set_base")


class _Nesting(threading.local):
    """``set`` calls ``remove`` and ``add``; only the outermost call is an event."""

    def __init__(self) -> None:
        self.depth = 0


_nesting = _Nesting()


def connect() -> None:
    """Wrap the factory of many-to-many managers; a second call changes nothing."""
    original: Any = related_descriptors.create_forward_many_to_many_manager
    if hasattr(original, "signal_audit_original"):
        return

    @functools.wraps(original)
    def create(superclass: Any, rel: Any, reverse: bool) -> Any:
        manager = original(superclass, rel, reverse)
        for name in METHODS:
            if name in manager.__dict__:
                setattr(manager, name, _wrapped(manager.__dict__[name], superclass, rel))
        return manager

    create.signal_audit_original = original  # type: ignore[attr-defined]
    related_descriptors.create_forward_many_to_many_manager = create


def _wrapped(original: Any, superclass: Any, rel: Any) -> Any:
    name = original.__name__

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        field = rel.field
        policy = policy_for(field.model)
        if (
            policy is None
            or _nesting.depth
            or not policy.records_m2m(field.name)
            or context.is_suspended()
        ):
            return original(self, *args, **kwargs)
        using = router.db_for_write(self.through, instance=self.instance)
        with write_transaction(using, self.through._meta.db_table):
            named = _named(self, name, args)
            before = _related(self, using, named)
            _nesting.depth += 1
            try:
                result = original(self, *args, **kwargs)
            finally:
                _nesting.depth -= 1
            after = _after(self, using, name, named, before, filtered=superclass is not Manager)
            _record(policy, self, field, using, before, after)
        return result

    return wrapper


def _named(manager: Any, method: str, args: tuple[Any, ...]) -> set[Any] | None:
    """The target keys a call names; ``None`` means all."""
    if method == "add":
        return set(manager._get_target_ids(manager.target_field_name, args))
    if method == "remove":
        return {
            manager.target_field.get_foreign_related_value(obj)[0]
            if isinstance(obj, Model)
            else manager.target_field.get_prep_value(obj)
            for obj in args
        }
    return None


def _related(manager: Any, using: str, targets: Iterable[Any] | None) -> set[Any]:
    """The far keys that are related now, among those named."""
    rows = manager.through._base_manager.using(using).filter(
        **{manager.source_field.attname: manager.related_val[0]}
    )
    if targets is not None:
        rows = rows.filter(**{f"{manager.target_field.attname}__in": targets})
    return set(rows.values_list(manager.target_field.attname, flat=True))


def _after(
    manager: Any,
    using: str,
    method: str,
    named: set[Any] | None,
    before: set[Any],
    *,
    filtered: bool,
) -> set[Any]:
    """The far keys that are related now; asked of the database where Django does not say.

    ``filtered`` says that the far model's manager may hide objects: a removal spares those.
    """
    if method == "add":
        return before | (named or set())
    if method in {"remove", "clear"} and not filtered:
        return set()
    return _related(manager, using, named)


def _record(
    policy: AuditPolicy, manager: Any, field: Any, using: str, before: set[Any], after: set[Any]
) -> None:
    added, removed = after - before, before - after
    if not added and not removed:
        return
    owner_label = field.model._meta.label
    if manager.reverse:
        changes = _owners_changes(manager, field, using, added, removed)
    else:
        plan = plan_for(field.model._meta.concrete_model, policy)
        owner = manager.instance
        key = object_key(field.model, owner.pk)
        text = instance_repr(plan, owner, key)
        changes = [Change("m2m", key, text, _shown(field, added, removed))]
    if manager.symmetrical:
        for change in changes:
            change.data["symmetrical"] = True
    emit_changes(policy, owner_label, using, changes)


def _owners_changes(
    manager: Any, field: Any, using: str, added: set[Any], removed: set[Any]
) -> list[Change]:
    """The call came from the far side: one change for each owner whose set it altered."""
    near = manager.related_val[0]
    changes = []
    for value, pk in _owner_keys(manager, using, added | removed):
        key = object_key(field.model, pk)
        shown = _shown(
            field,
            {near} if value in added else set(),
            {near} if value in removed else set(),
        )
        changes.append(Change("m2m", key, default_repr(field.model, key), shown))
    return changes


def _owner_keys(manager: Any, using: str, values: set[Any]) -> list[tuple[Any, Any]]:
    """Pairs of the value a through row holds and the primary key of the owner it means."""
    target = manager.target_field.target_field
    if target.primary_key:
        return [(value, value) for value in sorted(values, key=str)]
    rows = manager.model._base_manager.using(using).filter(**{f"{target.attname}__in": values})
    return sorted(rows.values_list(target.attname, "pk"), key=str)


def _shown(field: Any, added: set[Any], removed: set[Any]) -> dict[str, Any]:
    """``{"added": [...], "removed": [...]}`` in a stable order."""
    limit = conf.current().VALUE_LIMIT
    return {
        field.name: {
            "added": [make_safe(value, limit=limit) for value in _in_order(added)],
            "removed": [make_safe(value, limit=limit) for value in _in_order(removed)],
        }
    }


def _in_order(values: set[Any]) -> list[Any]:
    numbers = all(isinstance(value, int) for value in values)
    return sorted(values) if numbers else sorted(values, key=str)
