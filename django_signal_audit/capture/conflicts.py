"""``bulk_create`` with ``ignore_conflicts`` or ``update_conflicts``: what it really wrote.

No backend says which rows it inserted and which it met. The rows are looked up before and
after, by primary key and by unique columns, and compared.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from django.db import connections
from django.db.models import Q

from django_signal_audit import internals
from django_signal_audit.capture.images import all_rows, attribute_image, locked
from django_signal_audit.capture.watching import Row
from django_signal_audit.pipeline import Change

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.capture.images import Image
    from django_signal_audit.capture.plans import ModelPlan

_PER_QUERY: Final = 200
"""Objects that are looked up in one query; SQLite nests an OR of them, 1,000 deep at most."""


class Conflicts:
    """The rows that a ``bulk_create`` with conflicts may meet, as they are before it.

    Args:
        plan: of the model.
        objs: what is to be created.
        using: the database alias, in a transaction.
        update: whether rows that are met are updated, otherwise they are left.
        unique_fields: names of the columns that decide what a conflict is, if given.
    """

    def __init__(
        self,
        plan: ModelPlan,
        objs: Sequence[Model],
        using: str,
        update: bool,
        unique_fields: Collection[str] | None,
    ) -> None:
        self.plan = plan
        self.objs = objs
        self.using = using
        self.data = {"bulk": "bulk_create", "conflicts": "update" if update else "ignore"}
        self.identities = _identities(plan.model, unique_fields)
        # MariaDB updates a row that any unique column meets, and is not told which.
        self.asks_all = update and not unique_fields
        self.before = self._rows(lock=True)[0]

    def rows(self, inserted: int | None = None) -> Iterator[Row | Change]:
        """What the ``bulk_create``, which has run by now, did.

        Rows without a key and without unique values cannot be found again: one event says
        so, with their number.

        Args:
            inserted: how many rows the database says it inserted, if it does.
        """
        after, nameless = self._rows(lock=False)
        new = len(after.keys() - self.before.keys())
        # The rest was inserted by others since we looked, and no database says which.
        others = 0 if inserted is None or nameless else max(0, new - inserted)
        data = {**self.data, "inserted_meanwhile": others} if others else self.data
        for key, image in after.items():
            before = self.before.get(key)
            if before is None:
                if others < new:  # otherwise none is ours
                    yield Row("create", key, None, image, data=dict(data))
            elif not self._same(before, image):
                yield Row("update", key, before, image, data=dict(self.data))
        for obj in nameless:
            # Of a through model each still holds a pair, and pairs are counted.
            image, _ = attribute_image(obj, self.plan.fields, self.using)
            yield Row("create", None, None, image, told=False)
        if nameless:
            yield Change("create", None, "", {}, {**self.data, "rows_attempted": len(nameless)})

    def _same(self, before: Image, after: Image) -> bool:
        """Whether a row is as it was; it may not even have been written."""
        return all(f.same(before[f.name], after[f.name]) for f in self.plan.fields)

    def _rows(self, *, lock: bool) -> tuple[dict[Any, Image], list[Model]]:
        """The rows that are there now, by key, and the objects that cannot be looked up."""
        conditions = []
        nameless = []
        for obj in self.objs:
            found = list(self._conditions(obj))
            conditions += found
            if not found:
                nameless.append(obj)
        rows: dict[Any, Image] = {}
        names = [field.attname for field in self.plan.fields]
        for start in range(0, len(conditions), _PER_QUERY):
            condition = _any_of(conditions[start : start + _PER_QUERY])
            queryset = all_rows(self.plan.model, self.using).filter(condition)
            if lock or internals.reads_the_past(connections[self.using]):
                queryset = locked(queryset)
            for pk, *values in queryset.values_list("pk", *names):
                rows[pk] = {f.name: v for f, v in zip(self.plan.fields, values, strict=True)}
        return rows, nameless

    def _conditions(self, obj: Model) -> Iterator[tuple[tuple[str, ...], tuple[Any, ...]]]:
        if internals.has_key(obj):
            yield ("pk",), (obj.pk,)
        for names in self.identities:
            values = tuple(obj.__dict__.get(name) for name in names)
            if not any(value is None or _is_expression(value) for value in values):
                yield names, values
                if not self.asks_all:
                    return


def _any_of(conditions: Sequence[tuple[tuple[str, ...], tuple[Any, ...]]]) -> Q:
    """Rows that meet one of some conditions; those of one column are asked for together."""
    by_names: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for names, values in conditions:
        by_names[names].append(values)
    found = []
    for names, rows in by_names.items():
        if len(names) == 1:
            found.append(Q(**{f"{names[0]}__in": [row[0] for row in rows]}))
        else:
            found += [Q(**dict(zip(names, row, strict=True))) for row in rows]
    return reduce(operator.or_, found)


def _identities(model: type[Model], unique_fields: Collection[str] | None) -> list[tuple[str, ...]]:
    """Sets of columns that name at most one row, the best first."""
    meta = model._meta
    if unique_fields:
        names = [meta.pk.name if name == "pk" else name for name in unique_fields]
        sets: list[Collection[str]] = [names]
    else:
        sets = [(f.name,) for f in meta.concrete_fields if f.unique and not f.primary_key]
        sets += meta.unique_together
        sets += [constraint.fields for constraint in meta.total_unique_constraints]
    attnames = {f.name: f.attname for f in meta.concrete_fields}
    return [tuple(attnames.get(name, name) for name in names) for names in sets]


def _is_expression(value: Any) -> bool:
    return hasattr(value, "resolve_expression")
