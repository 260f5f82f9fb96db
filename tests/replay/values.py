"""Rows and values that a sequence of writes names, made real when a write runs.

Rows are named by their place among those that are there, ``row=2`` being the third by key, so
that any sequence makes sense whatever its earlier writes have done.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.apps import apps
from django.db.models import Case, F, OuterRef, Subquery, Value, When
from django.db.models.functions import Coalesce, Concat, Now, Upper


def model_of(name):
    return apps.get_model("replayapp", name)


def rows_of(name, using):
    rows = model_of(name)._base_manager.using(using).order_by("pk")
    # What is written to the table of an unaudited parent is not recorded, though an audited child
    # has the columns, too: docs/explanation/what-is-recorded.md.
    return rows.filter(dog=None) if name == "Animal" else rows


def pick(name, row, using):
    """The row at a place, counted round and round; ``None`` if there is none."""
    keys = list(rows_of(name, using).values_list("pk", flat=True))
    return model_of(name)._base_manager.using(using).get(pk=keys[row % len(keys)]) if keys else None


@dataclass(frozen=True)
class Row:
    """The key of a row of the model that the foreign key points at."""

    place: int


@dataclass(frozen=True)
class Plus:
    name: str
    number: int

    def build(self, using):
        return F(self.name) + self.number


@dataclass(frozen=True)
class Copied:
    name: str

    def build(self, using):
        return F(self.name)


@dataclass(frozen=True)
class Shouted:
    name: str

    def build(self, using):
        return Upper(Concat(F(self.name), Value("x")))


@dataclass(frozen=True)
class Cased:
    """A number that depends on the very column."""

    name: str
    above: int
    then: int

    def build(self, using):
        return Case(
            When(**{f"{self.name}__gt": self.above}, then=Value(self.then)), default=F(self.name)
        )


@dataclass(frozen=True)
class Moment:
    def build(self, using):
        return Now()


@dataclass(frozen=True)
class Fetched:
    """A text from another table."""

    def build(self, using):
        shelves = model_of("Shelf")._base_manager.using(using).filter(pk=OuterRef("shelf"))
        return Coalesce(Subquery(shelves.values("label")[:1]), Value("none"))


def resolve(name, values, using):
    """Keyword arguments by attname, with rows and expressions made real."""
    meta = model_of(name)._meta
    found = {}
    for key, value in values.items():
        column = meta.get_field(key)
        if isinstance(value, Row):
            target = column.related_model._meta.object_name
            chosen = pick(target, value.place, using)
            found[column.attname] = None if chosen is None else chosen.pk
        elif hasattr(value, "build"):
            found[column.attname] = value.build(using)
        else:
            found[column.attname] = value
    return found
