"""``audit_action``, and what ``audit_event`` has in common with it: objects and beginnings."""

# ruff: noqa: PT012 - blocks that fail are what is tested

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.test import override_settings
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from django_signal_audit import (
    audit_action,
    audit_context,
    audit_event,
    event_signal,
    set_actor,
    suspend_audit,
)
from django_signal_audit.definitions import all_definitions
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError, AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import routing
from django_signal_audit.testing import capture_events
from tests.testapp.models import Account, Author, Book, Plain, Unprintable

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parent.parent
MEMORY = "django_signal_audit.sinks.MemorySink"
without_sinks = override_settings(SIGNAL_AUDIT={"SINKS": {}})


def one(events):
    (event,) = events
    return event


# How a block ends


def test_a_block_that_ends_well():
    with capture_events() as events, audit_action("shift.assign", data={"shift": 5}) as action:
        action.data["to"] = "zoe"

    event = one(events)
    assert (event.event, event.outcome, event.level) == ("shift.assign", Outcome.SUCCESS, "info")
    assert (event.message, event.error) == ("shift.assign", None)
    assert event.data == {"shift": 5, "to": "zoe"}
    assert event.id == action.id
    assert event.duration_ms >= 0
    assert event.sender == f"{__name__}.test_a_block_that_ends_well"


@pytest.mark.parametrize(
    ("error", "outcome", "level"),
    [
        (LookupError("no shift"), Outcome.FAILURE, "error"),
        (PermissionDenied("not yours"), Outcome.DENIED, "warning"),
        (KeyboardInterrupt("enough"), Outcome.FAILURE, "error"),
    ],
)
def test_an_exception_goes_on_as_it_was(error, outcome, level):
    with capture_events() as events, pytest.raises(type(error)) as caught, audit_action("a.b"):
        raise error

    assert caught.value is error
    assert (one(events).outcome, one(events).level) == (outcome, level)
    assert one(events).error == {"type": type(error).__name__, "message": str(error)}


def test_a_block_can_say_how_it_ends():
    with capture_events() as events:
        with audit_action("a.b") as action:
            action.deny("not your shift")
        with audit_action("a.b") as action:
            action.fail()

    denied, failed = events
    assert (denied.outcome, denied.level) == (Outcome.DENIED, "warning")
    assert (denied.message, denied.error) == ("not your shift", None)
    assert (failed.outcome, failed.level, failed.message) == (Outcome.FAILURE, "error", "a.b")


def test_what_the_block_says_stands_also_when_it_raises():
    with (
        capture_events() as events,
        pytest.raises(LookupError),
        audit_action("a.b") as action,
    ):
        action.deny("not your shift")
        raise LookupError("no shift")

    event = one(events)
    assert (event.outcome, event.message) == (Outcome.DENIED, "not your shift")
    assert event.error == {"type": "LookupError", "message": "no shift"}


def test_secrets_in_the_data_are_masked_also_where_the_exception_quotes_them():
    with (
        capture_events() as events,
        pytest.raises(ValueError, match="hunter22"),
        audit_action("a.b") as action,
    ):
        action.data["password"] = "hunter22"
        raise ValueError("hunter22 is too short")

    assert one(events).data == {"password": "[redacted]"}
    assert one(events).error["message"] == "[redacted] is too short"


@pytest.mark.django_db(transaction=True)
def test_level_and_sinks():
    sinks = {"a": {"BACKEND": MEMORY}, "b": {"BACKEND": MEMORY}}
    with (
        override_settings(SIGNAL_AUDIT={"SINKS": sinks}),
        capture_events() as events,
    ):
        with audit_action("a.b", level="debug", sinks=["a"], started=True):
            pass
        written = {route.alias: len(route.sink.events) for route in routing.all_routes()}
    assert [event.level for event in events] == ["debug", "debug"]
    assert written == {"a": 2, "b": 0}


# Reason and cause


