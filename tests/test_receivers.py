"""``audit_receiver``, on real signals."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import types
import weakref
from functools import partial, wraps
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.apps.registry import Apps
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.exceptions import PermissionDenied
from django.core.signals import request_finished
from django.db import transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import (
    class_prepared,
    m2m_changed,
    post_delete,
    post_init,
    post_save,
    pre_delete,
    pre_init,
    pre_save,
)
from django.dispatch import Signal
from django.test import Client, RequestFactory, override_settings

from django_signal_audit import audit_receiver, define_event, event_signal, suspend_audit
from django_signal_audit.connections import built_in_name
from django_signal_audit.definitions import all_definitions
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError, AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.receivers import SENT
from django_signal_audit.testing import capture_events
from tests.testapp.models import Account, Author, Book, Plain, Tag

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parent.parent
BUILT_IN = [pre_init, post_init, pre_save, post_save, pre_delete, post_delete, m2m_changed]
without_sinks = override_settings(SIGNAL_AUDIT={"SINKS": {}})


@pytest.fixture(autouse=True)
def _same_receivers():
    """Each test leaves the signals as they were."""
    used = [*BUILT_IN, class_prepared, user_logged_in, user_login_failed, request_finished]
    used.append(connection_created)
    before = [list(signal.receivers) for signal in used]
    yield
    for signal, receivers in zip(used, before, strict=True):
        with signal.lock:
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()


def one(events):
    (event,) = events
    return event


# On the signals of models


def test_a_handler_is_connected_and_each_call_is_recorded():
    @audit_receiver(post_save, sender=Author, arguments=["created", "update_fields"])
    def on_save(sender, instance, created, **kwargs):
        """Do something."""
        seen.append((sender, instance, created, kwargs["signal"]))

    seen = []
    with capture_events() as events:
        author = Author.objects.create(name="a")
        Plain.objects.create(name="b")

    assert seen == [(Author, author, True, post_save)]
    event = one(events.named("receiver.*"))
    assert (event.event, event.outcome, event.level) == ("receiver.on_save", "success", "info")
    assert (event.sender, event.message) == ("testapp.Author", "receiver.on_save")
    assert (event.object_type, event.object_id) == ("testapp.author", str(author.pk))
    assert event.object_repr == "a"
    assert event.data == {
        "receiver": f"{__name__}.{on_save.__qualname__}",
        "signal": "post_save",
        "created": True,
        "update_fields": None,
    }
    assert event.duration_ms >= 0
    assert event.database == "default"
    assert (on_save.__name__, on_save.__doc__) == ("on_save", "Do something.")


@pytest.mark.parametrize(
    ("error", "outcome", "level"),
    [
        (LookupError("no shift"), Outcome.FAILURE, "error"),
        (PermissionDenied("not yours"), Outcome.DENIED, "warning"),
    ],
)
def test_an_exception_goes_on_as_it_was(error, outcome, level):
    @audit_receiver(pre_save, sender=Author, event="author.checked", level="debug")
    def check(sender, **kwargs):
        raise error

    with capture_events() as events, pytest.raises(type(error)) as caught:
        Author.objects.create(name="a")

    assert caught.value is error
    event = one(events)
    assert (event.event, event.outcome, event.level) == ("author.checked", outcome, level)
    assert event.error == {"type": type(error).__name__, "message": str(error)}
    assert event.object_id is None


def test_several_signals_are_a_list_and_each_call_names_its_own():
    @audit_receiver((pre_delete, post_delete), sender=Author)
    def on_delete(sender, **kwargs):
        pass

    author = Author.objects.create(name="a")
    key = str(author.pk)
    with capture_events() as events:
        author.delete()
    calls = events.named("receiver.on_delete")
    assert [(e.data["signal"], e.object_id) for e in calls] == [
        ("pre_delete", key),
        ("post_delete", key),
    ]


def test_what_the_handler_writes_carries_the_call_as_its_cause():
    @audit_receiver(post_save, sender=Book, started=True)
    def on_save(sender, **kwargs):
        Author.objects.create(name="inner")

    with capture_events() as events:
        Book.objects.create(title="one")

    changed, started, inner, call = events
    assert [changed.event, inner.event] == ["model.create", "model.create"]
    assert started.event == "receiver.on_save.started"
    assert inner.cause == started.cause == call.id
    assert (changed.cause, call.cause) == (None, None)


def test_a_handler_that_triggers_itself_has_nested_causes():
    @audit_receiver(post_save, sender=Author)
    def on_save(sender, instance, **kwargs):
        if len(instance.name) < 3:
            instance.name += "a"
            instance.save()

    with capture_events() as events:
        Author.objects.create(name="a")

    innermost, middle, outermost = events.named("receiver.on_save")
    assert (innermost.cause, middle.cause) == (middle.id, outermost.id)
    assert outermost.cause is None
    assert [event.cause for event in events.named("model.*")] == [
        None,
        outermost.id,
        middle.id,
    ]


@pytest.mark.django_db(databases=["default", "other"])
def test_a_call_belongs_to_the_database_that_is_written():
    @audit_receiver(post_save, sender=Author)
    def on_save(sender, **kwargs):
        pass

    with capture_events() as events:
        Author.objects.using("other").create(name="a")
    assert one(events.named("receiver.*")).database == "other"


def test_using_that_is_no_database_is_just_a_word():
    paid = Signal()

    @audit_receiver(paid, arguments=["using"])
    def on_paid(sender, **kwargs):
        pass

    with capture_events() as events:
        paid.send("till", using="card")
        paid.send("till", using=5)
    assert [(e.database, e.data["using"]) for e in events] == [("default", "card"), ("default", 5)]


def test_many_to_many_changes():
    @audit_receiver(m2m_changed, sender=Book.tags.through, arguments=["action", "model", "pk_set"])
    def on_tags(sender, **kwargs):
        pass

    book, tag = Book.objects.create(title="one"), Tag.objects.create(name="a")
    with capture_events() as events:
        book.tags.add(tag)

    before, after = events.named("receiver.on_tags")
    assert before.object_id == after.object_id == str(book.pk)
    assert after.data["action"] == "post_add"
    assert after.data["model"] == "testapp.Tag"
    assert after.data["pk_set"] == [tag.pk]


def test_the_beginning_of_an_instance_has_no_secrets():
    @audit_receiver([pre_init, post_init], sender=Account, arguments=["args", "kwargs"])
    def on_init(sender, **kwargs):
        pass

    with capture_events() as events:
        Account(None, "a@example.org", "tok-1")
        Account(api_token="tok-2", address="Main St")

    assert "tok-1" not in str(events)
    assert "tok-2" not in str(events)
    assert "Main St" not in str(events)
    positional, _, named, ended = events
    assert positional.data["args"]["email"] == "a@example.org"
    assert named.data["kwargs"] == {"api_token": "[redacted]", "address": "[redacted]"}
    assert ended.object_type == "testapp.account"


def test_secrets_of_the_instance_leave_every_text():
    @audit_receiver(pre_save, sender=Account)
    def check(sender, instance, **kwargs):
        raise ValueError(f"{instance.api_token} is weak")

    with capture_events() as events, pytest.raises(ValueError, match="tok-123456"):
        Account.objects.create(email="a@example.org", api_token="tok-123456")
    assert one(events).error["message"] == "[redacted] is weak"
    assert one(events).object_repr == "a@example.org [redacted]"


def test_another_argument_can_be_the_object():
    user = User.objects.create_user("zoe", password="hunter22")

    @audit_receiver(user_logged_in, target="user", event="login.handled")
    def on_login(sender, **kwargs):
        pass

    with capture_events() as events:
        Client().force_login(user)

    event = one(events.named("login.handled"))
    assert (event.object_type, event.object_id) == ("auth.user", str(user.pk))
    assert event.sender == "auth.User"


def test_the_request_among_the_arguments_is_the_context_and_no_data():
    @audit_receiver(user_login_failed, arguments=["request", "credentials"])
    def on_failure(sender, **kwargs):
        pass

    request = RequestFactory().post("/login/")
    with capture_events() as events:
        authenticate(request, username="zoe", password="hunter22")

    event = one(events)
    assert event.context["path"] == "/login/"
    assert "request" not in event.data
    assert event.data["credentials"] == "[redacted]"
    assert "hunter22" not in str(event)


def test_the_end_of_a_request():
    @audit_receiver(request_finished)
    def on_finished(sender, **kwargs):
        pass

    with capture_events() as events:
        request_finished.send(sender=Client)
    assert one(events).sender == "django.test.client.Client"
    assert one(events).data == {
        "receiver": f"{__name__}.{on_finished.__qualname__}",
        "signal": "request_finished",
    }


def test_a_model_can_be_named_before_it_is_loaded():
    @audit_receiver(post_save, sender="testapp.Author")
    def on_save(sender, **kwargs):
        pass

    with capture_events() as events:
        Author.objects.create(name="a")
        Plain.objects.create(name="b")
    assert one(events.named("receiver.*")).sender == "testapp.Author"
    post_save.disconnect(on_save, sender="testapp.Author")
    with capture_events() as events:
        Author.objects.create(name="b")
    assert events.named("receiver.*") == []


@pytest.mark.django_db(transaction=True)
def test_a_call_survives_the_rollback_that_it_causes_marked():
    @audit_receiver(post_save, sender=Author)
    def refuse(sender, **kwargs):
        Plain.objects.create(name="b")
        raise LookupError("no")

    with pytest.raises(LookupError), transaction.atomic():
        Author.objects.create(name="a")

    record = AuditRecord.objects.get()
    assert (record.event, record.outcome, record.rolled_back) == (
        "receiver.refuse",
        "failure",
        True,
    )
    assert not Author.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_call_outside_of_a_transaction_is_written_at_once(monkeypatch):
    @audit_receiver(post_save, sender=Author)
    def on_save(sender, **kwargs):
        pass

    Author.objects.create(name="a")
    assert AuditRecord.objects.filter(event="receiver.on_save").count() == 1

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("django_signal_audit.sinks.DatabaseSink.write", fail)
    custom = Signal()
    audit_receiver(custom)(on_save)
    with pytest.raises(AuditSinkError, match="disk full"):
        custom.send("x")


def test_suspended_the_handler_runs_unrecorded():
    @audit_receiver(post_save, sender=Author)
    def on_save(sender, **kwargs):
        seen.append(sender)

    seen = []
    with capture_events() as events, suspend_audit():
        Author.objects.create(name="a")
    assert (seen, events) == ([Author], [])


# On custom signals


def test_a_custom_signal_with_caching():
    paid = Signal(use_caching=True)

    @audit_receiver(paid, sender=Author, arguments=["amount"])
    def on_paid(sender, amount, **kwargs):
        return amount + 1

    with capture_events() as events:
        assert paid.send(Author, amount=5) == [(on_paid, 6)]
        assert paid.send(Author, amount=6) == [(on_paid, 7)]
        assert paid.send(Book, amount=7) == []
    assert [event.data["amount"] for event in events] == [5, 6]


def test_a_text_as_sender_is_compared_by_equality():
    paid = Signal()

    name = "till"

    @audit_receiver(paid, sender="View: till")
    def on_paid(sender, **kwargs):
        return sender

    equal = f"View: {name}"
    with capture_events() as events:
        assert paid.send(equal) == [(on_paid, "View: till")]
        assert paid.send("View: other") == [(on_paid, None)]
        assert paid.send(5) == [(on_paid, None)]
        assert paid.send_robust(equal) == [(on_paid, "View: till")]
    assert [event.sender for event in events] == ["View: till", "View: till"]
    assert paid.disconnect(on_paid)
    assert not paid.has_listeners()


of_this_module = Signal()


def test_each_call_names_its_signal_where_a_module_holds_it():
    unknown = Signal()

    @audit_receiver([user_logged_in, request_finished, connection_created])
    @audit_receiver([of_this_module, unknown])
    def handle(sender, **kwargs):
        pass

    with capture_events() as events:
        for signal in (user_logged_in, connection_created, of_this_module, unknown):
            handle(sender=None, signal=signal)
    assert [event.data.get("signal") for event in events] == [
        "user_logged_in",
        "connection_created",
        f"{__name__}.of_this_module",
        None,
    ]


def test_signals_of_django_are_named_as_django_does_wherever_else_they_are_imported(monkeypatch):
    shop = types.ModuleType("aaa_shop.signals")
    shop.signed_in, shop.paid = user_logged_in, Signal()
    modules = {shop.__name__: shop, **sys.modules}
    monkeypatch.setattr(sys, "modules", modules)

    @audit_receiver([user_logged_in, shop.paid])
    def handle(sender, **kwargs):
        pass

    with capture_events() as events:
        handle(sender=None, signal=user_logged_in)
        shop.paid.send(None)
    assert [event.data["signal"] for event in events] == ["user_logged_in", "aaa_shop.signals.paid"]


def test_secret_arguments_of_a_signal_that_are_not_kept_leave_every_text():
    invited = Signal()

    @audit_receiver(invited)
    def on_invited(sender, token, **kwargs):
        raise ValueError(f"no {token}")

    with capture_events() as events, suspend_audit():
        invited.send_robust("x", token="tok-abcdef")
    assert events == []
    with capture_events() as events:
        invited.send_robust("x", token="tok-abcdef")
    assert one(events).error["message"] == "no [redacted]"


def test_secrets_of_an_instance_to_come_leave_every_text():
    @audit_receiver(pre_init, sender=Account)
    @audit_receiver(pre_init, sender=Plain)
    def on_init(sender, args, kwargs, **more):
        raise ValueError(f"{args} {kwargs}")

    with capture_events() as events:
        for make in (
            lambda: Account(None, "a@example.org", "tok-123"),
            lambda: Account(api_token="tok-456", address="Main St"),
            lambda: Plain(name="plain"),
        ):
            with pytest.raises(ValueError, match=r"\("):
                make()
    assert all(secret not in str(events) for secret in ("tok-123", "tok-456", "Main St"))
    assert "a@example.org" in events[0].error["message"]
    assert "plain" in events[2].error["message"]


def test_an_audit_signal_compares_texts_itself():
    shift_assigned, name = define_event("shift.assigned"), "till"

    @audit_receiver(shift_assigned, sender="View: till")
    def on_assigned(sender, **kwargs):
        return sender

    with capture_events() as events:
        assert shift_assigned.send(f"View: {name}") == [(on_assigned, "View: till")]
        assert shift_assigned.send("View: other") == []
    sent, call, _ = events
    assert (sent.event, call.event) == ("shift.assigned", "receiver.on_assigned")
    assert call.data["signal"] == "shift.assigned"
    assert shift_assigned.disconnect(on_assigned, sender="View: till")


def test_two_texts_with_one_dispatch_uid_are_two_connections():
    paid = Signal()
    got = []

    def first(sender, **kwargs):
        got.append(("first", sender))

    def second(sender, **kwargs):
        got.append(("second", sender))

    first = audit_receiver(paid, sender="a", dispatch_uid="x")(first)
    second = audit_receiver(paid, sender="b", dispatch_uid="x")(second)
    again = audit_receiver(paid, sender="b", dispatch_uid="x")(lambda sender, **kwargs: 1 / 0)

    paid.send("a")
    paid.send("b")
    assert got == [("first", "a"), ("second", "b")]
    assert paid.disconnect(dispatch_uid=("x", "a"))
    assert again is not second


def test_an_object_that_is_gone_is_nobodys_sender():
    paid = Signal()

    class Till:
        pass

    till = Till()

    @audit_receiver(paid, sender=till)
    def on_paid(sender, **kwargs):
        return 1

    assert paid.send(till) == [(on_paid, 1)]
    known = weakref.ref(till)
    del till
    gc.collect()
    assert known() is None
    assert paid.send(Till()) == []


def test_keywords_of_connect_are_passed_on():
    class Ours(Signal):
        def connect(self, receiver, sender=None, weak=True, dispatch_uid=None, **ours):
            seen.append((sender, weak, dispatch_uid, ours))
            super().connect(receiver, sender, weak, dispatch_uid)

    seen = []
    audit_receiver(Ours(), sender=5, weak=False, dispatch_uid="x", priority=3)(handler)
    assert seen == [(5, False, "x", {"priority": 3})]


def test_a_dispatch_uid_connects_once():
    paid = Signal()
    handlers = [
        audit_receiver(paid, dispatch_uid="x")(lambda sender, **kwargs: 5) for _ in range(2)
    ]
    with capture_events() as events:
        assert paid.send("a") == [(handlers[0], 5)]
    assert one(events).event == "receiver.<lambda>"
    assert paid.disconnect(dispatch_uid="x")


# Several decorators


def test_stacked_decorators_make_one_call_of_each_dispatch():
    @audit_receiver(post_save, sender="testapp.Author", event="author.saved")
    @audit_receiver(post_save, sender=Book, event="book.saved", level="debug")
    @audit_receiver(post_delete, arguments=["using"])
    def handle(sender, **kwargs):
        pass

    with capture_events() as events:
        author = Author.objects.create(name="a")
        Book.objects.create(title="b")
        author.delete()

    calls = [event for event in events if not event.event.startswith("model.")]
    assert [(event.event, event.level) for event in calls] == [
        ("author.saved", "info"),
        ("book.saved", "debug"),
        ("receiver.handle", "info"),
    ]
    assert calls[2].data["using"] == "default"
    assert post_save.disconnect(handle, sender=Author)
    assert post_save.disconnect(handle, sender=Book)
    assert post_delete.disconnect(handle)


def test_stacked_texts_are_one_connection():
    paid = Signal()

    @audit_receiver(paid, sender="a")
    @audit_receiver(paid, sender="b")
    def handle(sender, **kwargs):
        return sender

    assert [paid.send(name)[0][1] for name in "abc"] == ["a", "b", None]


def test_a_handler_that_is_also_connected_by_hand_or_called_is_recorded():
    paid, other = Signal(), Signal()

    @audit_receiver(paid, sender=Author)
    def handle(sender, **kwargs):
        return sender

    other.connect(handle)
    paid.connect(handle, sender=Book)
    with capture_events() as events:
        assert other.send("x") == [(handle, "x")]
        assert paid.send(Book) == [(handle, Book)]
        assert handle("me") == "me"
        assert handle(sender=Plain) == Plain
    senders = [event.sender for event in events]
    assert senders == ["x", "testapp.Book", "me", "testapp.Plain"]


def test_what_wraps_a_handler_is_another_function():
    paid, refunded = Signal(), Signal()

    def noting(function):
        @wraps(function)
        def wrapper(*args, **kwargs):
            notes.append(kwargs["signal"])
            return function(*args, **kwargs)

        return wrapper

    notes = []

    @audit_receiver(paid, event="outer")
    @noting
    @audit_receiver(refunded, event="inner")
    def handle(sender, **kwargs):
        return sender

    with capture_events() as events:
        paid.send("a")
        refunded.send("b")
    assert [event.event for event in events] == ["inner", "outer", "inner"]
    assert notes == [paid]


def test_a_handler_that_is_called_by_position_keeps_its_object_and_arguments():
    @audit_receiver(post_save, sender=Author, arguments=["created"])
    def on_save(sender, instance, created=True, **kwargs):
        return instance

    class Owner:
        def on_save(self, sender, instance, created=True, **kwargs):
            return instance

    author, owner, own = Author.objects.create(name="a"), Owner(), Signal()
    audit_receiver(own, arguments=["created"])(owner.on_save)
    ((owned, _),) = own.send(None, instance=author)
    with capture_events() as events:
        for call in (on_save, owned):
            assert call(Author, author) is author
            assert call(Author, author, False) is author
    assert [event.object_id for event in events] == [str(author.pk)] * 4
    assert [event.data["created"] for event in events] == [True, False] * 2


def connections_of(function):
    return vars(function)["_signal_audit_handler"].connections


def test_a_handler_that_is_connected_anew_is_recorded_as_the_latest_says():
    paid, name = Signal(), "till"

    def handle(sender, **kwargs):
        pass

    for sender, other in [(None, None), (Book, Book), ("a till", f"a {name}")]:
        first = audit_receiver(paid, sender=sender, event="first")(handle)
        second = audit_receiver(paid, sender=other, event="second", level="warning")(handle)
        assert first is second
        with capture_events() as events:
            paid.send(other)
        assert (one(events).event, one(events).level) == ("second", "warning")
        assert paid.disconnect(first, sender=None if isinstance(sender, str) else sender)


@pytest.mark.parametrize("senders", [[None, Book], [Book, None]])
def test_the_connection_to_the_sender_itself_says_how_a_call_is_recorded(senders):
    paid = Signal()

    def handle(sender, **kwargs):
        pass

    for sender in senders:
        audit_receiver(paid, sender=sender, event="book" if sender else "any")(handle)
    with capture_events() as events:
        paid.send(Author)
        paid.send(Book)
    assert [event.event for event in events] == ["any", "book", "book"]


def test_of_two_equal_connections_the_latest_says_how_a_call_is_recorded():
    paid = Signal()

    def handle(sender, **kwargs):
        pass

    audit_receiver(paid, dispatch_uid="1", event="one")(handle)
    audit_receiver(paid, dispatch_uid="2", event="two")(handle)
    with capture_events() as events:
        paid.send("x")
    assert [event.event for event in events] == ["two", "two"]
    assert paid.disconnect(dispatch_uid="2")
    audit_receiver(paid, dispatch_uid="3", event="three")(handle)
    assert [one.kind.event for one in connections_of(handle)] == ["one", "three"]


def test_what_was_disconnected_or_is_gone_is_forgotten():
    class Till:
        pass

    def handle(sender, **kwargs):
        pass

    forever, assigned, till = Signal(), define_event("shift.assigned"), Till()
    for signal, sender in [
        (forever, till),
        (forever, None),
        (assigned, "View: till"),
        (assigned, "View: other"),
        (post_save, "testapp.Author"),
        (post_save, "testapp.Book"),
        (forever, "text"),
    ]:
        audit_receiver(signal, sender=sender)(handle)
    audit_receiver(post_save, sender="testapp.Unknown", apps=Apps())(handle)
    wrapper = audit_receiver(post_save, sender=Plain)(handle)
    assert len(connections_of(handle)) == 9

    del signal, sender, till
    gc.collect()
    assert assigned.disconnect(wrapper, sender="View: till")
    assert post_save.disconnect(wrapper, sender=Author)
    audit_receiver(post_save, sender=Plain)(handle)
    left = [(one.name, one.sender and one.sender()) for one in connections_of(handle)]
    assert left == [
        (None, None),
        ("shift.assigned", "View: other"),
        ("post_save", "testapp.Book"),
        (None, "text"),
        ("post_save", "testapp.Unknown"),
        ("post_save", Plain),
    ]
    for _ in range(20):
        assert forever.disconnect(audit_receiver(forever)(handle))
    # That to the text was the same to Django as that to any sender.
    assert len(connections_of(handle)) == 5


def test_a_connection_that_is_refused_leaves_nothing():
    class Closed(Signal):
        def connect(self, *args, **kwargs):
            raise ValueError("closed")

    def handle(sender, **kwargs):
        pass

    paid = Signal()
    audit_receiver(paid)(handle)
    before = list(connections_of(handle))
    with pytest.raises(ValueError, match="closed"):
        audit_receiver(Closed())(handle)
    assert list(connections_of(handle)) == before


def test_a_call_that_comes_while_it_is_connected_is_recorded():
    class Eager(Signal):
        def connect(self, *args, **kwargs):
            super().connect(*args, **kwargs)
            self.send("at once")

    with capture_events() as events:
        audit_receiver(Eager())(handler)
    assert one(events).sender == "at once"


# What lives how long


def handler(sender, **kwargs):
    return 5


def test_a_function_whose_wrapper_nobody_keeps_stays_connected():
    paid = Signal()
    audit_receiver(paid)(handler)
    gc.collect()
    with capture_events() as events:
        assert [response for _, response in paid.send("x")] == [5]
    assert one(events).event == "receiver.handler"
    again = audit_receiver(paid)(handler)
    assert len(paid.receivers) == 1
    assert paid.disconnect(again)


@pytest.mark.parametrize("weak", [True, False])
def test_a_local_function_lives_no_longer_than_with_django(weak):
    paid = Signal()

    def connect():
        @audit_receiver(paid, weak=weak)
        def local(sender, **kwargs):
            return 5

        assert paid.send("x") == [(local, 5)]

    connect()
    gc.collect()
    assert len(paid.send("x")) == (0 if weak else 1)


class Service:
    def __init__(self):
        self.seen = []

    def on_save(self, sender, **kwargs):
        self.seen.append(sender)
        return len(self.seen)

    @classmethod
    def on_class(cls, sender, **kwargs):
        return cls

    @staticmethod
    @audit_receiver(event_signal, sender="static above")
    def on_static(sender, **kwargs):
        return "static above"

    @audit_receiver(event_signal, sender="static below")
    @staticmethod
    def on_other(sender, **kwargs):
        return "static below"

    def __call__(self, sender, **kwargs):
        return "called"


def test_a_bound_method_lives_as_long_as_its_object():
    paid = Signal()
    service = Service()
    bound = audit_receiver(paid)(service.on_save)
    assert bound == service.on_save
    gc.collect()
    with capture_events() as events:
        assert [response for _, response in paid.send("x")] == [1]
    assert service.seen == ["x"]
    assert one(events).event == "receiver.on_save"
    assert one(events).data["receiver"] == f"{__name__}.Service.on_save"

    known = weakref.ref(service)
    del service, bound
    gc.collect()
    assert known() is None
    assert paid.send("x") == []


def test_a_bound_method_is_disconnected_as_itself():
    paid, other = Signal(), Signal()
    service = Service()
    audit_receiver([paid, other], sender="a")(service.on_save)
    audit_receiver(paid, sender="b")(service.on_save)
    assert [paid.send(name)[0][1] for name in "abc"] == [1, 2, None]
    assert paid.disconnect(service.on_save)
    assert other.disconnect(service.on_save)
    assert (paid.send("a"), other.send("a")) == ([], [])
    audit_receiver(paid, sender=Book, dispatch_uid="mine")(service.on_save)
    assert not paid.disconnect(service.on_save, sender=Book)
    assert paid.disconnect(sender=Book, dispatch_uid="mine")


def test_a_class_method_is_connected_below_its_class():
    paid = Signal()
    audit_receiver(paid)(Service.on_class)
    with capture_events() as events:
        assert [response for _, response in paid.send("x")] == [Service]
    assert one(events).data["receiver"] == f"{__name__}.Service.on_class"
    assert paid.disconnect(Service.on_class)


def test_static_methods_are_functions():
    with capture_events() as events:
        for name in ("static above", "static below"):
            assert [response for _, response in event_signal.send(name)] == [name]
    assert [event.event for event in events] == [
        "event",
        "receiver.on_static",
        "event",
        "receiver.on_other",
    ]


def test_objects_that_can_be_called():
    paid = Signal()
    service, held = Service(), partial(handler, extra=1)
    assert audit_receiver(paid)(service) is service
    audit_receiver(paid)(held)
    audit_receiver(paid, weak=False)(partial(handler, extra=2))
    gc.collect()
    with capture_events() as events:
        assert [response for _, response in paid.send("x")] == ["called", 5, 5]
    assert [event.event for event in events] == [
        "receiver.Service",
        "receiver.handler",
        "receiver.handler",
    ]
    assert paid.disconnect(service)
    del held
    gc.collect()
    assert [response for _, response in paid.send("x")] == [5]


def test_an_object_that_cannot_live_weakly_is_refused_as_by_django():
    class Fixed:
        __slots__ = ()

        def __call__(self, sender, **kwargs):
            return 5

    paid, fixed = Signal(), Fixed()
    with pytest.raises(TypeError, match="cannot create weak reference"):
        audit_receiver(paid)(fixed)
    audit_receiver(paid, weak=False)(fixed)
    assert [response for _, response in paid.send("x")] == [5]


# Async


@pytest.mark.parametrize("way", ["send", "send_robust", "asend", "asend_robust"])
def test_async_handlers(way):
    paid = Signal()

    @audit_receiver(paid, started=True, arguments=["amount"])
    async def on_paid(sender, amount, **kwargs):
        await asyncio.sleep(0.01)
        await Author.objects.acreate(name="inner")
        return amount

    assert iscoroutinefunction(on_paid)
    send = getattr(paid, way)
    send = async_to_sync(send) if way.startswith("a") else send
    with capture_events() as events:
        assert send("x", amount=5) == [(on_paid, 5)]

    started, inner, call = events
    assert (started.event, call.event) == ("receiver.on_paid.started", "receiver.on_paid")
    assert inner.cause == started.cause == call.id
    assert call.duration_ms >= 9
    assert call.data["amount"] == 5


@pytest.mark.parametrize("way", ["send", "asend"])
def test_an_async_handler_that_fails(way):
    paid = Signal()

    @audit_receiver(paid, sender="till")
    async def on_paid(sender, **kwargs):
        raise LookupError("no")

    send = getattr(paid, way)
    send = async_to_sync(send) if way.startswith("a") else send
    assert send("other") == [(on_paid, None)]
    with capture_events() as events, pytest.raises(LookupError, match="no"):
        send("till")
    assert one(events).error == {"type": "LookupError", "message": "no"}


def test_an_async_handler_that_fails_robustly():
    paid = Signal()

    @audit_receiver(paid)
    async def on_paid(sender, **kwargs):
        raise LookupError("no")

    with capture_events() as events:
        ((receiver, error),) = paid.send_robust("x")
    assert (receiver, type(error)) == (on_paid, LookupError)
    assert one(events).outcome is Outcome.FAILURE


@without_sinks
def test_async_handlers_that_run_at_once_have_causes_of_their_own():
    paid = Signal()
    began = {"a": asyncio.Event(), "b": asyncio.Event()}

    def handler_of(name, other):
        @audit_receiver(paid, event=f"handle.{name}")
        async def handle(sender, **kwargs):
            began[name].set()
            await began[other].wait()
            await event_signal.asend("x", event=f"in.{name}")

        return handle

    async def main():
        await paid.asend("x")
        await event_signal.asend("x", event="after")

    handlers = [handler_of("a", "b"), handler_of("b", "a")]
    with capture_events() as events:
        asyncio.run(main())

    for name in ("a", "b"):
        assert one(events.named(f"in.{name}")).cause == one(events.named(f"handle.{name}")).id
    assert one(events.named("after")).cause is None
    assert len(handlers) == 2


def test_async_objects_and_methods():
    class Async:
        async def __call__(self, sender, **kwargs):
            return "object"

        async def method(self, sender, **kwargs):
            return "method"

    async def function(sender, **kwargs):
        return "partial"

    paid = Signal()
    thing, held = Async(), partial(function, extra=1)
    for receiver in (thing, thing.method, held):
        audit_receiver(paid)(receiver)
    with capture_events() as events:
        responses = async_to_sync(paid.asend)("x")
    assert [response for _, response in responses] == ["object", "method", "partial"]
    assert len(events) == 3


@without_sinks
def test_a_sync_handler_of_a_signal_sent_in_a_loop_is_recorded():
    paid = Signal()

    @audit_receiver(paid)
    def on_paid(sender, **kwargs):
        return 5

    async def main():
        return [*paid.send("x"), *await paid.asend("y")]

    with capture_events() as events:
        assert asyncio.run(main()) == [(on_paid, 5), (on_paid, 5)]
    assert {event.sender for event in events} == {"x", "y"}


def test_asave_calls_sync_handlers():
    @audit_receiver(post_save, sender=Author)
    def on_save(sender, **kwargs):
        pass

    with capture_events() as events:
        async_to_sync(sync_to_async(Author(name="a").save))()
    assert one(events.named("receiver.*")).outcome is Outcome.SUCCESS


# Mistakes


def test_what_the_signals_of_models_send_is_known():
    """The table that arguments are checked against holds on this Django."""
    got = {}

    def note(signal, sender, **named):
        got[built_in_name(signal)] = set(named)

    for signal in BUILT_IN:
        signal.connect(note, weak=False, dispatch_uid="note")
    book = Book.objects.create(title="one")
    book.tags.add(Tag.objects.create(name="a"))
    book.delete()
    got["m2m_changed"].add("raw")  # since Django 6.1
    assert got == {name: set(sent) for name, sent in SENT.items() if name != "class_prepared"}
    assert built_in_name(class_prepared) == "class_prepared"


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([handler], {}, r"needs the signal, not <function .*\. Write @audit_receiver\(post_save\)"),
        ([[]], {}, r"needs the signal\. Write @audit_receiver\(post_save\)"),
        ([[post_save, handler]], {}, r"needs the signal, not <function"),
        (["post_save"], {}, r"not its name 'post_save'. Write `from django.db.models.signals im"),
        (["paid"], {}, r"not its name 'paid'. Write `from its.module import paid`"),
        ([post_save, post_delete], {}, r"a list of signals: @audit_receiver\(\[post_save"),
        ([post_save, Author], {}, r"the sender by its name: @audit_receiver\(post_save, sender="),
        ([post_save], {"event": ""}, r"@audit_receiver\(event=''\): the event's name is ''"),
        ([post_save], {"event": 5}, r"the event's name is 5"),
        ([post_save], {"level": "warn"}, r"Did you mean 'warning'\?"),
        ([post_save], {"sinks": "default"}, r"Write a list of names, such as \['default'\]"),
        ([post_save], {"arguments": "created"}, r"Write a list of names, such as \['created'\]"),
        ([post_save], {"arguments": 5}, "arguments is 5. Write a list of names"),
        ([post_save], {"sinks": []}, "sinks is empty, .* Leave it out for all sinks"),
        ([post_save], {"started": "yes"}, "started is 'yes'. Write started=True"),
        ([post_save], {"target": Author}, r"the target is <class .*Write the name of an arg"),
        ([post_save], {"sender": [Author, Book]}, r"one sender, not to several. Write the dec"),
        ([post_save], {"sender": "Author"}, r"the sender 'Author' is no model. Write the model"),
        ([post_save], {"argument": ["x"]}, r"no option 'argument'. Did you mean 'arguments'\?"),
        ([post_save], {"dispatch_id": "x"}, r"'dispatch_id'. Did you mean 'dispatch_uid'\?"),
    ],
)
def test_a_wrong_use_is_refused_where_it_is_written(given, options, message):
    with pytest.raises(AuditConfigurationError, match=message):
        audit_receiver(*given, **options)


def strict(sender, amount, signal):
    return amount


def method(self, sender, **kwargs):
    return sender


def class_method(cls, sender, **kwargs):
    return sender


def generator(sender, **kwargs):
    yield


@pytest.mark.parametrize(
    ("signal", "options", "function", "message"),
    [
        (post_save, {"arguments": ["craeted"]}, handler, r"'craeted'. Did you mean 'created'\?"),
        (pre_save, {"arguments": ["created"]}, handler, r"no argument 'created'. Choose one of"),
        (post_save, {"target": "instanse"}, handler, r"'instanse'. Did you mean 'instance'\?"),
        (class_prepared, {"arguments": ["x"]}, handler, r"Choose one of '\(none\)'"),
        (Signal(), {"arguments": ["amuont"]}, strict, r"'amuont'. Did you mean 'amount'\?"),
        (post_save, {}, Service, "not on the class Service"),
        (post_save, {}, generator, "cannot tell when the generator generator is done"),
        (post_save, {}, method, r"no signal gives it its 'self'. Make it a static method"),
        (post_save, {}, class_method, r"no signal gives it its 'cls'"),
        (post_save, {}, classmethod(class_method), r"Connect it below the class: audit_rec"),
    ],
)
def test_a_wrong_handler_is_refused(signal, options, function, message):
    before = len(signal.receivers)
    with pytest.raises(AuditConfigurationError, match=message):
        audit_receiver(signal, **options)(function)
    assert len(signal.receivers) == before


def test_arguments_of_a_signal_of_ones_own_may_be_any():
    paid = Signal()
    service = Service()
    audit_receiver([post_save, paid], arguments=["amount", "created"])(service.on_save)
    audit_receiver(paid, arguments=["amount"])(service)
    audit_receiver(paid, arguments=["amount"])(strict)
    with capture_events() as events:
        paid.send("x", amount=5)
    assert [event.data["amount"] for event in events] == [5, 5, 5]


def test_a_handler_that_django_refuses_is_refused(settings):
    settings.DEBUG = True
    with pytest.raises(ValueError, match=r"must accept keyword arguments"):
        audit_receiver(Signal())(strict)


def test_a_handler_that_names_sinks_is_known_to_the_checks():
    def local(sender, **kwargs):
        pass

    connected = audit_receiver(Signal(), sinks=["archive"], event="checks.know")(local)
    found = [one for one in all_definitions() if "checks.know" in one.where]
    assert [one.sinks for one in found] == [("archive",)]
    assert connected is not local


# Before the apps are ready


def test_a_handler_that_is_called_while_the_apps_are_loaded(tmp_path):
    app = tmp_path / "early"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(
        textwrap.dedent("""
            from django.db import models
            from django.db.models.signals import class_prepared
            from django.dispatch import Signal
            from django_signal_audit import audit_action, audit_receiver

            seen = []
            loaded = Signal()

            @audit_receiver(class_prepared, started=True)
            def on_class(sender, **kwargs):
                seen.append(sender.__name__)

            @audit_receiver(loaded, arguments=["using"])
            def on_loaded(sender, instance, **kwargs):
                seen.append(sender)

            class Order(models.Model):
                name = models.CharField(max_length=50)

            with audit_action("models.load", target=Order(name="a"), using="nowhere"):
                loaded.send("early", instance=Order(name="a"), using="default")
        """)
    )
    program = """
        from django.conf import settings
        settings.configure(
            INSTALLED_APPS=["early", "django_signal_audit"],
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            SIGNAL_AUDIT={"SINKS": {
                "memory": {"BACKEND": "django_signal_audit.sinks.MemorySink"},
            }},
        )
        import django
        django.setup()
        from django_signal_audit.sinks import routing
        from early.models import seen
        assert seen[:2] == ["Order", "early"], seen
        events = routing.all_routes()[0].sink.events
        found = [(event.event, event.sender) for event in events]
        assert found[:4] == [
            ("receiver.on_class.started", "early.Order"),
            ("receiver.on_class", "early.Order"),
            ("receiver.on_loaded", "early"),
            ("models.load", "early.models"),
        ], found
        assert events[2].data["using"] == "default"
        assert all(event.database is None for event in events[:4])
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
