from __future__ import annotations

import asyncio
import contextlib

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.contrib.auth.models import User
from django.core.signals import request_finished
from django.db import close_old_connections, connection
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.decorators import sync_only_middleware

from django_signal_audit import event_signal, internals, tasks
from django_signal_audit.context import current_actor, surroundings
from django_signal_audit.event import Actor
from django_signal_audit.middleware import AuditMiddleware
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.test_registry import from_settings
from tests.testapp.models import Author

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def quiet(request):
    return HttpResponse("nothing recorded")


def write(request, pk=None):
    Author.objects.create(name="a")
    return HttpResponse("written")


def write_then_greet(request):
    Author.objects.create(name="a")
    return HttpResponse(f"hello {request.user.username}")


def greet_then_write(request):
    greeting = f"hello {request.user.username}"
    Author.objects.create(name="a")
    return HttpResponse(greeting)


def leave(request):
    """The user deletes the own account, and something is recorded after it."""
    request.user.delete()
    Author.objects.create(name="later")
    return HttpResponse("gone")


def fail(request):
    Author.objects.create(name="a")
    raise LookupError("view")


def stream(request):
    def parts():
        for number in range(2):
            event_signal.send("stream", event=f"part.{number}")
            yield f"{number};{current_actor().type};"

    return StreamingHttpResponse(parts())


def download(request):
    return FileResponse([b"a", b"b"])


async def asend_view(request):
    event_signal.send("async view", event="async.sent")
    return HttpResponse(f"{await AuditRecord.objects.acount()}")


async def awrite(request):
    await Author.objects.acreate(name="a")
    user = await request.auser()
    return HttpResponse(f"hello {user.username}")


async def astream(request):
    async def parts():
        for number in range(2):
            event_signal.send("stream", event=f"part.{number}")
            await asyncio.sleep(0)
            yield f"{number};"

    return StreamingHttpResponse(parts())


def farewell(request):
    def parts():
        try:
            yield "a"
            yield "b"
        finally:
            event_signal.send("stream", event="farewell")

    return StreamingHttpResponse(parts())


async def afarewell(request):
    async def parts():
        try:
            yield "a"
            yield "b"
        finally:
            event_signal.send("stream", event="farewell")

    return StreamingHttpResponse(parts())


@sync_only_middleware
def sync_only(get_response):
    return get_response


urlpatterns = [
    path("farewell/", farewell),
    path("afarewell/", afarewell),
    path("quiet/", quiet),
    path("write/", write),
    path("write/<int:pk>/", write),
    path("write-then-greet/", write_then_greet),
    path("greet-then-write/", greet_then_write),
    path("leave/", leave),
    path("fail/", fail),
    path("stream/", stream),
    path("download/", download),
    path("asend/", asend_view),
    path("awrite/", awrite),
    path("astream/", astream),
]


@pytest.fixture
def zoe():
    return User.objects.create_user("zoe", password="pw")


@pytest.fixture
def logged_in(zoe):
    client = Client(raise_request_exception=False)
    client.force_login(zoe)
    return client


def actor_of(user):
    return Actor("user", str(user.pk), user.username)


# What an event learns


def test_an_event_knows_its_request(logged_in, zoe):
    with capture_events() as events:
        logged_in.get(
            "/write/5/?page=2&token=abc", headers={"x-request-id": "r-1", "user-agent": "Test/1"}
        )

    (event,) = events
    assert event.actor == actor_of(zoe)
    assert event.context == {
        "request_id": "r-1",
        "method": "GET",
        "path": "/write/5/",
        "query": "page=2&token=[redacted]",
        "ip": "127.0.0.1",
        "user_agent": "Test/1",
        "route": "write/<int:pk>/",
    }


def test_events_of_one_request_share_its_id_and_no_other(client):
    with capture_events() as events:
        client.get("/stream/").getvalue()
        client.get("/write/")

    ids = [event.context["request_id"] for event in events]
    assert ids[0] == ids[1] != ids[2]


def test_a_visitor_is_anonymous(client):
    with capture_events() as events:
        client.get("/write/")

    assert events[0].actor == Actor("anonymous")


def test_without_an_authentication_middleware_there_is_no_actor():
    with capture_events() as events:
        AuditMiddleware(write)(RequestFactory().get("/"))

    assert events[0].actor is None


@pytest.mark.parametrize("url", ["/write/", "/fail/", "/nowhere/", "/stream/"])
def test_nothing_is_left_after_the_request(logged_in, url):
    logged_in.get(url)

    assert current_actor() is None
    assert surroundings().context == {}


def test_a_user_who_deletes_the_own_account_is_the_actor_before_and_after(logged_in, zoe):
    actor = actor_of(zoe)
    with from_settings({"auth.User": {}}), capture_events() as events:
        logged_in.get("/leave/")

    deleted = [event for event in events if event.object_type == "auth.user"]
    assert [event.event for event in deleted] == ["model.delete"]
    assert {event.actor for event in events} == {actor}
    assert events[-1].event == "model.create"