def test_events_inside_carry_the_act_as_cause_and_its_reason():
    with capture_events() as events, audit_action("outer", reason="T-17") as outer:
        event_signal.send("x", event="first")
        with audit_action("inner") as inner:
            Author.objects.create(name="a")
        with audit_context(reason="T-18"):
            event_signal.send("x", event="last")
    event_signal.send("x", event="after")

    by_name = {event.event: event for event in events}
    assert by_name["first"].cause == by_name["inner"].cause == outer.id == by_name["outer"].id
    assert by_name["model.create"].cause == inner.id
    assert by_name["outer"].cause is None
    reasons = {name: event.reason for name, event in by_name.items()}
    assert reasons == {
        "first": "T-17",
        "model.create": "T-17",
        "inner": "T-17",
        "last": "T-18",
        "outer": "T-17",
    }


def test_nothing_stays_when_the_block_is_over():
    with pytest.raises(LookupError), audit_action("a.b", reason="T-17"):
        raise LookupError
    with capture_events() as events:
        event_signal.send("x")
    assert (one(events).cause, one(events).reason) == (None, None)


def test_suspended_it_runs_and_leaves_nothing():
    with capture_events() as events, suspend_audit():
        with audit_action("a.b", started=True, target=Author(name="a")) as action:
            action.data["x"] = 1

        @audit_event("c.d", arguments=["x"])
        def function(x):
            return x

        assert function(5) == 5
    assert events == []


# The object


def test_the_target_is_the_object():
    book = Book.objects.create(title="one")
    with capture_events() as events, audit_action("book.lend", target=book):
        book.title = "two"

    event = one(events)
    assert (event.object_type, event.object_id) == ("testapp.book", str(book.pk))
    assert event.object_repr == "one"  # as it was in the beginning


def test_a_target_without_a_key_is_named_by_the_key_it_gets():
    author = Author(name="a")
    with capture_events() as events, audit_action("author.make", target=author):
        author.name = "b"
        author.save()

    event = events.named("author.make")[0]
    assert (event.object_id, event.object_repr) == (str(author.pk), "b")


def test_a_target_that_never_gets_a_key_is_named_by_its_type():
    with (
        capture_events() as events,
        pytest.raises(LookupError),
        audit_action("a.b", target=Author(name="a")),
    ):
        raise LookupError
    assert (one(events).object_type, one(events).object_id) == ("testapp.author", None)
    assert one(events).object_repr == "a"


def test_a_target_that_is_deleted_inside_keeps_its_key():
    author = Author.objects.create(name="a")
    key = str(author.pk)
    with capture_events() as events, audit_action("author.drop", target=author):
        author.delete()
    assert events.named("author.drop")[0].object_id == key


def test_the_target_can_be_made_inside():
    with capture_events() as events, audit_action("author.make") as action:
        assert action.target is None
        action.target = author = Author.objects.create(name="a")
    assert events.of(author)[1].event == "author.make"


@override_settings(SIGNAL_AUDIT={"SINKS": {}})
def test_the_event_belongs_to_the_database_of_its_target():
    with capture_events() as events:
        author = Author(name="a")
        author._state.db = "other"
        with audit_action("a.b", target=author):
            pass
        with audit_action("a.b", target=author, using="default"):
            pass
        with audit_action("a.b"):
            pass
    assert [event.database for event in events] == ["other", "default", "default"]


def test_secrets_of_the_target_leave_every_text_old_and_new_ones():
    account = Account.objects.create(email="a@example.org", api_token="tok-old")
    with (
        capture_events() as events,
        pytest.raises(ValueError, match="tok-old"),
        audit_action("token.rotate", target=account),
    ):
        account.api_token = "tok-new"
        raise ValueError("tok-old is not tok-new")

    event = one(events)
    assert event.error["message"] == "[redacted] is not [redacted]"
    assert event.object_repr == "a@example.org [redacted]"


def test_secrets_of_a_target_without_a_policy_leave_every_text_too():
    user = User.objects.create(username="zoe", password="pbkdf2-hash")
    with (
        capture_events() as events,
        pytest.raises(ValueError, match="pbkdf2-hash"),
        audit_action("user.check", target=user),
    ):
        raise ValueError("pbkdf2-hash?")
    assert one(events).error["message"] == "[redacted]?"


def test_a_target_whose_text_raises_is_named_by_its_key():
    thing = Unprintable.objects.create()
    with capture_events() as events, audit_action("a.b", target=thing):
        pass
    assert one(events).object_id == str(thing.pk)


