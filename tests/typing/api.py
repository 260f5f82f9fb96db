"""Code as a user writes it, for the type checker: ``tox run -e api``. It is never run.

It sees the package as installed, with its ``py.typed``. ``assert_type`` states what must be
known; a ``type: ignore`` states what must be refused, and mypy says if one is not needed.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, assert_type

from django.core.asgi import get_asgi_application
from django.db import models
from django.db.models.signals import post_save, pre_delete
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse

from django_signal_audit import (
    audit_action,
    audit_context,
    audit_event,
    audit_receiver,
    audit_signals,
    audited,
    define_event,
    event_signal,
    register,
    set_actor,
    suspend_audit,
    unregister,
)
from django_signal_audit.asgi import audit_lifespan
from django_signal_audit.event import Actor, AuditEvent, Outcome
from django_signal_audit.exceptions import AuditConfigurationError, AuditError, AuditSinkError
from django_signal_audit.middleware import AuditMiddleware
from django_signal_audit.models import AuditRecord, AuditRecordQuerySet
from django_signal_audit.sinks import FileSink, Sink, SinkConfig
from django_signal_audit.testing import CapturedEvents, assert_audited, capture_events

# Models


@audited
class Author(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        app_label = "library"


def large(event: AuditEvent) -> bool:
    return event.changes is not None and len(event.changes) > 1


@audited(mask_fields=["isbn"], on=["create", "delete"], before="loaded", when=large)
@audit_signals(post_save, pre_delete, sinks=["default"])
class Book(models.Model):
    title = models.CharField(max_length=50)
    isbn = models.CharField(max_length=13)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)

    class Meta:
        app_label = "library"


assert_type(Author, type[Author])
assert_type(Book(title="a").title, str)
register("auth.User", exclude_fields=["last_login"])
register(Author)
unregister(Author)

register(Author, exclude=["name"])  # type: ignore[call-arg]
audited(on=3)  # type: ignore[call-overload]

# Acts


@audit_event("shift.assign", arguments=["shift"], level="warning")
def assign(shift: int, *, to: str = "nobody") -> str:
    return f"{shift} {to}"


@audit_event("report.read")
async def report(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.path)


assert_type(assign(1, to="a"), str)
assign("one")  # type: ignore[arg-type]


async def read(request: HttpRequest) -> HttpResponse:
    async with audit_action("report.read", data={"path": request.path}, started=True) as action:
        action.data["method"] = request.method
        action.deny("not today")
        return await report(request)


def import_all(author: Author) -> None:
    with audit_action("author.import", target=author, reason="T-17") as action:
        assert_type(action.id, uuid.UUID)
        action.fail("the file is empty")


@audit_action("shift.swap")
def swap(first: int, second: int) -> tuple[int, int]:
    return second, first


assert_type(swap(1, 2), tuple[int, int])


@audit_receiver(post_save, sender=Author, arguments=["created"], dispatch_uid="welcome")
def welcome(sender: type[Author], instance: Author, created: bool, **kwargs: Any) -> str:
    return instance.name if created else ""


assert_type(welcome(Author, Author(), created=True), str)
audit_receiver([post_save, pre_delete], level="warning", sinks=["default"])
audit_receiver("post_save")  # type: ignore[arg-type]


# Events of one's own

shift_assigned = define_event("shift.assigned", level="info", required=["shift"], sinks=["file"])
assert_type(shift_assigned.required, tuple[str, ...])
signal: Signal = shift_assigned
event_signal.send(sender="view", message="done", instance=Book(), shift=3)
define_event(3)  # type: ignore[arg-type]


def answer(sender: object, **named: Any) -> int:
    return len(named)


event_signal.connect(answer, sender="view")
assert_type(event_signal.has_listeners("view"), bool)
assert_type(event_signal.disconnect(answer, sender="view"), bool)


async def send() -> None:
    await event_signal.asend(sender="task", message="done")
    await shift_assigned.asend_robust(sender=Author, shift=1)


# Who acts


@set_actor("night-job")
def job(count: int) -> int:
    with audit_context(actor=Actor("service", "7", "importer"), reason="T-1", ticket=5):
        return count


@audit_context(reason="cleaning")
async def clean(count: int) -> int:
    async with suspend_audit():
        return count


assert_type(job(1), int)


# The trail


def trail(book: Book) -> None:
    records = AuditRecord.objects.get_for_object(book)
    assert_type(records, AuditRecordQuerySet)
    assert_type(AuditRecord.objects.using("audit").get_for_model(Book), AuditRecordQuerySet)
    assert_type(AuditRecord.objects.get_for_objects([book]).count(), int)
    assert_type(records.between(since=datetime.now(tz=UTC)).first(), AuditRecord | None)
    for record in AuditRecord.objects.by_actor("night-job"):
        assert_type(record, AuditRecord)
        assert_type(record.id, uuid.UUID)
        assert_type(record.actor, Actor | None)
        event = record.to_event()
        assert_type(event.outcome, Outcome)
        assert_type(event.to_dict(), dict[str, Any])
        event.message = "another"  # type: ignore[misc]


# A sink of one's own


class CountingSink(Sink):
    def __init__(self, config: SinkConfig, *, step: int = 1) -> None:
        super().__init__(config)
        self.step = step
        self.count = 0

    def emit(self, events: Sequence[AuditEvent]) -> None:
        for event in events:
            assert_type(self.config.format(event), bytes)
            self.count += self.step


class WrongSink(Sink):
    def emit(self, events: int) -> None:  # type: ignore[override]
        pass


FileSink(SinkConfig("file", lambda event: event.message.encode()), path="audit.jsonl")
application = audit_lifespan(get_asgi_application())
middleware: type[AuditMiddleware] = AuditMiddleware
errors: tuple[type[AuditError], ...] = (AuditConfigurationError, AuditSinkError)


# Tests of one's own


def test_title(book: Book) -> None:
    with capture_events() as events:
        book.save()
    assert_type(events, CapturedEvents)
    assert_type(events.named("model.*"), list[AuditEvent])
    with assert_audited("model.update", book, changes={"title": ["a", "b"]}):
        book.save()
