"""Async code: each call records what its sync twin does, tasks never mix, nothing is lost."""

import asyncio
import contextvars
import functools
import gc
import inspect
import logging
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import django
import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import connections, transaction
from django.dispatch import Signal
from django.test import override_settings

from django_signal_audit import (
    audit_context,
    audit_event,
    define_event,
    event_signal,
    set_actor,
    tasks,
)
from django_signal_audit.exceptions import AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.databases import shared_database
from tests.testapp.models import Author, Book, Tag

TASKS = 50
WRITE = "django_signal_audit.sinks.database.DatabaseSink.write"

# Without sinks no query is made, so that no thread opens a connection to the tests' database.
without_sinks = override_settings(SIGNAL_AUDIT={"SINKS": {}})


# Each method and its twin

CALLS = {
    "save": lambda a, book: a(book, "save")(),
    "delete": lambda a, book: a(book, "delete")(),
    "create": lambda a, book: a(Author.objects, "create")(name="new"),
    "get_or_create": lambda a, book: a(Author.objects, "get_or_create")(name="new"),
    "update_or_create": lambda a, book: a(Author.objects, "update_or_create")(
        {"name": "new"}, pk=book.author_id
    ),
    "bulk_create": lambda a, book: a(Author.objects, "bulk_create")(
        [Author(name="one"), Author(name="two")]
    ),
    "bulk_update": lambda a, book: a(Book.objects, "bulk_update")([book], ["title"]),
    "update": lambda a, book: a(Book.objects.filter(title="Notes"), "update")(title="new"),
    "delete of a queryset": lambda a, book: a(Author.objects.all(), "delete")(),
    "add of many-to-many": lambda a, book: a(book.tags, "add")(new_tag()),
    "add from the other side": lambda a, book: a(new_tag().books, "add")(book),
    "remove of many-to-many": lambda a, book: a(book.tags, "remove")(book.tags.get()),
    "set of many-to-many": lambda a, book: a(book.tags, "set")([new_tag()]),
    "clear of many-to-many": lambda a, book: a(book.tags, "clear")(),
    "create of many-to-many": lambda a, book: a(book.tags, "create")(name="t"),
    "get_or_create of many-to-many": lambda a, book: a(book.tags, "get_or_create")(name="t"),
    "update_or_create of many-to-many": lambda a, book: a(book.tags, "update_or_create")(name="t"),
    "add of related": lambda a, book: a(book.author.books, "add")(Book.objects.create(title="b")),
    "remove of related": lambda a, book: a(book.author.books, "remove")(book),
    "set of related": lambda a, book: a(book.author.books, "set")([]),
    "clear of related": lambda a, book: a(book.author.books, "clear")(),
    "create of related": lambda a, book: a(book.author.books, "create")(title="b"),
    "get_or_create of related": lambda a, book: a(book.author.books, "get_or_create")(title="b"),
    "update_or_create of related": lambda a, book: a(book.author.books, "update_or_create")(
        defaults={"stock": 5}, title="Notes"
    ),
}


def new_tag():
    return Tag.objects.create(name="new")


def sync_method(found, name):
    return getattr(found, name)


def async_method(found, name):
    async def call(*args, **kwargs):
        return await getattr(found, f"a{name}")(*args, **kwargs)

    return async_to_sync(call)


def told_by(call, method):
    """What a call records on a saved, changed book; without keys, which differ."""
    book = Book.objects.create(title="Notes", author=Author.objects.create(name="Ada"))
    book.tags.add(Tag.objects.create(name="old"))
    book.title = "More notes"
    with capture_events() as events, set_actor("worker"), audit_context(ticket=5):
        call(method, book)
    told = [
        (event.event, event.object_type, sorted(event.changes), event.actor, event.context)
        for event in events
    ]
    in_transactions = {event.transaction for event in events}
    Book.objects.all().delete()
    Author.objects.all().delete()
    return told, len(in_transactions), None in in_transactions


@pytest.mark.django_db
@pytest.mark.parametrize("name", CALLS)
def test_an_async_method_records_what_its_sync_twin_does(name):
    found = told_by(CALLS[name], async_method)

    assert found == told_by(CALLS[name], sync_method)
    assert found[0]
    assert {(actor.id, context["ticket"]) for *_, actor, context in found[0]} == {("worker", 5)}


def write_author(name):
    Author.objects.create(name=name)


async def awrite_author(name):
    await Author.objects.acreate(name=name)


