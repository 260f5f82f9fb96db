"""Deletes, and writes of many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connections
from django.db.models import F

from tests.replay.values import model_of, pick, resolve, rows_of


@dataclass(frozen=True)
class Delete:
    model: str
    row: int
    how: str = "delete"
    using: str = "default"

    def run(self, held):
        if self.how == "held":
            found = held.get((self.row, self.model, self.using))
        else:
            found = pick(self.model, self.row, self.using)
        if found is None or found.pk is None:
            return
        if self.how == "adelete":
            async_to_sync(found.adelete)(using=self.using)
        elif self.how == "keep_parents":
            found.delete(using=self.using, keep_parents=True)
        else:
            found.delete(using=self.using)


@dataclass(frozen=True)
class DeleteMany:
    model: str
    where: dict[str, Any]
    how: str = "delete"
    using: str = "default"

    def run(self, held):
        rows = model_of(self.model)._base_manager.using(self.using).filter(**self.where)
        if self.how == "adelete":
            async_to_sync(rows.adelete)()
        elif self.how == "subquery":
            everything = model_of(self.model)._base_manager.using(self.using)
            everything.filter(pk__in=list(rows.values_list("pk", flat=True))).delete()
        else:
            rows.delete()


@dataclass(frozen=True)
class Update:
    """``QuerySet.update``; ``order`` makes it an ordered one."""

    model: str
    where: dict[str, Any]
    values: dict[str, Any]
    how: str = "update"
    order: str | None = None
    using: str = "default"

    def run(self, held):
        everything = rows_of(self.model, self.using).order_by()
        rows = everything.filter(**self.where)
        if self.order:
            rows = rows.order_by(self.order)
        values = resolve(self.model, self.values, self.using)
        if self.how == "aupdate":
            async_to_sync(rows.aupdate)(**values)
        elif self.how == "distinct":
            rows.distinct().update(**values)
        elif self.how == "exclude":
            everything.exclude(**self.where).update(**values)
        elif self.how == "annotated":
            rows.annotate(more=F("pk")).update(**values)
        else:
            rows.update(**values)


@dataclass(frozen=True)
class BulkCreate:
    """``conflicts`` is ``""``, ``ignore`` or ``update``; ``unique`` is the column they are of."""

    model: str
    rows: tuple[dict[str, Any], ...]
    conflicts: str = ""
    unique: str = "id"
    update_fields: tuple[str, ...] = ()
    batch_size: int | None = None
    hold: int | None = None
    using: str = "default"

    def run(self, held):
        model = model_of(self.model)
        objs = [model(**resolve(self.model, values, self.using)) for values in self.rows]
        options: dict[str, Any] = {"batch_size": self.batch_size}
        if self.conflicts == "ignore":
            options["ignore_conflicts"] = True
        elif self.conflicts == "update":
            options.update(update_conflicts=True, update_fields=self.update_fields)
            if connections[self.using].features.supports_update_conflicts_with_target:
                options["unique_fields"] = [self.unique]
        made = model._base_manager.using(self.using).bulk_create(objs, **options)
        if self.hold is not None and made and not self.conflicts:
            held[self.hold, self.model, self.using] = made[0]


@dataclass(frozen=True)
class BulkUpdate:
    model: str
    rows: tuple[int, ...]
    values: tuple[dict[str, Any], ...]
    fields: tuple[str, ...]
    batch_size: int | None = None
    using: str = "default"

    def run(self, held):
        objs = [pick(self.model, row, self.using) for row in self.rows]
        objs = [obj for obj in objs if obj is not None]
        for obj, values in zip(objs, self.values, strict=False):
            for name, value in resolve(self.model, values, self.using).items():
                setattr(obj, name, value)
        manager = model_of(self.model)._base_manager.using(self.using)
        manager.bulk_update(objs, self.fields, batch_size=self.batch_size)
