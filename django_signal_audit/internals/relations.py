"""What Django does not document of many-to-many fields and of their managers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import router
from django.db.models import UniqueConstraint
from django.db.models.fields import related_descriptors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from django.apps.registry import Apps
    from django.db.models import Model

MANAGER_FACTORY: Final = (related_descriptors, "create_forward_many_to_many_manager")
"""Where the function is that makes the class of each many-to-many manager, and its name."""

MANAGER_METHODS: Final = ("add", "remove", "clear", "set", "set_base")
"""The managers' methods that write; all others call one of them. 6.1 has ``set_base``."""

ADD_ITEMS: Final = "_add_items"
"""The managers' method that inserts rows, once for each direction of a symmetrical field."""


@dataclass(frozen=True, slots=True)
class RelatedManager:
    """What a many-to-many manager says of itself.

    Attributes:
        through: class of the rows.
        instance: the object whose manager it is.
        value: what a row holds of that object.
        column: name of the foreign key that holds it.
        symmetrical: a call writes each row in both directions.
        forward: the instance is of the model that declares the field, or of a subclass.
    """

    through: type[Model]
    instance: Model
    value: Any
    column: str
    symmetrical: bool
    forward: bool


def related_manager(manager: Any) -> RelatedManager:
    """What a many-to-many manager says of itself."""
    target: Any = manager.source_field
    while target.remote_field is not None:
        target = target.target_field
    return RelatedManager(
        through=manager.through,
        instance=manager.instance,
        # As a column gives it back: an instance may hold its key as text.
        value=target.to_python(manager.related_val[0]),
        column=manager.source_field_name,
        symmetrical=manager.symmetrical,
        forward=not manager.reverse,
    )


def alias_of_manager(manager: Any) -> str:
    """The database that a many-to-many manager writes to."""
    return router.db_for_write(manager.through, instance=manager.instance)


def target_values(manager: Any, column: str, objs: Iterable[Any]) -> set[Any]:
    """What rows would hold of the objects, or keys, that a manager is given to add.

    Args:
        manager: of a many-to-many field.
        column: name of the foreign key to them.
        objs: as given.

    Raises:
        TypeError: an object of another model.
        ValueError: an object that is not saved, or a key that is none.
    """
    found: set[Any] = manager._get_target_ids(column, objs)
    return found


def adds_at_once(manager: Any, using: str, column: str) -> bool:
    """Whether a manager adds rows by one INSERT that ignores conflicts, and sends no signal.

    Args:
        manager: of a many-to-many field.
        using: the database alias.
        column: name of the foreign key that will hold the instance.
    """
    return bool(manager._get_add_plan(using, column)[-1])


def through_of(field: Any) -> type[Model] | None:
    """The class of a many-to-many field's rows; ``None`` where the model is swapped out."""
    through = field.remote_field.through
    return through if isinstance(through, type) else None


def through_columns(field: Any) -> tuple[str, str]:
    """Names of the foreign keys to the owner of a many-to-many field and to the far object."""
    return field.m2m_field_name(), field.m2m_reverse_field_name()


def models_of(registry: Apps) -> Iterator[type[Model]]:
    """All models of a registry of apps, at whatever stage of loading it is.

    ``get_models`` keeps a registry alive that it was once asked of.
    """
    for models in list(registry.all_models.values()):
        yield from list(models.values())


def is_unique_together(model: type[Model], names: Collection[str]) -> bool:
    """Whether no two rows ever hold the same values in some columns.

    Args:
        model: of the rows.
        names: of its fields.
    """
    meta: Any = model._meta
    sets = [{field.name} for field in meta.concrete_fields if field.unique]
    sets.append({field.name for field in meta.pk_fields})
    sets += [set(together) for together in meta.unique_together]
    sets += [
        set(constraint.fields)
        for constraint in meta.constraints
        if isinstance(constraint, UniqueConstraint)
        and constraint.fields
        and constraint.condition is None
        and constraint.deferrable is None
    ]
    return any(columns <= set(names) for columns in sets)
