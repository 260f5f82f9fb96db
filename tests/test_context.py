from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import SimpleNamespace

import pytest
import structlog
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import ResolverMatch, path, register_converter, resolve
from django.utils.functional import SimpleLazyObject

from django_signal_audit import audit_context, event_signal, set_actor, suspend_audit
from django_signal_audit.actors import to_actor
from django_signal_audit.context import current_actor, is_suspended, request_scope, surroundings
from django_signal_audit.event import Actor
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.testapp.models import Author

MIDDLEWARE = ["django_signal_audit.middleware.AuditMiddleware"]


def label():
    actor = current_actor()
    return actor and actor.label


# Actors


@pytest.mark.parametrize(
    ("value", "actor"),
    [
        (None, None),
        ("nightly job", Actor("service", "nightly job", "nightly job")),
        (Actor("api_key", "k1", "CI"), Actor("api_key", "k1", "CI")),
        (Actor("user", 7, "zoe"), Actor("user", "7", "zoe")),
        (Actor("", None), Actor("unknown", None)),
        (AnonymousUser(), Actor("anonymous")),
        (User(pk=5, username="zoe"), Actor("user", "5", "zoe")),
        (User(username="new"), Actor("user", None, "new")),
        (SimpleLazyObject(lambda: User(pk=5, username="zoe")), Actor("user", "5", "zoe")),
        (SimpleNamespace(is_authenticated=True, pk="x-1"), None),
    ],
)
def test_what_a_caller_calls_an_actor(value, actor):
    found = to_actor(value)

    if actor is None and value is not None:
        assert (found.type, found.id) == ("user", "x-1")
    else:
        assert found == actor


@pytest.mark.parametrize("value", [5, object(), ["zoe"], b"zoe"])
def test_anything_else_is_no_actor(value):
    for use in (to_actor, set_actor, lambda v: audit_context(actor=v)):
        with pytest.raises(AuditConfigurationError, match="An actor is a user, an Actor"):
            use(value)


@pytest.mark.django_db(transaction=True)
def test_an_actor_of_any_length_fits_its_columns():
    with set_actor(Actor("t" * 400, "k\x00" * 4000, "\U0001f469" * 400)):
        author = Author.objects.create(name="a")

    record = AuditRecord.objects.get_for_object(author).get()
    assert len(record.actor_type) == len(record.actor_label) == 255
    assert len(record.actor_id) == 255


# set_actor


def test_set_actor_nests_and_is_restored():
    assert label() is None
    with set_actor("a"):
        with set_actor("b", on_behalf_of="c"):
            assert label() == "b"
            assert surroundings().on_behalf_of.label == "c"
            with set_actor("d"):
                assert surroundings().on_behalf_of is None
            with set_actor(None):
                assert label() is None
            assert label() == "b"
        assert label() == "a"
        assert surroundings().on_behalf_of is None
    assert label() is None


def test_it_is_restored_after_an_exception():
    with pytest.raises(LookupError), set_actor("a"):
        raise LookupError
    assert label() is None


def test_it_decorates_functions():
    @set_actor("worker")
    def outer(depth):
        """Its own documentation."""
        assert label() == "worker"
        return outer(depth - 1) if depth else "done"

    assert outer(3) == "done"
    assert outer.__doc__ == "Its own documentation."
    assert label() is None


def test_it_decorates_coroutine_functions_running_side_by_side():
    @set_actor("worker")
    async def work():
        assert label() == "worker"
        await asyncio.sleep(0.001)
        with set_actor("inner"):
            await asyncio.sleep(0.001)
            assert label() == "inner"
        assert label() == "worker"

    async def main():
        assert iscoroutinefunction(work)
        await asyncio.gather(*[work() for _ in range(20)])
        assert label() is None

    asyncio.run(main())


