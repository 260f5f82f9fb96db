"""The ``Collector.delete`` at work: whose instances it has, and what is recorded already."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import QuerySet

from django_signal_audit import internals
from django_signal_audit.capture.filters import filter_text
from django_signal_audit.capture.summaries import by_rows, record_summary, summarises
from django_signal_audit.capture.watching import Row, watch_for
from django_signal_audit.keys import object_key, object_type

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.capture.images import Image
    from django_signal_audit.capture.watching import Watch


@dataclass(slots=True)
class _Bulk:
    """A ``QuerySet.delete`` whose own model is not recorded row by row.

    Attributes:
        watch: of the model.
        queryset: that deletes.
        left: statements that are still to delete rows of the model.
        rows: that were deleted so far.
    """

    watch: Watch
    queryset: QuerySet[Any]
    left: int
    rows: int = 0


class Frame:
    """One running ``Collector.delete``, or a statement that runs outside of one.

    Attributes:
        collector: ``None`` outside of ``Collector.delete``.
        recorded: rows of parents' tables that are recorded with their child.
    """

    def __init__(self, collector: Any = None) -> None:
        self.collector = collector
        self.recorded: set[tuple[str, str]] = set()
        self._bulk = None if collector is None else _bulk_of(collector)
        if self._bulk is not None and self._bulk.watch.model._meta.all_parents:
            for model, instances in internals.collected(collector).items():
                if model._meta.concrete_model is self._bulk.watch.model:
                    for instance in instances:
                        self.note_parents(model, instance, "")

    def watch(self, model: type[Model]) -> Watch | None:
        """What of a model's rows is recorded row by row when they are deleted, if anything.

        Args:
            model: concrete.
        """
        watch = watch_for(model)
        if self.counts(model):
            return by_rows(watch, "delete")
        return watch if watch is not None and watch.wants("delete") else None

    def counts(self, model: type[Model]) -> bool:
        """Whether a model's rows make one event for the call, or none."""
        return self._bulk is not None and self._bulk.watch.model is model

    def count(self, model: type[Model], rows: int, using: str) -> None:
        """Take account of a statement that deleted rows, if those of its model ``counts``.

        Args:
            model: concrete.
            rows: how many; inside of the same transaction.
            using: the database alias.
        """
        bulk = self._bulk
        if bulk is None or bulk.watch.model is not model:
            return
        bulk.rows += rows
        bulk.left -= 1
        if bulk.left == 0 and bulk.rows and summarises(bulk.watch, "delete"):
            data = {"bulk": "delete", "filter": filter_text(bulk.queryset), "rows": bulk.rows}
            record_summary(bulk.watch, "delete", using, data)

    def instances(self, model: type[Model], keys: Sequence[Any], start: int) -> dict[str, Model]:
        """The collected instances with some keys, by key.

        Args:
            model: the class that a statement deletes rows of, maybe a proxy.
            keys: a part of all keys that it is given.
            start: where that part begins.
        """
        if self.collector is None:
            return {}
        found = internals.collected(self.collector).get(model, ())
        part = found[start : start + len(keys)]
        return {object_key(model, instance.pk): instance for instance in part}

    def deleted(
        self,
        watch: Watch,
        images: Mapping[Any, Image],
        instances: Mapping[str, Model] | None = None,
    ) -> Iterator[Row]:
        """The rows of one table that were deleted, but for those recorded with a child.

        Args:
            watch: of the table.
            images: the rows by key, as they were.
            instances: by key, for their text.
        """
        model = watch.model
        kind = object_type(model)
        has_parents = bool(model._meta.all_parents)
        kept = self._kept_parents(model) if has_parents else []
        for pk, image in images.items():
            key = object_key(model, pk)
            if self.recorded and (kind, key) in self.recorded:
                if watch.relations:
                    # The pair that a through row holds goes with this table, not with the child's.
                    yield Row("delete", pk, image, None, told=False)
                continue
            instance = instances.get(key) if instances else None
            if has_parents:
                self.note_parents(model, instance, key)
            data = {"keep_parents": list(kept)} if kept else {}
            yield Row("delete", pk, image, None, instance, data)

    def _kept_parents(self, model: type[Model]) -> list[str]:
        """The parents of a child whose rows stay, as ``delete(keep_parents=True)`` leaves them."""
        if self.collector is None:
            return []
        going = {found._meta.concrete_model for found in internals.collected(self.collector)}
        return [object_type(parent) for parent in model._meta.all_parents if parent not in going]

    def note_parents(self, model: type[Model], instance: Model | None, key: str) -> None:
        """A child's delete holds the inherited columns; the parents' rows follow unrecorded."""
        for parent in model._meta.all_parents:
            if instance is not None:
                # The second of several parents has a key of its own.
                key = object_key(parent, internals.pk_value(instance, parent._meta))
            self.recorded.add((object_type(parent), key))


def _bulk_of(collector: Any) -> _Bulk | None:
    queryset = internals.origin(collector)
    watch = watch_for(queryset.model) if isinstance(queryset, QuerySet) else None
    if watch is None or watch.policy is None or watch.policy.bulk == "rows":
        return None
    if "delete" not in watch.policy.on:
        return None
    classes = [*internals.collected(collector)]
    classes += [fast.model for fast in internals.fast_deletes(collector)]
    left = sum(found._meta.concrete_model is watch.model for found in classes)
    return _Bulk(watch, queryset, left)


class _Frames(threading.local):
    def __init__(self) -> None:
        self.stack: list[Frame] = []


_frames = _Frames()


@contextmanager
def running(frame: Frame) -> Iterator[None]:
    """Let a frame be the current one."""
    _frames.stack.append(frame)
    try:
        yield
    finally:
        _frames.stack.pop()


def current() -> Frame:
    """The innermost ``Collector.delete`` at work; outside of one, a new frame."""
    return _frames.stack[-1] if _frames.stack else Frame()