@pytest.mark.django_db
@pytest.mark.skipif(django.VERSION < (6, 0), reason="tasks came with Django 6.0")
@pytest.mark.parametrize("function", [write_author, awrite_author])
def test_a_django_task_run_at_once_by_async_code_has_the_actor_of_that_code(function):
    from django.tasks import task  # noqa: PLC0415 - not there before

    async def main():
        with set_actor("worker"):
            await task(function).aenqueue("Ada")

    with capture_events() as events:
        async_to_sync(main)()
    assert [(event.event, event.actor.id) for event in events] == [("model.create", "worker")]


# Tasks side by side


@pytest.fixture
def shared(tmp_path):
    """A database that threads can share."""
    with shared_database(tmp_path) as alias:
        if connections[alias].vendor == "sqlite":
            # Fifty writers at once: they wait for each other, and not for the disk.
            connections.settings[alias]["OPTIONS"] = {
                "timeout": 60,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
            }
        yield alias


def run(main, alias):
    """Run a coroutine function outside of any request; its thread forgets the database after."""

    def forget():
        connections.close_all()
        del connections[alias]

    async def whole():
        try:
            return await main()
        finally:
            await sync_to_async(forget)()

    return asyncio.run(whole())


def pair(name, alias):
    with transaction.atomic(using=alias):
        Author.objects.using(alias).create(name=f"{name} one")
        event_signal.send("pair", event="pair", message=f"{name} two", using=alias)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("in_threads", [False, True], ids=["one thread", "threads"])
def test_fifty_tasks_never_mix_actors_contexts_causes_or_transactions(shared, in_threads):
    @audit_event("act", arguments=["name"], using=shared)
    async def act(name):
        with set_actor(name), audit_context(ticket=name):
            await Author.objects.using(shared).acreate(name=f"{name} zero")
            await asyncio.sleep(0)
            event_signal.send("x", event="sent", message=f"{name} sent", using=shared)
            await sync_to_async(closing(pair), thread_sensitive=not in_threads)(name, shared)
            await event_signal.asend("x", event="sent", message=f"{name} sent", using=shared)

    def closing(function):
        def call(*args):
            try:
                function(*args)
            finally:
                if in_threads:
                    connections.close_all()

        return call

    async def main():
        await asyncio.gather(*[act(f"task{number}") for number in range(TASKS)])

    run(main, shared)
    records = list(AuditRecord.objects.using(shared).all())
    acts = {record.data["name"]: record.id for record in records if record.event == "act"}
    assert len(acts) == TASKS
    inner = [record for record in records if record.event != "act"]
    assert len(inner) == TASKS * 5
    together = {}
    for record in inner:
        said = record.message if record.event != "model.create" else record.changes["name"][1]
        name = said.split()[0]
        assert (record.actor_id, record.context, record.cause) == (
            name,
            {"ticket": name},
            acts[name],
        )
        if record.transaction is not None:
            together.setdefault(record.transaction, []).append(said)
    pairs = sorted(sorted(texts) for texts in together.values() if len(texts) > 1)
    assert pairs == sorted([f"task{n} one", f"task{n} two"] for n in range(TASKS))


# Accepted, never lost


async def send_later(delay, event):
    await asyncio.sleep(delay)
    event_signal.send("x", event=event)


def sent(coroutine_function):
    """The names of the events of a program, which runs with no sinks and a loop of its own."""
    with without_sinks, capture_events() as events:
        asyncio.run(coroutine_function())
    return [event.event for event in events]


def test_a_callback_of_the_loop_can_send():
    async def main():
        asyncio.get_running_loop().call_soon(functools.partial(event_signal.send, "x", event="a"))
        await asyncio.sleep(0.01)

    assert sent(main) == ["a"]


def test_an_awaited_event_is_written_although_its_task_is_cancelled():
    busy, free = threading.Event(), threading.Event()

    def occupy():
        busy.set()
        free.wait(10)

    async def main():
        # The one thread of sync code is busy, so that the event waits behind.
        first = asyncio.create_task(sync_to_async(occupy)())
        await asyncio.to_thread(busy.wait, 10)
        second = asyncio.create_task(event_signal.asend("x", event="a"))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        free.set()
        await first

    assert sent(main) == ["a"]


@pytest.mark.parametrize("way", ["asend", "asend_robust"])
def test_an_awaited_event_that_cannot_be_written_raises(way, monkeypatch, transactional_db, caplog):
    monkeypatch.setattr(WRITE, fail)

    async def main():
        try:
            int("s3cret-word")
        except ValueError as error:
            with pytest.raises(AuditSinkError, match="disk full"):
                await getattr(event_signal, way)("x", password="s3cret-word")
            return error.__traceback__

    trace = async_to_sync(main)()
    assert [frame.name for frame in traceback.extract_tb(trace)] == ["main"]
    assert caplog.records == []