def test_a_lazy_user_is_an_object():
    user = User.objects.create(username="zoe", password="pbkdf2-hash")
    lazy = SimpleLazyObject(lambda: User.objects.get(username="zoe"))
    with capture_events() as events:
        with audit_action("a.b", target=lazy):
            pass
        with audit_action("a.b", target=SimpleLazyObject(AnonymousUser)):
            pass

    named, nobody = events
    assert (named.object_type, named.object_id) == ("auth.user", str(user.pk))
    assert (nobody.object_type, nobody.object_id) == (None, None)


@without_sinks
def test_a_lazy_user_that_a_loop_cannot_load_does_not_stop_the_act():
    async def main():
        lazy = SimpleLazyObject(lambda: User.objects.get(username="zoe"))
        with audit_action("a.b", target=lazy):
            return 5

    with capture_events() as events:
        assert asyncio.run(main()) == 5
    assert one(events).object_type is None


# As a decorator


@audit_action("shift.open", data={"door": 1}, reason="T-17")
def open_shift(number):
    """Open a shift."""
    event_signal.send("x", event="inside")
    return number


def test_a_decorated_function_is_an_act_for_each_call():
    with capture_events() as events:
        assert open_shift(5) == 5
        assert open_shift(number=6) == 6

    inside, first, _, second = events
    assert inside.cause == first.id != second.id
    assert (first.sender, first.data) == (f"{__name__}.open_shift", {"door": 1})
    assert first.reason == inside.reason == "T-17"
    assert (open_shift.__name__, open_shift.__doc__) == ("open_shift", "Open a shift.")


class Service:
    @audit_action("service.run")
    def run(self, amount):
        return amount

    @audit_action("service.make")
    @classmethod
    def make(cls, amount):
        return cls, amount

    @audit_action("service.add")
    @staticmethod
    def add(amount):
        return amount


def test_methods_of_every_kind_are_decorated():
    with capture_events() as events:
        assert Service().run(5) == 5
        assert Service.make(5) == (Service, 5)
        assert Service.add(5) == 5
    assert [event.event for event in events] == ["service.run", "service.make", "service.add"]


def test_secret_arguments_of_a_decorated_function_leave_the_error():
    @audit_action("log.in")
    def log_in(user, password):
        raise ValueError(f"{password} is wrong for {user}")

    with capture_events() as events, pytest.raises(ValueError, match="hunter22"):
        log_in("zoe", "hunter22")
    assert one(events).error["message"] == "[redacted] is wrong for zoe"
    with capture_events() as events, suspend_audit(), pytest.raises(ValueError, match="hunter22"):
        log_in("zoe", "hunter22")
    assert events == []


def test_what_tells_no_signature_can_be_decorated():
    assert audit_action("a.b")(dict.fromkeys)(["a"]) == {"a": None}
    assert audit_action("a.b")(max)(5, 6) == 6


def test_a_decorated_coroutine_function():
    @audit_action("a.b")
    async def function(x):
        await asyncio.sleep(0.01)
        await sync_to_async(Author.objects.create)(name="inner")
        if x:
            raise LookupError(x)
        return "done"

    assert iscoroutinefunction(function)
    with capture_events() as events:
        assert async_to_sync(function)(0) == "done"
    assert [e.event for e in events] == ["model.create", "a.b"]
    assert events[0].cause == events[1].id
    assert events[1].duration_ms >= 9
    with capture_events() as events, pytest.raises(LookupError):
        async_to_sync(function)("why")
    assert events[1].error == {"type": "LookupError", "message": "why"}


# One object, used again and by many


def test_one_object_may_be_entered_again_inside_itself():
    act = audit_action("a.b", data={"tries": []})
    with capture_events() as events:
        with act as outer:
            outer.data["who"] = "outer"
            with act as inner:
                inner.data["who"] = "inner"
        with act:
            pass

    first, second, third = events
    assert [event.data.get("who") for event in events] == ["inner", "outer", None]
    assert first.cause == second.id
    assert len({first.id, second.id, third.id}) == 3


