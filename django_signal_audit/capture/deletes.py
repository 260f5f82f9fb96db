"""Deletes: instances, fast deletes, and the field updates that come with them.

The statements of ``Collector.delete`` are wrapped, not the signals: a ``pre_delete``
receiver of our own would switch off Django's fast deletes for the model.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django_signal_audit import context, internals
from django_signal_audit.capture import frames
from django_signal_audit.capture.cascades import cascade_from
from django_signal_audit.capture.following import Follow, following
from django_signal_audit.capture.images import CHUNK, by_keys, read_rows
from django_signal_audit.capture.patching import collector_writes, query_writes, wrap
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.capture.updates import rows_written, touched_by
from django_signal_audit.capture.watching import recording, watch_for
from django_signal_audit.transactions import write_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from django.db.models import Model

    from django_signal_audit.capture.images import Image
    from django_signal_audit.capture.watching import Watch


def connect() -> None:
    """Wrap the three methods; a second call changes nothing."""
    for (owner, name), replacement, writes in (
        (internals.DELETE, _collector_delete, collector_writes),
        (internals.DELETE_BATCH, _delete_batch, query_writes),
        (internals.UPDATE_BATCH, _update_batch, query_writes),
    ):
        wrap(owner, name, functools.partial(_unless_suspended, replacement), writes=writes)


def _unless_suspended(
    replacement: Any, original: Any, self: Any, /, *args: Any, **kwargs: Any
) -> Any:
    if context.is_suspended():
        return original(self, *args, **kwargs)
    return replacement(original, self, *args, **kwargs)


def _collector_delete(original: Any, self: Any) -> Any:
    frame = frames.Frame(self)
    internals.mark_field_updates(self)
    stand_in = functools.partial(_stand_in, frame)
    with frames.running(frame), internals.replaced_fast_deletes(self, stand_in):
        return original(self)


def _stand_in(frame: frames.Frame, queryset: Any, using: str) -> Any:
    model = queryset.model._meta.concrete_model
    watch = frame.watch(model)
    if watch is None and not frame.counts(model) and cascade_from(model, using) is None:
        return queryset
    delete = functools.partial(_fast_delete, frame, watch, queryset)
    return internals.FastDelete(queryset.model, delete)


def _fast_delete(frame: frames.Frame, watch: Watch | None, queryset: Any, using: str) -> int:
    """Delete exactly the rows that were read, still without signals or instances."""
    model = queryset.model._meta.concrete_model
    with _at_work(frame, model, watch, using) as (follow, record):
        if watch is None and cascade_from(model, using) is None:
            count = internals.raw_delete(queryset, using)
        else:
            count = 0
            columns = watch.plan.fields if watch is not None else ()
            for keys, images in rows_of(queryset, columns, using):
                with follow(keys):
                    count += internals.raw_delete(by_keys(model, keys, using), using)
                record(images, {})
        frame.count(model, count, using)
    return count


def _delete_batch(original: Any, self: Any, pk_list: Sequence[Any], using: str) -> int:
    given = internals.model_of(self)
    model: Any = given._meta.concrete_model
    frame = frames.current()
    watch = frame.watch(model)
    if watch is None and not frame.counts(model) and cascade_from(model, using) is None:
        return int(original(self, pk_list, using))
    count = 0
    with _at_work(frame, model, watch, using) as (follow, record):
        for start in range(0, len(pk_list), CHUNK):
            keys = list(pk_list[start : start + CHUNK])
            images: dict[Any, Image] = {}
            if watch is not None:
                images.update(read_rows(model, keys, watch.plan.fields, using, lock=True))
            with follow(keys):
                count += int(original(self, keys, using))
            record(images, frame.instances(given, keys, start))
        frame.count(model, count, using)
    return count


@contextmanager
def _at_work(
    frame: frames.Frame, model: type[Model], watch: Watch | None, using: str
) -> Iterator[tuple[Follow, Callable[[Mapping[Any, Image], Mapping[str, Model]], None]]]:
    """A transaction around the statements that delete rows of one table.

    Yields what is put around each statement, and what records the rows that it deleted:
    called with their images, and with the instances there are, both by key.
    """
    with write_transaction(using, model._meta.db_table), following(model, using, frame) as follow:
        if watch is None:
            yield follow, lambda *_: None
            return
        with recording(watch, using) as record:
            yield (
                follow,
                lambda images, instances: record(frame.deleted(watch, images, instances)),
            )


def _update_batch(
    original: Any, self: Any, pk_list: Sequence[Any], values: Mapping[str, Any], using: str
) -> None:
    model: Any = internals.model_of(self)._meta.concrete_model
    watch = watch_for(model)
    touched = touched_by(watch.plan, values) if watch is not None else ()
    if watch is None or not touched or not watch.wants("update") or _goes_too(model, values):
        original(self, pk_list, values, using)
        return
    # What a row says of a relation takes both of its ends.
    columns = watch.plan.fields if watch.relations else touched
    with write_transaction(using, model._meta.db_table), recording(watch, using) as record:
        for start in range(0, len(pk_list), CHUNK):
            keys = list(pk_list[start : start + CHUNK])
            images = dict(read_rows(model, keys, columns, using, lock=True))
            original(internals.made_anew(self), keys, values, using)
            record(rows_written(watch.plan, touched, values, images, using, {"bulk": "on_delete"}))


def _goes_too(model: type[Model], values: Mapping[str, Any]) -> bool:
    """Whether rows are written only to be deleted next, by a call that is told as a whole."""
    if not frames.current().counts(model):
        return False
    return any(internals.is_cascade(model._meta.get_field(name)) for name in values)
