"""``bulk="summary"`` and ``bulk="off"``: what a call that writes many rows leaves then.

One event for the call says which rows were meant, what was written and how many rows it
were. No row is read or locked for it, so it costs the same for ten rows and ten million.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from django_signal_audit.capture.plans import plan_for
from django_signal_audit.pipeline import Change, emit_changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import Model

    from django_signal_audit.capture.watching import Watch
    from django_signal_audit.registry import AuditPolicy

_summed: ContextVar[tuple[type[Model], ...]] = ContextVar("signal_audit_summed", default=())


def by_rows(watch: Watch | None, operation: str) -> Watch | None:
    """What of a bulk call is recorded row by row, ``None`` if nothing.

    Args:
        watch: of the table that is written.
        operation: ``create``, ``update`` or ``delete``.

    Returns:
        The watch itself for ``bulk="rows"``. Otherwise what is left of it: the many-to-many
        fields whose rows these are, because the policies of their owners decide about them.
    """
    if watch is None:
        return None
    if watch.policy is not None and watch.policy.bulk != "rows":
        if not watch.relations:
            return None
        columns = {name for relation in watch.relations for name in relation.columns}
        plan = plan_for(watch.model, None, tuple(sorted(columns)))
        watch = replace(watch, policy=None, plan=plan)
    return watch if watch.wants(operation) else None


def summarises(watch: Watch | None, operation: str) -> bool:
    """Whether a bulk call makes one event of its own.

    Args:
        watch: of the table that is written.
        operation: ``create``, ``update`` or ``delete``.
    """
    return (
        watch is not None
        and watch.policy is not None
        and watch.policy.bulk == "summary"
        and operation in watch.policy.on
        and watch.model not in _summed.get()
    )


def record_summary(watch: Watch, operation: str, using: str, data: dict[str, Any]) -> None:
    """Record the one event of a bulk call; call it inside of the transaction.

    Args:
        watch: of the table that was written; ``summarises`` was true of it.
        operation: ``create``, ``update`` or ``delete``.
        using: the database alias.
        data: safe already; says what kind of call it was, and how many rows it wrote.
    """
    policy = cast("AuditPolicy", watch.policy)
    change = Change(operation, None, "", {}, {**data, "summary": True})
    emit_changes(policy, watch.model._meta.label, using, [change])


@contextmanager
def summed(watches: list[Watch]) -> Iterator[None]:
    """Let the writes that a call is made of make no summaries of the same models.

    Args:
        watches: of the models that the call makes a summary of.
    """
    token = _summed.set((*_summed.get(), *(watch.model for watch in watches)))
    try:
        yield
    finally:
        _summed.reset(token)