def test_the_lists_and_dicts_of_its_data_are_no_ones_elses():
    rows, thing = [1], object()
    looped = {}
    looped["self"] = looped
    given = {"rows": rows, "deep": {"pair": (rows, {1})}, "thing": thing, "looped": looped}
    deepest = nested = []
    for _ in range(60):
        nested.append([])
        nested = nested[0]
    act = audit_action("a.b", data={**given, "deepest": deepest})
    rows.append("the caller's")

    @act
    def function():
        return None

    for _ in range(2):
        with act as action:
            assert action.data["rows"] == [1]
            assert action.data["thing"] is thing
            assert action.data["deep"] == {"pair": ([1], {1})}
            assert action.data["deep"]["pair"][0] is action.data["rows"]
            assert action.data["looped"]["self"] is action.data["looped"] is not looped
            action.data["rows"].append(2)
            action.data["deep"]["pair"][1].add(2)
    with capture_events() as events:
        function()
    assert one(events).data["rows"] == [1]
    assert rows == [1, "the caller's"]


def test_one_object_may_be_used_by_several_threads():
    act = audit_action("a.b")
    barrier = threading.Barrier(2)

    def work(name):
        with act as action:
            barrier.wait(timeout=5)
            action.data["who"] = name
            event_signal.send("x", event=f"in.{name}")
            barrier.wait(timeout=5)

    with override_settings(SIGNAL_AUDIT={"SINKS": {}}), capture_events() as events:
        threads = [threading.Thread(target=work, args=[name]) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    acts = {event.data["who"]: event.id for event in events.named("a.b")}
    for name in ("a", "b"):
        assert one(events.named(f"in.{name}")).cause == acts[name]


@without_sinks
def test_one_object_may_be_used_by_several_tasks():
    act = audit_action("a.b")

    async def work(name):
        async with act as action:
            await asyncio.sleep(0)
            action.data["who"] = name
            await event_signal.asend("x", event=f"in.{name}")

    async def main():
        await asyncio.gather(work("a"), work("b"))

    with capture_events() as events:
        asyncio.run(main())

    acts = {event.data["who"]: event.id for event in events.named("a.b")}
    for name in ("a", "b"):
        assert one(events.named(f"in.{name}")).cause == acts[name]


def test_a_block_that_is_left_in_another_context_is_recorded_once():
    act = audit_action("a.b")
    with capture_events() as events:
        contextvars.Context().run(act.__enter__)
        contextvars.Context().run(act.__exit__, None, None, None)
    assert one(events).outcome is Outcome.SUCCESS
    with pytest.raises(RuntimeError, match=r"audit_action\('a.b'\) is left without"):
        act.__exit__(None, None, None)


# Async blocks


def test_an_async_block():
    async def main():
        async with audit_action("a.b", target=Author(name="a"), started=True) as action:
            action.target = await Author.objects.acreate(name="b")
            await asyncio.sleep(0.01)
        return action.target

    with capture_events() as events:
        author = async_to_sync(main)()

    started, created, ended = events
    assert started.event == "a.b.started"
    assert started.cause == created.cause == ended.id
    assert ended.object_id == str(author.pk)
    assert ended.duration_ms >= 9
    assert ended.sender.endswith("test_an_async_block.<locals>.main")


def test_an_async_block_that_raises():
    async def main():
        async with audit_action("a.b"):
            raise LookupError("no")

    with capture_events() as events, pytest.raises(LookupError):
        async_to_sync(main)()
    assert one(events).error == {"type": "LookupError", "message": "no"}


def test_an_async_block_that_is_cancelled():
    async def work():
        async with audit_action("a.b"):
            await asyncio.sleep(10)

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture_events() as events:
        async_to_sync(main)()
    assert (one(events).outcome, one(events).error["type"]) == (Outcome.FAILURE, "CancelledError")


@without_sinks
def test_an_async_block_that_is_cancelled_while_it_begins_has_an_end_too():
    async def work():
        async with audit_action("a.b", started=True):
            raise AssertionError("it was never entered")

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture_events() as events:
        asyncio.run(main())
    assert [event.event for event in events] == ["a.b.started", "a.b"]
    assert events[1].error["type"] == "CancelledError"


@without_sinks
def test_a_sync_block_in_a_coroutine_is_recorded():
    async def main():
        with set_actor("worker"), audit_action("a.b", started=True):
            return 5

    with capture_events() as events:
        assert asyncio.run(main()) == 5
    assert [event.event for event in events] == ["a.b.started", "a.b"]
    assert {event.actor.id for event in events} == {"worker"}


def test_coroutines_that_share_a_context_do_not_share_their_cause():
    """As the async receivers of one signal do since Django 6.1."""

    @audit_event("act")
    async def work(name, *, first, second):
        first.set()
        await second.wait()
        with audit_context(reason=name), audit_action("inner", data={"who": name}):
            await asyncio.sleep(0)
            event_signal.send("x", event=f"in.{name}")
            await asyncio.sleep(0)

    async def main():
        shared = contextvars.copy_context()
        one_began, two_began = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            loop.create_task(work("a", first=one_began, second=two_began), context=shared),
            loop.create_task(work("b", first=two_began, second=one_began), context=shared),
        )
        return shared.run(lambda: event_signal.send("x", event="after"))

    with without_sinks, capture_events() as events:
        asyncio.run(main())

    acts = {event.id for event in events.named("act")}
    inner = {event.data["who"]: event for event in events.named("inner")}
    assert {event.cause for event in inner.values()} == acts
    for name in ("a", "b"):
        event = one(events.named(f"in.{name}"))
        assert (event.cause, event.reason) == (inner[name].id, name)
    after = one(events.named("after"))
    assert (after.cause, after.reason) == (None, None)


