"""Which many-to-many fields the rows of a table belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.apps import apps

from django_signal_audit import internals, registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.apps.registry import Apps
    from django.db.models import Model

    from django_signal_audit.registry import AuditPolicy


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """An audited many-to-many field, as its through table holds it.

    Attributes:
        field: the ``ManyToManyField``.
        owner: the audited class whose objects have the field: the one that declares it, or a
            child of that.
        policy: of the owner.
        through: concrete class of the rows.
        source: name of the foreign key to the owner.
        target: name of the foreign key to the far object.
        unique: no two rows hold the same pair.
    """

    field: Any
    owner: type[Model]
    policy: AuditPolicy
    through: type[Model]
    source: str
    target: str
    unique: bool

    @property
    def columns(self) -> tuple[str, str]:
        """The columns that must be read."""
        return self.source, self.target

    @property
    def attnames(self) -> tuple[str, str]:
        """The attributes that hold what the columns hold."""
        meta: Any = self.through._meta
        return meta.get_field(self.source).attname, meta.get_field(self.target).attname


@dataclass(slots=True)
class _Index:
    """The relations of the project's own models, by the class of their rows."""

    generation: int = 0
    relations: dict[type[Model], tuple[Relation, ...]] = field(default_factory=dict)


_index = _Index()


def relations_of(model: type[Model]) -> tuple[Relation, ...]:
    """The audited many-to-many fields whose rows are those of a model.

    Args:
        model: concrete, automatic or not.
    """
    global _index  # noqa: PLW0603 - made anew as a whole, since threads may read it meanwhile
    if internals.is_historical(model) or not apps.ready:
        return _by_through(model._meta.apps).get(model, ())
    index, now = _index, registry.generation()
    if index.generation != now:
        index = _index = _Index(now, _by_through(apps))
    return index.relations.get(model, ())


def _by_through(known: Apps) -> dict[type[Model], tuple[Relation, ...]]:
    found: dict[type[Model], tuple[Relation, ...]] = {}
    for model in internals.models_of(known):
        if not model._meta.proxy and model._meta.many_to_many:
            for relation in _relations(model):
                found[relation.through] = (*found.get(relation.through, ()), relation)
    return found


def _relations(owner: type[Model]) -> Iterator[Relation]:
    policy = registry.policy_for(owner)
    if policy is None:
        return
    for many in owner._meta.many_to_many:
        through = internals.through_of(many)
        if through is None or not policy.records_m2m(many.name) or _is_a_parents(owner, many):
            continue
        rows = through._meta.concrete_model or through
        source, target = internals.through_columns(many)
        unique = internals.is_unique_together(rows, (source, target))
        yield Relation(many, owner, policy, rows, source, target, unique)


def _is_a_parents(owner: type[Model], many: Any) -> bool:
    """Whether an inherited field is recorded as that of an audited parent already."""
    for parent in owner._meta.all_parents:
        policy = registry.policy_for(parent)
        inherits = many in parent._meta.many_to_many
        if inherits and policy is not None and policy.records_m2m(many.name):
            return True
    return False
