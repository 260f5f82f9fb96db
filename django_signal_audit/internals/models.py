"""What Django does not document of models and routers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import router

if TYPE_CHECKING:
    from django.db.models import Model


def is_pk_set(instance: Model, meta: Any) -> bool:
    """Whether every part of the primary key has a value."""
    return bool(instance._is_pk_set(meta))  # type: ignore[attr-defined]


def has_key(instance: Model) -> bool:
    """Whether an instance has a primary key that is a value, not one for the database to make."""
    return is_pk_set(instance, instance._meta) and not hasattr(instance.pk, "resolve_expression")


def pk_fields(meta: Any) -> list[Any]:
    """The columns of a primary key: several if it is composite."""
    return list(meta.pk_fields)


def pk_value(instance: Model, meta: Any) -> Any:
    """The primary key of an instance, or of its row in a parent's table."""
    return instance._get_pk_val(meta)


def is_historical(model: type[Model]) -> bool:
    """Whether a class is of another registry than the project's, as those of migrations are.

    Such classes come and go; a cache that outlives them would keep all of their registry.
    """
    return model._meta.apps is not apps


def routed(action: str, model: type[Model], **hints: Any) -> str | None:
    """The alias that a router in ``DATABASE_ROUTERS`` names, before Django's own defaults.

    Args:
        action: ``db_for_read`` or ``db_for_write``.
        model: that is read or written.
        **hints: as Django gives them.
    """
    for one in router.routers:
        ask = getattr(one, action, None)
        alias: str | None = ask(model, **hints) if ask else None
        if alias:
            return alias
    return None


def forbidding_router(alias: str, model: type[Model]) -> str | None:
    """The class of the router that keeps a model's table from a database, ``None`` if none does."""
    meta = model._meta
    for one in router.routers:
        ask = getattr(one, "allow_migrate", None)
        said = ask(alias, meta.app_label, model_name=meta.model_name, model=model) if ask else None
        if said is not None:
            return None if said else type(one).__name__
    return None
