"""Many-to-many changes by managers: ``add``, ``remove``, ``set`` and ``clear``, from either side.

The managers' methods are wrapped, not ``m2m_changed``: a receiver of our own would switch
off Django's fast adds, and sees ``set`` as two changes. What a method writes is seen where
rows are seen (``moves``); here is what makes one change of it.
"""

from __future__ import annotations

import functools
from typing import Any

from django.db import connections
from django.db.models import Q
from django.db.models.signals import class_prepared

from django_signal_audit import context, internals, registry
from django_signal_audit.capture import fixtures, moves
from django_signal_audit.capture.images import CHUNK, all_rows
from django_signal_audit.capture.patching import wrap
from django_signal_audit.capture.watching import watch_for
from django_signal_audit.transactions import write_transaction


def connect() -> None:
    """Wrap the factory of many-to-many managers; a second call changes nothing."""
    wrap(*internals.MANAGER_FACTORY, _create_manager)
    fixtures.connect()
    class_prepared.connect(_note_class, dispatch_uid="django_signal_audit.relations")


def _note_class(sender: Any, **kwargs: Any) -> None:
    registry.note_class(sender)


def _create_manager(original: Any, superclass: Any, rel: Any, reverse: bool) -> Any:
    manager = original(superclass, rel, reverse)
    for name in internals.MANAGER_METHODS:
        if name in manager.__dict__:
            setattr(manager, name, _one_change(manager.__dict__[name], rel))
    wrap(manager, internals.ADD_ITEMS, _add_items)
    return manager


def _one_change(original: Any, rel: Any) -> Any:
    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        watch = None if context.is_suspended() else watch_for(rel.through)
        if watch is None or moves.call_of(self) is not None:
            return original(self, *args, **kwargs)
        relations = tuple(one for one in watch.relations if one.field is rel.field)
        if not relations:
            return original(self, *args, **kwargs)
        near = internals.related_manager(self)
        using = internals.alias_of_manager(self)
        raw = kwargs.get("raw", False) or fixtures.is_loading(near.instance)
        call = moves.Call(self, relations, using, near, {"raw": True} if raw else {})
        call.recorded = not fixtures.is_left_out(near.instance, raw=raw)
        result: Any = None
        error: Exception | None = None
        with write_transaction(using, near.through._meta.db_table):
            moves.begin(call)
            try:
                result = original(self, *args, **kwargs)
            except Exception as exc:  # noqa: BLE001 - raised again below
                # Django has doomed the transaction, unless it refused before the first write.
                error = exc
            finally:
                moves.end()
            if error is None:
                call.finish()
        if error is not None:
            raise error
        return result

    return wrapper


def _add_items(
    original: Any, self: Any, source: str, target: str, *objs: Any, **kwargs: Any
) -> None:
    """Insert rows of one direction.

    Where Django inserts them unlooked, so does the rest of capture: what is there is asked once
    before, and nobody else's code runs meanwhile.
    """
    call = moves.call_of(self)
    if (
        call is None
        or not objs
        or kwargs.get("through_defaults")
        or not internals.adds_at_once(self, call.using, source)
    ):
        original(self, source, target, *objs, **kwargs)
        return
    values = internals.target_values(self, target, objs)
    before = _held(call, source, values)
    counting = internals.counting_inserts(connections[call.using], call.near.through)
    with context.suspend_audit(), counting as inserted:
        original(self, source, target, *objs, **kwargs)
    added = {_pair(call, source, value) for value in values} - before
    if added and _may_differ(call.using, values):
        added = _held(call, source, values) - before
    if not inserted.rows:
        return
    if inserted.rows < len(added):
        # Others added some of them since we looked, and no database says which.
        others = len(added) - inserted.rows
        call.data["added_meanwhile"] = call.data.get("added_meanwhile", 0) + others
    for relation in call.relations:
        for pair in added:
            moves.count(call.tally, relation, pair, 1)


def _pair(call: moves.Call, column: str, value: Any) -> moves.Pair:
    """The row of the call's object and another one, whose key it holds in the other column."""
    near = call.near.value
    return (near, value) if column == call.relations[0].source else (value, near)


def _may_differ(using: str, values: set[Any]) -> bool:
    """Whether the rows may be others than was asked for.

    MariaDB leaves out what refers to nothing where it ignores conflicts, and texts that differ may
    be one to a database.
    """
    return connections[using].vendor == "mysql" or any(isinstance(v, str) for v in values)


def _held(call: moves.Call, column: str, values: set[Any]) -> set[moves.Pair]:
    """The pairs of the call's object and others, by their keys, that rows hold now.

    Args:
        call: that is under way.
        column: name of the foreign key that holds its object.
        values: what the other foreign key may hold.
    """
    relation = call.relations[0]
    near = call.near.value
    [other] = {*relation.columns} - {column}
    rows = all_rows(relation.through, call.using)
    found: set[moves.Pair] = set()
    every = list(values)
    for start in range(0, len(every), CHUNK):
        some = every[start : start + CHUNK]
        condition = Q(**{column: near, f"{other}__in": some})
        found.update(rows.filter(condition).values_list(*relation.attnames))
    return found
