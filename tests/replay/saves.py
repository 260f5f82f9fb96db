"""Writes of one row by ``save()`` and what ends in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.core import serializers
from django.utils import timezone

from tests.replay.values import model_of, pick, resolve, rows_of


@dataclass(frozen=True)
class Create:
    """``how`` is the function that ends in an INSERT, or in an UPDATE if the key is taken."""

    model: str
    values: dict[str, Any]
    how: str = "create"
    hold: int | None = None
    using: str = "default"

    def run(self, held):
        model = model_of(self.model)
        manager = model._base_manager.using(self.using)
        values = resolve(self.model, self.values, self.using)
        if self.how == "create":
            made = manager.create(**values)
        elif self.how == "acreate":
            made = async_to_sync(manager.acreate)(**values)
        elif self.how == "get_or_create":
            # Django 6.1 warns of a look-up of NULL in JSON.
            defaults = {key: values.pop(key) for key in ("meta",) if key in values}
            made, _ = manager.get_or_create(**values, defaults=defaults)
        elif self.how == "update_or_create":
            sought = dict([(k, v) for k, v in values.items() if k != "meta"][:1])
            made, _ = manager.update_or_create(**sought, defaults=values)
        elif self.how == "raw":
            made = model(**values)
            if hasattr(model, "touched"):
                made.touched = timezone.now()  # a fixture brings all columns
            made.save_base(raw=True, using=self.using)
        elif self.how == "force_insert":
            made = model(**values)
            made.save(force_insert=True, using=self.using)
        else:
            made = model(**values)
            made.save(using=self.using)
        if self.hold is not None:
            held[self.hold, self.model, self.using] = made


@dataclass(frozen=True)
class Save:
    """Change attributes of a row's instance and save it.

    Attributes:
        load: ``get``, ``only`` the key, ``defer`` what is changed, ``held`` by an earlier
            write, ``construct`` one with the key and no query, ``clone`` without its key, or
            ``refresh`` it first.
        how: ``save``, ``update_fields`` those that are changed, ``raw``, ``asave``, ``twice``,
            ``force_update`` or ``delete_and_save``.
    """

    model: str
    row: int
    values: dict[str, Any]
    load: str = "get"
    how: str = "save"
    hold: int | None = None
    using: str = "default"

    def run(self, held):
        instance = self._load(held)
        if instance is None:
            return
        names = list(self.values)
        for name, value in resolve(self.model, self.values, self.using).items():
            setattr(instance, name, value)
        if self.how == "update_fields":
            instance.save(update_fields=names, using=self.using)
        elif self.how == "asave":
            async_to_sync(instance.asave)(using=self.using)
        elif self.how == "raw":
            instance.save_base(raw=True, using=self.using)
        elif self.how == "force_update":
            instance.save(force_update=True, using=self.using)
        elif self.how == "delete_and_save":
            key = instance.pk
            instance.delete(using=self.using)
            instance.pk = key
            instance.save(using=self.using)
        else:
            instance.save(using=self.using)
        if self.how == "twice":
            instance.save(using=self.using)
        if self.hold is not None:
            held[self.hold, self.model, self.using] = instance

    def _load(self, held):
        if self.load == "held":
            return held.get((self.row, self.model, self.using))
        found = pick(self.model, self.row, self.using)
        if found is None:
            return None
        rows = rows_of(self.model, self.using)
        loaders = {
            "only": lambda: rows.only("pk").get(pk=found.pk),
            "defer": lambda: rows.defer(*self.values).get(pk=found.pk),
            "construct": lambda: model_of(self.model)(pk=found.pk),
            "clone": lambda: _clone(found),
        }
        if self.load == "refresh":
            found.refresh_from_db()
        return loaders.get(self.load, lambda: found)()


def _clone(instance):
    """A copy, as Django's documentation makes one: without the keys of its row."""
    meta = instance._meta
    generated = meta.pk.get_internal_type() in {"UUIDField", "CharField"}
    instance.pk = meta.pk.get_default() if generated else None
    for parent in meta.all_parents:
        setattr(instance, parent._meta.pk.attname, None)
    instance._state.adding = True
    return instance


@dataclass(frozen=True)
class Mutate:
    """Change a JSON value in place."""

    row: int
    key: str
    value: Any
    how: str = "save"
    using: str = "default"

    def run(self, held):
        item = pick("Item", self.row, self.using)
        if item is None:
            return
        if isinstance(item.meta, dict):
            item.meta[self.key] = self.value
        elif isinstance(item.meta, list):
            item.meta.append(self.value)
        if self.how == "update_fields":
            item.save(update_fields=["meta"])
        else:
            item.save()


@dataclass(frozen=True)
class Fixture:
    """What ``loaddata`` does with a row that ``dumpdata`` has written and a person changed."""

    model: str
    row: int
    values: dict[str, Any]
    using: str = "default"

    def run(self, held):
        found = pick(self.model, self.row, self.using)
        if found is None:
            return
        for name, value in resolve(self.model, self.values, self.using).items():
            setattr(found, name, found._meta.get_field(name).to_python(value))
        for loaded in serializers.deserialize(
            "python", serializers.serialize("python", [found]), using=self.using
        ):
            loaded.save(using=self.using)