# The beginning


def test_a_started_event_stands_before_the_act_and_leads_to_it():
    act = audit_action("shift.assign", data={"shift": 5}, reason="T", started=True)
    with capture_events() as events, audit_action("outer") as outer, act as action:
        action.data["late"] = True
        event_signal.send("x", event="inside")

    started, inside, ended, _ = events
    assert started.event == "shift.assign.started"
    assert (started.outcome, started.level) == (Outcome.SUCCESS, "info")
    assert (started.duration_ms, started.error) == (None, None)
    assert started.cause == inside.cause == ended.id
    assert started.data == {"shift": 5, "outer_cause": str(outer.id)}
    assert ended.data == {"shift": 5, "late": True}
    assert ended.cause == outer.id
    assert started.reason == ended.reason == "T"
    assert started.timestamp == ended.timestamp
    assert started.id < ended.id < inside.id
    assert started.sender == ended.sender


def test_a_started_event_without_an_outer_cause_says_none():
    with capture_events() as events, audit_action("a.b", started=True):
        pass
    assert events[0].data == {}


@pytest.mark.django_db(transaction=True)
def test_a_started_event_is_written_before_the_work_begins():
    names = []

    @audit_event("a.b", arguments=["name"], started=True)
    def function(name):
        names.extend(AuditRecord.objects.values_list("event", flat=True))
        names.append(name)

    function("x")
    assert names == ["a.b.started", "x"]
    started, ended = AuditRecord.objects.all()
    assert (started.event, ended.event) == ("a.b.started", "a.b")
    assert started.data == ended.data == {"name": "x"}
    assert started.cause == ended.id


@pytest.mark.django_db(transaction=True)
def test_both_events_survive_a_rollback_marked():
    with pytest.raises(LookupError), transaction.atomic(), audit_action("a.b", started=True):
        Author.objects.create(name="a")
        raise LookupError

    started, ended = AuditRecord.objects.all()
    assert (started.event, started.rolled_back) == ("a.b.started", True)
    assert (ended.event, ended.outcome, ended.rolled_back) == ("a.b", "failure", True)
    assert not Author.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_around_its_own_transaction_nothing_is_marked():
    with pytest.raises(LookupError), audit_action("a.b", started=True), transaction.atomic():
        Author.objects.create(name="a")
        raise LookupError
    assert list(AuditRecord.objects.values_list("event", "rolled_back")) == [
        ("a.b.started", False),
        ("a.b", False),
    ]