# No trace on the response, no query of its own


def test_with_nothing_recorded_there_is_no_query_and_no_vary_cookie(
    logged_in, django_assert_num_queries
):
    with django_assert_num_queries(0):
        response = logged_in.get("/quiet/")

    assert not response.has_header("Vary")
    assert "sessionid" not in response.cookies


def test_recording_adds_no_vary_cookie(logged_in, client):
    assert not logged_in.get("/write/").has_header("Vary")
    assert not client.get("/write/").has_header("Vary")


def test_a_view_that_asks_for_the_user_after_recording_still_varies(logged_in):
    """Or a shared cache would show one user's page to another."""
    response = logged_in.get("/write-then-greet/")

    assert response.content == b"hello zoe"
    assert response["Vary"] == "Cookie"


def test_a_view_that_asked_before_recording_varies(logged_in):
    response = logged_in.get("/greet-then-write/")

    assert response.content == b"hello zoe"
    assert response["Vary"] == "Cookie"


def test_the_user_is_loaded_once_whoever_asks_first(logged_in):
    for url in ("/write-then-greet/", "/greet-then-write/"):
        with CaptureQueriesContext(connection) as queries:
            logged_in.get(url)
        table = f"FROM {connection.ops.quote_name('auth_user')}"
        assert sum(table in query["sql"] for query in queries) == 1


def test_an_async_view_that_asks_after_recording_still_varies(zoe):
    async def main():
        client = AsyncClient()
        await client.aforce_login(zoe)
        return await client.get("/awrite/")

    response = async_to_sync(main)()
    assert response.content == b"hello zoe"
    assert response["Vary"] == "Cookie"


# Async


def test_an_event_sent_in_an_async_view_is_in_the_database_before_the_response_ends():
    async def main():
        client = AsyncClient()
        await client.get("/asend/", headers={"x-request-id": "r-1"})
        return await AuditRecord.objects.aget(event="async.sent")

    record = async_to_sync(main)()
    assert record.context["request_id"] == "r-1"
    assert record.context["route"] == "asend/"
    assert record.actor == Actor("anonymous")


def test_the_actor_of_an_async_view(zoe):
    async def main():
        client = AsyncClient()
        await client.aforce_login(zoe)
        await client.get("/awrite/")

    with capture_events() as events:
        async_to_sync(main)()
    assert [event.actor for event in events] == [actor_of(zoe)]


def test_requests_side_by_side_do_not_mix():
    async def main():
        client = AsyncClient()
        await asyncio.gather(
            *[
                client.get("/asend/", headers={"x-request-id": f"r-{number}"})
                for number in range(10)
            ]
        )

    with capture_events() as events:
        async_to_sync(main)()
    assert sorted(event.context["request_id"] for event in events) == sorted(
        f"r-{number}" for number in range(10)
    )


def test_a_cancelled_request_loses_nothing():
    started = asyncio.Event()

    async def view(request):
        event_signal.send("x", event="a")
        started.set()
        await asyncio.sleep(10)

    async def main():
        task = asyncio.create_task(AuditMiddleware(view)(RequestFactory().get("/")))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await AuditRecord.objects.acount()

    assert async_to_sync(main)() == 1


def test_behind_a_sync_middleware_an_async_views_event_is_written_before_the_response(settings):
    settings.MIDDLEWARE = [f"{__name__}.sync_only", *settings.MIDDLEWARE]

    async def main():
        response = await AsyncClient().get("/asend/", headers={"x-request-id": "r-1"})
        return response.content

    assert async_to_sync(main)() == b"1"
    assert AuditRecord.objects.get().context["request_id"] == "r-1"


def test_under_wsgi_an_async_views_event_is_written_before_the_response(client):
    assert client.get("/asend/", headers={"x-request-id": "r-1"}).content == b"1"
    assert AuditRecord.objects.get().context["request_id"] == "r-1"


# Sync and async, in one class


def test_it_is_async_exactly_where_what_it_wraps_is():
    async def aview(request):
        return HttpResponse()

    class Marked:
        def __init__(self):
            markcoroutinefunction(self)

        def __call__(self, request):
            return aview(request)

    assert AuditMiddleware.sync_capable and AuditMiddleware.async_capable
    assert not iscoroutinefunction(AuditMiddleware(write))
    for inner in (aview, Marked()):
        middleware = AuditMiddleware(inner)
        assert iscoroutinefunction(middleware)
        response = async_to_sync(middleware)(RequestFactory().get("/"))
        assert response.status_code == 200


# Streaming


def test_the_content_of_a_streamed_response_is_made_inside_of_its_request(logged_in, zoe):
    with capture_events() as events:
        response = logged_in.get("/stream/", headers={"x-request-id": "r-1"})
        assert b"".join(response.streaming_content) == b"0;user;1;user;"

    assert [event.event for event in events] == ["part.0", "part.1"]
    assert {event.context["request_id"] for event in events} == {"r-1"}
    assert {event.actor for event in events} == {actor_of(zoe)}