@pytest.mark.django_db
def test_it_decorates_sync_functions_that_return_a_coroutine():
    """As ``View.dispatch`` does, where the handler is async."""

    async def work():
        await asyncio.sleep(0)
        await event_signal.asend("x")
        return current_actor()

    def dispatch():
        return work()

    async def main():
        named = await set_actor("bot")(dispatch)()
        await audit_context(reason="why")(dispatch)()
        await suspend_audit()(dispatch)()
        return named, current_actor()

    with capture_events() as events:
        named, after = async_to_sync(main)()
    assert (named.id, after) == ("bot", None)
    first, second = events
    assert (first.actor.id, first.reason) == ("bot", None)
    assert (second.actor, second.reason) == (None, "why")


def test_a_coroutine_of_anyones_making_is_followed():
    class Ours(Coroutine):
        def __await__(self):
            yield from ()
            return current_actor().id

        def send(self, value):
            raise NotImplementedError

        def throw(self, *error):
            raise NotImplementedError

        def close(self):
            return None

    decorated = set_actor("bot")(Ours)

    async def main():
        return await decorated()

    assert async_to_sync(main)() == "bot"
    coroutine = decorated()
    assert coroutine.__name__.endswith("Ours")
    coroutine.close()


def test_it_works_in_async_with():
    async def main():
        async with set_actor("a"), audit_context(ticket=1):
            assert label() == "a"
            assert surroundings().context == {"ticket": 1}
        assert label() is None

    asyncio.run(main())


@pytest.mark.parametrize("scope", [set_actor("a"), audit_context(x=1), suspend_audit()])
def test_a_generator_cannot_be_decorated(scope):
    def generator():
        yield

    async def async_generator():
        yield

    for function in (generator, async_generator):
        with pytest.raises(AuditConfigurationError, match="cannot decorate the generator"):
            scope(function)


def test_an_actor_does_not_leak_into_other_threads():
    found = []
    with set_actor("a"):
        thread = threading.Thread(target=lambda: found.append(label()))
        thread.start()
        thread.join()
    assert found == [None]


def test_one_scope_may_be_entered_again_and_by_many_threads_at_once():
    scope = set_actor("shared")
    barrier, failures = threading.Barrier(8), []

    def work():
        try:
            for _ in range(100):
                assert label() is None
                with scope:
                    barrier.wait()
                    with scope:
                        assert label() == "shared"
                    assert label() == "shared"
                    barrier.wait()
                assert label() is None
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Scopes inside of generators


def test_a_scope_in_a_generator_that_ends_late_is_still_undone():
    def generator():
        with set_actor("generator"):
            yield 1

    items = generator()
    next(items)
    with audit_context(ticket=1):
        assert list(items) == []
        assert label() is None
        assert surroundings().context == {"ticket": 1}
    assert surroundings().context == {}


def test_an_async_generator_left_to_the_loop_is_closed_without_an_error():
    async def generator():
        with set_actor("generator"):
            yield 1
            yield 2

    async def main():
        async for _ in generator():
            break
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    errors = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        await asyncio.create_task(main())

    asyncio.run(watched())
    assert errors == []


def test_an_async_generator_driven_by_two_tasks_leaves_nothing_in_either():
    async def generator():
        with audit_context(ticket=1), set_actor("generator"), suspend_audit():
            yield 1

    async def main():
        items = generator()
        await anext(items)

        async def finish():
            assert label() == "generator"
            assert await anext(items, "end") == "end"
            return label(), is_suspended(), dict(surroundings().context)

        return await asyncio.create_task(finish())

    assert asyncio.run(main()) == (None, False, {})


# audit_context


def test_values_nest_and_inner_ones_win():
    with audit_context(ticket=1, batch="a"):
        with audit_context(ticket=2):
            assert surroundings().context == {"ticket": 2, "batch": "a"}
        assert surroundings().context == {"ticket": 1, "batch": "a"}
    assert surroundings().context == {}


def test_actor_reason_and_on_behalf_of_are_no_values():
    with audit_context(actor="a", on_behalf_of="b", reason="asked", ticket=1):
        found = surroundings()

    assert (found.actor.label, found.on_behalf_of.label) == ("a", "b")
    assert (found.reason, found.context) == ("asked", {"ticket": 1})


