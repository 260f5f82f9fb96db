from __future__ import annotations

import asyncio
import decimal
import logging
import subprocess
import sys
import textwrap
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db import connection, transaction
from django.test import RequestFactory, override_settings
from django.utils.connection import ConnectionDoesNotExist
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from django_signal_audit import define_event, event_signal, set_actor, suspend_audit, tasks
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError, AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.signals import AuditSignal
from django_signal_audit.testing import capture_events
from tests.testapp.models import Account, Author, Book, BookProxy, Composite, Document

DATABASE = "django_signal_audit.sinks.DatabaseSink"


def sent(signal, sender="x", **named):
    """The one event that a sending makes."""
    with capture_events() as events:
        signal.send(sender, **named)
    (event,) = events
    return event


def connected(signal, receiver, **kwargs):
    signal.connect(receiver, weak=False, **kwargs)
    return receiver


@pytest.fixture
def signal():
    return AuditSignal("thing.happened")


# Equal to the literal, and another object.
ANOTHER_TEXT = str(b"View: test_logging", "ascii")


# The seed


@pytest.mark.django_db(transaction=True)
def test_the_seeds_exact_call():
    emp_inst = Author.objects.create(name="user1 last_user")
    message = f"Employees object created: {emp_inst}"

    event_signal.send(sender="View: test_logging", message=message, instance=emp_inst)

    record = AuditRecord.objects.get(event="event")
    assert record.sender == "View: test_logging"
    assert record.message == "Employees object created: user1 last_user"
    assert (record.object_type, record.object_id) == ("testapp.author", str(emp_inst.pk))
    assert record.object_repr == "user1 last_user"
    assert record.data == {}


@pytest.mark.django_db
def test_the_seeds_failing_call_sends_the_exception_itself():
    try:
        Book.objects.create(title="x", stock="age")
    except ValueError as error:
        event = sent(event_signal, "View: test_logging", message=error, instance=None)

    assert event.message == "Field 'stock' expected a number but got 'age'."
    assert (event.object_type, event.object_id, event.object_repr) == (None, None, "")
    assert event.data == {}


# Receivers


@pytest.mark.django_db
def test_a_receiver_connected_for_a_str_sender_gets_it_by_equality(signal):
    got = []

    def receiver(sender, signal, **kwargs):
        got.append((sender, kwargs))

    signal.connect(receiver, sender="View: test_logging")
    signal.send(ANOTHER_TEXT, message="m", extra=1)
    signal.send("another")
    assert signal.has_listeners(ANOTHER_TEXT)
    assert not signal.has_listeners("another")
    assert signal.disconnect(receiver, sender=ANOTHER_TEXT)
    signal.send("View: test_logging")

    assert got == [("View: test_logging", {"message": "m", "extra": 1})]


@pytest.mark.django_db
def test_two_signals_do_not_share_receivers():
    one, two, got = define_event("one"), define_event("two"), []
    connected(one, lambda **kwargs: got.append("one"))
    two.send("x")
    assert got == []
    one.send("x")
    assert got == ["one"]


@pytest.mark.django_db
def test_responses_are_those_of_a_signal(signal):
    receiver = connected(signal, lambda **kwargs: 42)

    assert signal.send("x") == [(receiver, 42)]
    assert signal.send_robust("x") == [(receiver, 42)]
    assert async_to_sync(signal.asend)("x") == [(receiver, 42)]
    assert async_to_sync(signal.asend_robust)("x") == [(receiver, 42)]


@pytest.mark.django_db
@pytest.mark.parametrize("way", ["send", "asend"])
def test_a_raising_receiver_cannot_silence_the_event(signal, way):
    order = []

    def receiver(**kwargs):
        order.append(len(events))
        raise LookupError("receiver")

    connected(signal, receiver)
    send = signal.send if way == "send" else async_to_sync(signal.asend)
    with capture_events() as events, pytest.raises(LookupError):
        send("x")

    assert order == [1], "recorded first, dispatched after"


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["send_robust", "asend_robust"])
def test_robust_sending_records_and_returns_what_was_raised(signal, way):
    def receiver(**kwargs):
        raise LookupError("receiver")

    connected(signal, receiver)
    send = signal.send_robust if way == "send_robust" else async_to_sync(signal.asend_robust)
    with capture_events() as events:
        ((_, response),) = send("x")

    assert isinstance(response, LookupError)
    assert [event.event for event in events] == ["thing.happened"]


