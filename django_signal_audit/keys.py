"""How an object is named in the trail: its type, its key and its short text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError

from django_signal_audit.redaction import redactor
from django_signal_audit.values import hidden_key, stable_key

if TYPE_CHECKING:
    from django.db.models import Field, Model


def object_type(model: type[Model]) -> str:
    """``app_label.model`` in lower case; a proxy's is that of its concrete model."""
    return (model._meta.concrete_model or model)._meta.label_lower


def object_key(model: type[Model], pk: Any) -> str:
    """The key of an object as a stable string: ``5`` and ``"5"`` name the same row.

    A key that is itself a secret, such as a session's, is named by its SHA-256.

    Args:
        model: its class.
        pk: its primary key as an attribute or a database value; a tuple if composite.
    """
    field = model._meta.pk
    if isinstance(pk, tuple):
        return stable_key(pk)
    while field.remote_field is not None:
        field = field.target_field  # type: ignore[attr-defined]
    key = stable_key(_to_python(field, pk))
    return hidden_key(key) if redactor().is_sensitive(field.name) else key


def default_repr(model: type[Model], key: str) -> str:
    """What Django's own ``__str__`` shows, for rows of which there is no instance."""
    return f"{model._meta.object_name} object ({key})"


def _to_python(field: Field[Any, Any], value: Any) -> Any:
    try:
        return field.to_python(value)
    except (ValidationError, TypeError, ValueError):
        # A value the field does not understand still names the row it was written to.
        return value
