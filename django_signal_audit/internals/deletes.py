"""What Django does not document of deletes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.db import connections, models, router
from django.db.models import QuerySet
from django.db.models.deletion import Collector
from django.db.models.sql.subqueries import DeleteQuery, UpdateQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from django.db.models import Model

DELETE: Final = (Collector, "delete")
"""What every ``delete()`` of an instance or a queryset ends in."""

DELETE_BATCH: Final = (DeleteQuery, "delete_batch")
"""The statement that deletes collected instances by their keys."""

UPDATE_BATCH: Final = (UpdateQuery, "update_batch")
"""The statement of an ``on_delete`` that sets a column of collected instances."""

_ON_DELETE: Final = "signal_audit_on_delete"

# Since Django 6.1.
_DATABASE_ACTIONS: Final[dict[Any, str]] = {
    getattr(models, name): action
    for name, action in (
        ("DB_CASCADE", "cascade"),
        ("DB_SET_NULL", "set null"),
        ("DB_SET_DEFAULT", "set default"),
    )
    if hasattr(models, name)
}


def collected(collector: Any) -> Mapping[type[Model], Sequence[Model]]:
    """The instances that a collector deletes by key, by class; a list each once it deletes."""
    found: Mapping[type[Model], Sequence[Model]] = collector.data
    return found


def origin(collector: Any) -> Any:
    """The instance or queryset whose ``delete()`` made a collector."""
    return collector.origin


def fast_deletes(collector: Any) -> list[Any]:
    """The querysets that a collector deletes without looking at their rows."""
    found: list[Any] = collector.fast_deletes
    return found


class FastDelete:
    """Stands in for a queryset among the fast deletes of a collector.

    Attributes:
        model: whose rows are deleted.
        delete: takes the alias, deletes, and returns the number of rows.
    """

    def __init__(self, model: type[Model], delete: Callable[[str], int]) -> None:
        self.model = model
        self.delete = delete

    def _raw_delete(self, using: str) -> int:
        return self.delete(using)


@contextmanager
def replaced_fast_deletes(collector: Any, replace: Callable[[Any, str], Any]) -> Iterator[None]:
    """Let others stand in for a collector's fast deletes.

    Args:
        collector: about to delete.
        replace: takes a queryset and the alias; returns what is deleted in its place: the same,
            or a ``FastDelete``.
    """
    original = collector.fast_deletes
    collector.fast_deletes = [replace(queryset, collector.using) for queryset in original]
    try:
        yield
    finally:
        collector.fast_deletes = original


def mark_field_updates(collector: Any) -> None:
    """Mark the querysets by which a collector sets columns, so that ``is_on_delete`` knows them.

    The mark is on the query, whose copies keep it: Django combines these querysets first.
    """
    for querysets in collector.field_updates.values():
        for queryset in querysets:
            if isinstance(queryset, QuerySet):
                setattr(queryset.query, _ON_DELETE, True)


def is_on_delete(queryset: Any) -> bool:
    """Whether an ``update()`` of this queryset is the ``on_delete`` of a foreign key."""
    return getattr(queryset.query, _ON_DELETE, False)


def model_of(query: Any) -> type[Model]:
    """The class that a delete or an update was made for; maybe a proxy."""
    model: type[Model] = query.model
    return model


def made_anew(query: Any) -> Any:
    """A query of the same kind for the same class; one that has run keeps what it has set."""
    return type(query)(query.model)


def raw_delete(queryset: Any, using: str) -> int:
    """Delete the rows of a queryset by one statement, without signals or cascades."""
    return int(queryset._raw_delete(using) or 0)  # None where Django knows of no row


def references_to(model: type[Model]) -> list[Any]:
    """The foreign keys that point at a model's own table, hidden ones too.

    Those that point at the table of a parent are none of these.
    """
    relations: list[Any] = [
        relation
        for relation in model._meta.get_fields(include_parents=False, include_hidden=True)
        if relation.auto_created
        and not relation.concrete
        and (relation.one_to_many or relation.one_to_one)
    ]
    return [relation.field for relation in relations]


def database_action(field: Any) -> str | None:
    """What the database does by itself with a row whose target is deleted.

    Args:
        field: a foreign key; one without a constraint has no action, whatever it says.

    Returns:
        ``cascade``, ``set null`` or ``set default``, as SQL says it; ``None`` for nothing.
    """
    if not getattr(field, "db_constraint", False):
        return None
    return _DATABASE_ACTIONS.get(field.remote_field.on_delete)


def is_cascade(field: Any) -> bool:
    """Whether Django itself deletes the rows whose target is deleted.

    Where the database looks at foreign keys at once, it sets those that may be null to NULL first.
    """
    return field.remote_field is not None and field.remote_field.on_delete is models.CASCADE


def is_left_to_the_database(field: Any) -> bool:
    """Whether Django itself does nothing with a row whose target is deleted."""
    on_delete = field.remote_field.on_delete
    return on_delete is models.DO_NOTHING or on_delete in _DATABASE_ACTIONS


def has_table(model: type[Model], using: str) -> bool:
    """Whether a database is meant to have the table of a model."""
    meta: Any = model._meta
    if meta.managed and not meta.can_migrate(connections[using]):
        return False
    return router.allow_migrate_model(using, model)