def test_a_process_that_is_killed_has_left_the_beginning(tmp_path):
    program = """
        import os, signal
        from django.conf import settings
        settings.configure(
            INSTALLED_APPS=["django_signal_audit"],
            SIGNAL_AUDIT={"SINKS": {"file": {
                "BACKEND": "django_signal_audit.sinks.FileSink",
                "OPTIONS": {"path": "audit.jsonl"},
            }}},
        )
        import django
        django.setup()
        from django_signal_audit import audit_action, event_signal
        with audit_action("outer", started=True):
            with audit_action("shift.assign", started=True):
                event_signal.send("x", event="inside")
                os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    outer, inner, inside = [json.loads(line) for line in lines]
    assert [outer["event"], inner["event"]] == ["outer.started", "shift.assign.started"]
    assert inside["cause"] == inner["cause"]
    assert inner["data"]["outer_cause"] == outer["cause"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("awaits", [False, True])
def test_nothing_is_done_that_cannot_be_recorded_as_begun(monkeypatch, caplog, awaits):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    done = []
    action = audit_action("a.b", started=True)

    def work():
        with action:
            done.append(1)

    async def awork():
        async with action:
            done.append(1)

    monkeypatch.setattr("django_signal_audit.sinks.DatabaseSink.write", fail)
    with pytest.raises(AuditSinkError, match="disk full"):
        (async_to_sync(awork) if awaits else work)()
    assert done == []
    assert "could not be recorded as event" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_when_the_trail_fails_the_blocks_own_exception_is_the_one_raised(monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("django_signal_audit.sinks.DatabaseSink.write", fail)
    with pytest.raises(LookupError), audit_action("a.b"):
        raise LookupError("CANARY")
    assert "disk full" in caplog.text
    assert "CANARY" not in caplog.text
    with pytest.raises(AuditSinkError, match="disk full"), audit_action("a.b"):
        pass


# audit_event: its object


@audit_event("book.lend", arguments=["days"], target="book")
def lend(book, days=14):
    return days


def test_an_argument_can_be_the_object():
    book = Book.objects.create(title="one")
    with capture_events() as events:
        assert lend(book) == 14

    event = one(events)
    assert (event.object_type, event.object_id) == ("testapp.book", str(book.pk))
    assert (event.object_repr, event.data) == ("one", {"days": 14})


@pytest.mark.parametrize("other", [7, None])
def test_an_argument_that_is_no_object_is_data(other):
    with capture_events() as events:
        lend(other)
    assert one(events).data == {"book": other, "days": 14}
    assert one(events).object_type is None


def test_an_object_among_the_arguments_is_also_data():
    plain = Plain.objects.create(name="a")

    @audit_event("a.b", arguments=["thing"], target="thing")
    def function(thing):
        return thing

    with capture_events() as events:
        function(plain)
    key = str(plain.pk)
    assert one(events).object_id == key
    assert one(events).data == {"thing": {"object_type": "testapp.plain", "object_id": key}}


def test_an_async_function_names_its_object_too():
    @audit_event("a.b", target="author")
    async def function(author):
        await author.asave()

    author = Author(name="a")
    with capture_events() as events:
        async_to_sync(function)(author)
    assert events.named("a.b")[0].object_id == str(author.pk)


# Mistakes


def generator():
    yield


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event": generator}, r"audit_action needs the event's name: audit_action\('shift"),
        ({"event": ""}, r"audit_action\(''\): the event's name"),
        ({"event": "a", "level": "warn"}, r"Did you mean 'warning'\?"),
        ({"event": "a", "sinks": "default"}, r"Write a list of names, such as \['default'\]"),
        ({"event": "a", "data": ["x"]}, r"data is a list. Write a dict"),
        ({"event": "a", "sinks": 5}, "sinks is 5. Write a list of names"),
        ({"event": "a", "sinks": []}, "sinks is empty, .* Leave it out for all sinks"),
        ({"event": "a", "started": "yes"}, "started is 'yes'. Write started=True"),
        ({"event": "a", "reason": 5}, "the reason is 5. Write a text, such as reason='T-17'"),
        ({"event": "a", "using": 5}, "using is 5. Write an alias of DATABASES"),
        ({"event": "a", "target": 5}, r"a model instance, not 5. Put anything else into its data"),
        ({"event": "a", "target": Author}, "a model instance, not <class"),
    ],
)
def test_a_wrong_use_is_refused_where_it_is_written(arguments, message):
    with pytest.raises(AuditConfigurationError, match=message):
        audit_action(**arguments)


def test_a_wrong_target_inside_is_refused():
    with (
        capture_events() as events,
        pytest.raises(AuditConfigurationError, match="a model instance, not 'x'"),
        audit_action("a.b") as action,
    ):
        action.target = "x"
    assert one(events).outcome is Outcome.FAILURE


@pytest.mark.parametrize("wrong", [None, [1], "x"])
def test_wrong_data_inside_is_refused_at_once(wrong):
    with (
        capture_events() as events,
        pytest.raises(AuditConfigurationError, match=r"data of an act is a \w+. Write a dict"),
        audit_action("a.b", data={"kept": 1}) as action,
    ):
        action.data = wrong
    event = one(events)
    assert (event.outcome, event.error["type"]) == (Outcome.FAILURE, "AuditConfigurationError")
    assert event.data == {"kept": 1}


def test_other_data_inside_is_taken_as_a_copy():
    given = {"rows": 1}
    with capture_events() as events, audit_action("a.b", reason=gettext_lazy("why")) as action:
        action.data = given
        action.data["more"] = 2
    assert (one(events).data, one(events).reason) == ({"rows": 1, "more": 2}, "why")
    assert given == {"rows": 1}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Service, "not on the class Service"),
        (generator, "cannot tell when the generator generator is done"),
        (5, "belongs on a function, not on 5. Write it on the line above"),
    ],
)
def test_a_wrong_thing_to_decorate_is_refused(function, message):
    with pytest.raises(AuditConfigurationError, match=message):
        audit_action("a.b")(function)


def test_a_mistyped_database_is_said_before_the_work_is_done():
    with (
        pytest.raises(AuditConfigurationError, match=r"using='othr' .* Did you mean 'other'\?"),
        audit_action("a.b", using="othr"),
    ):
        raise AssertionError("not reached")

    @audit_event("a.b", using="othr")
    def function():
        raise AssertionError("not reached")

    with pytest.raises(AuditConfigurationError, match=r"Did you mean 'other'\?"):
        function()


@pytest.mark.parametrize(
    ("sinks", "message"),
    [
        ({"file": {"BACKEND": MEMORY}}, r"'a.b': there is no audit sink 'fil' .* mean 'file'\?"),
        ({}, "there is no audit sink 'fil' .* SINKS is empty"),
    ],
)
@pytest.mark.parametrize("options", [{"sinks": ["fil"]}, {"using": "fil"}])
def test_a_mistyped_alias_is_said_once_and_nothing_is_done(sinks, message, options, caplog):
    message = message if "sinks" in options else "using='fil' is no alias of DATABASES"

    @audit_event("a.b", **options)
    async def function():
        raise AssertionError("not reached")

    async def block():
        async with audit_action("a.b", **options):
            raise AssertionError("not reached")

    def sync_block():
        with audit_action("a.b", **options):
            raise AssertionError("not reached")

    with override_settings(SIGNAL_AUDIT={"SINKS": sinks}), capture_events() as events:
        for call in (async_to_sync(function), async_to_sync(block), sync_block):
            with pytest.raises(AuditConfigurationError, match=message):
                call()
    assert events == []
    assert caplog.text == ""


def test_an_error_of_that_kind_inside_is_a_failure_like_any_other():
    with (
        capture_events() as events,
        pytest.raises(AuditConfigurationError),
        audit_action("a.b"),
    ):
        raise AuditConfigurationError("the user's own")
    assert one(events).error["type"] == "AuditConfigurationError"


def test_a_target_must_be_the_name_of_an_argument():
    with pytest.raises(AuditConfigurationError, match=r"has no argument 'boko'. Did you mean 'b"):
        audit_event("a.b", target="boko")(lend)
    with pytest.raises(AuditConfigurationError, match="the target is <class"):
        audit_event("a.b", target=Book)


def test_a_block_that_names_sinks_is_known_to_the_checks():
    act = audit_action("act.of.checks", sinks=["archive"])
    found = [one for one in all_definitions() if "act.of.checks" in one.where]
    assert [one.sinks for one in found] == [("archive",)]
    assert __name__ in found[0].where
    del act