@pytest.mark.django_db
def test_async_receivers_are_awaited(signal):
    async def receiver(**kwargs):
        await asyncio.sleep(0)
        return "done"

    connected(signal, receiver)
    assert async_to_sync(signal.asend)("x") == [(receiver, "done")]


# Definitions


@pytest.mark.parametrize("way", ["send", "send_robust", "asend", "asend_robust"])
def test_a_missing_required_keyword_raises_naming_event_and_keyword(way):
    shift = define_event("shift.assigned", required=["shift", "employee"])
    send = getattr(shift, way)
    send = async_to_sync(send) if way.startswith("a") else send
    got = []
    connected(shift, lambda **kwargs: got.append(kwargs))

    with (
        capture_events() as events,
        pytest.raises(TypeError, match=r"event 'shift.assigned' needs the keyword 'employee'"),
    ):
        send("x", shift=1)
    assert events == got == []


@pytest.mark.django_db
def test_a_required_keyword_may_be_none():
    assert sent(define_event("a.b", required=["x"]), x=None).data == {"x": None}


@pytest.mark.django_db
def test_level_and_name_come_from_the_definition_or_the_sending():
    alarm = define_event("fire.alarm", level="critical")

    assert (sent(alarm).event, sent(alarm).level) == ("fire.alarm", "critical")
    event = sent(alarm, level="debug", event="fire.drill", outcome="denied", reason="a test")
    assert (event.event, event.level, event.outcome) == ("fire.drill", "debug", Outcome.DENIED)
    assert event.reason == "a test"
    assert event.data == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event": ""}, "the event.s name is .* Write a text"),
        ({"event": None}, "the event.s name is .* Write a text"),
        ({"event": "a", "level": "warn"}, r"'warn' is no level. Did you mean 'warning'\?"),
        ({"event": "a", "level": ["info"]}, "is no level"),
        (
            {"event": "a", "sinks": "default"},
            r"sinks is .* Write a list of names, such as \['default'",
        ),
        ({"event": "a", "required": "x"}, r"required is .* Write a list of names, such as \['x'\]"),
    ],
)
def test_a_wrong_definition_is_refused(arguments, message):
    with pytest.raises(AuditConfigurationError, match=message):
        define_event(**arguments)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"level": "loud"}, "event 'event': level='loud'"),
        ({"level": 30}, "event 'event': level=30"),
        ({"outcome": "succes"}, r"outcome='succes'\? Did you mean 'success'\?"),
        ({"outcome": None}, "outcome=None"),
    ],
)
def test_a_wrong_level_or_outcome_is_refused_at_send(named, message):
    with pytest.raises(ValueError, match=message):
        event_signal.send("x", **named)


@pytest.mark.django_db
def test_an_unknown_database_is_a_clear_error():
    with pytest.raises(ConnectionDoesNotExist, match="nowhere"):
        event_signal.send("x", using="nowhere")


# What an event is made of


class Sender:
    def __repr__(self):
        return "<sender 7>"


def function():
    pass


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sender", "shown"),
    [
        ("View: x", "View: x"),
        (Author, "testapp.Author"),
        (function, f"{__name__}.function"),
        (Sender, f"{__name__}.Sender"),
        (Sender(), "<sender 7>"),
        (None, ""),
        (7, "7"),
        (gettext_lazy("yes"), "yes"),
        (apps.get_app_config("sessions"), "django.contrib.sessions"),
    ],
)
def test_any_sender_is_shown_well(sender, shown):
    assert sent(event_signal, sender).sender == shown


