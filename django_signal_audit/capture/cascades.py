"""What a database deletes and changes by itself, as ``DB_CASCADE`` and its kin of Django 6.1 ask.

Django sends no statement and no signal for it. This module knows which tables are reached
so; ``capture.following`` reads their rows before the DELETE.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps

from django_signal_audit import internals, registry
from django_signal_audit.capture.updates import touched_by
from django_signal_audit.capture.watching import Watch, watch_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import Model

    from django_signal_audit.capture.plans import FieldPlan


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """A foreign key on whose target's delete the database acts.

    Attributes:
        field: the foreign key.
        action: ``cascade``, ``set null`` or ``set default``.
        model: the class of the rows that are deleted or changed.
        watch: of their table; ``None`` where nothing is wanted of these writes.
        touched: the columns to read that a change of the foreign key may change.
    """

    field: Any
    action: str
    model: type[Model]
    watch: Watch | None
    touched: tuple[FieldPlan, ...] = ()

    @property
    def deletes(self) -> bool:
        """Whether the rows are deleted, not changed."""
        return self.action == "cascade"

    @property
    def columns(self) -> tuple[FieldPlan, ...]:
        """The columns to read of the rows."""
        return self.watch.plan.fields if self.deletes and self.watch else self.touched


@dataclass(frozen=True, slots=True, eq=False)
class Cascade:
    """What the database does when rows of one table are deleted, as far as it is recorded.

    Attributes:
        model: of the rows that a statement deletes.
        edges: by the class of a deleted row; changes come before deletes.
        remembered: classes whose rows can be reached in more than one way, so that the keys
            of those deleted must be kept for as long as a statement is looked at.
    """

    model: type[Model]
    edges: Mapping[type[Model], tuple[Edge, ...]]
    remembered: frozenset[type[Model]]


_MOST_CASCADES: Final = 2048
_cascades: dict[tuple[type[Model], str], tuple[int, Cascade | None]] = {}


def cascade_from(model: type[Model], using: str) -> Cascade | None:
    """What the database does by itself when rows of a model are deleted.

    Each delete of every model asks this; but for the first time it is one look-up.

    Args:
        model: any class; a proxy's table is that of its concrete model.
        using: the alias: a router may keep tables away from it.

    Returns:
        ``None`` where no table is reached of which anything is recorded.
    """
    now = registry.generation()
    known = _cascades.get((model, using))
    if known is not None and known[0] == now:
        return known[1]
    cascade = _make(model._meta.concrete_model or model, using)
    if apps.ready and not internals.is_historical(model):
        # A router may name many aliases.
        if len(_cascades) >= _MOST_CASCADES:
            _cascades.clear()
        _cascades[model, using] = (now, cascade)
    return cascade


def _make(model: type[Model], using: str) -> Cascade | None:
    edges = _all_edges(model, using)
    changed = {edge.model for found in edges.values() for edge in found if edge.touched}
    useful = _useful(edges, changed)
    if model not in useful:
        return None
    kept: dict[type[Model], tuple[Edge, ...]] = {}
    for source in useful:
        found = [edge for edge in edges[source] if _is_useful(edge, changed, useful)]
        kept[source] = tuple(sorted(found, key=lambda edge: edge.deletes))
    ways = Counter(edge.model for found in kept.values() for edge in found if edge.deletes)
    ways[model] += 1
    remembered = {found for found, count in ways.items() if count > 1 or found in changed}
    return Cascade(model, kept, frozenset(remembered))


def _all_edges(model: type[Model], using: str) -> dict[type[Model], tuple[Edge, ...]]:
    edges: dict[type[Model], tuple[Edge, ...]] = {}
    pending = [model]
    while pending:
        source = pending.pop()
        if source in edges:
            continue
        edges[source] = tuple(
            _edge(field, action)
            for field in internals.references_to(source)
            if (action := internals.database_action(field)) is not None
            and internals.has_table(field.model, using)
        )
        pending += [edge.model for edge in edges[source] if edge.deletes]
    return edges


def _edge(field: Any, action: str) -> Edge:
    watch = watch_for(field.model)
    if watch is None or not watch.wants("delete" if action == "cascade" else "update"):
        return Edge(field, action, field.model, None)
    if action == "cascade":
        return Edge(field, action, field.model, watch)
    touched = touched_by(watch.plan, {field.name: None})
    if touched and watch.relations:
        # What a row says of a relation takes both of its ends.
        touched = watch.plan.fields
    return Edge(field, action, field.model, watch, touched)


def _useful(
    edges: Mapping[type[Model], tuple[Edge, ...]], changed: set[type[Model]]
) -> set[type[Model]]:
    """The classes of which a deleted row leads to anything that is recorded."""
    useful: set[type[Model]] = set()
    while True:
        more = {
            source
            for source, found in edges.items()
            if source not in useful and any(_is_useful(edge, changed, useful) for edge in found)
        }
        if not more:
            return useful
        useful |= more


def _is_useful(edge: Edge, changed: set[type[Model]], useful: set[type[Model]]) -> bool:
    if not edge.deletes:
        return bool(edge.touched)
    # A row that is changed and deleted too must be known as deleted.
    return edge.watch is not None or edge.model in changed or edge.model in useful
