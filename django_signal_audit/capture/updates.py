"""An UPDATE of known keys with the same values for all: what it did to each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import Model

from django_signal_audit import conf, internals
from django_signal_audit.capture.images import Image, differences, make_change, read_rows
from django_signal_audit.capture.plans import UNKNOWN, FieldPlan, ModelPlan

if TYPE_CHECKING:
    from django_signal_audit.pipeline import Change


def touched_by(plan: ModelPlan, values: Mapping[str, Any]) -> tuple[FieldPlan, ...]:
    """The recorded columns that an UPDATE with these keywords may change."""
    names = set(_by_field(plan, values))
    found = tuple(f for f in plan.fields if f.name in names)
    return found + tuple(f for f in plan.fields if f.generated) if found else ()


def changes_of(
    plan: ModelPlan,
    touched: Sequence[FieldPlan],
    values: Mapping[str, Any],
    before: Mapping[Any, Image],
    using: str,
    data: dict[str, Any],
) -> Iterator[Change]:
    """One change for each row that an UPDATE really changed.

    Args:
        plan: of the model.
        touched: columns that may have changed.
        values: the keywords of the update, by field name or attname.
        before: the images of the rows by key.
        using: the database alias; the UPDATE has run there.
        data: goes into each event.
    """
    constant, unknown = _new_values(plan, touched, values, using)
    keys = list(before)
    read = dict(read_rows(plan.model, keys, unknown, using, lock=False)) if unknown else {}
    for key, old in before.items():
        changes = differences(touched, old, {**constant, **read.get(key, {})})
        if changes or conf.current().RECORD_UNCHANGED:
            yield make_change("update", plan, key, changes, data=dict(data))


def _by_field(plan: ModelPlan, values: Mapping[str, Any]) -> dict[str, Any]:
    meta = plan.model._meta
    found: dict[str, Any] = {}
    for name, value in values.items():
        field = meta.pk if name == "pk" else meta.get_field(name)
        found[field.name] = value
    return found


def _new_values(
    plan: ModelPlan, touched: Sequence[FieldPlan], values: Mapping[str, Any], using: str
) -> tuple[Image, list[FieldPlan]]:
    """New values that are the same for every row, and the columns that must be read back."""
    # Rows whose key is written are not found again by the old one.
    if internals.cuts_silently(connections[using]) and not any(
        field.field.primary_key for field in touched
    ):
        return {}, list(touched)
    given = _by_field(plan, values)
    constant: Image = {}
    unknown: list[FieldPlan] = []
    for field in touched:
        value = UNKNOWN if field.generated else _constant(field, given[field.name])
        if value is UNKNOWN:
            unknown.append(field)
        else:
            constant[field.name] = value
    return constant, unknown


def _constant(plan: FieldPlan, given: Any) -> Any:
    if hasattr(given, "resolve_expression"):
        return UNKNOWN
    if isinstance(given, Model):
        target: Any = getattr(plan.field, "target_field", plan.field)
        given = getattr(given, target.attname)
    return plan.stored(given)