def fail(*args, **kwargs):
    raise OSError("disk full")


@pytest.mark.parametrize("done", [False, True], ids=["under way", "done"])
def test_a_failure_that_its_cancelled_task_will_not_hear_of_is_logged(done, caplog):
    go_on = threading.Event()

    def work():
        go_on.wait(10)
        fail()

    async def main():
        waiting = asyncio.create_task(tasks.run(work))
        await asyncio.sleep(0.01)
        (follower,) = tasks._all
        if done:
            # The write ends and the task is cancelled in the same step of the loop.
            follower.add_done_callback(lambda _: waiting.cancel())
            go_on.set()
        else:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        await tasks.wait_for_writes()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert [record.message for record in caplog.records] == ["An audit event was lost."]
    assert "disk full" in caplog.text


def test_cancelled_after_its_success_nothing_is_logged(caplog):
    async def main():
        waiting = asyncio.create_task(tasks.run(list))
        await asyncio.sleep(0)
        (follower,) = tasks._all
        follower.add_done_callback(lambda _: waiting.cancel())
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert caplog.records == []


class AtOnceLoop(asyncio.SelectorEventLoop):
    """Does the work of threads in its own."""

    def run_in_executor(self, executor, func, *args):
        future = self.create_future()
        future.set_result(func(*args))
        return future


def test_a_loop_that_does_all_work_at_once_is_served_too(caplog):
    done = []

    async def main():
        tasks.start(lambda: done.append("started"))
        await tasks.run(lambda: done.append("awaited"))
        tasks.start(fail)
        with pytest.raises(OSError, match="disk full"):
            await tasks.run(fail)
        assert not tasks._all

    with asyncio.Runner(loop_factory=AtOnceLoop) as runner:
        runner.run(main())
    assert done == ["started", "awaited"]
    assert [record.message for record in caplog.records] == ["An audit event was lost."]


def test_when_no_thread_takes_work_any_more_the_loops_own_does():
    threads = []

    async def main():
        await asyncio.get_running_loop().shutdown_default_executor()
        SyncToAsync.deadlock_context.set(True)  # asgiref refuses its thread as well
        tasks.start(lambda: threads.append((threading.current_thread(), tasks.loop_is_running())))
        await tasks.run(
            lambda: threads.append((threading.current_thread(), tasks.loop_is_running()))
        )
        assert tasks.loop_is_running()

    contextvars.copy_context().run(asyncio.run, main())
    assert threads == [(threading.main_thread(), False)] * 2


@pytest.mark.skipif(
    "executor" not in inspect.signature(ThreadSensitiveContext).parameters,
    reason="an older asgiref takes no executor",
)
def test_what_an_executor_drops_is_written_by_the_loop():
    threads = []
    busy, free = threading.Event(), threading.Event()

    def occupy():
        busy.set()
        free.wait(10)

    async def main():
        executor = ThreadPoolExecutor(max_workers=1)
        async with ThreadSensitiveContext(executor=executor):
            executor.submit(occupy)
            await asyncio.to_thread(busy.wait, 10)
            tasks.start(lambda: threads.append(threading.current_thread()))
            executor.shutdown(wait=False, cancel_futures=True)
            await tasks.wait_for_writes()
        free.set()

    asyncio.run(main())
    assert threads == [threading.main_thread()]


def test_a_task_that_outlives_its_request_keeps_nothing_of_its_writes():
    async def main():
        async with tasks.pending_writes():
            mine = tasks._request.get()
            task = asyncio.create_task(send_later(0.01, "late"))
            event_signal.send("x", event="early")
            assert len(mine.followers) == 1
        assert not mine.followers
        await task
        await tasks.wait_for_writes()
        assert not mine.followers

    assert sent(main) == ["early", "late"]


def test_a_task_that_outlives_its_request_writes_in_a_thread_that_closes_its_connections(
    monkeypatch,
):
    closed = []
    monkeypatch.setattr(type(connections), "close_all", lambda self: closed.append(1))

    async def main():
        async with ThreadSensitiveContext():
            await sync_to_async(list)()
            event_signal.send("x", event="inside")
            in_context = asyncio.create_task(send_later(0.05, "after its thread"))
            async with tasks.pending_writes():
                in_request = asyncio.create_task(send_later(0.01, "after its request"))
            await in_request
        await in_context

    assert sent(main) == ["inside", "after its request", "after its thread"]
    assert closed == [1, 1]


def test_a_task_of_sync_code_that_waits_writes_in_its_thread_also_after_the_request():
    found = []

    async def main():
        async with tasks.pending_writes():
            task = asyncio.create_task(later())
        await task

    async def later():
        await asyncio.sleep(0.01)
        await tasks.run(lambda: found.append(threading.current_thread()))

    async_to_sync(main)()
    assert found == [threading.current_thread()]


