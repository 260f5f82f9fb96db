"""From the events of a trail to the rows that they say there are.

Nothing is asked of the database, and nothing of the package but the events. What an event says
was there before must be what the earlier events have left, so a trail that lies does not replay.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.apps import apps

from django_signal_audit.registry import policy_for


class TrailError(AssertionError):
    """An event contradicts those before it."""


def plain(value):
    """A shown value as something that is equal only if the values are: ``True`` is not ``1``."""
    if isinstance(value, bool):
        return f"bool {value}"
    if isinstance(value, (int, float)):
        return Decimal(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def columns_of(model):
    """The concrete fields of a model by the class whose rows hold them, itself first.

    Inherited columns are the rows of their own class if that is audited, too; else they are
    known only as a part of the child.
    """
    parts: dict[Any, list[Any]] = {model: []}
    for field in model._meta.concrete_fields:
        if field.column is None:
            continue  # a composite key has no column; its parts have
        own = field.model._meta.concrete_model
        parts.setdefault(own if policy_for(own) else model, []).append(field)
    return parts


def audited_parents(model):
    """Pairs of an audited parent and the field that holds its key."""
    for parent, link in model._meta.parents.items():
        if link is not None and link.model is model and policy_for(parent):
            yield parent, link


class Replayer:
    """The rows and relations that a trail tells of.

    Attributes:
        rows: model label, key and field name to the shown value.
        relations: label and name of a many-to-many field, and the owner's key, to far keys.
    """

    def __init__(self):
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        self.relations: dict[tuple[str, str], dict[str, set[Any]]] = {}
        self._gone: dict[tuple[str, str], dict[str, Any]] = {}

    def apply(self, event):
        """Do what one event, as a dict, says was done."""
        kind = event["event"]
        model = apps.get_model(event["object_type"])
        apply = {
            "model.create": self._create,
            "model.update": self._update,
            "model.delete": self._delete,
            "model.m2m": self._m2m,
        }[kind]
        try:
            apply(model, event["object_id"], event["changes"], event["data"])
        except TrailError as error:
            about = {k: event[k] for k in ("event", "object_type", "object_id", "changes", "data")}
            raise TrailError(f"{error}: {about}") from None

    def _table(self, model):
        return self.rows.setdefault(model._meta.label_lower, {})

    def _create(self, model, key, changes, data):
        for part, fields in columns_of(model).items():
            if part is not model and data.get("raw"):
                continue  # a fixture writes each table by itself
            row = {}
            for field in fields:
                require(field.name in changes, f"nothing is said of {field.name}")
                old, row[field.name] = changes[field.name]
                require(old is None, f"{field.name} of a new row was {old!r}")
            if part is model:
                require(key not in self._table(model), "it is there already")
                self._put(model, key, row)
            else:
                # The parent's row may be there: a child with all its columns was added to it.
                self._put(part, self._parent_key(model, part, changes), row)

    def _put(self, model, key, row):
        self._table(model)[key] = row
        self._gone.pop((model._meta.label_lower, key), None)

    def _update(self, model, key, changes, data):
        require(changes, "nothing was changed")
        require(key in self._table(model), "there is no such row")
        for part, fields in columns_of(model).items():
            part_key = key if part is model else self._parent_key(model, part, {}, key)
            table = self._table(part)
            require(part_key in table, f"there is no row {part_key} of {part._meta.label}")
            row = table[part_key]
            for field in fields:
                if field.name not in changes:
                    continue
                old, new = changes[field.name]
                require(plain(old) != plain(new), f"{field.name} did not change")
                self._require_held(row, field.name, old)
                row[field.name] = new
        self._follow_key(model, key)

    def _follow_key(self, model, key):
        """An update of the key makes it the row of the new key."""
        table = self._table(model)
        new = key_of(model, table[key])
        if new != key:
            require(new not in table, f"{new} is there already")
            table[new] = table.pop(key)

    def _delete(self, model, key, changes, data):
        require(key in self._table(model), "there is no such row")
        # Looked up before the first goes: the rows hold each other's keys.
        keys = {
            part: key if part is model else self._parent_key(model, part, {}, key)
            for part in columns_of(model)
        }
        for part, fields in columns_of(model).items():
            place = (part._meta.label_lower, keys[part])
            if place[0] in data.get("keep_parents", ()):
                continue
            if part is not model and place in self._gone:
                # Another child of the same parent has gone with it.
                row = self._gone[place]
            else:
                require(keys[part] in self._table(part), f"{part._meta.label} {keys[part]} is gone")
                row = self._gone[place] = self._table(part).pop(keys[part])
            for field in fields:
                require(field.name in changes, f"nothing is said of {field.name}")
                old, new = changes[field.name]
                require(new is None, f"{field.name} of a deleted row is {new!r}")
                self._require_held(row, field.name, old)

    def _m2m(self, model, key, changes, data):
        for name, change in changes.items():
            field = model._meta.get_field(name)
            added, removed = change["added"], change["removed"]
            require(added or removed, "nothing was changed")
            for far in added:
                self._relate(field, key, far, symmetrical=data.get("symmetrical"))
            for far in removed:
                self._part(field, key, far, symmetrical=data.get("symmetrical"))

    def _relate(self, field, near, far, *, symmetrical):
        sets = self.relations.setdefault((field.model._meta.label_lower, field.name), {})
        require(far not in sets.get(near, ()), f"{far} was added, but was there")
        sets.setdefault(near, set()).add(far)
        if symmetrical and far_key(far) != near:
            sets.setdefault(far_key(far), set()).add(far_value(field, near))

    def _part(self, field, near, far, *, symmetrical):
        sets = self.relations.setdefault((field.model._meta.label_lower, field.name), {})
        require(far in sets.get(near, ()), f"{far} was removed, but was not there")
        sets[near].discard(far)
        if symmetrical and far_key(far) != near:
            sets[far_key(far)].discard(far_value(field, near))

    def _parent_key(self, model, part, changes, key=None):
        """The key of the row of an audited ancestor: follow the links to it."""
        for parent, link in audited_parents(model):
            if link.name in changes:
                found = changes[link.name][1]
            else:
                found = self._table(model)[key][link.name]
            found = far_key(found)
            if parent is part:
                return found
            if any(part is ancestor for ancestor in columns_of(parent)):
                return self._parent_key(parent, part, changes, found)
        raise TrailError(f"no link leads to {part._meta.label}")

    def _require_held(self, row, name, old):
        held = row.get(name)
        require(
            plain(held) == plain(old), f"{name} is said to have been {old!r}, but it was {held!r}"
        )


def require(condition, problem):
    """Raise ``TrailError`` if a condition does not hold."""
    if not condition:
        raise TrailError(problem)


def far_key(shown):
    """A shown key as the ``object_id`` of what it names."""
    return shown if isinstance(shown, str) else str(shown)


def far_value(field, key):
    """An ``object_id`` as a many-to-many event shows it."""
    return int(key) if field.related_model._meta.pk.get_internal_type() == "BigAutoField" else key


def key_of(model, row):
    """The ``object_id`` of a row, by its shown values."""
    names = [field.name for field in model._meta.pk_fields]
    if len(names) == 1:
        return far_key(row[names[0]])
    return "[" + ",".join(str(row[name]) for name in names) + "]"


def replay(events):
    """The rows and relations that events, in their order, tell of."""
    replayer = Replayer()
    for event in events:
        replayer.apply(event)
    rows = {label: table for label, table in replayer.rows.items() if table}
    relations = {
        name: {near: far for near, far in sets.items() if far}
        for name, sets in replayer.relations.items()
    }
    return rows, {name: sets for name, sets in relations.items() if sets}