def test_the_callers_values_are_not_kept_by_reference():
    values = {"ticket": 1}
    with audit_context(**values):
        surroundings().context["extra"] = 1
        assert surroundings().context == {"ticket": 1}
    assert values == {"ticket": 1}


@pytest.mark.django_db
def test_an_event_carries_its_surroundings():
    with (
        audit_context(actor="a", on_behalf_of="b", reason="asked", ticket=1),
        capture_events() as events,
    ):
        Author.objects.create(name="x")
        event_signal.send("x")

    for event in events:
        assert (event.actor.id, event.on_behalf_of.id) == ("a", "b")
        assert (event.reason, event.context) == ("asked", {"ticket": 1})


@pytest.mark.django_db
def test_structlogs_bound_contextvars_enter_the_context_and_secrets_do_not():
    with (
        structlog.contextvars.bound_contextvars(job="nightly", auth_token="abc", ticket=1),
        audit_context(ticket=2),
        capture_events() as events,
    ):
        Author.objects.create(name="x")

    assert events[0].context == {"job": "nightly", "auth_token": "[redacted]", "ticket": 2}


@pytest.mark.django_db
def test_a_request_id_bound_for_the_logs_is_the_events_too():
    request = RequestFactory().get("/")
    with (
        structlog.contextvars.bound_contextvars(request_id="log-1"),
        request_scope(request),
        capture_events() as events,
    ):
        Author.objects.create(name="x")

    assert events[0].context["request_id"] == "log-1"


# suspend_audit


@pytest.mark.django_db
def test_suspended_nothing_is_recorded_also_nested_and_decorated():
    @suspend_audit()
    def quiet():
        Author.objects.create(name="a")
        Author.objects.update(name="b")
        Author.objects.bulk_create([Author(name="c")])
        event_signal.send("x")
        Author.objects.all().delete()

    with capture_events() as events:
        quiet()
        with suspend_audit(), suspend_audit():
            quiet()
        Author.objects.create(name="a")

    assert [event.event for event in events] == ["model.create"]


# Requests, without the middleware


class Broken:
    """A user object whose look-up fails."""

    def __init__(self, error):
        self.error = error

    @property
    def is_authenticated(self):
        raise self.error


@pytest.mark.django_db
@pytest.mark.parametrize(
    "error", [ConnectionError("cache is down"), SynchronousOnlyOperation(), LookupError()]
)
def test_an_actor_that_cannot_be_read_does_not_stop_the_event(error, caplog):
    request = RequestFactory().get("/")
    request.user = Broken(error)
    with request_scope(request), capture_events() as events:
        Author.objects.create(name="a")

    assert events[0].actor == Actor("user", None, f"unresolved ({type(error).__name__})")
    assert "The actor of this request could not be read." in caplog.text
    assert Author.objects.count() == 1


@pytest.mark.django_db
def test_set_actor_beats_the_requests_user():
    request = RequestFactory().get("/")
    request.user = User(pk=5, username="zoe")
    with request_scope(request):
        assert label() == "zoe"
        with set_actor("support", on_behalf_of=request.user):
            assert label() == "support"
            assert surroundings().on_behalf_of == Actor("user", "5", "zoe")
        assert label() == "zoe"


def test_a_user_set_later_is_the_actor_from_then_on():
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    with request_scope(request):
        assert current_actor() == Actor("anonymous")
        request.user = User(pk=5, username="zoe")
        assert label() == "zoe"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-123", True),
        ("01JABCDEF:7/x=@+.y_z", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("a b", False),
        ("a\nb", False),
        ("a\n", False),
        ("<script>", False),
        ("\x00", False),
        ("ä", False),
    ],
)
def test_a_request_id_is_taken_from_a_valid_header_else_made(given, kept):
    request = RequestFactory().get("/", HTTP_X_REQUEST_ID=given)
    with request_scope(request):
        first, second = surroundings().context, surroundings().context

    assert (first["request_id"] == given) is kept
    assert first["request_id"] == second["request_id"]
    if not kept:
        assert len(first["request_id"]) == 32


