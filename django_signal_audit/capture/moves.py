"""What the rows that one call wrote have changed of many-to-many relations.

A row is a pair of an owner and a far object. Rows are counted, so that a pair that several rows
hold is only told as added with the first of them, and as removed with the last.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Count, Q

from django_signal_audit import internals
from django_signal_audit.capture.images import CHUNK, all_rows, read_rows
from django_signal_audit.capture.m2m_events import Told, emit_m2m
from django_signal_audit.keys import object_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from django_signal_audit.capture.images import Image
    from django_signal_audit.capture.plans import ModelPlan
    from django_signal_audit.capture.through import Relation

Pair = tuple[Any, Any]
"""What a row holds of the owner, and of the far object."""

Tally = dict["Relation", dict[Pair, int]]
"""How many more rows hold each pair than before, or fewer."""

MOST_PAIRS: Final = 10_000
"""So many are kept; a call that changes more makes further events for an owner."""


@dataclass(eq=False, slots=True)
class Call:
    """A call to a many-to-many manager, under way.

    Attributes:
        manager: the manager.
        relations: what its rows are of.
        using: the database alias.
        near: the object whose manager it is, and what rows hold of it.
        data: goes into each event.
        recorded: whether there are events.
        tally: what has changed so far.
    """

    manager: Any
    relations: tuple[Relation, ...]
    using: str
    near: internals.RelatedManager
    data: dict[str, Any]
    recorded: bool = True
    tally: Tally = field(default_factory=dict)

    def owns(self, relation: Relation, pair: Pair, using: str) -> bool:
        """Whether a row is one of those that this call is about."""
        if relation not in self.relations or using != self.using:
            return False
        if self.near.symmetrical:
            return self.near.value in pair
        return bool(pair[relation.columns.index(self.near.column)] == self.near.value)

    def finish(self) -> None:
        """Record what the call has changed."""
        tally, self.tally = self.tally, {}
        for outer in _calls.stack:
            _hand_over(tally, outer)
        if self.recorded:
            near = self.near
            instance = near.instance if near.forward else None
            _emit(tally, self.using, Told(near.value, instance, near.symmetrical, self.data))


class _Calls(threading.local):
    """Calls under way in this thread, the innermost last: receivers may call other managers."""

    def __init__(self) -> None:
        self.stack: list[Call] = []


_calls = _Calls()


def begin(call: Call) -> None:
    """Let a call gather the rows that are written for it, until ``end``."""
    _calls.stack.append(call)


def end() -> None:
    """The innermost call has run."""
    _calls.stack.pop()


def call_of(manager: Any) -> Call | None:
    """The call to this very manager that is under way."""
    return next((call for call in _calls.stack if call.manager is manager), None)


class Moves:
    """What the rows of one statement, or of several, have changed of some relations.

    Args:
        plan: by which the rows were read.
        relations: that they are of.
        using: the database alias.
    """

    def __init__(self, plan: ModelPlan, relations: tuple[Relation, ...], using: str) -> None:
        self._plan = plan
        self._relations = relations
        self._using = using
        self._tally: Tally = {}
        self._incomplete: list[tuple[Relation, Any, Image, Image]] = []
        self._raw = False
        self._has_new = False

    def note(
        self, key: Any, before: Image | None, after: Image | None, *, raw: bool = False
    ) -> None:
        """Take a row into account.

        Args:
            key: its primary key before it was written.
            before: its image before; ``None`` if it is new.
            after: its image after, of the columns that were written; ``None`` if it is gone.
            raw: it was loaded from a fixture.
        """
        self._raw = raw
        self._has_new = self._has_new or before is None
        for relation in self._relations:
            if before is None:
                self._count(relation, after or {}, 1)
            elif after is None:
                # A child of a through model goes before its parent's row, which may stay.
                if relation.through is self._plan.model:
                    self._count(relation, before, -1)
            elif any(
                before.get(name) != after.get(name, before.get(name)) for name in relation.columns
            ):
                if all(name in before for name in relation.columns):
                    self._count(relation, before, -1)
                    self._count(relation, {**before, **after}, 1)
                else:
                    self._incomplete.append((relation, key, before, after))

    def settle(self) -> None:
        """The database holds the rows that were noted as they are now; call it once a batch."""
        self._complete()
        if _size(self._tally) >= MOST_PAIRS:
            # Of new rows more may be there already than were noted: they cannot be counted yet.
            early = [one for one in self._tally if one.unique or not self._has_new]
            self._pass_on({one: self._tally.pop(one) for one in early})

    def emit(self) -> None:
        """Record one event for each owner whose set has changed."""
        tally, self._tally = self._tally, {}
        self._pass_on(tally)

    def _pass_on(self, tally: Tally) -> None:
        """Leave rows to the call that wrote them, and record the others."""
        for call in reversed(_calls.stack):
            _hand_over_own(tally, call, self._using)
            if _size(call.tally) >= MOST_PAIRS:
                call.finish()
        _emit(tally, self._using, Told(data={"raw": True} if self._raw else {}))

    def _count(self, relation: Relation, image: Image, number: int) -> None:
        pair = image.get(relation.source), image.get(relation.target)
        if None not in pair:
            count(self._tally, relation, pair, number)

    def _complete(self) -> None:
        """Learn the other half of the pairs of which an UPDATE wrote one."""
        incomplete, self._incomplete = self._incomplete, []
        if not incomplete:
            return
        model = self._plan.model
        names = [part.name for part in internals.pk_fields(model._meta)]
        rows = []
        for relation, key, before, after in incomplete:
            # A half that is a part of the key is known already.
            parts = dict(zip(names, key if isinstance(key, tuple) else (key,), strict=True))
            old = {**parts, **before}
            rows.append((relation, old, {**old, **after}))
        found = self._read(rows, names)
        for relation, old, new in rows:
            half = found.get(object_key(model, _key(names, new)), {})
            self._count(relation, {**half, **old}, -1)
            self._count(relation, {**half, **new}, 1)

    def _read(
        self, rows: Iterable[tuple[Relation, Image, Image]], names: list[str]
    ) -> dict[str, Image]:
        missing: set[str] = set()
        keys = []
        for relation, old, new in rows:
            halves = {name for name in relation.columns if name not in old}
            missing |= halves
            if halves:
                keys.append(_key(names, new))
        model = self._plan.model
        read = read_rows(model, keys, self._plan.select(missing), self._using, lock=False)
        return {object_key(model, key): image for key, image in read}


def count(tally: Tally, relation: Relation, pair: Pair, number: int) -> None:
    """Count rows of a pair: ``1`` for one that was written, ``-1`` for one that went."""
    pairs = tally.setdefault(relation, {})
    pairs[pair] = pairs.get(pair, 0) + number
    if not pairs[pair]:
        del pairs[pair]


def _key(names: list[str], image: Mapping[str, Any]) -> Any:
    return image[names[0]] if len(names) == 1 else tuple(image[name] for name in names)


def _size(tally: Tally) -> int:
    return sum(map(len, tally.values()))


def _hand_over_own(tally: Tally, call: Call, using: str) -> None:
    """Leave to a call the rows that are its own."""
    for relation, pairs in tally.items():
        for pair in [pair for pair in pairs if call.owns(relation, pair, using)]:
            count(call.tally, relation, pair, pairs.pop(pair))


def _hand_over(tally: Tally, outer: Call) -> None:
    """Leave to an outer call the pairs that it has changed as well: it tells the sum."""
    for relation, pairs in tally.items():
        known = outer.tally.get(relation, {})
        for pair in [pair for pair in pairs if pair in known]:
            count(outer.tally, relation, pair, pairs.pop(pair))


def _emit(tally: Tally, using: str, told: Told) -> None:
    for relation, pairs in tally.items():
        if not relation.unique:
            pairs = dict(_first_and_last(relation, pairs, using))  # noqa: PLW2901
        added = {pair for pair, number in pairs.items() if number > 0}
        emit_m2m(relation, using, added, pairs.keys() - added, told)


def _first_and_last(
    relation: Relation, pairs: Mapping[Pair, int], using: str
) -> Iterator[tuple[Pair, int]]:
    """The pairs that no row held before, or none holds now."""
    now = _rows_of_pairs(relation, pairs, using)
    for pair, number in pairs.items():
        if (now.get(pair, 0) > 0) != (now.get(pair, 0) - number > 0):
            yield pair, number


def _rows_of_pairs(relation: Relation, pairs: Collection[Pair], using: str) -> dict[Pair, int]:
    """How many rows hold each of some pairs."""
    found: dict[Pair, int] = {}
    every = list(pairs)
    for start in range(0, len(every), CHUNK):
        condition = _any_of(relation, every[start : start + CHUNK])
        rows = all_rows(relation.through, using).filter(condition)
        counted = rows.values_list(*relation.attnames).annotate(rows=Count("*"))
        found.update(((source, target), number) for source, target, number in counted)
    return found


def _any_of(relation: Relation, pairs: Sequence[Pair]) -> Q:
    """Rows of one of some pairs, asked for by the side that has fewer values."""
    sides: tuple[dict[Any, list[Any]], dict[Any, list[Any]]] = defaultdict(list), defaultdict(list)
    for source, target in pairs:
        sides[0][source].append(target)
        sides[1][target].append(source)
    near, far = relation.columns
    groups = sides[0]
    if len(sides[1]) < len(groups):
        near, far, groups = far, near, sides[1]
    return reduce(or_, (Q(**{near: value, f"{far}__in": found}) for value, found in groups.items()))
