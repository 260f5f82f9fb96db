"""The events of many-to-many changes: one for each owner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django_signal_audit import conf, internals
from django_signal_audit.capture.images import CHUNK, all_rows, instance_repr
from django_signal_audit.capture.plans import ModelPlan
from django_signal_audit.event import REDACTED
from django_signal_audit.keys import default_repr, object_key
from django_signal_audit.masking import value_field
from django_signal_audit.pipeline import Change, emit_changes
from django_signal_audit.redaction import redactor
from django_signal_audit.values import make_safe

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.capture.through import Relation

Pair = tuple[Any, Any]
"""What a row holds of the owner, and of the far object."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known beside the pairs.

    Attributes:
        near: what rows hold of the object whose manager was called.
        instance: that object, if it is an owner.
        symmetrical: a call that writes each row in both directions.
        data: goes into each event.
    """

    near: Any = None
    instance: Model | None = None
    symmetrical: bool = False
    data: dict[str, Any] = field(default_factory=dict)


def emit_m2m(
    relation: Relation, using: str, added: Collection[Pair], removed: Collection[Pair], told: Told
) -> None:
    """Record one event for each owner whose set has changed.

    Args:
        relation: the many-to-many field.
        using: the database alias that was written.
        added: pairs that are new.
        removed: pairs that are gone.
        told: what is known beside them.
    """
    data = told.data
    if told.symmetrical and _is_mirrored(added) and _is_mirrored(removed):
        # The other objects' sets have changed as this one's has: one event says it all.
        data = {**data, "symmetrical": True}
        added = [pair for pair in added if pair[0] == told.near]
        removed = [pair for pair in removed if pair[0] == told.near]
    changes = _changes(relation, using, _by_owner(added, removed), told, data)
    emit_changes(relation.policy, relation.owner._meta.label, using, changes)


def _is_mirrored(pairs: Collection[Pair]) -> bool:
    return all((far, near) in pairs for near, far in pairs)


def _by_owner(
    added: Iterable[Pair], removed: Iterable[Pair]
) -> dict[Any, tuple[list[Any], list[Any]]]:
    found: dict[Any, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for index, pairs in enumerate((added, removed)):
        for owner, far in pairs:
            found[owner][index].append(far)
    return found


def _changes(
    relation: Relation,
    using: str,
    by_owner: dict[Any, tuple[list[Any], list[Any]]],
    told: Told,
    data: dict[str, Any],
) -> Iterator[Change]:
    owner = relation.owner
    masked = _is_masked(relation)
    plan = ModelPlan(owner, (), relation.policy.mask_fields)
    instances = {told.near: told.instance} if isinstance(told.instance, owner) else {}
    others = [value for value in by_owner if value not in instances]
    keys = dict(_owner_keys(relation, others, using))
    keys.update((value, internals.pk_value(one, owner._meta)) for value, one in instances.items())
    for value in _in_order(by_owner.keys() & keys.keys()):
        key = object_key(owner, keys[value])
        text = default_repr(owner, key)
        if value in instances:
            text = instance_repr(plan, instances[value], key)
        added, removed = (_shown(values, masked=masked) for values in by_owner[value])
        shown = {relation.field.name: {"added": added, "removed": removed}}
        yield Change("m2m", key, text, shown, dict(data))


def _owner_keys(relation: Relation, values: list[Any], using: str) -> Iterator[tuple[Any, Any]]:
    """Pairs of what rows hold of an owner and its primary key.

    What is no object of the owner's class is left out: of a field that a child inherits, the
    parent's other objects.
    """
    column: Any = relation.through._meta.get_field(relation.source)
    target = column.target_field
    if target.primary_key and target.model is relation.owner:
        yield from zip(values, values, strict=True)
        return
    rows = all_rows(relation.owner, using)
    for start in range(0, len(values), CHUNK):
        found = rows.filter(**{f"{target.attname}__in": values[start : start + CHUNK]})
        yield from found.values_list(target.attname, "pk")


def _is_masked(relation: Relation) -> bool:
    hide = redactor()
    column: Any = relation.through._meta.get_field(relation.target)
    return (
        relation.field.name in relation.policy.mask_fields
        or hide.is_sensitive(relation.field.name)
        or hide.is_sensitive(value_field(column).name)
    )


def _shown(values: Collection[Any], *, masked: bool) -> list[Any]:
    limit = conf.current().VALUE_LIMIT
    return [REDACTED if masked else make_safe(v, limit=limit) for v in _in_order(values)]


def _in_order(values: Collection[Any]) -> list[Any]:
    numbers = all(isinstance(value, int) for value in values)
    return sorted(values) if numbers else sorted(values, key=str)