@pytest.mark.django_db
@pytest.mark.parametrize(
    "meta",
    [
        {"REMOTE_ADDR": "not an ip"},
        {"REMOTE_ADDR": ""},
        {"HTTP_USER_AGENT": "\x00\ud800" * 10},
        {"HTTP_USER_AGENT": "x" * 100_000},
        {"HTTP_X_FORWARDED_FOR": "1.2.3.4, <script>"},
        {"QUERY_STRING": "%%%&=&a=%zz&\x00"},
        {"HTTP_HOST": "in valid"},
    ],
)
def test_malformed_headers_never_raise(meta):
    request = RequestFactory().get("/")
    request.META.update(meta)
    with request_scope(request), capture_events() as events:
        Author.objects.create(name="a")

    assert events[0].context["method"] == "GET"


@pytest.mark.django_db
def test_secrets_leave_the_query_string():
    request = RequestFactory().get("/reset?page=2&token=abc&next=/x%3Fpassword%3Dhunter22")
    with request_scope(request), capture_events() as events:
        Author.objects.create(name="a")
    plain = RequestFactory().get("/list")
    with request_scope(plain), capture_events() as others:
        Author.objects.create(name="a")

    assert events[0].context["query"] == "page=2&token=[redacted]&next=[redacted]"
    assert "query" not in others[0].context


def confirm(request, **kwargs):
    event_signal.send("x", message=" ".join(map(str, kwargs.values())))
    return HttpResponse()


class Backwards:
    regex = "[a-z]+"

    def to_python(self, value):
        return value[::-1]

    def to_url(self, value):
        return value[::-1]


register_converter(Backwards, "backwards")

urlpatterns = [
    path("confirm/<token>/", confirm),
    path("confirm/<uidb64>/<token>/", confirm, {"token_kind": "confirm"}),
    path("by/<backwards:token>/", confirm),
    path("pages/<slug>/", confirm),
    path("<pin>/<token>/x", confirm),
]


@pytest.mark.django_db
@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/confirm/c4nary-5ecret/", "/confirm/[redacted]/"),
        ("/confirm/c/", "/confirm/[redacted]/"),
        ("/confirm/c4n%20%C3%A4ry/", "/confirm/[redacted]/"),
        ("/confirm/MQ/c4nary-5ecret/", "/confirm/MQ/[redacted]/"),
        ("/by/abc/", "[redacted]"),
        ("/pages/c4nary-5ecret/", "/pages/c4nary-5ecret/"),
        ("/123/c4nary-5ecret/x", "/[redacted]/[redacted]/x"),
    ],
)
def test_secrets_leave_the_path_and_the_texts(client, url, shown):
    with override_settings(MIDDLEWARE=MIDDLEWARE), capture_events() as events:
        client.get(url)

    assert events[0].context["path"] == shown
    if "[redacted]" in shown:
        assert "[redacted]" in events[0].message
        assert "c4n" not in str(events[0].to_dict())


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_the_path_is_corrected_once_the_request_is_resolved():
    request = RequestFactory().get("/confirm/c4nary-5ecret/")
    with request_scope(request), capture_events() as events:
        event_signal.send("x")
        request.resolver_match = resolve(request.path)
        event_signal.send("x", note="c4nary-5ecret")
        Author.objects.create(name="a")

    assert [event.context["path"] for event in events[1:]] == ["/confirm/[redacted]/"] * 2
    assert events[1].data == {"note": "[redacted]"}
    assert len({event.context["request_id"] for event in events}) == 1


@pytest.mark.django_db
def test_secrets_leave_the_path_of_a_match_that_was_made_by_hand():
    request = RequestFactory().get("/confirm/c4nary-5ecret/")
    request.resolver_match = ResolverMatch(confirm, (), {"token": "c4nary-5ecret"}, route="<token>")
    with request_scope(request), capture_events() as events:
        event_signal.send("x")

    assert events[0].context["path"] == "/confirm/[redacted]/"


def test_nothing_is_left_after_a_test():
    assert async_to_sync(anything)() == (None, {}, None)


async def anything():
    found = surroundings()
    return found.actor, dict(found.context), found.reason