@pytest.mark.django_db
def test_a_lazy_instance_such_as_the_user_of_a_request_is_the_instance(django_user_model):
    user = django_user_model.objects.create_user("planner")
    event = sent(event_signal, "view", instance=SimpleLazyObject(lambda: user))
    assert (event.object_type, event.object_id) == ("auth.user", str(user.pk))


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __repr__


ODD = {
    "text": "plain",
    "nul": "a\x00b",
    "surrogate": "\ud800",
    "emoji": "\U0001f469\u200d\U0001f680",
    "huge": 2**70,
    "nan": float("nan"),
    "infinity": float("-inf"),
    "decimal": decimal.Decimal("1.50"),
    "bytes": b"\x00\xff",
    "uuid": uuid.UUID(int=5),
    "datetime": datetime(2024, 1, 1, tzinfo=UTC),
    "set": {3, 1},
    "nested": {"a": [{"b": (1, 2)}], 5: None},
    "lazy": gettext_lazy("yes"),
    "lazy_object": SimpleLazyObject(lambda: "evaluated"),
    "hostile": Hostile(),
    "error": ValueError("x"),
    "class": dict,
    "function": function,
    "generator": (number for number in ()),
    "lock": threading.Lock(),
    "instance_like": Author(pk=5, name="a"),
    "none": None,
    "long": "x" * 100_000,
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ODD)
def test_data_of_any_type_is_recorded(name):
    event_signal.send("x", **{name: ODD[name]})

    record = AuditRecord.objects.get()
    assert list(record.data) == [name]


@pytest.mark.django_db
def test_all_odd_data_at_once_is_kept_key_by_key():
    event = sent(event_signal, **ODD)

    assert set(event.data) == set(ODD)
    assert event.data["decimal"] == "1.50"
    assert event.data["text"] == "plain"
    assert event.data["instance_like"] == {"object_type": "testapp.author", "object_id": "5"}


@pytest.mark.django_db
def test_one_oversized_keyword_does_not_take_the_others_with_it():
    event = sent(event_signal, rows=list(range(20_000)), ticket="T-17", password="hunter22")

    assert event.data["ticket"] == "T-17"
    assert event.data["password"] == "[redacted]"
    assert set(event.data["rows"]["$cut"]) == {"size", "sha256", "head"}


@pytest.mark.django_db
def test_data_of_too_many_keys_is_cut_as_a_whole():
    event = sent(event_signal, **{f"k{number}": "x" * 500 for number in range(1000)})

    assert list(event.data) == ["data"]
    assert event.data["data"]["$cut"]["size"] > 500_000


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (None, ""),
        (5, "5"),
        (gettext_lazy("yes"), "yes"),
        (ValueError("wrong"), "wrong"),
        (Hostile(), "<unprintable Hostile: RuntimeError>"),
        ("a\x00b", r"a\x00b"),
    ],
)
def test_any_message_is_a_text(message, shown):
    assert sent(event_signal, message=message).message == shown


@pytest.mark.django_db
def test_a_long_message_is_cut():
    message = sent(event_signal, message="x" * 50_000).message

    assert len(message) == 10_000
    assert message.endswith("...[+40011]")


@pytest.mark.django_db
def test_secrets_in_data_do_not_reappear_in_the_texts():
    event = sent(
        event_signal, message="sent hunter22 to zoe", reason="hunter22", password="hunter22"
    )

    assert event.data == {"password": "[redacted]"}
    assert event.message == "sent [redacted] to zoe"
    assert event.reason == "[redacted]"


