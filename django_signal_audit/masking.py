"""Which columns of a model are masked, and which values of a row no text about it may show."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.db import models

from django_signal_audit import internals
from django_signal_audit._known import collect_secrets
from django_signal_audit.redaction import redactor
from django_signal_audit.values import make_safe, safe_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_signal_audit.redaction import Redactor


def value_field(field: models.Field[Any, Any]) -> models.Field[Any, Any]:
    """The field itself, or what a foreign key points at in the end."""
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    return field


def is_masked(
    model: type[models.Model],
    field: models.Field[Any, Any],
    mask_fields: Collection[str],
    hide: Redactor,
) -> bool:
    """Whether the values of a column are shown as ``"[redacted]"``."""
    return (
        field.name in mask_fields
        or hide.is_sensitive(field.name)
        or hide.is_sensitive(value_field(field).name)
        or (field.name == "password" and _is_user(model))
    )


def _is_user(model: type[models.Model]) -> bool:
    from django.contrib.auth.base_user import (  # noqa: PLC0415 - a model: it needs loaded apps
        AbstractBaseUser,
    )

    return issubclass(model, AbstractBaseUser)


def instance_secrets(instance: models.Model, mask_fields: frozenset[str]) -> set[str]:
    """The values of masked columns, and those under sensitive keys, found without a query.

    Args:
        instance: deferred attributes of it are not loaded.
        mask_fields: those of its model's policy.
    """
    secrets: set[str] = set()
    hide = redactor()
    columns = _columns if internals.is_historical(type(instance)) else _kept_columns
    for attname, masked in columns(type(instance), mask_fields, hide):
        value = instance.__dict__.get(attname)
        if value is None or value is True or value is False:
            continue
        if not masked:
            make_safe(value, is_sensitive=hide.is_sensitive, secrets=secrets)
            continue
        collect_secrets(value, secrets)
        # Whatever its type, this is how a text shows the value as a whole.
        secrets.add(safe_text(value, limit=sys.maxsize))
    return secrets - {""}


def _columns(
    model: type[models.Model], mask_fields: frozenset[str], hide: Redactor
) -> tuple[tuple[str, bool], ...]:
    """The attributes that may hold a secret, and whether all that they hold is one.

    Of most models there are none, and then a write costs nothing more.
    """
    found = []
    for field in model._meta.concrete_fields:
        masked = is_masked(model, field, mask_fields, hide)
        if masked or not _holds_one_value(field):
            found.append((field.attname, masked))
    return tuple(found)


_kept_columns = lru_cache(maxsize=2048)(_columns)


def _holds_one_value(field: models.Field[Any, Any]) -> bool:
    """Whether a column holds no keys that could be sensitive; a field of others' making might."""
    kind = type(value_field(field))
    if kind in (models.JSONField, models.GeneratedField):
        return False
    return kind.__module__.startswith("django.db.models.fields")
