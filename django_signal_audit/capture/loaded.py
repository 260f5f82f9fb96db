"""``before="loaded"``: the values an instance was loaded with, instead of a query.

They are bound to the very instance: not pickled, not copied to clones, and dropped by
``refresh_from_db``. Only classes whose policy asks for it pay for keeping them.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps

from django_signal_audit.capture.plans import UNKNOWN
from django_signal_audit.registry import policy_for

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.capture.images import Image
    from django_signal_audit.capture.plans import FieldPlan

_ATTRIBUTE: Final = "_signal_audit_loaded"


class _Loaded:
    """Raw attribute values, and the instance they belong to."""

    __slots__ = ("owner", "values")

    def __init__(self, owner: Model, values: dict[str, Any]) -> None:
        self.owner = weakref.ref(owner)
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle, copy and deepcopy give ``None``: the values belong to one instance."""
        return (_nothing, ())


def _nothing() -> None:
    return None


def watch(model: type[Model]) -> None:
    """Keep loaded values of a class from now on."""
    if "from_db" in model.__dict__ and hasattr(model.__dict__["from_db"], "__func__"):
        inner = model.__dict__["from_db"].__func__
        if hasattr(inner, "signal_audit_original"):
            return
    original = model.from_db.__func__  # type: ignore[attr-defined]

    @functools.wraps(original)
    def from_db(cls: type[Model], *args: Any, **kwargs: Any) -> Any:
        instance = original(cls, *args, **kwargs)
        remember(instance, model)
        return instance

    from_db.signal_audit_original = original  # type: ignore[attr-defined]
    model.from_db = classmethod(from_db)  # type: ignore[assignment]
    refresh = model.refresh_from_db

    @functools.wraps(refresh)
    def refresh_from_db(self: Model, *args: Any, **kwargs: Any) -> None:
        refresh(self, *args, **kwargs)
        self._state.__dict__.pop(_ATTRIBUTE, None)

    model.refresh_from_db = refresh_from_db  # type: ignore[method-assign]


def watch_all() -> None:
    """Watch every class whose policy says ``before="loaded"``."""
    for model in apps.get_models():
        policy = policy_for(model)
        if policy is not None and policy.before == "loaded":
            watch(model)


def remember(instance: Model, model: type[Model]) -> None:
    """Note what the attributes hold, after a load or a save."""
    attributes = instance.__dict__
    values = {
        field.attname: attributes[field.attname]
        for field in model._meta.concrete_fields
        if field.attname in attributes
    }
    instance._state.__dict__[_ATTRIBUTE] = _Loaded(instance, values)


def image_of(instance: Model, fields: Sequence[FieldPlan]) -> Image | None:
    """The image as it was loaded; ``None`` where a column was not, or cannot be told."""
    kept = instance._state.__dict__.get(_ATTRIBUTE)
    if kept is None or kept.owner() is not instance:
        return None
    image = {}
    for plan in fields:
        if plan.attname not in kept.values:
            return None
        value = plan.stored(kept.values[plan.attname])
        if value is UNKNOWN:
            return None
        image[plan.name] = value
    return image