def test_a_thread_with_a_loop_of_its_own_waits_for_itself():
    go_on = threading.Event()

    async def inner(started):
        tasks.start(functools.partial(go_on.wait, 10))
        started.set()

    async def main():
        started = threading.Event()
        async with tasks.pending_writes():
            context = contextvars.copy_context()
            with ThreadPoolExecutor(max_workers=1) as threads:
                other = threads.submit(context.run, asyncio.run, inner(started))
                await asyncio.to_thread(started.wait, 10)
                # The end of this block must not wait for a task of the other loop.
                asyncio.get_running_loop().call_later(0.05, go_on.set)
                await asyncio.to_thread(other.result, 10)
        return other.done()

    assert asyncio.run(main())


def test_finished_writes_are_forgotten():
    async def main():
        for number in range(20):
            event_signal.send("x", event=f"e{number}")
        await tasks.wait_for_writes()
        return len(tasks._all)

    with without_sinks:
        assert asyncio.run(main()) == 0


# Receivers: as Django calls them


def ended(call):
    try:
        return call()
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("way", ["send", "send_robust"])
def test_sending_to_async_receivers_in_a_coroutine_fails_as_djangos_own_does(way):
    """Django refuses to wait there; the event is recorded all the same."""
    ours, djangos = define_event("a"), Signal()

    async def receiver(**kwargs):
        return 1

    async def main():
        for signal in (ours, djangos):
            signal.connect(receiver)
        return [ended(functools.partial(getattr(one, way), "x")) for one in (ours, djangos)]

    with without_sinks, capture_events() as events:
        mine, theirs = asyncio.run(main())
    assert mine == theirs
    assert "AsyncToSync" in mine
    assert [event.event for event in events] == ["a"]


@without_sinks
@pytest.mark.parametrize("way", ["asend", "asend_robust"])
def test_receivers_of_an_awaited_event_get_what_djangos_own_would(way):
    ours, djangos = define_event("a"), Signal()

    async def async_receiver(number, **kwargs):
        return number

    def sync_receiver(number, **kwargs):
        return -number

    async def main():
        for signal in (ours, djangos):
            signal.connect(async_receiver)
            signal.connect(sync_receiver)
        return [await getattr(one, way)("x", number=5) for one in (ours, djangos)]

    mine, theirs = asyncio.run(main())
    assert mine == theirs == [(sync_receiver, -5), (async_receiver, 5)]


def test_a_failing_async_receiver_cannot_take_the_event_back():
    signal = define_event("a")

    async def receiver(**kwargs):
        raise LookupError("receiver")

    async def main():
        signal.connect(receiver)
        with pytest.raises(LookupError, match="receiver"):
            await signal.asend("x")

    assert sent(main) == ["a"]


# What the program handles


def test_an_exception_that_is_handled_while_an_event_is_sent_keeps_its_traceback():
    async def main():
        try:
            int("no number")
        except ValueError as error:
            before = traceback.extract_tb(error.__traceback__)
            event_signal.send("x")
            await tasks.wait_for_writes()
            return before, traceback.extract_tb(error.__traceback__)

    with without_sinks:
        before, after = asyncio.run(main())
    assert list(after) == list(before)


def test_a_failed_write_is_logged_with_its_cause_and_without_what_the_program_handled(caplog):
    def fail_because():
        try:
            fail()
        except OSError as error:
            raise AuditSinkError("no record") from error

    async def main():
        try:
            int("s3cret-word")
        except ValueError:
            tasks.start(fail_because)
            await tasks.wait_for_writes()

    asyncio.run(main())
    assert "no record" in caplog.text
    assert "disk full" in caplog.text
    assert "s3cret-word" not in caplog.text


def test_nothing_is_left_of_the_exception_after_the_write():
    class MarkedError(Exception):
        pass

    def raise_it():
        raise MarkedError

    async def main():
        try:
            raise_it()
        except MarkedError:
            tasks.start(list)
            await tasks.wait_for_writes()

    asyncio.run(main())
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is MarkedError]


def test_connections_that_cannot_be_closed_are_no_lost_event(monkeypatch, caplog):
    monkeypatch.setattr(type(connections), "close_all", fail)

    async def main():
        async with tasks.pending_writes():
            task = asyncio.create_task(send_later(0.01, "late"))
        await task
        await tasks.wait_for_writes()

    assert sent(main) == ["late"]
    assert [record.message for record in caplog.records] == ["A connection could not be closed."]
