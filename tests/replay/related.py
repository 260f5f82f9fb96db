"""Writes by way of related objects: managers, and the rows of many-to-many tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import async_to_sync

from tests.replay.values import model_of, pick, resolve


@dataclass(frozen=True)
class Related:
    """The manager of a foreign key's or a many-to-many field's related objects.

    Attributes:
        model: of the row that has the manager.
        row: its place.
        manager: its name.
        method: of the manager, or ``set_clear``, ``set_keys``, ``update`` or ``delete``.
        others: places of the objects that are given.
        options: ``bulk`` or ``through_defaults``; of ``update`` the values.
    """

    model: str
    row: int
    manager: str
    method: str
    others: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    using: str = "default"

    def run(self, held):
        owner = pick(self.model, self.row, self.using)
        if owner is None:
            return
        manager, options = getattr(owner, self.manager), self.options
        name = manager.model._meta.object_name
        others = [pick(name, place, self.using) for place in self.others]
        others = [other for other in others if other is not None]
        calls = {
            "add": lambda: manager.add(*others, **options),
            "aadd": lambda: async_to_sync(manager.aadd)(*others),
            "remove": lambda: manager.remove(*others, **options),
            "aremove": lambda: async_to_sync(manager.aremove)(*others),
            "set": lambda: manager.set(others, **options),
            "set_clear": lambda: manager.set(others, clear=True),
            "set_keys": lambda: manager.set([other.pk for other in others]),
            "clear": lambda: manager.clear(**options),
            "create": manager.create,
            "update": lambda: manager.all().update(**resolve(name, options, self.using)),
            "delete": lambda: manager.all().delete(),
        }
        calls[self.method]()


@dataclass(frozen=True)
class Through:
    """A row of a many-to-many table, written by itself.

    Attributes:
        owner, manager: of the many-to-many field, such as ``Item`` and ``tags``.
        method: what is done: ``create``, ``bulk_create`` or ``ignore`` makes a row of two
            objects; ``move`` and ``update_all`` give rows another owner; ``save``, ``update`` and
            ``bulk_update`` another far object; ``delete`` and ``delete_many`` delete.
        near, far: places of the two objects.
        row: place of the row among those of the table.
    """

    owner: str
    manager: str
    method: str
    near: int = 0
    far: int = 0
    row: int = 0
    using: str = "default"

    def run(self, held):
        relation = model_of(self.owner)._meta.get_field(self.manager)
        near = pick(self.owner, self.near, self.using)
        far = pick(relation.related_model._meta.object_name, self.far, self.using)
        if near is None or far is None:
            return
        through = relation.remote_field.through
        rows = through._base_manager.using(self.using).order_by("pk")
        to_near = {relation.m2m_field_name(): near}
        to_far = {relation.m2m_reverse_field_name(): far}
        new = through(**to_near, **to_far)
        calls = {
            "create": lambda: new.save(using=self.using),
            "bulk_create": lambda: rows.bulk_create([new]),
            "ignore": lambda: rows.bulk_create([new], ignore_conflicts=True),
            "update_all": lambda: rows.update(**to_near),
            "delete_many": lambda: rows.filter(**to_near).delete(),
        }
        if self.method in calls:
            calls[self.method]()
            return
        keys = list(rows.values_list("pk", flat=True))
        if keys:
            self._write(rows, keys[self.row % len(keys)], to_near, to_far)

    def _write(self, rows, key, to_near, to_far):
        row = rows.get(pk=key)
        for name, value in (to_near if self.method == "move" else to_far).items():
            setattr(row, name, value)
        calls = {
            "save": row.save,
            "move": lambda: row.save(update_fields=list(to_near)),
            "update": lambda: rows.filter(pk=key).update(**to_far),
            "bulk_update": lambda: rows.bulk_update([row], list(to_far)),
            "delete": row.delete,
        }
        calls[self.method]()


@dataclass(frozen=True)
class Reorder:
    """Put the steps of an item in another order."""

    row: int
    order: tuple[int, ...]
    using: str = "default"

    def run(self, held):
        item = pick("Item", self.row, self.using)
        if item is None:
            return
        keys = list(item.get_step_order())
        item.set_step_order(sorted(keys, key=lambda key: self.order[keys.index(key) % 3]))
