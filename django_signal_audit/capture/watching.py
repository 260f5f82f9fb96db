"""What is wanted of the writes to one table, and how they become events.

A table is watched because its model is audited, because its rows are those of an audited
many-to-many field, or for both reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django_signal_audit import conf, registry
from django_signal_audit.capture.images import differences, make_change
from django_signal_audit.capture.moves import Moves
from django_signal_audit.capture.plans import ModelPlan, plan_for
from django_signal_audit.capture.through import Relation, relations_of
from django_signal_audit.pipeline import Change, emit_changes

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.capture.images import Image
    from django_signal_audit.registry import AuditPolicy


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """What is wanted of the writes to one table.

    Attributes:
        model: concrete class of the table's rows.
        policy: its own, ``None`` where only relations are watched.
        plan: the columns to read.
        relations: the audited many-to-many fields whose rows these are.
    """

    model: type[Model]
    policy: AuditPolicy | None
    plan: ModelPlan
    relations: tuple[Relation, ...]

    def wants(self, operation: str) -> bool:
        """Whether anything is recorded of a ``create``, ``update`` or ``delete``."""
        if self.policy is not None and operation in self.policy.on:
            return True
        return bool(self.relations)


@dataclass(slots=True)
class Row:
    """One row that was written.

    Attributes:
        operation: ``create``, ``update`` or ``delete``.
        key: its primary key, as an attribute or a database value.
        before: the image before; ``None`` for a create, or where it is unknown.
        after: the image after, of at least the columns in ``before`` that were written; ``None``
            for a delete.
        instance: for its text, if there is one.
        data: goes into the event.
        told: it makes no event of its own if false, because that of a child says it all.
    """

    operation: str
    key: Any
    before: Image | None
    after: Image | None
    instance: Model | None = None
    data: dict[str, Any] = field(default_factory=dict)
    told: bool = True


class Recorder:
    """Makes events of the rows that one call writes; see ``recording``."""

    def __init__(self, watch: Watch, using: str) -> None:
        self._watch = watch
        self._using = using
        self._moves = Moves(watch.plan, watch.relations, using) if watch.relations else None

    def __call__(self, rows: Iterable[Row | Change]) -> None:
        """Record rows, in the order they were written.

        Args:
            rows: a ``Change`` among them is an event already, of a row that cannot be named.
        """
        policy = self._watch.policy
        if policy is None:
            for row in rows:
                if isinstance(row, Row):
                    self._note(row)
        else:
            label = self._watch.model._meta.label
            emit_changes(policy, label, self._using, self._changes(policy, rows))
        if self._moves is not None:
            self._moves.settle()

    def _note(self, row: Row) -> None:
        if self._moves is not None:
            self._moves.note(row.key, row.before, row.after, raw="raw" in row.data)

    def finish(self) -> None:
        """Record what the rows have changed of relations."""
        if self._moves is not None:
            self._moves.emit()

    def _changes(self, policy: AuditPolicy, rows: Iterable[Row | Change]) -> Iterator[Change]:
        plan = self._watch.plan
        for row in rows:
            if isinstance(row, Change):
                if row.operation in policy.on:
                    yield row
                continue
            self._note(row)
            if row.operation not in policy.on or not row.told:
                continue
            changes = differences(plan.fields, row.before, row.after)
            if row.operation != "update" or is_worth_an_event(policy, changes):
                yield make_change(
                    row.operation, plan, row.key, changes, instance=row.instance, data=row.data
                )


def is_worth_an_event(policy: AuditPolicy, changes: dict[str, Any]) -> bool:
    """Whether an update with these changes is recorded."""
    if not changes:
        return conf.current().RECORD_UNCHANGED
    return not policy.ignore_only.issuperset(changes)


@contextmanager
def recording(watch: Watch, using: str) -> Iterator[Recorder]:
    """Record the rows that one call writes; use it inside of ``write_transaction``.

    Several batches of rows may be recorded; what they have changed of a relation becomes one
    event for each owner, at the end.

    Args:
        watch: of the table.
        using: the database alias.
    """
    recorder = Recorder(watch, using)
    yield recorder
    recorder.finish()


_KEPT: Final = "_signal_audit_watch"


def watch_for(model: type[Model]) -> Watch | None:
    """What is wanted of writes to a model's table, ``None`` if nothing: each write asks this.

    Args:
        model: any class; a proxy's table is that of its concrete model.
    """
    meta = model._meta
    now = registry.generation()
    # Kept with the class, because historical classes come and go.
    kept: tuple[int, Watch | None] | None = meta.__dict__.get(_KEPT)
    if kept is not None and kept[0] == now:
        return kept[1]
    watch = _make(model)
    if meta.apps.ready:
        meta.__dict__[_KEPT] = (now, watch)
    return watch


def _make(model: type[Model]) -> Watch | None:
    concrete = model._meta.concrete_model or model
    policy = registry.policy_for(concrete)
    relations = relations_of(concrete)
    if policy is not None:
        # Where a child is recorded, the same write to its parents' tables is not.
        for parent in concrete._meta.all_parents:
            relations += relations_of(parent)
    if policy is None and not relations:
        return None
    also = tuple(sorted({name for relation in relations for name in relation.columns}))
    return Watch(concrete, policy, plan_for(concrete, policy, also), relations)
