"""Records a custom event at once, or, under a running event loop, as soon as a thread can.

A query in the loop's thread would block it, so Django refuses one there. The event is accepted
all the same: what it says is noted now, and a tracked task writes it.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from django.apps import apps

from django_signal_audit import context, pipeline, tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_signal_audit.event import Actor
    from django_signal_audit.pipeline import Act


def record_act(act: Act, request: Any = None) -> None:
    """Record a custom event, from sync code or from a coroutine.

    Args:
        act: the event, with raw values.
        request: where it happened, if the middleware does not know it.

    Raises:
        AuditSinkError: outside of a transaction and of a loop, a sink whose policy is
            ``raise`` failed. Under a loop a failed write is logged.
    """
    if context.is_suspended():
        return
    with nullcontext() if request is None else context.request_scope(request):
        if tasks.loop_is_running():
            _accept(act)
        else:
            pipeline.emit_act(act)


def _accept(act: Act) -> None:
    """Hand an event over to a task: its values, time, actor and request are those of now."""
    if apps.ready:
        pipeline.freeze(act)
    tasks.start(functools.partial(_emit, act, context.actor_now()))


def _emit(act: Act, who: Callable[[], Actor | None]) -> None:
    with context.audit_context(actor=who()):
        pipeline.emit_act(act)