@pytest.mark.django_db
def test_masked_and_secret_fields_of_the_instance_do_not_reappear_in_the_texts():
    account = Account(
        pk=1,
        email="z@example.org",
        api_token="tok-123456",
        address="1 Main Street",
        settings={"smtp": {"password": "nested-secret"}},
    )
    event = sent(
        event_signal,
        instance=account,
        message="tok-123456 at 1 Main Street with nested-secret for z@example.org",
    )

    assert event.message == "[redacted] at [redacted] with [redacted] for z@example.org"
    assert event.object_repr == "z@example.org [redacted]"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("instance", "about"),
    [
        (Author(pk=5), ("testapp.author", "5")),
        (Author(), ("testapp.author", None)),
        (BookProxy(pk=5), ("testapp.book", "5")),
        (Document(pk=uuid.UUID(int=5)), ("testapp.document", str(uuid.UUID(int=5)))),
        (Composite(tenant=1, number=2), ("testapp.composite", "[1,2]")),
        (Composite(tenant=1), ("testapp.composite", None)),
    ],
)
def test_the_instance_says_what_the_event_is_about(instance, about):
    event = sent(event_signal, instance=instance)

    assert (event.object_type, event.object_id) == about


@pytest.mark.django_db
def test_an_instance_that_is_no_model_is_data():
    event = sent(event_signal, instance={"id": 5})

    assert event.object_type is None
    assert event.data == {"instance": {"id": 5}}


@pytest.mark.django_db
def test_a_deferred_instance_is_not_loaded(django_assert_num_queries):
    author = Author.objects.create(name="zoe")
    deferred = Author.objects.only("id").get(pk=author.pk)
    with django_assert_num_queries(0):
        event = sent(event_signal, instance=deferred)

    assert event.object_repr == f"Author object ({author.pk})"


@pytest.mark.django_db
def test_repr_limit_zero_switches_texts_of_objects_off():
    with override_settings(SIGNAL_AUDIT={"REPR_LIMIT": 0}):
        assert sent(event_signal, instance=Author(pk=1, name="a")).object_repr == ""


@pytest.mark.django_db
def test_a_request_keyword_is_context_and_anything_else_of_that_name_is_data():
    request = RequestFactory().get("/here", HTTP_X_REQUEST_ID="r-1")

    event = sent(event_signal, request=request)
    assert (event.context["path"], event.context["request_id"]) == ("/here", "r-1")
    assert event.data == {}
    for other in ("GET /", {"a": 1}):
        event = sent(event_signal, request=other)
        assert event.data == {"request": other}
        assert event.context == {}


@pytest.mark.django_db(databases=["default", "other"], transaction=True)
def test_the_event_goes_to_the_instances_database_unless_told():
    author = Author.objects.using("other").create(name="a")
    event_signal.send("x", event="a", instance=author)
    event_signal.send("x", event="b", instance=author, using="default")

    assert [r.event for r in AuditRecord.objects.using("other").order_by("id")][1:] == ["a"]
    assert [r.event for r in AuditRecord.objects.order_by("id")] == ["b"]


class PrimaryAndReplica:
    """Reads from ``other``, writes to ``default``."""

    def db_for_read(self, model, **hints):
        return "other"

    def db_for_write(self, model, **hints):
        return "default"


@pytest.mark.django_db(databases=["default", "other"], transaction=True)
def test_the_event_about_an_instance_from_a_replica_goes_where_writes_go():
    with override_settings(DATABASE_ROUTERS=[PrimaryAndReplica()]):
        author = Author(pk=1, name="a")
        author._state.db = "other"
        event_signal.send("x", event="a", instance=author)

    assert [r.event for r in AuditRecord.objects.using("default")] == ["a"]
    assert not AuditRecord.objects.using("other").exists()


@pytest.mark.django_db
def test_suspended_nothing_is_recorded_but_receivers_run(signal):
    receiver = connected(signal, lambda **kwargs: 1)
    with capture_events() as events, suspend_audit():
        assert signal.send("x") == [(receiver, 1)]

    assert events == []


# Transactions


@pytest.mark.django_db(transaction=True)
def test_a_custom_event_survives_a_rollback_marked():
    def work():
        author = Author.objects.create(name="a")
        event_signal.send("x", instance=author)
        raise LookupError

    with pytest.raises(LookupError), transaction.atomic():
        work()

    record = AuditRecord.objects.get()
    assert (record.event, record.rolled_back) == ("event", True)
    assert not Author.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_sending_in_a_broken_transaction_does_not_raise():
    Account.objects.create(email="a@example.org")
    with transaction.atomic():
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            Account.objects.create(email="a@example.org")
        assert connection.needs_rollback
        event_signal.send("x", event="in.broken")
        transaction.set_rollback(True)

    record = AuditRecord.objects.get(event="in.broken")
    assert record.rolled_back


