"""Many-to-many changes: ``add``, ``remove``, ``set`` and ``clear``, from either side.

The managers' methods are wrapped, not ``m2m_changed``: a receiver of our own would switch
off Django's fast adds, and sees ``set`` as two changes.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db import router
from django.db.models import Manager
from django.db.models.fields import related_descriptors
from django.db.models.signals import m2m_changed

from django_signal_audit import conf, context, internals
from django_signal_audit.capture.images import all_rows, instance_repr
from django_signal_audit.capture.patching import wrap
from django_signal_audit.capture.plans import plan_for
from django_signal_audit.event import REDACTED
from django_signal_audit.keys import default_repr, object_key
from django_signal_audit.pipeline import Change, emit_changes
from django_signal_audit.redaction import redactor
from django_signal_audit.registry import AuditPolicy, policy_for
from django_signal_audit.transactions import write_transaction
from django_signal_audit.values import make_safe

METHODS: Final = ("add", "remove", "clear", "set", "set_base")


class _Nesting(threading.local):
    """Managers at work: ``set`` calls ``remove`` and ``add``; the outermost call is the event.

    By manager, because a receiver of ``m2m_changed`` may change another relation meanwhile.
    """

    def __init__(self) -> None:
        self.managers: list[Any] = []


@dataclass(frozen=True, slots=True)
class _Call:
    """One call to a manager, after it has run."""

    manager: Any
    field: Any
    using: str
    data: dict[str, Any]


_nesting = _Nesting()


def connect() -> None:
    """Wrap the factory of many-to-many managers; a second call changes nothing."""
    wrap(related_descriptors, "create_forward_many_to_many_manager", _create_manager)


def _create_manager(original: Any, superclass: Any, rel: Any, reverse: bool) -> Any:
    manager = original(superclass, rel, reverse)
    for name in METHODS:
        if name in manager.__dict__:
            setattr(manager, name, _wrapped(manager.__dict__[name], superclass, rel))
    return manager


def _wrapped(original: Any, superclass: Any, rel: Any) -> Any:
    name = original.__name__

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        field = rel.field
        policy = policy_for(field.model)
        if (
            policy is None
            or any(self is manager for manager in _nesting.managers)
            or not policy.records_m2m(field.name)
            or context.is_suspended()
        ):
            return original(self, *args, **kwargs)
        using = router.db_for_write(self.through, instance=self.instance)
        with write_transaction(using, self.through._meta.db_table):
            named = _named(self, name, args)
            before = _related(self, using, named)
            _nesting.managers.append(self)
            try:
                result = original(self, *args, **kwargs)
            finally:
                _nesting.managers.pop()
            uncertain = superclass is not Manager or m2m_changed.has_listeners(self.through)
            after = _after(self, using, name, named, before, uncertain=uncertain)
            data = {"raw": True} if kwargs.get("raw") else {}
            if self.symmetrical:
                data["symmetrical"] = True
            _record(policy, _Call(self, field, using, data), before, after)
        return result

    return wrapper


def _named(manager: Any, method: str, args: tuple[Any, ...]) -> set[Any] | None:
    """The target keys a call names; ``None`` means all."""
    if method == "add":
        return set(manager._get_target_ids(manager.target_field_name, args))
    if method == "remove":
        return {
            manager.target_field.get_foreign_related_value(obj)[0]
            if isinstance(obj, manager.model)
            else manager.target_field.get_prep_value(obj)
            for obj in args
        }
    return None


def _related(manager: Any, using: str, targets: Iterable[Any] | None) -> set[Any]:
    """The far keys that are related now, among those named."""
    rows = all_rows(manager.through, using).filter(
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
    uncertain: bool,
) -> set[Any]:
    """The far keys that are related now.

    They are asked of the database where a call does not say it all: a removal spares what
    the far model's manager hides, and receivers may change what is added or removed.
    """
    if method.startswith("set") or uncertain:
        return _related(manager, using, named)
    return before | (named or set()) if method == "add" else set()


def _record(policy: AuditPolicy, call: _Call, before: set[Any], after: set[Any]) -> None:
    added, removed = after - before, before - after
    if not added and not removed:
        return
    field, manager = call.field, call.manager
    if manager.reverse:
        changes = _owners_changes(policy, call, added, removed)
    else:
        plan = plan_for(field.model._meta.concrete_model, policy)
        owner = manager.instance
        key = object_key(field.model, internals.pk_value(owner, field.model._meta))
        text = instance_repr(plan, owner, key)
        changes = [Change("m2m", key, text, _shown(policy, field, added, removed))]
    for change in changes:
        change.data.update(call.data)
    emit_changes(policy, field.model._meta.label, call.using, changes)


def _owners_changes(
    policy: AuditPolicy, call: _Call, added: set[Any], removed: set[Any]
) -> list[Change]:
    """The call came from the far side: one change for each owner whose set it altered."""
    field = call.field
    near = call.manager.related_val[0]
    changes = []
    for value, pk in _owner_keys(call.manager, call.using, added | removed):
        key = object_key(field.model, pk)
        shown = _shown(
            policy,
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
    rows = all_rows(manager.model, using).filter(**{f"{target.attname}__in": values})
    return sorted(rows.values_list(target.attname, "pk"), key=str)


def _shown(policy: AuditPolicy, field: Any, added: set[Any], removed: set[Any]) -> dict[str, Any]:
    """``{"added": [...], "removed": [...]}`` in a stable order."""
    limit = conf.current().VALUE_LIMIT
    hide = redactor()
    masked = (
        field.name in policy.mask_fields
        or hide.is_sensitive(field.name)
        or hide.is_sensitive(field.related_model._meta.pk.name)
    )

    def ids(values: set[Any]) -> list[Any]:
        return [REDACTED if masked else make_safe(v, limit=limit) for v in _in_order(values)]

    return {field.name: {"added": ids(added), "removed": ids(removed)}}


def _in_order(values: set[Any]) -> list[Any]:
    numbers = all(isinstance(value, int) for value in values)
    return sorted(values) if numbers else sorted(values, key=str)
