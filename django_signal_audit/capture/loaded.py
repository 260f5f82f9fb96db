"""``before="loaded"``: the values an instance was loaded with, instead of a query.

They are bound to the very instance: not pickled, not copied to clones, and dropped by
``refresh_from_db``. Only classes whose policy asks for it pay for keeping them.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from django.apps import apps
from django.db import connections
from django.db.models.fields.files import FieldFile

from django_signal_audit.capture.plans import UNKNOWN
from django_signal_audit.registry import policy_for
from django_signal_audit.transactions import in_transaction

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.capture.images import Image
    from django_signal_audit.capture.plans import FieldPlan

# By the instance's ModelState, which every copy and pickle of the instance has its own of;
# instances themselves are equal to others with their key.
_loaded: Final[WeakKeyDictionary[Any, dict[str, Any]]] = WeakKeyDictionary()

_MUTABLE: Final = (dict, list, set, bytearray)


def watch(model: type[Model]) -> None:
    """Keep loaded values of a class from now on; a second call changes nothing."""
    own = model.__dict__.get("from_db")
    if own is not None and hasattr(own.__func__, "signal_audit_original"):
        return
    original = model.from_db.__func__  # type: ignore[attr-defined]

    @functools.wraps(original)
    def from_db(cls: type[Model], *args: Any, **kwargs: Any) -> Any:
        instance = original(cls, *args, **kwargs)
        _remember(instance, [field.attname for field in model._meta.concrete_fields])
        return instance

    from_db.signal_audit_original = original  # type: ignore[attr-defined]
    model.from_db = classmethod(from_db)  # type: ignore[assignment]
    refresh = model.refresh_from_db

    @functools.wraps(refresh)
    def refresh_from_db(self: Model, *args: Any, **kwargs: Any) -> None:
        refresh(self, *args, **kwargs)
        forget(self)

    model.refresh_from_db = refresh_from_db  # type: ignore[method-assign]


def watch_all() -> None:
    """Watch every class whose policy says ``before="loaded"``."""
    for model in apps.get_models():
        policy = policy_for(model)
        if policy is not None and policy.before == "loaded":
            watch(model)


def forget(instance: Model) -> None:
    """The next save asks the database."""
    _loaded.pop(instance._state, None)


def note_save(
    instance: Model, model: type[Model], using: str, update_fields: Collection[str] | None
) -> None:
    """Note what a save has written, if it can no longer be rolled back."""
    if in_transaction(connections[using]):
        forget(instance)
        return
    _remember(
        instance,
        [
            field.attname
            for field in model._meta.concrete_fields
            if update_fields is None
            or field.primary_key
            or field.name in update_fields
            or field.attname in update_fields
        ],
    )


def _remember(instance: Model, attnames: Sequence[str]) -> None:
    attributes = instance.__dict__
    values = _loaded.setdefault(instance._state, {})
    for name in attnames:
        if name in attributes:
            value = _frozen(attributes[name])
            if value is UNKNOWN:
                values.pop(name, None)
            else:
                values[name] = value


def _frozen(value: Any) -> Any:
    """A value that does not follow later changes in place, ``UNKNOWN`` if it cannot be had."""
    if isinstance(value, FieldFile):
        return value.name
    if not isinstance(value, _MUTABLE):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - too deep, or an object of others; the database can tell
        return UNKNOWN


def image_of(instance: Model, fields: Sequence[FieldPlan]) -> Image | None:
    """The image as it was loaded; ``None`` where a column was not, or cannot be told."""
    values = _loaded.get(instance._state)
    key = instance._meta.pk.attname
    if values is None or values.get(key, UNKNOWN) != instance.__dict__.get(key):
        return None
    image = {}
    for plan in fields:
        value = plan.stored(values[plan.attname]) if plan.attname in values else UNKNOWN
        if value is UNKNOWN:
            return None
        image[plan.name] = value
    return image