@pytest.mark.django_db(transaction=True)
def test_a_failing_sink_raises_at_the_sender_outside_of_a_transaction(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(f"{DATABASE}.write", fail)
    with pytest.raises(AuditSinkError, match="disk full"):
        event_signal.send("x")


# Under a running event loop


async def send_and_forget(event):
    event_signal.send("x", event=event, detail=[1])


@pytest.mark.django_db(transaction=True)
def test_under_async_to_sync_nothing_is_lost():
    async_to_sync(send_and_forget)("a")

    assert AuditRecord.objects.get().event == "a"


@pytest.mark.django_db
def test_under_async_to_sync_the_event_is_in_the_callers_transaction():
    with transaction.atomic():
        async_to_sync(send_and_forget)("a")
        assert AuditRecord.objects.get().transaction is not None


def test_when_the_loop_ends_at_once_or_the_task_is_cancelled_nothing_is_lost(tmp_path):
    script = """
        import asyncio, sys
        from django.conf import settings
        settings.configure(
            INSTALLED_APPS=["django_signal_audit"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
        )
        import django
        django.setup()
        from django.core.management import call_command
        from django_signal_audit import event_signal
        from django_signal_audit.models import AuditRecord
        call_command("migrate", verbosity=0)

        async def send(event):
            event_signal.send("x", event=event)

        async def cancelled():
            task = asyncio.create_task(send("cancelled"))
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(send("ended"))
        asyncio.run(cancelled())
        print(sorted(AuditRecord.objects.values_list("event", flat=True)))
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "db.sqlite3")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
    )

    assert found.returncode == 0, found.stderr
    assert found.stdout == "['cancelled', 'ended']\n"


@pytest.mark.django_db(transaction=True)
def test_the_loop_is_not_blocked_and_order_is_kept():
    async def main():
        for number in range(20):
            event_signal.send("x", event=f"e{number:02}")
        assert len(tasks._all) == 20
        await tasks.wait_for_writes()
        assert not tasks._all

    async_to_sync(main)()
    names = list(AuditRecord.objects.order_by("id").values_list("event", flat=True))
    assert names == [f"e{number:02}" for number in range(20)]


@pytest.mark.django_db
def test_values_are_those_of_the_moment_of_sending():
    rows = [1]

    async def main():
        with set_actor("worker"):
            event_signal.send("x", rows=rows, password="s3cret-word", message="s3cret-word")
        rows.append(2)

    with capture_events() as events:
        async_to_sync(main)()

    assert events[0].data == {"rows": [1], "password": "[redacted]"}
    assert events[0].message == "[redacted]"
    assert events[0].actor.id == "worker"


@pytest.mark.django_db
def test_send_under_a_loop_never_raises_and_a_failed_write_is_logged(monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("django_signal_audit.pipeline.emit_act", fail)
    with caplog.at_level(logging.ERROR):
        async_to_sync(send_and_forget)("a")

    assert "An audit event was lost." in caplog.text
    assert "disk full" in caplog.text


@pytest.mark.django_db
def test_a_missing_keyword_raises_under_a_loop_too():
    signal = define_event("a.b", required=["x"])

    async def main():
        with pytest.raises(TypeError, match="needs the keyword 'x'"):
            signal.send("x")

    async_to_sync(main)()


@pytest.mark.django_db
def test_where_unsafe_async_is_allowed_the_event_is_written_at_once(monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    async def main():
        event_signal.send("x", event="notebook")
        assert not tasks._all

    with override_settings(SIGNAL_AUDIT={"SINKS": {}}), capture_events() as events:
        asyncio.run(main())
    assert [event.event for event in events] == ["notebook"]
