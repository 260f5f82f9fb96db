"""The rows that a database deletes or changes by itself, read before the statement that does it.

They are looked for from the rows that a statement names, through one table after another, in
chunks: a million rows below one need no more memory than a thousand. Only the keys of rows that
can be reached in more than one way are remembered, so that each is recorded once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction
from django.db.models import ExpressionWrapper, Value

from django_signal_audit.capture.cascades import Cascade, Edge, cascade_from
from django_signal_audit.capture.images import (
    CHUNK,
    Image,
    all_rows,
    by_keys,
    locked,
    read_rows,
)
from django_signal_audit.capture.watching import Recorder, Row, Watch, recording
from django_signal_audit.masking import value_field

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.capture.frames import Frame

Follow = Callable[[Sequence[Any]], AbstractContextManager[None]]
"""Put around the statement that deletes the rows with some keys."""


@contextmanager
def following(model: type[Model], using: str, frame: Frame) -> Iterator[Follow]:
    """Record what a database does by itself when rows of a model are deleted.

    Use it inside of ``write_transaction``. It yields a function of keys, whose result is put
    around the statement that deletes the rows with these keys::

        with following(model, using, frame) as follow:
            with follow(keys):
                ...

    Args:
        model: of the rows that the statements delete.
        using: the database alias.
        frame: the ``Collector.delete`` at work.
    """
    cascade = cascade_from(model, using)
    if cascade is None:
        yield _follow_nothing
        return
    # Events of a statement that fails must go with it. Outside of an atomic block, while
    # autocommit is off, the program may commit what was written before.
    savepoint = not connections[using].in_atomic_block
    with transaction.atomic(using=using, savepoint=savepoint), ExitStack() as recorders:
        yield _Follower(cascade, using, frame, recorders)


def _follow_nothing(keys: Sequence[Any]) -> AbstractContextManager[None]:
    return nullcontext()


_Batch = tuple[Edge, dict[Any, Image]]
"""Rows that are deleted, by key, and the foreign key by which."""


class _Follower:
    """Looks for the rows below those that are deleted; made once for a call."""

    def __init__(self, cascade: Cascade, using: str, frame: Frame, recorders: ExitStack) -> None:
        self._cascade = cascade
        self._using = using
        self._frame = frame
        self._recorders = recorders
        self._by_watch: dict[Watch, Recorder] = {}

    @contextmanager
    def __call__(self, keys: Sequence[Any]) -> Iterator[None]:
        self._keep_others_away(keys)
        look = _Look(self._cascade, keys)
        self._walk(look, keys)
        yield
        for edge, rows in look.held:
            self._record_held(edge, rows, look.deleted[edge.model])

    def _keep_others_away(self, keys: Sequence[Any]) -> None:
        """Lock rows so that no other transaction can make one point here until the DELETE.

        A foreign key that is checked takes a lock that the weaker ``FOR NO KEY UPDATE``
        does not keep out.
        """
        if not connections[self._using].features.has_select_for_update:
            return
        for start in range(0, len(keys), CHUNK):
            rows = by_keys(self._cascade.model, keys[start : start + CHUNK], self._using)
            list(rows.select_for_update().values_list("pk"))

    def _walk(self, look: _Look, keys: Sequence[Any]) -> None:
        """Record what is below some rows, those farthest down first.

        A chain of rows can be longer than Python lets functions call each other.
        """
        stack: list[tuple[Iterator[_Batch], _Batch | None]] = [
            (self._below(look, self._cascade.model, keys), None)
        ]
        while stack:
            below, batch = stack[-1]
            found = next(below, None)
            if found is not None:
                edge, images = found
                stack.append((self._below(look, edge.model, list(images)), found))
                continue
            stack.pop()
            if batch is not None:
                edge, images = batch
                if edge.watch is not None:
                    self._record(edge.watch, self._frame.deleted(edge.watch, images))

    def _below(self, look: _Look, model: type[Model], keys: Sequence[Any]) -> Iterator[_Batch]:
        """The rows that are deleted together with those of some keys, by one foreign key each.

        Rows that are changed are recorded on the way, or held until the DELETE.
        """
        for edge in self._cascade.edges.get(model, ()):
            for found in self._read(edge, keys):
                if edge.deletes:
                    images = look.unseen(edge, {key: image for key, image, _ in found})
                    if images:
                        yield edge, images
                    continue
                rows = [_changed(edge, key, image, new) for key, image, new in found]
                if look.must_hold(edge):
                    look.held.append((edge, rows))
                else:
                    self._record(edge.watch, rows)

    def _read(self, edge: Edge, keys: Sequence[Any]) -> Iterator[list[tuple[Any, Image, Any]]]:
        """The rows that point at those with some keys: key, image, and the foreign key's new value.

        Whatever a row points at by another column than the key, the database compares.
        """
        plans = edge.columns
        names = [plan.name for plan in plans]
        rows = all_rows(edge.model, self._using).filter(**{f"{edge.field.name}__pk__in": keys})
        rows = rows.select_for_update() if edge.deletes else locked(rows)
        columns: list[Any] = [plan.attname for plan in plans]
        new = [_default(edge.field)] if edge.action == "set default" else []
        for chunk in _chunks(rows.values_list("pk", *columns, *new), self._using):
            yield [
                (key, dict(zip(names, values, strict=False)), values[-1] if new else None)
                for key, *values in chunk
            ]

    def _record_held(self, edge: Edge, rows: list[Row], deleted: set[Any]) -> None:
        """Record changes of rows that are still there, with columns that were computed anew."""
        left = {row.key: row for row in rows if row.key not in deleted}
        computed = [plan for plan in edge.touched if plan.generated]
        if computed:
            read = read_rows(edge.model, list(left), computed, self._using, lock=False)
            for key, image in read:
                left[key].after = {**(left[key].after or {}), **image}
        self._record(edge.watch, left.values())

    def _record(self, watch: Any, rows: Iterable[Row]) -> None:
        if watch not in self._by_watch:
            record = self._recorders.enter_context(recording(watch, self._using))
            self._by_watch[watch] = record
        self._by_watch[watch](rows)


class _Look:
    """What has been found below the rows of one statement.

    Attributes:
        deleted: keys, by class, of the rows that can be reached in more than one way.
        held: changes that can be told only after the statement.
    """

    def __init__(self, cascade: Cascade, keys: Sequence[Any]) -> None:
        self._remembered = cascade.remembered
        self.deleted: dict[type[Model], set[Any]] = defaultdict(set)
        self.held: list[tuple[Edge, list[Row]]] = []
        if cascade.model in self._remembered:
            self.deleted[cascade.model].update(keys)

    def unseen(self, edge: Edge, images: dict[Any, Image]) -> dict[Any, Image]:
        """The rows that were not found before; from now on they were."""
        if edge.model not in self._remembered:
            return images
        known = self.deleted[edge.model]
        new = {key: image for key, image in images.items() if key not in known}
        known.update(new)
        return new

    def must_hold(self, edge: Edge) -> bool:
        """Whether a changed row may turn out as deleted, or has columns that depend on it."""
        return edge.model in self._remembered or any(plan.generated for plan in edge.touched)


def _changed(edge: Edge, key: Any, before: Image, new: Any) -> Row:
    after = {**before, edge.field.name: new}
    return Row("update", key, before, after, data={"bulk": "on_delete"})


def _default(field: Any) -> Any:
    """The column's default as the database itself works it out."""
    default = field.db_default
    output = value_field(field)
    if hasattr(default, "resolve_expression"):
        return ExpressionWrapper(default, output_field=output)
    return Value(default, output_field=output)


def _chunks(rows: Any, using: str) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of values, the key first, without all of them in memory."""
    if connections[using].vendor == "mysql":
        yield from _pages(rows)
        return
    found = rows.iterator(chunk_size=CHUNK)
    while chunk := list(islice(found, CHUNK)):
        yield chunk


def _pages(rows: Any) -> Iterator[list[tuple[Any, ...]]]:
    """The same by keys in their order: MariaDB's driver fetches a whole result at once."""
    rows = rows.order_by("pk")
    page = list(rows[:CHUNK])
    while page:
        yield page
        if len(page) < CHUNK:
            return
        page = list(rows.filter(pk__gt=page[-1][0])[:CHUNK])