@contextlib.contextmanager
def given_up_by_the_client(response):
    """Afterwards, nothing of the response is left to the garbage collector.

    It would close what Django's test client wraps it in, in the midst of anything: also while
    Python 3.11 sets a context variable, which crashes if another is set meanwhile (CPython issue
    148891).
    """
    try:
        yield response.streaming_content
    finally:
        internals.parts_of(response).close()


def test_whoever_takes_a_part_is_not_inside_of_the_request(client):
    with given_up_by_the_client(client.get("/stream/")) as parts:
        next(parts)

        assert current_actor() is None
        assert surroundings().context == {}


def test_async_streaming_writes_each_event_before_its_part():
    async def main():
        client = AsyncClient()
        response = await client.get("/astream/", headers={"x-request-id": "r-1"})
        return [await AuditRecord.objects.acount() async for _ in response.streaming_content]

    assert async_to_sync(main)() == [1, 2]
    assert {r.context["request_id"] for r in AuditRecord.objects.all()} == {"r-1"}


def test_a_streamed_response_can_be_closed_early():
    closed = []

    def view(request):
        def parts():
            try:
                yield "a"
                yield "b"
            finally:
                closed.append(True)

        return StreamingHttpResponse(parts())

    response = AuditMiddleware(view)(RequestFactory().get("/"))
    next(iter(response))
    response.close()

    assert closed == [True]


def test_what_a_stream_says_when_it_is_closed_is_said_inside_of_its_request(logged_in, zoe):
    response = logged_in.get("/farewell/", headers={"x-request-id": "r-1"})
    with capture_events() as events, given_up_by_the_client(response) as parts:
        next(parts)
        response.close()

    assert [(event.event, event.actor) for event in events] == [("farewell", actor_of(zoe))]
    assert events[0].context["request_id"] == "r-1"
    assert current_actor() is None


@pytest.fixture
def _connections_stay():
    """As in Django's own test client: the end of a request is not the end of the test."""
    request_finished.disconnect(close_old_connections)
    yield
    request_finished.connect(close_old_connections)


def given_up(view):
    """Take one part of a streamed response, and close it as Django's ASGI handler does."""

    async def main():
        response = await AuditMiddleware(view)(RequestFactory().get("/here"))
        async with contextlib.aclosing(aiter(response)) as parts:
            await anext(parts)
        await sync_to_async(response.close)()
        return response

    return async_to_sync(main)()


@pytest.mark.usefixtures("_connections_stay")
def test_what_an_async_stream_says_when_it_is_closed_is_written_before_the_request_ends():
    response = given_up(afarewell)

    record = AuditRecord.objects.get()
    assert (record.event, record.context["path"]) == ("farewell", "/here")
    assert response.closed


@pytest.mark.usefixtures("_connections_stay")
def test_an_async_stream_that_cannot_be_closed_is_logged_and_the_request_ends(caplog):
    async def view(request):
        async def parts():
            try:
                yield "a"
            finally:
                raise LookupError("stream")

        return StreamingHttpResponse(parts())

    assert given_up(view).closed
    assert "could not be closed" in caplog.text
    assert "LookupError: stream" in caplog.text


@pytest.mark.usefixtures("_connections_stay")
def test_an_async_stream_closed_by_a_coroutine_is_left_to_the_loop():
    async def main():
        response = await AuditMiddleware(afarewell)(RequestFactory().get("/here"))
        await anext(aiter(response))
        response.close()
        closed = response.closed
        del response
        # Its generator is no longer needed by anyone; the loop hears of it, and ends it.
        await asyncio.sleep(0.01)
        await tasks.wait_for_writes()
        return closed, await AuditRecord.objects.aget()

    closed, record = async_to_sync(main)()
    assert closed
    assert record.context["path"] == "/here"


def test_an_async_stream_that_is_no_generator_needs_no_closing():
    class Parts:
        def __init__(self):
            self.left = [b"a", b"b"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    async def view(request):
        return StreamingHttpResponse(Parts())

    async def main():
        response = await AuditMiddleware(view)(RequestFactory().get("/"))
        return b"".join([part async for part in response])

    assert async_to_sync(main)() == b"ab"


def test_files_are_left_to_the_server():
    response = AuditMiddleware(download)(RequestFactory().get("/"))

    assert b"".join(response.streaming_content) == b"ab"
    assert response.streaming


def test_a_view_in_a_thread_of_its_own_is_inside_of_the_request():
    async def view(request):
        return await sync_to_async(write, thread_sensitive=True)(request)

    with capture_events() as events:
        async_to_sync(AuditMiddleware(view))(RequestFactory().get("/here"))

    assert events[0].context["path"] == "/here"
