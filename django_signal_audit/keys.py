"""How an object is named in the trail: its type, its key and its short text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db.models import Model

from django_signal_audit import internals
from django_signal_audit.redaction import redactor
from django_signal_audit.values import hidden_key, safe_text, stable_key

if TYPE_CHECKING:
    from django.db.models import Field


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


def own_text(instance: Model, *, limit: int) -> str | None:
    """The ``str()`` of an instance, safe; ``None`` where it could not be had without a query.

    An audited write must cost no query more for a ``__str__`` that follows a relation, and one that
    fails in the database would break the transaction.

    Args:
        instance: nothing that its ``__str__`` raises comes through.
        limit: characters that are kept.
    """
    text, refused = internals.call_without_queries(lambda: safe_text(instance, limit=limit))
    return None if refused else text


def message_text(value: Any) -> str:
    """What is shown of a message that may be any object, made without a query.

    Args:
        value: as it was sent; nothing that its ``__str__`` raises comes through.
    """
    if type(value) is str:
        return value
    text, refused = internals.call_without_queries(lambda: safe_text(value, limit=sys.maxsize))
    if not refused:
        return text
    if isinstance(value, Model):
        return default_repr(type(value), str(value.pk))
    return f"<unprintable {type(value).__name__}: {internals.QueryRefusedError.__name__}>"


def _to_python(field: Field[Any, Any], value: Any) -> Any:
    try:
        return field.to_python(value)
    except (ValidationError, TypeError, ValueError):
        # A value the field does not understand still names the row it was written to.
        return value
